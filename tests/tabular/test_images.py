"""match_images and read_paths_table: what fits, what does not, and paths that try to leave the data folder."""

import os

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import REPORT_COLUMNS, match_images, read_paths_table

ROWS = pd.DataFrame({"subject": ["a", "a", "b", "c"], "session": ["1", "2", "", ""], "age": [61, 62, 70, 55]})


def files(*rows, **more):
    return pd.DataFrame(rows, columns=["subject", "session", "image"], dtype=object).assign(**more)


def test_rows_get_their_image_in_their_order_and_the_rest_is_told():
    frame, report = match_images(
        ROWS, files(("b", "", "b.nii"), ("a", "2", "a2.nii"), ("a", "3", "a3.nii"), ("z", "", "z.nii"))
    )
    assert list(frame.columns) == ["subject", "session", "age", "image"]
    assert frame["age"].tolist() == [61, 62, 70, 55]
    assert frame["image"].fillna("-").tolist() == ["-", "a2.nii", "b.nii", "-"]
    assert tuple(report.columns) == REPORT_COLUMNS
    assert report[["kind", "subject", "session"]].to_numpy().tolist() == [
        ["row without image", "a", "1"],
        ["row without image", "c", ""],
        ["image without row", "a", "3"],
        ["image without row", "z", ""],
    ]
    assert report["reason"].tolist()[2:] == [
        "the table has no row of this session",
        "the table has no row of this subject",
    ]


def test_several_images_for_a_row_are_not_chosen_from():
    both = files(("a", "1", "x.nii"), ("a", "1", "y.nii"), ("b", "", "b.nii"), ("c", "", "c.nii"), series=list("xybc"))
    frame, report = match_images(ROWS, both)
    assert frame["image"].fillna("-").tolist() == ["-", "-", "b.nii", "c.nii"]
    assert report["kind"].tolist() == ["row without image"] + ["several images for a row"] * 2
    assert report["image"].tolist()[1:] == ["x.nii", "y.nii"]
    assert report["subject"].tolist() == ["a", "a", "a"]
    assert report["session"].tolist() == ["2", "1", "1"]
    frame, report = match_images(ROWS, both, several="all")
    assert frame["image"].fillna("-").tolist() == ["x.nii", "y.nii", "-", "b.nii", "c.nii"]
    assert frame["series"].fillna("-").tolist() == ["x", "y", "-", "b", "c"]
    assert frame["age"].tolist() == [61, 61, 62, 70, 55]
    assert report["kind"].tolist() == ["row without image"]


def test_one_image_for_several_rows_goes_to_none():
    frame, report = match_images(ROWS, files(("a", "1", "x.nii"), ("b", "", "x.nii")))
    assert frame["image"].isna().all()
    assert report["kind"].value_counts().to_dict() == {"row without image": 4, "several rows for an image": 2}


def test_a_row_twice_doubled_columns_and_unknown_ways_are_refused():
    with pytest.raises(
        TableError, match=r"one row for each subject and session, got several in 2 of 5 rows, first at 0: 'a 1'"
    ):
        match_images(pd.concat([ROWS, ROWS.iloc[:1]], ignore_index=True), files())
    with pytest.raises(TableError, match=r"got \['age'\] in both"):
        match_images(ROWS, files(("a", "1", "x.nii"), age=3))
    with pytest.raises(TableError, match=r"unknown way for 'first'"):
        match_images(ROWS, files(), several="first")


def test_rows_and_files_of_nobody_are_not_matched():
    nobody = files((np.nan, "", "x.nii"))
    with pytest.raises(TableError, match="files: expected a subject in every row"):
        match_images(ROWS, nobody)
    with pytest.raises(TableError, match="rows: expected a subject in every row"):
        match_images(ROWS.assign(subject=["a", "a", "b", None]), nobody)


def test_no_rows_and_no_files():
    frame, report = match_images(ROWS, files())
    assert frame["image"].isna().all()
    assert len(report) == 4
    frame, report = match_images(ROWS.iloc[:0], files(("a", "1", "x.nii")))
    assert frame.empty
    assert report["kind"].tolist() == ["image without row"]


