"""Arms without a network: `covariates`, and `stacked`, with the image arm's score; scikit-learn, torchsurv."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.folds import FoldData
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import Task
from fusionconv.study.tasks.base import Array

if TYPE_CHECKING:
    from fusionconv.study.runs import Run

__all__ = ["fit_estimator", "judge_covariates", "stack"]

#: names of estimators, and the scikit-learn classes for classes and for numbers
ESTIMATORS = {
    "logistic": ("sklearn.linear_model.LogisticRegression", "sklearn.linear_model.Ridge"),
    "boosting": ("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.ensemble.HistGradientBoostingRegressor"),
    "forest": ("sklearn.ensemble.RandomForestClassifier", "sklearn.ensemble.RandomForestRegressor"),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LogisticRegression": {"max_iter": 5000},
    "HistGradientBoostingClassifier": {"random_state": 0},
    "HistGradientBoostingRegressor": {"random_state": 0},
    "RandomForestClassifier": {"random_state": 0, "n_estimators": 300, "min_samples_leaf": 5},
    "RandomForestRegressor": {"random_state": 0, "n_estimators": 300, "min_samples_leaf": 5},
}


def fit_estimator(
    task: Task, name: str | None, x: Array, targets: Array, options: Mapping[str, Any] | None = None
) -> Callable[[Array], dict[str, Array]]:
    """A fitted model of covariates.

    Args:
        task: what is predicted.
        name: ``logistic`` (default: logistic regression for classes, ridge for numbers, Cox's model for survival),
            ``boosting``, ``forest``, or a scikit-learn class such as ``sklearn.svm.SVC``.
        x: (N, K).
        targets: as the task gives them.
        options: of the estimator.

    Returns:
        A function from (M, K) to the columns of predictions.
    """
    x = np.asarray(x, dtype=np.float64)
    if task.NAME == "survival":
        if name not in (None, "logistic"):
            raise StudyError(
                f"arm covariates: expected no estimator for survival (Cox's model is fitted), got {name!r}"
            )
        beta = fit_cox(x, targets[:, 0], targets[:, 1], float((options or {}).get("alpha", 1.0)))
        return lambda s: task.answers((np.asarray(s, np.float64) @ beta)[:, None])
    if task.NAME == "multilabel":
        each = [_fit(task, name, x, targets[:, at].astype(int), options) for at in range(targets.shape[1])]
        return lambda s: {f"p_{label}": _positive(model, s) for label, model in zip(task.columns, each, strict=True)}
    if task.NAME == "regression":
        center, scale = float(targets.mean()), float(targets.std()) or 1.0
        model = _fit(task, name, x, (targets - center) / scale, options)
        return lambda s: {"prediction": model.predict(np.asarray(s, np.float64)) * scale + center}
    model = _fit(task, name, x, targets.astype(int), options)

    def answer(s: Array) -> dict[str, Array]:
        p = np.zeros((len(s), task.num_outputs))
        p[:, model.classes_] = model.predict_proba(np.asarray(s, np.float64))
        return task.answers(np.log(p.clip(1e-12)))

    return answer


def _fit(task: Task, name: str | None, x: Array, y: Array, options: Mapping[str, Any] | None) -> Any:
    path = ESTIMATORS.get(name or "logistic", (name, name))[int(task.NAME == "regression")]
    module, _, kind = str(path).rpartition(".")
    try:
        maker = getattr(importlib.import_module(module), kind)
        arguments = {**_DEFAULTS.get(kind, {}), **(options or {})}
        if getattr(task, "loss_name", "") == "balanced" and kind in _DEFAULTS:  # as the networks' loss
            arguments.setdefault("class_weight", "balanced")
        model = maker(**arguments)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise StudyError(
            f"arm covariates: expected {', '.join(ESTIMATORS)} or a scikit-learn class such as sklearn.svm.SVC, got "
            f"{name!r} ({error})"
        ) from error
    model.fit(x, y)
    if task.NAME != "regression" and not hasattr(model, "predict_proba"):
        raise StudyError(f"arm covariates: expected a classifier with predict_proba, got {kind}; give its option, "
                         "such as probability: true")  # fmt: skip
    return model


def _positive(model: Any, s: Array) -> Array:
    p = model.predict_proba(np.asarray(s, np.float64))
    classes = list(model.classes_)
    return p[:, classes.index(1)] if 1 in classes else np.zeros(len(p))


def fit_cox(x: Array, time: Array, event: Array, penalty: float) -> Array:
    """Minimise -log partial likelihood + penalty/2 |beta|^2."""
    import torch

    from fusionconv.study.tasks.survival import cox_loss

    inputs = torch.tensor(x, dtype=torch.float32)
    times, events = torch.tensor(time, dtype=torch.float32), torch.tensor(event) > 0
    beta = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cox_loss(inputs @ beta, times, events) * events.sum() + penalty / 2 * (beta**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return np.asarray(beta.detach().double().numpy())


def judge_covariates(run: Run, data: FoldData, settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The arm without an image: fitted on the training rows, judged as the networks are, with the same controls."""
    import torch

    from fusionconv.study.environment import hardware
    from fusionconv.study.runs import choose_threshold, control_rows_of

    train = data.tables["train"]
    answer = fit_estimator(
        data.task, run.arm.estimator, train.covariates.numpy(), data.targets["train"], run.arm.options
    )
    frames = []
    for part in ("val", "test"):
        if not len(data.frames[part]):
            continue
        table, given = data.tables[part], {"true": data.tables[part].covariates.numpy()}
        if part == "test":
            controls = control_rows_of(data, settings, run.control_seed)
            given |= {name: np.stack([rows[i].numpy() for i in table.ids]) for name, rows in controls.items()}
        truth = data.task.truth(data.targets[part])
        frames += [
            pd.DataFrame({"id": table.ids, "control": name, **truth, **answer(rows), "part": part})
            for name, rows in given.items()
        ]
    threshold = settings.threshold if isinstance(settings.threshold, float) else 0.5
    if frames[0]["part"].iloc[0] == "val":
        threshold = choose_threshold(frames[0], data, settings)
    predictions = pd.concat([data.task.decide(f, threshold) for f in frames], ignore_index=True)
    return predictions, {
        "parameters": data.num_covariates + 1, "covariate_parameters": data.num_covariates, "threshold": threshold,
        "epochs": None, "best_epoch": None, "hardware": hardware(torch.device("cpu")), "tuned": [], "chosen": {},
        "val": {},
    }  # fmt: skip


def stack(
    task: Task, scores: pd.DataFrame, tests: pd.Series[bool], covariates: Array, targets: Array,
    controls: Mapping[str, Array], estimator: str | None = None,
) -> dict[str, dict[str, Array]]:  # fmt: skip
    """Arm `stacked` on one fold: a regression of the image arm's score and the covariates.

    What a statistician would do first. The score of each training row comes from the network of the fold that held that
    row out (of the same repeat), so it is never one that the network was fitted to.

    Args:
        task: what is predicted.
        scores: the image arm's out-of-fold predictions, a row for each row of ``covariates``.
        tests: which rows are the fold's test rows; all others train the regression.
        covariates: encoded by the fold's encoder, (N, K).
        targets: (N,) or (N, T).
        controls: name -> (N, K) covariates to give at test.
        estimator: as `fit_estimator`.

    Returns:
        For ``"true"`` and each control the columns of predictions of the test rows.
    """
    score = task.scores(scores)
    at = tests.to_numpy(dtype=bool)
    center, scale = score[~at].mean(0), score[~at].std(0)
    score = (score - center) / np.where(scale > 0, scale, 1.0)
    answer = fit_estimator(task, estimator, np.hstack([score, covariates])[~at], targets[~at])
    return {name: answer(np.hstack([score[at], rows[at]])) for name, rows in {"true": covariates, **controls}.items()}
