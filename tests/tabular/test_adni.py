"""ADNI's readers on an ADNIMERGE-format file with every documented code, a LONI search and tree, and Clinica's folders.

The people are invented; the columns, codes and names of files are those that ADNI, LONI and Clinica use.
"""

import csv
import io
import os

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import find_loni, read_adni_bids, read_adni_loni, read_adnimerge, read_loni_search

COLUMNS = """RID COLPROT ORIGPROT PTID SITE VISCODE EXAMDATE DX_bl AGE PTGENDER PTEDUCAT PTETHCAT PTRACCAT PTMARRY APOE4 FDG
    ABETA TAU PTAU CDRSB ADAS11 MMSE RAVLT_learning RAVLT_forgetting FLDSTRENG IMAGEUID Hippocampus DX mPACCdigit EXAMDATE_bl
    MMSE_bl ABETA_bl Month update_stamp""".split()  # noqa: SIM905
BASE = {
    "COLPROT": "ADNI1", "ORIGPROT": "ADNI1", "PTETHCAT": "Not Hisp/Latino", "PTRACCAT": "White", "PTMARRY": "Married",
    "FLDSTRENG": "1.5 Tesla MRI", "update_stamp": "2023-07-07 04:59:40.0",
}  # fmt: skip


def visit(ptid, viscode, examdate, bl, age, gender, educ, apoe, dx_bl, dx, **more):
    return {
        **BASE, "RID": int(ptid[-4:]), "PTID": ptid, "SITE": ptid[:3].lstrip("0"), "VISCODE": viscode, "EXAMDATE": examdate,
        "EXAMDATE_bl": bl, "AGE": age, "PTGENDER": gender, "PTEDUCAT": educ, "APOE4": apoe, "DX_bl": dx_bl, "DX": dx, **more,
    }  # fmt: skip


VISITS = [
    visit("027_S_0974", "bl", "2006-01-10", "2006-01-10", 74.3, "Male", 16, 1, "LMCI", "MCI", ABETA=">1700", TAU="212.5",
          PTAU="<8", MMSE=27, ABETA_bl=">1700", RAVLT_learning=-4, RAVLT_forgetting="-4.0", IMAGEUID="35475", SITE=27),
    visit("027_S_0974", "m06", "2006-07-12", "2006-01-10", 74.3, "Male", 16, 1, "LMCI", "MCI to Dementia", MMSE=-4, ABETA="NA"),
    visit("027_S_0974", "m12", "2007-01-11", "2006-01-10", 74.3, "Male", 16, 1, "LMCI", "Dementia", MMSE="", ABETA="-4"),
    visit("011_S_0902", "bl", "2005-09-08", "2005-09-08", 80, "Female", "NA", 0, "CN", "NL", ABETA="<200", TAU=">1300", PTAU=">120"),
    visit("011_S_0902", "m03", "2005-12-08", "2005-09-08", 80, "Female", "NA", 0, "CN", "CN", ABETA="642.1"),
    visit("941_S_0903", "bl", "2010-03-01", "2010-03-01", 66.5, "Female", 20, 2, "SMC", "", ABETA="1"),
    visit("941_S_0904", "bl", "2010-03-01", "2010-03-01", 70.1, "Male", 12, "-4", "EMCI", "MCI to NL"),
    visit("941_S_0905", "bl", "2010-03-02", "2010-03-02", "NA", "", 12, "", "AD", "NL to MCI"),
    visit("941_S_0906", "bl", "", "2010-03-02", 60, "Male", 12, 0, "", "Dementia to MCI"),
]  # fmt: skip


def as_csv(visits=VISITS, columns=COLUMNS):
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", quoting=csv.QUOTE_ALL, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(visits)
    return out.getvalue()


@pytest.fixture
def merge(tmp_path):
    def write(visits=VISITS, columns=COLUMNS):
        path = tmp_path / "ADNIMERGE.csv"
        path.write_text(as_csv(visits, columns))
        return path

    return write


def nones(column):
    return [None if pd.isna(v) else v for v in column]


