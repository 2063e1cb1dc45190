"""The command report: tables and figures of the rows that `reproduce` has done; the words around them are a person's.

A row is set against the plain row of the same rate and batch, over the seeds that both have, by two tests with Holm's
correction over all rows of the mode: a paired t-test over seeds (the chance of training), and resampling people, each
with all images (the chance of the images).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError
from recipes.celeba.reproduce import MODES, Row, read_rows

OPTIONS: dict[str, tuple[Any, str]] = {
    "out": ("runs/grid", "folder that `reproduce` wrote"),
    "to": (None, "folder of the tables and figures; default: OUT/report"),
    "resamples": (2000, "of the people, for differences; at least 100"),
}
JUDGED = {"as_published": "validation", "corrected": "test"}
LEVEL = 0.05


@dataclass(frozen=True)
class Seeds:
    """The finished runs of a row in a mode.

    Attributes:
        right: columns are seeds, index is the image: 1 where the test answer is right (as published: the validation
            images, on which the study reported).
        val: the accuracy on the validation images that chose the epoch, by seed; empty as published.
        controls: name -> as ``right``, with other covariates.
        people: who is on each image.
    """

    row: Row
    right: pd.DataFrame
    val: dict[int, float]
    controls: dict[str, pd.DataFrame]
    people: pd.Series

    def on(self, seeds: Sequence[int], control: str = "true") -> pd.Series:
        """For each image, the share of these seeds that have it right."""
        table = self.right if control == "true" else self.controls[control]
        return table[list(seeds)].mean(axis=1)


def report(words: list[str]) -> None:
    """Write the tables (Markdown, LaTeX, CSV) and figures."""
    from fusionconv.study.command_line import parse
    from fusionconv.study.comparison import Comparison

    own = parse("report", words, OPTIONS, settings=False, program="python -m recipes.celeba").own
    if own["resamples"] < 100:
        raise StudyError(f"--resamples: expected 100 or more, got {own['resamples']}; an interval needs them")
    out = Path(own["out"])
    found = {mode: read_mode(out / mode) for mode in MODES}
    if not any(found.values()):
        raise StudyError(
            f"{out}: expected runs of `reproduce`, got no finished one; run reproduce --root DIR --out {out}"
        )
    engine = {mode: Comparison(out / mode).summarise() for mode in MODES if found[mode]}  # also of a grid that goes on
    to = Path(own["to"]) if own["to"] else out / "report"
    to.mkdir(parents=True, exist_ok=True)
    tests = {mode: compared(runs, own["resamples"]) for mode, runs in found.items()}
    tables = {
        "rows": study_table(found, tests),
        **{f"tests-{mode}": table.drop(columns=["name"]) for mode, table in tests.items() if len(table)},
        "controls": control_table(found["corrected"], own["resamples"]),
        "logs": logged_table(),
    }
    for mode in MODES:
        path = out / mode / "subgroups.csv"
        if found[mode] and path.is_file():
            tables[f"subgroups-{mode}"] = subgroups(pd.read_csv(path), mode)
    for name, table in tables.items():
        if len(table):
            table.to_csv(to / f"{name}.csv", index=False)
            (to / f"{name}.md").write_text(markdown(table), encoding="utf-8")
    for mode, runs in found.items():
        if runs:
            right_answers(runs).to_csv(to / f"right-{mode}.csv.gz", index=False)
    (to / "rows.tex").write_text(latex(tables["rows"]), encoding="utf-8")
    figures = {"accuracy": accuracy_figure(found), "curves": curves_figure(out, found), "kernels": kernels(out, found)}
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(to / f"{name}.png", dpi=150)
    pages = [str(comparison.report()) for comparison in engine.values()]
    print(f"{sum(s.right.shape[1] for runs in found.values() for s in runs.values())} runs; wrote "
          + ", ".join([*pages, *(str(to / name) for name in sorted(p.name for p in to.iterdir()))]))  # fmt: skip


def right_answers(runs: dict[str, Seeds]) -> pd.DataFrame:
    """For each judged image a number for its person, and how many seeds of each row have it right: no name or label."""
    people = next(iter(runs.values())).people
    right = {name: seeds.right.sum(axis=1).astype(int).to_numpy() for name, seeds in runs.items()}
    return pd.DataFrame({"person": pd.factorize(people)[0], **right})


# ---- reading ----


def read_mode(folder: Path) -> dict[str, Seeds]:
    """The finished runs in a folder of `reproduce`, by row.

    Raises:
        StudyError: a run of other images than another.
    """
    from fusionconv.study.files import read_json
    from fusionconv.study.written_tables import read_predictions, read_texts

    if not (folder / "rows.csv").is_file():
        return {}
    people = read_texts(folder / "rows.csv").set_index("id")["subject"]
    found: dict[str, Seeds] = {}
    index: pd.Index | None = None
    for name, row in read_rows().items():
        right: dict[str, dict[int, pd.Series]] = {}
        val = {}
        for path in sorted((folder / "runs" / name).glob("*/result.json")):
            result = read_json(path) or {}
            seed = int(result["number"])
            predictions = read_predictions(path.parent / "predictions.csv")
            judged = predictions[predictions["part"] == "test"]
            for control, rows in judged.groupby("control"):
                hits = (rows["decision"] == rows["target"]).astype(float).set_axis(rows["id"]).sort_index()
                right.setdefault(str(control), {})[seed] = hits
            true = right["true"][seed].index
            if index is not None and not index.equals(true):
                raise StudyError(f"{path.parent}: expected the images of the other runs, got {len(true)} others; they "
                                 "are not of one grid")  # fmt: skip
            index = true
            if result.get("val"):
                val[seed] = float(result["val"]["accuracy"])
        if right:
            frames = {control: pd.DataFrame(seeds) for control, seeds in right.items()}
            permuted = [f for control, f in frames.items() if control.startswith("permuted")]
            controls = {"constant": frames["constant"]} if "constant" in frames else {}
            if permuted:
                controls["permuted"] = sum(permuted[1:], permuted[0]) / len(permuted)
            found[name] = Seeds(row, frames["true"], val, controls, people.loc[frames["true"].index])
    return found


# ---- tests ----


def compared(runs: dict[str, Seeds], resamples: int) -> pd.DataFrame:
    """A line for each row with a baseline of the same seeds: both tests, Holm's p, McNemar's p by seed, verdict."""
    from fusionconv.evaluation import holm, mcnemar, paired_bootstrap_scores

    lines = []
    for name, own in runs.items():
        base = runs.get(own.row.baseline or "")
        seeds = [] if base is None else sorted(set(own.right) & set(base.right))
        if base is None or not seeds:
            continue
        each = [own.right[s].mean() - base.right[s].mean() for s in seeds]
        p, low, high = paired_t(each)
        images = paired_bootstrap_scores(own.on(seeds), base.on(seeds), own.people, n_resamples=resamples)
        exact = [mcnemar(np.ones(len(own.right)), own.right[s], base.right[s]).p_value for s in seeds]
        lines.append({
            "name": name, "row": own.row.title, "against": base.row.title, "seeds": len(seeds),
            "over seeds": points(float(np.mean(each)), low, high), "p seeds": p,
            "over images": points(images.estimate, images.low, images.high), "p images": images.p_value,
            "McNemar's p, each seed": ", ".join(f"{value:.3f}" for value in exact),
        })  # fmt: skip
    table = pd.DataFrame(lines)
    if not len(table):
        return table
    for kind in ("seeds", "images"):
        table[f"Holm {kind}"] = holm(table[f"p {kind}"].to_numpy(dtype=float))
    table["verdict"] = [_verdict(line) for line in table.to_dict("records")]
    return table


def paired_t(differences: Sequence[float]) -> tuple[float, float, float]:
    """p and the 95 % interval of the mean difference over seeds; NaN for one seed. Seeds on one split are no folds.

    >>> [round(value, 4) for value in paired_t([0.010, 0.014, 0.003])]
    [0.1074, -0.0048, 0.0228]
    """
    from scipy import stats

    if len(differences) < 2:
        return math.nan, math.nan, math.nan
    if np.ptp(differences) < 1e-12:  # no spread, no t: equal rows are equal, and a constant difference is not tested
        return (1.0, 0.0, 0.0) if abs(differences[0]) < 1e-12 else (math.nan, math.nan, math.nan)
    test = stats.ttest_1samp(differences, 0.0)
    ends = test.confidence_interval(0.95)
    return float(test.pvalue), float(ends.low), float(ends.high)


def _verdict(line: dict[Any, Any]) -> str:
    if line["seeds"] < 2:
        return "undecided"
    silent = [kind for kind in ("seeds", "images") if not line[f"Holm {kind}"] < LEVEL]
    if silent:
        return "not told apart by " + " or ".join(silent)
    return "better" if not line["over images"].startswith("-") else "worse"


# ---- tables ----


def study_table(found: dict[str, dict[str, Seeds]], tests: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A line for every row: as printed, as logged, and here (mean over seeds, lowest to highest), in %."""
    verdicts = {mode: t.set_index("name") if len(t) else pd.DataFrame() for mode, t in tests.items()}

    def accuracy(mode: str, row: Row, val: bool = False) -> str:
        own = found[mode].get(row.row)
        if own is None:
            return "not run" if mode in row.modes else "-"
        values = [100 * v for v in (own.val.values() if val else own.right.mean())]
        if not values:
            return "-"
        spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
        return f"{np.mean(values):.2f}{spread}, {len(values)} seed{'s' if len(values) > 1 else ''}"

    def difference(mode: str, row: Row) -> str:
        if row.row not in verdicts[mode].index:
            return "-"
        line = verdicts[mode].loc[row.row]
        return f"{line['over images']}: {line['verdict']}"

    return pd.DataFrame(
        {
            "row": row.title, "paper": ", ".join(row.printed) or "-",
            "logs": ", ".join(f"{value:.2f}" for value in row.logged) or "-",
            "as published, valid": accuracy("as_published", row),
            "corrected, valid": accuracy("corrected", row, val=True), "corrected, test": accuracy("corrected", row),
            "as published minus plain": difference("as_published", row),
            "corrected minus plain": difference("corrected", row), "note": row.note or "-",
        }
        for row in read_rows().values()
    )  # fmt: skip


