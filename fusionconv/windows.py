"""window_predictor: every window of a sliding-window inference gets the covariates of its own volume.

For MONAI's protocol, ``predictor(windows, coords)`` with ``with_coord=True``: each window comes with its coordinates,
the first of which is the volume that it was cut from. Nothing is counted or guessed. MONAI itself is not imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import check_covariates
from fusionconv.errors import CovariateError
from fusionconv.surgery.root import is_fused_root, owner_of
from fusionconv.surgery.window_guard import enclosing_windows

__all__ = ["window_predictor"]


def window_predictor(model: Callable[..., Any], covariates: Tensor) -> WindowPredictor:
    r"""Make a predictor for MONAI's sliding-window inference in which window i gets the row of its volume.

    Use it with ``with_coord=True``, in one of two ways::

        sliding_window_inference(volumes, roi_size, sw_batch_size, window_predictor(model, s), with_coord=True)
        SlidingWindowInferer(roi_size, sw_batch_size, with_coord=True)(volumes, window_predictor(model, s))

    A window that was cut from volume n (``coords[i][0] == slice(n, n + 1)``) gets row n of ``covariates``. Rows are
    moved to the windows' device (MONAI's ``sw_device``), which changes no value; their dtype is left as it is. Make a
    new predictor for every batch of volumes.

    Args:
        model: a fused model, also inside torch.compile or DistributedDataParallel; further arguments of the inference
            go on to it as its own forward took them before it was fused. Or any callable, which is called as
            ``model(windows, *args, covariates=rows, **kwargs)``.
        covariates: s, (N, K), floating point, finite; row n belongs to volume n of (N, C, \*spatial).

    Raises:
        CovariateError, CovariateTypeError: covariates that are no such tensor or do not fit the model. While it runs:
            no coordinates, or ones that do not fit the windows; a volume without a row; rows that are more than the
            volumes (seen where MONAI's sliding_window_inference is the caller; another caller does not tell how many
            volumes there are).
        TypeError: ``model`` cannot be called.

    Example:
        >>> import torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1)), 0, num_covariates=1)
        >>> predictor = fusionconv.window_predictor(model, torch.tensor([[0.5], [2.0]]))  # two volumes
        >>> windows = torch.randn(3, 1, 4, 4)  # the last of volume 0 and the first two of volume 1, as MONAI gives them
        >>> places = [slice(0, 4), slice(0, 4)]
        >>> predictor(windows, [[slice(n, n + 1), slice(None), *places] for n in (0, 1, 1)]).shape
        torch.Size([3, 1, 4, 4])
    """
    if not callable(model):
        raise TypeError(f"model must be a fused model or a callable, got {type(model).__name__}")
    return WindowPredictor(model, covariates)


class WindowPredictor:
    """What `window_predictor` returns; it is called as ``predictor(windows, coords, *args, **kwargs)``."""

    def __init__(self, model: Callable[..., Any], covariates: Tensor) -> None:
        root = _fused_root(model)
        if root is not None:
            num_covariates = owner_of(root).num_covariates
        else:
            num_covariates = covariates.shape[1] if isinstance(covariates, Tensor) and covariates.ndim == 2 else 1
        self.model = model
        self.covariates = check_covariates(covariates, num_covariates)
        self.place = None if root is None else _place_of_covariates(root)

    def __call__(self, windows: Tensor, coords: object = None, *args: Any, **kwargs: Any) -> Any:
        """``model`` on ``windows`` (n, C, *roi), each with the row that the first of its ``coords`` names."""
        if "covariates" in kwargs:
            raise CovariateError(
                "give the covariates to window_predictor(model, covariates) only, not to the inference as well"
            )
        images = self._images(windows, coords)
        rows = self.covariates[torch.tensor(images, dtype=torch.long, device=self.covariates.device)]
        rows = rows.to(windows.device)
        inputs = (windows, *args)
        if self.place is not None and len(inputs) >= self.place:
            return self.model(*inputs[: self.place], rows, *inputs[self.place :], **kwargs)
        return self.model(*inputs, covariates=rows, **kwargs)

    def _images(self, windows: Tensor, coords: object) -> list[int]:
        """The volume that each window was cut from, checked."""
        if not isinstance(coords, Sequence) or len(coords) != len(windows) or not all(map(_names_an_image, coords)):
            raise CovariateError(
                "window_predictor needs the coordinates of every window, whose first is slice(volume, volume + 1): "
                "predictor(windows, coords), which MONAI does with with_coord=True, as in sliding_window_inference("
                "volumes, roi_size, sw_batch_size, predictor, with_coord=True); got "
                + ("none" if coords is None else f"{type(coords).__name__} for {len(windows)} windows")
                + ". PatchInferer and SliceInferer have no coordinates to give: see docs/monai.md"
            )
        images = [int(window[0].start) for window in coords]
        rows = len(self.covariates)
        volumes = [around.volumes for around in enclosing_windows()[:1]]
        if volumes and volumes[0] != rows:
            raise CovariateError(
                f"covariates must have one row per volume: there are {volumes[0]} volumes and {rows} rows; make a new "
                "window_predictor for each batch of volumes"
            )
        if images and max(images) >= rows:
            raise CovariateError(
                f"covariates must have one row per volume: a window is of volume {max(images)} (from 0), and "
                f"there are {rows} rows"
            )
        return images

    def __repr__(self) -> str:
        return f"window_predictor({type(self.model).__name__}, covariates of shape {tuple(self.covariates.shape)})"


def _names_an_image(window: object) -> bool:
    """Whether ``window`` is a list of slices that starts with slice(n, n + 1)."""
    if not isinstance(window, Sequence) or not window or not isinstance(window[0], slice):
        return False
    start, stop = window[0].start, window[0].stop
    return isinstance(start, int) and start >= 0 and stop == start + 1


def _fused_root(model: object) -> nn.Module | None:
    """The fused model itself, or the one inside a compiled, DataParallel or DistributedDataParallel wrapper."""
    while isinstance(model, nn.Module):
        if is_fused_root(model):
            return model
        wrapper = isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel))
        model = model._modules.get("module" if wrapper else "_orig_mod")
    return None


def _place_of_covariates(root: nn.Module) -> int | None:
    """Where the covariates stand among the positional arguments of the model, or None if they have no place there."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(type(root).forward).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind in positional]
    return names.index("covariates") if "covariates" in names else None
