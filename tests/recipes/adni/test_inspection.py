"""inspect: nothing stops at a bad file, odd and doubled ones are named, and the picture shows the right side."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.tabular.images import REPORT_COLUMNS
from recipes.adni.inspection import VOLUME_COLUMNS, inspect_volumes, measure
from recipes.adni.slices import choose, draw_slices, middle_slices

NOTHING = pd.DataFrame(columns=REPORT_COLUMNS)


def save(path, seed=0, affine=(2, 2, 2), shape=(9, 10, 11), data=None):
    affine = np.diag([*affine, 1.0]) if len(affine) == 3 else affine
    if data is None:
        data = np.random.default_rng(seed).integers(0, 900, shape).astype("int16")
    nib.Nifti1Image(data, affine).to_filename(path)
    return str(path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """30 rows: 26 good volumes, of which one lies otherwise, one is coarser and two are the same; 3 bad; 1 without."""
    folder = tmp_path_factory.mktemp("study")
    paths = [save(folder / f"s{i:02d}.nii.gz", seed=i) for i in range(30)]
    save(paths[3], 3, affine=(-2, 2, 2))
    save(paths[4], 4, affine=(2, 2, 3))
    content = gzip.decompress(Path(paths[5]).read_bytes())
    Path(paths[6]).write_bytes(gzip.compress(content, compresslevel=1, mtime=77))  # the content of s05, other bytes
    Path(paths[7]).write_bytes(Path(paths[7]).read_bytes()[:-99])
    save(paths[8], data=np.full((9, 10, 11), np.nan, "float32"))
    Path(paths[9]).write_text("<html>log in</html>")
    frame = pd.DataFrame({"subject": [f"p{i:02d}" for i in range(30)], "session": "", "image": paths})
    frame["age"] = [np.nan, *np.linspace(55, 90, 29)]
    frame["sex"] = ["F", "M"] * 15
    frame["target"] = ["CN"] * 18 + ["AD"] * 10 + [None, "AD"]
    frame.loc[10, "image"] = np.nan
    line = ("row without image", "p10", "", np.nan, "no file of this subject and session was found")
    return frame, pd.DataFrame([line], columns=REPORT_COLUMNS)


@pytest.fixture(scope="module")
def inspected(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "inspect"
    return inspect_volumes(*study, out, covariates=["age", "sex"], target="target"), out


def lines_with(text, *words):
    return [line.strip() for line in text.splitlines() if all(word in line for word in words)]


def test_every_row_with_an_image_is_in_the_table_and_bad_ones_say_why(inspected, study):
    volumes = inspected[0].volumes
    assert tuple(volumes.columns) == VOLUME_COLUMNS
    assert volumes.index.tolist() == [i for i in range(30) if i != 10]
    assert volumes["image"].tolist() == study[0]["image"].dropna().tolist()
    bad = inspected[0].bad
    assert bad.index.tolist() == [7, 8, 9]
    for problem, says in zip(bad["problem"], ("cut off", "990 of 990 (100.00%)", "web page"), strict=True):
        assert problem.startswith("expected")
        assert says in problem


def test_the_numbers_of_a_volume(tmp_path):
    data = np.random.default_rng(1).normal(100, 30, (9, 10, 12)).astype("float32")
    affine = nib.orientations.inv_ornt_aff([[1, 1], [2, -1], [0, 1]], (9, 10, 12)) @ np.diag([1, 2, 3, 1])
    path = save(tmp_path / "a.nii.gz", affine=affine, data=data)
    row = measure(path)
    assert (row["shape"], row["spacing"], row["dtype"]) == ("9 x 10 x 12", "1.00 x 2.00 x 3.00", "float32")
    # nibabel's own words for the affine that was made: which axis runs where, and so how far the view reaches
    codes = "".join(nib.aff2axcodes(affine))
    assert row["orientation"] == codes
    for code, extent in zip(codes, (9 * 1, 10 * 2, 12 * 3), strict=True):
        name = next(n for n, pair in (("r", "LR"), ("a", "PA"), ("s", "IS")) if code in pair)
        assert row[f"extent_{name}"] == extent
    ordered = np.sort(data.ravel())
    assert (row["minimum"], row["maximum"]) == (ordered[0], ordered[-1])
    assert row["p50"] == pytest.approx((ordered[539] + ordered[540]) / 2)
    assert ordered[10] <= row["p01"] <= ordered[11]
    assert row["size_bytes"] == Path(path).stat().st_size
    assert row["problem"] is None


def test_the_text_counts_and_names(inspected):
    text = inspected[0].text
    assert lines_with(text, "30 rows of 30 subjects")
    assert lines_with(text, "29 rows have an image: 29 files of 29 subjects")
    assert lines_with(text, "26 of them can be used")
    assert lines_with(text, "1 x row without image")
    assert lines_with(text, "no file of this subject", "p10")
    assert lines_with(text, "26 good, 3 bad")
    assert lines_with(text, "LAS", "1   odd: p03")
    assert lines_with(text, "2.00 x 2.00 x 3.00", "1   odd: p04")
    assert lines_with(text, "RAS", "25") and not lines_with(text, "RAS", "odd")  # noqa: PT018
    assert lines_with(text, "the same content in 2 files, of other subjects", "s05.nii.gz", "s06.nii.gz")
    assert len(lines_with(text, "the same content")) == 1
    # of the 26 usable rows: 0..17 less 7 8 9 10 are CN, 18..27 and 29 AD, 28 has none; age is missing in row 0
    assert lines_with(text, "target target: 1 missing (3.8%), CN: 14 (53.8%), AD: 11 (42.3%)")
    assert lines_with(text, "covariate age: 1 missing (3.8%), lowest 55,", "highest 90")
    assert lines_with(text, "covariate sex: 0 missing (0.0%), M: 13 (50.0%), F: 13 (50.0%)") or lines_with(
        text, "covariate sex: 0 missing (0.0%), F: 13 (50.0%), M: 13 (50.0%)"
    )


def test_the_files_that_it_leaves(inspected):
    inspection, out = inspected
    assert (out / "inspect.txt").read_text() == inspection.text + "\n" == f"{inspection}\n"
    assert pd.read_csv(out / "volumes.csv")["problem"].notna().sum() == 3
    assert pd.read_csv(out / "unmatched.csv")["subject"].tolist() == ["p10"]
    from PIL import Image

    with Image.open(out / "slices.png") as picture:
        assert min(picture.size) > 600
        assert np.asarray(picture.convert("L")).std() > 10


def test_workers_change_nothing(inspected, study):
    again = inspect_volumes(*study, workers=3, covariates=["age", "sex"], target="target")
    pd.testing.assert_frame_equal(again.volumes, inspected[0].volumes)
    assert again.text == inspected[0].text


def test_headers_only_does_not_see_what_lies_behind_and_says_so(study):
    inspection = inspect_volumes(*study, voxels=False)
    assert inspection.bad.index.tolist() == [9]
    assert inspection.volumes["sha256"].isna().all()
    assert "headers only" in inspection.text
    assert "contents were not read" in inspection.text


def test_one_file_in_two_rows_and_subjects_with_several_visits(tmp_path):
    paths = [save(tmp_path / f"{i}.nii", seed=i) for i in range(2)]
    frame = pd.DataFrame({"subject": ["a", "a", "b"], "session": ["bl", "m12", "bl"], "image": [*paths, paths[0]]})
    text = inspect_volumes(frame, NOTHING).text
    assert lines_with(text, "0.nii stands in 2 rows: a bl, b bl")
    assert lines_with(text, "1 subjects have several images: split by subject")
    assert lines_with(text, "sessions: bl 2, m12 1")
    assert "Rows and images: all matched" in text


def test_nothing_to_inspect_and_absent_columns_are_errors(study):
    frame, report = study
    with pytest.raises(TableError, match=r"got none in 1 rows \(the reader's report: 1 x row without image\)"):
        inspect_volumes(frame[frame["image"].isna()], report)
    with pytest.raises(TableError, match="APOE4"):
        inspect_volumes(frame, report, covariates=["APOE4"])


def test_all_bad_is_still_told(tmp_path):
    (tmp_path / "a.nii").touch()
    frame = pd.DataFrame({"subject": ["a"], "session": [""], "image": [str(tmp_path / "a.nii")]})
    inspection = inspect_volumes(frame, NOTHING, tmp_path / "out", target="subject")
    assert "No volume can be used" in inspection.text
    assert (tmp_path / "out" / "slices.png").is_file()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "AIL", "SRA"])
def test_slices_show_each_side_where_the_letters_say(tmp_path, codes):
    """A spot in each middle slice, off the middle to the right, front or top, is found there however it is stored."""
    ras = np.zeros((13, 15, 17), "float32")  # the middle is 6, 7, 8, from whichever end one counts
    ras[9, 11, 8], ras[9, 7, 13], ras[6, 11, 13] = 50, 60, 70
    image = nib.Nifti1Image(ras, np.diag([2.0, 3.0, 4.0, 1.0]))
    ornt = nib.orientations.axcodes2ornt
    turned = image.as_reoriented(nib.orientations.ornt_transform(ornt("RAS"), ornt(codes)))
    assert "".join(nib.aff2axcodes(turned.affine)) == codes
    turned.to_filename(tmp_path / "a.nii.gz")
    (axial, a_mm), (coronal, c_mm), (sagittal, s_mm) = middle_slices(tmp_path / "a.nii.gz")
    # rows run upwards on paper: axial row = front, column = right; coronal row = top; sagittal column = front
    assert (axial[11, 9], coronal[13, 9], sagittal[13, 11]) == (50, 60, 70)
    assert [np.count_nonzero(cut) for cut in (axial, coronal, sagittal)] == [1, 1, 1]
    assert (a_mm, c_mm, s_mm) == ((26, 45), (26, 68), (45, 68))


def test_bad_and_odd_ones_get_a_place_and_the_rest_is_spread(inspected):
    chosen = choose(inspected[0].volumes)
    assert len(chosen) == 12
    assert chosen.index.is_monotonic_increasing
    flagged = chosen["flag"].notna()
    assert flagged.sum() == 4  # of five: a third of twelve
    assert chosen[flagged].index.isin([3, 4, 7, 8, 9]).all()
    plain = [i for i in range(30) if i not in (3, 4, 7, 8, 9, 10)]  # the places of the chosen among them
    assert np.ptp(np.diff([plain.index(i) for i in chosen[~flagged].index])) <= 1
    assert len(choose(inspected[0].volumes.head(5))) == 5
    few = inspected[0].volumes.loc[[0, 3, 4, 7, 8, 9]]
    assert len(choose(few)) == 6


def test_a_constant_background_and_one_volume_can_be_drawn(tmp_path):
    data = np.zeros((9, 10, 11), "int16")
    data[0, 0, 0] = 1  # nothing at all in the middle slices
    frame = pd.DataFrame({"subject": ["a"], "session": [""], "image": [save(tmp_path / "a.nii", data=data)]})
    figure = draw_slices(choose(inspect_volumes(frame, NOTHING).volumes))
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 1
    assert len(drawn[0].images) == 3


def test_only_odd_and_bad_ones_are_marked_so(inspected):
    chosen = choose(inspected[0].volumes)
    titles = [axes.get_title(loc="left") for axes in draw_slices(chosen).axes]
    marked = {title.split()[0] for title in titles if title.endswith(("ODD", "BAD"))}
    assert marked == set(chosen.loc[chosen["flag"].notna(), "subject"])
    assert 0 < len(marked) < len(titles)


def test_a_volume_that_lies_otherwise_than_its_header_says_is_named(tmp_path):
    """Ten alike, bright above: one stored in other axes with a header that says so, one upside down with none."""
    shape = np.linspace(0, 1000, 16)[None, None, :] * np.ones((16, 16, 1))
    flip = np.diag([-2.0, -2.0, 2.0, 1.0])
    paths = []
    for i in range(10):
        data = shape + np.random.default_rng(i).normal(0, 100, (16, 16, 16))
        data = data[::-1, ::-1] if i == 3 else data[:, :, ::-1] if i == 6 else data
        affine = flip if i == 3 else np.diag([2.0, 2.0, 2.0, 1.0])
        paths.append(save(tmp_path / f"{i}.nii", affine=affine, data=data.astype("float32")))
    frame = pd.DataFrame({"subject": [f"p{i}" for i in range(10)], "session": "", "image": paths})
    inspection = inspect_volumes(frame, NOTHING)
    assert len(lines_with(inspection.text, "unlike the others", "p6 (r = -")) == 1
    likeness = inspection.volumes["likeness"]
    assert likeness.drop(6).min() > 0.9 > -0.9 > likeness[6]
    chosen = choose(inspection.volumes)
    assert chosen["flag"].dropna().to_dict() == {6: "looks unlike the others"}


def test_the_thumbnail_is_block_means_in_ras(tmp_path):
    data = np.random.default_rng(0).normal(size=(16, 24, 8)).astype("float32")
    thumbnail = measure(save(tmp_path / "a.nii", affine=(-1, 1, 1), data=data))["thumbnail"]
    by_hand = data[::-1].reshape(8, 2, 8, 3, 8, 1).mean(axis=(1, 3, 5))
    assert np.allclose(thumbnail, by_hand.ravel(), atol=1e-5)