def points(estimate: float, low: float, high: float) -> str:
    """A difference of accuracies in percentage points, with its interval.

    >>> points(0.0123, -0.004, 0.0286)
    '+1.23 (-0.40 to +2.86)'
    """
    if not math.isfinite(low + high):
        return f"{100 * estimate:+.2f} (no interval)"
    return f"{100 * estimate:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def control_table(runs: dict[str, Seeds], resamples: int) -> pd.DataFrame:
    """Corrected rows with other people's covariates and with the training mean; the gain over plain and its two parts.

    The gain is true covariates minus plain; what survives is permuted minus plain; what is lost true minus permuted.
    """
    from fusionconv.evaluation import paired_bootstrap_scores

    lines = []
    for own in runs.values():
        if "permuted" not in own.controls:
            continue
        line: dict[str, Any] = {
            "row": own.row.title,
            "seeds": own.right.shape[1],
            "true": 100 * own.right.mean().mean(),
        }
        line |= {name: 100 * table.mean().mean() for name, table in own.controls.items()}
        base = runs.get(own.row.baseline or "")
        seeds = [] if base is None else sorted(set(own.right) & set(base.right))
        if base is not None and seeds:
            shares = {"true": own.on(seeds), "plain": base.on(seeds), "permuted": own.on(seeds, "permuted")}
            for title, a, b in (("gain over plain", "true", "plain"), ("survives permuted", "permuted", "plain"),
                                ("lost when permuted", "true", "permuted")):  # fmt: skip
                given = paired_bootstrap_scores(shares[a], shares[b], own.people, n_resamples=resamples)
                line[title] = points(given.estimate, given.low, given.high)
        lines.append(line)
    return pd.DataFrame(lines).round(2).fillna("-")


