"""covariate_collate: items to a batch whose rows are checked by id."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from fusionconv.errors import TableError
from fusionconv.tabular.ids import first_few
from fusionconv.tabular.pairing.table import CovariateTable

__all__ = ["covariate_collate"]


def covariate_collate(batch: Sequence[Any], table: CovariateTable | None = None) -> dict[str, Any]:
    """Items of :class:`CovariateDataset`, or of a MONAI dataset over :func:`covariate_items`, to a batch.

    An item may be a list of dicts, as MONAI's transforms give several crops of an image: each crop is a row of its own.

    Args:
        batch: dicts with at least ``"covariates"`` (K,) float32 and ``"id"``.
        table: where to look every id up. With it, rows that were shifted, repeated in another order or changed by a
            transform are an error, and so are MONAI images that were loaded from another row's file. Without it, only
            crops of one id are compared with each other. ``functools.partial(covariate_collate, table=table)``

    Returns:
        The same keys: ``"covariates"`` float32 (N, K), ``"id"`` a list of N texts, everything else by torch's (for
        MONAI's tensors, MONAI's) ``default_collate``.

    Raises:
        TableError: an item without id or covariates; covariates of other shapes or types; one id with different rows;
            and what :meth:`CovariateTable.require` says.

    >>> rows = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 2.0])}
    >>> covariate_collate([{"id": name, "covariates": row} for name, row in rows.items()])
    {'id': ['a', 'b'], 'covariates': tensor([[1., 0.],
            [0., 2.]])}
    """
    items = [part for item in batch for part in (item if isinstance(item, (list, tuple)) else [item])]
    for item in items:
        if not (isinstance(item, Mapping) and isinstance(item.get("id"), str) and "covariates" in item):
            came = sorted(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
            raise TableError(
                f"expected items with 'covariates' and 'id' (text), got {came}; make them with CovariateDataset or "
                "covariate_items: a row without its id cannot be checked"
            )
        if item.keys() != items[0].keys():
            raise TableError(f"expected the same keys in all items, got {sorted(item)} beside {sorted(items[0])}")
    if not items:
        raise TableError("expected at least one item, got none")
    ids = [str(item["id"]) for item in items]
    covariates = torch.stack(_rows(items, ids))
    first: dict[str, int] = {}
    for place, name in enumerate(ids):
        known = first.setdefault(name, place)
        if not torch.equal(covariates[known], covariates[place]) or not _alike(items[known], items[place]):
            raise TableError(
                f"expected the same covariates and target wherever {name!r} occurs in a batch, got different ones; an "
                "id stands for one row of the table"
            )
    if table is not None:
        files = [_file(item.get("image")) for item in items]
        table.require(ids, covariates, files)
    collated: dict[str, Any] = {}
    for key in items[0]:
        if key == "covariates":
            collated[key] = covariates
        elif key == "id":
            collated[key] = ids
        else:
            collated[key] = _stack(key, [item[key] for item in items])
    return collated


def _rows(items: Sequence[Mapping[str, Any]], ids: list[str]) -> list[torch.Tensor]:
    rows = [torch.as_tensor(item["covariates"]) for item in items]
    rows = [row.as_subclass(torch.Tensor) for row in rows]  # MONAI may have made it a MetaTensor
    bad = [
        f"{name}: {tuple(row.shape)} {row.dtype}"
        for name, row in zip(ids, rows, strict=True)
        if row.ndim != 1 or row.dtype != torch.float32 or row.shape != rows[0].shape
    ]
    if bad:
        raise TableError(
            f"expected float32 covariates of shape (K,), as many for each, got {first_few(bad)}; name only the image "
            "in the transforms' keys, and take covariates from an encoder"
        )
    return rows


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two items of one id have the same target."""
    if a is b or "target" not in a:
        return True
    return bool(torch.equal(torch.as_tensor(a["target"]), torch.as_tensor(b["target"])))


def _file(image: Any) -> str | None:
    """The file that a MONAI tensor says it was loaded from."""
    meta = getattr(image, "meta", None)
    name = meta.get("filename_or_obj") if isinstance(meta, Mapping) else None
    return name if isinstance(name, str) else None


def _stack(key: str, values: list[Any]) -> Any:
    if type(values[0]).__module__.startswith("monai."):
        monai_data: Any = importlib.import_module("monai.data")
        return monai_data.list_data_collate([{key: value} for value in values])[key]
    return default_collate(values)
