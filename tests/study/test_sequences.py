"""Image columns that may be empty: flags, dropout with known probabilities, results by subset, and maps of differences."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from fusionconv.errors import FusionError
from fusionconv.study import Study
from fusionconv.study.arms import parse_arm
from fusionconv.study.command import main
from fusionconv.study.difference_maps import difference_maps
from fusionconv.study.explain import explain_arm
from fusionconv.study.predict import load_predictor
from fusionconv.study.sequences import drop_sequences, kept_sequences
from tests.study.pictures_out import ball_volumes, disc_pictures

NETWORK = "tests.study.tiny:image_network"


@pytest.mark.parametrize("p", [0.5, 0.2, 0.8])
@pytest.mark.parametrize("have", [(True, True, True), (True, False, True), (False, True, False)])
def test_every_subset_has_its_probability_and_none_is_empty(p, have):
    torch.manual_seed(0)
    kept = kept_sequences(torch.tensor([have]).repeat(6000, 1), p).numpy()
    assert kept.any(1).all()
    assert not kept[:, ~np.array(have)].any()  # what a row lacks never comes back
    m = sum(have)
    subsets = [s for s in itertools.product(*[(False, True) if h else (False,) for h in have]) if any(s)]
    expected = [(1 - p) ** sum(s) * p ** (m - sum(s)) / (1 - p**m) for s in subsets]
    counts = [int((kept == np.array(s)).all(1).sum()) for s in subsets]
    assert sum(expected) == pytest.approx(1)
    assert sum(counts) == 6000
    if len(subsets) > 1:
        assert stats.chisquare(counts, 6000 * np.array(expected)).pvalue > 1e-4


def test_a_dropped_sequence_is_a_zero_channel_and_a_flag():
    torch.manual_seed(0)
    available = torch.tensor([[True, True], [True, False], [False, True]] * 20)
    batch = {
        "available": available,
        "image": torch.rand(60, 4, 5, 5) + 1,
        "covariates": torch.randn(60, 4),
        "id": ["x"] * 60,
    }
    batch["image"] *= available.repeat_interleave(2, 1)[..., None, None]
    before = {key: value.clone() for key, value in batch.items() if torch.is_tensor(value)}
    found = drop_sequences(batch, 0.5, [1, 3])
    kept = found["available"]
    assert (kept.sum(1) < available.sum(1)).any()
    for column in (0, 1):
        there = found["image"][:, 2 * column : 2 * column + 2].flatten(1).any(1)
        torch.testing.assert_close(there, kept[:, column])
        torch.testing.assert_close(found["covariates"][:, 1 + 2 * column], (~kept[:, column]).float())
    torch.testing.assert_close(found["covariates"][:, [0, 2]], before["covariates"][:, [0, 2]])
    for key, value in before.items():
        torch.testing.assert_close(batch[key], value)  # the batch that came in is as it was


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Twenty pictures of two sequences, a quarter of either missing; the second has the discs the other way round."""
    folder = tmp_path_factory.mktemp("two") / "set"
    frame = disc_pictures(folder, 20)
    for name in frame["file"]:
        Image.fromarray(255 - np.asarray(Image.open(folder / "images" / name))).save(folder / f"images/b{name}")
    frame["second"] = ["b" + name for name in frame["file"]]
    frame.loc[frame.index % 4 == 1, "file"] = None
    frame.loc[frame.index % 4 == 2, "second"] = None
    frame.loc[3, "age"] = np.nan
    frame.to_csv(folder / "t.csv", index=False)
    return folder


def settings(folder, **more):
    return {
        "table": str(folder / "t.csv"), "images": str(folder / "images"), "target_folder": str(folder / "masks"),
        "image_column": ["file", "second"], "subject": "patient", "target": "mask", "task": "segmentation",
        "network": NETWORK, "image_size": [20, 24], "channels": 1, "cache": str(folder / "cache"), "folds": 1,
        "test_size": 0.5, "epochs": 2, "batch_size": 4, "controls": 1, "resamples": 100, "availability": True,
        "sequence_dropout": 0.5,
    } | more  # fmt: skip


def test_flags_subsets_and_the_missing_vector(two):
    study = Study(**settings(two, covariates=["age"]))
    rows = study.rows.frame
    assert rows["missing file"].tolist() == [float(n % 4 == 1) for n in range(20)]
    assert rows["sequences"].value_counts().to_dict() == {"file+second": 10, "second": 5, "file": 5}
    data = study.data(parse_arm("hybrid@first"), "holdout")
    names = data.encoder.get_feature_names_out().tolist()
    assert names == ["age", "age_missing", "missing file", "missing second"]
    part = next(p for p, f in data.frames.items() if rows["id"][3] in f["id"].tolist())
    batch = data.batch(part, [rows["id"][3]])
    vector = data.encoder.missing_vector()[:2]
    assert batch["covariates"][0].tolist() == pytest.approx([*vector, 0, 0])
    assert batch["covariates"][0, 1] == 1
    lacks = rows["id"][rows["missing file"] == 1].iloc[0]
    part = next(p for p, f in data.frames.items() if lacks in f["id"].tolist())
    batch = data.batch(part, [lacks])
    assert batch["covariates"][0, 2:].tolist() == [1, 0]
    assert not batch["image"][0, 0].any()
    assert batch["image"][0, 1].any()
    assert batch["available"].tolist() == [[False, True]]


