"""The idea in one figure: two subjects, one image, two kernels. ``python docs/figures/idea.py [FILE]``.

Every kernel and every map in it is computed by a `HybridConv2d`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

import fusionconv

BLUE, ORANGE, INK = "#1b6ca8", "#d9661f", "#222831"
SUBJECTS = {"subject 1": (-1.0, 1.0), "subject 2": (1.0, 0.0)}
NAMES = ("age", "scanner")


def image() -> Tensor:
    """A picture with stripes across, stripes along, and a disc."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    picture = 0.35 * torch.ones(48, 48)
    picture[6:20, 6:42] += 0.5 * (torch.sin(y[6:20, 6:42] * 1.6) > 0)
    picture[26:44, 5:22] += 0.5 * (torch.sin(x[26:44, 5:22] * 1.6) > 0)
    picture[(y - 35) ** 2 + (x - 34) ** 2 < 49] += 0.6
    return picture[None, None]


def layer() -> fusionconv.HybridConv2d:
    """W blurs; V_1 looks for stripes across, V_2 for stripes along."""
    made = fusionconv.HybridConv2d(1, 1, 5, num_covariates=2, padding=2, padding_mode="reflect", bias=False)
    r = torch.arange(-2.0, 3.0)
    smooth, wave = torch.exp(-(r**2) / 2.5), torch.cos(1.6 * r) * torch.exp(-(r**2) / 6)
    smooth, wave = smooth / smooth.sum(), wave - wave.mean()
    with torch.no_grad():
        made.weight.copy_(torch.outer(smooth, smooth))
        made.covariate_weight[0] = 0.28 * torch.outer(wave, smooth)
        made.covariate_weight[1] = 0.28 * torch.outer(smooth, wave)
    return made


def panel(
    figure: Figure, place: tuple[float, float], data: Tensor, title: str, color: str, bound: float | None
) -> None:
    """One picture: a kernel in blue and red between ``-bound`` and ``bound``, or an image in grey."""
    axes = figure.add_axes((*place, 0.115, 0.29))
    kernel = bound is not None
    axes.imshow(data, cmap="RdBu_r" if kernel else "gray", vmin=-bound if kernel else None, vmax=bound)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=color, linewidth=2)
    axes.set_title(title, color=color, fontsize=13, pad=6)


def draw() -> Figure:
    """The figure."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "fusionconv"})
    hybrid, picture = layer(), image()
    rows = torch.tensor(list(SUBJECTS.values()))
    with torch.no_grad():
        W, V = hybrid.weight[0, 0], hybrid.covariate_weight[:, 0, 0]
        kernels = W + torch.einsum("ij,jhw->ihw", rows, V)
        maps = hybrid(picture.expand(2, -1, -1, -1), rows)[:, 0]
    bound = float(kernels.abs().max())
    figure = plt.figure(figsize=(13.2, 5.8), facecolor="white")
    for n, (name, s) in enumerate(SUBJECTS.items()):
        bottom = 0.47 - 0.44 * n
        panel(figure, (0.010, bottom), W.detach(), "W", BLUE, bound)
        panel(figure, (0.195, bottom), V[0].detach(), f"$V_1$ ({NAMES[0]})", ORANGE, bound)
        panel(figure, (0.380, bottom), V[1].detach(), f"$V_2$ ({NAMES[1]})", ORANGE, bound)
        panel(figure, (0.530, bottom), kernels[n], f"kernel of {name}", INK, bound)
        panel(figure, (0.700, bottom), picture[0, 0], f"image of {name}", INK, None)
        panel(figure, (0.875, bottom), maps[n], "feature map", INK, None)
        signs = {
            0.160: (f"{'−' if s[0] < 0 else '+'} {abs(s[0]):g} ·", ORANGE),
            0.345: (f"{'−' if s[1] < 0 else '+'} {abs(s[1]):g} ·", ORANGE),
            0.5125: ("=", INK),
            0.6725: ("∗", INK),
            0.845: ("=", INK),
        }
        for left, (text, color) in signs.items():
            figure.text(left, bottom + 0.145, text, color=color, ha="center", va="center", fontsize=18)
    formula = r"$\mathrm{kernel}_i \;=\; W \;+\; \sum_j\, s_{ij}\, V_j$"
    figure.text(0.5, 0.92, formula, ha="center", va="center", fontsize=22)
    figure.text(0.010, 0.92, "s: age (z-score), scanner (0 or 1)", color=ORANGE, va="center", fontsize=13)
    figure.text(0.99, 0.92, "W and V: the same for all subjects", color=BLUE, va="center", ha="right", fontsize=13)
    return figure


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
    draw().savefig(target, metadata={"Date": None})
