"""The arm `stacked` of a comparison: made from the image arm's finished runs, fold by fold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.study.arms import Arm, parse_arm
from fusionconv.study.files import read_json, write_csv, write_json
from fusionconv.study.folds import FoldData
from fusionconv.study.plain_models import stack
from fusionconv.study.runs import choose_threshold, control_rows_of, run_folder, run_seed
from fusionconv.study.settings import Settings
from fusionconv.study.tasks.base import Array
from fusionconv.study.written_tables import read_predictions

if TYPE_CHECKING:
    from fusionconv.study.study import Study

__all__ = ["stack_folds"]


def stack_folds(study: Study, arm: Arm, out: Path) -> None:
    """Write ``runs/stacked/FOLD`` for every fold, as the other arms have it.

    With folds, the training rows' scores are those of the networks that held them out. These networks were trained on
    the fold's test rows, as is usual where one cross-validation serves both steps: the regression's few weights, not
    the scores, may know a little of them. Nested folds would not. With a single hold-out no such
    scores exist: the regression is then fitted on the validation part, which chose the epoch but trained nothing.
    """
    task, image = study.rows.task, parse_arm("image")
    settings = study.of_arm(arm)
    for fold in study.folds.columns:
        repeat = fold.split("-")[0]
        alike = [f for f in study.folds.columns if f.split("-")[0] == repeat] if "-fold" in fold else [fold]
        parts = ("test",) if len(alike) > 1 else ("val", "test")
        found = [_scores(out, image.name, f, parts, study.settings.seeds) for f in alike]
        scores = pd.concat(found).drop_duplicates("id").set_index("id")
        split = study.folds[fold]
        used = study.rows.frame["id"].isin(scores.index) & (split != "")
        frame = study.rows.frame[used]
        data = study.data(arm.without_image(), fold)
        assert data.encoder is not None
        covariates = data.encoder.transform(frame).astype(np.float64)
        tests = (split[used] == "test").reset_index(drop=True)
        controls: dict[str, Any] = {}
        for name, rows in control_rows_of(data, settings, run_seed(study.settings.seed, fold, 0)).items():
            changed = covariates.copy()
            changed[tests.to_numpy()] = np.stack([rows[i].numpy() for i in frame["id"][tests.to_numpy()]])
            controls[name] = changed
        targets = study.rows.targets[used.to_numpy()]
        given = scores.loc[frame["id"]].reset_index()
        answers = stack(task, given, tests, covariates, targets, controls, arm.estimator)
        threshold = _threshold(data, given, pd.Series(split[used].to_numpy()), covariates, targets, arm, settings)
        truth = task.truth(targets[tests.to_numpy()])
        ids = frame["id"][tests.to_numpy()].tolist()
        predictions = pd.concat(
            [task.decide(pd.DataFrame({"id": ids, "control": name, **truth, **answer, "part": "test"}), threshold)
             for name, answer in answers.items()], ignore_index=True,
        )  # fmt: skip
        folder = run_folder(out, arm.name, fold, 0)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "predictions.csv", predictions)
        result = {
            "arm": arm.name, "fold": fold, "number": 0, "key": "stacked",
            "seed": run_seed(study.settings.seed, fold, 0),
            "metrics": task.measure(predictions[predictions["control"] == "true"]),
            "main": task.metric(settings.metric).name, "seconds": 0.0,
            "counts": {part: len(f) for part, f in data.frames.items()}, "num_covariates": data.num_covariates,
            "unknown": dict(data.unknown), "parameters": data.num_covariates + 2,
            "covariate_parameters": data.num_covariates, "epochs": None, "best_epoch": None, "tuned": [], "chosen": {},
            "threshold": threshold, "val": {}, "hardware": "",
        }  # fmt: skip
        write_json(folder / "result.json", result)


def _threshold(
    data: FoldData, scores: pd.DataFrame, split: pd.Series[Any], covariates: Array, targets: Array, arm: Arm,
    settings: Settings,
) -> float:  # fmt: skip
    """As the other arms': set, or chosen on validation rows, by a regression that was not fitted to them.

    In a hold-out it was fitted to them: there are no others.
    """
    if settings.threshold != "validation":
        return float(settings.threshold)
    val = (split == "val").to_numpy()
    if not val.any():
        return 0.5
    if (split == "train").any():
        answers = stack(data.task, scores, split != "train", covariates, targets, {}, arm.estimator)["true"]
        judged = val[(split != "train").to_numpy()]
    else:  # a copy of the validation rows as rows to answer
        twice = np.r_[np.flatnonzero(val), np.flatnonzero(val)]
        copies = pd.Series(np.arange(len(twice)) >= val.sum())
        again = pd.concat([scores[val], scores[val]], ignore_index=True)
        answers = stack(data.task, again, copies, covariates[twice], targets[twice], {}, arm.estimator)["true"]
        judged = np.ones(int(val.sum()), dtype=bool)
    frame = pd.DataFrame({name: np.asarray(v)[judged] for name, v in answers.items()})
    return choose_threshold(frame.assign(**data.task.truth(targets[val])), data, settings)


def _scores(out: Path, arm: str, fold: str, parts: tuple[str, ...], seeds: int) -> pd.DataFrame:
    """The image arm's answers of a fold, those of several seeds averaged."""
    frames = []
    for number in range(seeds):
        run = run_folder(out, arm, fold, number)
        assert read_json(run / "result.json") is not None
        frame = read_predictions(run / "predictions.csv")
        frames.append(frame[(frame["control"] == "true") & frame["part"].isin(parts)])
    every = pd.concat(frames)
    numbers = list(every.select_dtypes("number").columns)
    return pd.DataFrame(every.groupby("id", sort=False)[numbers].mean().reset_index())
