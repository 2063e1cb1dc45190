"""read_bids on layouts written here as the specification and Clinica have them, and on the real ds002748."""

import os
import warnings
from pathlib import Path

import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import read_bids


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


@pytest.fixture
def clinica(tmp_path):
    """Three subjects of ADNI as Clinica writes them: sessions tables, several visits, scans tables."""
    bids = tmp_path / "bids"
    write(
        bids / "participants.tsv",
        ("participant_id", "alternative_id_1", "sex", "education_level", "age_bl", "apoe4", "diagnosis_sc", "site"),
        ("sub-ADNI027S0074", "027_S_0074", "M", 16, 74.3, 1, "LMCI", 27),
        ("sub-ADNI011S0002", "011_S_0002", "F", 12, 80, 0, "CN", 11),
        ("sub-ADNI099S0001", "099_S_0001", "F", "n/a", 66, "n/a", "AD", 99),
    )
    for subject, rows in {
        "sub-ADNI027S0074": [("ses-M000", 74.3, "MCI"), ("ses-M012", 75.3, "AD")],
        "sub-ADNI011S0002": [("ses-M000", 80.0, "CN"), ("ses-M006", "n/a", "n/a")],
    }.items():
        write(bids / subject / f"{subject}_sessions.tsv", ("session_id", "age", "diagnosis"), *rows)
    for subject, session in (("027S0074", "M000"), ("027S0074", "M012"), ("011S0002", "M000"), ("011S0002", "M048")):
        stem = f"sub-ADNI{subject}_ses-{session}"
        folder = f"sub-ADNI{subject}/ses-{session}"
        touch(
            bids,
            f"{folder}/anat/{stem}_T1w.nii.gz",
            f"{folder}/anat/{stem}_T1w.json",
            f"{folder}/anat/{stem}_FLAIR.nii.gz",
        )
        crop = f"{stem}_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
        touch(
            tmp_path / "caps" / "subjects",
            f"{folder}/t1_linear/{crop}",
            f"{folder}/t1_linear/{crop.replace('_desc-Crop', '')}",
        )
    scans = bids / "sub-ADNI027S0074/ses-M000/sub-ADNI027S0074_ses-M000_scans.tsv"
    write(
        scans,
        ("filename", "scan_id", "age"),
        ("anat/sub-ADNI027S0074_ses-M000_T1w.nii.gz", 35475, 74),
        ("anat/sub-ADNI027S0074_ses-M000_PDw.nii.gz", 35476, 74),
    )
    return tmp_path


def test_participants_sessions_and_scans_come_together(clinica):
    frame, report = read_bids(clinica / "bids", target="diagnosis", report=True)
    assert list(frame.columns)[:4] == ["subject", "session", "image", "age"]
    assert list(frame.columns)[-1] == "target"
    told = frame[["subject", "session", "age", "sex", "target"]].astype(object).where(frame.notna(), None)
    assert told.to_numpy().tolist() == [
        ["sub-ADNI027S0074", "ses-M000", 74.3, "M", "MCI"],
        ["sub-ADNI027S0074", "ses-M012", 75.3, "M", "AD"],
        ["sub-ADNI011S0002", "ses-M000", 80.0, "F", "CN"],
        ["sub-ADNI011S0002", "ses-M006", None, "F", None],
        ["sub-ADNI099S0001", "", None, "F", None],
    ]
    assert [os.path.basename(p) if isinstance(p, str) else None for p in frame["image"]] == [
        "sub-ADNI027S0074_ses-M000_T1w.nii.gz",
        "sub-ADNI027S0074_ses-M012_T1w.nii.gz",
        "sub-ADNI011S0002_ses-M000_T1w.nii.gz",
        None,
        None,
    ]
    assert frame["scan_id"].dropna().tolist() == [35475]
    assert frame["age_scan"].dropna().tolist() == [74]  # scans.tsv has an age too: the visit's keeps its name
    assert report[["kind", "subject", "session"]].to_numpy().tolist() == [
        ["row without image", "sub-ADNI027S0074", "ses-M000"],  # a PDw that scans.tsv lists and that is not there
        ["row without image", "sub-ADNI011S0002", "ses-M006"],
        ["row without image", "sub-ADNI099S0001", ""],
        ["image without row", "sub-ADNI011S0002", "ses-M048"],
    ]


def test_a_column_of_participants_and_of_sessions_is_the_visit_s(clinica):
    table = clinica / "bids" / "participants.tsv"
    table.write_text(table.read_text().replace("age_bl", "age"))
    frame, _ = read_bids(clinica / "bids", report=True)
    assert frame["age"].tolist()[:2] == [74.3, 75.3]
    assert frame["age_participant"].tolist()[:2] == [74.3, 74.3]


