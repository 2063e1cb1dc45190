"""The fusion layers as they are inside a fused network: called with the image alone, covariates from the frame.

Fusing changes the class of the existing module and adds the covariate parameters; nothing else is touched. So
parameters, hooks, names and every reference to the module (also under a second name) stay what they were. ``forward``
names its arguments as torch's own layers do, for networks that call ``self.conv(input=x)``.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from fusionconv.errors import FusionError
from fusionconv.layers import (
    METHODS,
    CovariateLayer,
    HybridConv1d,
    HybridConv2d,
    HybridConv3d,
    HybridConvTranspose1d,
    HybridConvTranspose2d,
    HybridConvTranspose3d,
    HybridLinear,
)
from fusionconv.surgery.frames import Owner, current_frame, missing_covariates
from fusionconv.surgery.recompute import in_backward
from fusionconv.surgery.window_guard import check_windows

__all__ = ["FUSED_CLASSES", "FusedLayer"]


class FusedLayer(CovariateLayer):
    """Mixin: ``fusion_owner`` says whose covariates the layer takes, ``fusion_name`` what the owner calls it."""

    fusion_owner: Owner
    fusion_name: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Code that builds another layer of this kind, as LoRA does for its two small ones, gets a plain layer."""
        return cls.plain_class()(*args, **kwargs) if args or kwargs else super().__new__(cls)

    def call_covariates(self) -> Tensor:
        """This call's covariates; raises CovariateError where there are none."""
        frame = current_frame(self.fusion_owner)
        if frame is None:
            raise missing_covariates(self.fusion_owner)
        if not torch.compiler.is_compiling():
            frame.reached.add(self.fusion_name)
            if frame.by_hand and not in_backward():  # no root's call around that has checked it
                check_windows(self.fusion_owner.model_name, frame.covariates)
            frame.check_values(self.weight.dtype)
        return frame.covariates

    def looks_for_nan(self) -> bool:
        """No: who opened the frame has looked once, for all layers."""
        return False

    def looks_at(self, mapped: Tensor) -> bool:
        """Where looking waits for no device."""
        return self.fusion_owner.check_finite and mapped.device.type == "cpu"

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks for first, of each module of a network."""
        raise FusionError(
            f"torch.jit.script cannot take {type(self).__name__}: TorchScript has no way to hand it the covariates of "
            "a call; use torch.export.export(model, (images, covariates)), or fusionconv.merge for one covariate "
            "vector and script the plain model that it gives"
        )


class FusedConv1d(FusedLayer, HybridConv1d):
    """A `HybridConv1d` inside a fused network."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, L) -> (N, C_out, L_out)."""
        return HybridConv1d.forward(self, input, self.call_covariates())


class FusedConv2d(FusedLayer, HybridConv2d):
    """A `HybridConv2d` inside a fused network."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, H, W) -> (N, C_out, H_out, W_out)."""
        return HybridConv2d.forward(self, input, self.call_covariates())


class FusedConv3d(FusedLayer, HybridConv3d):
    """A `HybridConv3d` inside a fused network."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out)."""
        return HybridConv3d.forward(self, input, self.call_covariates())


class FusedConvTranspose1d(FusedLayer, HybridConvTranspose1d):
    """A `HybridConvTranspose1d` inside a fused network."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, L) -> (N, C_out, L_out)."""
        return HybridConvTranspose1d.forward(self, input, self.call_covariates(), output_size)


class FusedConvTranspose2d(FusedLayer, HybridConvTranspose2d):
    """A `HybridConvTranspose2d` inside a fused network."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, H, W) -> (N, C_out, H_out, W_out)."""
        return HybridConvTranspose2d.forward(self, input, self.call_covariates(), output_size)


class FusedConvTranspose3d(FusedLayer, HybridConvTranspose3d):
    """A `HybridConvTranspose3d` inside a fused network."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # type: ignore[override]
        """``input`` (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out)."""
        return HybridConvTranspose3d.forward(self, input, self.call_covariates(), output_size)


class FusedLinear(FusedLayer, HybridLinear):  # type: ignore[misc]  # torch does not annotate Linear.bias
    """A `HybridLinear` inside a fused network."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        r"""``input`` (N, \*, in_features) -> (N, \*, out_features)."""
        return HybridLinear.forward(self, input, self.call_covariates())


class _FusedCall(FusedLayer):
    """The forward of a fused layer of any other method."""

    def forward(self, input: Tensor) -> Tensor:
        """``input`` as the plain layer takes it."""
        result: Tensor = super().forward(input, self.call_covariates())
        return result


class _FusedTransposedCall(FusedLayer):
    """The same for a transposed convolution, which may be told its output's size."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``input`` as the plain layer takes it."""
        result: Tensor = super().forward(input, self.call_covariates(), output_size)
        return result


def _fused(variant: type[CovariateLayer]) -> type[FusedLayer]:
    """The fused form of one variant of a method (FilmConv2d: FusedFilmConv2d), in this module, for pickle."""
    call: Any = _FusedTransposedCall if issubclass(variant, _ConvTransposeNd) else _FusedCall
    name = f"Fused{variant.__name__}"
    doc = f"A `{variant.__name__}` inside a fused network."
    made: type[FusedLayer] = type(name, (call, variant), {"__module__": __name__, "__doc__": doc})
    globals()[name] = made
    return made


# method -> torch's class -> the class that it becomes
FUSED_CLASSES: dict[str, dict[type[nn.Module], type[FusedLayer]]] = {
    name: {plain: _fused(variant) for plain, variant in method.VARIANTS.items()}
    for name, method in METHODS.items()
    if name != "hybrid"
}
FUSED_CLASSES["hybrid"] = {
    nn.Conv1d: FusedConv1d,
    nn.Conv2d: FusedConv2d,
    nn.Conv3d: FusedConv3d,
    nn.ConvTranspose1d: FusedConvTranspose1d,
    nn.ConvTranspose2d: FusedConvTranspose2d,
    nn.ConvTranspose3d: FusedConvTranspose3d,
    nn.Linear: FusedLinear,
}
