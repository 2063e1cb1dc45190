"""A fitted encoder as a dict for JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionconv.errors import CheckpointError
from fusionconv.tabular.fitted import FittedColumn
from fusionconv.tabular.kinds import kind_from_dict

__all__ = ["FORMAT", "VERSION", "encoder_from_dict", "encoder_to_dict"]

FORMAT, VERSION = "fusionconv.CovariateEncoder", 1


def encoder_to_dict(params: Mapping[str, Any], fitted: tuple[FittedColumn, ...], num_rows: int) -> dict[str, Any]:
    """All of a fitted encoder as strings, numbers, lists and dicts, equal to what JSON makes of it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "params": {
            **_lists(params),
            "kinds": {name: _lists(kind.to_dict()) for name, kind in params["kinds"].items()},
        },
        "columns": [_lists(c.to_dict()) for c in fitted],
        "num_rows": num_rows,
    }


def _lists(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, Mapping):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (tuple, list)) else value


def encoder_from_dict(saved: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[FittedColumn, ...], int]:
    """The constructor's arguments, the fitted columns, and the number of training rows.

    Raises:
        CheckpointError: this is not what ``to_dict`` wrote, or another version wrote it.
    """
    got = (saved.get("format"), saved.get("version")) if isinstance(saved, Mapping) else type(saved).__name__
    if got != (FORMAT, VERSION):
        raise CheckpointError(
            f"expected an encoder as {(FORMAT, VERSION)}, got {got}; give the dict that to_dict() wrote, or install "
            "the fusionconv that wrote it"
        )
    try:
        params, fitted = _fields(saved)
        if not fitted or [c.name for c in fitted] != list(params["columns"]):
            raise ValueError(f"fitted columns {[c.name for c in fitted]} for columns {params['columns']}")
        num_rows = saved["num_rows"]
        if not isinstance(num_rows, int) or num_rows < 1:
            raise ValueError(f"{num_rows!r} training rows")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected the fields that to_dict() writes, got a damaged encoder ({type(error).__name__}: {error}); "
            "load the checkpoint again from its source, or fit a new encoder"
        ) from error
    return params, fitted, num_rows


def _fields(saved: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[FittedColumn, ...]]:
    if set(saved) != {"format", "version", "params", "columns", "num_rows"}:
        raise ValueError(f"fields {sorted(saved)}")
    params = dict(saved["params"])
    params["kinds"] = {name: kind_from_dict(kind) for name, kind in params["kinds"].items()}
    return params, tuple(FittedColumn.from_dict(column) for column in saved["columns"])