def test_clinica_s_t1_linear_with_the_tables_of_the_bids_folder(clinica):
    options = {"tables": clinica / "bids", "datatype": "t1_linear", "report": True}
    frame, _ = read_bids(clinica / "caps", entities={"desc": "Crop"}, **options)
    assert [p for p in frame["image"].dropna() if "_desc-Crop_res-1x1x1_T1w.nii.gz" not in p] == []
    assert frame["image"].notna().sum() == 3
    frame, _ = read_bids(clinica / "caps", entities={"desc": None}, **options)
    assert not frame["image"].dropna().str.contains("desc-").any()
    assert frame["image"].notna().sum() == 3
    frame, report = read_bids(clinica / "caps", **options)  # cropped and whole: two images of a visit
    assert frame["image"].isna().all()
    assert (report["kind"] == "several images for a row").sum() == 6
    frame, _ = read_bids(clinica / "caps", several="all", **options)
    assert frame["image"].notna().sum() == 6


def test_suffix_datatype_and_entities_choose(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "age"), ("sub-01", 39))
    touch(
        tmp_path,
        "sub-01/anat/sub-01_run-01_T1w.nii.gz",
        "sub-01/anat/sub-01_run-02_T1w.nii",
        "sub-01/func/sub-01_T1w.nii.gz",
    )
    touch(
        tmp_path,
        "sub-01/anat/sub-01_acq-x_FLAIR.nii.gz",
        "sub-01/anat/sub-01_notT1w.nii.gz",
        "derivatives/x/sub-01_T1w.nii.gz",
    )

    def names(**options):
        frame, _ = read_bids(tmp_path, several="all", report=True, **options)
        return sorted(map(os.path.basename, frame["image"].dropna()))

    assert names() == ["sub-01_T1w.nii.gz", "sub-01_run-01_T1w.nii.gz", "sub-01_run-02_T1w.nii"]
    assert names(datatype="func") == ["sub-01_T1w.nii.gz"]
    assert names(entities={"run": 2}) == ["sub-01_run-02_T1w.nii"]
    assert names(entities={"run": "01"}) == ["sub-01_run-01_T1w.nii.gz"]
    assert names(entities={"run": None}) == ["sub-01_T1w.nii.gz"]
    assert names(suffix="FLAIR", entities={"acq": "x"}) == ["sub-01_acq-x_FLAIR.nii.gz"]
    assert names(suffix="bold") == []


def test_without_a_sessions_table_the_folders_tell_the_sessions(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "age"), ("02", 40), ("01", 39))  # ids may lack their prefix
    touch(tmp_path, "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz", "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    frame, report = read_bids(tmp_path, report=True)
    assert frame[["subject", "session", "age"]].to_numpy().tolist() == [
        ["sub-02", "", 40],
        ["sub-01", "ses-a", 39],
        ["sub-01", "ses-b", 39],
    ]
    assert report["subject"].tolist() == ["sub-02"]


def test_session_ids_without_prefix(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "sex"), ("sub-CC1", "F"))
    write(tmp_path / "sub-CC1" / "sub-CC1_sessions.tsv", ("session_id", "scan_age"), (26700, 37.71))
    touch(tmp_path, "sub-CC1/ses-26700/anat/sub-CC1_ses-26700_T2w.nii.gz")
    frame, report = read_bids(tmp_path, suffix="T2w", report=True)
    assert frame[["session", "scan_age"]].to_numpy().tolist() == [["ses-26700", 37.71]]
    assert report.empty


def test_numbers_are_numbers_over_all_sessions_tables_together(tmp_path):
    """One table says 1 and another 1.5, or n/a: the column has one type."""
    write(tmp_path / "participants.tsv", ("participant_id", "sex"), ("sub-1", "F"), ("sub-2", "M"), ("sub-3", "M"))
    for subject, score in (("sub-1", "1"), ("sub-2", "1.5"), ("sub-3", "n/a")):
        write(tmp_path / subject / f"{subject}_sessions.tsv", ("session_id", "score"), ("ses-1", score))
    frame, _ = read_bids(tmp_path, report=True)
    assert frame["score"].dtype == "float64"
    assert frame["score"].tolist()[:2] == [1, 1.5]


def test_a_file_in_the_folder_of_another_is_told_and_not_used(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "age"), ("sub-01", 39), ("sub-02", 40))
    touch(tmp_path, "sub-01/anat/sub-02_T1w.nii.gz", "sub-02/ses-1/anat/sub-02_T1w.nii.gz")
    frame, report = read_bids(tmp_path, report=True)
    assert frame["image"].isna().all()
    reasons = report[report["kind"] == "image without row"]["reason"].tolist()
    assert reasons[0].startswith("its name says sub-02, its folder is sub-01")
    assert reasons[1].startswith("its name says sub-02, its folder is sub-02/ses-1")


