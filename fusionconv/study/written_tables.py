"""The study's own tables, read back as they were written: text that looks like a number, or like none, stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.study.files import read_json

__all__ = ["column_types", "read_predictions", "read_rows_in_use", "read_table_of_study", "read_texts"]


def column_types(frame: pd.DataFrame) -> dict[str, str]:
    """``bool``, ``int`` or ``float`` for each column that holds no text; notes.json of a study has them of rows.csv.

    >>> column_types(pd.DataFrame({"age": [61.5], "grade": [2], "site": ["01"]}))
    {'age': 'float', 'grade': 'int'}
    """
    told = {"b": "bool", "i": "int", "u": "int", "f": "float"}
    return {str(name): told[kind.kind] for name, kind in frame.dtypes.items() if kind.kind in told}


def read_rows_in_use(out: Path) -> pd.DataFrame:
    """rows.csv of a study, each column as the table had it: 1.10, 01, None and TRUE of a text column stay these."""
    types = (read_json(out / "notes.json") or {}).get("types", {})
    frame = read_texts(out / "rows.csv")
    for name, kind in types.items():
        values: Any = frame[name]
        frame[name] = values == "True" if kind == "bool" else values.astype("float64")
        if kind == "int" and values.notna().all():
            frame[name] = values.astype("int64")
    return frame


def read_texts(path: Path) -> pd.DataFrame:
    """A table of texts; an empty cell is missing, and no other."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def read_table_of_study(path: Path) -> pd.DataFrame:
    """One of the tables of a comparison, such as results.csv; names of arms, folds, groups and people are texts."""
    if path.name == "predictions.csv":
        return read_predictions(path)
    texts = dict.fromkeys(("arm", "reference", "fold", "id", "subject", "control", "covariate", "group", "chosen"), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])


def read_predictions(path: Path) -> pd.DataFrame:
    """A run's predictions, or those of all; every number as it was written (pandas may be off in the last bit)."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    texts = ["id", "control", "part", "subject", "arm", "fold"]
    if "target" in frame and not {"probability", "prediction"} & set(frame.columns):
        texts += ["target", "decision"]  # names of classes, also where they are numbers
    for name in frame.columns.difference(texts):
        try:
            numbers = frame[name].replace("", "nan").to_numpy(dtype=np.float64)
        except ValueError:  # names of classes
            continue
        whole = name.startswith(("decision", "event", "target_")) or name in ("repeat", "seeds")
        whole |= name == "target" and "probability" in frame
        frame[name] = numbers.astype(np.int64) if whole else numbers
    return frame
