"""Tables of a finished cross-validation: each arm, arms against each other, controls of the covariates."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from fusionconv.evaluation import age_bias, correct_age_bias, corrected_resampled_ttest, fold_interval
from recipes.adni.tasks import Task
from recipes.common.markdown import markdown
from recipes.common.runs import RunError

BETTER = {"mae": "less", "loss": "less"}  # of every other metric more is better
BOUNDS = {"loss": (0, None)}  # the others are known by name
MEAN = (
    "Mean over folds [95 % interval of the mean, Nadeau & Bengio's variance, within the metric's bounds: on the logit "
    "scale between two, cut at one]"
)
NO_INTERVAL = "One fold has no interval, nor have equal values."


def read_results(folder: Path) -> pd.DataFrame:
    """A row per arm, fold and control with its metrics, and what the fold was: repeat, rows, seconds, parameters."""
    rows = []
    for path in sorted((folder / "folds").glob("*/*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        facts = {
            "arm": result["arm"],
            "fold": result["fold"],
            "repeat": int(result["fold"].split("-")[0].removeprefix("repeat")),
            "n_train": result["counts"].get("train", 0),
            "n_test": result["counts"].get("test", 0),
            "parameters": result["parameters"],
            "covariate_parameters": result["covariate_parameters"],
            "epochs": result.get("epochs"),
            "seconds": result["seconds"],
        }
        for control, metrics in {"true": result["metrics"], **result["controls"]}.items():
            rows.append({**facts, "control": control, **{k: math.nan if v is None else v for k, v in metrics.items()}})
    if not rows:
        raise RunError(f"{folder} holds no finished fold (folds/ARM/FOLD/result.json). Run crossval first.")
    return pd.DataFrame(rows)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Every test row's answers: arm, fold, control, subject, truth, answer."""
    frames = []
    for path in sorted((folder / "folds").glob("*/*/predictions.csv")):
        frame = pd.read_csv(
            path,
            dtype=dict.fromkeys(("id", "subject", "session", "control"), str),
            keep_default_na=False,
            na_values=[""],
        )
        frames.append(frame.assign(arm=path.parent.parent.name, fold=path.parent.name))
    return pd.concat(frames, ignore_index=True)


