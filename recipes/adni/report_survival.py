"""Survival in the report: Kaplan-Meier curves of those with a high and a low predicted risk."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from recipes.adni.report_figures import panels_of
from recipes.common.figures import COLOURS, FAINT, STYLE

GROUPS = {"high": (COLOURS[1], "-"), "low": (COLOURS[0], (0, (5, 1.5)))}


def kaplan_meier(time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and the share without the event just after them, from (0, 1) on (torchsurv's estimator).

    ``S(t) = prod over times u <= t of (1 - events at u / under observation just before u)``.

    >>> [values.round(3).tolist() for values in kaplan_meier(np.array([2.0, 1.0, 3.0]), np.array([0, 1, 1]))]
    [[0.0, 1.0, 2.0, 3.0], [1.0, 0.667, 0.667, 0.0]]
    """
    from torchsurv.stats.kaplan_meier import KaplanMeierEstimator

    estimator = KaplanMeierEstimator()
    estimator(torch.tensor(event > 0), torch.tensor(time.astype(np.float64)))
    return np.r_[0.0, estimator.time.numpy()], np.r_[1.0, estimator.km_est.double().numpy()]


def risk_groups(rows: pd.DataFrame) -> pd.Series:
    """``high`` where the predicted log hazard lies above the median of the fold's test rows, else ``low``.

    Within a fold, since each fold has a network of its own and log hazards have no common zero.
    """
    median = rows.groupby(["arm", "fold"], observed=True)["log_hazard"].transform("median")
    return pd.Series(np.where(rows["log_hazard"] > median, "high", "low"), rows.index)


@mpl.rc_context(STYLE)
def draw_survival(first_repeat: pd.DataFrame, arms: Sequence[str], time: str, event: str) -> Figure:
    """A panel for each arm, every subject once; crosses are ends of observation."""
    figure, panels = panels_of(arms, 2.9, 2.5)
    group = risk_groups(first_repeat)
    for axes, arm in zip(panels, arms, strict=True):
        for name, (colour, line) in GROUPS.items():
            rows = first_repeat[(first_repeat["arm"] == arm) & (group == name)]
            if rows.empty:
                continue
            times, share = kaplan_meier(rows["time"].to_numpy(), rows["event"].to_numpy())
            label = f"{name} risk: n = {len(rows)}, {int(rows['event'].sum())} events"
            axes.step(times, share, where="post", color=colour, linestyle=line, linewidth=2, label=label)
            ended = rows.loc[rows["event"] == 0, "time"].to_numpy()
            at = share[np.searchsorted(times, ended, side="right") - 1]
            axes.plot(ended, at, "+", color=colour, markersize=5, alpha=0.6)
        axes.set(ylim=(-0.02, 1.03), xlim=(0, None))
        axes.set_title(arm)
        axes.grid(color=FAINT, linewidth=0.7)
        axes.legend(fontsize=7, loc="lower left", handlelength=1.6)
    figure.supxlabel(time, fontsize=9)
    figure.supylabel(f"share without the event ({event})", fontsize=9)
    return figure
