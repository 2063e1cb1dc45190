"""Methods x positions on one page. ``python docs/figures/cheatsheet.py [FILE]``.

The rows are the library's own METHODS. What a method adds at a position, and whether it can be there at all, is found
by fusing: a ResNet-18 of torchvision and a 2-D BasicUNet of MONAI, with K = 4 covariates.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import fusionconv
from fusionconv.layers import METHODS

K = 4
#: what a sample gets (y = W x + b, the layer's own output); the whole formulas are in docs/methods.md
FORMULAS = {
    "hybrid": r"$(W + \sum_j s_j V_j)\, x$",
    "lowrank": r"$(W + A\, \mathrm{diag}(C s)\, B)\, x$",
    "hyper": r"$(W + \sum_r h_r(s)\, V_r)\, x$",
    "film": r"$(1 + \gamma(s))\, y + \beta(s)$",
    "daft": r"$(1 + \alpha(s, \bar y))\, y + \beta(s, \bar y)$",
    "scale": r"$(1 + m(s))\, y$",
    "attention": r"$2\, \sigma(m(s))\, y$",
    "concat": r"$y + C s$",
    "condconv": r"$(W + \sum_e r_e(\bar x)\, V_e)\, x$",
}
RESNET = {"first": "first", "layer4": "layer4", "last": "last", "all": "all", "fc": "head: fc"}
UNET = {"encoder": "encoder", "bottleneck": "bottleneck", "decoder": "decoder"}


def build(network: str) -> torch.nn.Module:
    """One of the two networks, without numbers in it: shapes are enough."""
    with torch.device("meta"):
        if network == "ResNet-18":
            import torchvision

            return torchvision.models.resnet18()
        from monai.networks.nets import BasicUNet

        return BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=(32, 32, 64, 128, 256, 32))


def added(network: str, where: str, method: str) -> tuple[int, float] | None:
    """Parameters that a method adds there, and their share of the network's own; None: it cannot be there."""
    model = build(network)
    own = sum(p.numel() for p in model.parameters())
    options = {"ignore_covariates": True} if method == "condconv" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fusionconv.fuse_into(model, where, num_covariates=K, method=method, **options)
    except fusionconv.SurgeryError:
        return None
    more = sum(p.numel() for p in model.parameters()) - own
    return more, more / own


def merges(method: str) -> bool:
    """Whether one covariate vector can be baked into plain layers."""
    options = {"ignore_covariates": True} if method == "condconv" else {}
    plain = torch.nn.Linear(3, 2) if method == "concat" else torch.nn.Conv2d(3, 2, 1)
    where = "last" if method == "concat" else 0
    model = fusionconv.fuse_into(torch.nn.Sequential(plain), where, num_covariates=K, method=method, **options)
    try:
        fusionconv.merge(model, torch.zeros(K))
    except (fusionconv.SurgeryError, NotImplementedError):
        return False
    return True


def short(number: int) -> str:
    """1234567 as 1.2 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}" if number < 10 * size else f"{number / size:.0f} {unit}"
    return str(number)


def draw() -> Figure:
    """The figure."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "fusionconv"})
    columns = [("ResNet-18", w, t) for w, t in RESNET.items()] + [("BasicUNet", w, t) for w, t in UNET.items()]
    figure, axes = plt.subplots(figsize=(13.2, 7.8), facecolor="white")
    figure.subplots_adjust(left=0.005, right=0.995, top=0.995, bottom=0.005)
    left, width, rows = 6.1, 1.22, len(METHODS)
    axes.set(xlim=(0, left + width * len(columns) + 2.6), ylim=(rows + 2.7, -2.6))
    axes.axis("off")
    ink, grey = "#222831", "#6b7480"
    axes.text(0.05, -2.1, f"{rows} methods, {len(columns)} positions", size=17, weight="bold")
    axes.text(
        0.05, -1.45, 'fuse_into(model, "first", num_covariates=4, method="film")', size=10, family="DejaVu Sans Mono"
    )
    for network, count, start in (("ResNet-18 (11.7 M)", len(RESNET), 0), ("U-Net (2.0 M)", len(UNET), len(RESNET))):
        middle = left + width * (start + count / 2)
        axes.text(middle, -1.45, network, ha="center", weight="bold", color=ink, size=11)
        axes.plot([left + width * start + 0.06, left + width * (start + count) - 0.06], [-1.2, -1.2], color=grey, lw=1)
    for n, (_, _, title) in enumerate(columns):
        axes.text(left + width * (n + 0.5), -0.75, title, ha="center", va="center", size=10.5, color=ink)
    for n, title in enumerate(("linear\nlayers", "merge")):
        axes.text(left + width * len(columns) + 0.7 + 1.25 * n, -0.75, title, ha="center", va="center", size=10.5)
    norm, colors = LogNorm(1e-5, 8), plt.get_cmap("Blues")
    for row, (method, kind) in enumerate(METHODS.items()):
        axes.axhline(row - 0.5, color="#d7dce1", lw=0.8)
        axes.text(0.05, row, method, va="center", size=12.5, weight="bold", family="DejaVu Sans Mono", color="#1b6ca8")
        axes.text(2.15, row, FORMULAS[method], va="center", size=12.5, color=ink)
        for n, (network, where, _) in enumerate(columns):
            found = added(network, where, method)
            place = (left + width * n + 0.04, row - 0.46)
            if found is None:
                axes.text(left + width * (n + 0.5), row, "–", ha="center", va="center", color=grey)
                continue
            shade = float(norm(found[1]))
            axes.add_patch(plt.Rectangle(place, width - 0.08, 0.92, color=colors(0.05 + 0.75 * shade), lw=0))
            ink_here = "white" if shade > 0.75 else ink
            axes.text(left + width * (n + 0.5), row, f"+{short(found[0])}", ha="center", va="center", color=ink_here)
        linear = torch.nn.Linear in kind.VARIANTS
        for n, yes in enumerate((linear, merges(method))):
            x = left + width * len(columns) + 0.7 + 1.25 * n
            axes.text(x, row, "yes" if yes else "no", ha="center", va="center", color=ink if yes else grey, size=11)
    axes.axhline(rows - 0.5, color="#d7dce1", lw=0.8)
    notes = (
        f"+n: parameters that the method adds there, with K = {K} covariates and default options; darker: a larger "
        "share of the network.   –: not there.",
        "s: the sample's covariates.  y: the layer's own output.  $\\bar x$, $\\bar y$: means of its maps.  "
        "$\\gamma, \\beta, \\alpha, m, h$: small networks of s.  At the start all give the network's own output.",
        "first, last: of the main path; of concat, of the linear layers.  layer4: the last convolution of that module; "
        'or a full name, "layer4.1.conv2".  all: every one on the main path.',
        "merge: one covariate vector can be baked into a plain network.  condconv sees the image only; it is there to "
        "compare with.",
    )
    for n, note in enumerate(notes):
        axes.text(0.05, rows + 0.15 + 0.72 * n, note, size=10.5, color=ink, va="center")
    return figure


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
    draw().savefig(target, metadata={"Date": None})
