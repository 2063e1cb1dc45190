"""write_report: finished runs side by side as one HTML page that needs nothing but itself, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fusionconv.tabular import read_celeba_attributes, read_celeba_partition
from recipes.celeba import report_figures as draw
from recipes.celeba.balance import covariates_only_accuracy
from recipes.celeba.compare import (
    Run,
    accuracy_by_group,
    comparison_text,
    load_runs,
    mcnemar,
    number,
    p_value,
    wilson_interval,
)
from recipes.celeba.paths import celeba_folder, table_path
from recipes.celeba.report_examples import example_cards
from recipes.common.page import figure_html, style

SPLIT = {"train": "training", "valid": "validation", "test": "test"}


def write_report(
    run_dirs: Sequence[str | Path],
    out_html: str | Path,
    title: str,
    synthetic_note: str | None = None,
    why: str | None = None,
    bayes_rates: Mapping[str, float] | None = None,
    groups: Mapping[str, pd.Series] | None = None,
    shown_attributes: Iterable[str] = (),
    split: str = "test",
    data_root: str | Path | None = None,
) -> str:
    """Write the report, and its figures into ``figures/`` beside it; return the comparison as a few lines of text.

    Args:
        run_dirs: folders of finished runs that judged the same images of the same target; the others are compared with
            the first, so put the plain arm there.
        out_html: the page.
        title: its heading.
        synthetic_note: shown first, where the images are not photographs.
        why: HTML paragraphs on why the margin is what it is.
        bayes_rates: what is known to be the best accuracy, by what is seen; only synthetic data have it.
        groups: further ways to split the judged images, title -> label of every file. Every covariate is one already.
        shown_attributes: attributes written under the example images, besides the covariates and the target.
        split: the split that was judged.
        data_root: where the images are now, if not where config.yaml of the first run says.

    Raises:
        RunError: a run is not finished, or the runs cannot be compared.
        TableError: the images or tables that the runs were made from are no longer there.
    """
    runs, out = load_runs(run_dirs, split), Path(out_html)
    first = runs[0]
    folder = celeba_folder(data_root or first.config["data"]["root"])
    attributes = read_celeba_attributes(table_path(folder, "list_attr_celeba"))
    partition = read_celeba_partition(table_path(folder, "list_eval_partition"))
    target = first.result["target"]
    covariates = list(dict.fromkeys(name for run in runs for name in run.result["covariates"]))
    judged = attributes.loc[first.predictions.index]
    references = {"majority answer": float(first.result["majority_accuracy"])}
    if covariates:
        train = attributes.loc[partition.index[partition == "train"]]
        references["covariates alone"] = covariates_only_accuracy(train, judged, target, covariates)
    limits = {f"best from {seen}": rate for seen, rate in (bayes_rates or {}).items()}
    colours = draw.colour_of(runs)

    def figure(name: str, drawn: Figure, alt: str) -> str:
        return figure_html(drawn, out.parent / "figures" / f"{name}.png", alt)

    ladder = figure("accuracy", draw.draw_ladder(runs, references | limits), "accuracy of every run and what bounds it")
    curves = [
        figure("learning-accuracy", draw.draw_learning(runs, "accuracy", "Accuracy", limits), "accuracy by step"),
        figure("learning-loss", draw.draw_learning(runs, "loss", "Loss (cross-entropy)", {}), "loss by step"),
    ]
    confusion = [
        figure(f"confusion-{run.name}", draw.draw_confusion(run, colours[run.name]), f"confusion matrix of {run.name}")
        for run in runs
    ]
    ways = dict(groups or {}) | {name: judged[name].map(lambda value, n=name: f"{n} = {value}") for name in covariates}
    tables = {way: accuracy_by_group(runs, labels) for way, labels in ways.items()}
    lowest = min((float(table["low"].min()) for table in tables.values()), default=0.5)
    by_group = [
        figure(f"groups-{count}", draw.draw_groups(runs, f"by {way}", table, lowest), f"accuracy by {way}")
        for count, (way, table) in enumerate(tables.items(), start=1)
    ]
    examples = example_cards(runs, judged, list(dict.fromkeys((*covariates, *shown_attributes))), folder, out)

    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>
{style()}</style></head><body><main>
<h1>{escape(title)}</h1>
{f'<p class="note">{escape(synthetic_note)}</p>' if synthetic_note else ""}
<p>Target <b>{escape(target)}</b>, judged on {len(first.predictions):,d} {SPLIT[split]} images, the same ones for all.
Accuracy with its 95&nbsp;% interval:</p>
<div class="tiles">{"".join(_tile(run, colours[run.name]) for run in runs)}{_margin_tiles(runs)}</div>
<div class="figures">{ladder}</div>
<p class="soft">Diamonds: what is reached without training a network{
        ", and the best that anything can be expected to reach" if limits else ""
    }. Points: the trained networks, with the interval as a bar.</p>
{f"<h2>Why the margin is what it is</h2>{why}" if why else ""}
<h2>Accuracy in groups of images</h2>
<p class="soft">Points are accuracies, bars their 95&nbsp;% intervals.</p>
<div class="figures">{"".join(by_group)}</div>
<h2>Metrics side by side</h2>
{_metrics_table(runs, references)}
{"".join(_paired_table(first, run) for run in runs[1:])}
<h2>Learning curves</h2>
<p class="soft">Thin lines: training batches, averaged between two logged steps. Points: the validation split after each
epoch; the best of them chose the checkpoint that was judged.</p>
<div class="figures">{"".join(curves)}</div>
<h2>Confusion matrices</h2>
<div class="figures">{"".join(confusion)}</div>
<h2>Examples</h2>
<p class="soft">The first images of each kind in the order of the table; none was picked by hand. The percentage is the
probability that the run gives to {escape(target)}&nbsp;=&nbsp;1.</p>
{examples}
<h2>What was compared</h2>
{_setup_table(runs)}
</main></body></html>
"""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return comparison_text(runs, references | limits)


