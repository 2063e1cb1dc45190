"""A drawn diagram of a network: blocks from image to output, and where its covariates enter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from fusionconv.errors import ExplainError
from fusionconv.explain.blocks import Block, blocks_of
from fusionconv.explain.calling import name_covariates, unwrapped
from fusionconv.surgery.one_call import count_covariates, zero_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_network"]

#: what a method does at its layer, and how many inches wide that is
FORMULAS = {
    "hybrid": (r"$W+\sum_j s_jV_j$", 0.95),
    "lowrank": (r"$W+A\,\mathrm{diag}(c(s))\,B$", 1.75),
    "hyper": (r"$W+\sum_r h_r(s)\,V_r$", 1.2),
    "film": (r"$(1+\gamma(s))\,y+\beta(s)$", 1.5),
    "daft": (r"$\alpha(s,x)\,y+\beta(s,x)$", 1.5),
    "scale": (r"$(1+a(s))\,y$", 1.1),
    "attention": (r"$2\,\sigma(a(s))\,y$", 1.2),
    "concat": (r"$[f;\,s]$", 0.6),
    "condconv": (r"$W+\sum_e r_e(x)\,V_e$", 1.2),
}
INK, QUIET, BLUE, ORANGE = "#222831", "#6b7280", "#1b6ca8", "#d9661f"
FACES = {"weights": "#e8f0f8", "pool": "#f3f4f6", "other": "#f3f4f6"}
GAP, TALL, LOW = 0.34, 1.75, 0.72  # inches


def plot_network(
    model: nn.Module, input_size: Sequence[int] | None = None, *, names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:  # fmt: skip
    r"""Draw a network as blocks from image to output, with its fused layers in orange and the covariates above them.

    Blocks are as tall as their maps are large. Below each stands the shape of what it gives, channels first. Large
    blocks are opened as far as twenty fit; norms and activations stand with the layer in front of them. The drawing is
    a chain: shortcuts and skip connections are not drawn.

    Args:
        model: fused or not.
        input_size: (C, \*size) of one image: it is run once, in eval mode, for order and shapes; default: blocks as
            they are registered, without shapes.
        names: of the covariates; default: s_1 to s_K.
        title: above the drawing.

    Returns:
        A figure that belongs to no window: ``figure.savefig("network.svg")``.

    Raises:
        ExplainError: no module; an image that the network does not take; not as many names as covariates.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import plot_network
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(864, 10))
        >>> model = fusionconv.fuse_into(net, "first", num_covariates=2)
        >>> figure = plot_network(model, input_size=(1, 28, 28), names=["age", "sex"])
        >>> [text.get_text() for text in figure.axes[0].texts if "24" in text.get_text()]
        ['6 × 24 × 24']
    """
    model = unwrapped(model)
    image = None if input_size is None else zero_image(model, input_size, ExplainError)
    labels = name_covariates(names, count_covariates(model))
    drawn = blocks_of(model, image)
    return _draw(drawn, None if image is None else tuple(image.shape[1:]), labels, title)


def _draw(blocks: list[Block], size: tuple[int, ...] | None, names: tuple[str, ...], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    widths = [_width(block) for block in blocks]
    start = 0.9 + GAP
    lefts = [start + sum(widths[:n]) + GAP * n for n in range(len(blocks))]
    end = lefts[-1] + widths[-1]
    middles = [left + width / 2 for left, width in zip(lefts, widths, strict=True)]
    fused = [n for n, block in enumerate(blocks) if block.fused]
    full = math.prod(size[1:]) ** (1 / max(len(size) - 1, 1)) if size else 1.0
    talls = [_height(block, full) for block in blocks]
    high = max(0.45, max(talls) / 2)
    top = high + (1.3 if fused else 0.15)
    bottom = -high - 0.42
    box = _vector(names, sum(middles[n] for n in fused) / len(fused), end) if fused else None
    right = max(end + 0.1, 0.0 if box is None else box[0] + box[1] + 0.1)
    said = [max(FORMULAS[method][1] for _, method in blocks[n].fused) + middles[n] for n in fused]
    right = max([right, *said])
    height = top - bottom + (0.3 if title else 0.0)
    figure = Figure(figsize=(right + 0.1, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.05, right + 0.05), ylim=(bottom, bottom + height))
    axes.set_axis_off()
    axes.set_aspect("equal")
    _input(axes, size, high)
    for n, (block, left, width, tall) in enumerate(zip(blocks, lefts, widths, talls, strict=True)):
        _block(axes, block, left, width, tall)
        _arrow(axes, (0.9 if n == 0 else lefts[n - 1] + widths[n - 1], 0), (left, 0), INK, 1.2)
        if block.shape:
            axes.text(middles[n], -high - 0.16, _size(block.shape), ha="center", va="top", fontsize=7.5, color=QUIET)
    if box is not None:
        _covariates(axes, names, box, [(middles[n], talls[n] / 2) for n in fused], [blocks[n] for n in fused], high)
    if title:
        axes.text(0, bottom + height - 0.08, title, ha="left", va="top", fontsize=10, color=INK, weight="bold")
    return figure


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _lines(block: Block) -> list[str]:
    """What stands in a block: its name, what it is, how it is fused."""
    words = block.detail.split(", ")
    name = ".".join(block.name.split(".")[-2:]) if block.name.count(".") > 1 else block.name.rpartition(".")[2]
    if name.rpartition(".")[2].isdigit():  # the number in a Sequential says nothing
        lines = [words[0], *_wrapped(words[1:])]
    else:
        lines = [name or words[0], *_wrapped(words if name else words[1:])]
    if block.fused:
        methods = sorted({method for _, method in block.fused})
        inner = [name for name, _ in block.fused]
        word = ", ".join(methods)
        lines.append(word if inner == [""] else f"{word}: {inner[0]}" if len(inner) == 1 else f"{len(inner)} × {word}")
    return lines


def _wrapped(words: Sequence[str]) -> list[str]:
    """A few words a line."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < 18:
            lines[-1] += f", {word}"
        else:
            lines.append(word)
    return lines