# The reader of any table with a column of paths.


@pytest.fixture
def study(tmp_path):
    """data/ with scans/p1..p3.nii.gz and a stranger, beside it outside/, and a function that writes the table."""
    root = tmp_path / "data"
    (root / "scans").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("p1", "p2", "p3", "stranger"):
        (root / "scans" / f"{name}.nii.gz").touch()
    (root / "scans" / "p1.json").touch()
    (tmp_path / "outside" / "secret.nii.gz").touch()

    def write(*paths, root=root):
        rows = [f"p{i},{60 + i},{path},{i % 2}" for i, path in enumerate(paths, 1)]
        (root / "t.csv").write_text("\n".join(["id,age,file,ad", *rows, ""]))
        return root / "t.csv"

    return write


def read(path, **options):
    return read_paths_table(path, "file", subject="id", report=True, **options)


def test_paths_relative_absolute_and_with_other_separators(study, tmp_path):
    absolute = tmp_path / "data" / "scans" / "p2.nii.gz"
    frame, report = read(study("scans/p1.nii.gz", absolute, r"scans\..\scans\p3.nii.gz"), target="ad")
    assert list(frame.columns) == ["subject", "session", "image", "age", "target"]
    assert [os.path.basename(p) for p in frame["image"]] == ["p1.nii.gz", "p2.nii.gz", "p3.nii.gz"]
    assert all(os.path.isfile(p) for p in frame["image"])
    assert frame["target"].tolist() == [1, 0, 1]
    assert frame["session"].tolist() == [""] * 3
    assert report[["kind", "reason"]].to_numpy().tolist() == [
        ["image without row", "the table has no row with this path"]
    ]
    assert report["image"][0].endswith("stranger.nii.gz")


def test_missing_files_empty_paths_folders_and_shared_paths_are_told(study):
    frame, report = read(
        study("scans/p1.nii.gz", "scans/p9.nii.gz", "", "scans", "scans/p3.nii.gz", "scans/../scans/p3.nii.gz")
    )
    assert frame["image"].notna().tolist() == [True] + [False] * 5
    told = report[report["kind"] != "image without row"]
    assert told[["kind", "subject"]].to_numpy().tolist() == [
        ["row without image", "p2"],
        ["row without image", "p3"],
        ["row without image", "p4"],
        ["several rows for an image", "p5"],
        ["several rows for an image", "p6"],
    ]
    assert told["reason"].tolist()[:3] == [
        "there is no file scans/p9.nii.gz",
        "the table has no path",
        "scans is a folder, not a file",
    ]
    assert set(report[report["kind"] == "image without row"]["image"].map(os.path.basename)) == {
        "p2.nii.gz",
        "stranger.nii.gz",
    }


def test_without_the_report_a_warning_counts(study):
    with pytest.warns(
        TableWarning, match=r"t.csv: 1 x row without image; 3 x image without row. report=True lists them"
    ):
        read_paths_table(study("scans/p1.nii.gz", "scans/p9.nii.gz"), "file", subject="id")


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.nii.gz",
        "scans/../../outside/secret.nii.gz",
        r"..\outside\secret.nii.gz",
        r"scans\..\..\outside\secret.nii.gz",
        "/etc/hostname",
        "..",
        "C:/data/p1.nii.gz",
        r"\\server\share\p1.nii.gz",
        "https://example.org/p1.nii.gz",
        "scans/p1.nii.gz/../../../outside/secret.nii.gz",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(study, path):
    with pytest.raises(TableError, match=r"expected paths inside .*data, got '.*' in row 1"):
        read(study("scans/p1.nii.gz", path))


def test_an_absolute_path_beside_the_folder_with_the_same_beginning_is_refused(study, tmp_path):
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "p1.nii.gz").touch()
    with pytest.raises(TableError, match="the path of another place"):
        read(study(tmp_path / "data2" / "p1.nii.gz"))
    with pytest.raises(TableError, match="it does not start there"):
        read(study("../data2/p1.nii.gz"))


