"""The phantoms: Bayes rates against simulated ideal observers, the stacked training against torch's own, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from benchmarks.phantoms import __main__ as command
from benchmarks.phantoms import plan
from benchmarks.phantoms.arms import ARMS, build, network
from benchmarks.phantoms.images import NOISE, SIZES, TAU, directions, grating_basis
from benchmarks.phantoms.page import page
from benchmarks.phantoms.statistics import choose, difference, interval, label, share
from benchmarks.phantoms.store import append, read
from benchmarks.phantoms.tasks import TASKS, Batch, bayes_shortcut_learned, make_task
from benchmarks.phantoms.training import Budget, Setting, Stack, train

N = 10_000
TOLERANCE = 4 * math.sqrt(0.25 / N)  # four standard errors of a share of N images: 2 points


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brightness(batch: Batch) -> torch.Tensor:
    """z, from the pixels: their mean over the amplitude, which is written out here."""
    flat = batch.images.flatten(1)
    return flat.mean(1) / (NOISE / (TAU * math.sqrt(flat.shape[1])))


def rates(name: str, dims: int, answer, test: bool = False) -> tuple[float, float]:
    """The share of right answers in N fresh images, and the Bayes rate of the task."""
    task = make_task(name, dims)
    right, generator = 0, seeded(len(name) + dims)
    for _ in range(N // 2000):
        batch = task.sample(2000, generator, test=test)
        right += int((answer(brightness(batch), batch.covariates) == (batch.target == 1)).sum())
    return right / N, task.bayes


# Of a and z, jointly normal: E[a | z] = z / (1 + TAU^2).
SHRINK = 1 / (1 + TAU**2)
OBSERVERS = {
    "additive": lambda z, s: SHRINK * z + s[:, 0] > 0,
    "xor": lambda z, s: z * s[:, 0] > 0,
    "atrophy": lambda z, s: z / torch.where(s[:, 1] > 0, 1.25, 0.75) > 1 + s[:, 0],
    "null": lambda z, s: z > 0,
    "shortcut": lambda z, s: z > 0,
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", OBSERVERS)
def test_the_bayes_rate_is_that_of_the_ideal_observer(name: str, dims: int) -> None:
    found, bayes = rates(name, dims, OBSERVERS[name], test=True)
    assert found == pytest.approx(bayes, abs=TOLERANCE)
    assert 0.9 < bayes < 0.96  # not 1: there is something to tell apart


@pytest.mark.parametrize("name", OBSERVERS)
def test_no_table_of_z_and_s_beats_the_bayes_rate(name: str) -> None:
    """The best answer in each cell of z and s, learned from 10^6 pairs without the formulas."""
    rng = np.random.default_rng(1)
    n = 1_000_000
    a, s, delta = rng.standard_normal((3, n))
    coin = rng.choice([-1.0, 1.0], n)
    head = np.where(coin > 0, 1.25, 0.75)
    shown = {"atrophy": head * (1 + s + delta)}.get(name, a)
    y = {"additive": a + s > 0, "xor": a * coin > 0, "atrophy": delta > 0}.get(name, a > 0)
    z = shown + TAU * rng.standard_normal(n)
    steps = {"additive": s, "atrophy": s}.get(name, np.zeros(n))
    cells = [
        np.digitize(z, np.linspace(-4, 6, 151)),
        np.digitize(steps, np.linspace(-3, 3, 61)),
        (coin > 0).astype(int),
    ]
    cell = np.ravel_multi_index(cells, (152, 62, 2))
    train, test = np.arange(n) < n // 2, np.arange(n) >= n // 2
    votes = np.bincount(cell[train], 2.0 * y[train] - 1, minlength=152 * 62 * 2)
    found = ((votes[cell[test]] > 0) == y[test]).mean()
    bayes = make_task(name, 2).bayes
    assert bayes - 0.01 < found < bayes + 0.002  # the grid costs a little


@pytest.mark.parametrize(("dims", "count"), [(2, 8), (2, 16), (3, 6)])
def test_selection_least_squares_observer_is_never_wrong(dims: int, count: int) -> None:
    task = make_task("selection", dims, count)
    generator = seeded(3)
    waves = grating_basis(dims, count)
    right = 0
    for _ in range(5):
        batch = task.sample(2000, generator)
        fit = torch.linalg.lstsq(waves.T, batch.images.flatten(1).T).solution  # (2 K, N)
        amplitude = fit[:count].hypot(fit[count:])
        asked = batch.covariates.argmax(1)
        right += int(((amplitude[asked, torch.arange(2000)] > 0.5).long() == batch.target).sum())
    assert right == 10_000
    assert task.bayes == pytest.approx(1, abs=1e-9)


def test_the_formula_for_one_grating_at_a_noise_where_it_is_not_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.phantoms import tasks

    noise = 6.0
    monkeypatch.setattr(tasks, "NOISE", noise)
    d = math.sqrt(576 / (2 * noise**2))
    rng = np.random.default_rng(0)
    present = rng.integers(0, 2, 400_000)
    projection = d * present + rng.standard_normal((2, 400_000)).T @ [1, 1j]
    grid = np.linspace(0.5, 4, 200)
    best = max(((np.abs(projection) > t) == present).mean() for t in grid)
    assert tasks.bayes_grating(2) == pytest.approx(best, abs=0.003)


def test_shortcut_what_the_ideal_observer_of_the_training_data_gets() -> None:
    def answer(z, s):
        p = torch.special.ndtr(z / (TAU * math.sqrt(1 + TAU**2)))
        return torch.logit(p) + s[:, 0] * math.log(9) > 0

    trained, tested = bayes_shortcut_learned()
    assert rates("shortcut", 2, answer)[0] == pytest.approx(trained, abs=TOLERANCE)
    assert rates("shortcut", 2, answer, test=True)[0] == pytest.approx(tested, abs=TOLERANCE)
    assert tested < make_task("shortcut", 2).bayes < trained


# ---------------------------------------------------------------- what the tasks are


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_balance(name: str, dims: int) -> None:
    task = make_task(name, dims)
    batch = task.sample(4000, seeded(), test=True)
    assert batch.images.shape == (4000, 1, *(SIZES[dims],) * dims)
    assert batch.covariates.shape == (4000, task.num_covariates)
    assert batch.target.double().mean() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 4000))
    again = task.sample(4000, seeded(), test=True)
    assert all(torch.equal(x, y) for x, y in zip(batch, again, strict=True))
    assert torch.allclose(batch.covariates.mean(0), task.constant, atol=0.08)


def pairs(name: str, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batches = [make_task(name, 2).sample(2000, g) for g in [seeded(5)] for _ in range(n // 2000)]
    z = torch.cat([brightness(b) for b in batches])
    return z.numpy(), torch.cat([b.covariates for b in batches]).numpy(), torch.cat([b.target for b in batches]).numpy()


def test_null_covariates_are_independent_of_label_and_image() -> None:
    z, s, y = pairs("null")
    for j in range(8):
        assert scipy.stats.ks_2samp(s[y == 0, j], s[y == 1, j]).pvalue > 1e-3
        assert abs(np.corrcoef(s[:, j], z)[0, 1]) < 4 / math.sqrt(N)


def test_xor_neither_alone_tells_anything() -> None:
    z, s, y = pairs("xor")
    for found in (((z > 0) == y).mean(), ((s[:, 0] > 0) == y).mean()):
        assert found == pytest.approx(0.5, abs=TOLERANCE)


def test_covariates_alone() -> None:
    for name in OBSERVERS:
        _, s, y = pairs(name)
        found = ((s[:, 0] > 0) == y).mean()
        if name == "shortcut":  # in training
            assert found == pytest.approx(0.9, abs=TOLERANCE)
        else:
            assert found == pytest.approx(make_task(name, 2).covariates_only, abs=TOLERANCE)


def test_selection_is_about_the_grating_that_s_names() -> None:
    batch = make_task("selection", 2).sample(500, seeded())
    spectrum = torch.fft.fft2(batch.images[:, 0]).abs()
    axis = directions(2, 8)[0]  # along the second image axis or the first: a wave of frequency .3 there
    row, column = (round(24 * 0.3 * float(abs(a))) for a in axis)
    power = spectrum[:, row, column]
    asked = batch.covariates[:, 0] == 1
    assert power[asked & (batch.target == 1)].min() > power[asked & (batch.target == 0)].max()
    assert (directions(3, 6) @ directions(3, 6).T - torch.eye(6)).abs().max() < 0.45  # 1 / sqrt(5)
    with pytest.raises(ValueError, match="at most 6"):
        directions(3, 7)
    with pytest.raises(ValueError, match="task must be one of"):
        make_task("selektion", 2)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("arm", "dims", "rule"),
    [*((arm, dims, "same") for arm in ARMS for dims in (2, 3)), ("hybrid, first", 2, "scaled"),
     ("hybrid, last", 3, "scaled"), ("image only", 2, "scaled"), ("concat MLP", 2, "scaled")],
)  # fmt: skip
def test_a_stack_is_its_networks_one_by_one(arm: str, dims: int, rule: str) -> None:
    """Two seeds, two rates, two Adam steps: the same weights as torch's own loop gives each of the four."""
    task = make_task("selection", dims, 3)
    batches = [[task.sample(4, seeded(10 * seed + i)) for i in range(2)] for seed in range(2)]

    def fresh(seed: int, grouped: bool):
        torch.manual_seed(seed)
        model = build(ARMS[arm], dims, 2, 3, head=True, grouped=grouped).double()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype))
        return model

    stack = Stack([fresh(seed, True) for seed in range(2)], 2, (0.01, 0.03), Budget(covariate_lr=rule))
    for i in range(2):
        parts = [batches[seed][i] for seed in range(2)]
        images, covariates, target = (torch.stack(p) for p in zip(*parts, strict=True))
        stack.step(Batch(images.double(), covariates.double(), target))
    for r, rate in enumerate((0.01, 0.03)):
        for seed in range(2):
            model = fresh(seed, False)  # the library's own choice of strategy
            of_v = (
                {f"{m}.covariate_{n}" for m in ("0", "2", "6") for n in ("weight", "bias")} if rule == "scaled" else ()
            )
            parts = [[p for n, p in model.named_parameters() if (n in of_v) is inside] for inside in (False, True)]
            optimizer = torch.optim.Adam([{"params": part} for part in parts if part])
            for i, b in enumerate(batches[seed]):
                for group, divisor in zip(optimizer.param_groups, (1, 3), strict=False):  # three covariates
                    group["lr"] = rate / divisor * (1 + math.cos(math.pi * i / 2)) / 2
                optimizer.zero_grad()
                F.cross_entropy(model(b.images.double(), b.covariates.double()), b.target).backward()
                optimizer.step()
            for name, p in model.named_parameters():
                torch.testing.assert_close(stack.leaves[r][name][seed], p.detach(), rtol=1e-6, atol=1e-7)