def _width(block: Block) -> float:
    return max(0.74, 0.073 * max(map(len, _lines(block))) + 0.16, 0.062 * len(_size(block.shape or ())) - GAP + 0.1)


def _height(block: Block, full: float) -> float:
    """Of a block, by the side of its maps on a logarithmic scale; at least so tall that its text fits."""
    least = 0.17 * len(_lines(block)) + 0.24
    if block.shape is None:
        return max(least, 1.1)
    if len(block.shape) < 2:
        return least
    side = math.prod(block.shape[1:]) ** (1 / (len(block.shape) - 1))
    share = math.log2(side + 1) / math.log2(max(full, side) + 1)
    return max(least, LOW + (TALL - LOW) * share)


def _block(axes: Any, block: Block, left: float, width: float, tall: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    edge = ORANGE if block.fused else BLUE if block.kind == "weights" else QUIET
    face = "#fdebdd" if block.fused else FACES[block.kind]
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch((left, -tall / 2), width, tall, boxstyle=style, facecolor=face, edgecolor=edge,
                                  linewidth=1.8 if block.fused else 1.1, zorder=2, gid=block.name))  # fmt: skip
    lines = _lines(block)
    for n, line in enumerate(lines):
        last = bool(block.fused) and n == len(lines) - 1
        axes.text(
            left + width / 2, 0.17 * ((len(lines) - 1) / 2 - n), line, ha="center", va="center", zorder=3,
            fontsize=8.5 if n == 0 else 7.5, weight="bold" if n == 0 or last else "normal",
            color=ORANGE if last else INK if n == 0 else QUIET,
        )  # fmt: skip


def _input(axes: Any, size: tuple[int, ...] | None, high: float) -> None:
    """The image, as a small stack."""
    from matplotlib.patches import Rectangle

    for step in (2, 1, 0):
        corner = (0.06 + 0.07 * step, -0.38 + 0.07 * step)
        axes.add_patch(Rectangle(corner, 0.66, 0.66, facecolor="white", edgecolor=INK, linewidth=1.0, zorder=2))
    word = "image" if size is None or len(size) == 3 else {4: "volume", 2: "signal"}.get(len(size), "input")
    axes.text(0.39, -0.05, word, ha="center", va="center", fontsize=8.5, weight="bold", color=INK, zorder=3)
    if size is not None:
        axes.text(0.42, -high - 0.16, _size(size), ha="center", va="top", fontsize=7.5, color=QUIET)


def _vector(names: tuple[str, ...], middle: float, end: float) -> tuple[float, float, list[str], list[float]]:
    """Where the covariate vector is drawn: left, width, the cells' texts and widths."""
    cells = list(names) if len(names) <= 6 else [*names[:4], "…", names[-1]]
    cells = [cell if len(cell) <= 18 else f"{cell[:17]}…" for cell in cells]
    widths = [max(0.34, 0.075 * len(cell) + 0.16) for cell in cells]
    width = sum(widths)
    return max(0.0, min(middle - width / 2, max(end - width, 0.0))), width, cells, widths


def _covariates(
    axes: Any, names: tuple[str, ...], box: tuple[float, float, list[str], list[float]],
    tops: list[tuple[float, float]], fused: list[Block], high: float,
) -> None:  # fmt: skip
    """The vector, an arrow to each fused block, and what the method does there."""
    from matplotlib.patches import Rectangle

    left, width, cells, widths = box
    low = high + 0.72
    for n, (cell, own) in enumerate(zip(cells, widths, strict=True)):
        at = left + sum(widths[:n])
        axes.add_patch(Rectangle((at, low), own, 0.27, facecolor="#fdebdd", edgecolor=ORANGE, linewidth=1.1, zorder=2))
        axes.text(at + own / 2, low + 0.13, cell, ha="center", va="center", fontsize=8, color=INK, zorder=3)
    count = f"covariates $s$ ($K={len(names)}$)" if len(names) > 1 else "covariate $s$"
    axes.text(left + width / 2, low + 0.33, count, ha="center", va="bottom", fontsize=8, color=ORANGE)
    bus = high + 0.42
    middle = left + width / 2
    ends = [x for x, _ in tops]
    straight = len(tops) == 1 and left < ends[0] < left + width
    if straight:
        axes.plot([ends[0], ends[0]], [low, bus], color=ORANGE, lw=1.6, zorder=1)
    else:
        axes.plot([middle, middle], [low, bus], color=ORANGE, lw=1.6, zorder=1)
        axes.plot([min([*ends, middle]), max([*ends, middle])], [bus, bus], color=ORANGE, lw=1.6, zorder=1)
    said: set[str] = set()
    for block, (x, y) in zip(fused, tops, strict=True):
        _arrow(axes, (x, bus), (x, y), ORANGE, 1.6)
        for method in sorted({method for _, method in block.fused} - said):
            said.add(method)
            axes.text(x + 0.08, high + 0.2, FORMULAS[method][0], ha="left", va="center", fontsize=9, color=ORANGE)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], color: str, width: float) -> None:
    axes.annotate("", xy=end, xytext=start, zorder=2,
                  arrowprops={"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0,
                              "mutation_scale": 9})  # fmt: skip
