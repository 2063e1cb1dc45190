"""Studies on real images: their tables, the filter that knows all, what is kept, and that each figure can be made again."""

import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from benchmarks.real import blurred, crops, questions, scores
from benchmarks.real.names import name_of
from fusionconv.errors import EvaluationError
from fusionconv.evaluation import delong
from fusionconv.study import Study
from fusionconv.study.arms import parse_arm
from fusionconv.study.command_line import parse
from fusionconv.study.demo import write_images

REAL = Path(blurred.__file__).parent


@pytest.mark.parametrize("path", sorted(REAL.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_can_be_read(path):
    given = parse("compare", ["--config", str(path), "--table", "t.csv", "--out", "o"])
    arms = [parse_arm(arm).name for arm in given.own["arms"]]
    assert arms[0] == "image"
    assert len(arms) == len(set(arms)) > 5


def test_blur_is_a_convolution_with_the_gaussian():
    """Against scipy's filter in space: along the axes, and a turn by 90 degrees exchanges them."""
    clean = np.zeros((40, 48))
    clean[15:25, 18:30] = np.arange(120).reshape(10, 12) / 120
    for angle, sigma in ((0.0, (1.5, 2.5)), (math.pi / 2, (2.5, 1.5))):
        made = blurred.degrade(clean, blurred.transfer(clean.shape, 2.5, 1.5, angle), 0.0, np.random.default_rng(0))
        np.testing.assert_allclose(made, ndimage.gaussian_filter(clean, sigma, mode="wrap", truncate=8), atol=1e-4)


def test_no_linear_filter_is_better_than_wieners():
    """On images drawn with the spectrum that it is told: the error is the formula's, and other gains are worse."""
    draw, side = np.random.default_rng(0), 32
    blur = blurred.transfer((side, side), 1.5, 0.5, 0.4)
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    power = side**2 / (0.05 + y**2 + x**2)  # of fft2
    noise, errors = 0.3, {gain: [] for gain in (0.8, 1.0, 1.25)}
    for _ in range(60):
        clean = 2 + np.fft.ifft2(np.fft.fft2(draw.normal(size=(side, side))) * np.sqrt(power / side**2)).real
        image = blurred.degrade(clean, blur, noise, draw)
        for gain, found in errors.items():
            found.append(((blurred.wiener(image, blur, noise * gain, power, 2.0) - clean) ** 2).mean())
    expected = (power * noise**2 / (blur**2 * power + noise**2 * side**2)).sum() / side**2
    means = {gain: np.mean(found) for gain, found in errors.items()}
    assert means[1.0] == pytest.approx(expected, rel=0.03)
    assert means[1.0] < min(means[0.8], means[1.25])


def test_slices_are_written_with_what_was_done_to_them(tmp_path):
    draw = np.random.default_rng(0)
    people = [f"OAS1_{n:04d}" for n in range(10)]
    for person in people:
        values = ndimage.gaussian_filter(draw.uniform(0, 1000, (91, 109, 60)), 2) * np.ones((1, 1, 60))
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1])), tmp_path / f"{person}.nii")
    rows = [{"ID": f"{p}_MR1", "file": f"{p}.nii"} for p in people] + [{"ID": f"{people[0]}_MR2", "file": "x.nii"}]
    pd.DataFrame(rows).to_csv(tmp_path / "study.csv", index=False)
    blurred.main(["--table", str(tmp_path / "study.csv"), "--volumes", str(tmp_path), "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out/table.csv")
    assert (table.groupby("person")["split"].nunique() == 1).all()
    assert table["split"].value_counts().to_dict() == {"train": 12, "val": 4, "test": 8}  # two slices; test: two blurs
    assert (table.loc[table["blur"] == "unseen", "width_1"] >= 2.5).all()
    assert (table["psnr_wiener"] > table["psnr_degraded"]).all()
    row = table.iloc[0]
    images = [np.asarray(Image.open(tmp_path / "out/images" / row[kind])) for kind in ("degraded", "clean")]
    assert [(i.shape, i.dtype) for i in images] == [((64, 64), np.dtype(np.float32))] * 2
    assert 10 * math.log10(1 / ((images[0] - images[1]) ** 2).mean()) == pytest.approx(row["psnr_degraded"], abs=1e-4)
    along, widths = row["width_1"] ** 2 - row["width_2"] ** 2, row["width_1"] * row["width_2"]
    assert [row["along_cos"], row["widths"]] == pytest.approx([along * row["cos"], widths])


@pytest.mark.parametrize("off", [0, 10])
def test_crops_are_of_the_same_place_and_their_noise_is_told(tmp_path, capsys, off):
    (tmp_path / "pairs").mkdir()
    image = np.zeros((512, 512, 3), np.uint8)
    image[64:128, 160:224] = (200, 100, 50)
    for kind, more in (("real", off), ("mean", 0)):
        Image.fromarray(image + np.uint8(more)).save(tmp_path / "pairs" / f"a_{kind}.JPG", quality=95)
    pd.DataFrame([{"name": "a", "camera": "C", "iso": 800, "scene": "C-800-a"}]).to_csv(tmp_path / "p.csv", index=False)
    with np.errstate(divide="ignore"):  # without noise the PSNR is infinite
        crops.main(
            ["--table", str(tmp_path / "p.csv"), "--pairs", str(tmp_path / "pairs"), "--out", str(tmp_path / "o")]
        )
    table = pd.read_csv(tmp_path / "o/table.csv")
    means = [
        [np.asarray(Image.open(tmp_path / "o/images" / f)).mean() for f in table[kind]] for kind in ("noisy", "clean")
    ]
    if off:
        np.testing.assert_allclose(means[0], np.add(means[1], off), atol=0.5)
        assert f"PSNR of the noisy ones {20 * math.log10(255 / off):.1f} dB" in capsys.readouterr().out
    else:
        assert means[0] == means[1]
    assert np.argmax(means[0]) == 1
    assert table["log2_iso"].tolist() == pytest.approx([math.log2(800)] * 8)


def celeba(folder, count=60):
    """Photographs of two questions that can be answered: is the picture bright, is it red?"""
    draw, root = np.random.default_rng(0), folder / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06d}.jpg" for n in range(1, count + 1)]
    answers = draw.integers(0, 2, (count, 2))
    for name, (bright, red) in zip(names, answers, strict=True):
        pixels = np.full((109, 89, 3), 60 + 100 * bright, np.uint8)
        pixels[..., 0] += 60 * red.astype(np.uint8)
        Image.fromarray(pixels).save(root / "img_align_celeba" / name)
    lines = [f"{n} " + " ".join("1" if v else "-1" for v in row) for n, row in zip(names, answers, strict=True)]
    (root / "list_attr_celeba.txt").write_text(f"{count}\nBright Red\n" + "\n".join(lines) + "\n")
    part = [0] * (count - 20) + [1] * 8 + [2] * 12
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, part, strict=True)))
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {i // 2}\n" for i, n in enumerate(names)))
    return answers, np.array(part)


def test_questions_are_asked_and_judged(tmp_path, monkeypatch):
    answers, part = celeba(tmp_path)
    monkeypatch.setattr(questions, "BATCH", 16)
    monkeypatch.setattr(questions, "SEEDS", (0, 1))
    monkeypatch.setattr(questions, "RATES", (3e-3, 1e-2))
    words = ["--celeba", str(tmp_path), "--out", str(tmp_path / "o"), "--widths", "4", "--steps", "60", "--only",
             "^image|FiLM, all|hybrid, first|forty"]  # fmt: skip
    questions.main(words)
    table = pd.read_csv(tmp_path / "o/levels.csv").set_index("arm")
    frequent = answers[part == 0].mean(0) > 0.5
    assert table.loc["the more frequent answer", "accuracy"] == pytest.approx((answers[part == 2] == frequent).mean())
    assert table.loc["hybrid, first", "accuracy"] > 0.9
    assert table.loc["image", "accuracy"] < 0.9  # it cannot know what is asked
    kept = pd.read_csv(tmp_path / "o/correct.csv.gz")
    assert kept["hybrid, first 4"].mean() / 2 == pytest.approx(table.loc["hybrid, first", "accuracy"], abs=1e-3)
    shown = questions.compared(tmp_path / "o", "image", resamples=400).set_index("arm")
    assert shown["accuracy"].tolist() == pytest.approx(100 * table.loc[shown.index, "accuracy"], abs=0.01)
    gap = (kept["hybrid, first 4"] - kept["image 4"]) / 2
    assert shown.loc["hybrid, first", "minus"] == pytest.approx(100 * gap.mean(), abs=0.01)
    spread = gap.groupby(kept["person"]).mean().std() / 6**0.5  # six people of two images each
    assert shown.loc["hybrid, first", "high"] - shown.loc["hybrid, first", "low"] == pytest.approx(
        100 * 2 * 1.96 * spread, rel=0.35
    )
    assert len(kept) == 12
    assert kept["person"].nunique() == 6
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "o").glob("*.npz")}
    questions.main(words)  # what is finished is not done again
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_the_answer_to_a_question_is_that_questions_output(tmp_path, monkeypatch):
    """40 answers at once are the answers to each question asked alone."""
    celeba(tmp_path)
    monkeypatch.setattr(questions, "BATCH", 16)
    data = questions.read(tmp_path)
    model = questions.train(data, "hybrid, first", 4, 1e-2, 0, 3)
    rows = np.arange(5)
    every = questions.answer(data, model, "hybrid, first", rows)
    with torch.no_grad():
        for q in range(2):
            alone = model(data.batch(rows), torch.eye(2)[[q]].expand(5, -1))
            np.testing.assert_allclose(every[:, q], alone[:, 0].double().numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    table = pd.read_csv(write_images(folder / "images", dims=2, subjects=40, seed=0))
    table["y"] = table["age"] + 12.0 * (np.arange(len(table)) % 3)
    table["split"] = ["train"] * 24 + ["val"] * 6 + ["test"] * 10
    table.to_csv(folder / "t.csv", index=False)
    common = {"table": folder / "t.csv", "images": folder / "images", "image_column": "file", "subject": "patient",
              "target": "y", "task": "regression", "covariates": ["age"], "network": "fusionconv:small_cnn",
              "network_options": {"channels": [4]}, "image_size": 16, "channels": 1}  # fmt: skip
    options = {"epochs": 1, "resamples": 300, "progress": False}
    Study(**common).compare(["image", "covariates", "hybrid@first"], folds=2, repeats=2, out=folder / "cv", **options)
    for seed in (0, 1):
        Study(**common, split_column="split", seed=seed).compare(
            ["image", "covariates"], out=folder / f"seed{seed}", **options
        )
    return folder


def test_kept_scores_give_the_studys_own_figures_again(studies, tmp_path):
    scores.keep("x", [studies / "cv"], folder=tmp_path)
    kept, about = scores.read("x", tmp_path)
    table = scores.table(kept, about, resamples=300).set_index("arm")
    results = pd.read_csv(studies / "cv/results.csv").query("metric == 'mae'").set_index("arm")
    for arm in ("image", "covariates", "hybrid-first"):
        assert table.loc[arm, ["mean", "low", "high"]].tolist() == pytest.approx(
            results.loc[arm, ["mean", "low", "high"]].tolist(), abs=2e-3
        )
    theirs = pd.read_csv(studies / "cv/comparisons.csv").query("metric == 'mae'").set_index(["arm", "test"])
    for arm in ("covariates", "hybrid-first"):
        own = theirs.loc[arm]
        assert table.loc[arm, "p_folds"] == pytest.approx(own.loc["corrected t-test", "p_holm"], abs=2e-3)
        by_subject = own.loc["bootstrap by subject"]
        assert table.loc[arm, "difference"] == pytest.approx(by_subject["difference"], abs=2e-3)
        width = by_subject["high"] - by_subject["low"]  # subjects are drawn in another order
        assert table.loc[arm, ["d_low", "d_high"]].tolist() == pytest.approx(
            by_subject[["low", "high"]].tolist(), abs=0.25 * width
        )
    assert set(kept) == {"fold", "subject", "row", "image", "covariates", "hybrid-first"}
    assert "table" not in json.dumps(about["settings"])


def test_pseudo_values_have_the_mean_and_the_error_of_the_area():
    """Against scikit-learn's AUC, and DeLong's test of two arms on the same rows."""
    draw = np.random.default_rng(0)
    target = draw.integers(0, 4, 300) == 0
    answers = {arm: draw.normal(size=300) + target for arm in ("a", "b")}
    found = {
        arm: scores._pseudo_values(pd.DataFrame({"target": target, "probability": s})) for arm, s in answers.items()
    }
    assert [v.mean() for v in found.values()] == pytest.approx([roc_auc_score(target, s) for s in answers.values()])
    difference = found["a"] - found["b"]
    told = delong(target, answers["a"], answers["b"])
    z = difference.mean() / (difference.std(ddof=1) / 300**0.5)
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(told.p_value, rel=0.02)


@pytest.mark.parametrize(("score", "metric"), [("auc", "auc"), ("accuracy", "accuracy")])
def test_scores_of_a_classification_are_the_studys_metrics(studies, tmp_path, score, metric):
    common = {"table": studies / "t.csv", "images": studies / "images", "image_column": "file", "subject": "patient",
              "target": "disease", "covariates": ["age"], "network": "fusionconv:small_cnn", "channels": 1,
              "network_options": {"channels": [4]}, "image_size": 16}  # fmt: skip
    out = tmp_path / "out"
    Study(**common).compare(
        ["image", "covariates"], folds=2, repeats=2, epochs=1, resamples=300, progress=False, out=out
    )
    scores.keep("x", [out], score=score, folder=tmp_path)
    kept, about = scores.read("x", tmp_path)
    runs, results = (
        pd.read_csv(out / "predictions.csv"),
        pd.read_csv(out / "results.csv").query(f"metric == '{metric}'"),
    )
    for arm, mean in results.set_index("arm")["mean"].items():
        assert kept.groupby("fold")[arm].mean().mean() == pytest.approx(mean, abs=1e-4)
    if score == "auc":
        part = runs.query("arm == 'covariates' and control.str.startswith('permuted')").groupby(["control", "fold"])
        expected = np.mean([roc_auc_score(rows["target"], rows["probability"]) for _, rows in part])
        assert about["controls"]["covariates, permuted"] == pytest.approx(expected, abs=1e-4)


def test_seeds_on_one_split_are_no_folds(studies, tmp_path):
    scores.keep("x", [studies / "seed0", studies / "seed1"], folder=tmp_path)
    kept, about = scores.read("x", tmp_path)
    table = scores.table(kept, about, resamples=300).set_index("arm")
    assert "p_folds" not in table
    means = [pd.read_csv(studies / f"seed{n}/results.csv").query("metric == 'mae' and arm == 'image'")["mean"].item()
             for n in (0, 1)]  # fmt: skip
    assert table.loc["image", ["mean", "least", "most"]].tolist() == pytest.approx(
        [np.mean(means), min(means), max(means)], abs=2e-3
    )


def test_arms_that_are_run_later_join_those_that_are_kept(studies, tmp_path):
    """As if all had been kept at once; and nothing joins what has other rows, or the arm already."""
    scores.keep("once", [studies / "cv"], folder=tmp_path)
    once, told = scores.read("once", tmp_path)
    rows, arms = ["fold", "subject", "row"], ["image", "covariates", "hybrid-first"]
    first = told | {
        "controls": {k: v for k, v in told["controls"].items() if "hybrid" not in k},
        "arms": told["arms"][:2],
    }
    (tmp_path / "twice.json").write_text(json.dumps(first))
    once[[*rows, *arms[:2]]].to_csv(tmp_path / "twice.csv.gz", index=False)
    later = tmp_path / "later"
    shutil.copytree(studies / "cv", later)
    predictions = pd.read_csv(later / "predictions.csv")
    predictions[predictions["arm"] == "hybrid-first"].to_csv(later / "predictions.csv", index=False)
    said = yaml.safe_load((later / "study.yaml").read_text())
    (later / "study.yaml").write_text(yaml.safe_dump(said | {"arms": said["arms"][2:]}))
    scores.keep("twice", [later], folder=tmp_path, add=True)
    twice, joined = scores.read("twice", tmp_path)
    pd.testing.assert_frame_equal(twice, once)
    assert {k: joined[k] for k in ("controls", "arms", "settings", "reference")} == {
        k: told[k] for k in ("controls", "arms", "settings", "reference")
    }
    assert [part["arms"] for part in joined["added"]] == [["hybrid-first"]]
    with pytest.raises(ValueError, match="expected arms that are not kept yet, got hybrid-first"):
        scores.keep("twice", [later], folder=tmp_path, add=True)
    with pytest.raises(ValueError, match="expected the rows and folds that are kept"):
        scores.keep("twice", [studies / "seed0"], folder=tmp_path, add=True)


def test_logarithms_are_judged_in_the_units_of_the_target(studies, tmp_path):
    scores.keep("x", [studies / "cv"], exp=True, folder=tmp_path)
    kept, _ = scores.read("x", tmp_path)
    told = pd.read_csv(studies / "cv/predictions.csv").query("control == 'true' and arm == 'covariates'")
    expected = (np.exp(told["prediction"]) - np.exp(told["target"])).abs().mean()
    assert kept["covariates"].mean() == pytest.approx(expected, rel=1e-3)


def resampled(values, subjects):
    """The 95 % interval of the mean by an own bootstrap of subjects, each with all its rows."""
    sums = values.groupby(subjects).agg(["sum", "count"]).to_numpy()
    draw = np.random.default_rng(1).integers(0, len(sums), (4000, len(sums)))
    return np.quantile(sums[draw, 0].sum(1) / sums[draw, 1].sum(1), [0.025, 0.975])


@pytest.mark.parametrize("path", sorted(scores.FOLDER.glob("*.csv.gz")), ids=lambda p: p.name.split(".")[0])
def test_a_pages_interval_comes_out_of_the_kept_scores(path):
    """The difference to the reference by an own bootstrap of subjects, on the row that the page prints."""
    name = path.name.split(".")[0]
    kept, about = scores.read(name)
    arm = kept.columns[-1]
    table = scores.table(kept, about).set_index("arm")
    difference = kept[arm] - kept[about["reference"]]
    spread = table.loc[arm, "d_high"] - table.loc[arm, "d_low"]
    assert table.loc[arm, "difference"] == pytest.approx(difference.mean(), abs=1e-9)
    assert table.loc[arm, ["d_low", "d_high"]].tolist() == pytest.approx(
        resampled(difference, kept["subject"]), abs=0.15 * spread
    )
    if not about["seeds_on_one_split"]:
        found = {}
        for name in kept.columns[3:].drop(about["reference"]):
            d = (kept[name] - kept[about["reference"]]).groupby(kept["fold"]).mean()
            t = d.mean() / math.sqrt((1 / len(d) + about["test"] / about["train"]) * d.var(ddof=1))
            found[name] = 2 * stats.t.sf(abs(t), len(d) - 1)
        steps = [p * (len(found) - n) for n, p in enumerate(sorted(found.values()))]  # Holm, written out
        holm = dict(zip(sorted(found, key=found.__getitem__), np.minimum(1, np.maximum.accumulate(steps)), strict=True))
        assert table.loc[list(holm), "p_folds"].tolist() == pytest.approx(list(holm.values()), rel=1e-6)


PAGES = {"hc18": "hc18", "hc18-log": "hc18", "hc18-large": "hc18", "blurred-seen": "known-blur", "polyu": "camera-noise",
         "elpv": "solar-cells", "oasis1": "oasis1-study", "oasis1-age": "brain-age"}  # fmt: skip


@pytest.mark.parametrize(("name", "page"), PAGES.items())
def test_a_page_calls_its_arms_by_what_they_were(name, page):
    """Concat is in front of a hidden layer only where the study's networks had one."""
    kept, about = scores.read(name)
    text = (REAL.parents[1] / "docs/results" / f"{page}.md").read_text()
    for arm in kept.columns[3:]:
        assert f"| {name_of(arm, about['settings']['head'])} | " in text
    if about["settings"]["head"] == "linear":
        assert "hidden layer |" not in text


@pytest.mark.parametrize(("folder", "width"), [("questions", 16), ("questions-long", 4)])
def test_the_page_on_forty_questions_comes_out_of_the_kept_counts(folder, width):
    folder = scores.FOLDER / folder
    table = questions.compared(folder, "hybrid, head").set_index(["width", "arm"])
    correct = pd.read_csv(folder / "correct.csv.gz")
    levels = pd.read_csv(folder / "levels.csv").set_index(["width", "arm"])
    for (width, arm), row in levels.iterrows():
        assert correct[f"{arm} {width}"].mean() / 40 == pytest.approx(row["accuracy"], abs=1e-4)
    gap = (correct[f"concat MLP {width}"] - correct[f"hybrid, head {width}"]) / 40
    row = table.loc[width, "concat MLP"]
    assert row["minus"] == pytest.approx(100 * gap.mean(), abs=0.006)
    assert row[["low", "high"]].tolist() == pytest.approx(100 * resampled(gap, correct["person"]), abs=0.05)


def test_the_ceiling_is_of_one_width_and_other_widths_are_shown_without_it():
    folder = scores.FOLDER / "questions"
    table = questions.compared(folder, "separate", resamples=200).set_index(["width", "arm"])
    gaps = table.loc[4, "minus"].drop("separate")
    assert (gaps < 0).all()
    assert table.loc[16, "minus"].isna().all()
    with pytest.raises(EvaluationError, match=r"reference: expected one of image, concat linear.*got 'seperate'"):
        questions.compared(folder, "seperate")


def test_the_page_on_celeba_comes_out_of_the_kept_answers():
    kept = pd.read_csv(scores.FOLDER / "celeba/right-corrected.csv.gz")
    assert len(kept) == 980
    assert kept["person"].nunique() == 544
    text = (REAL.parents[1] / "docs/results/celeba.md").read_text()
    plain = kept["plain-lr1e-5-b32"] / 3
    assert f"| {100 * plain.mean():.2f} (71.53 to 74.59) |" in text
    for row, said in (("trio-conv3", "+3.44 [1.68, 5.27]"), ("trio-last", "+1.63 [0.51, 2.85]")):
        gap = kept[f"{row}-lr1e-5-b32"] / 3 - plain
        assert f"| {said} |" in text
        mean, ends = said.split(" ", 1)
        assert 100 * gap.mean() == pytest.approx(float(mean), abs=0.006)
        low, high = map(float, ends.strip("[]").split(","))
        assert 100 * resampled(gap, kept["person"]) == pytest.approx([low, high], abs=0.25)
