"""What holds and what does not, in sentences that are computed from the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fusionconv.evaluation import format_p
from recipes.celeba.grid.report.covariates import GainSplit, uses_covariates
from recipes.celeba.grid.report.differences import LEVEL, Comparison, logged_differences, mean_right, sampling_error
from recipes.celeba.grid.report.folder import JUDGED, Grid, GridRun, short
from recipes.celeba.grid.report.groups import GapChange
from recipes.celeba.grid.report.tables import points

OFFICIAL = {"train": 162_770, "valid": 19_867, "test": 19_962}  # images of the official split
OFFICIAL_SIZE = 224
SEEDS = 5


def verdicts(comparisons: dict[str, Comparison], mode: str) -> list[str]:
    """How many rows differ from their plain baseline by more than noise: hybrid rows, constant rows, other methods."""
    kinds = {
        "hybrid": [c for c in comparisons.values() if c.row.method == "hybrid" and uses_covariates(c.row)],
        "constant-covariate": [c for c in comparisons.values() if c.row.constant is not None],
        "late concat and FiLM": [c for c in comparisons.values() if c.row.method != "hybrid"],
    }
    sentences = []
    for kind, found in kinds.items():
        if not found:
            continue
        count = {v: [c for c in found if c.verdict == v] for v in ("better", "worse", "not told apart", "undecided")}
        rows = f"{kind} row" + ("" if len(found) == 1 else "s")
        text = (
            f"Of {len(found)} {mode.replace('_', ' ')} {rows} that can be set against a plain baseline of the same "
            f"rate, batch, seeds and images ({'test' if JUDGED[mode] == 'test' else 'validation'} split), "
            f"{len(count['better'])} beat{'s' if len(count['better']) == 1 else ''} it by more than noise, "
            f"{len(count['worse'])} {'is' if len(count['worse']) == 1 else 'are'} worse by more than noise, "
            f"{len(count['not told apart'])} cannot be told apart from it"
        )
        if count["undecided"]:
            text += f", and {len(count['undecided'])} cannot be decided, for want of a second seed"
        sentences.append(text + ".")
        for v in ("better", "worse"):
            sentences += [f"{short(c.row)}: {v}, {points(c.over_images)} points." for c in count[v]]
    return sentences or [
        f"No {mode.replace('_', ' ')} row has a plain baseline of the same seeds here: nothing is compared."
    ]


def how_decided(comparisons: dict[str, Comparison]) -> str:
    """The rule of the verdicts, and the fewest and most seeds."""
    seeds = sorted({len(c.seeds) for c in comparisons.values()})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "0"
    return (
        f'"More than noise" asks for both tests at once, each after Holm\'s correction over all rows of the mode '
        f"(p < {LEVEL:g}): a paired t-test over seeds (n = {n}; the training's chance: initial weights that are not "
        "pretrained, order of images, dropout), and resampling the images (the chance of which images are judged). "
        "Seeds on one split are not folds: another training set is not in either test. With few seeds the t-test is "
        "weak, so a row that is not told apart is not shown to be equal; its interval says how far apart it may be."
        + _too_few_resamples(comparisons)
    )


def _too_few_resamples(comparisons: dict[str, Comparison]) -> str:
    """What to say where the least p that the resamples can show, times Holm's factor, is not below LEVEL."""
    rows = len(comparisons)
    least = max((1 / (c.resamples + 1) for c in comparisons.values()), default=0.0)
    if rows * least < LEVEL:
        return ""
    return (
        f" **With {round(1 / least) - 1:,d} resamples and {rows} rows no row can be better or worse**: the least p "
        f"that they can show, {least:.2g}, is {min(1.0, rows * least):.2g} after Holm's correction. Give a larger "
        "--resamples."
    )


def resampled(grid: Grid, split: str) -> str:
    """Whether images or people are drawn, and what that means."""
    target = grid.target(split)
    if target is None:
        return ""
    name = "validation" if split == "valid" else split
    if grid.people is None:
        return (
            "It is not known who is on the images (CelebA's identity file was not there), so they are resampled one "
            "by one; where a person has several, intervals are too narrow."
        )
    people = grid.people.loc[target.index].nunique()
    return (
        f"The {len(target):,d} {name} images are of {people:,d} people (CelebA's identity file): people are "
        "resampled, each with all images."
    )


