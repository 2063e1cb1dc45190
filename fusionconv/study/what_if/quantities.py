"""Quantity: a number of a task's answers, by the name that people have for it, and the axis that it is drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fusionconv.study.rows import Rows

__all__ = ["Quantity", "quantities"]


@dataclass(frozen=True)
class Quantity:
    """One of the numbers of `Said.numbers`.

    Attributes:
        name: its key there.
        title: for people.
        low, high: ends of its axis; NaN: those of what is drawn.
        decimals: that are shown; None: four significant digits.
    """

    name: str
    title: str
    low: float = math.nan
    high: float = math.nan
    decimals: int | None = 3

    def show(self, value: float, sign: bool = False) -> str:
        """The value as text; ``sign``: with its plus."""
        if not math.isfinite(value):
            return "not defined"
        plus = "+" if sign else ""
        text = f"{value:{plus}.4g}" if self.decimals is None else f"{value:{plus}.{self.decimals}f}"
        return "no change" if sign and float(text) == 0 else text


def quantities(rows: Rows) -> list[Quantity]:
    """What a study's answers are shown by, the main one first."""
    task = rows.task
    names: list[str] = getattr(task, "names", [])
    if task.NAME == "binary":
        what = f"{task.columns[0]} = {names[1]}"
        return [Quantity("probability", f"probability of {what}", 0, 1)]
    if task.NAME == "multiclass":
        return [Quantity(f"p_{name}", f"probability of {name}", 0, 1) for name in names]
    if task.NAME == "multilabel":
        return [Quantity(f"p_{name}", f"probability of {name}", 0, 1) for name in task.columns]
    if task.NAME == "regression":
        low, high = float(rows.targets.min()), float(rows.targets.max())
        return [Quantity("prediction", task.columns[0], low, high, decimals=None)]
    if task.NAME == "survival":
        return [
            Quantity("hazard_ratio", "hazard, 1 is the median subject's", decimals=2),
            Quantity("log_hazard", "log hazard", decimals=3),
        ]
    shown: list[str] = getattr(task, "shown", [])
    if task.NAME == "segmentation":
        each = [Quantity(f"dice_{name}", f"Dice of {name}", 0, 1) for name in shown] if len(shown) > 1 else []
        shares = [Quantity(f"share_{name}", f"share of the image that is {name}", decimals=4) for name in shown]
        return [Quantity("dice", "Dice with the mask", 0, 1), *each, *shares]
    return [
        Quantity("psnr", "PSNR against the target, dB", decimals=2), Quantity("ssim", "SSIM", 0, 1),
        Quantity("mae", "mean absolute error", decimals=4), Quantity("mean", "mean value of the output", decimals=4),
    ]  # fmt: skip
