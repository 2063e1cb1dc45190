"""The measurement of low rank: the same numbers by both ways, parameters, the summary, and its part of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.speed import lowrank
from benchmarks.speed.cases import Case, deep, grid

CPU = torch.device("cpu")
TINY = Case("tiny", 2, 2, (4, 6), 6, k=5, varied="deep")


def test_all_ways_compute_the_same() -> None:
    for case in (TINY, Case("1-D", 1, 3, (4, 4), 9), Case("depthwise", 2, 2, (4, 4), 6, groups=4)):
        torch.manual_seed(0)
        found = {name: way() for name, way in lowrank.ways(case, CPU)}
        for name in ("lowrank, features", "lowrank, kernels"):
            torch.testing.assert_close(found[name], found["lowrank, auto"], rtol=1e-4, atol=1e-4)
        for name in (n for n in found if n.startswith("hybrid, ")):
            torch.testing.assert_close(found[name], found["hybrid"], rtol=1e-4, atol=1e-4)
        assert ("hybrid, tiled" in found) == (case.varied == "deep")
        assert len(found["hybrid"]) == len(found["plain"]) + 1
        assert len(found["lowrank, auto"]) == len(found["plain"]) + 3


def test_the_deep_layers_are_not_in_the_grid() -> None:
    names = [case.name for case in deep()]
    assert len(set(names)) == len(names)
    shapes = {(c.channels, c.size, c.batch, c.k) for c in grid("cpu")}
    assert len([c for c in deep() if (c.channels, c.size, c.batch, c.k) not in shapes]) >= 8


def test_from_the_command_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.lowrank.grid", lambda *_: [Case("small", 2, 2, (4, 4), 6)])
    monkeypatch.setattr("benchmarks.speed.lowrank.deep", lambda: [TINY])
    main(["lowrank", "--budget", "0.05", "--json", str(tmp_path / "a.json")])
    main(["page", str(tmp_path / "a.json"), "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "| tiny: 4->6, 3x3 on 6x6, batch 2, K 5 |" in text
    assert f"| {5 * 6 * 4 * 9:,} | {8 * (4 * 9 + 6 + 5):,} |" in text  # hybrid, lowrank
    assert "| layers that are not in it |" in text
    assert "| layer | hybrid | hybrid, grouped | hybrid, chunked | hybrid, tiled |" in text


def test_summary() -> None:
    def record(auto: float, in_grid: bool) -> dict:
        names = ("hybrid", *(f"lowrank, {way}" for way in lowrank.WAYS))
        return {"grid": in_grid, "step": {name: {"ratio": auto if "auto" in name else 9.0} for name in names}}

    found = lowrank.summary([record(1.0, True), record(4.0, True), record(2.0, False)])
    assert found["grid"]["lowrank, auto"] == {"geometric_mean": 2.0, "worst": 4.0}
    assert found["deep"]["lowrank, auto"] == {"geometric_mean": 2.0, "worst": 2.0}
    assert found["all"]["hybrid"]["worst"] == 9.0