def test_every_documented_code_reads_as_it_means(merge):
    frame = read_adnimerge(merge())
    assert list(frame.columns)[:4] == ["subject", "session", "image", "age"]
    assert frame["subject"].tolist()[:4] == ["027_S_0974"] * 3 + ["011_S_0902"]
    assert frame["session"].tolist() == ["bl", "m06", "m12", "bl", "m03", "bl", "bl", "bl", "bl"]
    assert nones(frame["PTGENDER"]) == ["Male"] * 3 + ["Female"] * 3 + ["Male", None, "Male"]
    assert nones(frame["PTEDUCAT"]) == [16, 16, 16, None, None, 20, 12, 12, 12]
    assert nones(frame["APOE4"]) == [1, 1, 1, 0, 0, 2, None, None, 0]
    assert nones(frame["DX_bl"]) == ["LMCI"] * 3 + ["CN"] * 2 + ["SMC", "EMCI", "AD", None]
    assert nones(frame["DX"]) == ["MCI", "Dementia", "Dementia", "CN", "CN", None, "CN", "MCI", "MCI"]
    assert nones(frame["MMSE"]) == [27] + [None] * 8
    assert nones(frame["ABETA"]) == [">1700", None, None, "<200", "642.1", "1", None, None, None]
    assert nones(frame["PTAU"])[:4] == ["<8", None, None, ">120"]
    assert nones(frame["RAVLT_learning"])[0] == nones(frame["RAVLT_forgetting"])[0] == -4  # a difference: -4 is a score
    assert frame["EXAMDATE"].dtype == "datetime64[ns]"
    assert nones(frame["IMAGEUID"])[0] == "35475"
    assert frame["SITE"].tolist()[0] == "27"
    assert frame["RID"].tolist()[:4] == [974, 974, 974, 902]


def test_age_is_that_at_the_visit(merge):
    frame = read_adnimerge(merge())
    assert frame["age"].tolist()[0] == 74.3
    assert frame["age"].tolist()[1] == pytest.approx(74.3 + 183 / 365.25, abs=1e-12)  # 10 Jan to 12 Jul 2006
    assert frame["age"].tolist()[2] == pytest.approx(74.3 + 366 / 365.25, abs=1e-12)
    assert frame["age"].tolist()[4] == pytest.approx(80 + 91 / 365.25, abs=1e-12)
    assert np.isnan(frame["age"][7])  # no AGE
    assert np.isnan(frame["age"][8])  # no EXAMDATE: the age at that visit is not known
    assert frame["AGE"].tolist()[:3] == [74.3] * 3


@pytest.mark.filterwarnings("ignore:.*are one number and two names")  # -4 and -4.00 among whole numbers
@pytest.mark.parametrize("code", ["-4", "-4.0", "-4.00", "-4.", "\N{MINUS SIGN}4"])
def test_minus_four_is_missing_however_it_is_written(merge, code):
    frame = read_adnimerge(merge(edited(1, Hippocampus=code, RAVLT_learning=code, MMSE=code)))
    assert np.isnan(frame["Hippocampus"][1])
    assert np.isnan(frame["MMSE"][1])
    assert float(str(frame["RAVLT_learning"][1]).replace("\N{MINUS SIGN}", "-")) == -4  # a difference
    assert read_adnimerge(merge(edited(1, Hippocampus="-4.05")))["Hippocampus"][1] == -4.05


def test_values_beyond_the_assay_clipped_and_flagged(merge):
    frame = read_adnimerge(merge(), censored="clip")
    assert nones(frame["ABETA"]) == [1700, None, None, 200, 642.1, 1, None, None, None]
    assert nones(frame["ABETA_censored"]) == [1, None, None, -1, 0, 0, None, None, None]
    assert nones(frame["PTAU"])[:4] == [8, None, None, 120]
    assert nones(frame["PTAU_censored"])[:4] == [-1, None, None, 1]
    assert nones(frame["TAU"])[:4] == [212.5, None, None, 1300]
    assert nones(frame["ABETA_bl_censored"])[0] == 1


def edited(i, **more):
    return [{**v, **(more if j == i else {})} for j, v in enumerate(VISITS)]