def test_a_link_to_content_that_was_not_fetched_is_no_image(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "age"), ("sub-01", 39), ("sub-02", 40))
    touch(tmp_path, "sub-02/anat/sub-02_T1w.json", ".git/annex/objects/there")
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone")
    (tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz").symlink_to("../../.git/annex/objects/there")
    frame, report = read_bids(tmp_path, report=True)
    assert frame["image"].notna().tolist() == [False, True]
    assert report[["kind", "subject"]].to_numpy().tolist() == [["row without image", "sub-01"]]
    assert "is not fetched" in report["reason"].item()
    assert "datalad get sub-01_T1w.nii.gz" in report["reason"].item()


def test_tables_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"participants.tsv"):
        read_bids(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected the folder of the data set"):
        read_bids(tmp_path / "nowhere")
    table = tmp_path / "participants.tsv"
    write(table, ("participant_id", "age"), ("sub-01", 39), ("01", 40))
    with pytest.raises(
        TableError, match=r"expected one row for each subject, got several in 2 of 2 rows, first at 0: 'sub-01'"
    ):
        read_bids(tmp_path)
    write(table, ("subject_id", "age"), ("sub-01", 39))
    with pytest.raises(TableError, match=r"unknown column 'participant_id'"):
        read_bids(tmp_path)
    write(table, ("participant_id", "age"), ("sub-01", 39))
    write(tmp_path / "sub-01" / "sub-01_sessions.tsv", ("session_id", "x"), ("ses-1", 1), ("ses-1", 2))
    with pytest.raises(TableError, match=r"sub-01_sessions.tsv: expected one row for each session"):
        read_bids(tmp_path)


@pytest.fixture
def ds002748():
    folder = os.environ.get("FUSIONCONV_TEST_DATA")
    if not folder or not (Path(folder) / "ds002748_mini").is_dir():
        pytest.skip("needs the folder of real data with ds002748_mini/ in the variable FUSIONCONV_TEST_DATA")
    return Path(folder) / "ds002748_mini"


def test_the_real_ds002748_has_72_rows_and_six_images(ds002748):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing in it is mixed or mangled
        frame, report = read_bids(ds002748, target="group", report=True)
    assert len(frame) == 72
    assert frame["subject"].is_unique
    with_image = frame.dropna(subset="image")
    assert with_image["subject"].tolist() == [f"sub-{n}" for n in ("01", "02", "05", "40", "55", "60")]
    assert all(
        Path(p).is_file() and f"/{s}/" in p for s, p in zip(with_image["subject"], with_image["image"], strict=True)
    )
    assert report["kind"].value_counts().to_dict() == {"row without image": 66}
    assert set(report["subject"]) == set(frame["subject"]) - set(with_image["subject"])
    # against the file itself, field by field
    lines = [line.split("\t") for line in (ds002748 / "participants.tsv").read_text().splitlines()]
    for j, name in enumerate(lines[0]):
        column = frame[{"participant_id": "subject", "group": "target"}.get(name, name)]
        for value, line in zip(column, lines[1:], strict=True):
            assert pd.isna(value) if line[j] == "n/a" else str(value).removesuffix(".0") == line[j].removesuffix(".0")
    assert frame["age"].dtype == "int64"
    assert frame.select_dtypes("number").shape[1] == 16  # all but three of the columns beside the id
    with pytest.warns(TableWarning, match="66 x row without image"):
        read_bids(ds002748)


def test_participants_may_have_columns_session_and_image(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_T1w.nii.gz").touch()
    (tmp_path / "participants.tsv").write_text("participant_id\tsession\timage\tage\nsub-01\t2\tscan7\t61\n")
    frame = read_bids(tmp_path)
    assert frame["session"].tolist() == [""]
    assert frame["session_participant"].tolist() == [2]
    assert frame["image_participant"].tolist() == ["scan7"]
    assert frame["image"].tolist() == [str(anat / "sub-01_T1w.nii.gz")]


def test_decimal_commas_are_read_in_every_table_once_stated(tmp_path):
    write(tmp_path / "participants.tsv", ("participant_id", "age"), ("sub-1", "61,5"), ("sub-2", "70"))
    sessions = ("session_id", "weight"), ("ses-1", "72,25"), ("ses-2", "80")
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", *sessions)
    write(tmp_path / "sub-1/ses-1/sub-1_ses-1_scans.tsv", ("filename", "te"), ("anat/sub-1_ses-1_T1w.nii.gz", "2,5"))
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz")
    with pytest.raises(TableError, match=r"column 'age': .*give decimal=','"):
        read_bids(tmp_path, report=True)
    frame, _ = read_bids(tmp_path, decimal=",", report=True)
    assert frame["age"].tolist() == [61.5, 61.5, 70]
    assert frame["weight"].tolist()[:2] == [72.25, 80]
    assert frame["te"][0] == 2.5
