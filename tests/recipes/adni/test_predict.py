"""predict: the answers of crossval and of a slow loop over rows, whatever the table's order; what does not match is told."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import fusionconv
from fusionconv.errors import CheckpointError, TableError
from recipes.adni.predict import main
from recipes.adni.trained import encode, open_study, preparation_of
from recipes.common.runs import RunError


def checkpoint(run, arm, fold="repeat0-fold0"):
    return run / "folds" / arm / fold / "checkpoints" / "fold-last.ckpt"


def predict(path, images, out, *more):
    main(["--checkpoint", str(path), "--images", *map(str, [images] if not isinstance(images, list) else images),
          "--out", str(out), "--device", "cpu", *map(str, more)])  # fmt: skip
    return pd.read_csv(out, dtype={"subject": str, "session": str}).set_index("subject")


def written(run, arm, fold="repeat0-fold0"):
    rows = pd.read_csv(run / "folds" / arm / fold / "predictions.csv", dtype={"control": str})
    return rows[rows["control"] == "true"].set_index("subject")


@pytest.mark.parametrize("cached", [False, True])
def test_answers_are_those_of_crossval(kept, tmp_path, cached):
    images, table, run = kept
    mixed = tmp_path / "mixed.csv"
    table.sample(frac=1, random_state=0).to_csv(mixed, index=False)
    more = ["--batch_size", 7, *(["--cache", tmp_path / "cache"] if cached else [])]
    for arm in ("hybrid", "image"):
        found = predict(checkpoint(run, arm), images, tmp_path / f"{arm}.csv", "--table", mixed, *more)
        assert len(found) == 20
        before = written(run, arm)
        assert len(before) == 10
        names = ["p_CN", "p_AD"]
        np.testing.assert_allclose(found.loc[before.index, names], before[names], rtol=0, atol=1e-5)
    assert (tmp_path / "cache").exists() == cached


def test_each_volume_gets_its_own_row(kept, tmp_path):
    """Against one subject at a time through a plain network with that subject's kernels baked in; V is made large."""
    images, table, run = kept
    strong = torch.load(checkpoint(run, "hybrid"), weights_only=True)
    torch.manual_seed(0)
    for name, tensor in strong["state_dict"].items():
        if name.endswith("covariate_weight"):
            tensor.normal_(0, 0.5)
    torch.save(strong, tmp_path / "strong.ckpt")
    mixed = table.sample(frac=1, random_state=1)[["age", "image", "sex", "subject"]]
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    found = predict(tmp_path / "strong.ckpt", images, tmp_path / "out.csv", "--table", tmp_path / "mixed.csv")
    assert found.index.tolist() == mixed["subject"].tolist()
    study = open_study(tmp_path / "strong.ckpt")
    rows = encode(study, table, "the test")
    steps = preparation_of(study).transforms()
    apart = []
    for place, row in table.iterrows():
        volume = steps({"image": str(images / row["image"])})["image"].as_tensor()
        volume = volume.half().float()[None]  # what the cache keeps
        plain = fusionconv.merge(open_study(tmp_path / "strong.ckpt").network, rows[place])
        with torch.no_grad():
            p = plain(volume).softmax(1)[0]
            apart.append(study.network(volume, rows[(place + 1) % 20][None]).softmax(1)[0, 1] - p[1])
        assert found.loc[row["subject"], "p_AD"] == pytest.approx(float(p[1]), abs=1e-5)
    assert np.abs(apart).max() > 0.01  # a neighbour's row would have shown


def test_the_arm_image_needs_no_table(kept, tmp_path):
    images, _, run = kept
    found = predict(checkpoint(run, "image"), images, tmp_path / "out.csv")
    before = written(run, "image")
    np.testing.assert_allclose(found.loc[before.index, "p_AD"], before["p_AD"], rtol=0, atol=1e-5)
    few = [images / "sub-003.nii.gz", images / "sub-001.nii.gz"]
    few = predict(checkpoint(run, "image"), few, tmp_path / "few.csv")
    assert few.index.tolist() == ["sub-003", "sub-001"]


def test_a_table_with_other_names_and_decimal_commas_gives_the_same_answers(kept, tmp_path):
    images, table, run = kept
    german = table.rename(columns={"subject": "Patient", "image": "Datei"})
    german.to_csv(tmp_path / "studie.csv", index=False, sep=";", decimal=",")
    table.to_csv(tmp_path / "study.csv", index=False)
    options = "{subject: Patient, image_column: Datei, decimal: ','}"
    found = predict(
        checkpoint(run, "hybrid"),
        images,
        tmp_path / "a.csv",
        "--table",
        tmp_path / "studie.csv",
        "--table_options",
        options,
    )
    plain = predict(checkpoint(run, "hybrid"), images, tmp_path / "b.csv", "--table", tmp_path / "study.csv")
    np.testing.assert_allclose(found["p_AD"], plain.loc[found.index, "p_AD"], rtol=0, atol=1e-7)