def test_positions_are_what_the_page_says() -> None:
    for dims in (2, 3):
        names = [type(m).__name__ for m in network(dims, 2)]
        assert [names[i] for i in (0, 2, 6, 8)] == [f"Conv{dims}d", f"Conv{dims}d", "Linear", "Linear"]
        images = torch.randn(2, 1, *(SIZES[dims],) * dims)
        sizes = []
        for module in network(dims, 2)[:3]:
            images = module(images)
            sizes.append(images.shape[-1])
        assert sizes == {2: [9, 9, 7], 3: [4, 4, 3]}[dims]


def test_only_the_images_of_selection_tell_the_arms_head_about_s() -> None:
    plain = build(ARMS["film, first"], 2, 2, 4, head=False)
    told = build(ARMS["film, first"], 2, 2, 4, head=True)
    extra = {n for n, _ in told.named_parameters()} - {n for n, _ in plain.named_parameters()}
    assert extra == {"6.covariate_out_weight"}


# ---------------------------------------------------------------- the command, the store, the page


def test_the_command_end_to_end_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--quick",
        "--steps",
        "2",
        "--out",
        str(tmp_path),
        "--only",
        "(additive|shortcut) 2-D, (concat l|image)",
    ]
    assert command.main(arguments) == 0
    lines = (tmp_path / "results-1.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [
        f"{task} 2-D, {arm}, width 2" for task in ("additive", "shortcut") for arm in ("image only", "concat linear")
    ]
    record = json.loads(lines[0])
    assert len(record["accuracy"]["true"]) == 2
    assert record["accuracy"]["true"] == record["accuracy"]["permuted"]  # image only
    assert set(record["rates"]) == {"0.01", "0.03"}
    text = (tmp_path / "phantoms.md").read_text()
    assert "### additive, 2-D" in text
    assert (tmp_path / "phantoms" / "tasks-2d.png").exists()
    # stopped in the middle of a line: that setting is run again, the others are not
    (tmp_path / "results-1.jsonl").write_text("\n".join([*lines[:3], lines[3][:40]]) + "\n")
    assert command.main(arguments) == 0
    kept = (tmp_path / "results-1.jsonl").read_text().splitlines()
    assert kept[:3] == lines[:3]
    assert len(kept) == 5
    again, before = json.loads(kept[4]), json.loads(lines[3])
    assert again["accuracy"] == before["accuracy"]  # the same seeds give the same numbers
    with pytest.raises(SystemExit, match="holds results of seeds 2, this run has 3"):
        command.main([*arguments, "--seeds", "3"])
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--part", "3/2"], "1 <= k <= n"), (["--seeds", "1"], "at least 2"), (["--only", "nothing"], "matches none"),
     (["--only", "("], "regular expression"), (["--table"], "holds no results yet")],
)  # fmt: skip
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([*arguments, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err


def test_parts_and_plans() -> None:
    full, quick = plan.full(), plan.quick()
    for settings in (full, quick):
        assert len({s.key for s in settings}) == len(settings)
        parts = [settings[k::3] for k in range(3)]
        assert sorted(s.key for p in parts for s in p) == sorted(s.key for s in settings)
    assert plan.FULL.seeds >= 5
    assert {s.task for s in full if s.dims == 2} == set(TASKS) == {s.task for s in quick}
    assert {s.task for s in full if s.dims == 3} >= {"selection", "xor", "additive", "null"}
    assert {s.arm for s in full if s.task == "xor"} > {a for a in ARMS if a.startswith(("film", "concat", "condconv"))}


def fake(task: str, arm: str, accuracy: list[float], dims: int = 2, **more: object) -> dict[str, object]:
    controls = dict.fromkeys(("true", "validation"), accuracy) | dict.fromkeys(
        ("permuted", "constant", "validation permuted"), [0.5] * len(accuracy)
    )
    record = {"task": task, "arm": arm, "dims": dims, "width": 2, "count": None, "samples": None, "extended": False,
              "steps": 300, "seeds": len(accuracy), "batch": 64, "test": 2000, "covariates": 8, "rate": 0.01, "seconds": 1.0,
              "bayes": 1.0 if task == "selection" else 0.9, "accuracy": controls, "date": "2000-01-01", "conditions": "none",
              "cost": {"parameters": 1234, "flops": 20_500.0, "kept": 300.0, "ms": 2.5}} | more  # fmt: skip
    return record | {"key": f"{task} {dims} {arm} {record['width']} {record['count']} {record['samples']}"}


def test_statistics() -> None:
    found = interval([0.9, 0.95, 1.0])
    expected = scipy.stats.ttest_1samp([0.9, 0.95, 1.0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    a, b = fake("null", "hybrid, first", [0.89, 0.91, 0.90]), fake("null", "image only", [0.90, 0.90, 0.90])
    assert share(a).mean == pytest.approx(100)
    wide = share(fake("null", "image only", [0.9, 0.5]))  # its t interval reaches 360 %
    assert wide.low < wide.mean < wide.high == 100
    paired = scipy.stats.ttest_rel([89, 91, 90], [90, 90, 90]).confidence_interval()
    assert (difference(a, b).low, difference(a, b).high) == pytest.approx((paired.low, paired.high))
    assert choose([a, fake("null", "hybrid, first", [1, 1], samples=250)], arm="hybrid, first") == [a]
    words = {
        "hybrid, first": "early",
        "hybrid, last": "early",
        "film, head": "late",
        "concat MLP": "late",
        "image only": "",
    }
    assert {arm: label(fake("xor", arm, [1, 1])) for arm in words} == words
    assert label(fake("selection", "condconv, first", [1, 1])) == "late"
    assert label(fake("xor", "condconv, first", [1, 1])) == ""


@pytest.mark.parametrize(("best_late", "answer"), [([0.70, 0.72, 0.71], "yes"), ([0.90, 0.92, 0.91], "no")])
def test_the_page_says_what_the_results_say(best_late: list[float], answer: str) -> None:
    records = [
        fake("selection", "hybrid, first", [1.0, 0.99, 1.0]),
        fake("selection", "concat MLP", [0.6, 0.6, 0.6]),
        fake("selection", "film, head", best_late),
        fake("selection", "film, first", [0.99, 0.99, 0.99]),  # early: not what is asked
        fake("selection", "concat MLP", [0.97, 0.96, 0.95], width=8),
        fake("null", "image only", [0.80, 0.81, 0.82]),
        fake("null", "hybrid, first", [0.80, 0.812, 0.82]),
        fake("null", "hybrid, last", [0.70, 0.71, 0.72]),
        fake("shortcut", "concat MLP", [0.80, 0.81, 0.82]),
    ]
    text = page(records, "python -m benchmarks.phantoms", {}, ["xor 3-D, film, last, width 2"])
    words = " ".join(text.split())
    assert f"K = 8, 2 channels: **{answer}**" in words
    assert "the best late fusion (of 2 tried), `film, head`" in words
    assert "reaches 95 % at a width of 8 channels" in " ".join(text.split())
    verdicts = {line.split(" | ")[1]: line for line in text.splitlines() if line.startswith("| null 2-D |")}
    assert verdicts["hybrid, first"].endswith("| does not lose |")
    assert verdicts["hybrid, last"].endswith("| loses |")
    assert "| concat MLP | 81.0 | 50.0 | 31.0 | 81.0 | 0.0 |" in text  # shortcut
    assert "| image only |" in text.split("### null, 2-D")[1]
    assert "- xor 3-D: film, last\n" in text.split("## Not run yet")[1]


def test_store_keeps_the_newest_of_all_parts(tmp_path: Path) -> None:
    append(tmp_path, 1, {"key": "a", "value": 1})
    append(tmp_path, 2, {"key": "b", "value": 2})
    append(tmp_path, 1, {"key": "a", "value": 3})
    assert {k: r["value"] for k, r in read(tmp_path).items()} == {"a": 3, "b": 2}
    assert "torch" in read(tmp_path)["a"]["conditions"]


def test_training_learns_a_training_set_and_a_task() -> None:
    """250 samples are drawn once; and a short training of an easy task is well above chance and below the Bayes rate."""
    budget = Budget(seeds=2, validation=200, test=500, steps=80)
    small = train(Setting("null", 2, "concat MLP", samples=20), Budget(seeds=2, validation=100, test=200, steps=3))
    assert small["samples"] == 20
    long = train(Setting("null", 2, "covariates only", steps=2), Budget(seeds=2, validation=100, test=200))
    assert long["extended"]
    assert (long["steps"], set(long["rates"])) == (2, {"0.003", "0.01", "0.03"})
    record = train(Setting("additive", 2, "concat MLP"), budget)
    assert 0.75 < np.mean(record["accuracy"]["true"]) < record["bayes"] + 0.03
    assert np.mean(record["accuracy"]["permuted"]) < np.mean(record["accuracy"]["true"]) - 0.1
    assert record["cost"]["parameters"] == sum(p.numel() for p in build(ARMS["concat MLP"], 2, 2, 1).parameters())
