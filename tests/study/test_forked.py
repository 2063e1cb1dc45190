"""Draws aside change nothing that comes after, on a GPU either (whose generator is played by a number here)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import fusionconv.study
from fusionconv.study.forked import forked_rng


class Cards:
    """The states of as many generators of a process that uses CUDA, or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, used: bool = True) -> None:
        self.states = [torch.full((2,), i) for i in range(count)]
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": self.states[self._index(device)].clone())
        monkeypatch.setattr(torch.cuda, "set_rng_state", self._set)

    def _index(self, device) -> int:
        return torch.device("cuda", device).index if isinstance(device, int) else torch.device(device).index

    def _set(self, state, device="cuda") -> None:
        self.states[self._index(device)] = state.clone()


@pytest.mark.parametrize("count", [1, 3])
def test_every_generator_goes_on_where_it_was(count: int, monkeypatch) -> None:
    cards = Cards(monkeypatch, count)
    before = [s.clone() for s in cards.states]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with forked_rng():
        torch.rand(7)
        for state in cards.states:
            state += 1
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(cards.states, before, strict=True))


def test_cuda_is_not_begun_for_it(monkeypatch) -> None:
    cards = Cards(monkeypatch, 1, used=False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: pytest.fail("begun"))
    with forked_rng():
        cards.states[0] += 1
    assert cards.states[0].tolist() == [1, 1]


def test_nobody_leaves_a_generator_out() -> None:
    for file in Path(fusionconv.study.__file__).parent.glob("*.py"):
        assert not re.search(r"fork_rng\(devices=\[\]\)", file.read_text(encoding="utf-8")), file.name
