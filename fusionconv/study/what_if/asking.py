"""WhatIf: a finished study whose networks answer for one of its rows with other covariates."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm, find_arm
from fusionconv.study.plan import require_same_rows
from fusionconv.study.predict import load_predictor
from fusionconv.study.saved import finished_networks
from fusionconv.study.sequences import flag_columns
from fusionconv.study.study import Study
from fusionconv.study.tasks import ImageTask
from fusionconv.study.what_if.answers import Answer, Effect, Network, Said
from fusionconv.study.what_if.controls import Control, Seen, common, make_control
from fusionconv.study.written_tables import read_predictions

__all__ = ["WhatIf"]

_MUCH = 2**21  # numbers of an image: beyond, an effect is drawn by one network only


class WhatIf:
    """A finished study whose rows can be asked with other covariates.

    Args:
        study: opened.
        out: its folder.
        arms: those with finished networks.

    Attributes:
        task: of the study.
        frame: its rows, index ``id``.
    """

    def __init__(self, study: Study, out: Path, arms: Sequence[Arm]) -> None:
        self.study, self.out, self.arms = study, out, {arm.name: arm for arm in arms}
        require_same_rows(study, arms, out)
        self.store, self.rows = study.store, study.rows
        self.task = self.rows.task
        self.frame = self.rows.frame.set_index("id", drop=False)

    @classmethod
    def open(cls, out: str | Path) -> WhatIf:
        """The study in a folder.

        Raises:
            StudyError: no study, no arm with finished networks, or rows that changed since it was trained.
        """
        study, arms = Study.open(out)
        table = study.settings.table
        if table is None or not Path(table).is_file():
            raise StudyError(
                f"{out}: expected the study's table {table}, got no such file; a relative path counts from the folder "
                "that the study was started in: start this there"
            )
        able = [arm for arm in arms if arm.has_network and finished_networks(Path(out), arm.name)]
        if not able:
            raise StudyError(
                f"{out}: expected at least one arm with finished networks, got none of "
                f"{', '.join(arm.name for arm in arms)}; run the comparison to its end, with --keep best"
            )
        return cls(study, Path(out), able)

    # ---- networks ----

    def arm(self, said: str | None) -> str:
        """An arm by name; None: the first hybrid one, or else the first that takes covariates, or else the first.

        Raises:
            StudyError: not among the arms with networks.
        """
        arms = list(self.arms.values())
        if said is not None:
            return find_arm(said, arms).name
        fused = [arm for arm in arms if arm.takes_covariates]
        return next((arm for arm in fused if arm.method == "hybrid"), next(iter(fused), arms[0])).name

    @functools.cache  # noqa: B019  # a page's one study lives as long as its process
    def networks(self, arm: str) -> tuple[Network, ...]:
        """The finished networks of an arm, in the order of their runs' names."""
        found = []
        for folder in finished_networks(self.out, arm):
            predictor = load_predictor(folder)
            median = self._median(folder.parent) if self.task.NAME == "survival" else None
            found.append(Network(folder.parent.name, str(predictor.about["fold"]), predictor, median))
        return tuple(found)

    def _median(self, run: Path) -> float | None:
        if not (run / "predictions.csv").is_file():
            return None
        rows = read_predictions(run / "predictions.csv")
        return float(rows.loc[(rows["part"] == "test") & (rows["control"] == "true"), "log_hazard"].median())

    @cached_property
    def controls(self) -> dict[str, Control]:
        """A control for each covariate column that some arm takes; flags of missing image columns go with the image."""
        flags = set(flag_columns(self.study.settings))
        encoders: dict[str, list[Any]] = {}
        for arm in self.arms:
            for network in self.networks(arm):
                if network.predictor.encoder is not None:
                    for column in network.predictor.encoder.columns:
                        encoders.setdefault(column, []).append(network.predictor.encoder)
        return {c: make_control(c, self.rows.frame, e) for c, e in encoders.items() if c not in flags}

    def columns(self, arm: str) -> list[str]:
        """The covariates of an arm that can be moved."""
        encoder = self.networks(arm)[0].predictor.encoder
        return [] if encoder is None else [c for c in encoder.columns if c in self.controls]

    @functools.cache  # noqa: B019
    def ids(self, fold: str, part: str) -> tuple[str, ...]:
        """The rows of a part of a fold."""
        return tuple(self.rows.frame.loc[(self.study.folds[fold] == part).to_numpy(), "id"])

    def trained(self, arm: str, column: str) -> Seen:
        """What every network of an arm has seen of a column in training: the numbers from ... to, or the labels."""
        return common([self.seen(n.fold, column) for n in self.networks(arm)])

    @functools.cache  # noqa: B019
    def seen(self, fold: str, column: str) -> Seen:
        """What the training rows of a fold have of a column."""
        return self.controls[column].seen(self.ids(fold, "train"))

    # ---- asking ----

    def own(self, name: str) -> dict[str, Any]:
        """The row's own value of every covariate.

        Raises:
            StudyError: no such row.
        """
        if name not in self.frame.index:
            raise StudyError(f"expected the id of a row of the study, got {name!r}; such as {self.frame.index[0]!r}")
        return {column: control.values[name] for column, control in self.controls.items()}

    def changed(self, name: str, values: Mapping[str, Any]) -> pd.DataFrame:
        """The row as a table of one, with other values of some covariates; cells that are not changed stay as read."""
        own = self.own(name)
        frame = self.frame.loc[[name]]
        for column, value in values.items():
            if column not in self.controls:
                raise StudyError(f"expected covariates {', '.join(own)}, got {column!r}")
            frame = self.controls[column].changed(frame, [value])
        return frame

    def ask(self, arm: str, name: str, values: Mapping[str, Any]) -> Answer:
        """What every network of an arm says for a row with these values of covariates; those not given are the row's.

        Each network's numbers are those of ``load_predictor(folder)(image, encoder.transform(row))``.
        """
        frame, target = self.changed(name, values), self._target(name)
        said = []
        for network in self.networks(arm):
            part = str(self.study.folds[network.fold].to_numpy()[self.frame.index.get_loc(name)])
            encoder = network.predictor.encoder
            problems = [] if encoder is None else encoder.check(frame)
            if problems:
                said.append(Said(network, part, problem=f"{problems[0][1]}: {problems[0][2]}"))
                continue
            numbers, picture = self._numbers(network, frame, self.inputs(network, name), target)
            said.append(Said(network, part, numbers, decision=self._decision(network, numbers), picture=picture))
        return Answer(tuple(said))

    def inputs(self, network: Network, name: str) -> Tensor:
        """The row's image as it enters a network, (1, C, *size)."""
        return network.predictor.inputs(self.store.read([name]), self.store.there([name]))

    def _target(self, name: str) -> tuple[Tensor, list[list[float]]] | None:
        """Of images out the row's target, (1, T, *size), and the sides of its pixels; None of other tasks."""
        store = self.study.target_store
        return None if store is None else (store.read([name]), store.sides([name]))

    def _numbers(
        self, network: Network, row: pd.DataFrame, image: Tensor, target: tuple[Tensor, list[list[float]]] | None
    ) -> tuple[dict[str, float], Tensor | None]:
        """The answer for an image with the covariates of a row, and as a picture."""
        predictor, picture = network.predictor, None
        covariates = predictor.encode(row)
        if isinstance(self.task, ImageTask):
            assert target is not None
            outputs = predictor.outputs(image, covariates).float()
            pictures = self.task.picture(outputs)
            found = {**self.task.score(outputs, *target, self.task.quick), **self.task.summary(pictures)}
            picture = pictures[0]
        else:
            found = predictor.answer(image, covariates)
            if network.median is not None:
                found = {"hazard_ratio": np.exp(found["log_hazard"] - network.median), **found}
        return {key: float(value[0]) for key, value in found.items()}, picture

    def _decision(self, network: Network, numbers: Mapping[str, float]) -> str:
        """The class that a network decides for, by its own threshold."""
        names: list[str] = getattr(self.task, "names", [])
        if not names:
            return ""
        decided = self.task.decide(pd.DataFrame([numbers]), network.predictor.about["threshold"])["decision"].iloc[0]
        return names[int(decided)] if self.task.NAME == "binary" else str(decided)

    def effect(
        self, arm: str, name: str, values: Mapping[str, Any], column: str, quantity: str, points: int = 15
    ) -> Effect:
        """The answer ``quantity`` of every network along a covariate, all others as in ``values``."""
        control = self.controls[column]
        grid = control.grid(points)
        rows, target = [self.changed(name, {**values, column: value}) for value in grid], self._target(name)
        whole = self.networks(arm)
        large = self.store.array[0].size > _MUCH
        if large:
            shown = self.ask(arm, name, values).first
            whole = (whole[0] if shown is None else shown.network,)
        curves = {}
        for network in whole:
            encoder, image = network.predictor.encoder, self.inputs(network, name)
            curve = np.full(len(grid), np.nan)
            for at, row in enumerate(rows):  # one row a call: rows of several dtypes, and images of any size
                if encoder is None or not encoder.check(row):
                    curve[at] = self._numbers(network, row, image, target)[0][quantity]
            curves[network.name] = curve
        return Effect(column, tuple(grid), curves, not large)
