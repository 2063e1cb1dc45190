"""The arm without an image: a linear model of the encoded covariates, by scikit-learn or torchsurv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fusionconv.study.plain_models import fit_cox
from recipes.adni.tasks import Task


def fit_linear(task: Task, covariates: np.ndarray, values: pd.DataFrame, penalty: float = 1.0) -> Any:
    """A linear model: logistic regression (L2, C = 1/penalty), ridge regression (alpha = penalty), or Cox's.

    Args:
        task: what to predict.
        covariates: encoded, (N, K).
        values: the targets, as `Task.targets` gives them.
        penalty: strength of the L2 penalty.

    Returns:
        A function from covariates (M, K) to the columns of predictions.
    """
    x = np.asarray(covariates, dtype=np.float64)
    if task.kind == "classification":
        from sklearn.linear_model import LogisticRegression

        logistic = LogisticRegression(C=1 / penalty, max_iter=5000).fit(x, values["target"].to_numpy(int))
        return lambda s: {
            f"p_{name}": p
            for name, p in zip(task.queries, logistic.predict_proba(np.asarray(s, np.float64)).T, strict=True)
        }
    if task.kind == "regression":
        from sklearn.linear_model import Ridge

        ridge = Ridge(alpha=penalty).fit(x, values["target"].to_numpy())
        return lambda s: {"prediction": ridge.predict(np.asarray(s, np.float64))}
    beta = fit_cox(x, values["time"].to_numpy(), values["event"].to_numpy(), penalty)
    return lambda s: {"log_hazard": np.asarray(s, np.float64) @ beta}
