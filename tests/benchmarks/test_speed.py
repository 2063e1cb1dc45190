"""The measurements: the guard of auto, ratios that tell a slow way from a fast one, memory, the page and its bad input."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.speed import models
from benchmarks.speed.cases import Case, grid
from benchmarks.speed.layers import chosen, measure, summary, ways
from benchmarks.speed.timing import compare, peak_memory
from fusionconv.errors import FusionError
from fusionconv.strategies import STRATEGIES

CPU = torch.device("cpu")

GUARDED = [
    Case("shallow", 2, 8, (8, 32), 64),
    Case("deep", 2, 8, (256, 256), 8),
    Case("binary", 2, 16, (256, 256), 8, k=1, kind="binary"),
]


@pytest.mark.parametrize("case", GUARDED, ids=lambda case: case.layer)
def test_auto_is_not_far_behind_the_best_strategy(case: Case) -> None:
    """By more than 1.5 times, three times over: a ratio within one process, so that a noisy machine does not trip it."""
    behind = []
    for _ in range(3):
        found = compare(dict(ways(case, CPU, backward=True)), "plain", CPU, budget=2.0, rounds=(5, 9))
        behind.append(found["auto"].ratio / min(found[name].ratio for name in STRATEGIES))
        if behind[-1] <= 1.5:
            return
    pytest.fail(f"auto takes {behind} times the fastest strategy")


def test_ratios_within_rounds() -> None:
    """A way that sleeps three times as long has a ratio of about three, whichever comes first."""
    plain, slow = (lambda: time.sleep(0.03)), (lambda: time.sleep(0.09))
    for order in ({"plain": plain, "slow": slow}, {"slow": slow, "plain": plain}):
        found = compare(order, "plain", CPU, budget=0.6)
        assert found["plain"].ratio == 1.0
        assert 2.0 < found["slow"].ratio < 4.0
        assert found["slow"].low <= found["slow"].ratio <= found["slow"].high
        assert found["slow"].rounds >= 3


def test_a_slow_way_sits_out() -> None:
    found = compare({"plain": lambda: None, "slow": lambda: time.sleep(0.01)}, "plain", CPU, budget=0.2)
    assert found["slow"].rounds == 1
    assert found["plain"].rounds == 25


def test_peak_memory_sees_what_is_freed_again() -> None:
    """100 MB for a moment, then 40; and a gradient as large as its weight."""
    assert peak_memory(lambda: None, CPU) == 0
    large = peak_memory(lambda: (torch.ones(25_000_000).sum(), torch.ones(10_000_000)), CPU)
    assert large is not None
    assert 100e6 <= large < 101e6
    weight = torch.ones(5_000_000, requires_grad=True)
    held = peak_memory(lambda: torch.autograd.grad((weight * 2).sum(), weight), CPU)
    assert held is not None
    assert 20e6 <= held <= 61e6


@pytest.mark.parametrize("backward", [False, True])
def test_all_ways_compute_the_same(backward: bool) -> None:
    """Otherwise their times mean nothing: strategies, auto and timm's layer on the same tensors."""
    for case in (Case("2-D", 2, 3, (4, 6), 7, k=2), Case("3-D", 3, 2, (2, 4), 5, k=2), Case("1-D", 1, 2, (2, 4), 9)):
        found = {name: way() for name, way in ways(case, CPU, backward)}
        expected = found["loop"]
        for name in (*STRATEGIES, "auto"):
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)
        if "condconv2d of timm" in found and not backward:
            torch.testing.assert_close(found["condconv2d of timm"], expected, rtol=1e-4, atol=1e-4)


def test_the_grid_holds_what_the_contract_says() -> None:
    for device in ("cpu", "cuda"):
        cases = grid(device)
        assert {case.dims for case in cases} == {1, 2, 3}
        assert {case.k for case in cases} >= {1, 3, 16, 64, 256}
        assert {case.batch for case in cases} >= {1, 4, 32}
        assert {"contiguous", "channels_last"} == {case.layout for case in cases}
        assert len({case.name for case in cases}) == len(cases)
    assert {case.dtype for case in grid("cuda")} == {"float32", "bfloat16"}


