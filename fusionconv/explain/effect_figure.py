"""The drawing of one covariate's effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fusionconv.explain.effects import CovariateEffect

__all__ = ["draw_effect"]

SHARE = 0.18  # of the height, for the distribution
THIN = 50  # rows' own curves at most


def draw_effect(axes: Any, effect: CovariateEffect, individual: bool) -> None:
    """Curves, the data's distribution below them, and a hatched ground where there were no data."""
    values, mean, outside = effect.values, effect.mean, effect.outside
    few = len(np.unique(effect.data)) <= 10
    marker = "o" if few or len(values) < 10 else None
    for a, answer in enumerate(effect.answers):
        color = f"C{a % 10}"
        if individual and len(effect.curves) > 1:
            for curve in effect.curves[:THIN, :, a]:
                axes.plot(values, curve, color=color, lw=0.5, alpha=0.35, gid="row")
        label = answer if len(effect.answers) > 1 else None
        style = "--" if outside.any() else "-"
        axes.plot(values, mean[:, a], color=color, lw=2, ls=style, marker=marker, ms=4, label=label, gid="mean")
        if outside.any():
            axes.plot(values[~outside], mean[~outside, a], color=color, lw=2, gid="inside")
    low, high = axes.get_ylim()
    axes.set_ylim(low - (high - low) * SHARE / (1 - SHARE), high)
    left, right = axes.get_xlim()
    for start, end in ((left, effect.low), (effect.high, right)):
        reaches = values.min() < effect.low if end == effect.low else values.max() > effect.high
        if reaches and end > start:
            axes.axvspan(start, end, facecolor="0.95", edgecolor="0.8", hatch="//", lw=0, zorder=0, gid="outside")
    axes.set_xlim(left, right)
    below = axes.inset_axes([0, 0, 1, SHARE], sharex=axes)
    if few:
        at, counts = np.unique(effect.data, return_counts=True)
        width = 0.5 * float(np.diff(at).min()) if len(at) > 1 else 0.1 * (right - left)
        below.bar(at, counts, width=width, color="0.75")
    else:
        below.hist(effect.data, bins=30, range=(effect.low, effect.high), color="0.75")
    below.set_xlim(left, right)
    below.set_axis_off()
    below.set_zorder(-1)
    axes.set_facecolor("none")
    axes.set_xlabel(effect.name, fontsize=9)
    axes.set_ylabel("answer", fontsize=9)
    axes.tick_params(labelsize=8)
    if len(effect.answers) > 1:
        axes.legend(fontsize=7, frameon=False)
