"""Splits by subject, the encoder fitted on training rows, leaks refused, and every volume beside its own row."""

from __future__ import annotations

import inspect
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv.errors import TableError
from fusionconv.study.volumes import VolumeError
from recipes.adni.data import BrainData
from recipes.adni.preparation import Preparation, augmentation
from recipes.adni.sources import Source
from recipes.adni.tasks import Task
from tests.recipes.adni.conftest import write_bids, write_volume

CLASSES = Task(classes={"CN": "diagnosis == 'CN'", "AD": "diagnosis == 'AD'"})
TINY = Preparation(spacing=None, size=(16, 16, 16), percentiles=None)


def make(root, tmp_path, **options):
    options = {"source": Source("bids", str(root)), "task": CLASSES, "preparation": TINY, "augment": "none"} | options
    return BrainData(cache=str(tmp_path / "cache"), prepare_workers=0, batch_size=4, **options)


def test_parts_share_no_subject_and_the_encoder_knows_the_training_rows_alone(bids, tmp_path):
    data = make(bids, tmp_path, covariates=["age", "sex"])
    data.setup("fit")
    parts = {part: data.part(part) for part in ("train", "val", "test")}
    subjects = [set(rows["subject"]) for rows in parts.values()]
    assert all(subjects)
    assert len(set.union(*subjects)) == sum(map(len, subjects)) == 24
    ages = parts["train"]["age"]
    encoded = data.encoder.transform(parts["test"])
    np.testing.assert_allclose(encoded[:, 0], (parts["test"]["age"] - ages.mean()) / ages.std(ddof=0), rtol=1e-5)


def test_every_visit_of_a_subject_is_on_one_side(tmp_path):
    rows = write_bids(tmp_path / "bids", 12)
    for name in rows["participant_id"]:
        folder = tmp_path / "bids" / name
        image = folder / "anat" / f"{name}_T1w.nii.gz"
        for session in ("ses-M000", "ses-M012"):
            target = folder / session / "anat" / f"{name}_{session}_T1w.nii.gz"
            target.parent.mkdir(parents=True)
            target.write_bytes(image.read_bytes())
        image.unlink()
        image.parent.rmdir()
    both = make(tmp_path / "bids", tmp_path, visits="all", fold="repeat0-fold1", n_splits=3, val_size=0.25)
    both.setup("fit")
    assert len(both.frame) == 24
    assert (both.frame.assign(part=both.split).groupby("subject")["part"].nunique() == 1).all()
    first = make(tmp_path / "bids", tmp_path, visits="first", n_splits=3)
    first.read()
    assert first.frame["session"].tolist() == ["ses-M000"] * 12


def test_each_volume_comes_with_its_own_row_in_every_batch(tmp_path):
    """Each volume's brightness is its subject's age; so a shifted or shuffled row would show."""
    root = tmp_path / "bids"
    rows = write_bids(root, 20)
    for _, row in rows.iterrows():
        data = np.full((16, 16, 16), row["age"], dtype=np.float32)
        data[:2] = 0
        nib.save(
            nib.Nifti1Image(data, np.eye(4)),
            root / row["participant_id"] / "anat" / f"{row['participant_id']}_T1w.nii.gz",
        )
    data = make(root, tmp_path, covariates=["age"], augment="light+flip")
    data.setup("fit")
    mean, sd = data.part("train")["age"].mean(), data.part("train")["age"].std(ddof=0)
    seen = 0
    for part in ("train", "val", "test"):
        for batch in data.loader(part):
            brightness = batch["image"].amax(dim=(1, 2, 3, 4)).numpy()
            np.testing.assert_allclose(batch["covariates"][:, 0].numpy() * sd + mean, brightness, atol=0.3)
            truth = rows.set_index("participant_id").loc[[i.split("_")[0] for i in batch["id"]], "diagnosis"]
            assert batch["target"].tolist() == (truth == "AD").astype(float).tolist()
            seen += len(batch["id"])
    assert seen >= 19  # a last training batch of one is left out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"covariates": ["age", "diagnosis"]}, "given the answer"),
        ({"covariates": ["age", "age"]}, "twice"),
        ({"covariates": ["aeg"]}, "no column aeg"),
        ({"rows": "age > 200"}, "no row is left"),
        ({"rows": "aeg > 60"}, "'aeg'"),
        ({"allow_leaks": ["MMSE"]}, "not among"),
        ({"fold": "repeat7-fold0"}, "repeat0-fold0"),
        ({"source": Source("bids", None)}, "--data.source.images"),
        ({"source": Source("bids", "/nowhere/at/all")}, "--data.source"),
        ({"source": Source("oasis1", "/nowhere")}, "--data.source.table"),
    ],
)
def test_what_cannot_be_says_what_was_expected(bids, tmp_path, options, says):
    with pytest.raises(TableError, match=says):
        make(bids, tmp_path, **options).setup("fit")


