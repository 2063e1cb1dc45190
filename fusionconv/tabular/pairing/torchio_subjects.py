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

    Example:
        >>> import numpy as np, pandas as pd, pathlib, tempfile, nibabel
        >>> from fusionconv.tabular import CovariateEncoder, CovariateTable, torchio_batch, torchio_subjects
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = str(pathlib.Path(folder.name, "a.nii"))
        >>> nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), path)
        >>> frame = pd.DataFrame({"id": ["a"], "image": [path], "sex": [1], "dx": [0]})
        >>> encoder = CovariateEncoder(["sex"]).fit(pd.DataFrame({"sex": [0, 1]}))
        >>> table = CovariateTable(frame, encoder, id="id", image="image", target="dx")
        >>> subject = torchio_subjects(table)[0]
        >>> subject["id"], tuple(subject["image"].shape)
        ('a', (1, 4, 4, 4))
        >>> folder.cleanup()
    """
    try:
        tio: Any = importlib.import_module("torchio")
    except ImportError as error:
        raise ImportError("expected torchio, got none; pip install torchio") from error
    subjects = []
    for item in covariate_items(table):
        rows: dict[str, Any] = {key: torch.from_numpy(item[key]) for key in ("covariates", "target") if key in item}
        subjects.append(tio.Subject({"image": tio.ScalarImage(item["image"]), **rows, "id": item["id"]}))
    return subjects


def torchio_batch(batch: Mapping[str, Any], table: CovariateTable) -> dict[str, Any]:
    """What a ``torchio.SubjectsLoader`` gives, as ``{"image": (N, C, W, H, D), "covariates": (N, K), "target", "id"}``.

    Raises:
        TableError: entries are missing, or rows or files are not those of their ids.

    Example:
        >>> import numpy as np, pandas as pd, pathlib, tempfile, nibabel
        >>> from fusionconv.tabular import CovariateEncoder, CovariateTable, torchio_batch, torchio_subjects
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = str(pathlib.Path(folder.name, "a.nii"))
        >>> nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), path)
        >>> frame = pd.DataFrame({"id": ["a"], "image": [path], "sex": [1], "dx": [0]})
        >>> encoder = CovariateEncoder(["sex"]).fit(pd.DataFrame({"sex": [0, 1]}))
        >>> table = CovariateTable(frame, encoder, id="id", image="image", target="dx")
        >>> import torchio
        >>> loader = torchio.SubjectsLoader(torchio.SubjectsDataset(torchio_subjects(table)), batch_size=1)
        >>> batch = torchio_batch(next(iter(loader)), table)
        >>> tuple(batch["image"].shape), batch["covariates"].tolist(), batch["id"]
        ((1, 1, 4, 4, 4), [[1.0]], ['a'])
        >>> folder.cleanup()
    """
    absent = [key for key in ("image", "covariates", "id") if key not in batch]
    if absent:
        raise TableError(
            f"expected a batch with 'image', 'covariates' and 'id', got {sorted(map(str, batch))} without {absent}; "
            "make the subjects with torchio_subjects and load them with torchio.SubjectsLoader"
        )
    image, ids = batch["image"]["data"], list(batch["id"])
    if not isinstance(batch["covariates"], torch.Tensor) or len(image) != len(ids):
        raise TableError(f"expected a row and an id for each of {len(image)} images, got {len(ids)} ids")
    files = [str(p) if p else None for p in batch["image"].get("path", [None] * len(ids))]
    table.require(ids, batch["covariates"], files)
    taken: dict[str, Any] = {"image": image, "covariates": batch["covariates"]}
    if "target" in batch:
        taken["target"] = batch["target"]
    return taken | {"id": ids}