@pytest.mark.parametrize(
    ("visits", "says"),
    [
        (
            edited(1, PTGENDER="male"),
            r"column 'PTGENDER': expected one of 'Male', 'Female' or nothing, .* at 1: 'male'",
        ),
        (
            edited(1, DX="CI"),
            r"column 'DX': expected one of 'CN', 'MCI', 'Dementia' or nothing, got others in 1 of 9 rows",
        ),
        (edited(1, DX="MCI to Dementa"), r"column 'DX': .* at 1: 'MCI to Dementa'"),
        (edited(1, DX_bl="LMCl"), r"column 'DX_bl': expected one of"),
        (edited(1, APOE4=3), r"column 'APOE4': expected numbers from 0 to 2"),
        (edited(1, APOE4=0.5), r"column 'APOE4': expected one of 0, 1, 2"),
        (edited(1, EXAMDATE="12.07.2006"), r"column 'EXAMDATE': expected dates"),
        (edited(1, AGE="74,3"), r"column 'AGE': expected numbers with a decimal point, got commas"),
        (edited(1, Hippocampus="1.743.000"), r"column 'Hippocampus': .* several marks"),
        (
            edited(1, VISCODE="bl"),
            r"one row for each PTID and VISCODE, got several in 2 of 9 rows, first at 0: '027_S_0974 bl'",
        ),
        (edited(2, AGE=75.5), r"column 'AGE': expected the age at baseline, .* differs by more than a year"),
        (edited(1, PTID=""), "expected a subject in every row"),
    ],
)
def test_what_cannot_be_is_refused(merge, visits, says):
    with pytest.raises(TableError, match=says):
        read_adnimerge(merge(visits))


def test_a_bound_that_is_none_and_an_absent_column(merge):
    with pytest.raises(TableError, match=r"column 'ABETA': expected numbers, got others .* 'high'"):
        read_adnimerge(merge(edited(0, ABETA="high")))
    with pytest.raises(TableError, match=r"unknown column 'EXAMDATE_bl'"):
        read_adnimerge(merge(columns=[c for c in COLUMNS if c != "EXAMDATE_bl"]))
    with pytest.raises(TableError, match=r"unknown way for 'flag'"):
        read_adnimerge(merge(), censored="flag")


def test_a_row_that_is_wholly_the_same_twice_counts_once(merge):
    assert len(read_adnimerge(merge([*VISITS, VISITS[0]]))) == len(VISITS)


# LONI: a search CSV and a tree.

SEARCH_HEADER = ["Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date",
                 "Format", "Downloaded"]  # fmt: skip
MPR = "MPR; GradWarp; B1 Correction; N3; Scaled"
SEARCH = [
    ["I35475", "027_S_0974", "MCI", "M", "74", "sc", "MRI", MPR, "Processed", "12/20/2005", "NiFTI", "3/07/2022"],
    ["I35999", "027_S_0974", "MCI", "M", "74", "m06", "MRI", MPR, "Processed", "7/12/2006", "NiFTI", "3/07/2022"],
    ["I36000", "027_S_0974", "MCI", "M", "74", "m06", "MRI", "MP-RAGE", "Original", "7/12/2006", "DCM", ""],
    ["I40000", "011_S_0902", "CN", "F", "80", "m12", "MRI", MPR, "Processed", "9/10/2006", "NiFTI", ""],
    ["I40001", "011_S_0902", "CN", "F", "80", "m03", "MRI", MPR, "Processed", "12/9/2005", "NiFTI", ""],
    ["I50000", "999_S_0001", "CN", "F", "70", "bl", "MRI", MPR, "Processed", "1/9/2005", "NiFTI", ""],
]  # fmt: skip


