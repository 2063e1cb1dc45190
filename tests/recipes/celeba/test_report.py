"""The report, from run folders that the test writes: its numbers by hand and by their formulas, the page, the refusals."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from fusionconv.tabular import read_celeba_attributes
from recipes.celeba.compare import accuracy_by_group, load_runs, mcnemar, wilson_interval
from recipes.celeba.report import write_report
from recipes.celeba.synthetic import write_celeba
from recipes.common.runs import RunError
from tests.helpers.pages import Page

TEST = 16  # images 000025.jpg ... 000040.jpg


def fake_run(root, data, arm, predictions, targets, files, **changes):
    """A run folder as the recipe leaves it, with the predictions given."""
    folder = root / arm
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"model": {"lr": 2e-4, "weights": "none"}, "data": {"root": str(data), "image_size": 32}})
    )
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,train/accuracy,val/loss,val/accuracy,val/f1_macro,val/auroc\n"
        "0,4,0.7,0.5,,,,\n0,8,0.6,0.6,0.5,0.7,0.69,0.8\n1,16,0.4,0.8,0.3,0.9,0.89,0.95\n"
    )
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    confusion = [[int(((targets == t) & (predictions == p)).sum()) for p in (0, 1)] for t in (0, 1)]
    result = {
        "experiment": arm, "arm": arm, "mode": "corrected", "split": "test", "target": "Attractive",
        "covariates": ["Male"], "layer_idx": 0, "num_images": len(files), "skipped": [], "majority_accuracy": 0.5,
        "metrics": {"loss": 0.5, "accuracy": float((predictions == targets).mean()), "f1_macro": 0.61, "auroc": None},
        "confusion": confusion, "seconds": 12.3, "epochs": 2, "steps": 16, "seed": 0,
        "versions": {"python": "3.11", "torch": "2.15"}, "hardware": "CPU <of a test>, 2 cores",
    }  # fmt: skip
    (folder / "results-test.json").write_text(json.dumps(result | changes))
    probability = np.where(predictions == 1, 0.9, 0.2)
    table = pd.DataFrame({"file": files, "probability": probability, "prediction": predictions, "target": targets})
    table.sample(frac=1, random_state=len(arm)).to_csv(folder / "predictions-test.csv", index=False)  # in any order
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs on 16 images: plain answers Smiling (12 right), hybrid errs on the first image only (15 right)."""
    root = tmp_path_factory.mktemp("report")
    folder = write_celeba(root / "data", train=16, valid=8, test=TEST)
    rows = read_celeba_attributes(folder / "list_attr_celeba.txt").iloc[-TEST:]
    target = rows["Attractive"].to_numpy()
    hybrid = target.copy()
    hybrid[0] = 1 - hybrid[0]
    files = rows.index.tolist()
    runs = [
        fake_run(root / "runs", root / "data", "plain", rows["Smiling"], target, files),
        fake_run(root / "runs", root / "data", "hybrid", hybrid, target, files),
    ]
    return root, runs, rows


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (81, 263), (397, 400), (1, 2)])
def test_wilson_interval_by_its_formula(right, total):
    """Centre (p + z^2/2n) / (1 + z^2/n), half width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n)."""
    p, z = right / total, 1.959963984540054
    shrink = 1 + z**2 / total
    centre = (p + z**2 / (2 * total)) / shrink
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / shrink
    assert wilson_interval(right, total) == pytest.approx((centre - half, centre + half), abs=1e-12)


def exact_p(a, b):
    """Twice the smaller tail of Binomial(a + b, 1/2), at most 1."""
    return min(1.0, 2 * sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b))


def test_mcnemar_by_hand(made):
    _, folders, rows = made
    plain, hybrid = load_runs(folders)
    paired = mcnemar(plain, hybrid)
    wrong_plain = set(rows.index[rows["Smiling"] != rows["Attractive"]])
    assert len(wrong_plain) == 4
    first = rows.index[0]
    both_wrong = int(first in wrong_plain)
    assert (paired.neither, paired.only_first, paired.only_second) == (both_wrong, 1 - both_wrong, 4 - both_wrong)
    assert paired.both + paired.only_first + paired.only_second + paired.neither == TEST
    assert paired.p_value == pytest.approx(exact_p(paired.only_first, paired.only_second))
    assert mcnemar(plain, plain).p_value == 1.0  # nothing to tell them apart