def subgroups(table: pd.DataFrame, mode: str) -> pd.DataFrame:
    """The engine's accuracies in groups of Male and Young, in %, of the mean of each row's networks."""
    titles = {name: row.title for name, row in read_rows().items()}
    ends = zip(table["value"], table["low"], table["high"], strict=True)
    said = [f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})" for value, low, high in ends]
    group = table["covariate"] + " = " + table["group"].astype(str)
    return pd.DataFrame({"row": table["arm"].map(titles), "group": group, "people": table["n"], "images": table["rows"],
                         f"accuracy, {JUDGED[mode]}": said})  # fmt: skip


def logged_table() -> pd.DataFrame:
    """What the study's own logs say of its matched rows against plain: means, and Welch's t-test."""
    from scipy import stats

    lines = []
    for row in read_rows().values():
        plain = read_rows().get(row.baseline or "")
        if row.matched and plain is not None and row.logged and plain.logged:
            enough = min(len(row.logged), len(plain.logged)) > 1
            p = stats.ttest_ind(row.logged, plain.logged, equal_var=False).pvalue if enough else math.nan
            lines.append({
                "row": row.title, "logs": len(row.logged), "mean": round(float(np.mean(row.logged)), 2),
                "plain": round(float(np.mean(plain.logged)), 2),
                "difference": round(float(np.mean(row.logged) - np.mean(plain.logged)), 2),
                "Welch's p": f"{p:.3f}" if enough else "one log",
            })  # fmt: skip
    return pd.DataFrame(lines)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown.

    >>> print(markdown(pd.DataFrame({"arm": ["plain"], "p": [0.03125]})), end="")
    | arm | p |
    |---|---|
    | plain | 0.031 |
    """
    cells = table.map(lambda v: f"{v:.3f}" if isinstance(v, float) and not float(v * 100).is_integer() else str(v))
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells.to_numpy())]) + "\n"


def latex(table: pd.DataFrame) -> str:
    """The table of rows as a tabular; needs booktabs."""
    names = ["row", "paper", "logs", "as published, valid", "corrected, test", "corrected minus plain"]
    body = table[names].map(lambda text: str(text).replace("_", r"\_").replace("%", r"\%"))
    lines = [" & ".join(line) + r" \\" for line in body.to_numpy()]
    head = " & ".join(names) + r" \\"
    return "\n".join([
        r"% Written by `python -m recipes.celeba report`. Accuracy in %; needs \usepackage{booktabs}.",
        r"\begin{tabular}{lrrrrr}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", "",
    ])  # fmt: skip


# ---- figures ----


def accuracy_figure(found: dict[str, dict[str, Seeds]]) -> Any:
    """A band for each row: published figures in grey, a point for each seed, their mean with Wilson's interval."""
    from matplotlib.figure import Figure

    from fusionconv.evaluation import wilson

    rows = [r for r in read_rows().values() if r.logged or r.printed or any(r.row in runs for runs in found.values())]
    figure = Figure(figsize=(7.6, 1.1 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="#f5f6f8", zorder=0)
        axes.plot(row.logged, [place] * len(row.logged), "o", mfc="white", mec="0.5", ms=5,
                  label=None if place else "published: the logs (validation)")  # fmt: skip
        axes.plot([100 * float(t) for t in row.printed], [place] * len(row.printed), "x", color="0.5", ms=5,
                  label=None if place else "published: the paper")  # fmt: skip
        for mode, shift, colour in (("as_published", -0.22, "C0"), ("corrected", 0.22, "C1")):
            own = found[mode].get(row.row)
            if own is not None:
                mean, count = float(own.right.mean().mean()), len(own.right)
                given = wilson(round(mean * count), count)
                axes.hlines(place + shift, 100 * given.low, 100 * given.high, color=colour, linewidth=4, alpha=0.28)
                axes.plot(100 * own.right.mean(), [place + shift] * own.right.shape[1], "o", color=colour, ms=3.2)
                axes.plot(100 * mean, place + shift, "|", color=colour, ms=9, mew=2)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy, % (blue: ours as published, validation; orange: ours "
             "corrected, test)")  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def curves_figure(out: Path, found: dict[str, dict[str, Seeds]]) -> Any:
    """Training and validation loss and validation accuracy by epoch of the corrected rows; None without."""
    from matplotlib.figure import Figure

    runs = found["corrected"]
    if not runs:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for number, (name, own) in enumerate(runs.items()):
        for path in sorted((out / "corrected" / "runs" / name).glob("*/metrics.csv")):
            curve = pd.read_csv(path)
            for axes, column in zip(panels, ("train/loss", "val/loss", "val/accuracy"), strict=True):
                if column in curve:
                    points_ = curve[["step", column]].dropna()
                    first = path.parent.name == "split" and axes is panels[0]
                    axes.plot(points_["step"], points_[column], marker=".", color=f"C{number % 10}", linewidth=0.9,
                              label=own.row.title if first else None)  # fmt: skip
                axes.set(title=column, xlabel="step")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def kernels(out: Path, found: dict[str, dict[str, Seeds]]) -> Any:
    """W and V of the first row whose first convolution takes the covariates, corrected before as published."""
    from fusionconv.study.explain import kernel_figure
    from fusionconv.study.saved import open_network

    for mode in ("corrected", "as_published"):
        for name, own in found[mode].items():
            folder = out / mode / "runs" / name / "split" / "model"
            if own.row.method == "hybrid" and own.row.layer == 0 and folder.is_dir():
                network, encoder = open_network(folder)
                assert encoder is not None
                return kernel_figure(network, encoder.get_feature_names_out().tolist())
    return None
