"""The rows against the study's table as EVIDENCE lists it, and the plan on a fake full-size folder."""

import math

import numpy as np
import pytest

from fusionconv import list_convs
from fusionconv.errors import TableError
from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.__main__ import main
from recipes.celeba.arms import build_network
from recipes.celeba.grid.plan import Settings, claim, cut, make_runs
from recipes.celeba.grid.rows import ROWS, read_rows
from recipes.common.runs import RunError

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


def test_every_published_row_is_there_with_its_figures():
    layers = {row.index: int(row.name.split(".")[1]) for row in list_convs(build_network("plain", weights="none"))}
    count = len(layers)
    what = {(None, "Male"): "male", (1, "Male"): "ones", (0, "Male"): "zeros"}
    found = {}
    for row in ROWS.values():
        if row.group == "controls":
            assert row.modes == ("corrected",)
            assert row.logged == row.printed == ()
            continue
        assert row.modes == ("as_published", "corrected")
        kind = "plain" if row.arm == "plain" else what.get((row.constant, " ".join(row.covariates)), "trio")
        layer = None if kind == "plain" else layers[row.layer_idx % count]
        found[f"{row.lr:.0e}".replace("e-0", "e-"), row.batch_size, kind, layer] = list(row.logged)
    assert found == PUBLISHED
    assert ROWS["trio-last-lr1e-5-b32"].covariates == ("Smiling", "Young", "High_Cheekbones")
    printed = [figure for row in ROWS.values() for figure in row.printed]
    assert sorted(printed) == sorted(
        [
            ".79217",
            ".79604",
            ".80661",
            ".80505",
            ".78285",
            ".78804",
            ".79946",
            ".81199",
            ".81345",
            ".81018",
            ".80414",
            ".76458",
            ".81281",
            ".81269",
            ".81053",
            ".82136",
        ]
    )
    # A printed figure is one of the row's logs, as far as the logs go: but for the one that is in no log.
    for row in ROWS.values():
        for figure in row.printed if row.name not in ("trio-conv3-lr1e-5-b32", "plain-lr1e-3-b64") else ():
            assert any(abs(100 * float(figure) - logged) < 0.015 for logged in row.logged), row.name


def test_matched_rows_and_baselines():
    matched = [row for row in ROWS.values() if row.matched]
    assert len(matched) == 6
    assert all((row.lr, row.batch_size, row.method) == (1e-5, 32, "hybrid") for row in matched)
    for row in ROWS.values():
        if row.baseline:
            plain = ROWS[row.baseline]
            assert (plain.arm, plain.lr, plain.batch_size) == ("plain", row.lr, row.batch_size)
    assert ROWS["male-conv1-lr1e-3-b32"].baseline == "plain-lr1e-3-b32"
    assert ROWS["male-conv1-lr1e-4-b64"].baseline is None


