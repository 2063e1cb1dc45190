"""Comparison: what a study left in its folder, as tables, networks and a report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.arms import find_arm, parse_arm
from fusionconv.study.files import read_json
from fusionconv.study.folder import read_study
from fusionconv.study.settings import make_settings
from fusionconv.study.tasks import make_task
from fusionconv.study.written_tables import read_table_of_study

if TYPE_CHECKING:
    from torch import nn

    from fusionconv.tabular import CovariateEncoder

__all__ = ["Comparison"]


class Comparison:
    """What a comparison left in its folder: tables, predictions, networks, a report.

    Example:
        >>> import contextlib, io, tempfile
        >>> from pathlib import Path
        >>> from fusionconv.study import Comparison, Study
        >>> from fusionconv.study.demo import write_images
        >>> with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ...     table = write_images(Path(folder, "images"), dims=2, subjects=24, seed=0)
        ...     study = Study(table=table, image_column="file", subject="patient", target="disease",
        ...                   covariates=["age", "scanner"])
        ...     _ = study.compare(["covariates"], folds=2, resamples=100, out=Path(folder, "out"), progress=False)
        ...     comparison = Comparison(Path(folder, "out"))  # also in another process, later
        ...     metrics = comparison.table["metric"].tolist()
        >>> "auc" in metrics
        True
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)

    def summarise(self) -> Comparison:
        """Write results.csv, comparisons.csv, controls.csv, subgroups.csv and predictions.csv from the runs."""
        from fusionconv.study.results import summarise

        saved = read_study(self.out)
        notes = read_json(self.out / "notes.json") or {}
        summarise(self.out, make_task(notes["task"]), make_settings(saved["settings"]))
        return self

    def report(self) -> Path:
        """Write report.html and report.md; returns the path of the first."""
        from fusionconv.study.report import write_report

        return write_report(self.out)

    @property
    def table(self) -> pd.DataFrame:
        """Every arm's metrics with intervals (results.csv)."""
        return self._read("results.csv")

    @property
    def comparisons(self) -> pd.DataFrame:
        """Every arm against the reference (comparisons.csv)."""
        return self._read("comparisons.csv")

    @property
    def controls(self) -> pd.DataFrame:
        """What is left with other subjects' covariates (controls.csv)."""
        return self._read("controls.csv")

    @property
    def predictions(self) -> pd.DataFrame:
        """All out-of-fold rows of all arms (predictions.csv)."""
        return self._read("predictions.csv")

    def best(self, arm: str) -> tuple[nn.Module, CovariateEncoder | None]:
        """The network of an arm that did best on its validation part, and its encoder.

        To predict, `fusionconv.study.predict` averages the networks of all folds instead.
        """
        from fusionconv.study.saved import finished_networks, open_network

        found = []
        arms = [parse_arm(said) for said in read_study(self.out)["arms"]]
        for model in finished_networks(self.out, find_arm(arm, arms).name):
            result = read_json(model.parent / "result.json")
            assert result is not None
            value = (result.get("val") or {}).get(result["main"])
            found.append((float("nan") if value is None else float(value), model, result["main"]))
        if not found:
            raise StudyError(f"{self.out}: expected an arm with networks, got {arm!r}; run with --keep best")
        task = make_task((read_json(self.out / "notes.json") or {})["task"])
        greater = task.metric(found[0][2]).greater_is_better
        found.sort(key=lambda f: (f[0] != f[0], -f[0] if greater else f[0]))  # where nothing was chosen: the first
        return open_network(found[0][1])

    def _read(self, name: str) -> pd.DataFrame:
        path = self.out / name
        if not path.is_file():
            raise StudyError(
                f"{self.out}: expected a finished comparison with {name}, got none; run fusionconv compare, or "
                "fusionconv report"
            )
        return read_table_of_study(path)
