"""The report, from run folders that the test writes: figures by hand or by their formulas, the page, unfinished runs."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score, roc_curve

from fusionconv.errors import TableError
from recipes.adni.report import main, write_report
from recipes.adni.report_classes import GRID, at_rates, calibration_errors, draw_roc
from recipes.adni.report_groups import bands, choose_columns, groups_table
from recipes.adni.report_run import read_run, with_rows
from recipes.adni.report_survival import kaplan_meier, risk_groups
from recipes.common.runs import RunError
from tests.helpers.brains import TASKS
from tests.helpers.pages import Page

ARMS = ("image", "covariates", "hybrid-first")
SUBJECTS = 40


def answers_of(task, truth, random):
    """Answers that follow the truth a little."""
    if task == "regression":
        return {"prediction": 0.5 * truth["target"] + 30 + random.normal(0, 2, len(truth))}
    if task == "survival":
        return {"log_hazard": -0.2 * truth["time"] + random.normal(0, 1, len(truth))}
    names = list(TASKS[task]["classes"])
    logits = random.normal(0, 1, (len(truth), len(names))) + np.eye(len(names))[truth["target"]]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {f"p_{name}": p[:, i] for i, name in enumerate(names)}


def write_run(folder, task="classification", repeats=2, folds=2, controls=1, arms=ARMS, skip=(), rows=True):
    """A cross-validation as crossval leaves it, with made-up answers. ``skip``: (arm, fold) that are not finished."""
    random = np.random.default_rng(0)
    truth = pd.DataFrame({"target": np.arange(SUBJECTS) % (3 if task == "three" else 2)})
    if task == "regression":
        truth = pd.DataFrame({"target": random.uniform(60, 90, SUBJECTS)})
    if task == "survival":
        truth = pd.DataFrame({"time": random.uniform(1, 9, SUBJECTS), "event": np.arange(SUBJECTS) % 2})
    table = pd.DataFrame({
        "subject": [f"{i:03d}" for i in range(SUBJECTS)], "session": "01", "image": [f"/data/{i:03d}.nii" for i in range(SUBJECTS)],
        "Age": random.integers(62, 88, SUBJECTS), "M/F": ["F", "F", "M", "M"] * (SUBJECTS // 4), "Educ": random.integers(1, 6, SUBJECTS),
    })  # fmt: skip
    folder.mkdir(parents=True)
    config = {
        "arms": {arm: {"arm": arm.split("-")[0]} for arm in arms}, "reference": "covariates", "controls": controls,
        "data": {"task": TASKS[task], "source": {"kind": "oasis1", "images": "/data", "table": "t.csv"}, "covariates": ["Age", "M/F"],
                 "preparation": {"spacing": 2.0}, "n_splits": folds, "n_repeats": repeats, "split_seed": 0, "val_size": 0.2, "cache": "c"},
        "model": {"network": "small_resnet", "lr": 1e-3, "weight_decay": 1e-4, "schedule": "onecycle"},
        "trainer": {"max_epochs": 3},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if rows:
        table.to_csv(folder / "rows.csv", index=False)
    counts = {"rows": 99, "with an image": SUBJECTS}
    (folder / "source.json").write_text(
        json.dumps({"counts": counts, "did not match": {"image without row": 7}, "volumes left out": {}})
    )
    names = [f"repeat{r}-fold{f}" for r in range(repeats) for f in range(folds)]
    parts = {name: np.where(random.permutation(SUBJECTS) % folds == 0, "test", "train") for name in names}
    for r in range(repeats):  # every subject once in a repeat
        order = random.permutation(SUBJECTS) % folds
        parts |= {f"repeat{r}-fold{f}": np.where(order == f, "test", "train") for f in range(folds)}
    table[["subject", "session", "image"]].assign(**parts).to_csv(folder / "folds.csv", index=False)
    for arm in arms:
        for name in names:
            if (arm, name) in skip:
                continue
            test = parts[name] == "test"
            given = ["true", *(f"permuted-{i}" for i in range(controls) if arm != "image")]
            frames = [
                table.loc[test, ["subject", "session", "image"]].assign(id=table["subject"], control=control)
                .join(truth[test]).assign(**answers_of(task, truth[test], random)) for control in given
            ]  # fmt: skip
            predictions = pd.concat(frames)
            job = folder / "folds" / arm / name
            job.mkdir(parents=True)
            predictions.to_csv(job / "predictions.csv", index=False)
            metrics = {control: measured(task, rows) for control, rows in predictions.groupby("control")}
            result = {
                "arm": arm, "fold": name, "key": "k", "options": {"arm": arm.split("-")[0], "layer_idx": 0}, "seed": 3, "seconds": 2.5,
                "parameters": 1234, "covariate_parameters": 0 if arm == "image" else 56, "epochs": 3, "metrics": metrics.pop("true"),
                "controls": metrics, "counts": {"train": SUBJECTS - int(test.sum()), "test": int(test.sum())}, "preparation": {},
                "skipped": 0, "versions": {"torch": "2.15"}, "hardware": "CPU <of a test>, 2 cores",
            }  # fmt: skip
            (job / "result.json").write_text(json.dumps(result))
            if arm != "covariates":
                metric = {"regression": "mae", "survival": "c_index"}.get(task, "auc")
                (job / "metrics.csv").write_text(f"epoch,step,train/loss,val/{metric}\n0,4,0.7,0.5\n1,8,0.5,0.6\n")
    return folder


def measured(task, rows):
    if task == "regression":
        return {"mae": float((rows["prediction"] - rows["target"]).abs().mean()), "r2": 0.1, "pearson": 0.2}
    if task == "survival":
        return {"c_index": 0.6}
    names = [f"p_{name}" for name in TASKS[task]["classes"]]
    accuracy = float((rows[names].to_numpy().argmax(1) == rows["target"]).mean())
    auc = roc_auc_score(rows["target"], rows["p_AD"]) if len(names) == 2 else 0.6
    return {"auc": float(auc), "balanced_accuracy": accuracy, "accuracy": accuracy}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Intervals are the library's and dots an inch are nothing to test; here they only cost time."""
    monkeypatch.setattr("recipes.common.figures.DPI", 50)
    monkeypatch.setattr("recipes.adni.report_groups.RESAMPLES", 100)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "cdr")


