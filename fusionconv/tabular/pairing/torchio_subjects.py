"""TorchIO: subjects that carry their covariates, and a batch of them (or of patches) with every row checked by id."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from fusionconv.errors import TableError
from fusionconv.tabular.pairing.dataset import covariate_items
from fusionconv.tabular.pairing.table import CovariateTable

__all__ = ["torchio_batch", "torchio_subjects"]


def torchio_subjects(table: CovariateTable) -> list[Any]:
    """One ``torchio.Subject`` per row: a ``ScalarImage`` ``"image"``, and ``"covariates"``, ``"target"``, ``"id"``.

    The files are not read yet. TorchIO's transforms, samplers and queues leave the other entries as they are.

    Raises:
        TableError: rows without an image.
        ImportError: torchio is not installed.
    """
    try:
        tio: Any = importlib.import_module("torchio")
    except ImportError as error:
        raise ImportError("expected torchio, came none; pip install torchio") from error
    subjects = []
    for item in covariate_items(table):
        rows: dict[str, Any] = {key: torch.from_numpy(item[key]) for key in ("covariates", "target") if key in item}
        subjects.append(tio.Subject({"image": tio.ScalarImage(item["image"]), **rows, "id": item["id"]}))
    return subjects


def torchio_batch(batch: Mapping[str, Any], table: CovariateTable) -> dict[str, Any]:
    """What a ``torchio.SubjectsLoader`` gives, as ``{"image": (N, C, W, H, D), "covariates": (N, K), "target", "id"}``.

    Raises:
        TableError: entries are missing, or rows or files are not those of their ids.
    """
    absent = [key for key in ("image", "covariates", "id") if key not in batch]
    if absent:
        raise TableError(
            f"expected a batch with 'image', 'covariates' and 'id', came {sorted(map(str, batch))} without {absent}; "
            "make the subjects with torchio_subjects and load them with torchio.SubjectsLoader"
        )
    image, ids = batch["image"]["data"], list(batch["id"])
    if not isinstance(batch["covariates"], torch.Tensor) or len(image) != len(ids):
        raise TableError(f"expected a row and an id for each of {len(image)} images, came {len(ids)} ids")
    files = [str(p) if p else None for p in batch["image"].get("path", [None] * len(ids))]
    table.require(ids, batch["covariates"], files)
    taken: dict[str, Any] = {"image": image, "covariates": batch["covariates"]}
    if "target" in batch:
        taken["target"] = batch["target"]
    return taken | {"id": ids}
