"""LeNet-5 with covariates in its first convolution, drawn. ``python docs/figures/network.py`` writes network.svg."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import nn

import fusionconv
from fusionconv.explain import plot_network


def lenet() -> nn.Sequential:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def draw() -> Figure:
    """The figure."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "fusionconv"})
    torch.manual_seed(0)
    model = fusionconv.fuse_into(lenet(), "first", num_covariates=2)
    return plot_network(model, (1, 28, 28), names=["age", "sex"])


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
    draw().savefig(target, metadata={"Date": None})
