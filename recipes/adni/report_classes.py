"""Classification in the report: ROC curves per fold and their mean, and whether probabilities are what they say."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fusionconv.evaluation import expected_calibration_error, reliability_table, roc_auc
from recipes.adni.report_figures import colour_of, panels_of
from recipes.common.figures import FAINT, INK, STYLE

GRID = np.linspace(0, 1, 201)  # of false positive rates
BINS = 10


@mpl.rc_context(STYLE)
def draw_roc(predictions: pd.DataFrame, arms: Sequence[str], classes: Sequence[str], code: int) -> Figure | None:
    """A panel for each arm: each fold's curve thin, their mean over sensitivities at equal false positive rates bold.

    Folds in which the class, or all others, are absent have no curve. Fawcett 2006 (Pattern Recognition Letters 27:861)
    calls this vertical averaging.

    Args:
        predictions: rows of all folds, with arm, fold, target and p_<class>.
        arms: in order.
        classes: names in the order of the codes.
        code: of the class that is positive.
    """
    positive = classes[code]
    figure, panels = panels_of(arms, 2.6, 2.5)
    curves = 0
    for axes, arm in zip(panels, arms, strict=True):
        colour, sensitivities, areas = colour_of(arms)[arm], [], []
        for _, rows in predictions[predictions["arm"] == arm].groupby("fold", sort=False):
            truth, score = (rows["target"] == code).to_numpy(), rows[f"p_{positive}"].to_numpy()
            if truth.all() or not truth.any():
                continue
            rates, sensitivity = roc_points(truth, score)
            axes.plot(rates, sensitivity, color=colour, linewidth=0.7, alpha=0.35)
            sensitivities.append(at_rates(rates, sensitivity))
            areas.append(roc_auc(truth, score))
        axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        if areas:
            mean = np.mean(sensitivities, axis=0)
            axes.plot(np.r_[0, GRID], np.r_[0, mean], color=colour, linewidth=2.4)
            curves += 1
        shown = f"mean AUC {np.mean(areas):.3f}, n = {len(areas)}" if areas else "not defined"
        axes.set_title(f"{arm}\n{shown}", fontsize=8.5)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.grid(color=FAINT, linewidth=0.7)
    others = classes[1 - code] if len(classes) == 2 else "the rest"
    figure.supxlabel(f"false positive rate ({others} taken for {positive})", fontsize=9)
    figure.supylabel(f"sensitivity ({positive} found)", fontsize=9)
    return figure if curves else None


def roc_points(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positive rates and sensitivities of all thresholds (scikit-learn)."""
    from sklearn.metrics import roc_curve

    rates, sensitivity, _ = roc_curve(truth, score, drop_intermediate=False)
    return rates, sensitivity


def at_rates(rates: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Sensitivity at the rates of `GRID`: of several at one rate the highest, straight lines between."""
    last = np.r_[rates[1:] != rates[:-1], True]
    return np.interp(GRID, rates[last], sensitivity[last])


def probability_of(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """What calibration looks at: of two classes the probability of the second, else those of all."""
    each = rows[[f"p_{name}" for name in classes]].to_numpy(dtype=float)
    return each[:, 1] if len(classes) == 2 else each


def calibration_errors(predictions: pd.DataFrame, arms: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Expected calibration error of each arm, mean over repeats; in a repeat all folds' test rows together."""
    rows = []
    for arm in arms:
        own = predictions[predictions["arm"] == arm]
        repeats = own["fold"].str.split("-").str[0]
        errors = [
            expected_calibration_error(part["target"].to_numpy(int), probability_of(part, classes), BINS)
            for _, part in own.groupby(repeats)
        ]
        rows.append({"arm": arm, "calibration error": np.mean(errors), "repeats": len(errors), "rows": len(own)})
    return pd.DataFrame(rows)


@mpl.rc_context(STYLE)
def draw_calibration(first_repeat: pd.DataFrame, arms: Sequence[str], classes: Sequence[str]) -> Figure:
    """Probability against observed frequency in bins, a panel for each arm; bars below: how many rows a bin has.

    Args:
        first_repeat: test rows of one repeat, so that every subject counts once and Wilson's intervals hold.
        arms: in order.
        classes: names in the order of the codes; of more than two the most probable class is judged.
    """
    figure, panels = panels_of(arms, 2.6, 2.5)
    for axes, arm in zip(panels, arms, strict=True):
        rows = first_repeat[first_repeat["arm"] == arm]
        colour = colour_of(arms)[arm]
        axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        if len(rows):
            table = reliability_table(rows["target"].to_numpy(int), probability_of(rows, classes), BINS)
            some = table[table["n"] > 0]
            axes.bar((table["low"] + table["high"]) / 2, 0.25 * table["n"] / table["n"].max(), 0.9 / BINS, color=FAINT)
            axes.vlines(some["probability"], some["observed_low"], some["observed_high"], color=colour, alpha=0.5)
            axes.plot(some["probability"], some["observed"], "o-", color=colour, linewidth=1.2, markersize=4.5)
            axes.annotate(f"largest bin {table['n'].max()}", (0.99, 0.01), xycoords="axes fraction", ha="right",
                          va="bottom", fontsize=7)  # fmt: skip
        axes.set_title(f"{arm} (n = {len(rows)})")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
    two = len(classes) == 2
    figure.supxlabel(f"predicted probability of {classes[1] if two else 'the most probable class'}", fontsize=9)
    figure.supylabel(f"observed frequency{'' if two else ' of its being right'}", fontsize=9)
    return figure