def test_volumes_of_one_name_in_two_folders_keep_apart(kept, tmp_path):
    images, _, run = kept
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(images / f"sub-00{'ab'.index(name)}.nii.gz", tmp_path / "in" / name / "T1.nii.gz")
    found = predict(checkpoint(run, "image"), tmp_path / "in", tmp_path / "out.csv")
    assert [name.split("/")[-2] for name in found.index] == ["a", "b"]


def test_what_does_not_match_is_told_and_left_out(kept, tmp_path, capsys):
    images, table, run = kept
    folder = tmp_path / "images"
    folder.mkdir()
    for name in table["image"][:5]:
        shutil.copy(images / name, folder)
    (folder / "sub-001.nii.gz").write_bytes((images / "sub-001.nii.gz").read_bytes()[:2000])  # cut off
    rows = table.iloc[[0, 1, 2, 3, 7]]  # of 7 there is no image, of the image 4 no row
    rows.to_csv(tmp_path / "t.csv", index=False)
    found = predict(checkpoint(run, "hybrid"), folder, tmp_path / "out.csv", "--table", tmp_path / "t.csv")
    assert found.index.tolist() == ["sub-000", "sub-002", "sub-003"]
    said = capsys.readouterr().out
    for words in (
        "cannot be used", "sub-001.nii.gz", "row without image: sub-007", "image without row", "sub-004.nii.gz",
        "wrote 3 predictions", "1 rows left out",
    ):  # fmt: skip
        assert words in said
    named = [folder / "sub-000.nii.gz", folder / "sub-004.nii.gz"]
    rows.assign(image=[f"images/{name}" for name in rows["image"]]).to_csv(tmp_path / "t.csv", index=False)
    found = predict(checkpoint(run, "hybrid"), named, tmp_path / "two.csv", "--table", tmp_path / "t.csv")
    assert found.index.tolist() == ["sub-000"]
    assert f"image without row: {folder / 'sub-004.nii.gz'}" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [{"age": ""}, {"sex": "other"}, {"sex": "", "age": ""}])
def test_one_bad_row_is_told_with_its_reason_and_the_others_are_predicted(kept, tmp_path, capsys, bad):
    images, table, run = kept
    whole = predict(checkpoint(run, "hybrid"), images, tmp_path / "whole.csv", "--table", images / "table.csv")
    rows = table.astype(object)
    for name, value in bad.items():
        rows.loc[3, name] = value
    rows.to_csv(tmp_path / "t.csv", index=False)
    found = predict(
        checkpoint(run, "hybrid"), images, tmp_path / "out.csv", "--table", tmp_path / "t.csv", "--batch_size", 7
    )
    said = capsys.readouterr().out
    assert "left out, the covariates of sub-003 cannot be used" in said
    assert all(f"{name}: expected" in said for name in bad)
    assert "wrote 19 predictions" in said
    assert found.index.tolist() == [name for name in whole.index if name != "sub-003"]
    np.testing.assert_allclose(found["p_AD"], whole.loc[found.index, "p_AD"], rtol=0, atol=1e-6)
    rows.loc[:, list(bad)] = rows.loc[3, list(bad)].to_numpy()
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(RunError, match="no row can be used"):
        predict(checkpoint(run, "hybrid"), images, tmp_path / "none.csv", "--table", tmp_path / "t.csv")


def test_refusals(kept, tmp_path):
    images, table, run = kept
    out = tmp_path / "out.csv"
    with pytest.raises(TableError, match="give --table with the columns subject, image, age, sex"):
        predict(checkpoint(run, "hybrid"), images, out)
    table.drop(columns="age").to_csv(tmp_path / "no-age.csv", index=False)
    with pytest.raises(TableError, match="age"):
        predict(checkpoint(run, "hybrid"), images, out, "--table", tmp_path / "no-age.csv")
    table.rename(columns={"subject": "id"}).to_csv(tmp_path / "no-id.csv", index=False)
    with pytest.raises(TableError, match="subject is not among id, session"):
        predict(checkpoint(run, "hybrid"), images, out, "--table", tmp_path / "no-id.csv")
    with pytest.raises(TableError, match="no such file or folder"):
        predict(checkpoint(run, "image"), tmp_path / "nowhere", out)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        predict(tmp_path / "none.ckpt", images, out)
    out.write_text("mine")
    with pytest.raises(RunError, match="--overwrite"):
        predict(checkpoint(run, "image"), images, out)
    assert out.read_text() == "mine"
    broken = torch.load(checkpoint(run, "image"), weights_only=True)
    broken["state_dict"]["network.fc.weight"].fill_(float("nan"))
    torch.save(broken, tmp_path / "broken.ckpt")
    with pytest.raises(RunError, match="not a number"):
        predict(tmp_path / "broken.ckpt", images, out, "--overwrite")
    del broken["state_dict"]["network.fc.weight"]
    torch.save(broken, tmp_path / "broken.ckpt")
    with pytest.raises(CheckpointError, match=r"fc\.weight"):
        predict(tmp_path / "broken.ckpt", images, out, "--overwrite")
