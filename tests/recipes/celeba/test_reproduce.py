"""reproduce and report: the rows against the study's table, the plan at full size, and a small grid to the end."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import StudyError
from fusionconv.evaluation import holm
from fusionconv.study import Study
from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.__main__ import main
from recipes.celeba.report import compared, paired_t, read_mode
from recipes.celeba.reproduce import choose_rows, cut, plan, read_rows
from tests.recipes.celeba.conftest import write_celeba

# (rate, batch, what, layer) -> logged figures; typed from the study's table, not from published.csv
PUBLISHED = {
    ("1e-3", 8, "plain", None): [79.22],
    ("1e-3", 16, "plain", None): [79.10, 79.60],
    ("1e-3", 32, "plain", None): [80.66],
    ("1e-3", 64, "plain", None): [80.52],
    ("1e-3", 16, "male", 0): [78.29, 78.08, 77.29],
    ("1e-3", 32, "male", 0): [78.80, 78.53],
    ("1e-3", 64, "male", 0): [79.95, 79.22, 79.87],
    ("1e-3", 16, "ones", 0): [79.60],
    ("1e-3", 32, "ones", 0): [78.57],
    ("1e-3", 64, "ones", 0): [80.30],
    ("1e-3", 16, "zeros", 0): [79.09],
    ("1e-3", 32, "zeros", 0): [79.49],
    ("1e-3", 64, "zeros", 0): [79.01],
    ("1e-4", 16, "male", 0): [81.20],
    ("1e-5", 16, "male", 0): [81.35],
    ("1e-2", 64, "male", 0): [52.01],
    ("1e-4", 64, "male", 0): [81.02],
    ("1e-5", 64, "male", 0): [80.41],
    ("1e-6", 64, "male", 0): [76.46],
    ("1e-5", 32, "plain", None): [81.84, 81.36, 81.58],
    ("1e-5", 32, "male", 0): [80.48, 80.91, 79.88],
    ("1e-5", 32, "trio", 0): [81.27, 81.28, 81.29],
    ("1e-5", 32, "trio", 3): [],
    ("1e-5", 32, "trio", 7): [80.64],
    ("1e-5", 32, "trio", 14): [],
    ("1e-5", 32, "trio", 40): [82.02, 81.76, 82.14],
}
# Steps of an epoch on 162,770 training images: 10,174 is what the study's own log of batch 16 has.
STEPS = {8: 20347, 16: 10174, 32: 5087, 64: 2544}


PRINTED = [".79217", ".79604", ".80661", ".80505", ".78285", ".78804", ".79946", ".81199", ".81345", ".81018", ".80414",
           ".76458", ".81281", ".81269", ".81053", ".82136"]  # fmt: skip
OFFICIAL = {"train": 162_770, "valid": 19_867, "test": 19_962}


def test_every_published_row_is_there_with_its_figures():
    layers = {0: 0, 1: 3, 2: 7, 4: 14, -1: 40}  # of VGG16-BN's features
    kinds = {("Male",): "male", ("all_1",): "ones", ("all_0",): "zeros"}
    found = {}
    for row in read_rows().values():
        if row.group == "controls":
            assert row.modes == ("corrected",)
            assert row.logged == row.printed == ()
            continue
        kind = "plain" if row.method == "image" else kinds.get(row.covariates, "trio")
        layer = None if kind == "plain" else layers[row.layer]
        found[f"{row.lr:.0e}".replace("e-0", "e-"), row.batch_size, kind, layer] = list(row.logged)
    assert found == PUBLISHED
    assert read_rows()["trio-last-lr1e-5-b32"].covariates == ("Smiling", "Young", "High_Cheekbones")
    assert sorted(figure for row in read_rows().values() for figure in row.printed) == sorted(PRINTED)
    # A printed figure is one of the row's logs, as far as the logs go: but for the one that is in no log.
    for row in read_rows().values():
        for figure in row.printed if row.row not in ("trio-conv3-lr1e-5-b32", "plain-lr1e-3-b64") else ():
            assert any(abs(100 * float(figure) - logged) < 0.015 for logged in row.logged), row.row


def test_matched_rows_and_baselines():
    rows = read_rows()
    assert len(rows) == 34
    assert len(matched := choose_rows(["matched"])) == 6
    assert all((row.lr, row.batch_size) == (1e-5, 32) for row in matched)
    for row in rows.values():
        if row.baseline:
            plain = rows[row.baseline]
            assert (plain.method, plain.lr, plain.batch_size) == ("image", row.lr, row.batch_size)
    assert rows["male-conv1-lr1e-3-b32"].baseline == "plain-lr1e-3-b32"
    assert rows["male-conv1-lr1e-4-b64"].baseline is None
    assert [row.row for row in choose_rows(["film-male-conv1", "plain-lr1e-3-b8"])] == [
        "plain-lr1e-3-b8",
        "film-male-conv1",
    ]
    with pytest.raises(StudyError, match="got 'nosuch'"):
        choose_rows(["nosuch"])


def test_the_whole_grid_and_its_parts():
    runs = plan(choose_rows(["all"]), ["as_published", "corrected"], 5, OFFICIAL, 1)
    assert len(runs) == 5 * (34 + 26)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    for count in (3, 8):
        parts = [cut(runs, f"{k}/{count}") for k in range(1, count + 1)]
        assert sorted(str(run) for part in parts for run in part) == sorted(map(str, runs))
        loads = [sum(run.cost for run in part) for part in parts]
        assert max(loads) - min(loads) <= max(run.cost for run in runs)
    for part in ("0/3", "4/3", "x", "1"):
        with pytest.raises(StudyError, match="K/N"):
            cut(runs, part)
    with pytest.raises(StudyError, match="corrected only"):
        plan(choose_rows(["controls"]), ["as_published"], 1, OFFICIAL, 1)
    with pytest.raises(StudyError, match="got 'published'"):
        plan(choose_rows(["all"]), ["published"], 1, OFFICIAL, 1)


def test_a_dry_run_at_full_size_has_the_studys_steps(tmp_path, capsys):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, sum(OFFICIAL.values()) + 1)]
    line = " -1" * 40
    (folder / "list_attr_celeba.txt").write_text(
        f"{len(names)}\n{' '.join(CELEBA_ATTRIBUTES)}\n" + "\n".join(name + line for name in names)
    )
    codes = np.repeat([0, 1, 2], list(OFFICIAL.values()))
    (folder / "list_eval_partition.txt").write_text("\n".join(f"{n} {c}" for n, c in zip(names, codes, strict=True)))
    assert main(["reproduce", "--root", str(tmp_path), "--out", str(tmp_path / "grid"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "300 runs, 0 done" in printed
    for size, steps in STEPS.items():
        line = next(line for line in printed.splitlines() if f"-b{size} " in line)
        assert int(line.split()[-1]) == steps == math.ceil(OFFICIAL["train"] / size)
    assert not (tmp_path / "grid").exists()


# ---- a small grid ----

ROWS = ["plain-lr1e-5-b32", "trio-conv1-lr1e-5-b32", "concat-mlp-male"]
SMALL = ["--image-size", "64", "--weights", "none", "--classifier-width", "16", "--controls", "1", "--resamples", "100",
         "--lr-scale", "10", "--trainer.accelerator", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def grid(tmp_path_factory, tiny_vgg):
    """Three rows, both modes, two seeds: in two parts, the second of which is stopped by its budget and goes on."""
    root = tmp_path_factory.mktemp("grid")
    write_celeba(root / "data", size=64)
    out = root / "grid"
    words = ["reproduce", "--root", str(root / "data"), "--out", str(out), "--rows", *ROWS, "--seeds", "2", *SMALL]
    assert main([*words, "--part", "1/2"]) == 0
    done = sorted(out.glob("*/runs/*/*/result.json"))
    assert len(done) == 5
    for mode in ("corrected", "as_published"):  # every part has the same study, also of rows that are not its own
        assert [arm.name for arm in Study.open(out / mode)[1]] == [r for r in ROWS if mode in read_rows()[r].modes]
    assert main([*words, "--part", "2/2", "--budget-hours", "0.0000001"]) == 0
    assert len(sorted(out.glob("*/runs/*/*/result.json"))) == 5  # time is known by now, so nothing is begun
    times = [path.stat().st_mtime_ns for path in done]
    assert main(words) == 0
    assert len(sorted(out.glob("*/runs/*/*/result.json"))) == 10
    assert [path.stat().st_mtime_ns for path in done] == times
    return out, words


def test_the_runs_are_the_rows(grid):
    out, _ = grid
    for path in out.glob("*/runs/*/*/result.json"):
        mode, row = path.relative_to(out).parts[0], read_rows()[path.parent.parent.name]
        settings = json.loads(path.read_text())["facts"]["settings"]
        assert settings["lr"] == pytest.approx(10 * row.lr)
        assert settings["batch_size"] == row.batch_size
        assert settings["normalize"] == ("none" if mode == "as_published" else "imagenet")
        assert settings["network"] == f"recipes.celeba.vgg:{'as_published' if mode == 'as_published' else 'vgg16_bn'}"
        assert settings["network_options"]["classifier_width"] == 16
        assert (settings["weight_decay"], settings["optimizer"], settings["schedule"]) == (0, "adam", "constant")
        if mode == "as_published" and row.method == "hybrid":
            assert settings["covariate_lr"] == 0
        counts = json.loads(path.read_text())["counts"]
        assert counts == (
            {"train": 24, "val": 0, "test": 8} if mode == "as_published" else {"train": 24, "val": 8, "test": 8}
        )


def test_rows_are_not_changed_by_options_and_another_grid_is_refused(grid, capsys):
    _, words = grid
    assert main([*words, "--batch-size", "4"]) == 2
    assert "rows.csv" in capsys.readouterr().err
    assert main([*words, "--epochs", "2"]) == 2
    assert "epochs: 1 before, 2 now" in capsys.readouterr().err


def test_a_failed_run_is_noted_and_the_others_go_on(grid, tmp_path, monkeypatch, capsys):
    from fusionconv.study.study import Study

    _, words = grid
    original = Study.do

    def broken(self, run, progress=True):
        if run.arm.name == "trio-conv1-lr1e-5-b32":
            raise StudyError("expected a finite training loss, got nan")
        return original(self, run, progress)

    words = [*words[:4], str(tmp_path / "grid"), *words[5:]]
    words[words.index("--seeds") + 1] = "1"
    words += ["--modes", "corrected"]
    monkeypatch.setattr(Study, "do", broken)
    assert main(words) == 1
    assert "failed: corrected trio-conv1-lr1e-5-b32 seed 0: StudyError" in capsys.readouterr().out
    assert len(list((tmp_path / "grid").glob("*/runs/*/*/result.json"))) == 2
    monkeypatch.setattr(Study, "do", original)
    assert main(words) == 1  # still noted, not tried
    assert main([*words, "--retry-failed"]) == 0
    assert len(list((tmp_path / "grid").glob("*/runs/*/*/result.json"))) == 3


def test_the_report_says_what_the_predictions_say(grid, capsys):
    out, _ = grid
    for name in ("results", "subgroups", "predictions"):  # as of a `reproduce` that was killed before it wrote them
        (out / "corrected" / f"{name}.csv").unlink()
    assert main(["report", str(out), "--resamples", "100"]) == 0
    assert (out / "report/subgroups-corrected.md").is_file()
    made = {path.name for path in (out / "report").iterdir()}
    assert {"rows.md", "rows.tex", "controls.md", "logs.md", "accuracy.png", "curves.png", "kernels.png"} <= made
    table = pd.read_csv(out / "report/rows.csv").set_index("row")
    assert len(table) == 34
    titles = {name: row.title for name, row in read_rows().items()}
    right = {}
    for mode in ("as_published", "corrected"):
        for row in ROWS:
            for seed, fold in enumerate(("split", "split-seed1")):
                path = out / mode / "runs" / row / fold / "predictions.csv"
                if path.is_file():
                    rows = pd.read_csv(path, dtype={"control": str})
                    rows = rows[(rows["part"] == "test") & (rows["control"] == "true")].set_index("id").sort_index()
                    right[mode, row, seed] = rows["decision"] == rows["target"]
    for mode, column in (("as_published", "as published, valid"), ("corrected", "corrected, test")):
        for row in ROWS:
            said = table.loc[titles[row], column]
            if (mode, row, 0) not in right:
                assert said == "-"
                continue
            mean = 50 * (right[mode, row, 0].mean() + right[mode, row, 1].mean())
            assert float(said.split()[0]) == pytest.approx(mean, abs=0.006)
            assert said.endswith("2 seeds")
    assert table.loc[titles["plain-lr1e-3-b8"], "corrected, test"] == "not run"
    assert table.loc[titles["trio-last-lr1e-5-b32"], ["paper", "logs"]].tolist() == [".82136", "82.02, 81.76, 82.14"]
    tests = pd.read_csv(out / "report/tests-corrected.csv").set_index("row")
    line = tests.loc[titles["trio-conv1-lr1e-5-b32"]]
    each = [
        right["corrected", "trio-conv1-lr1e-5-b32", s].mean() - right["corrected", "plain-lr1e-5-b32", s].mean()
        for s in (0, 1)
    ]
    assert float(line["over images"].split()[0]) == pytest.approx(100 * np.mean(each), abs=0.006)
    assert line["seeds"] == 2
    kept = pd.read_csv(out / "report/right-corrected.csv.gz")
    people = pd.read_csv(out / "corrected/rows.csv", dtype=str).set_index("id")["subject"]
    for row in ("plain-lr1e-5-b32", "trio-conv1-lr1e-5-b32"):
        both = right["corrected", row, 0].astype(int) + right["corrected", row, 1]
        assert kept[row].tolist() == both.tolist()
        assert kept["person"].nunique() == people[both.index].nunique()


def test_a_verdict_needs_both_tests():
    """Planted: one row is 20 points better on every seed and image block, one only on one seed."""
    from recipes.celeba.report import Seeds

    rows = read_rows()
    draw = np.random.default_rng(0)
    people = pd.Series([f"p{n}" for n in range(1000)])
    base = pd.DataFrame({s: (draw.random(1000) < 0.6).astype(float) for s in range(5)})
    better = base.copy()
    for s in range(5):
        wrong = np.flatnonzero(base[s] == 0)[: 190 + s]
        better.loc[wrong, s] = 1.0
    once = base.copy()
    once[0] = better[0]
    runs = {name: Seeds(rows[name], right, {}, {}, people) for name, right in
            (("plain-lr1e-5-b32", base), ("trio-conv1-lr1e-5-b32", better), ("trio-last-lr1e-5-b32", once))}  # fmt: skip
    table = compared(runs, 300).set_index("name")
    assert table.loc["trio-conv1-lr1e-5-b32", "verdict"] == "better"
    assert table.loc["trio-last-lr1e-5-b32", "verdict"] == "not told apart by seeds"
    ps = table["p seeds"].to_numpy(dtype=float)
    np.testing.assert_allclose(table["Holm seeds"], holm(ps))
    worse = compared({"plain-lr1e-5-b32": Seeds(rows["plain-lr1e-5-b32"], better, {}, {}, people),
                      "trio-conv1-lr1e-5-b32": Seeds(rows["trio-conv1-lr1e-5-b32"], base, {}, {}, people)}, 300)  # fmt: skip
    assert worse["verdict"].tolist() == ["worse"]
    one = compared({n: Seeds(s.row, s.right[[0]], {}, {}, people) for n, s in runs.items()}, 300)
    assert set(one["verdict"]) == {"undecided"}


def test_no_spread_over_seeds_is_no_test():
    assert paired_t([0.0, 0.0]) == (1.0, 0.0, 0.0)
    assert all(math.isnan(v) for v in paired_t([0.1, 0.1]))
    assert all(math.isnan(v) for v in paired_t([0.1]))


def test_reports_of_nothing(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "got no finished one" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--resamples", "5"]) == 2


def test_other_images_in_one_folder_are_refused(grid, tmp_path):
    import shutil

    out, _ = grid
    shutil.copytree(out / "corrected", tmp_path / "corrected")
    path = tmp_path / "corrected/runs/concat-mlp-male/split/predictions.csv"
    rows = pd.read_csv(path)
    rows[rows["id"] != rows["id"].iloc[-1]].to_csv(path, index=False)
    with pytest.raises(StudyError, match="not of one grid"):
        read_mode(tmp_path / "corrected")
