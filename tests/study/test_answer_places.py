"""What `fusionconv predict` writes over: its own earlier answers, and nothing else."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fusionconv.errors import StudyError
from fusionconv.study import Study
from fusionconv.study.predict import predict_table
from tests.study.pictures_out import disc_pictures


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A finished study of masks."""
    folder = tmp_path_factory.mktemp("places") / "set"
    disc_pictures(folder, 12)
    Study(
        table=str(folder / "t.csv"), images=str(folder / "images"), target_folder=str(folder / "masks"),
        image_column="file", subject="patient", target="mask", task="segmentation", image_size=[20, 24], channels=1,
        network="tests.study.tiny:image_network", folds=1, test_size=0.4, epochs=1, controls=0, resamples=100,
    ).compare(["image"], out=folder / "out", progress=False, report=False)  # fmt: skip
    (folder / "link").symlink_to("masks")
    (folder / "again.csv").hardlink_to(folder / "t.csv")
    (folder / "other").mkdir()
    shutil.copy(folder / "masks/p01.png", folder / "other/p01.png")
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("out", "match"),
    [
        ("masks.csv", "contains or lies in .*masks"),
        ("images.csv", "contains or lies in .*images"),
        ("images/new.csv", "contains or lies in .*images"),
        ("link.csv", "contains or lies in .*masks"),
        ("../set.csv", "contains or lies in"),
        ("other.csv", r"nothing but earlier answers of predict, got .*other with p01.png"),
        ("t.csv", "another file than the table"),
        ("again.csv", "another file than the table"),
        ("out/predictions.csv", "earlier answers of predict, got .*predictions.csv"),
        ("images/p00.png", "earlier answers of predict, got .*p00.png"),
        ("answers", "ends in .csv, got .*answers"),
        ("a.v2", "ends in .csv, got .*a.v2"),
        (".csv", "ends in .csv"),
        ("masks", "got the folder"),
    ],
)
def test_what_is_there_stays(masks, out, match):
    before = contents(masks.parent)
    with pytest.raises(StudyError, match=match):
        predict_table(str(masks / "out"), "image", str(masks / "t.csv"), str(masks / "images"), str(masks / out))
    assert contents(masks.parent) == before


def test_earlier_answers_are_written_over_also_of_fewer_rows_and_in_one_folder_with_all(masks, tmp_path):
    for name in ("images", "masks"):
        for file in (masks / name).iterdir():
            shutil.copy(file, tmp_path / f"{name[:-1]}_{file.name}")
    table = pd.read_csv(masks / "t.csv").assign(file=lambda rows: "image_" + rows["file"])
    for rows in (12, 3, 12):
        table.head(rows).to_csv(tmp_path / "new.csv", index=False)
        said = predict_table(
            str(masks / "out"), "image", str(tmp_path / "new.csv"), str(tmp_path), str(tmp_path / "said.csv")
        )
        assert len(said) == rows
        for name in said["file"]:
            assert np.asarray(Image.open(tmp_path / name)).shape == (20, 24)
    Image.open(tmp_path / "mask_p01.png").save(tmp_path / "said/drawn.png")
    with pytest.raises(StudyError, match=r"got .*said with drawn.png"):
        predict_table(str(masks / "out"), "image", str(tmp_path / "new.csv"), str(tmp_path), str(tmp_path / "said.csv"))
