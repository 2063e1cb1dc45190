"""The sections of the report: results per arm, differences, controls, ROC or error or survival, subgroups, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from recipes.adni import report_figures as draw
from recipes.adni.report_classes import calibration_errors, draw_calibration, draw_roc
from recipes.adni.report_groups import choose_columns, draw_groups, groups_table, metric_name
from recipes.adni.report_numbers import draw_gap, draw_predicted
from recipes.adni.report_run import CrossRun, with_rows
from recipes.adni.report_survival import draw_survival
from recipes.adni.summary import (
    BETTER,
    MEAN,
    NO_INTERVAL,
    brain_age,
    compared,
    controlled,
    interval_text,
    per_arm,
    shown,
)
from recipes.common.runs import RunError


@dataclass
class Section:
    """A part of the page: paragraphs, tables and figures, in this order."""

    title: str
    paragraphs: list[str] = field(default_factory=list)  # plain text
    tables: list[pd.DataFrame] = field(default_factory=list)  # of texts
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)  # file name -> figure and what it shows


def opening(run: CrossRun) -> str:
    """What was predicted, for how many, in how many folds."""
    task, rows = run.task, run.first_repeat.drop_duplicates(["subject", "session", "image"])
    subjects = rows["subject"].nunique()
    if task.kind == "classification":
        counts = rows["target"].value_counts()
        what = ", ".join(f"{counts.get(code, 0)} {name}" for code, name in enumerate(task.queries))
    elif task.kind == "regression":
        what = f"{task.target} {rows['target'].mean():.1f} ± {rows['target'].std():.1f}"
    else:
        what = f"{int(rows['event'].sum())} with {task.event}, {task.time} up to {rows['time'].max():g}"
    repeats = len({name.split("-")[0] for name in run.folds})
    return (
        f"{task.kind.capitalize()}: {what}; {len(rows):,d} test images of {subjects:,d} subjects, {len(run.folds)} "
        f"folds in {repeats} repeat{'s' * (repeats > 1)}. Every figure below is of test rows, by networks that were "
        "trained on other subjects."
    )


def undone(run: CrossRun) -> list[str]:
    """What is not finished; nothing if all is."""
    if not run.undone:
        return []
    lacking = ", ".join(f"{arm} ({count} of {len(run.folds)})" for arm, count in run.undone.items())
    return [
        f"Not finished: folds are missing of {lacking}. Means of arms with different folds cannot be compared; "
        "differences are of the folds that both arms have. Run crossval again to finish."
    ]


def results(run: CrossRun) -> list[Section]:
    """The tables of summary.py, and a figure beside each."""
    metric, metrics, task = run.metric, run.metrics, run.task
    summary = per_arm(run.results, metrics)
    text = pd.DataFrame({"arm": summary["arm"]})
    for name in metrics:
        text[name] = [interval_text(row, name) for _, row in summary.iterrows()]
    text["parameters"] = [f"{n:,d}" for n in summary["parameters"]]
    text["folds"] = summary["folds"].astype(str)
    arms = Section(
        "Results per arm",
        [
            f"{MEAN}. Points are folds, diamonds means, bars intervals; n counts the folds where the metric is "
            f"defined. {NO_INTERVAL}"
        ],
        [text],
        {
            f"arms-{name}": (draw.draw_arms(run.results, summary, name, task, run.arms), f"{name} of each arm per fold")
            for name in metrics[:2]
        },
    )
    sections = [arms]
    against = compared(run.results, metrics, run.reference)
    paired = Section(f"Arms against {run.reference}, fold by fold")
    if run.reference not in run.arms:
        paired.paragraphs.append(f"{run.reference} has no finished fold yet, so there is nothing to compare with.")
    elif len(run.arms) < 2:
        paired.paragraphs.append("There is one arm only.")
    else:
        paired.paragraphs.append(
            f"All arms see the same folds. Difference to {run.reference}, with the interval and p of the corrected "
            f"resampled t-test (Nadeau & Bengio 2003); {BETTER.get(metric, 'more')} {metric} is better. p values are "
            "not corrected for the number of arms."
        )
        paired.tables.append(shown(against[against["metric"] == metric].drop(columns=["reference", "metric"])))
        figure = draw.draw_paired(run.results, against, metric, task, run.arms, run.reference)
        paired.figures["paired"] = (figure, f"{metric} per fold, and differences to {run.reference}")
    sections.append(paired)
    controls = controlled(run.results, metric)
    if len(controls):
        section = Section(
            "Do the covariates matter? Controls",
            [
                f"{metric} of the same networks on the same images, given other subjects' covariates (permuted; the "
                "mean of several) or the training mean (constant). An arm that uses its covariates gets worse."
            ],
            [shown(controls.drop(columns="metric"))],
        )
        if (figure := draw.draw_controls(run.results, metric, task, run.arms)) is not None:
            section.figures["controls"] = (figure, f"{metric} with true, permuted and constant covariates")
        sections.append(section)
    return sections


def outcomes(run: CrossRun) -> list[Section]:
    """What only this kind of task has."""
    task, arms, once = run.task, run.arms, run.first_repeat
    arms_once = [arm for arm in arms if (once["arm"] == arm).any()]
    if task.kind == "classification":
        classes = list(task.queries)
        roc = Section("ROC curves", ["Thin: a fold each; bold: their mean at equal false positive rates."])
        for code in [1] if len(classes) == 2 else range(len(classes)):
            if (figure := draw_roc(run.predictions, arms, classes, code)) is not None:
                roc.figures[f"roc-{code}"] = (figure, f"ROC curves of {classes[code]}")
        errors = calibration_errors(run.predictions, arms, classes)
        calibration = Section(
            "Calibration",
            [
                "Of those given 70 %, do 70 % have it? Bins of equal width; vertical lines are Wilson's 95 % "
                "intervals, grey bars how many rows a bin holds. Test rows of all folds together (several networks), "
                "the first repeat. The table: expected calibration error, 10 bins, mean over repeats; it is above 0 by "
                "chance alone where rows are few."
            ],
            [shown(errors)],
            {"calibration": (draw_calibration(once, arms_once, classes), "reliability diagram of each arm")},
        )
        return [roc, calibration]
    if task.kind == "regression":
        ages, target = brain_age(run.predictions.assign(control="true")), str(task.target)
        section = Section(
            f"Predicted against true {target}",
            [
                "Every subject once (the first repeat). Dashed: no error; line: least squares. A slope of the gap "
                "below 0 is prediction towards the mean. The error after the line is taken away uses the true value "
                "(de Lange & Cole 2020), with the line of the other folds' predictions: it is no error of prediction."
            ],
            [shown(ages).rename(columns=lambda name: name.replace("(years)", f"({target})"))] if len(ages) else [],
            {
                "predicted": (draw_predicted(once, arms_once, target), f"predicted against true {target}"),
                "gap": (draw_gap(once, arms_once, target), f"predicted less true {target} against true {target}"),
            },
        )
        return [section]
    return [
        Section(
            "Survival of those with a high and a low predicted risk",
            [
                "Kaplan-Meier; high is above the median predicted log hazard of the fold's test rows. Every subject "
                "once (the first repeat). Crosses are ends of observation. The concordance index per fold stands above."
            ],
            [],
            {
                "survival": (
                    draw_survival(once, arms_once, str(task.time), str(task.event)),
                    "Kaplan-Meier curves of high and low predicted risk",
                )
            },
        )
    ]


def subgroups(run: CrossRun, by: Sequence[str] | None) -> list[Section]:
    """The main metric in groups of subjects."""
    section = Section("For whom? Subgroups")
    try:
        joined = with_rows(run, run.predictions)
    except RunError as error:
        section.paragraphs.append(f"Not possible: {error} Run crossval again, or copy the source's rows there.")
        return [section]
    names = choose_columns(joined, by)
    if not names:
        section.paragraphs.append("The table has no column that is known as sex or age; name some with --by.")
        return [section]
    table = groups_table(joined, names, run.arms, run.task)
    section.paragraphs.append(
        f"{metric_name(run.task)} by {' and '.join(names)}, with 95 % bootstrap intervals over subjects. The test rows "
        "of all folds of a repeat are taken together (so figures differ a little from the means over folds above), "
        "then the mean over repeats. Small groups differ by chance; groups of fewer than 10 subjects have no figure."
    )
    text = table.rename(columns={"metric": "arm"}).drop(columns="rows")
    text = text.rename(columns={"positives": str([*run.task.queries][-1]) if run.task.queries else "events"})
    section.tables.append(shown(text[["by", "group", "arm", *(c for c in text if c not in ("by", "group", "arm"))]]))
    section.figures["subgroups"] = (draw_groups(table, run.arms, run.task), f"{metric_name(run.task)} by subgroup")
    return [section]


def learning(run: CrossRun) -> list[Section]:
    """Loss and validation metric of every fold by epoch."""
    curves: dict[str, dict[str, pd.DataFrame]] = {arm: {} for arm in run.arms}
    for arm in run.arms:
        for path in sorted((run.folder / "folds" / arm).glob("*/metrics.csv")):
            curves[arm][path.parent.name] = pd.read_csv(path)
    loss = {
        "classification": "training loss (cross-entropy)",
        "regression": "training loss (squared error, standardised)",
        "survival": "training loss (Cox, per event)",
    }[run.task.kind]
    section = Section("Learning curves", ["Thin: a fold each; bold: their mean. Linear arms have none."])
    validation = f"validation {draw.name_of(run.metric, run.task)}"
    for name, column, label in (("loss", "train/loss", loss), ("validation", f"val/{run.metric}", validation)):
        if (figure := draw.draw_learning(curves, column, label)) is not None:
            section.figures[f"learning-{name}"] = (figure, label)
    if "learning-validation" not in section.figures:
        section.paragraphs.append("There was no validation part: the last epoch was judged.")
    return [section]