def per_arm(results: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Mean over folds, standard deviation, and the interval of the mean that allows for overlapping training sets."""
    rows = []
    for arm, folds in results[results["control"] == "true"].groupby("arm", sort=False):
        row = {
            "arm": arm,
            "folds": len(folds),
            "parameters": int(folds["parameters"].iloc[0]),
            "covariate_parameters": int(folds["covariate_parameters"].iloc[0]),
            "seconds per fold": folds["seconds"].mean(),
        }
        for metric in metrics:
            values = folds[metric].dropna()
            row |= {metric: values.mean(), f"{metric} sd": values.std(), f"{metric} folds": len(values)}
            if len(values):  # on the metric's own scale: no AUC above 1
                sizes = float(folds["n_train"].mean()), float(folds["n_test"].mean())
                found = fold_interval(values, *sizes, bounds=BOUNDS.get(metric, metric))
                row |= {f"{metric} low": found.low, f"{metric} high": found.high}
            else:
                row |= {f"{metric} low": math.nan, f"{metric} high": math.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def compared(results: pd.DataFrame, metrics: list[str], reference: str) -> pd.DataFrame:
    """Each arm less the reference, fold by fold: mean difference, interval and p of the corrected resampled t-test."""
    true = results[results["control"] == "true"]
    base = true[true["arm"] == reference].set_index("fold")
    rows = []
    for arm, folds in true.groupby("arm", sort=False):
        if arm == reference:
            continue
        folds = folds.set_index("fold").reindex(base.index)
        for metric in metrics:
            difference = (folds[metric] - base[metric]).dropna()
            low, high, p = corrected(difference, base.loc[difference.index], metric)
            rows.append(
                {
                    "arm": arm,
                    "reference": reference,
                    "metric": metric,
                    "difference": difference.mean(),
                    "low": low,
                    "high": high,
                    "p": p,
                    "folds": len(difference),
                }
            )
    return pd.DataFrame(rows)


def controlled(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What is left of an arm when its covariates are other people's, or the mean; same networks, same images."""
    rows = []
    for arm, given in results.groupby("arm", sort=False):
        kinds = given["control"].str.replace(r"-\d+$", "", regex=True)
        if set(kinds) == {"true"}:
            continue
        means = given.assign(kind=kinds).groupby(["kind", "fold"])[metric].mean().unstack(0)
        for kind in ("permuted", "constant"):
            if kind in means:
                difference = (means[kind] - means["true"]).dropna()
                same = given.drop_duplicates("fold").set_index("fold").loc[difference.index]
                low, high, p = corrected(difference, same, metric)
                rows.append(
                    {
                        "arm": arm,
                        "control": kind,
                        "metric": metric,
                        "true": means["true"].mean(),
                        "with control": means[kind].mean(),
                        "difference": difference.mean(),
                        "low": low,
                        "high": high,
                        "p": p,
                    }
                )
    return pd.DataFrame(rows)


def interval_text(row: pd.Series, metric: str) -> str:
    """A figure of `per_arm` with its interval, where it has one."""
    if pd.isna(row[metric]):
        return "not defined"
    ends = row[f"{metric} low"], row[f"{metric} high"]
    return f"{row[metric]:.3f}" + ("" if pd.isna(ends[0]) else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def corrected(differences: pd.Series, folds: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    """Interval of the mean difference over folds, and p of its being 0 (Nadeau & Bengio 2003); NaN if undefined."""
    if len(differences) < 2 or (differences.nunique() == 1 and differences.iloc[0] != 0):
        return math.nan, math.nan, math.nan
    sizes = float(folds["n_train"].mean()), float(folds["n_test"].mean())
    test = corrected_resampled_ttest(differences.to_numpy(), *sizes, bounds=BOUNDS.get(metric, metric))
    return test.low, test.high, math.nan if test.p_value is None else test.p_value


def brain_age(predictions: pd.DataFrame) -> pd.DataFrame:
    """Per arm: mean absolute error, the slope of the gap (predicted - true) on age, and the error without that line.

    The line is fitted for each fold on the predictions of the other folds of its repeat, which no network has been
    trained on. The corrected error uses the true age; it is no error of predicting an unknown one.
    """
    rows = []
    for arm, given in predictions[predictions["control"] == "true"].groupby("arm", sort=False):
        repeat = given["fold"].str.split("-").str[0]
        parts = []
        for (_, _), own in given.groupby([repeat, given["fold"]]):
            others = given[(repeat == repeat[own.index[0]]) & (given["fold"] != own["fold"].iloc[0])]
            if len(others) > 2:
                line = age_bias(others["target"], others["prediction"])
                parts.append(own.assign(corrected=correct_age_bias(own["target"], own["prediction"], line)))
        if not parts:  # one fold: no other fold to fit the line on
            continue
        whole = pd.concat(parts)
        slope = np.mean([age_bias(g["target"], g["prediction"]).slope for _, g in given.groupby(repeat)])
        rows.append(
            {
                "arm": arm,
                "MAE (years)": (whole["prediction"] - whole["target"]).abs().mean(),
                "slope of the gap on age": slope,
                "MAE after the age line is taken away": (whole["corrected"] - whole["target"]).abs().mean(),
            }
        )
    return pd.DataFrame(rows)


def summarise(folder: Path, task: Task, reference: str) -> str:
    """Write results.csv, summary.csv, comparison.csv, controls.csv and results.md; returns the page."""
    results = read_results(folder)
    metrics = [name for name in task.metrics if name in results]
    main = metrics[0]
    arms, against, controls = (
        per_arm(results, metrics),
        compared(results, metrics, reference),
        controlled(results, main),
    )
    results.to_csv(folder / "results.csv", index=False, float_format="%.6g")
    arms.to_csv(folder / "summary.csv", index=False, float_format="%.6g")
    against.to_csv(folder / "comparison.csv", index=False, float_format="%.6g")
    controls.to_csv(folder / "controls.csv", index=False, float_format="%.6g")

    folds, repeats = results["fold"].nunique(), results["repeat"].nunique()
    page = [
        f"## {folds} folds ({repeats} repeats), {results['n_train'].mean():.0f} training and "
        f"{results['n_test'].mean():.0f} test rows each",
        "",
        f"{MEAN}, and the standard deviation over folds. {NO_INTERVAL}",
        "",
        markdown(
            pd.DataFrame(
                {
                    "arm": arms["arm"],
                    **{
                        m: [
                            interval_text(a, m) + ("" if pd.isna(a[f"{m} sd"]) else f" +- {a[f'{m} sd']:.3f}")
                            for _, a in arms.iterrows()
                        ]
                        for m in metrics
                    },
                    "parameters": [f"{n:,d}" for n in arms["parameters"]],
                    "s / fold": [f"{s:.0f}" for s in arms["seconds per fold"]],
                }
            )
        ),
    ]
    if len(against):
        page += [
            "",
            f"Against `{reference}`, fold by fold (corrected resampled t-test, Nadeau & Bengio 2003; "
            f"{BETTER.get(main, 'more')} {main} is better):",
            "",
            markdown(shown(against[against["metric"] == main].drop(columns=["reference", "metric"]))),
        ]
    if len(controls):
        page += [
            "",
            f"{main} of the same networks on the same images with other people's covariates (`permuted`, mean of "
            "several) or the training mean for all (`constant`):",
            "",
            markdown(shown(controls.drop(columns="metric"))),
        ]
    if task.kind == "regression":
        ages = brain_age(read_predictions(folder))
        page += [
            "",
            "Bias: the line of the gap on age, fitted on the other folds' predictions (de Lange & Cole 2020). "
            "The corrected error uses the true age.",
            "",
            markdown(shown(ages)),
        ]
    text = "\n".join(page) + "\n"
    (folder / "results.md").write_text(text, encoding="utf-8")
    return text


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as text: p with its sign, everything else to three places."""
    table = table.copy()
    for column in table:
        if column == "p":
            table[column] = ["-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in table[column]]
        elif pd.api.types.is_float_dtype(table[column]):
            table[column] = ["-" if math.isnan(v) else f"{v:.3f}" for v in table[column]]
    return table