@pytest.fixture
def loni(tmp_path):
    def write(rows=SEARCH, header=SEARCH_HEADER):
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        (tmp_path / "search.csv").write_text(out.getvalue())
        return tmp_path / "search.csv"

    root = tmp_path / "ADNI"
    series = "MPR__GradWarp__B1_Correction__N3__Scaled"
    stem = f"ADNI_{{}}_MR_{series}_Br_20070108225928642_S9107_{{}}.nii"
    for ptid, date, folder, image_id in [
        ("027_S_0974", "2005-12-20_08_03_33.0", "S9107", "I35475"),
        ("027_S_0974", "2006-07-12_10_11_12.0", "I35999", "I35999"),
        ("011_S_0902", "2006-09-10_10_11_12.0", "I40000", "I40000"),
        ("999_S_0001", "2005-01-09_10_11_12.0", "I50000", "I50000"),
        ("941_S_0903", "2010-03-05_10_11_12.0", "I60000", "I60000"),
    ]:
        touch(root / ptid / series / date / folder / stem.format(ptid, image_id))
    dicom = root / "027_S_0974" / "MP-RAGE" / "2006-07-12_10_11_12.0" / "I36000"
    for i in range(3):
        touch(dicom / f"ADNI_027_S_0974_MR_MP-RAGE__br_raw_2006071220143_{i}_S141_I36000.dcm")
    touch(root / "ADNI_readme.nii")
    return write


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_the_search_csv_in_both_of_its_editions(loni):
    search = read_loni_search(loni())
    assert search["image_id"].tolist() == [row[0] for row in SEARCH]
    assert search["date"].tolist()[0] == pd.Timestamp("2005-12-20")
    other = [["35475", *row[1:]] if i == 0 else row for i, row in enumerate(SEARCH)]
    names = {"Image Data ID": "Image ID", "Subject": "Subject ID", "Group": "Research Group", "Acq Date": "Study Date"}
    again = read_loni_search(loni(other, [names.get(h, h) for h in SEARCH_HEADER]))
    pd.testing.assert_frame_equal(again, search)


def test_the_tree_is_read_by_ptid_date_and_id(loni, tmp_path):
    files = find_loni(tmp_path / "ADNI").sort_values("image_id").reset_index(drop=True)
    assert files["image_id"].tolist() == ["I35475", "I35999", "I36000", "I40000", "I50000", "I60000"]
    assert files["subject"].tolist()[:4] == ["027_S_0974"] * 3 + ["011_S_0902"]
    assert files["date"].tolist()[0] == pd.Timestamp("2005-12-20")
    assert os.path.isdir(files["image"][2])  # three slices, one image
    assert all(os.path.isfile(p) for i, p in enumerate(files["image"]) if i != 2)


def test_images_go_to_the_nearest_visit_and_the_rest_is_told(merge, loni, tmp_path):
    frame, report = read_adni_loni(merge(), tmp_path / "ADNI", loni(), description="Scaled", target="DX", report=True)
    assert len(frame) == len(VISITS)
    with_image = frame.dropna(subset="image")
    assert with_image[["subject", "session", "image_id", "days_apart", "target"]].to_numpy().tolist() == [
        ["027_S_0974", "bl", "I35475", -21, "MCI"],
        ["027_S_0974", "m06", "I35999", 0, "Dementia"],
    ]
    assert with_image["image_date"].tolist() == [pd.Timestamp("2005-12-20"), pd.Timestamp("2006-07-12")]
    told = {tuple(v) for v in report[["kind", "subject"]].astype(object).where(report.notna(), None).to_numpy()}
    reasons = report["reason"].tolist()
    assert ("image without row", "941_S_0903") in told  # on disk, not in the search
    assert "the search does not list I60000" in reasons
    assert "the search lists I40001: no such file" in reasons
    assert "the nearest visit, m03, is 276 days away, more than 90" in reasons
    assert ("no visit of this subject", "999_S_0001") in told
    assert (report["kind"] == "row without image").sum() == 1 + len(VISITS) - 2