def test_flags_alone_are_covariates_and_all_rows_may_be_complete(two, tmp_path):
    frame = pd.read_csv(two / "t.csv")
    frame["file"] = [f"p{n:02d}.png" for n in range(20)]
    frame["second"] = "b" + frame["file"]
    frame.to_csv(two / "whole.csv", index=False)
    study = Study(**settings(two, table=str(two / "whole.csv")))
    data = study.data(parse_arm("hybrid@first"), "holdout")
    assert data.num_covariates == 2
    assert not data.tables["train"].covariates.any()  # nothing is missing: the ordinary convolution
    assert "sequences" not in study.rows.frame


def test_a_study_with_missing_sequences(two, tmp_path, capsys):
    out = tmp_path / "out"
    Study(**settings(two, covariates=["z"])).compare(["image", "hybrid@first"], out=out, progress=False)
    groups = pd.read_csv(out / "subgroups.csv")
    assert set(groups.loc[groups["covariate"] == "sequences", "group"]) >= {"file", "second", "file+second"}
    controls = pd.read_csv(out / "controls.csv")
    assert set(controls["control"]) == {"permuted", "constant"}
    frame = pd.read_csv(two / "t.csv").drop(columns="mask")
    frame.to_csv(two / "new.csv", index=False)
    code = main(["predict", "--study", str(out), "--arm", "hybrid@first", "--table", str(two / "new.csv"), "--images",
                 str(two / "images"), "--out", str(tmp_path / "a/new.csv")])  # fmt: skip
    assert code == 0
    assert len(pd.read_csv(tmp_path / "a/new.csv")) == 20
    paths = explain_arm(str(out), "hybrid@first", rows=3, difference=["z", 0, 1])
    assert "difference-z.png" in {path.name for path in paths}
    for words, match in (
        (["z", 0], "expected a covariate and two values"), (["age", 0, 1], "expected a covariate of the network"),
        (["z", 0, 7], "7"),
    ):  # fmt: skip
        with pytest.raises(FusionError, match=match):
            explain_arm(str(out), "hybrid@first", rows=3, difference=words)


def test_the_difference_map_is_the_difference_of_two_answers(two, tmp_path):
    """Against the network called by hand, and zero for a covariate that the network does not use."""
    study = Study(**settings(two, covariates=["z", "age"], epochs=1))
    study.compare(["hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    predictor = load_predictor(tmp_path / "out/runs/hybrid-first/holdout/model")
    data = study.data(parse_arm("hybrid@first"), "holdout")
    names = predictor.encoder.get_feature_names_out().tolist()
    with torch.no_grad():
        layer = predictor.network[0]
        layer.covariate_weight[names.index("age")] = 0.0
        layer.covariate_weight[names.index("z")].normal_()
    ids = list(data.tables["test"].ids)[:3]
    assert not difference_maps(predictor, data, ("age", 40, 80), ids).any()
    found = difference_maps(predictor, data, ("z", 0, 1), ids)
    batch = data.batch("test", ids)
    answers = []
    for value in (0.0, 1.0):
        rows = batch["covariates"].clone()
        rows[:, names.index("z")] = value
        with torch.no_grad():
            answers.append(predictor.network(batch["image"], rows).softmax(1)[:, 1:])
    torch.testing.assert_close(found, answers[1] - answers[0])
    assert found.abs().max() > 1e-3


def test_difference_maps_of_volumes_lie_on_the_file(tmp_path):
    import nibabel as nib

    ball_volumes(tmp_path, 6)
    Study(
        table=str(tmp_path / "t.csv"), image_column="scan", target="mask", task="segmentation", covariates=["age"],
        network=NETWORK, dims=3, image_size=[18, 16, 14], epochs=1, batch_size=2, folds=1, test_size=0.5, controls=0,
        resamples=100,
    ).compare(["film@first"], out=tmp_path / "out", progress=False, report=False)  # fmt: skip
    paths = explain_arm(str(tmp_path / "out"), "film@first", rows=1, difference=["age", 50, 70], nifti=True)
    maps = [path for path in paths if path.name.startswith("difference-age-")]
    assert [path.name[:17] for path in maps] == ["difference-age-0-", "difference-age-1-"]  # of both classes
    image = nib.load(maps[0])
    scan = nib.load(tmp_path / f"{maps[0].name.split('-')[-1].removesuffix('.nii.gz')}.nii.gz")
    assert image.shape == scan.shape
    np.testing.assert_allclose(image.affine, scan.affine)


def test_what_needs_several_image_columns_says_so(two):
    for more in ({"availability": True, "sequence_dropout": 0.0}, {"availability": False}):
        with pytest.raises(FusionError, match="expected at least two image columns"):
            Study(**settings(two, image_column=["file"], **more))
    with pytest.raises(FusionError, match=r"a probability from 0 to 0.95, got 1"):
        Study(**settings(two, sequence_dropout=1.0))
    frame = pd.read_csv(two / "t.csv").assign(sequences="x")
    frame.to_csv(two / "taken.csv", index=False)
    with pytest.raises(FusionError, match="got sequences; rename"):
        _ = Study(**settings(two, table=str(two / "taken.csv"))).rows
