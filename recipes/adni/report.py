"""The command report: a finished cross-validation as one HTML page, the same as Markdown, and its figures as PNG."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from html import escape
from pathlib import Path

from recipes.adni.report_run import read_run
from recipes.adni.report_sections import Section, learning, opening, outcomes, results, subgroups, undone
from recipes.adni.report_setup import setup_tables
from recipes.common.markdown import markdown
from recipes.common.page import figure_html, page, table_html
from recipes.common.runs import RunFolder

log = logging.getLogger("recipes.adni")

TEXT = ("arm", "control", "group", "layer", "note", "setting")  # columns that hold words


def main(argv: list[str]) -> None:
    """Write the report of a cross-validation."""
    options = _options(argv)
    folder = RunFolder(options.root_dir, options.experiment)
    with folder.logging():
        out = write_report(
            folder.path,
            options.out,
            note=options.note,
            by=options.by,
            attribution=not options.skip_attribution,
            subject=options.subject,
            layer=options.layer,
            volumes=options.volumes,
        )
        log.info("wrote %s, %s and figures/ beside them", out, out.with_suffix(".md").name)


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    note: str | None = None,
    by: Sequence[str] | None = None,
    attribution: bool = True,
    subject: str | None = None,
    layer: str | None = None,
    volumes: int = 20,
) -> Path:
    """Write the report of a cross-validation, finished or not; returns the path of the page.

    Args:
        folder: the run's folder.
        out: the page; the default is report.html in the folder. report.md and figures/ go beside it.
        title: its heading; the default is the run's name.
        note: shown first, such as that the data are synthetic.
        by: columns of the subgroups; the default is sex and age where the table has them.
        attribution: Grad-CAM of the networks that were kept (crossval --keep_checkpoints).
        subject: whose saliency is written as NIfTI; the default is the first test subject.
        layer: the module whose feature maps Grad-CAM looks at, see `gradcam.choose_layer`.
        volumes: of each arm and class, how many are averaged at most.

    Raises:
        RunError: no cross-validation, or no finished fold, in the folder.
        TableError: a column of ``by`` is not in the table.
    """
    run = read_run(folder)
    out = out or folder / "report.html"
    sections = [*results(run), *outcomes(run), *subgroups(run, by), *learning(run)]
    if attribution:
        from recipes.adni.attribution import attribution_section

        sections.append(Section(*attribution_section(run, subject, layer, volumes)))
    else:
        sections.append(Section("Where the networks look", ["Left out (--skip_attribution)."]))
    sections.append(Section("What was run", *setup_tables(run)))
    title = title or f"Cross-validation: {folder.name}"
    first = [opening(run), *undone(run)]
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_html(out, title, note, first, sections)
    _write_markdown(out.with_suffix(".md"), title, note, first, sections)
    return out


def _write_html(out: Path, title: str, note: str | None, first: list[str], sections: list[Section]) -> None:
    parts = [f'<p class="note">{escape(note)}</p>'] if note else []
    parts += [f"<p>{escape(first[0])}</p>", *(f'<p class="note">{escape(text)}</p>' for text in first[1:])]
    for section in sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f'<p class="soft">{escape(text)}</p>' for text in section.paragraphs]
        drawn = [
            figure_html(figure, out.parent / "figures" / f"{name}.png", alt)
            for name, (figure, alt) in section.figures.items()
        ]
        parts.append(f'<div class="figures">{"".join(drawn)}</div>' if drawn else "")
        parts += [table_html(table, text=TEXT) for table in section.tables if len(table)]
    out.write_text(page(title, "\n".join(parts)), encoding="utf-8")


def _write_markdown(out: Path, title: str, note: str | None, first: list[str], sections: list[Section]) -> None:
    parts = [f"# {title}", *([f"**{note}**"] if note else []), *first]
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs, *map(markdown, filter(len, section.tables))]
        parts += [f"![{alt}](figures/{name}.png)" for name, (_, alt) in section.figures.items()]
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.adni report",
        description="The tables and figures of a cross-validation as one HTML page that needs nothing but itself, as "
        "Markdown (report.md) and PNG (figures/). Unfinished runs too: what is missing is said.",
        epilog="Attribution needs the networks: run crossval with --keep_checkpoints.",
    )
    parser.add_argument("--experiment", default="adni", help="name of the cross-validation")
    parser.add_argument("--root_dir", type=Path, default=Path("runs"), help="folder that holds the runs' folders")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run's folder)")
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="COLUMN",
        help="columns of the subgroups (default: sex and age, if the table has them)",
    )
    parser.add_argument("--note", help="a line to stand first, such as that the data are synthetic")
    parser.add_argument("--skip_attribution", action="store_true", help="no Grad-CAM; faster")
    parser.add_argument("--subject", help="write this subject's saliency as NIfTI (default: the first test subject)")
    parser.add_argument(
        "--layer", help="module whose feature maps Grad-CAM looks at, such as features.16 (default: the last with maps "
        "of 4 voxels or more each way)",
    )  # fmt: skip
    parser.add_argument("--volumes", type=int, default=20, help="volumes averaged for each arm and class, at most")
    return parser.parse_args(argv)
