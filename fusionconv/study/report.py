"""report.html and report.md of a study: fixed sentences around generated tables and figures."""

from __future__ import annotations

import base64
import html
import math
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.environment import versions
from fusionconv.study.figures import (
    answer_figure,
    curves_figure,
    diagnostic_figures,
    difference_figure,
    subgroup_figure,
)
from fusionconv.study.files import read_json
from fusionconv.study.folder import read_study
from fusionconv.study.image_report import image_figures
from fusionconv.study.results import MANY_FOLDS, QUOTE
from fusionconv.study.settings import make_settings
from fusionconv.study.tasks import Task, make_task
from fusionconv.study.written_tables import read_rows_in_use, read_table_of_study

__all__ = ["told_apart", "write_report"]

_PACKAGES = ("fusionconv", "torch", "torchvision", "lightning", "monai", "timm", "scikit-learn", "numpy", "pandas")
#: items of CLAIM 2024 and TRIPOD+AI that a program cannot fill
_ROUNDING = 1e-15  # what sums of scores that are zero come to
_AUTHOR = (
    "Title and abstract that name the design and the kind of model",
    "Scientific and clinical background, intended use, and role of the model",
    "Study objectives and hypotheses",
    "Source of the data, dates, sites, eligibility criteria, consent and ethics approval",
    "How images were acquired (scanners, protocols) and de-identified",
    "How the reference standard was made, by whom, and how well raters agree",
    "Sample size: how it was arrived at",
    "Fairness: which groups matter here and why",
    "External validation, or why there is none",
    "Limitations, biases and generalisability; implications for practice",
    "Registration, protocol, funding, conflicts of interest; where code and data can be had",
)


