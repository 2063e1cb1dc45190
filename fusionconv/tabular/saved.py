"""A fitted encoder as a dict for JSON, and back; dicts of version 1 still load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionconv.errors import CheckpointError
from fusionconv.tabular.fitted import Defaults, FittedColumn
from fusionconv.tabular.kinds import Binary, LearntBinary, LearntNumeric, Numeric, Scale, as_kind, kind_from_dict

__all__ = ["FORMAT", "VERSION", "encoder_from_dict", "encoder_to_dict"]

FORMAT, VERSION = "fusionconv.CovariateEncoder", 2


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
        CheckpointError: this is not what ``to_dict`` wrote, or a newer version wrote it.
    """
    came = (saved.get("format"), saved.get("version")) if isinstance(saved, Mapping) else type(saved).__name__
    if came not in ((FORMAT, 1), (FORMAT, VERSION)):
        raise CheckpointError(
            f"expected an encoder as {(FORMAT, VERSION)} or version 1, came {came}; give the dict that to_dict() "
            "wrote, or install the fusionconv that wrote it"
        )
    try:
        params, fitted = _version_1(saved) if saved["version"] == 1 else _version_2(saved)
        if not fitted or [c.name for c in fitted] != list(params["columns"]):
            raise ValueError(f"fitted columns {[c.name for c in fitted]} for columns {params['columns']}")
        num_rows = saved["num_rows"]
        if not isinstance(num_rows, int) or num_rows < 1:
            raise ValueError(f"{num_rows!r} training rows")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected the fields that to_dict() writes, came a damaged encoder ({type(error).__name__}: {error}); "
            "load the checkpoint again from its source, or fit a new encoder"
        ) from error
    return params, fitted, num_rows


def _version_2(saved: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[FittedColumn, ...]]:
    if set(saved) != {"format", "version", "params", "columns", "num_rows"}:
        raise ValueError(f"fields {sorted(saved)}")
    params = dict(saved["params"])
    params["kinds"] = {name: kind_from_dict(kind) for name, kind in params["kinds"].items()}
    return params, tuple(FittedColumn.from_dict(column) for column in saved["columns"])


def _version_1(saved: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[FittedColumn, ...]]:
    """Version 1 knew binary (0/1) and z-scored numeric columns, and no missing values."""
    defaults = Defaults("error", "auto", ())
    fitted = []
    for column in saved["columns"]:
        if set(column) != {"name", "kind", "mean", "scale"}:
            raise ValueError(f"fields {sorted(column)} of a column")
        mean, scale = column["mean"], column["scale"]
        if column["kind"] == "binary":
            if (mean, scale) != (0, 1):
                raise ValueError(f"binary column {column['name']!r} with mean {mean!r} and scale {scale!r}")
            # the share of ones was not kept; it is only for missing values, which these encoders refuse
            kind, learnt = Binary(), LearntBinary(((0, 0), (1, 1)), 0.0)
            resolved = FittedColumn(column["name"], defaults.resolve(kind), learnt, True, 0, None, False)
        elif column["kind"] == "numeric":
            numeric = LearntNumeric(Scale("zscore", mean, scale, mean))
            resolved = FittedColumn(column["name"], defaults.resolve(Numeric()), numeric, True, 0, None, False)
        else:
            raise ValueError(f"kind {column['kind']!r} in version 1")
        fitted.append(resolved)
    names = [c.name for c in fitted]
    kinds = {name: as_kind(kind, name) for name, kind in saved["kinds"].items()}
    if not set(kinds) <= set(names):
        raise ValueError(f"kinds of {sorted(set(kinds) - set(names))}, which are no columns")
    return {"columns": names, "kinds": kinds}, tuple(fitted)
