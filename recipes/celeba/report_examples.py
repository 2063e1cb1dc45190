"""The report's example images: what each run answered, grouped by which runs were right."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from recipes.celeba import report_figures as draw
from recipes.celeba.compare import Run
from recipes.common.figures import save
from recipes.common.page import data_uri

EXAMPLES = 4  # at most, of each pattern of right and wrong


def example_cards(runs: Sequence[Run], judged: pd.DataFrame, shown: list[str], folder: Path, out: Path) -> str:
    """Cards, a row for each pattern of right and wrong, and the same as a contact sheet in figures/examples.png."""
    rights = pd.DataFrame({run.name: run.right for run in runs})
    patterns = rights.value_counts().index  # the most frequent first
    parts, captions = [], []
    for pattern in patterns:
        files = rights.index[(rights == list(pattern)).all(axis=1)]
        good = [run.name for run, right in zip(runs, pattern, strict=True) if right]
        everyone = "both" if len(runs) == 2 else "all"
        heading = (
            "none right" if not good else f"{everyone if len(good) == len(runs) else 'only ' + ', '.join(good)} right"
        )
        cards = []
        for file in files[:EXAMPLES]:
            facts = [f"{name} {'yes' if judged.loc[file, name] else 'no'}" for name in shown]
            truth = f"truth {judged.loc[file, runs[0].result['target']]}"
            answers, lines = [], []
            for run in runs:
                probability = run.predictions.loc[file, "probability"]
                right = run.right.loc[file]
                answers.append(f'<p class="{"right" if right else "wrong"}">{escape(run.name)}: {probability:.0%}</p>')
                lines.append(f"{run.name}: {probability:.0%}, {'right' if right else 'wrong'}")
            path = folder / "img_align_celeba" / str(file)
            alt = f'alt="{escape(str(file))}" width="178" height="218"'
            cards.append(
                f'<div class="face"><img src="{data_uri(path, "jpeg")}" {alt}>'
                f'<div><p class="soft">{"<br>".join(map(escape, facts))}</p><p><b>{escape(truth)}</b></p>'
                f"{''.join(answers)}</div></div>"
            )
            captions.append((path, "\n".join([*facts, truth, *lines])))
        parts.append(
            f'<h3>{heading.capitalize()} ({len(files):,d} images)</h3><div class="faces">{"".join(cards)}</div>'
        )
    save(draw.draw_examples(captions), out.parent / "figures" / "examples.png")
    return "".join(parts)
