"""read_oasis1, read_oasis2 and read_ixi on tables written as the sets have them, and on OASIS-1 itself where it is."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import read_ixi, read_oasis1, read_oasis2

# Invented people; the header, the N/A of Delay, the empty cells and the second session are OASIS-1's own.
OASIS1 = """ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay
OAS1_0901_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A
OAS1_0902_MR1,M,R,28,,,,,1588,0.803,1.105,N/A
OAS1_0903_MR1,F,R,80,4,,23,0.5,1510,0.69,1.162,N/A
OAS1_0902_MR2,M,R,28,,,,,1590,0.801,1.104,89
"""
OASIS2 = """Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF
OAS2_0901,OAS2_0901_MR1,Nondemented,1,0,M,R,87,14,2,27,0,1987,0.696,0.883
OAS2_0901,OAS2_0901_MR2,Nondemented,2,457,M,R,88,14,2,30,0,2004,0.681,0.876
OAS2_0902,OAS2_0902_MR1,Demented,1,0,M,R,75,12,,23,0.5,1678,0.736,1.046
OAS2_0903,OAS2_0903_MR1,Converted,1,0,F,R,66,12,,,0,1478,0.716,1.188
"""


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "edit", [lambda t: t, lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t.replace(",", ";")]
)
def test_oasis1_the_person_is_the_first_nine_letters(write, edit):
    frame = read_oasis1(write(edit(OASIS1)), target="CDR")
    assert list(frame.columns) == [
        "subject", "session", "image", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "eTIV", "nWBV", "ASF", "Delay", "target",
    ]  # fmt: skip
    assert frame["subject"].tolist() == ["OAS1_0901", "OAS1_0902", "OAS1_0903", "OAS1_0902"]
    assert frame["session"].tolist() == ["MR1", "MR1", "MR1", "MR2"]
    np.testing.assert_array_equal(frame["Delay"], [np.nan, np.nan, np.nan, 89])
    np.testing.assert_array_equal(frame["target"], [0, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(frame["nWBV"], [0.743, 0.803, 0.69, 0.801])
    assert frame["Age"].dtype == np.int64
    assert frame["image"].isna().all()


def test_oasis1_images_by_the_id_in_the_name_or_in_a_folder(write, tmp_path):
    touch(
        tmp_path / "d",
        "OAS1_0901_MR1_mpr_n4_anon_sbj_111_normalised.nii",
        "disc1/OAS1_0902_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0902_MR1_mpr_n4_anon_111_t88_masked_gfc.img",
        "disc1/OAS1_0902_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0902_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr",
        "disc1/OAS1_0902_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0902_MR1_mpr_n4_anon_111_t88_gfc.img",
        "disc1/OAS1_0902_MR2/vol.nii.gz",
        "disc1/OAS1_0999_MR1/vol.nii.gz",
        "disc1/OAS1_0903_MR1/OAS1_0901_MR1.nii",
    )
    frame, report = read_oasis1(write(OASIS1), tmp_path / "d", report=True)
    assert [os.path.basename(p) if isinstance(p, str) else None for p in frame["image"]] == [
        "OAS1_0901_MR1_mpr_n4_anon_sbj_111_normalised.nii", None, None, "vol.nii.gz",
    ]  # fmt: skip
    assert report[["kind", "subject", "session"]].astype(object).where(report.notna(), None).to_numpy().tolist() == [
        ["image without row", None, None],
        ["row without image", "OAS1_0903", "MR1"],
        ["image without row", "OAS1_0999", "MR1"],
        ["several images for a row", "OAS1_0902", "MR1"],
        ["several images for a row", "OAS1_0902", "MR1"],
    ]
    assert report["reason"][0] == "its path names OAS1_0901_MR1 and OAS1_0903_MR1"
    frame, report = read_oasis1(write(OASIS1), tmp_path / "d", pattern="*_t88_masked_gfc.img", report=True)
    assert frame["image"].dropna().map(os.path.basename).tolist() == [
        "OAS1_0902_MR1_mpr_n4_anon_111_t88_masked_gfc.img"
    ]
    with pytest.warns(TableWarning, match="3 x row without image"):
        read_oasis1(write(OASIS1), tmp_path / "d", pattern="*_t88_masked_gfc.img")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("OAS1_0903_MR1", "OAS1_0901_MR1", r"one row for each subject and session, got several in 2 of 4 rows"),
        ("OAS1_0903_MR1", "OAS2_0903_MR1", r"column 'ID': expected ids as OAS1_0001_MR1, got others in 1 of 4 rows"),
        ("OAS1_0903_MR1", "", r"column 'ID': expected ids"),
        ("0.743", "743", r"column 'nWBV': expected numbers from 0.3 to 1, .*decimal points lost"),
        ("1.306", "1.306.000", r"column 'ASF': expected numbers with a decimal point, got numbers with several marks"),
        ("1.306", "1306", r"column 'ASF': expected numbers from 0.3 to 3"),
        (
            ",74,",
            ",seventy-four,",
            r"column 'Age': expected numbers, got others in 1 of 4 rows, first at 0: 'seventy-four'",
        ),
        (",74,", ',"74,5",', r"column 'Age': expected numbers with a decimal point, got commas"),
        ("_MR1,F,", "_MR1,female,", r"column 'M/F': expected one of 'M', 'F' or nothing, got others in 2 of 4 rows"),
        (",29,0,", ",31,0,", r"column 'MMSE': expected numbers from 0 to 30"),
        (",Delay", ",Dealy", r"unknown column 'Delay'; did you mean 'Dealy'"),
        (",nWBV,", ",ASF,", r"got 'ASF' in columns \[10, 11\]"),
    ],
)
def test_oasis1_that_cannot_be_is_refused(write, tmp_path, old, new, says):
    (tmp_path / "d").mkdir()
    with pytest.raises(TableError, match=says):
        read_oasis1(write(OASIS1.replace(old, new)), tmp_path / "d")


def test_oasis2_csv_and_excel_and_its_raw_images(write, tmp_path):
    path = write(OASIS2)
    pd.read_csv(path).to_excel(tmp_path / "oasis_longitudinal_demographics.xlsx", index=False)
    touch(tmp_path / "d", *(f"OAS2_0901_MR2/RAW/mpr-{i}.nifti.{end}" for i in (1, 2, 3) for end in ("img", "hdr")))
    for table in (path, tmp_path / "oasis_longitudinal_demographics.xlsx"):
        frame, report = read_oasis2(table, tmp_path / "d", pattern="mpr-1.*", target="Group", report=True)
        assert frame["subject"].tolist() == ["OAS2_0901", "OAS2_0901", "OAS2_0902", "OAS2_0903"]
        assert frame["session"].tolist() == ["MR1", "MR2", "MR1", "MR1"]
        assert frame["target"].tolist() == ["Nondemented", "Nondemented", "Demented", "Converted"]
        assert frame["MR Delay"].tolist() == [0, 457, 0, 0]
        assert frame["image"].notna().tolist() == [False, True, False, False]
        assert report["kind"].tolist() == ["row without image"] * 3
        frame, _ = read_oasis2(table, tmp_path / "d", several="all", report=True)
        assert len(frame) == 6
    with pytest.raises(TableError, match=r"column 'Subject ID': expected the start of the MRI ID"):
        read_oasis2(write(OASIS2.replace("OAS2_0902,OAS2_0902", "OAS2_0904,OAS2_0902")))
    with pytest.raises(TableError, match=r"column 'Group': expected one of 'Nondemented', 'Demented', 'Converted'"):
        read_oasis2(write(OASIS2.replace("Converted", "Convert")))
    with pytest.raises(TableError, match=r"unknown column 'ID'"):
        read_oasis1(path)


def test_the_real_oasis1():
    folder = Path(os.environ.get("FUSIONCONV_TEST_DATA", "/nowhere")) / "oasis1"
    if not (folder / "oasis_cross-sectional.csv").is_file():
        pytest.skip("needs OASIS-1 in the folder oasis1/ of FUSIONCONV_TEST_DATA; the format is tested above")
    frame, report = read_oasis1(folder / "oasis_cross-sectional.csv", folder / "volumes", report=True)
    assert (len(frame), frame["subject"].nunique(), int(frame["image"].notna().sum())) == (436, 416, 436)
    assert report.empty
    assert all(f"{s}_{v}_" in p for s, v, p in frame[["subject", "session", "image"]].itertuples(index=False))
    assert frame["Delay"].notna().sum() == (frame["session"] == "MR2").sum() == 20
    again = pd.read_csv(folder / "oasis_cross-sectional.csv")
    for name in again.columns.drop("ID"):
        np.testing.assert_array_equal(frame[name].to_numpy(), again[name].to_numpy())


# IXI: invented people under the header of IXI.xls.
HEADER = 'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,WEIGHT,ETHNIC_ID,MARITAL_ID,OCCUPATION_ID,QUALIFICATION_ID,DOB,DATE_AVAILABLE,STUDY_DATE,AGE'
IXI = f"""{HEADER}
2,2,164,58,1,4,1,5,1970-02-22,1,2005-11-18,35.8
12,1,175,70,1,2,1,5,1966-08-20,1,2005-06-01,38.78
13,1,182,0,0,2,1,5,1958-09-15,1,2005-06-01,46.71
13,0,0,0,0,0,0,0,1958-09-15,1,,
19,1,180,80,1,1,1,5,1945-01-01,1,2005-07-01,60.5
19,1,180,80,1,1,1,5,1946-01-01,1,2005-07-01,59.5
600,0,0,0,0,0,0,0,,0,,
"""


@pytest.fixture
def ixi(tmp_path):
    (tmp_path / "IXI.csv").write_text(IXI)
    touch(tmp_path / "IXI-T1", "IXI002-Guys-0828-T1.nii.gz", "IXI013-HH-1212-T1.nii.gz", "IXI700-IOP-0001-T1.nii.gz")
    touch(tmp_path / "IXI-T1", "IXI019-Guys-0702-T1.nii.gz", "IXI002-Guys-0828-T2.nii.gz", "notes.nii.gz")
    touch(tmp_path / "IXI-DTI", *(f"IXI012-HH-1211-DTI-{i:02d}.nii.gz" for i in range(3)))
    return tmp_path


def test_ixi_zeros_are_missing_and_doubled_rows_become_one(ixi):
    frame, report = read_ixi(ixi / "IXI.csv", ixi, report=True)
    assert frame["subject"].tolist() == ["IXI002", "IXI012", "IXI013", "IXI019", "IXI600"]
    told = frame[["sex", "HEIGHT", "WEIGHT", "AGE", "site"]].astype(object).where(frame.notna(), None)
    assert told.to_numpy().tolist() == [
        ["F", 164, 58, 35.8, "Guys"],
        ["M", 175, 70, 38.78, None],
        ["M", 182, None, 46.71, "HH"],
        ["M", 180, 80, None, "Guys"],
        [None, None, None, None, None],
    ]
    assert frame["DOB"].tolist()[:3] == [
        pd.Timestamp("1970-02-22"),
        pd.Timestamp("1966-08-20"),
        pd.Timestamp("1958-09-15"),
    ]
    assert pd.isna(frame["DOB"][3])
    assert report[["kind", "subject"]].to_numpy().tolist() == [
        ["conflicting rows", "IXI019"],
        ["conflicting rows", "IXI019"],
        ["row without image", "IXI012"],
        ["row without image", "IXI600"],
        ["image without row", "IXI700"],
    ]
    assert report["reason"][1] == "AGE: 60.5 and 59.5; it is missing now"


def test_ixi_modality_and_many_files_of_one(ixi):
    frame, _ = read_ixi(ixi / "IXI.csv", ixi, modality="T2", report=True)
    assert frame["image"].notna().tolist() == [True, False, False, False, False]
    frame, report = read_ixi(ixi / "IXI.csv", ixi, modality="DTI", report=True)
    assert frame["image"].isna().all()
    assert (report["kind"] == "several images for a row").sum() == 3
    frame, _ = read_ixi(ixi / "IXI.csv", ixi, modality="DTI", several="all", report=True)
    assert frame["subject"].tolist().count("IXI012") == 3


def test_ixi_as_the_workbook_that_it_is(ixi):
    with pd.ExcelWriter(ixi / "IXI.xlsx") as book:
        pd.read_csv(ixi / "IXI.csv").to_excel(book, sheet_name="Table", index=False)
        pd.DataFrame({"ID": [1, 2], "ETHNIC": ["White", "Black"]}).to_excel(book, sheet_name="Ethnicity", index=False)
    with pytest.warns(TableWarning, match=r"IXI.xlsx: 2 x conflicting rows\. report=True lists them"):
        book = read_ixi(ixi / "IXI.xlsx")
    pd.testing.assert_frame_equal(book, read_ixi(ixi / "IXI.csv", report=True)[0], check_dtype=False)


def test_ixi_that_cannot_be_is_refused(ixi):
    path = ixi / "IXI.csv"
    for old, new, says in [
        ("2,2,164", "2,3,164", r"column 'SEX_ID \(1=m, 2=f\)': expected one of 1, 2 or nothing"),
        ("\n2,2,", "\n2.5,2,", "column 'IXI_ID': expected a whole number"),
        ("\n2,2,", "\n,2,", "column 'IXI_ID': expected a whole number"),
        (
            "35.8",
            '"35,8"',
            r"column 'AGE': expected numbers with a decimal point, got commas .*take the table from its source",
        ),
        ("35.8", "-35.8", "column 'AGE': expected numbers from 0 to 130"),
        ("38.78", "3878", "column 'AGE': expected numbers from 0 to 130"),
        (
            "2,2,164",
            "2,2,1640",
            r"column 'HEIGHT': expected numbers from 50 to 260, got others in 1 of 7 rows, first at 0: 1640",
        ),
        ("2,2,164", "2,2,1.64", "column 'HEIGHT': expected numbers from 50 to 260"),
        ("175,70,", "175,-70,", "column 'WEIGHT': expected numbers from 10 to 400"),
        (",AGE", ",Age", r"unknown column 'AGE'; did you mean 'Age'"),
        ("1970-02-22", "22.02.1970", "column 'DOB': expected dates"),
    ]:
        path.write_text(IXI.replace(old, new))
        with pytest.raises(TableError, match=says):
            read_ixi(path)
