"""Which columns say left or right: a mirrored image no longer agrees with them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fusionconv.tabular.namewords import words_of

__all__ = ["left_right_columns", "mirroring_note"]

_ANYWHERE = frozenset({"side", "sides", "sided", "laterality", "hemisphere", "hemispheres", "hemi", "handedness"}) | {
    "left", "right", "lh", "rh", "links", "rechts", "gauche", "droite", "seite", "izquierda", "derecha",
}  # fmt: skip
_AT_THE_END = frozenset({"eye", "hand", "ear", "breast", "knee", "kidney", "lung", "limb", "foot"})  # not eye_colour
_LEFT = frozenset({"l", "left", "lh", "os", "lt", "links", "gauche", "sinister", "left-sided"})
_RIGHT = frozenset({"r", "right", "rh", "od", "rt", "rechts", "droite", "dexter", "right-sided"})
_NEITHER = frozenset(
    {"b", "bi", "bilateral", "both", "ou", "midline", "mid", "middle", "central", "none", "unknown", "a", "ambi", ""}
)


def left_right_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that say left or right, by their names or by their values (``L``/``R``, ``OD``/``OS``, ...).

    >>> left_right_columns(pd.DataFrame({"age": [60], "tumorSide": [1], "eye_color": ["blue"], "side_effects": [0]}))
    ['tumorSide']
    >>> left_right_columns(pd.DataFrame({"where": ["L", "R", "bilateral"], "sex": ["M", "F", "F"]}))
    ['where']
    """
    return [str(name) for name in frame.columns if _named(str(name)) or _valued(frame[name])]


def mirroring_note(columns: list[str], option: str) -> str | None:
    """What to say where training mirrors left and right although ``columns`` tell them apart; None without any.

    Args:
        columns: from :func:`left_right_columns`.
        option: what turns the mirroring off, such as ``"other --augment without hflip"``.
    """
    if not columns:
        return None
    what = f"{', '.join(columns)} {'says' if len(columns) == 1 else 'say'}"
    return (
        f"training images are mirrored at random, and {what} left or right: in half of the images that is wrong. "
        f"Give {option}"
    )


def _named(name: str) -> bool:
    words = [word for word in words_of(name) if not word.isdigit()]
    if "side" in words and {"effect", "effects"} & set(words):
        return False
    return bool(words) and (bool(_ANYWHERE & set(words)) or words[-1] in _AT_THE_END)


def _valued(column: pd.Series[Any]) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        return False
    values = {str(value).strip().casefold() for value in column.dropna().unique()}
    return bool(values & _LEFT) and bool(values & _RIGHT) and values <= _LEFT | _RIGHT | _NEITHER