def _tile(run: Run, colour: str) -> str:
    low, high = wilson_interval(int(run.right.sum()), len(run.right))
    return (
        f'<div class="tile" style="--colour:{colour}"><span>{escape(run.name)}</span><b>{run.right.mean():.1%}</b>'
        f"<span>{low:.1%} to {high:.1%}</span></div>"
    )


def _margin_tiles(runs: Sequence[Run]) -> str:
    tiles = []
    for run in runs[1:]:
        margin = 100 * float(run.right.mean() - runs[0].right.mean())
        p = p_value(mcnemar(runs[0], run).p_value)
        tiles.append(
            f'<div class="tile"><span>{escape(run.name)} minus {escape(runs[0].name)}</span><b>{margin:+.1f}</b>'
            f"<span>points; McNemar's exact p {p if p.startswith('<') else '= ' + p}</span></div>"
        )
    return "".join(tiles)


def _metrics_table(runs: Sequence[Run], references: Mapping[str, float]) -> str:
    rows: list[list[str]] = [["accuracy", *(f"{run.right.mean():.2%}" for run in runs)]]
    intervals = [wilson_interval(int(run.right.sum()), len(run.right)) for run in runs]
    rows.append(["95 % interval of the accuracy (Wilson)", *(f"{low:.2%} to {high:.2%}" for low, high in intervals)])
    for key, label in (("f1_macro", "macro F1"), ("auroc", "AUROC"), ("loss", "cross-entropy")):
        rows.append([label, *(number(run.result["metrics"][key]) for run in runs)])
    rows += [[f"accuracy of the {name}", *([f"{value:.2%}"] * len(runs))] for name, value in references.items()]
    return _table(["", *(run.name for run in runs)], rows, numbers=True)


def _paired_table(first: Run, second: Run) -> str:
    paired, a, b = mcnemar(first, second), escape(first.name), escape(second.name)
    table = _table(
        ["", f"{b} right", f"{b} wrong"],
        [
            [f"{a} right", str(paired.both), str(paired.only_first)],
            [f"{a} wrong", str(paired.only_second), str(paired.neither)],
        ],
        numbers=True,
    )
    return f"""<h3>The same images, {a} against {b}</h3>{table}
<p>McNemar's exact test compares {paired.only_first} (only {a} right) with {paired.only_second} (only {b} right):
p&nbsp;=&nbsp;{escape(p_value(paired.p_value))}, two-sided. It speaks of these two trained networks on images of
this kind; other seeds give other networks.</p>"""


def _setup_table(runs: Sequence[Run]) -> str:
    def each(label: str, *values: object) -> list[str]:
        cells = [escape(str(value)) for value in values]
        return [label, *(cells if len(set(cells)) > 1 else cells[:1])]  # one cell where all runs agree

    results, configs = [run.result for run in runs], [run.config for run in runs]
    rows = [
        each("arm, mode", *(f"{r['arm']}, {r['mode']}" for r in results)),
        each("covariates", *(", ".join(r["covariates"]) if r["arm"] == "hybrid" else "not used" for r in results)),
        each("hybrid layer (layer_idx)", *(r["layer_idx"] if r["arm"] == "hybrid" else "none" for r in results)),
    ]
    for section, key, label in (
        ("model", "weights", "weights at the start"),
        ("model", "classifier_width", "width of the hidden Linear layers"),
        ("model", "lr", "learning rate (Adam)"),
        ("data", "image_size", "image size, pixels"),
        ("data", "batch_size", "batch size"),
    ):
        rows.append(each(label, *(config.get(section, {}).get(key, "") for config in configs)))
    rows += [
        each("epochs, steps up to the judged checkpoint", *(f"{r['epochs']}, {r['steps']}" for r in results)),
        each("seed", *(r["seed"] for r in results)),
        each("training time up to it, seconds", *(f"{r['seconds']:.0f}" for r in results)),
        each("images judged, left out", *(f"{r['num_images']}, {len(r['skipped'])}" for r in results)),
        each("versions", *(", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in results)),
        each("hardware", *(r["hardware"] for r in results)),
        each("run folder", *(run.folder for run in runs)),
    ]
    return _table(["", *(escape(run.name) for run in runs)], rows)


def _table(head: list[str], rows: list[list[str]], numbers: bool = False) -> str:
    kind = ' class="number"' if numbers else ""
    top = "".join(f"<th{kind if column else ''}>{cell}</th>" for column, cell in enumerate(head))
    body = ""
    for name, *cells in rows:
        span = f' colspan="{len(head) - 1}"' if len(cells) < len(head) - 1 else ""
        body += f"<tr><th>{name}</th>{''.join(f'<td{kind}{span}>{cell}</td>' for cell in cells)}</tr>"
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