@pytest.mark.parametrize(("a", "b"), [(0, 100), (3, 97), (40, 60), (7, 7)])
def test_mcnemar_p_value_by_its_formula(made, tmp_path, a, b):
    files = [f"{i:06d}.jpg" for i in range(a + b + 5)]
    target = np.ones(len(files), int)
    first, second = target.copy(), target.copy()
    first[:b] = 0  # only the second is right on b images
    second[b : b + a] = 0
    folders = [
        fake_run(tmp_path, made[0], name, p, target, files) for name, p in (("plain", first), ("hybrid", second))
    ]
    paired = mcnemar(*load_runs(folders))
    assert (paired.only_first, paired.only_second, paired.both) == (a, b, 5)
    assert paired.p_value == pytest.approx(exact_p(a, b), rel=1e-9)


def test_accuracy_by_group_against_pandas(made):
    _, folders, rows = made
    table = accuracy_by_group(load_runs(folders), rows["Male"]).set_index(["run", "group"])
    for male in (0, 1):
        part = rows[rows["Male"] == male]
        assert table.loc[("plain", str(male)), "accuracy"] == (part["Smiling"] == part["Attractive"]).mean()
        assert table.loc[("plain", str(male)), "images"] == len(part)


def test_the_page_needs_nothing_but_itself(made, tmp_path):
    root, folders, _ = made
    out = tmp_path / "deep" / "report.html"
    text = write_report(folders, out, "A <title>", synthetic_note="SYNTHETIC & drawn", why="<p>Because.</p>",
                        bayes_rates={"image alone": 0.75}, shown_attributes=["Smiling"])  # fmt: skip
    html = out.read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.open == []
    assert len(page.addresses) > 7
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import|<script", html)
    expected = ("A &lt;title&gt;", "SYNTHETIC &amp; drawn", "CPU &lt;of a test&gt;", "75.0%", "93.8%", "50.00%",
                "0.6100", "not defined", "<p>Because.</p>", "0.0002", "Only hybrid right")  # fmt: skip
    assert [words for words in expected if words not in html] == []
    assert [words for words in ("75.0%", "93.8%", "p = ") if words not in text] == []
    figures = {path.name for path in (out.parent / "figures").iterdir()}
    assert figures == {
        "accuracy.png", "learning-accuracy.png", "learning-loss.png", "confusion-plain.png", "confusion-hybrid.png",
        "groups-1.png", "examples.png",
    }  # fmt: skip
    for name in figures:
        with Image.open(out.parent / "figures" / name) as image:
            assert min(image.size) > 300
    assert str(root) not in text


def test_covariates_only_baseline_is_learned_on_train_and_judged_on_test(made, tmp_path):
    """By hand: the majority answer for each value of Male among the training rows, on the test rows."""
    root, folders, rows = made
    train = read_celeba_attributes(root / "data" / "celeba" / "list_attr_celeba.txt").iloc[:16]
    answer = {male: int(train[train["Male"] == male]["Attractive"].mean() > 0.5) for male in (0, 1)}
    expected = (rows["Male"].map(answer) == rows["Attractive"]).mean()
    assert f"covariates alone {expected:.1%}" in write_report(folders, tmp_path / "r.html", "t")


def test_runs_that_cannot_be_compared_are_refused(made, tmp_path):
    root, folders, rows = made
    files, target = rows.index.tolist(), rows["Attractive"].to_numpy()
    with pytest.raises(RunError, match="at least two"):
        load_runs(folders[:1])
    with pytest.raises(RunError, match="names of their own"):
        load_runs([folders[0], folders[0]])
    other = fake_run(tmp_path / "a", root, "hybrid", target, target, files, target="Smiling")
    with pytest.raises(RunError, match="'Smiling'"):
        load_runs([folders[0], other])
    other = fake_run(tmp_path / "b", root, "hybrid", target[1:], target[1:], files[1:])
    with pytest.raises(RunError, match=f"different images .*{files[0]}"):
        load_runs([folders[0], other])
    (other / "results-test.json").unlink()
    with pytest.raises(RunError, match=r"lacks results-test\.json.*Run `fit`, then `test`"):
        load_runs([folders[0], other])
    with pytest.raises(RunError, match="`validate`"):
        load_runs(folders, split="valid")
    assert not (tmp_path / "r.html").exists()
