"""The arm without an image: a linear model of the encoded covariates, by scikit-learn or torchsurv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from recipes.adni.tasks import Task, cox_loss


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
    beta = _cox(x, values["time"].to_numpy(), values["event"].to_numpy(), penalty)
    return lambda s: {"log_hazard": np.asarray(s, np.float64) @ beta}


def _cox(x: np.ndarray, time: np.ndarray, event: np.ndarray, penalty: float) -> np.ndarray:
    """Minimise -log partial likelihood + penalty/2 |beta|^2."""
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
    return beta.detach().double().numpy()