def noise(grid: Grid) -> list[str]:
    """The sampling error of one accuracy here and in the study."""
    sentences = [
        f"One accuracy of the study's {OFFICIAL['valid']:,d} validation images, at 81.6 %, has a sampling error of "
        f"{100 * sampling_error(0.816, OFFICIAL['valid']):.2f} points (95 %: about twice that to either side)."
    ]
    for mode, split in JUDGED.items():
        runs = [run for run in grid.runs if run.mode == mode]
        if runs:
            mean = float(np.mean([run.right(split).mean() for run in runs]))
            n = grid.splits[split]
            sentences.append(
                f"Here one accuracy of {n:,d} {'validation' if split == 'valid' else split} images, at the mean of "
                f"the {mode.replace('_', ' ')} runs, {100 * mean:.1f} %, has one of "
                f"{100 * sampling_error(mean, n):.2f} points."
            )
    return [
        *sentences,
        "These, Wilson's intervals and McNemar's test take images as independent, which several images of one person "
        "are not.",
    ]


def study_against_itself(grid: Grid) -> list[str]:
    """The published logs where rate and batch size are the same: computed from the figures of the table."""
    plain = next((row for row in grid.rows.values() if row.matched and row.arm == "plain"), None)
    if plain is None:
        return []
    sentences = [
        "The study's claim rests on hybrids at lr 1e-5 against a baseline at 1e-3. Its own logs hold the baseline "
        f"at {short(plain).removeprefix('plain, ')}: {spread(plain.logged)} %. Against that:"
    ]
    for found in logged_differences(grid):
        p = "one log, no test" if math.isnan(found.p_value) else f"Welch's t-test p {format_p(found.p_value)}"
        logs = f"{len(found.row.logged)} log{'s' if len(found.row.logged) > 1 else ''}"
        sentences.append(
            f"- {short(found.row)}: {spread(found.row.logged)} % ({logs}), {found.difference:+.2f} points, {p}."
        )
    return sentences


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation.

    >>> spread([81.84, 81.36, 81.58]), spread([80.64])
    ('81.59 +- 0.24', '80.64')
    """
    return f"{np.mean(values):.2f}" + (f" +- {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def beside_the_study(grid: Grid, comparisons: dict[str, Comparison]) -> list[str]:
    """For the matched rows, the direction of our difference from plain beside that of the logs."""
    logged = {found.row.name: found.difference for found in logged_differences(grid)}
    both = [c for name, c in comparisons.items() if name in logged]
    if not both:
        return []
    same = [c for c in both if c.over_images.estimate * logged[c.row.name] > 0]
    text = ", ".join(
        f"{short(c.row).split(', lr')[0]} {100 * c.over_images.estimate:+.2f} (logs {logged[c.row.name]:+.2f})"
        for c in both
    )
    return [
        f"Of the {len(both)} matched hybrid rows run as published that the study has logs of, {len(same)} differ from "
        "the matched baseline in "
        f"the same direction as in the study's logs: {text} points. A direction alone is weak: a coin has half of "
        "them right."
    ]


def shortcut(splits: Sequence[GainSplit], accuracies: pd.DataFrame, covariates_only: pd.DataFrame | None) -> list[str]:
    """How much of each gain over plain goes when the covariates are permuted."""
    sentences = []
    for s in splits:
        gain, lost, survives = (100 * part.estimate for part in (s.gain, s.lost, s.survives))
        seeds = f"{'seed' if len(s.seeds) == 1 else 'seeds'} {', '.join(map(str, s.seeds))}"
        text = f"{short(s.row)} ({seeds}): {gain:+.2f} points over plain; with another image's covariates "
        text += f"{survives:+.2f}; "
        text += f"{lost:+.2f} hang on whose covariates they are"
        if s.lost.low > 0:
            text += " (more than the chance of the images: its interval is above 0)"
        elif s.lost.high < 0:
            text += " (the network is better with another image's)"
        else:
            text += " (not told apart from 0)"
        if s.gain.low <= 0 <= s.gain.high:
            text += ". The gain itself is not told apart from 0, so a share of it means nothing"
        elif gain > 0:
            text += f". That is {100 * lost / gain:.0f} % of the gain"
        sentences.append("- " + text + ".")
    return sentences


def gap_words(changes: Sequence[GapChange]) -> list[str]:
    """Which rows draw the groups further apart, or closer together, than plain does."""
    if not changes:
        return []
    sentences = []
    for by in dict.fromkeys(c.by for c in changes):
        own = [c for c in changes if c.by == by]
        told = [c for c in own if c.change.low > 0 or c.change.high < 0]
        wider = [c for c in told if abs(c.own) > abs(c.plain)]
        sentences.append(
            f"{by}: the two groups' selection rates lie further apart than in plain in {len(wider)} of {len(own)} "
            f"rows by more than the chance of the images, closer together in {len(told) - len(wider)}, and are not "
            f"told apart from plain's in {len(own) - len(told)} (intervals of 95 %, each row by itself)."
        )
    return sentences


def full_data(grid: Grid) -> list[str]:
    """Steps, images and hours of the whole grid on the official split, from the rates measured here."""
    count, train = SEEDS * sum(len(row.modes) for row in grid.rows.values()), OFFICIAL["train"]
    sizes = sorted({row.batch_size for row in grid.rows.values()})
    steps = ", ".join(f"{math.ceil(train / size):,d} steps at batch {size}" for size in sizes)
    hours = count * train / 3600  # at one image a second
    sentences = [
        f"The whole grid on the official split is {len(grid.rows)} rows in their modes, times {SEEDS} seeds: {count} "
        f"runs of {train:,d} training images ({steps}), {count * train / 1e6:.1f} million images trained on in all. "
        f"At r images a second that is {hours:,.0f} / r hours: {hours / 2500:,.1f} at r = 2,500, {hours / 250:,.0f} "
        "at r = 250. Judging comes on top: about a third of the time of an image that is trained, for each image "
        "judged."
    ]
    rates = [run.rate for run in grid.runs if run.rate]
    if not rates:
        return sentences
    hardware = "; ".join(dict.fromkeys(where(run) for run in grid.runs))
    rate, size = float(np.median(rates)), int(grid.settings["image_size"])
    text = (
        f"Measured here: {rate:,.1f} training images a second at {size} pixels (median of the runs, from "
        f"{min(rates):,.1f} to {max(rates):,.1f}; {hardware}), so {hours / rate:,.0f} hours"
    )
    if size != OFFICIAL_SIZE:
        more = (OFFICIAL_SIZE / size) ** 2
        text += (
            f" at that size. An image of {OFFICIAL_SIZE} x {OFFICIAL_SIZE} has {more:.1f} times the pixels; were the "
            f"time to grow with them, {more * hours / rate:,.0f} hours, which is an estimate and not measured"
        )
    return [*sentences, text + "."]


def where(run: GridRun) -> str:
    """The hardware of one run, and its threads where it was trained on a processor."""
    hardware = str(run.judged["valid"].get("hardware", "unknown hardware"))
    threads = run.result.get("threads")
    if threads is None or not hardware.startswith("CPU"):
        return hardware
    return f"{hardware}, {threads} thread{'' if threads == 1 else 's'} a run"


def standing(grid: Grid) -> list[str]:
    """How far the plain networks got: beside the more common answer, the covariates alone, and the study."""
    target = grid.target("test")
    ran = [row for row in grid.rows.values() if row.arm == "plain" and grid.of(row.name, "corrected")]
    plain = next((row for row in ran if row.matched), ran[0] if ran else None)
    if target is None or plain is None:
        return []
    reached = 100 * float(mean_right(grid.of(plain.name, "corrected"), "test").mean())
    common = 100 * max(float(target.mean()), 1 - float(target.mean()))
    text = (
        f"{short(plain)}, corrected, has {reached:.2f} % of the test images right; always the more common answer has "
        f"{common:.2f} %"
    )
    far = ""
    if grid.covariates_only is not None and len(grid.covariates_only):
        best = _best_by_validation(grid.covariates_only)
        text += "".join(f"; {name} without an image {100 * value:.2f} %" for name, value in best.items())
        if reached < 100 * float(best.max()):
            far = " Below what covariates reach alone it is far from trained, and no row here says much of the method."
    if plain.logged:
        text += f"; the study's logs of this row have {spread(plain.logged)} % on its validation images"
    return [text + "." + far]


def _best_by_validation(table: pd.DataFrame) -> pd.Series:
    """For each set of covariates the test accuracy of the model that is better on the validation split."""
    found = {}
    for names, part in table.groupby("covariates", sort=False):
        accuracy = part.pivot(index="model", columns="split", values="accuracy")
        found[names] = accuracy.loc[accuracy["valid"].idxmax(), "test"]
    return pd.Series(found, dtype=float)


def collapsed(grid: Grid) -> list[str]:
    """Runs that give every judged image the same answer."""
    names = [run.name for run in grid.runs if run.predictions[JUDGED[run.mode]]["prediction"].nunique() == 1]
    if not names:
        return []
    return [f"{len(names)} run{'s' if len(names) > 1 else ''} ended with one constant answer: {', '.join(names)}."]