def test_figures_without_a_row_are_an_error(tmp_path):
    (tmp_path / "p.csv").write_text("row,accuracy,where,note\nplain-lr1e-9-b8,79.22,log,\n")
    with pytest.raises(ValueError, match="plain-lr1e-9-b8"):
        read_rows(published=tmp_path / "p.csv")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """CelebA's two tables at their full size, with random attributes, and no images at all."""
    folder = tmp_path_factory.mktemp("full") / "celeba"
    folder.mkdir()
    sizes = (162_770, 19_867, 19_962)
    names = [f"{number:06d}.jpg" for number in range(1, sum(sizes) + 1)]
    rng = np.random.default_rng(0)
    lines = np.array([" ".join(f"{value:2d}" for value in rng.choice([-1, 1], 40)) for _ in range(100)])
    drawn = lines[rng.integers(0, 100, len(names))]
    table = [str(len(names)), " ".join(CELEBA_ATTRIBUTES) + " "]
    table += [f"{name} {line}" for name, line in zip(names, drawn, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\r\n".join(table) + "\r\n")
    codes = np.repeat([0, 1, 2], sizes)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {c}\n" for n, c in zip(names, codes, strict=True)))
    return folder.parent


def test_the_dry_run_plans_every_published_row_with_the_right_steps(full_size, tmp_path, capsys):
    main(["reproduce", f"--root={full_size}", f"--out={tmp_path}/grid", "--rows", "all", "--dry-run"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    planned = {
        (words[0], words[1]): int(words[2].replace(",", "")) for words in lines if len(words) >= 7 and words[0] in ROWS
    }
    expected = {(name, mode): STEPS[row.batch_size] for name, row in ROWS.items() for mode in row.modes}
    assert planned == expected
    assert len(expected) == 26 * 2 + 6
    runs, steps = lines[-1][0], int(lines[-1][2].replace(",", ""))
    assert (runs, steps) == (str(5 * len(expected)), 5 * sum(expected.values()))
    assert not (tmp_path / "grid").exists()


def settings(**changes):
    known = {"image_size": 64, "weights": "none", "classifier_width": 16, "epochs": 1, "lr_scale": 1.0, "limit": None,
             "precision": "32-true", "options": {}, "train_images": 1000, "valid_images": 100, "test_images": 90,
             "data": "x"}  # fmt: skip
    return Settings(**{**known, **changes})


def test_parts_are_whole_disjoint_and_fair():
    runs = make_runs(list(ROWS), ("as_published", "corrected"), range(3), settings())
    assert [run.steps for run in runs[:2]] == [125, 125]  # 1,000 / 8
    parts = [cut(runs, part, 7) for part in range(1, 8)]
    assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in runs)
    costs = [sum(run.cost for run in part) for part in parts]
    assert max(costs) - min(costs) <= max(run.cost for run in runs)  # what longest-first promises
    assert cut(runs, 2, 7) == cut(list(reversed(runs)), 2, 7)[::-1]
    some = make_runs(list(ROWS), ("corrected",), range(3), settings(), control_seeds=1)
    has = {run.name for run in some if run.has_controls}
    assert has == {run.name for run in runs if run.has_controls and run.seed == 0}
    assert all((run.cost < same.cost) == (same.has_controls and run.seed > 0)
               for run, same in zip(some, [run for run in runs if run.mode == "corrected"], strict=True))  # fmt: skip
    seeds = [run.seed for run in runs]
    assert seeds == sorted(seeds)  # a first seed of every row before a second of any


def test_what_cannot_be_planned_says_so(full_size, tmp_path, capsys):
    for change, words in (
        (["--rows", "mail"], "no such row"),
        (["--set", "model.lr=1"], "reproduce sets this itself"),
        (["--set", "trainer.limit_train_batches=3"], "reproduce sets this itself"),
        (["--set", "data={fold: 1}"], "reproduce sets this itself"),
        (["--rows", "film-male-conv1", "--modes", "as_published"], "corrected only"),
        (["--weights", "absent.pt"], "is no file"),
        ([f"--root={tmp_path}"], "list_eval_partition"),
    ):
        argv = ["reproduce", f"--root={full_size}", f"--out={tmp_path}/grid", "--dry-run", "--limit=9", *change]
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
    more = ["--rows", "plain-lr1e-5-b32", "--modes", "corrected", "--seeds=1", "--part=2/2"]
    main(["reproduce", f"--root={full_size}", f"--out={tmp_path}/grid", *more])
    assert "Part 2 of 2 has no run" in capsys.readouterr().out
    assert not (tmp_path / "grid").exists()
    for part in ("0/3", "4/3", "x"):
        with pytest.raises(SystemExit):
            main(["reproduce", f"--root={full_size}", "--dry-run", "--part", part])


def test_half_a_set_and_another_partition_are_refused(full_size, tmp_path):
    from recipes.celeba.grid.plan import read_splits

    source = full_size / "celeba"
    attributes = (source / "list_attr_celeba.txt").read_text().splitlines()[:52]
    attributes[0] = "50"
    folder = tmp_path / "celeba"
    folder.mkdir()
    (folder / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (folder / "list_eval_partition.txt").write_bytes((source / "list_eval_partition.txt").read_bytes())
    with pytest.raises(TableError, match="202,549 files of the partition have no attributes"):
        read_splits(tmp_path)
    (folder / "list_eval_partition.txt").write_text("".join(f"{i:06d}.jpg 0\n" for i in range(1, 51)))
    with pytest.raises(TableError, match="no image in valid, test"):
        read_splits(tmp_path)
    (folder / "list_eval_partition.txt").write_text("".join(f"{i:06d}.jpg {i % 3}\n" for i in range(1, 51)))
    counts, _ = read_splits(tmp_path, limit=10)
    assert counts == {"train": 10, "valid": 10, "test": 10}
    assert math.ceil(10 / 8) == 2


def test_the_folder_of_another_grid_is_refused(tmp_path):
    claim(tmp_path / "a", settings())
    claim(tmp_path / "a", settings())
    with pytest.raises(RunError, match=r"another grid \(image_size: 64 there, 224 here\)"):
        claim(tmp_path / "a", settings(image_size=224))
    with pytest.raises(RunError, match="data: x there, y here"):
        claim(tmp_path / "a", settings(data="y"))
    (tmp_path / "a/plan.json").write_text("{}")
    with pytest.raises(RunError, match="no plan of a grid"):
        claim(tmp_path / "a", settings())
    (tmp_path / "c").mkdir()
    (tmp_path / "c/plan.json.0.part").write_text("{")  # another part of the grid is just writing it
    claim(tmp_path / "c", settings())
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not the folder of a grid"):
        claim(tmp_path / "b", settings())
