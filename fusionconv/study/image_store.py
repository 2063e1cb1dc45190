"""ImageStore: the decoded images of a study, mapped into memory and read by id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.errors import StudyError
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.shuffled import shuffled

if TYPE_CHECKING:
    import torch

__all__ = ["ImageStore"]


@dataclass(frozen=True)
class ImageStore:
    """The images of a study, decoded.

    Attributes:
        ids: the rows whose images can be used, in the order of the table.
        array: the decoded images, mapped into memory, (records, C, *shape) of uint8, uint16, float16 or float32. Rows
            with the same files share a record; :meth:`read` finds it.
        failed: id -> reason, for the rows whose images cannot be used.
        available: (len(ids), columns), whether a row has the image of a column; the others' channels are zeros.
        key: a hash of ids, contents, options and versions.
        sources: id -> its files, also for rows that failed.
        options: those of :func:`prepare`.
        notes: what is worth a look (``"flat"``, ``"colour"``, ...) -> ids.
        remarks: the same as sentences, which `prepare` warns of.
        decoded: how many records were decoded by this call.
    """

    ids: tuple[str, ...]
    array: np.ndarray
    failed: dict[str, str]
    available: np.ndarray
    key: str
    sources: dict[str, tuple[str, ...]]
    options: ImageOptions
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    decoded: int = 0
    rows: dict[str, int] = field(default_factory=dict, repr=False)

    def read(self, ids: Sequence[str]) -> torch.Tensor:
        """float32 (B, C, *shape) in the order of ``ids``; 8 and 16 bits are scaled to 0 ... 1, nothing is subtracted.

        Raises:
            StudyError: an id without image.
        """
        import torch

        try:
            places = [self.rows[name] for name in ids]
        except KeyError as error:
            name = error.args[0]
            why = self.failed.get(name, "an id that is not in the table")
            raise StudyError(f"expected ids of usable images, got {name!r} ({why}); leave it out") from None
        found = self.array.view(np.ndarray)[places]
        if self.options.shuffle is not None:
            found = shuffled(found, self.options.shuffle)
        if self.array.dtype.kind == "u":
            largest = np.float32(np.iinfo(self.array.dtype).max)
            images = found.astype(np.float32)
            images /= largest
            return torch.from_numpy(images)
        return torch.from_numpy(found.astype(np.float32, copy=False))

    def there(self, ids: Sequence[str]) -> torch.Tensor:
        """float32 (B, C), to multiply normalised images by: 0 for the channels of an image that a row lacks, else 1.

        Raises:
            StudyError: an id without image.
        """
        import torch

        places = {name: n for n, name in enumerate(self.ids)}
        if lost := [name for name in ids if name not in places]:
            raise StudyError(f"expected ids of usable images, got {lost[0]!r}; leave it out")
        own = self.available[[places[name] for name in ids]]
        return torch.from_numpy(np.repeat(own, self.array.shape[1] // own.shape[1], axis=1).astype(np.float32))

    def mean_std(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over these rows, float64 (C,), as :meth:`read` scales them.

        Channels of images that a row does not have are left out; a channel without any image has mean 0 and std 0.
        """
        per_column = self.array.shape[1] // max(1, self.available.shape[1])
        place = {name: n for n, name in enumerate(self.ids)}
        count, mean, square = (np.zeros(self.array.shape[1]) for _ in range(3))
        for start in range(0, len(ids), 128):
            part = list(ids[start : start + 128])
            images = self.read(part).numpy().astype(np.float64).reshape(len(part), self.array.shape[1], -1)
            there = np.repeat(self.available[[place[name] for name in part]], per_column, axis=1)
            for channel in range(self.array.shape[1]):  # merged as Chan, Golub and LeVeque (1983): no cancellation
                values = images[there[:, channel], channel]
                if not values.size:
                    continue
                new, middle, total = values.size, values.mean(), count[channel] + values.size
                off = middle - mean[channel]
                square[channel] += values.var() * new + off**2 * count[channel] * new / total
                mean[channel] += off * new / total
                count[channel] = total
        return mean, np.sqrt(square / np.maximum(count, 1))

    def problems(self) -> list[str]:
        """Why images cannot be used, one line for each kind of reason, the most frequent first."""
        kinds: dict[str, tuple[str, list[str]]] = {}
        for name, reason in self.failed.items():
            for file in self.sources.get(name, ()):
                reason = reason.removeprefix(f"{file}: ").replace(file, Path(file).name)
            general = reason
            for file in self.sources.get(name, ()):
                general = general.replace(Path(file).name, "FILE").replace(Path(file).stem, "FILE")
            kinds.setdefault(re.sub(r"\d[\d,.]*", "#", general), (reason, []))[1].append(name)
        lines = []
        for reason, names in sorted(kinds.values(), key=lambda kind: -len(kind[1])):
            some = ", ".join(names[:3]) + (f" and {len(names) - 3:,d} more" if len(names) > 3 else "")
            lines.append(f"{len(names):,d} {'image' if len(names) == 1 else 'images'} ({some}): {reason}")
        return lines

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process maps the same file; a pickle of a memmap would hold all images."""
        state = dict(vars(self))
        if isinstance(self.array, np.memmap):
            state["array"] = (str(self.array.filename), self.array.dtype.str, self.array.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        array = state["array"]
        vars(self).update(state)
        if isinstance(array, tuple):
            object.__setattr__(self, "array", np.memmap(array[0], array[1], "r", shape=array[2]))
