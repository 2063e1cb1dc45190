"""CovariateDataset: image, covariates, target and id of one row together; and the same as a list of dicts for MONAI."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from fusionconv.errors import TableError
from fusionconv.tabular.ids import first_few, id_text, one_spelling
from fusionconv.tabular.pairing.table import CovariateTable

__all__ = ["CovariateDataset", "covariate_items"]


class CovariateDataset(Dataset[dict[str, Any]]):
    """A map-style dataset over a tidy table: ``{"image", "covariates", "target", "id"}`` of row ``i``.

    Everything in an item comes from one row, so that samplers, shuffling, subsets and workers cannot part it. Use
    ``collate_fn=dataset.collate`` (or ``covariate_collate``) to have that checked in every batch.

    Args:
        frame: one row per image, as the readers give it.
        encoder: an encoder fitted on the training rows.
        load: ``load(path) -> image``, such as ``monai.transforms.LoadImage(image_only=True)`` or
            ``lambda p: PIL.Image.open(p).convert("RGB")``. None: ``"image"`` is the path itself.
        transform: ``transform(image) -> image``, after ``load``.
        images: images (or paths for ``load``) by id, in place of the column ``image``; see :func:`images_by_id`. Its
            ids, text or whole numbers, must be exactly those of the rows.
        id, target, classes, image, root: as for :class:`CovariateTable`.

    Attributes:
        table: the :class:`CovariateTable`: ids, covariates (N, K), targets.

    Raises:
        TableError: rows without an image; ``images`` that are not those of the rows; and as :class:`CovariateTable`.

    >>> import torch
    >>> from fusionconv.tabular import CovariateEncoder
    >>> frame = pd.DataFrame({"subject": ["a", "b"], "sex": [0, 1], "dx": [1, 0]})
    >>> encoder = CovariateEncoder(["sex"]).fit(frame)
    >>> dataset = CovariateDataset(frame, encoder, target="dx", images={"b": torch.ones(1, 2), "a": torch.zeros(1, 2)})
    >>> dataset[1]
    {'image': tensor([[1., 1.]]), 'covariates': tensor([1.]), 'target': tensor(0), 'id': 'b'}
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        encoder: Any,
        *,
        load: Callable[[Any], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        images: Mapping[Any, Any] | None = None,
        id: str | Sequence[str] | None = None,
        target: str | None = None,
        classes: Sequence[Any] | None = None,
        image: str = "image",
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.table = CovariateTable(frame, encoder, id=id, target=target, classes=classes, image=image, root=root)
        self.load, self.transform, self.images = load, transform, images
        if images is not None:
            self._keys = _require_the_same(self.table.ids, images)
        else:
            _require_images(self.table, image)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = _item(self.table, range(len(self))[index])
        if self.images is not None:
            item["image"] = self.images[self._keys[item["id"]]]
            if self.load is not None or self.transform is not None:  # which may work in place
                item["image"] = _copied(item["image"])
        if self.load is not None:
            item["image"] = self.load(item["image"])
        if self.transform is not None:
            item["image"] = self.transform(item["image"])
        return item

    def collate(self, batch: Sequence[Any]) -> dict[str, Any]:
        """:func:`covariate_collate`, and every row is compared with this dataset's table."""
        from fusionconv.tabular.pairing.collate import covariate_collate

        return covariate_collate(batch, table=self.table)


def _copied(image: Any) -> Any:
    """A tensor or an array of one's own; anything else as it is."""
    return image.clone() if isinstance(image, torch.Tensor) else image.copy() if hasattr(image, "__array__") else image


def covariate_items(table: CovariateTable) -> list[dict[str, Any]]:
    """A list of dicts ``{"image": path, "covariates", "target", "id"}``, what MONAI's datasets take as data.

    Covariates and target are numpy arrays here and become tensors in a batch: ``PersistentDataset`` names its cache
    files after the pickled item, and a pickled torch storage holds its address, so that no cache would be found again.

    ``monai.data.CacheDataset(covariate_items(table), Compose([LoadImaged("image"), ...]))``: the row goes through the
    transforms beside its image, and into each of several crops. With ``PersistentDataset`` give
    ``hash_transform=pickle_hashing``, or it serves what other transforms made. The covariates are part of its key, so
    that a table encoded anew is not served from an old cache.

    Raises:
        TableError: rows without an image.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import CovariateEncoder, CovariateTable, covariate_items
        >>> frame = pd.DataFrame({"id": ["a", "b"], "image": ["a.nii", "b.nii"], "age": [60, 70], "dx": [0, 1]})
        >>> table = CovariateTable(frame, CovariateEncoder(["age"]).fit(frame), id="id", image="image", target="dx")
        >>> [(item["image"], item["covariates"].tolist(), item["id"]) for item in covariate_items(table)]
        [('a.nii', [-1.0], 'a'), ('b.nii', [1.0], 'b')]
    """
    _require_images(table, "image")
    items = [_item(table, i) for i in range(len(table))]
    return [{k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in item.items()} for item in items]


def _item(table: CovariateTable, place: int) -> dict[str, Any]:
    """One row; tensors of their own, so that a pickled item holds no other rows."""
    item: dict[str, Any] = {"image": table.images[place] if table.images else None}
    item["covariates"] = table.covariates[place].clone()
    if table.targets is not None:
        item["target"] = table.targets[place].clone()
    item["id"] = table.ids[place]
    return item


def _require_images(table: CovariateTable, image: str) -> None:
    if table.images is None:
        raise TableError(
            f"expected a column {image!r} of image files, got none; read it, give images= by id, or use pair_by_id"
        )
    without = [name for name, path in zip(table.ids, table.images, strict=True) if path is None]
    if without:
        raise TableError(
            f"expected an image for every row, got {len(without)} of {len(table)} without: {first_few(without)}; drop "
            f"them: frame[frame[{image!r}].notna()]"
        )


def _require_the_same(ids: Sequence[str], images: Mapping[Any, Any]) -> dict[str, Any]:
    """The key of each id's image, once they are exactly those of the rows: 1 and "1" are one id."""
    if not isinstance(images, Mapping):
        raise TableError(
            f"expected images by id (a dict), got {type(images).__name__}; the order of a list cannot be checked: use "
            "images_by_id(ids, images)"
        )
    keys: dict[str, Any] = {}
    for key in images:
        name = id_text(key.item() if hasattr(key, "item") else key)
        first = keys.setdefault(str(key) if name is None else one_spelling(name), key)
        if first is not key:
            raise TableError(f"expected one image for each id, got {first!r} and {key!r}; keep one of them")
    wanted = {one_spelling(i): i for i in ids}
    without, extra = [i for key, i in wanted.items() if key not in keys], [k for k in keys if k not in wanted]
    if without or extra:
        raise TableError(
            f"expected exactly one image for each row, got {len(without)} rows without an image"
            f"{': ' + first_few(without) if without else ''} and {len(extra)} images without a row"
            f"{': ' + first_few(extra) if extra else ''}; pair_by_id(..., unmatched='report') lists and leaves them out"
        )
    return {i: keys[key] for key, i in wanted.items()}
