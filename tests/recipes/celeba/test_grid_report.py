"""The report of the grid, from run folders that the test writes: every figure by a formula written out here, no training."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import image as reading
from scipy import stats

from fusionconv.errors import TableError
from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.grid.report.command import main, write_report
from recipes.celeba.grid.report.covariates import control_accuracies, covariate_effect, gain_split
from recipes.celeba.grid.report.differences import compare, compare_all, paired_t
from recipes.celeba.grid.report.folder import read_grid
from recipes.celeba.grid.report.groups import gap_changes, subgroups
from recipes.celeba.grid.report.kernels import tiles
from recipes.celeba.grid.report.tables import control_table
from recipes.celeba.grid.rows import ROWS
from recipes.common.runs import RunError

PLAIN, MALE, TRIO = "plain-lr1e-5-b32", "male-conv1-lr1e-5-b32", "trio-last-lr1e-5-b32"
N = 200
FILES = {"valid": [f"{i:06d}.jpg" for i in range(1, N + 1)], "test": [f"{i:06d}.jpg" for i in range(N + 1, 2 * N + 1)]}
rng = np.random.default_rng(0)
TABLE = pd.DataFrame(
    rng.integers(0, 2, (2 * N, 40)), columns=list(CELEBA_ATTRIBUTES), index=FILES["valid"] + FILES["test"]
)
TARGET = {split: TABLE.loc[files, "Attractive"].to_numpy() for split, files in FILES.items()}


def wrong(share, seed, split="test"):
    """Probabilities that are wrong on exactly this share of the images, drawn by the seed."""
    miss = np.zeros(N, bool)
    miss[np.random.default_rng(seed).permutation(N)[: round(share * N)]] = True
    answer = np.where(miss, 1 - TARGET[split], TARGET[split])
    return np.where(answer == 1, 0.9, 0.2)


def fake_run(root, row, mode="corrected", seed=0, test=None, valid=None, controls=None, data_root="absent", **result):
    """A finished run as `reproduce` leaves it; probabilities of class 1 for each split, and of each control."""
    folder = root / f"{row}__{mode}__seed{seed}"
    folder.mkdir(parents=True)
    r = ROWS[row]
    given = {"valid": wrong(0.2, 99, "valid") if valid is None else valid}
    if mode == "corrected":
        given["test"] = wrong(0.2, 98) if test is None else test
    config = {
        "model": {"arm": r.arm, "mode": mode, "lr": r.lr, "weights": "/somewhere/vgg16.pt", "classifier_width": 512},
        "data": {"batch_size": r.batch_size, "image_size": 64, "target": "Attractive", "root": str(data_root)},
        "trainer": {"max_epochs": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "result.json").write_text(
        json.dumps({"row": row, "mode": mode, "seed": seed, "commit": "abc", "images_per_second": 20.0, **result})
    )
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,train/accuracy,val/loss,val/accuracy,val/f1_macro,val/auroc\n"
        "0,50,0.7,0.5,,,,\n0,250,0.5,0.7,0.55,0.75,0.74,0.8\n"
    )
    for split, probability in given.items():
        prediction = (probability > 0.5).astype(int)
        columns = {"file": FILES[split], "probability": probability, "prediction": prediction, "target": TARGET[split]}
        shuffled = pd.DataFrame(columns).sample(frac=1, random_state=seed)  # in any order
        shuffled.to_csv(folder / f"predictions-{split}.csv", index=False)
        judged = {
            "metrics": {"accuracy": float((prediction == TARGET[split]).mean())}, "versions": {"torch": "2.15"},
            "hardware": "CPU of a test", "steps": 250, "seconds": 400.0, "epochs": 1, "seed": seed,
        }  # fmt: skip
        (folder / f"results-{split}.json").write_text(json.dumps(judged))
    if controls is not None:
        table = pd.DataFrame({"file": FILES["test"], "target": TARGET["test"], "true": given["test"]} | controls)
        table.to_csv(folder / "controls-test.csv", index=False)
    return folder


def write_tables(root):
    """CelebA's attribute table of the judged images, in the official form."""
    (root / "celeba").mkdir(parents=True)
    rows = [
        name + "".join(f" {2 * v - 1:2d}" for v in values)
        for name, values in zip(TABLE.index, TABLE.to_numpy(), strict=True)
    ]
    text = "\r\n".join([str(len(rows)), " ".join(CELEBA_ATTRIBUTES) + " ", *rows, ""])
    (root / "celeba" / "list_attr_celeba.txt").write_bytes(text.encode())
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three seeds of plain (20 % wrong), Male always right with true covariates, and the trio equal to plain."""
    root = tmp_path_factory.mktemp("grid")
    data = write_tables(tmp_path_factory.mktemp("data"))
    for seed in range(3):
        plain = wrong(0.20 + 0.01 * seed, seed)
        fake_run(root, PLAIN, seed=seed, test=plain, data_root=data)
        right = wrong(0.005 * seed, seed)
        half = wrong(0.3, 10 + seed)  # with another person's covariate
        controls = {"zero": wrong(0.25, 20 + seed), "mean": wrong(0.15, 30 + seed), "permuted": half}
        fake_run(root, MALE, seed=seed, test=right, controls=controls, data_root=data)
        fake_run(root, TRIO, seed=seed, test=plain, data_root=data)
        fake_run(root, PLAIN, "as_published", seed, data_root=data)
    fake_run(
        root, "zeros-conv1-lr1e-3-b16", seed=0, data_root=data, status="failed", reason="the loss is nan by step 7"
    )
    return root


def accuracy(probability, split="test"):
    return ((probability > 0.5) == TARGET[split]).mean()


def test_the_t_test_over_seeds_by_its_formula():
    d = [0.012, -0.004, 0.020, 0.011]
    mean, sd = np.mean(d), np.std(d, ddof=1)
    t = mean / (sd / 2)
    margin = stats.t.ppf(0.975, 3) * sd / 2
    found = paired_t(d)
    assert (found.estimate, found.low, found.high) == pytest.approx((mean, mean - margin, mean + margin))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 3))
    assert found.n == 4
    assert paired_t([0.0, 0.0, 0.0]).p_value == 1.0
    assert (paired_t([0.4, -0.2]).low, paired_t([0.4, -0.2]).high) == (-1, 1)  # not -3.7 to 3.9
    assert math.isnan(paired_t([0.01, 0.01]).p_value)  # no spread: no test, and no p of 0


def test_a_right_row_and_an_equal_one(made):
    grid = read_grid(made)
    found = compare_all(grid, "corrected", resamples=2000)
    assert set(found) == {MALE, TRIO}
    male, trio = found[MALE], found[TRIO]
    plain = [wrong(0.20 + 0.01 * s, s) for s in range(3)]
    ours = [wrong(0.005 * s, s) for s in range(3)]
    differences = [accuracy(a) - accuracy(b) for a, b in zip(ours, plain, strict=True)]
    assert male.differences == pytest.approx(differences)
    assert male.over_images.estimate == pytest.approx(np.mean(differences))
    # The bootstrap's interval beside the normal one of the mean over images of the seeds' mean difference.
    each = np.mean([(a > 0.5) == TARGET["test"] for a in ours], 0) - np.mean(
        [(b > 0.5) == TARGET["test"] for b in plain], 0
    )
    error = each.std(ddof=1) / math.sqrt(N)
    assert male.over_images.low == pytest.approx(each.mean() - 1.96 * error, abs=0.25 * error)
    assert male.over_images.high == pytest.approx(each.mean() + 1.96 * error, abs=0.25 * error)
    for s, test in enumerate(male.by_seed):
        a, b = ((p > 0.5) == TARGET["test"] for p in (ours[s], plain[s]))
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        tail = sum(math.comb(only_a + only_b, k) for k in range(min(only_a, only_b) + 1)) / 2 ** (only_a + only_b)
        assert test.p_value == pytest.approx(min(1.0, 2 * tail))
    assert male.holm_seeds == pytest.approx(min(1.0, 2 * paired_t(differences).p_value))
    assert male.verdict == "better"
    assert (trio.over_seeds.p_value, trio.over_images.p_value, trio.verdict) == (1.0, 1.0, "not told apart")


def test_one_seed_decides_nothing(tmp_path):
    fake_run(tmp_path, PLAIN, test=wrong(0.4, 1))
    fake_run(tmp_path, MALE, test=wrong(0.0, 1))
    found = compare(read_grid(tmp_path), ROWS[MALE], "corrected", 200)
    assert found.over_seeds is None
    assert found.verdict == "undecided"
    assert found.over_images.estimate == pytest.approx(0.4)


def test_a_grid_with_scaled_rates_says_so(tmp_path):
    """`reproduce --lr-scale 10` trains the rows at 1e-5 with 1e-4; another rate than that is still refused."""
    settings = {"lr_scale": 10.0, "train_images": 800}
    folder = fake_run(tmp_path / "grid", PLAIN, "as_published", settings=settings)
    with pytest.raises(RunError, match="not a run of the row"):
        read_grid(tmp_path / "grid")
    _rewrite(folder, "config.yaml", "lr: 1.0e-05", "lr: 0.0001")
    text = write_report(read_grid(tmp_path / "grid"), tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "every learning rate times 10 (the rate in a row's name is the study's)" in text
    assert "--lr-scale 10`" in text
    assert "800 train images, not the official 162,770" in text


def test_controls_of_some_seeds_are_set_beside_plain_of_these_seeds(tmp_path):
    fake_run(tmp_path, PLAIN, seed=0, test=wrong(0.4, 0))
    fake_run(tmp_path, PLAIN, seed=1, test=wrong(0.2, 1))
    right, half = wrong(0.1, 2), wrong(0.5, 3)
    fake_run(tmp_path, MALE, seed=0, test=right, controls={"zero": half, "mean": half, "permuted": half})
    fake_run(tmp_path, MALE, seed=1, test=wrong(0.0, 2))
    grid = read_grid(tmp_path)
    line = control_table(grid, control_accuracies(grid)).iloc[0]
    assert (line["seeds"], line["plain"], line["true"], line["permuted"]) == (1, "60.00", "90.00", "50.00")
    found = gain_split(grid, ROWS[MALE], 200)
    assert found.seeds == (0,)
    assert found.gain.estimate == pytest.approx(0.3)
    assert found.lost.estimate == pytest.approx(0.4)


def test_only_seeds_that_both_have_are_compared(tmp_path):
    fake_run(tmp_path, PLAIN, seed=0, test=wrong(0.4, 1))
    fake_run(tmp_path, PLAIN, seed=1, test=wrong(0.3, 1))
    fake_run(tmp_path, MALE, seed=1, test=wrong(0.1, 1))
    fake_run(tmp_path, MALE, seed=2, test=wrong(0.0, 1))
    found = compare(read_grid(tmp_path), ROWS[MALE], "corrected", 200)
    assert found.seeds == (1,)
    assert found.over_images.estimate == pytest.approx(0.2)


def test_the_gain_and_its_parts(made):
    found = gain_split(read_grid(made), ROWS[MALE], resamples=200)
    plain = np.mean([accuracy(wrong(0.20 + 0.01 * s, s)) for s in range(3)])
    true = np.mean([accuracy(wrong(0.005 * s, s)) for s in range(3)])
    permuted = np.mean([accuracy(wrong(0.3, 10 + s)) for s in range(3)])
    assert found.gain.estimate == pytest.approx(true - plain)
    assert found.survives.estimate == pytest.approx(permuted - plain)
    assert found.lost.estimate == pytest.approx(true - permuted)
    assert found.survives.estimate + found.lost.estimate == pytest.approx(found.gain.estimate)
    table = control_accuracies(read_grid(made)).set_index("row").loc[MALE]
    assert (table["zero"], table["mean"], table["seeds"]) == (pytest.approx(0.75), pytest.approx(0.85), 3)


def test_the_effect_of_a_covariate_is_read_off_the_switched_images(tmp_path):
    """Probability 0.3 + 0.4 Male (+ 0.1 for class 1): at 0 and 1 just that, whoever was switched."""
    male, base = TABLE.loc[FILES["test"], "Male"].to_numpy(), 0.3 + 0.1 * TARGET["test"]
    other = np.roll(male, 1)
    fake_run(tmp_path, MALE, test=base + 0.4 * male, controls={"permuted": base + 0.4 * other})
    table = covariate_effect(read_grid(tmp_path).runs, TABLE).set_index("target")
    for target in (0, 1):
        assert table.loc[target, ["at_0", "at_1"]].tolist() == pytest.approx([0.3 + 0.1 * target, 0.7 + 0.1 * target])
        assert table.loc[target, "images"] == ((male != other) & (TARGET["test"] == target)).sum()


def test_subgroups_and_their_gaps_against_pandas(made):
    grid = read_grid(made)
    table = subgroups(grid, TABLE, 100).set_index(["row", "by", "group", "metric"])
    frame = TABLE.loc[FILES["test"]]
    predicted = {name: np.concatenate([run.predictions["test"]["prediction"] for run in grid.of(name, "corrected")])
                 for name in (PLAIN, MALE)}  # fmt: skip
    target, young = np.tile(TARGET["test"], 3), np.tile(frame["Young"], 3) == 1
    for name, answer in predicted.items():
        assert table.loc[(name, "Young", "1", "selection rate"), "value"] == pytest.approx(answer[young].mean())
        assert table.loc[(name, "Young", "0", "accuracy"), "value"] == pytest.approx((answer == target)[~young].mean())
        f1 = []  # of each seed, then their mean
        for answer_of_one, target_of_one, young_of_one in zip(
            *(np.split(a, 3) for a in (answer, target, young)), strict=True
        ):
            pairs = list(zip(answer_of_one[young_of_one], target_of_one[young_of_one], strict=True))
            tp, fp, fn, tn = (pairs.count(pair) for pair in ((1, 1), (1, 0), (0, 1), (0, 0)))
            f1.append((2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2)
        assert table.loc[(name, "Young", "1", "macro F1"), "value"] == pytest.approx(np.mean(f1))
        assert table.loc[(name, "Young", "1", "macro F1"), "images"] == frame["Young"].sum()
    assert table.loc[(PLAIN, "Young", "1", "accuracy"), "base rate"] == pytest.approx(target[young].mean())
    change = next(c for c in gap_changes(grid, TABLE, 200) if (c.row.name, c.by) == (MALE, "Young"))
    gap = {name: answer[young].mean() - answer[~young].mean() for name, answer in predicted.items()}
    assert (change.plain, change.own) == pytest.approx((gap[PLAIN], gap[MALE]))
    assert change.change.estimate == pytest.approx(gap[MALE] - gap[PLAIN])
    assert change.truth == pytest.approx(target[young].mean() - target[~young].mean())


def test_calibration_errors_of_two_networks_do_not_cancel(tmp_path):
    """One says .9 and one .1 to images that are half of class 1: each is .4 off, and so is their mean, not 0."""
    for seed, said in enumerate((0.9, 0.1)):
        fake_run(tmp_path, PLAIN, seed=seed, test=np.full(N, said))
    table = subgroups(read_grid(tmp_path), TABLE, 100).set_index(["by", "group", "metric"])
    share = TARGET["test"].mean()
    assert table.loc[("all", "all", "ECE"), "value"] == pytest.approx((abs(0.9 - share) + abs(0.1 - share)) / 2)
    assert table.loc[("all", "all", "ECE"), "seeds"] == "0, 1"


def test_people_are_resampled_with_all_their_images(tmp_path):
    """Pairs of images of one person, right or wrong together: as if there were half as many, so 1.41 times the width."""
    data = write_tables(tmp_path / "data")
    judged = FILES["valid"] + FILES["test"]
    both = np.repeat(np.random.default_rng(5).random(N // 2) < 0.3, 2)  # both images of a person, or none
    answers = np.where(both, 1 - TARGET["test"], TARGET["test"])
    fake_run(tmp_path / "grid", PLAIN, test=np.where(TARGET["test"] == 1, 0.9, 0.2), data_root=data)
    fake_run(tmp_path / "grid", MALE, test=np.where(answers == 1, 0.9, 0.2), data_root=data)
    main(
        [str(tmp_path / "grid"), "--out", str(tmp_path / "page.md"), "--resamples", "1000", "--group_resamples", "100"]
    )
    assert "It is not known who is on the images" in (tmp_path / "page.md").read_text(encoding="utf-8")
    (data / "celeba" / "identity_CelebA.txt").write_text(
        "".join(f"{name} {number // 2}\n" for number, name in enumerate(judged))
    )
    main(
        [str(tmp_path / "grid"), "--out", str(tmp_path / "page.md"), "--resamples", "1000", "--group_resamples", "100"]
    )
    text = " ".join((tmp_path / "page.md").read_text(encoding="utf-8").split())
    assert "The 200 test images are of 100 people" in text
    assert "`python -m recipes.celeba report RUNS --resamples 1000 --group_resamples 100`" in text
    grid = read_grid(tmp_path / "grid")
    alone = compare(grid, ROWS[MALE], "corrected", 4000).over_images
    people = pd.Series(np.arange(2 * N) // 2, index=judged)
    together = compare(replace(grid, people=people), ROWS[MALE], "corrected", 4000).over_images
    assert together.estimate == alone.estimate
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(2), rel=0.1)
    (data / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 1\n")
    with pytest.raises(TableError, match="no row for 199 of the judged valid images"):
        main([str(tmp_path / "grid"), "--out", str(tmp_path / "page.md")])


def test_plain_of_other_seeds_is_not_set_beside_the_controls(tmp_path):
    fake_run(tmp_path, PLAIN, seed=0)
    for seed in range(2):
        other = wrong(0.5, seed)
        fake_run(tmp_path, MALE, seed=seed, controls={"zero": other, "mean": other, "permuted": other})
    grid = read_grid(tmp_path)
    line = control_table(grid, control_accuracies(grid)).iloc[0]
    assert (line["seeds"], line["plain"]) == (2, "not run")


def test_what_departs_from_the_study_is_said(tmp_path):
    options = {"model.optimizer": "sgd", "trainer.accelerator": "cpu", "data.on_error": "a b"}
    settings = {"options": options, "train_images": 162_770}
    fake_run(tmp_path / "grid", PLAIN, settings=settings, threads=1)
    text = write_report(read_grid(tmp_path / "grid"), tmp_path / "page.md")[0].read_text(encoding="utf-8")
    departures = next(line for line in text.splitlines() if line.startswith("- Different from the published setting"))
    assert "the option model.optimizer=sgd" in departures
    assert "accelerator" not in departures
    assert "weights from the file vgg16.pt" in departures
    assert "--set model.optimizer=sgd trainer.accelerator=cpu 'data.on_error=a b'`" in text
    assert "162,770 train images, not" not in text
    assert "CPU of a test, 1 thread a run" in text


def test_the_covariates_alone_are_chosen_by_validation(tmp_path):
    fake_run(tmp_path / "grid", PLAIN)
    (tmp_path / "grid" / "covariates-only.csv").write_text(
        "covariates,model,split,num_images,accuracy,auroc\n"
        "Male,logistic,valid,9,0.70,0.7\nMale,logistic,test,9,0.61,0.7\n"
        "Male,interactions,valid,9,0.69,0.7\nMale,interactions,test,9,0.92,0.7\n"
    )
    text = write_report(read_grid(tmp_path / "grid"), tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "Male without an image 61.00 %" in text
    assert "far from trained" not in text


def test_resamples_that_can_show_nothing_are_said(tmp_path):
    """Six rows: the least p of 100 resamples is 1/101, and 6/101 after Holm, above 0.05."""
    rows = [name for name, row in ROWS.items() if row.baseline == PLAIN and "corrected" in row.modes][:6]
    for seed in range(2):
        for row in (PLAIN, *rows):
            fake_run(tmp_path / "grid", row, seed=seed, test=wrong(0.3 if row == PLAIN else 0.1, seed))
    grid = read_grid(tmp_path / "grid")
    for resamples, said in ((100, True), (2000, False)):
        text = write_report(grid, tmp_path / "page.md", resamples=resamples)[0].read_text("utf-8")
        assert ("With 100 resamples and 6 rows no row can be better or worse" in text) is said
    assert math.isnan(compare(grid, ROWS[MALE], "corrected", 100).over_seeds.p_value)  # both seeds are .2 apart
    assert "+20.00 (no interval)" in text


PUBLISHED = {  # the study's README and logs: row -> (paper, logs)
    "plain-lr1e-3-b8": (".79217", "79.22"),
    "plain-lr1e-3-b16": (".79604", "79.10, 79.60"),
    "plain-lr1e-5-b32": ("-", "81.84, 81.36, 81.58"),
    "male-conv1-lr1e-3-b16": (".78285", "78.29, 78.08, 77.29"),
    "male-conv1-lr1e-2-b64": ("-", "52.01"),
    "male-conv1-lr1e-6-b64": (".76458", "76.46"),
    "male-conv1-lr1e-5-b32": ("-", "80.48, 80.91, 79.88"),
    "ones-conv1-lr1e-3-b32": ("-", "78.57"),
    "trio-conv1-lr1e-5-b32": (".81281, .81269", "81.27, 81.28, 81.29"),
    "trio-conv3-lr1e-5-b32": (".81053", "80.64"),
    "trio-last-lr1e-5-b32": (".82136", "82.02, 81.76, 82.14"),
}


def test_the_page(made, tmp_path, capsys):
    checkpoints = made / f"{MALE}__corrected__seed0" / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    state = {
        "network.features.0.weight": torch.randn(64, 3, 3, 3),
        "network.features.0.covariate_weight": torch.randn(1, 64, 3, 3, 3),
    }
    torch.save({"state_dict": state}, checkpoints / f"{MALE}__corrected__seed0-best.ckpt")
    out = tmp_path / "results" / "celeba.md"
    main([str(made), "--out", str(out), "--resamples", "500", "--group_resamples", "100"])
    assert "12 runs, 1 without figures" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    lines = {line.split(" | ")[0].removeprefix("| "): [cell.strip() for cell in line.strip("|").split(" | ")]
             for line in text.split("## Every row")[1].split("What is to be said")[0].splitlines() if line.startswith("| ")}  # fmt: skip
    assert len(lines) == 1 + len(ROWS)
    for name, (paper, logs) in PUBLISHED.items():
        assert lines[ROWS[name].title.replace("Smiling, Young, High_Cheekbones", "trio")][1:3] == [paper, logs], name
    assert lines[ROWS["male-conv1-lr1e-3-b64"].title][3:6] == ["not run"] * 3
    assert lines[ROWS["zeros-conv1-lr1e-3-b16"].title][4] == "1 failed or unfinished"
    assert lines[ROWS[MALE].title][5].startswith("99.50 (99.00 to 100.00), 3 seeds")
    assert lines[ROWS[MALE].title][-1].endswith("): better")
    assert lines["hybrid, trio, last conv, lr 1e-5, batch 32"][-1].endswith("): not told apart by seeds or images")
    flat = " ".join(text.split())
    common = 100 * max((TARGET["test"] == label).mean() for label in (0, 1))
    for words in (
        "Of 2 corrected hybrid rows", "(test split), 1 beats it by more than noise, 0 are worse by more than noise, 1 cannot",
        "81.59 +- 0.24", "80.42 +- 0.52", "-1.17 points, Welch's t-test p = 0.042", "+0.38 points, Welch's t-test p = 0.103",
        "the loss is nan by step 7", "64 x 64 pixels, not 224 x 224", "weights vgg16.pt", "0.27 points", f"plain, lr 1e-5, batch 32, corrected, has 79.00 % of the test images right; always the more common answer has {common:.2f} %",
        "10,174 steps at batch 16", "further apart than in plain in 0 of 2 rows",
    ):  # fmt: skip
        assert words in flat, words
    assert "/somewhere" not in text
    pictures = re.findall(r"\]\((celeba/\w+\.png)\)", text)
    assert sorted(pictures) == [f"celeba/{name}.png" for name in ("accuracy", "curves", "effect", "kernels")]
    for picture in pictures:
        path = out.parent / picture
        assert path.stat().st_size < 250_000
        assert np.ptp(reading.imread(path)) > 0
    table = out.with_suffix(".tex").read_text(encoding="utf-8")
    assert table.count(r"\\") == 1 + len(ROWS)
    assert all(line.count("&") == 5 for line in table.splitlines() if line.endswith(r"\\"))
    assert r"\begin{tabular}{lrrrrr}" in table
    male_line = next(line for line in table.splitlines() if line.startswith(ROWS[MALE].title + " &"))
    assert r"$^{*}$" in male_line
    assert "80.48, 80.91, 79.88" in male_line


def test_a_part_of_a_grid_is_enough(tmp_path):
    fake_run(tmp_path / "grid", PLAIN, "as_published", valid=wrong(0.25, 1, "valid"))
    (tmp_path / "grid" / f"{MALE}__as_published__seed0").mkdir()
    grid = read_grid(tmp_path / "grid")
    written = write_report(grid, tmp_path / "page.md", resamples=200, note="Drawn by a test.")
    text = written[0].read_text(encoding="utf-8")
    assert "75.00, 1 seed" in text
    assert "\n\n**Drawn by a test.**\n\n" in text
    assert "not finished: it lacks result.json, config.yaml" in text
    assert "nothing is compared" in text
    assert "No corrected run is finished" in text


def test_equal_rows_and_one_seed_are_told_as_what_they_are(tmp_path):
    """Two seeds of the trio equal to plain, one of Male far better: no claim of a difference anywhere."""
    for seed in range(2):
        fake_run(tmp_path / "grid", PLAIN, seed=seed, test=wrong(0.3, seed))
        same = wrong(0.3, seed)
        controls = dict.fromkeys(
            ("zero", "mean", "permuted", "only_Smiling", "only_Young", "only_High_Cheekbones"), same
        )
        fake_run(tmp_path / "grid", TRIO, seed=seed, test=same, controls=controls)
    fake_run(tmp_path / "grid", MALE, seed=0, test=wrong(0.0, 0))
    grid = read_grid(tmp_path / "grid")
    assert len(covariate_effect(grid.of(TRIO, "corrected"), TABLE)) == 0
    page = write_report(grid, tmp_path / "page.md", resamples=500)[0]
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Of 2 corrected hybrid rows" in text
    assert (
        "0 beat it by more than noise, 0 are worse by more than noise, 1 cannot be told apart from it, and 1 cannot be decided"
        in text
    )
    assert "+0.00 points over plain; with another image's covariates +0.00" in text
    assert "The gain itself is not told apart from 0, so a share of it means nothing" in text
    assert "No effect of a covariate is drawn" in text
    assert "CelebA's tables are not where the runs had them" in text
    assert "paired t-test over seeds (n = 1 to 2;" in text


def test_attributes_of_other_images_are_refused(made, tmp_path):
    """A table whose Attractive is not what the runs were judged on would give subgroups of other people."""
    root = write_tables(tmp_path)
    table = root / "celeba" / "list_attr_celeba.txt"
    lines = table.read_text().splitlines()
    column = 1 + lines[1].split().index("Attractive")
    values = lines[-1].split()
    values[column] = str(-int(values[column]))
    table.write_text("\n".join([*lines[:-1], " ".join(values), ""]))
    with pytest.raises(TableError, match="other values of Attractive"):
        main([str(made), "--out", str(tmp_path / "page.md"), "--root", str(root)])
    with pytest.raises(TableError, match="found neither"):
        main([str(made), "--out", str(tmp_path / "page.md"), "--root", str(tmp_path / "nowhere")])


def test_tiles_show_every_kernel_in_its_place():
    kernel = np.zeros((10, 3, 3, 3))
    kernel[9, 0, 1, 2] = 4.0  # the tenth kernel: second line, second place; red, row 1, column 2
    picture = tiles(kernel, 4.0)
    assert picture[4 + 1, 4 + 2].tolist() == [1.0, 0.5, 0.5]
    assert picture[3, 0].tolist() == [1.0, 1.0, 1.0]  # the seam


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "nothing").mkdir(), "found none"),
        (lambda root: (root / "young-conv9__corrected__seed0").mkdir(), "another grid"),
        (lambda root: _rewrite(fake_run(root, MALE), "predictions-test.csv", "000300.jpg", "999999.jpg"), "different test images"),
        (lambda root: _rewrite(fake_run(root, PLAIN, seed=7), "config.yaml", "image_size: 64", "image_size: 32"), "of another grid"),
        (lambda root: _rewrite(fake_run(root, PLAIN, seed=7), "config.yaml", "lr: 1.0e-05", "lr: 0.1"), "not a run of the row"),
        (lambda root: _rewrite(fake_run(root, PLAIN, seed=7), "result.json", '"seed": 7', '"seed": 3'), "Was it renamed"),
        (lambda root: _rewrite(fake_run(root, PLAIN, seed=7), "results-test.json", '"accuracy": 0.8', '"accuracy": 0.9'), "different evaluations"),
        (lambda root: _rewrite(fake_run(root, PLAIN, seed=7), "predictions-valid.csv", ",0\n", ",1\n"), "different"),
        (lambda root: fake_run(root, MALE, seed=7, controls={"zero": wrong(0.5, 3), "true": wrong(0.4, 5)}), "of another checkpoint"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, spoil, message):
    root = tmp_path / "grid"
    root.mkdir()
    if message != "found none":
        fake_run(root, PLAIN)
    spoil(root)
    with pytest.raises(RunError, match=message):
        read_grid(root)


def _rewrite(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_a_page_that_is_not_ours_is_kept(made, tmp_path):
    page = tmp_path / "celeba.md"
    page.write_text("# My own notes\n")
    with pytest.raises(RunError, match="was not written by this command"):
        main([str(made), "--out", str(page)])
    assert page.read_text() == "# My own notes\n"


@pytest.mark.parametrize("option", ["--resamples", "--group_resamples"])
def test_too_few_resamples_are_refused_before_the_runs_are_read(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nowhere"), option, "20"])
    assert f"{option}: expected 100 or more, got 20" in capsys.readouterr().err


def test_nothing_finished_is_an_error_that_says_why(tmp_path):
    fake_run(tmp_path, PLAIN, status="failed", reason="disk full")
    with pytest.raises(RunError, match="disk full"):
        main([str(tmp_path), "--out", str(tmp_path / "page.md")])