def test_links_that_lead_out_are_refused_and_links_within_are_good(study, tmp_path):
    root = tmp_path / "data"
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "one.nii.gz").symlink_to(tmp_path / "outside" / "secret.nii.gz")
    (root / "within.nii.gz").symlink_to(root / "scans" / "p1.nii.gz")
    (root / "broken.nii.gz").symlink_to(root / ".git" / "annex" / "x")
    for path in ("out/secret.nii.gz", "one.nii.gz"):
        with pytest.raises(TableError, match="a link in it leads out of the folder"):
            read(study(path))
    frame, report = read(study("within.nii.gz", "broken.nii.gz"))
    assert frame["image"].notna().tolist() == [True, False]
    assert "git-annex" in report[report["subject"] == "p2"]["reason"].item()
    (tmp_path / "alias").symlink_to(root)  # the root itself may be a link
    frame, _ = read(
        study("scans/p1.nii.gz", tmp_path / "alias" / "scans" / "p2.nii.gz", root / "scans" / "p3.nii.gz"),
        root=tmp_path / "alias",
    )
    assert frame["image"].notna().all()


def test_another_root_sessions_and_subjects_as_text(study, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("who\twhen\tfile\n007\tbl\tp1.nii.gz\n8\t\tp2.nii.gz\n")
    frame, _ = read_paths_table(path, "file", tmp_path / "data" / "scans", subject="who", session="when", report=True)
    assert frame["subject"].tolist() == ["007", "8"]
    assert frame["session"].tolist() == ["bl", ""]


def test_tables_that_cannot_be_are_refused(study, tmp_path):
    path = study("scans/p1.nii.gz")
    with pytest.raises(TableError, match=r"unknown column 'File'; did you mean 'file'"):
        read_paths_table(path, "File", subject="id")
    with pytest.raises(TableError, match="expected different columns for image, subject and session"):
        read_paths_table(path, "file", subject="file")
    with pytest.raises(FileNotFoundError, match=r"expected the folder of the images at .*nowhere"):
        read_paths_table(path, "file", tmp_path / "nowhere", subject="id")
    with pytest.raises(TableError, match=r"unknown column 'agee'; did you mean 'age'"):
        read(path, target="agee")
    path.write_text("id,file,session\np1,scans/p1.nii.gz,2\n")
    with pytest.raises(TableError, match=r"expected the names \['session'\] to be free"):
        read(path)
    path.write_text("id,file\np1,scans/p1.nii.gz\n,scans/p2.nii.gz\n")
    with pytest.raises(TableError, match=r"expected a subject in every row, got none in 1 of 2 rows, first at 1"):
        read(path)


def test_twenty_thousand_paths_in_seconds(tmp_path):
    import time

    for i in range(200):
        (tmp_path / f"{i}.nii").touch()
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"id": np.arange(20_000), "file": [f"{i}.nii" for i in range(20_000)], "x": rng.normal(size=20_000)}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    start = time.process_time()
    frame, report = read(tmp_path / "t.csv")
    assert time.process_time() - start < 10
    assert frame["image"].notna().sum() == 200
    assert len(report) == 19_800


@pytest.mark.parametrize("kind", ["link", "pointer", "folder"])
def test_what_git_annex_has_not_fetched_is_told_as_such(tmp_path, kind):
    image = tmp_path / "scan.nii.gz"
    if kind == "folder":
        image = tmp_path / "series"
        image.mkdir()
        (image / "1.dcm").symlink_to(tmp_path / ".git" / "annex" / "gone")
    elif kind == "link":
        image.symlink_to(tmp_path / ".git" / "annex" / "gone")
    else:
        image.write_text("/annex/objects/MD5E-s10--ab.nii.gz\n")
    there = tmp_path / "there.nii.gz"
    there.write_bytes(b"x")
    rows = pd.DataFrame({"subject": ["a", "b"], "session": "", "age": [61, 72]})
    files = pd.DataFrame({"subject": ["a", "b"], "session": "", "image": [str(image), str(there)]})
    frame, report = match_images(rows, files)
    assert frame["image"].tolist()[1] == str(there)
    assert pd.isna(frame["image"][0])
    assert report[["kind", "subject"]].to_numpy().tolist() == [["row without image", "a"]]
    assert "git annex get" in report["reason"].item()
