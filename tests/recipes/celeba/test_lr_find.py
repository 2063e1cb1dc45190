import math

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

from recipes.celeba.lr_find import BETA, DIVERGED, mended, suggested, until_it_diverged


class Said(LightningModule):
    """A training whose loss is what the list says, step by step."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.lr = list(losses), 0.1
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.losses[self.trainer.global_step] + 0 * self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


def lightnings_curve(losses, tmp_path):
    trainer = Trainer(
        accelerator="cpu", max_epochs=len(losses), logger=False, enable_checkpointing=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    finder = Tuner(trainer).lr_find(
        Said(losses), DataLoader(torch.zeros(len(losses), 1)), num_training=len(losses), update_attr=False,
        early_stop_threshold=2 * DIVERGED,
    )  # fmt: skip
    return finder.results["loss"]


def smoothed(losses):
    """The weighted mean that exponential smoothing is, from its definition."""
    found = []
    for k in range(1, len(losses) + 1):
        weights = BETA ** np.arange(k - 1, -1, -1)
        found.append(float((weights * losses[:k]).sum() / weights.sum()))
    return found


@pytest.mark.parametrize("name", ["constant", "falling", "dip"])
def test_the_smoothed_loss_is_a_mean_of_the_losses(tmp_path, name):
    """Through Lightning. The first case fails when Lightning mends its correction: then remove `mended`."""
    steps = np.arange(40)
    losses = {
        "constant": np.full(40, 0.7),
        "falling": 2.0 - 0.02 * steps,
        "dip": 0.7 - 0.5 * np.exp(-(((steps - 25) / 8) ** 2)),
    }[name]
    curve = lightnings_curve(losses.tolist(), tmp_path)
    assert curve[0] == pytest.approx(losses[0] / (1 + BETA), rel=1e-5), f"Lightning {lightning.__version__} mended it"
    assert mended(curve) == pytest.approx(smoothed(losses), rel=1e-5)


def test_a_loss_that_fell_gives_a_suggestion():
    """A loss that is flat for most rates, falls by 0.05, and rises: as Lightning smooths it the start is lowest."""
    rates = np.logspace(-8, 0, 100)
    raw = 0.7 - 0.05 * ((rates > 1e-5) & (rates < 1e-2)) + 3 * (rates > 1e-1)
    right = np.array(smoothed(raw))
    wrong = right * [(1 - BETA**k) / (1 - BETA ** (k + 1)) for k in range(1, 101)]  # as in Lightning 2.6.6
    assert suggested(pd.DataFrame({"lr": rates, "smoothed_loss": wrong})) is None
    table = pd.DataFrame({"lr": rates, "smoothed_loss": mended(wrong.tolist())})
    assert 1e-4 < suggested(table) * 10 < 2e-1


def test_a_loss_that_never_fell_gives_none():
    rates = np.logspace(-8, 0, 100)
    for raw in (np.full(100, 0.7), 0.7 + rates):
        assert suggested(pd.DataFrame({"lr": rates, "smoothed_loss": smoothed(raw)}).round(9)) is None


@pytest.mark.parametrize("last", [[2.9, 9.0], [math.inf], [2.9, math.nan, 1.0]])
def test_the_curve_ends_where_it_diverges(last):
    table = pd.DataFrame({"lr": range(3 + len(last)), "smoothed_loss": [0.8, 0.7, 0.75, *last]})
    assert len(until_it_diverged(table)) == 4
    assert len(until_it_diverged(table.iloc[:3])) == 3
