"""Half precision, and what a card is given."""

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.study import Study
from fusionconv.study.module import in_channels_last
from recipes.celeba.training import precision_of_a_card


def test_arms_train_in_bfloat16(small, tmp_path) -> None:
    study = Study(**{**small, "epochs": 1, "trainer": {"precision": "bf16-true", "accelerator": "cpu"}})
    table = study.compare(["image", "hybrid@first"], folds=2, out=tmp_path / "runs").table
    assert list(dict.fromkeys(table["arm"])) == ["image", "hybrid-first"]
    assert table["mean"].notna().all() if "mean" in table else len(table) > 0


def test_channels_last_takes_any_fused_network() -> None:
    """Same numbers; a hybrid layer's V has five dimensions, a 3-D network's weights too."""
    torch.manual_seed(0)
    for network, x in (
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), torch.randn(2, 2, 9, 9)),
        (nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 3)), torch.randn(2, 2, 9, 9, 9)),
    ):
        fused = fusionconv.fuse_into(network, "all", num_covariates=3, init="kaiming")
        s = torch.randn(2, 3)
        before = fused(x, s)
        in_channels_last(fused)
        torch.testing.assert_close(fused(x, s), before)
        formats = [p.is_contiguous(memory_format=torch.channels_last) for p in fused.parameters() if p.ndim == 4]
        assert len(formats) == (2 if x.ndim == 4 else 0)
        assert all(formats)


@pytest.mark.parametrize(
    ("card", "said", "expected"),
    [
        (True, {}, {"precision": "bf16-mixed"}),
        (True, {"precision": "32-true"}, {"precision": "32-true"}),
        (True, {"accelerator": "cpu"}, {"accelerator": "cpu"}),
        (False, {}, {}),
    ],
)
def test_the_celeba_recipe_computes_in_bfloat16_on_a_card(monkeypatch, card, said, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    assert precision_of_a_card(said) == expected