def test_scores_that_define_the_diagnosis_are_refused_unless_asked_for(tmp_path):
    rows = write_bids(tmp_path / "bids", 24)
    rows["MMSE"] = np.where(rows["diagnosis"] == "AD", 20, 29) + np.arange(24) % 3
    rows.to_csv(tmp_path / "bids" / "participants.tsv", sep="\t", index=False)
    with pytest.raises(TableError, match=r"MMSE.*--data\.allow_leaks"):
        make(tmp_path / "bids", tmp_path, covariates=["age", "MMSE"]).setup("fit")
    data = make(tmp_path / "bids", tmp_path, covariates=["age", "MMSE"], allow_leaks=["MMSE"])
    data.setup("fit")
    assert data.num_covariates == 2


def test_a_missing_covariate_gets_the_training_mean_and_a_flag(tmp_path):
    rows = write_bids(tmp_path / "bids", 24)
    rows.loc[::4, "education"] = None
    rows.to_csv(tmp_path / "bids" / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    data = make(tmp_path / "bids", tmp_path, covariates=["education"])
    data.setup("fit")
    train = data.part("train")
    encoded = data.encoder.transform(train)
    gone = train["education"].isna().to_numpy()
    assert gone.any()
    np.testing.assert_array_equal(encoded[:, 1], gone)
    np.testing.assert_allclose(encoded[gone, 0], 0, atol=1e-6)


def test_unusable_volumes_stop_or_are_left_out_and_counted(tmp_path):
    root = tmp_path / "bids"
    write_bids(root, 16)
    (root / "sub-003" / "anat" / "sub-003_T1w.nii.gz").write_bytes(b"")
    (root / "sub-005" / "anat" / "sub-005_T1w.nii.gz").unlink()
    with pytest.raises(VolumeError, match="1 of 15 volumes"):
        make(root, tmp_path).setup("fit")
    data = make(root, tmp_path, on_error="skip")
    data.setup("fit")
    assert len(data.frame) == 14
    assert list(data.skipped) == [str(root / "sub-003" / "anat" / "sub-003_T1w.nii.gz")]
    assert data.report["kind"].tolist() == ["row without image"]


def test_a_class_that_is_absent_from_training_is_an_error(tmp_path):
    rows = write_bids(tmp_path / "bids", 12)
    rows["diagnosis"] = ["AD"] + ["CN"] * 11
    rows.to_csv(tmp_path / "bids" / "participants.tsv", sep="\t", index=False)
    data = make(tmp_path / "bids", tmp_path, fold="repeat0-fold0", n_splits=4, val_size=0.0)
    data.prepare_volumes()
    splits = data.splits()
    lonely = next(fold for fold in splits if splits.loc[0, fold] == "test")
    with pytest.raises(TableError, match="no AD in training"):
        data.use(splits[lonely])


def test_two_rows_that_name_one_image_are_refused(tmp_path):
    image = write_volume(tmp_path / "a.nii.gz")
    other = write_volume(tmp_path / "b.nii.gz", seed=1)
    pd.DataFrame(
        {"subject": ["a", "b", "c"], "age": [60, 70, 80], "image": [image.name, other.name, image.name]}
    ).to_csv(tmp_path / "t.csv", index=False)
    data = make(
        tmp_path,
        tmp_path,
        source=Source("table", None, str(tmp_path / "t.csv")),
        task=Task("regression", target="age"),
        covariates=[],
    )
    with pytest.raises(TableError, match=r"got 2 rows that share one .*a: .*a\.nii\.gz; c: "):
        data.read()


@pytest.mark.parametrize("strength", ["none", "light", "strong", "flip", "light+flip", "strong+flip"])
def test_left_and_right_are_exchanged_only_where_that_is_said(strength):
    """A volume that is bright on its left: on which side is it bright after each of 20 draws?"""
    from monai.transforms import Compose
    from monai.utils import set_determinism

    set_determinism(0)
    volume = torch.zeros(1, 16, 16, 16)
    volume[:, :6] = 1
    steps = Compose(augmentation(strength, (16, 16, 16)))
    drawn = [steps({"image": volume.clone()})["image"] for _ in range(20)]
    right = [bool(image[:, 8:].mean() > image[:, :8].mean()) for image in drawn]
    assert any(right) == ("flip" in strength)
    assert not all(right)
    assert inspect.signature(BrainData).parameters["augment"].default == "light"


@pytest.mark.parametrize(("augment", "warned"), [("light", False), ("light+flip", True), ("flip", True)])
@pytest.mark.parametrize("column", ["side", "eye", "where"])
def test_mirrored_volumes_beside_a_covariate_that_says_left(tmp_path, caplog, augment, warned, column):
    root = tmp_path / "bids"
    write_bids(root, 20)
    table = pd.read_csv(root / "participants.tsv", sep="\t")
    table[column] = (["L", "L", "R", "R"] * len(table))[: len(table)]  # unlike the diagnoses, which alternate
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    data = make(root, tmp_path, covariates=["age", column], augment=augment)
    with caplog.at_level(logging.WARNING, logger="recipes.adni"):
        data.setup("fit")
    assert (f"mirrored at random, and {column} says left or right" in caplog.text) == warned
