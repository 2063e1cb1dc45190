"""slices.png: the middle slices of a few volumes, turned to RAS, so that a flipped or cut-off brain is seen at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.errors import ImageError
from fusionconv.study.volumes import read_header, read_voxels
from recipes.adni.inspection import odd_ones, unlike_the_others

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["choose", "draw_slices", "middle_slices"]

SHOWN = 12  # volumes in the picture
COLUMNS = 3
BAD, ODD, INK = "#ff6b5e", "#ffb454", "#d9dde2"  # red and amber on black, with words: not told by colour alone
FRAME = "#56606b"
GAP = 6.0  # mm between slices


def choose(volumes: pd.DataFrame, shown: int = SHOWN) -> pd.DataFrame:
    """Up to ``shown`` rows, spread evenly over the table; a third of the places goes to bad and odd ones, if any.

    The column ``flag`` says what is wrong or odd: a bad volume's problem, or a rare shape, spacing or orientation, or
    an image that looks unlike the others.
    """
    flags = {label: str(why) for label, why in volumes["problem"].dropna().items()}
    good = volumes[volumes["problem"].isna()]
    for column in ("shape", "spacing", "orientation"):
        for value, labels in odd_ones(good[column]).items():
            for label in labels:
                flags[label] = "; ".join(filter(None, (flags.get(label), f"odd {column}: {value}")))
    for label in unlike_the_others(good["likeness"]):
        flags[label] = "; ".join(filter(None, (flags.get(label), "looks unlike the others")))
    flagged = [label for label in volumes.index if label in flags]
    plain = [label for label in volumes.index if label not in flags]
    room = max(min(len(flagged), shown // 3), shown - len(plain))
    picked = {*_spread(flagged, room), *_spread(plain, shown - min(len(flagged), room))}
    chosen = volumes.loc[[label for label in volumes.index if label in picked]]
    return chosen.assign(flag=[flags.get(label) for label in chosen.index])


def _spread(labels: list[Any], n: int) -> list[Any]:
    if n >= len(labels):
        return labels
    return [labels[round(i)] for i in np.linspace(0, len(labels) - 1, n)] if n > 0 else []


def middle_slices(path: str | Path) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """Axial, coronal and sagittal, turned to RAS: of each the image, rows from below upwards, and its size in mm.

    Axial and coronal have the left side of the body at the left, sagittal has the back at the left.
    """
    import nibabel as nib

    info = read_header(path, allow_unknown_orientation=True)
    turn = nib.io_orientation(np.asarray(info.affine))
    data = nib.apply_orientation(read_voxels(path), turn)
    spacing = [info.spacing[int(np.where(turn[:, 0] == axis)[0][0])] for axis in range(3)]
    out = []
    for along, (across, up) in ((2, (0, 1)), (1, (0, 2)), (0, (1, 2))):
        cut = np.take(data, data.shape[along] // 2, axis=along).T  # the lower of the two axes lies across
        out.append((cut, (data.shape[across] * spacing[across], data.shape[up] * spacing[up])))
    return out


def draw_slices(chosen: pd.DataFrame) -> Figure:
    """The picture of the rows that :func:`choose` gave."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(4.6 * COLUMNS, 2.05 * rows + 0.5), facecolor="black", layout="constrained")
    figure.suptitle(
        "Middle slices by the files' own orientation. Expected: the face at A, the crown at S, the whole brain "
        "inside of its frame, all alike. L is the left side of the body.",
        fontsize=9.5, color=INK,
    )  # fmt: skip
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_facecolor("black")
        axes.set_axis_off()
    for axes, (_, row) in zip(grid, chosen.iterrows(), strict=False):
        name = f"{row['subject']} {row['session']}".strip()
        bad, odd = (isinstance(row[column], str) for column in ("problem", "flag"))
        colour = BAD if bad else ODD if odd else INK
        if bad:
            about = "BAD"
        else:
            about = f"{row['shape']}, {row['spacing']} mm, {row['orientation']}" + ("   ODD" if odd else "")
        axes.set_title(f"{name}   {about}", fontsize=7.5, color=colour, loc="left", pad=3)
        try:
            if bad:
                raise ImageError(row["problem"])
            _draw(axes, middle_slices(row["image"]))
        except (ImageError, OSError) as error:
            why = str(error).removeprefix(f"{row['image']}: ")
            axes.text(0.5, 0.5, _wrap(why), color=BAD, fontsize=7.5, ha="center", va="center", transform=axes.transAxes)
    return figure


def _draw(axes: Any, slices: list[tuple[np.ndarray, tuple[float, float]]]) -> None:
    from matplotlib.patches import Rectangle

    values = np.concatenate([cut.ravel() for cut, _ in slices])
    inside = values[values > values.min()]  # the background is often most of it
    low, high = float(values.min()), float(np.percentile(inside, 99.5)) if inside.size else float(values.max())
    tallest, left = max(height for _, (_, height) in slices), 0.0
    letters = (("L", "R", "A", "P"), ("L", "R", "S", "I"), ("P", "A", "S", "I"))
    for (cut, (width, height)), (at_left, at_right, at_top, at_bottom) in zip(slices, letters, strict=True):
        bottom = (tallest - height) / 2
        axes.imshow(
            cut, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", interpolation="nearest",
            extent=(left, left + width, bottom, bottom + height),
        )  # fmt: skip
        axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=FRAME, linewidth=0.5))
        middle, half = left + width / 2, bottom + height / 2
        for x, y, letter, ha, va in (
            (left, half, at_left, "left", "center"),
            (left + width, half, at_right, "right", "center"),
            (middle, bottom + height, at_top, "center", "top"),
            (middle, bottom, at_bottom, "center", "bottom"),
        ):
            axes.text(x, y, letter, color="#ffd75e", fontsize=7, ha=ha, va=va, weight="bold")
        left += width + GAP
    axes.set(xlim=(-1, left - GAP + 1), ylim=(-1, tallest + 1), aspect="equal")


def _wrap(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 58)[:8])
