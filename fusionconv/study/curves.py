"""A Lightning logger that keeps metrics.csv tidy (one row per epoch and step) and draws curves.png beside it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

SECONDS_BETWEEN_DRAWINGS = 120.0
FEW_POINTS = 20  # a curve of so many points or fewer shows each of them


class CurvesLogger(Logger):
    """Collects what is logged during fit. Lightning's CSVLogger writes train and val values of a step in two rows.

    Args:
        folder: where metrics.csv and curves.png go.
        columns: what is kept, such as ``"train/loss"`` and ``"val/accuracy"``, in this order; a panel for each name
            behind the slash.
        resume: keep the rows that metrics.csv already holds.
        fine_tuning: epoch at which frozen parts begin to be trained; a line in the curves.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], resume: bool = False, fine_tuning: int | None = None
    ) -> None:
        super().__init__()
        self.folder, self.fine_tuning = folder, fine_tuning
        self.columns = ["epoch", "step", *columns]
        self.rows: dict[tuple[int, int], dict[str, float]] = {}
        if resume and (folder / "metrics.csv").is_file():
            # As text, then float(): pandas' own parser is off by a last bit now and then.
            for record in pd.read_csv(folder / "metrics.csv", dtype=str, keep_default_na=False).to_dict("records"):
                values = {str(key): float(value) for key, value in record.items() if value}
                self.rows[int(record["epoch"]), int(record["step"])] = values
        self._drawn, self._new = time.monotonic(), True  # when, and whether anything came since

    @property
    def name(self) -> str:
        """Part of Lightning's logger interface."""
        return "curves"

    @property
    def version(self) -> str:
        """Part of Lightning's logger interface."""
        return ""

    @property
    def save_dir(self) -> str:
        """Part of Lightning's logger interface."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take the values of one step; Lightning calls it with the epoch among them."""
        values = {str(key): float(value) for key, value in metrics.items() if key in self.columns}
        if not values.keys() - {"epoch"} or step is None:
            return
        key = int(values.get("epoch", 0)), int(step)
        self.rows.setdefault(key, {}).update(values, epoch=key[0], step=key[1])
        self._new = True
        self.write_table()  # now: a killed run goes on from its checkpoint with the rows before it
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_DRAWINGS:
            self.write()  # drawing takes a second

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write when the run ends, whichever way it ends; Lightning also calls this after each pass of tests."""
        if self._new:
            self.write()

    def write(self) -> None:
        """Write metrics.csv and curves.png."""
        self._drawn, self._new = time.monotonic(), False
        if self.rows:
            draw_curves(self.write_table(), self.folder / "curves.png", self.fine_tuning)

    def forget_from(self, step: int) -> None:
        """Drop the rows of ``step`` and later, which a run that goes on from there will write again."""
        self.rows = {key: values for key, values in self.rows.items() if key[1] < step}

    def write_table(self) -> pd.DataFrame:
        """Write metrics.csv, at once or not at all; returns it."""
        table = pd.DataFrame(list(self.rows.values())).reindex(columns=self.columns).sort_values(["step", "epoch"])
        table = table.astype({"epoch": int, "step": int})
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "metrics.csv.part"
        table.to_csv(part, index=False)
        os.replace(part, self.folder / "metrics.csv")
        return table


def draw_curves(table: pd.DataFrame, path: Path, fine_tuning: int | None = None) -> None:
    """A panel for each metric against the step: training as a line, validation as points on a line; rate and momentum.

    A dashed line marks the step at which epoch ``fine_tuning`` begins, where the table reaches it.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    metrics = list(dict.fromkeys(column.split("/", 1)[1] for column in map(str, table) if "/" in column))
    metrics += [name for name in ("lr", "momentum") if name in table and table[name].notna().any()]
    start = None
    if fine_tuning is not None and (table["epoch"] >= fine_tuning).any():
        start = table.loc[table["epoch"] < fine_tuning, "step"].max()
    rows = -(-len(metrics) // 2)
    figure = Figure(figsize=(11, 3.5 * rows))
    panels = figure.subplots(
        rows, 2, squeeze=False, gridspec_kw={"hspace": 0.35, "left": 0.07, "right": 0.97, "bottom": 0.5 / (3.5 * rows)}
    ).flat
    for axes, metric in itertools.zip_longest(panels, metrics):
        if metric is None:
            axes.set_axis_off()
            continue
        kinds: list[tuple[str, dict[str, Any]]] = [("train", {"color": "C0"}), ("val", {"color": "C1", "marker": "o"})]
        for side, style in [("", {"color": "C2"})] if metric in table else kinds:
            column = f"{side}/{metric}" if side else metric
            if column in table and table[column].notna().any():
                shown = table[["step", column]].dropna()
                if len(shown) <= FEW_POINTS:  # one point makes no line
                    style = {**style, "marker": "o"}
                axes.plot(shown["step"], shown[column], label=side or None, **style)
        axes.set(title=metric, xlabel="step")
        axes.grid(alpha=0.3)
        if start is not None:
            axes.axvline(start, color="0.4", ls="--", lw=1, label="fine-tuning begins")
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(path, dpi=110)
