"""Regression in the report: predicted against true, and how the error runs with the true value (the age line)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fusionconv.evaluation import age_bias
from recipes.adni.report_figures import colour_of, panels_of
from recipes.common.figures import FAINT, INK, STYLE


@mpl.rc_context(STYLE)
def draw_predicted(first_repeat: pd.DataFrame, arms: Sequence[str], target: str) -> Figure:
    """Predicted against true: a panel for each arm, every subject once, with the least-squares line.

    Args:
        first_repeat: test rows of one repeat.
        arms: in order.
        target: what was predicted, with its unit if it has one.
    """
    return _scatter(first_repeat, arms, f"true {target}", f"predicted {target}", gap=False)


@mpl.rc_context(STYLE)
def draw_gap(first_repeat: pd.DataFrame, arms: Sequence[str], target: str) -> Figure:
    """Predicted - true against true, with its line: a slope below zero is prediction towards the mean."""
    return _scatter(first_repeat, arms, f"true {target}", "predicted - true", gap=True)


def _scatter(first_repeat: pd.DataFrame, arms: Sequence[str], across: str, up: str, gap: bool) -> Figure:
    figure, panels = panels_of(arms, 2.6, 2.5)
    for axes, arm in zip(panels, arms, strict=True):
        rows = first_repeat[first_repeat["arm"] == arm]
        colour = colour_of(arms)[arm]
        true, predicted = rows["target"].to_numpy(), rows["prediction"].to_numpy()
        axes.plot(true, predicted - true if gap else predicted, ".", color=colour, alpha=0.5, markeredgewidth=0)
        axes.set_title(f"{arm} (n = {len(rows)})", fontsize=8.5)
        if len(rows) > 1 and np.ptp(true) > 0:
            ends = np.array([true.min(), true.max()])
            line = age_bias(true, predicted)
            axes.plot(ends, np.zeros(2) if gap else ends, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            fitted = line.slope * ends + line.intercept
            axes.plot(ends, fitted if gap else ends + fitted, color=colour, linewidth=2)
            slope = line.slope if gap else line.alpha
            axes.set_title(f"{arm} (n = {len(rows)})\nslope {slope:+.2f}", fontsize=8.5)
        axes.grid(color=FAINT, linewidth=0.7)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure
