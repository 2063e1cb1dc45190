"""What inspect prints: counts first, then what is missing, broken, odd or doubled, each named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

__all__ = ["describe_all", "odd_ones", "unlike_the_others"]

SHOWN = 5  # names of a list that are printed; the rest is counted, and stands in the CSV files
ODD = 0.05  # a shape, spacing or orientation that fewer images than this share have is named
LIKENESS = 0.1  # correlation below the median's by this, and by 6 median deviations, is unlike the others
ENOUGH = 8  # volumes from which on they are compared with each other
CLASSES = 10  # a numeric target with more values is a measure


def describe_all(
    frame: pd.DataFrame,
    report: pd.DataFrame,
    volumes: pd.DataFrame,
    voxels: bool,
    covariates: Sequence[str],
    target: str | None,
) -> str:
    """The whole text; ``volumes`` as :class:`recipes.adni.inspection.Inspection` has them."""
    usable = frame.loc[volumes.index[volumes["problem"].isna()]]
    lines = [*_counts(frame, volumes, usable), "", *_unmatched(report), "", *_bad(volumes, voxels), ""]
    lines += _geometry(volumes[volumes["problem"].isna()])
    lines += ["", *_doubles(volumes, voxels)]
    if target is not None or covariates:
        lines += ["", f"Columns, over the {len(usable):,d} rows with a volume that can be used"]
        lines += [f"  {line}" for name in ([target] if target else []) for line in _column(usable, name, "target")]
        lines += [f"  {line}" for name in covariates for line in _column(usable, name, "covariate")]
    return "\n".join(lines)


def odd_ones(values: pd.Series[Any]) -> dict[Any, list[Any]]:
    """Values that fewer than 5 % have beside a commoner one, with the labels of their rows.

    >>> odd_ones(pd.Series(["RAS"] * 40 + ["LAS"]))
    {'LAS': [40]}
    >>> odd_ones(pd.Series(["RAS", "RAS", "LAS"]))
    {}
    """
    counts = values.value_counts()
    rare = [value for value, n in counts.items() if n < ODD * len(values) and n < counts.iloc[0]]
    return {value: values.index[values == value].tolist() for value in rare}


def unlike_the_others(likeness: pd.Series[Any]) -> list[Any]:
    """Labels of the volumes whose ``likeness`` (correlation with the median image) is far below that of the others.

    >>> unlike_the_others(pd.Series([0.95, 0.97, 0.93, 0.96, 0.94, 0.96, 0.95, 0.20, 0.94]))
    [7]
    """
    known = likeness.dropna()
    if len(known) < ENOUGH:
        return []
    below = known.median() - known
    return known.index[below > max(LIKENESS, 6 * float(below.abs().median()))].tolist()


def _counts(frame: pd.DataFrame, volumes: pd.DataFrame, usable: pd.DataFrame) -> list[str]:
    per_subject = volumes["subject"].value_counts()
    sessions = volumes["session"].replace("", pd.NA).value_counts()
    lines = [
        "Found",
        f"  {len(frame):,d} rows of {frame['subject'].nunique():,d} subjects in the table",
        f"  {len(volumes):,d} rows have an image: {volumes['image'].nunique():,d} files of "
        f"{volumes['subject'].nunique():,d} subjects",
        f"  {len(usable):,d} of them can be used",
    ]
    if (per_subject > 1).any():
        lines.append(f"  {(per_subject > 1).sum():,d} subjects have several images: split by subject, not by image")
    if len(sessions):
        lines.append(f"  sessions: {_list(f'{name} {n:,d}' for name, n in sessions.items())}")
    return lines


def _unmatched(report: pd.DataFrame) -> list[str]:
    if report.empty:
        return ["Rows and images: all matched"]
    lines = ["Rows and images that were not matched (unmatched.csv has them all)"]
    for kind, part in report.groupby("kind", sort=False):
        lines.append(f"  {len(part):,d} x {kind}")
        for reason, same in list(part.groupby("reason", sort=False))[:SHOWN]:
            who = [_name(s, v) if isinstance(s, str) else str(i) for s, v, i in _who(same)]
            lines.append(f"    {len(same):,d}: {reason} ({_list(who)})")
        if (more := part["reason"].nunique() - SHOWN) > 0:
            lines.append(f"    and {more:,d} other reasons")
    return lines


def _who(part: pd.DataFrame) -> Iterable[tuple[Any, Any, Any]]:
    return part[["subject", "session", "image"]].itertuples(index=False, name=None)


def _bad(volumes: pd.DataFrame, voxels: bool) -> list[str]:
    bad = volumes[volumes["problem"].notna()].drop_duplicates("image")
    good = volumes["image"].nunique() - len(bad)
    how = "header and voxels" if voxels else "headers only; without --skip_voxels the voxels are read too"
    lines = [f"Volumes ({how}): {good:,d} good, {len(bad):,d} bad" + (" (problem in volumes.csv)" if len(bad) else "")]
    for image, problem in bad[["image", "problem"]].head(4 * SHOWN).itertuples(index=False):
        lines.append(f"  {image}: {problem}")
    if len(bad) > 4 * SHOWN:
        lines.append(f"  and {len(bad) - 4 * SHOWN:,d} more")
    return lines


def _geometry(good: pd.DataFrame) -> list[str]:
    if good.empty:
        return ["No volume can be used"]
    lines = ["What the good volumes are like"]
    for column, title in (
        ("shape", "voxels"),
        ("spacing", "spacing, mm"),
        ("orientation", "axes run to"),
        ("dtype", "stored as"),
    ):
        odd = odd_ones(good[column])
        for i, (value, n) in enumerate(good[column].value_counts().items()):
            if i == 2 * SHOWN:
                lines.append(f"  {'':12s} and {good[column].nunique() - i:,d} others")
                break
            names = [_name(*good.loc[label, ["subject", "session"]]) for label in odd.get(value, [])]
            lines.append(
                f"  {'' if i else title:12s} {value!s:20s} {n:6,d}" + (f"   odd: {_list(names)}" * bool(names))
            )
    extents = good[["extent_r", "extent_a", "extent_s"]]
    for title, row in (("smallest", extents.min()), ("median", extents.median()), ("largest", extents.max())):
        first = "view, mm" if title == "smallest" else ""
        lines.append(f"  {first:12s} {title:9s} {row.iloc[0]:4.0f} x {row.iloc[1]:.0f} x {row.iloc[2]:.0f}")
    lines[-3] += "   (left-right, back-front, down-up)"
    for note, part in good.dropna(subset="notes").groupby("notes", sort=False):
        lines.append(f"  note, {len(part):,d} x: {note} ({_list(_name(s, v) for s, v, _ in _who(part))})")
    if unlike := unlike_the_others(good["likeness"]):
        names = [f"{_name(*good.loc[i, ['subject', 'session']])} (r = {good.loc[i, 'likeness']:.2f})" for i in unlike]
        lines.append(
            f"  odd, {len(unlike):,d} x: unlike the others, r = {good['likeness'].median():.2f} with the median image "
            f"(turned, cut off, not brain-extracted, another head?): {_list(names)}"
        )
    if good["p99"].notna().any():
        p99 = good["p99"]
        lines.append(
            f"  intensity, 99th percentile: median {p99.median():.4g}, from {p99.min():.4g} to {p99.max():.4g}; "
            f"lowest voxel of all {good['minimum'].min():.4g}"
        )
    return lines


def _doubles(volumes: pd.DataFrame, voxels: bool) -> list[str]:
    lines = []
    for image, part in volumes[volumes["image"].duplicated(keep=False)].groupby("image", sort=False):
        lines.append(f"  {image} stands in {len(part)} rows: {_list(_name(s, v) for s, v, _ in _who(part))}")
    files = volumes.drop_duplicates("image").dropna(subset="sha256")
    for _, part in files[files["sha256"].duplicated(keep=False)].groupby("sha256", sort=False):
        same = "other subjects" if part["subject"].nunique() > 1 else "one subject"
        lines.append(f"  the same content in {len(part)} files, of {same}: {_list(part['image'])}")
    if lines:
        return ["The same image more than once: find out which row is right before you split", *lines]
    return ["The same image more than once: none" + ("" if voxels else " by name; contents were not read")]


def _column(frame: pd.DataFrame, name: str, role: str) -> list[str]:
    values, n = frame[name], max(len(frame), 1)
    head = f"{role} {name}: {values.isna().sum():,d} missing ({values.isna().mean() if len(frame) else 0:.1%})"
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if values.notna().sum() == 0:
        return [f"{head}, no value at all"]
    if numeric and (values.nunique() > CLASSES or values.nunique() > n / 2):
        levels = values.quantile([0, 0.25, 0.5, 0.75, 1]).tolist()
        return [head + ", lowest {:.4g}, quartiles {:.4g} {:.4g} {:.4g}, highest {:.4g}".format(*levels)]
    counts = values.value_counts()
    lines = [f"{head}, {_list((f'{_plain(v)}: {k:,d} ({k / n:.1%})' for v, k in counts.items()), CLASSES)}"]
    if role == "target" and len(counts) == 1:
        lines.append("  only one class: there is nothing to learn")
    return lines


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(subject: Any, session: Any) -> str:
    return f"{subject} {session}".strip() if isinstance(session, str) else str(subject)


def _list(names: Iterable[Any], shown: int = SHOWN) -> str:
    every = [str(name) for name in names]
    return ", ".join(every[:shown]) + (f", and {len(every) - shown:,d} more" if len(every) > shown else "")