def cell(markdown, first, column):
    """A value of a table in report.md, by its row's first cell and its column's name."""
    lines = [
        [word.strip() for word in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")
    ]
    head = None
    for line in lines:
        if column in line:
            head = line
        if head is not None and line[0] == first:
            return line[head.index(column)]
    raise AssertionError(f"no {column} of {first}")


def test_the_page_needs_nothing_but_itself_and_its_numbers_are_the_folds(classes, tmp_path, capsys):
    main(["--experiment", "cdr", "--root_dir", str(classes.parent), "--out", str(tmp_path / "deep" / "cdr.html"),
          "--note", "SYNTHETIC <data>"])  # fmt: skip
    assert "cdr.html" in capsys.readouterr().out
    html = (tmp_path / "deep" / "cdr.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.open == []
    assert len(page.addresses) >= 9
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import|<script", html)
    for words in (
        "SYNTHETIC &lt;data&gt;",
        "CPU &lt;of a test&gt;",
        "image without row",
        "--keep_checkpoints",
        "20 CN, 20 AD",
        "torch 2.15",
    ):
        assert words in html
    assert html.index("SYNTHETIC") < html.index("Results per arm")
    text = (tmp_path / "deep" / "cdr.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((figures/.*?\.png)\)", text):
        assert (tmp_path / "deep" / name).stat().st_size > 1000
    mean = {}
    for arm in ARMS:
        each = [
            json.loads(p.read_text())["metrics"]["auc"] for p in sorted((classes / "folds" / arm).glob("*/result.json"))
        ]
        assert len(each) == 4
        mean[arm] = np.mean(each)
        assert cell(text, arm, "auc").startswith(f"{mean[arm]:.3f} [")
    assert cell(text, "hybrid-first", "difference") == f"{mean['hybrid-first'] - mean['covariates']:.3f}"
    assert text.index("| image") < text.index("| covariates") < text.index("| hybrid-first")  # as configured


@pytest.mark.parametrize("task", ["three", "regression", "survival"])
def test_other_tasks(tmp_path, task):
    folder = write_run(tmp_path / task, task, repeats=1)
    text = write_report(folder, attribution=False).with_suffix(".md").read_text()
    figures = {path.stem for path in (folder / "figures").iterdir()}
    own = {
        "three": {"roc-0", "roc-1", "roc-2", "calibration"},
        "regression": {"predicted", "gap"},
        "survival": {"survival"},
    }
    assert own[task] | {"paired", "controls", "subgroups", "learning-loss", "learning-validation"} <= figures
    assert "Do the covariates matter" in text
    if task == "regression":
        assert "slope of the gap on age" in text


def test_one_fold_and_unfinished_arms(tmp_path):
    """One fold of one arm, the reference not begun: no interval, no test, and it is said."""
    names = [f"repeat0-fold{f}" for f in range(2)]
    skip = {("covariates", names[0]), ("covariates", names[1]), ("image", names[1]), ("hybrid-first", names[1])}
    for task in ("classification", "regression"):
        folder = write_run(tmp_path / task, task, repeats=1, controls=0, skip=skip)
        text = write_report(folder).with_suffix(".md").read_text()
        assert "Not finished: folds are missing of image (1 of 2), covariates (2 of 2), hybrid-first (1 of 2)" in text
        assert "covariates has no finished fold yet" in text
        assert "nan" not in text.lower().replace("nan-", "")
        assert not (folder / "figures" / "controls.png").exists()
        assert "[" not in cell(text, "image", "mae" if task == "regression" else "auc")


def test_without_rows_and_with_columns_that_are_not_there(tmp_path, classes):
    folder = write_run(tmp_path / "old", repeats=1, rows=False)
    assert "rows.csv is not there" in write_report(folder).with_suffix(".md").read_text()
    with pytest.raises(TableError, match="--by: the table has no column site; it has"):
        write_report(classes, by=["site"])
    rows = pd.read_csv(folder / "folds.csv", dtype=str)[["subject", "session", "image"]]
    rows.iloc[1:].assign(Age=70).to_csv(folder / "rows.csv", index=False)
    run = read_run(folder)
    with pytest.raises(RunError, match="was it changed"):
        with_rows(run, run.predictions)
    with pytest.raises(RunError, match="is no cross-validation"):
        read_run(tmp_path)


def test_subgroups_against_a_loop(classes):
    run = read_run(classes)
    joined = with_rows(run, run.predictions)
    assert choose_columns(joined) == ["M/F", "Age"]
    table = groups_table(joined, ["M/F", "Age"], run.arms, run.task).set_index(["group", "metric"])
    rows = pd.read_csv(classes / "rows.csv", dtype={"subject": str}).set_index("subject")
    inside = {
        "M": rows["M/F"] == "M",
        "70 to below 80": (rows["Age"] >= 70) & (rows["Age"] < 80),
        "all": rows["Age"] > 0,
    }
    for group, held in inside.items():
        each = []
        for repeat in (0, 1):
            files = [classes / "folds" / "hybrid-first" / f"repeat{repeat}-fold{f}" / "predictions.csv" for f in (0, 1)]
            read = pd.concat([pd.read_csv(path, dtype={"subject": str, "control": str}) for path in files])
            read = read[(read["control"] == "true") & read["subject"].isin(rows.index[held])]
            assert len(read) == held.sum()
            each.append(roc_auc_score(read["target"], read["p_AD"]))
        found = table.loc[(group, "hybrid-first")]
        assert found["value"] == pytest.approx(np.mean(each))
        assert (found["subjects"], found["positives"]) == (held.sum(), (held & (np.arange(SUBJECTS) % 2 == 1)).sum())


def test_bands_and_columns_by_name():
    assert bands(pd.Series([61.0, 69.9, np.nan, 95]), "age_at_visit") == [70, 80, 90]
    assert bands(pd.Series([60.0, 69.9]), "AGE") is None  # one band
    assert bands(pd.Series([12, 16, 12, 18]), "Educ") is None  # few values: classes
    assert len(bands(pd.Series(np.arange(40.0)), "eTIV")) == 3
    both = pd.DataFrame({"PTGENDER": ["Male"], "AGE": [70], "DX": ["CN"]})
    assert choose_columns(both) == ["PTGENDER", "AGE"]
    assert choose_columns(both.assign(PTGENDER=None)) == ["AGE"]
    assert choose_columns(both, ["DX"]) == ["DX"]


def test_a_column_of_true_stays_text(tmp_path):
    """Without controls pandas would read the column control as boolean, and no row would be 'true'."""
    run = read_run(write_run(tmp_path / "r", repeats=1, controls=0))
    assert len(run.first_repeat) == 3 * SUBJECTS
    assert run.predictions["subject"].iloc[0].startswith("0")


def test_the_mean_roc_curve_by_its_definition(classes):
    """Sensitivity at a rate: the most that any threshold with at most that rate reaches, on the line to the next."""
    random = np.random.default_rng(1)
    truth, score = random.integers(0, 2, 60), random.normal(0, 1, 60).round(1)  # ties
    rates, sensitivity, _ = roc_curve(truth, score, drop_intermediate=False)
    found = at_rates(rates, sensitivity)
    for rate, value in zip(GRID[::20], found[::20], strict=True):
        below = max((r, s) for r, s in zip(rates, sensitivity, strict=True) if r <= rate + 1e-12)
        above = min(((r, s) for r, s in zip(rates, sensitivity, strict=True) if r > rate + 1e-12), default=None)
        if above is None:
            assert value == 1
            continue
        top = max(s for r, s in zip(rates, sensitivity, strict=True) if r == above[0])
        share = (rate - below[0]) / (above[0] - below[0])
        assert value == pytest.approx(below[1] + share * (top - below[1]), abs=1e-9)
    run = read_run(classes)
    one_class = run.predictions.assign(target=0)
    assert draw_roc(one_class, run.arms, ["CN", "AD"], 1) is None
    title = draw_roc(run.predictions, run.arms, ["CN", "AD"], 1).axes[0].get_title(loc="left")
    each = [json.loads(p.read_text())["metrics"]["auc"] for p in (classes / "folds" / "image").glob("*/result.json")]
    assert title == f"image\nmean AUC {np.mean(each):.3f}, n = 4"


def test_calibration_error_by_a_loop(classes):
    run = read_run(classes)
    found = calibration_errors(run.predictions, run.arms, ["CN", "AD"]).set_index("arm")
    each = []
    for repeat in ("repeat0", "repeat1"):
        rows = run.predictions[(run.predictions["arm"] == "image") & run.predictions["fold"].str.startswith(repeat)]
        gaps = 0.0
        for low in np.arange(10) / 10:
            inside = rows[(rows["p_AD"] >= low) & ((rows["p_AD"] < low + 0.1) | (low == 0.9))]
            gaps += abs((inside["p_AD"] - inside["target"]).sum())
        each.append(gaps / len(rows))
    assert found.loc["image", "calibration error"] == pytest.approx(np.mean(each))
    assert found.loc["image", "repeats"] == 2


def test_kaplan_meier_by_its_formula():
    random = np.random.default_rng(2)
    time, event = random.integers(1, 9, 50).astype(float), random.integers(0, 2, 50)
    times, share = kaplan_meier(time, event)
    assert (times[0], share[0]) == (0, 1)
    expected = 1.0
    for t, s in zip(times[1:], share[1:], strict=True):
        expected *= 1 - ((time == t) & (event == 1)).sum() / (time >= t).sum()
        assert s == pytest.approx(expected, abs=1e-6)
    assert times[1:].tolist() == sorted(set(time))


def test_risk_is_high_or_low_within_its_own_fold():
    rows = pd.DataFrame(
        {"arm": "image", "fold": ["a"] * 4 + ["b"] * 4, "log_hazard": [0.1, 0.2, 0.3, 0.4, 9.1, 9.2, 9.3, 9.4]}
    )
    assert risk_groups(rows).tolist() == ["low", "low", "high", "high"] * 2
