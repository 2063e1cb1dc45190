"""Grad-CAM of one network: which layer's maps are looked at, and a volume's saliency for one output."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recipes.adni.study import BrainStudy
from recipes.common.runs import RunError

SMALLEST_MAP = 4  # voxels each way: smaller maps, drawn over a volume, show nothing but their interpolation


def choose_layer(
    study: BrainStudy, volume: Tensor, covariates: Tensor, asked: str | None
) -> tuple[str, tuple[int, ...]]:
    """The module whose maps Grad-CAM looks at, and their size.

    The one asked for, or the last to finish whose maps have 4 voxels or more each way: of a ResNet a whole block, of a
    plain stack the activation after the last convolution at that size. Small inputs leave 2 voxels for the very last
    convolution.

    Raises:
        RunError: no such module, or one that does not give maps, once, in a forward.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: (
                found.append((name, tuple(output.shape[2:])))
                if isinstance(output, Tensor) and output.dim() == 5
                else None
            )
        )
        for name, module in _network(study).named_modules()
        if name
    ]
    with torch.no_grad():
        study(volume, covariates)
    for hook in hooks:
        hook.remove()
    names = [name for name, _ in found]
    once = [(name, shape) for name, shape in found if names.count(name) == 1]
    if asked is None:
        large = [(name, shape) for name, shape in once if min(shape) >= SMALLEST_MAP]
        if not large and not once:
            raise RunError("the network gives no 3-D maps; use --skip_attribution.")
        return (large or once)[-1]
    if asked not in dict(once):
        listed = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in once)
        raise RunError(f"--layer {asked}: expected a module that gives 3-D maps once in a forward: {listed}.")
    return asked, dict(once)[asked]


class GradCam:
    """MONAI's Grad-CAM of one network: ``ReLU(sum_c w_c A_c)`` with ``w_c`` the mean of ``d output / d A_c``.

    Upsampled to the volume (trilinear) and divided by its maximum; zeros where no channel speaks for the output.
    """

    def __init__(self, study: BrainStudy, layer: str) -> None:
        from monai.visualize import GradCAM

        self.arm = study.hparams.arm
        self.camera = GradCAM(_network(study), target_layers=layer)

    def __call__(self, volume: Tensor, covariates: Tensor, output: int) -> np.ndarray:
        """Volume (1, 1, *size) and covariates (1, K) to saliency (*size) of one output."""
        given = {} if self.arm == "image" else {"covariates": covariates}
        coarse = self.camera.compute_map(volume, class_idx=output, **given).detach()
        fine = self.camera.upsampler(volume.shape[2:])(coarse)[0, 0]
        saliency = (fine / fine.max() if fine.max() > 0 else fine).cpu().numpy()
        return np.asarray(saliency, dtype=np.float32)


def _network(study: BrainStudy) -> nn.Module:
    assert study.network is not None
    return study.network