def _record(auto: float, best: float, plain: float = 1.0) -> dict:
    def timing(ratio: float) -> dict:
        return {"seconds": 0.01 * ratio, "ratio": ratio, "low": ratio, "high": ratio, "rounds": 3}

    ratios = {"plain": plain, **dict.fromkeys(STRATEGIES, 3.0), "grouped": best, "auto": auto}
    both = {name: timing(ratio) for name, ratio in ratios.items()}
    return {"case": f"case {auto}", "varied": "base", "layer": "x", "k": 3, "forward": both, "step": both}


def test_summary() -> None:
    found = summary([_record(1.0, 1.0), _record(4.0, 2.0)])["step"]
    assert found["auto / plain"]["geometric_mean"] == 2.0  # sqrt(1 x 4)
    assert found["auto / plain"]["worst"] == 4.0
    assert found["auto / best strategy of the case"]["mean"] == 1.5
    assert found["loop / auto"]["worst"] == 3.0
    assert found["condconv2d of timm / auto"] == {}


def test_page_marks_what_was_missed(tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    result = {
        "measure": "layers",
        "device": "cpu",
        "quick": False,
        "environment": {"torch": "9"},
        "seconds": 1.0,
        "note": "all alone",
    }
    result |= {
        "command": "python -m benchmarks layers",
        "records": [_record(1.0, 1.0), _record(4.0, 2.0), _record(2.0, 1.2)],
    }
    file.write_text(json.dumps(result))
    main(["page", str(file), "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "| auto / plain, geometric mean over the cases | ≤ 1.15 | **2.00** |" in text
    assert (
        '- Beyond 1.6: case 4.0 (4.00): the best strategy here, `grouped`, takes 2.00; see "Where the bound lies".'
        in text
    )
    assert "- Beyond 1.6: case 2.0 (2.00): the choice of `auto`; `grouped` takes 1.20 here." in text
    assert "No CUDA card was at hand" in text
    assert "`python -m benchmarks layers`: torch 9; 1 s; all alone" in text
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(FusionError, match="expected a JSON file"):
        main(["page", str(tmp_path / "other.json"), "--out", str(tmp_path / "page.md")])
    with pytest.raises(FusionError, match="at least one"):
        main(["page", "--out", str(tmp_path / "page.md")])


def test_the_choice_s_own_column_tells_noise_from_a_bad_choice(tmp_path: Path) -> None:
    """One case where auto (grouped) reads 2.0 and grouped 1.0: the same code, so the first is noise."""
    case = next(case for case in grid("cpu") if {chosen(case, device) for device in ("cpu", "cuda")} == {"grouped"})
    record = {**_record(2.0, 1.0), "case": case.name}
    result = {"measure": "layers", "device": "cpu", "environment": {}, "seconds": 1.0, "command": "x"}
    (tmp_path / "layers.json").write_text(json.dumps(result | {"records": [record]}))
    main(["page", str(tmp_path / "layers.json"), "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "the larger / the smaller, median; worst | | 2.00; 2.00 |" in text
    assert "the best of each case, mean; worst | | 1.00; 1.00 |" in text
    assert "(2.00): noise: it takes `grouped`, whose own column has 1.00." in text


def test_a_call_leaves_no_gradient_that_the_next_one_frees() -> None:
    """CUDA's peak is counted above what is held before the call: gradients left over there would be taken off it."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    network(torch.zeros(1, 3, 8, 8))
    before = network[0].weight.detach().clone()
    step = models._step(network, (torch.randn(2, 3, 8, 8),), torch.tensor([0, 1]), "float32")
    step()
    assert not torch.equal(network[0].weight, before)
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, way in ways(Case("small", 2, 2, (4, 4), 6), CPU, backward=True):
        gradients = way()
        assert all(gradient is not None for gradient in gradients), name
        variables = dict(zip(way.__code__.co_freevars, (cell.cell_contents for cell in way.__closure__), strict=True))
        assert all(tensor.grad is None for tensor in variables["wanted"]), name


def test_cuda_without_a_card() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(SystemExit, match="no CUDA card"):
        main(["layers", "--device", "cuda"])


def test_layers_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to the page, on a small case."""
    monkeypatch.setattr("benchmarks.speed.layers.grid", lambda *_: [Case("tiny", 2, 2, (4, 4), 6)])
    assert len(list(measure(CPU, True, 0.05))) == 1
    main(["layers", "--quick", "--budget", "0.05", "--json", str(tmp_path / "a.json")])
    main(["page", str(tmp_path / "a.json"), "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "tiny: 4->4, 3x3 on 6x6, batch 2, K 3" in text
    assert "(quick form: a few cases only)" in text