def test_without_a_search_the_tree_tells_dates_and_several_images_are_not_chosen_from(merge, loni, tmp_path):
    frame, report = read_adni_loni(merge(), tmp_path / "ADNI", report=True)
    assert frame.dropna(subset="image")[["subject", "session", "days_apart"]].to_numpy().tolist() == [
        ["027_S_0974", "bl", -21],
        ["941_S_0903", "bl", 4],
    ]
    assert report[report["kind"] == "several images for a row"]["session"].tolist() == ["m06", "m06"]
    assert "several images for a visit" not in set(report["kind"])
    frame, _ = read_adni_loni(merge(), tmp_path / "ADNI", several="all", report=True)
    assert frame["session"].tolist()[:4] == ["bl", "m06", "m06", "m12"]
    frame, _ = read_adni_loni(merge(), tmp_path / "ADNI", description="^MPR", tolerance_days=0, report=True)
    assert frame.dropna(subset="image")["session"].tolist() == ["m06"]
    with pytest.warns(TableWarning, match="x no visit within the tolerance"):
        read_adni_loni(merge(), tmp_path / "ADNI", description="^MPR", tolerance_days=0)


def test_an_image_whose_folder_and_search_name_two_subjects_is_not_used(merge, loni, tmp_path):
    rows = [[row[0], "011_S_0902", *row[2:]] if row[0] == "I35475" else row for row in SEARCH]
    frame, report = read_adni_loni(merge(), tmp_path / "ADNI", loni(rows), report=True)
    assert "I35475" not in frame["image_id"].tolist()
    assert report["reason"].str.contains("the search says that I35475 is of 011_S_0902, the path 027_S_0974").sum() == 1


def test_searches_that_cannot_be_are_refused(loni):
    for rows, says in [
        ([*SEARCH, SEARCH[0]], "expected each image id once"),
        ([["S35475", *SEARCH[0][1:]]], "expected ids as I35475 or 35475"),
        ([[*SEARCH[0][:9], "20/12/2005", *SEARCH[0][10:]]], "column 'date': expected dates"),
        ([["I1", "", *SEARCH[0][2:]]], "expected a subject in every row"),
    ]:
        with pytest.raises(TableError, match=says):
            read_loni_search(loni(rows))
    with pytest.raises(TableError, match=r"a table without Acq Date"):
        read_loni_search(loni(header=[h.replace("Acq Date", "When") for h in SEARCH_HEADER]))


# Clinica's BIDS and CAPS.


def test_clinica_s_ids_and_sessions_are_adni_s(merge, tmp_path):
    for subject, session in [
        ("027S0974", "M000"),
        ("027S0974", "M06"),
        ("011S0902", "M003"),
        ("011S0902", "M048"),
        ("100S1", "M000"),
    ]:
        stem = f"sub-ADNI{subject}_ses-{session}"
        touch(tmp_path / "bids" / f"sub-ADNI{subject}" / f"ses-{session}" / "anat" / f"{stem}_T1w.nii.gz")
        caps = tmp_path / "caps" / "subjects" / f"sub-ADNI{subject}" / f"ses-{session}" / "t1_linear"
        touch(caps / f"{stem}_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz")
        touch(caps / f"{stem}_space-MNI152NLin2009cSym_res-1x1x1_affine.mat")
    for root, options in [("bids", {}), ("caps", {"datatype": "t1_linear", "entities": {"desc": "Crop"}})]:
        frame, report = read_adni_bids(merge(), tmp_path / root, report=True, **options)
        assert len(frame) == len(VISITS)
        assert frame.dropna(subset="image")[["subject", "session"]].to_numpy().tolist() == [
            ["027_S_0974", "bl"],
            ["027_S_0974", "m06"],
            ["011_S_0902", "m03"],
        ]
        assert frame["image"][1].endswith("nii.gz")
        assert "sub-ADNI027S0974_ses-M06" in frame["image"][1]
        strangers = report[report["kind"] == "image without row"]
        assert strangers[["subject", "session"]].to_numpy().tolist() == [
            ["011_S_0902", "ses-M048"],
            ["100_S_1", "ses-M000"],
        ]


def test_twenty_thousand_visits_in_seconds(merge):
    import time

    more = [{**VISITS[i % 3], "PTID": f"{i % 999:03d}_S_{i // 3:04d}", "RID": i} for i in range(20_000)]
    path = merge(more)
    start = time.process_time()
    assert len(read_adnimerge(path)) == 20_000
    assert time.process_time() - start < 15