class _Page:
    """Both forms of the page, filled side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.markdown, self.html = folder, [], []  # type: ignore[var-annotated]
        folder.mkdir(parents=True, exist_ok=True)

    def title(self, text: str, level: int = 2) -> None:
        self.markdown.append(f"{'#' * level} {text}\n")
        self.html.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def text(self, text: str) -> None:
        self.markdown.append(text + "\n")
        self.html.append(f"<p>{html.escape(text)}</p>")

    def list(self, lines: Any) -> None:
        self.markdown.append("\n".join(f"- {line}" for line in lines) + "\n")
        self.html.append("<ul>" + "".join(f"<li>{html.escape(str(line))}</li>" for line in lines) + "</ul>")

    def code(self, text: str) -> None:
        self.markdown.append(f"```\n{text}\n```\n")
        self.html.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, table: pd.DataFrame, caption: str) -> None:
        zero = {c: 0.0 if c in ("p", "p_holm") else _ROUNDING for c in table}  # a p is never rounded away
        shown = pd.DataFrame({c: [_shown(v, zero[c]) for v in table[c]] for c in table})
        lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + " --- |" * len(shown.columns)]
        lines += ["| " + " | ".join(v.replace("|", "\\|") for v in row) + " |" for row in shown.itertuples(index=False)]
        self.markdown.append(caption + "\n\n" + "\n".join(lines) + "\n")
        head = "".join(f"<th>{html.escape(str(c))}</th>" for c in shown.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in row) + "</tr>"
            for row in shown.itertuples(index=False)
        )
        self.html.append(f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>")

    def figure(self, name: str, figure: Any, caption: str) -> None:
        figure.savefig(self.folder / f"{name}.png", dpi=120, facecolor="white")
        self.drawn(name, caption)

    def drawn(self, name: str, caption: str) -> None:
        path = self.folder / f"{name}.png"
        data = base64.b64encode(path.read_bytes()).decode()
        self.markdown.append(f"![{caption}](figures/{name}.png)\n")
        self.html.append(f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
                         f"<figcaption>{html.escape(caption)}</figcaption></figure>")  # fmt: skip


def write_report(out: str | Path) -> Path:
    """Write report.html (one file, nothing is fetched), report.md and figures/ from the tables of a comparison.

    Raises:
        StudyError: the folder holds no tables.
    """
    out = Path(out)
    if not (out / "results.csv").is_file():
        raise StudyError(f"{out}: expected the tables of a comparison, got none; run fusionconv compare")
    saved, notes = read_study(out), read_json(out / "notes.json") or {}
    settings, task = make_settings(saved["settings"]), make_task(notes["task"])
    names = ("results", "comparisons", "controls", "subgroups", "predictions", "runs", "folds")
    tables = {name: read_table_of_study(out / f"{name}.csv") for name in names} | {"rows": read_rows_in_use(out)}
    metric = task.metric(settings.metric)
    arms = list(dict.fromkeys(tables["results"]["arm"]))
    reference = settings.reference or arms[0]
    page = _Page(out / "figures")
    page.title(f"{', '.join(task.columns)}: {len(arms)} arms on the same folds", 1)
    _answer(page, tables, metric.name, reference, arms, settings, task)
    _arms(page, tables, arms)
    _comparisons(page, tables, metric.name, reference)
    _controls(page, tables)
    _diagnostics(page, out, tables, task, metric.name, arms, settings.unfreeze_epoch, settings.dims)
    _rows(page, tables, notes, settings, task)
    _training(page, out, tables, saved, metric.name)
    _checklist(page, settings, task)
    (out / "report.md").write_text("\n".join(page.markdown), encoding="utf-8")
    target = out / "report.html"
    target.write_text(
        _HTML.format(title=html.escape(", ".join(task.columns)), body="\n".join(page.html)), encoding="utf-8"
    )
    return target


def _answer(
    page: _Page,
    tables: dict[str, pd.DataFrame],
    metric: str,
    reference: str,
    arms: list[str],
    settings: Any,
    task: Task,
) -> None:
    rows, folds = tables["rows"], tables["folds"].columns.drop(["id", "subject"])
    page.text(f"Question: which arm predicts {', '.join(task.columns)} best (main metric: {metric})? {len(rows):,} "
              f"images of {rows['subject'].nunique():,} subjects, {len(folds)} test folds, network {settings.network}, "
              f"covariates {', '.join(settings.covariates) or 'none'}.")  # fmt: skip
    quoted = tables["comparisons"]
    quoted = quoted[quoted["quote"] & (quoted["metric"] == metric)]
    best = (
        tables["results"][tables["results"]["metric"] == metric].set_index("arm")[["mean", "low", "high"]].astype(float)
    )
    means = {str(arm): _interval(*row) for arm, row in zip(best.index, best.to_numpy().tolist(), strict=True)}
    apart = told_apart(tables["comparisons"], metric, len(folds))
    page.table(
        pd.DataFrame({
            "arm": arms,
            metric: [means[a] for a in arms],
            f"minus {reference}": [_quoted(quoted, a) for a in arms],
            "told apart by both tests": [apart.get(a, "") for a in arms],
            "could have told apart": [_smallest(quoted, a) for a in arms],
        }),
        "Answer. An arm differs from the reference where both tests say so after Holm's correction; where only one "
        "test can be made, it decides. 'No' does not mean equal: the last column is the smallest "
        "difference that this study would have found in 4 of 5 cases.",
    )  # fmt: skip
    page.figure(
        "answer", answer_figure(tables["results"], metric, reference), f"{metric} of each arm; dotted: {reference}."
    )
    page.text(
        f"Which test to quote: with {MANY_FOLDS} test folds or more (all repeats) the corrected resampled t-test over "
        "folds, with fewer the paired bootstrap by subject. The first asks whether the way to train is better, the "
        "second whether these networks are better on such subjects."
    )


def told_apart(comparisons: pd.DataFrame, metric: str, folds: int) -> dict[str, str]:
    """Arm -> yes or no where both tests have a p value; where one has none, what the other says."""
    said = {}
    for arm, own in comparisons[comparisons["metric"] == metric].groupby("arm"):
        p = own.set_index("test")["p_holm"].astype(float)
        over_folds, by_subject = p.get(QUOTE[True], math.nan), p.get(QUOTE[False], math.nan)
        if not math.isnan(over_folds) and not math.isnan(by_subject):
            one_way = (own["difference"].astype(float) > 0).nunique() == 1
            said[str(arm)] = _yes(max(over_folds, by_subject)) if one_way else "no"
        elif not math.isnan(by_subject):
            said[str(arm)] = f"{'one fold' if folds == 1 else 'no test over folds'}: by subject {_yes(by_subject)}"
        elif not math.isnan(over_folds):
            said[str(arm)] = f"no test by subject: over folds {_yes(over_folds)}"
    return said


def _yes(p: float) -> str:
    return "yes" if p < 0.05 else "no"


def _arms(page: _Page, tables: dict[str, pd.DataFrame], arms: list[str]) -> None:
    page.title("Arms")
    results, runs = tables["results"], tables["runs"]
    table = pd.DataFrame({"arm": arms})
    for metric in dict.fromkeys(results["metric"]):
        own = results[results["metric"] == metric].set_index("arm")
        table[metric] = [_interval(own.loc[a, "mean"], own.loc[a, "low"], own.loc[a, "high"]) for a in arms]
    page.table(
        table, "Mean over folds [95 % interval that allows for overlapping training sets and the metric's bounds]."
    )
    pooled = (
        results[results["pooled"].notna()]
        .pivot(index="arm", columns="metric", values="pooled")
        .reindex(arms)
        .reset_index()
    )
    page.table(
        pooled,
        "All out-of-fold rows of a repeat (mean over repeats); a metric that compares rows with each other, such as "
        "auc, within each fold, since each has a network of its own.",
    )
    facts = runs.groupby("arm", sort=False).agg(
        runs=("fold", "size"), parameters=("parameters", "first"), for_covariates=("covariate_parameters", "first"),
        trials=("trials", "max"), seconds_a_run=("seconds", "median"), epochs=("epochs", "max"),
        best_epoch=("best_epoch", "mean"),
    )  # fmt: skip
    page.table(facts.reindex(arms).reset_index(), "Runs, parameters, time.")


def _comparisons(page: _Page, tables: dict[str, pd.DataFrame], metric: str, reference: str) -> None:
    page.title("Every arm against the reference")
    shown = tables["comparisons"]
    if shown.empty:
        page.text("There is one arm only.")
        return
    page.figure("differences", difference_figure(shown, metric, reference), f"{metric}: each arm minus {reference}.")
    columns = ["arm", "metric", "difference", "low", "high", "p", "p_holm", "test", "smallest_difference", "n", "note"]
    page.table(
        shown[columns],
        f"Arm minus {reference}: difference, 95 % interval, p, p after Holm over the arms, the smallest difference "
        "that could have been told apart with 80 % power, folds or subjects.",
    )


def _controls(page: _Page, tables: dict[str, pd.DataFrame]) -> None:
    page.title("Is it the covariates?")
    if tables["controls"].empty:
        page.text("No controls were run (--controls 0), or no arm takes covariates.")
        return
    page.table(tables["controls"].drop(columns="n"), "The same networks and images with other subjects' covariates "
                                                     "(permuted) or "
               "the training mean (constant): what an arm loses is what it takes from the covariates.")  # fmt: skip


def _diagnostics(
    page: _Page, out: Path, tables: dict[str, pd.DataFrame], task: Task, metric: str, arms: list[str],
    fine_tuning: int | None, dims: int,
) -> None:  # fmt: skip
    page.title("Answers in detail")
    captions = {
        "roc": "ROC and precision-recall, the mean of the folds' curves.",
        "calibration": "Calibration of all out-of-fold rows.",
        "confusion": "Confusion of all out-of-fold rows; colour: share of the true class.",
        "agreement": "Predicted against true, and Bland-Altman.", "survival": "Kaplan-Meier by thirds of the "
                                                                              "predicted risk within each fold.",
    }  # fmt: skip
    if task.IMAGE_OUT:
        for name, figure, caption in image_figures(out, tables["predictions"], task, metric, arms, dims):
            page.figure(name, figure, caption)
        page.text("subjects.csv lists every subject's scores.")
    for name, figure in diagnostic_figures(tables["predictions"], task, arms).items():
        page.figure(name, figure, captions[name])
    if len(tables["subgroups"]):
        page.title("Subgroups", 3)
        page.figure("subgroups", subgroup_figure(tables["subgroups"], metric), f"{metric} in groups of each covariate.")
        page.table(tables["subgroups"], "Groups of fewer than 10 subjects have no figure.")
    curves: dict[str, list[pd.DataFrame]] = {}
    for path in sorted((out / "runs").glob("*/*/metrics.csv")):
        curves.setdefault(path.parent.parent.name, []).append(pd.read_csv(path))
    if curves:
        page.figure(
            "curves", curves_figure({a: curves[a] for a in arms if a in curves}, metric, fine_tuning),
            "Training of every run."
        )  # fmt: skip


def _rows(page: _Page, tables: dict[str, pd.DataFrame], notes: dict[str, Any], settings: Any, task: Task) -> None:
    page.title("Rows")
    flow = pd.DataFrame(notes.get("flow", []), columns=["step", "rows", "detail"])
    page.table(flow, "Flow of rows.")
    page.table(table_one(tables["rows"], task, settings), "Table 1: covariates by class (or by thirds of the "
                                                          "target): mean "
               "(standard deviation), or count (share); missing values.")  # fmt: skip
    if notes.get("encoding"):
        page.title("Encoding of the covariates", 3)
        page.code(notes["encoding"])
    if (page.folder / "inputs.png").is_file():
        page.title("What the network sees", 3)
        page.drawn("inputs", "Training images of the first fold as decoded, and as they enter the network: augmented "
                             "anew in each epoch, normalised. Of volumes the middle slice.")  # fmt: skip
    page.list([*notes.get("notes", []), *notes.get("warnings", []),
               f"rows with a category that training does not have, over all runs: "
               f"{int(tables['runs']['unknown'].sum())}"])  # fmt: skip


def table_one(rows: pd.DataFrame, task: Task, settings: Any) -> pd.DataFrame:
    """Covariates by class or by thirds of the target."""
    target = rows[task.columns[0]]
    if task.IMAGE_OUT:
        groups = pd.Series(index=rows.index, dtype=object)  # paths are no classes
    elif task.NAME in ("binary", "multiclass"):
        from fusionconv.study.tasks.classes import as_text

        of_value = {v: name for name, values in getattr(task, "classes", {}).items() for v in values}
        groups = target.map(as_text).map(of_value)
    elif target.nunique() > 5:
        groups = pd.qcut(target.rank(method="first"), 3, labels=["lower third", "middle third", "upper third"]).astype(
            str
        )
    else:
        groups = target.astype(str)
    names = list(dict.fromkeys(groups.dropna()))
    lines: list[dict[str, Any]] = [{"": "images", "all": len(rows), **{n: int((groups == n).sum()) for n in names}}]
    lines.append(
        {"": "subjects", "all": rows["subject"].nunique(), **{n: rows["subject"][groups == n].nunique() for n in names}}
    )
    for column in settings.covariates:
        values = rows[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 5:
            lines.append({"": column, "all": _spread(values), **{n: _spread(values[groups == n]) for n in names}})
        else:
            for value, _ in values.value_counts().head(8).items():
                share = {n: _share(values[groups == n] == value) for n in names}
                lines.append({"": f"{column} = {value}", "all": _share(values == value), **share})
        if values.isna().any():
            share = {n: _share(values[groups == n].isna()) for n in names}
            lines.append({"": f"{column} missing", "all": _share(values.isna()), **share})
    return pd.DataFrame(lines)


def _training(page: _Page, out: Path, tables: dict[str, pd.DataFrame], saved: dict[str, Any], metric: str) -> None:
    page.title("How it was run")
    chosen = tables["runs"][["arm", "fold", "trials", "chosen", "threshold", "seed", "best_epoch", "seconds"]]
    page.table(
        chosen, "Every run: tries (each arm has as many), what was chosen on the validation part, threshold, seed."
    )
    resumed = (read_json(out / "resumed.json") or {}).get("finished before", [])
    page.text(f"Runs that an earlier call had finished: {', '.join(resumed) or 'none'}.")
    import yaml

    page.code(yaml.safe_dump(saved, sort_keys=False, allow_unicode=True))
    found = {name: number for name, number in versions(*_PACKAGES).items() if number != "not installed"}
    page.list([
        f"Python {found.pop('python')}", *(f"{name} {number}" for name, number in found.items()),
        *sorted({h for h in tables["runs"]["hardware"].dropna() if h}),
    ])  # fmt: skip


def _checklist(page: _Page, settings: Any, task: Task) -> None:
    page.title("Checklist (CLAIM 2024, TRIPOD+AI)")
    page.text("Filled above: data partitions and unit of the split, flow of rows, missing data, preprocessing of "
              "images and "
              "encoding of covariates (study.yaml), model and initialisation, training, choice of the final "
              "network, metrics "
              "with intervals, comparison, calibration, subgroups, software and hardware.")  # fmt: skip
    page.text("The author must add:")
    page.list(_AUTHOR)


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if low == low else f"{mean:.3f}" if mean == mean else ""


def _quoted(quoted: pd.DataFrame, arm: str) -> str:
    row = quoted[quoted["arm"] == arm]
    return _interval(*(float(row[c].iloc[0]) for c in ("difference", "low", "high"))) if len(row) else ""


def _smallest(quoted: pd.DataFrame, arm: str) -> str:
    row = quoted.loc[quoted["arm"] == arm, "smallest_difference"]
    return f"{row.iloc[0]:.3f}" if len(row) and row.notna().all() else ""


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.3g} ({values.std():.3g})" if values.notna().any() else ""


def _share(chosen: pd.Series) -> str:
    return f"{int(chosen.sum())} ({chosen.mean():.0%})" if len(chosen) else "0"


def _shown(value: Any, zero: float) -> str:
    """A cell; a number smaller than ``zero`` is the rounding of a sum that is zero."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        if abs(value) < zero:
            return "0"
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }}
caption {{ text-align: left; padding: .3rem 0; opacity: .8; max-width: min(62rem, calc(100vw - 2rem)); }}
th, td {{ border-bottom: 1px solid #8884; padding: .2rem .6rem; text-align: left; white-space: nowrap; }}
img {{ max-width: 100%; background: white; border-radius: 4px; }}
figure {{ margin: 1rem 0; }} figcaption {{ font-size: 13px; opacity: .8; }}
pre {{ background: #8882; padding: .7rem; overflow-x: auto; font-size: 12px; }}
</style></head><body>
{body}
</body></html>
"""
