"""What speaks for an answer: attributions of image and covariates, by four methods, as numbers and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fusionconv.errors import ExplainError
from fusionconv.explain.calling import Target, one_number, ready, unwrapped
from fusionconv.explain.methods import METHODS, Asked
from fusionconv.surgery.eval_mode import in_eval_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ATTRIBUTION_METHODS", "Attributions", "attribute", "attributions"]

#: the words that ``method`` takes
ATTRIBUTION_METHODS: tuple[str, ...] = tuple(METHODS)


@dataclass(frozen=True, eq=False)
class Attributions:
    r"""What `attributions` found for N rows; tensors are on the CPU.

    Attributes:
        method: "integrated_gradients", "grad_cam", "guided_backprop" or "occlusion".
        images: what went in, (N, C, \*size).
        maps: attributions of the images, (N, C, \*size); of Grad-CAM (N, 1, \*size).
        values: the covariates that went in, (N, K), or None.
        covariates: their attributions, (N, K), or None: of a model without covariates, and of Grad-CAM.
        names: of the covariates.
        outputs: the numbers that are explained, f(x, s), (N,).
        baseline_outputs: f(baseline), (N,), of integrated gradients; else None.
        gap: of integrated gradients: the sum of all attributions minus (f(x, s) - f(baseline)), (N,), which more
            ``steps`` bring to 0; else None.
        layer: of Grad-CAM: whose maps; else None.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import attributions
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 1))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> found = attributions(model, torch.randn(3, 1, 8, 8), torch.randn(3, 2), names=["age", "sex"])
        >>> found.maps.shape, found.covariates.shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 2]))
        >>> bool((found.gap.abs() < 0.01).all())  # completeness
        True
    """

    method: str
    images: Tensor
    maps: Tensor
    values: Tensor | None
    covariates: Tensor | None
    names: tuple[str, ...]
    outputs: Tensor
    baseline_outputs: Tensor | None = None
    gap: Tensor | None = None
    layer: str | None = None

    def figure(
        self, rows: int = 6, titles: Sequence[str] | None = None, axis: int = -1,
        slices: int | Sequence[int] | None = None,
    ) -> Figure:  # fmt: skip
        """The figure that `attribute` returns; its arguments are explained there."""
        from fusionconv.explain.attribution_figure import draw_attributions

        return draw_attributions(self, rows, titles, axis, slices)

    def write_nifti(self, folder: str | Path, affine: Any, names: Sequence[str] | None = None) -> list[Path]:
        """Write the maps of 3-D images as NIfTI, float32, the sum over the channels: FOLDER/NAME.nii.gz.

        Args:
            folder: is made where it is absent.
            affine: (4, 4), from voxels to millimetres, of all rows, or (N, 4, 4).
            names: of the files; default: attribution-0 and so on.

        Raises:
            ExplainError: images that are not 3-D; an affine of another shape; not as many names as rows.
        """
        from fusionconv.explain.nifti import write_maps

        return write_maps(self.maps, folder, affine, names or [f"attribution-{n}" for n in range(len(self.maps))])


def attributions(
    model: nn.Module, x: Tensor, covariates: Tensor | None = None, method: str = "integrated_gradients", *,
    target: Target = None, names: Sequence[str] | None = None, layer: str | None = None,
    baseline: Tensor | float = 0.0, covariate_baseline: Tensor | float = 0.0, steps: int = 64,
    window: int | Sequence[int] | None = None, stride: int | Sequence[int] | None = None, relu: bool = True,
    batch_size: int = 32,
) -> Attributions:  # fmt: skip
    r"""What each pixel and each covariate contributes to one number f of each row.

    "integrated_gradients" (Sundararajan, Taly, Yan, ICML 2017), of image and covariates together: attribution
    ``(z - z0) \int_0^1 df/dz(z0 + t (z - z0)) dt`` for z = (x, s), on one path for both. All of them sum to
    ``f(x, s) - f(x0, s0)``; ``gap`` is what is missing (Gauss-Legendre, ``steps`` points).

    "grad_cam" (Selvaraju et al., ICCV 2017): ``relu(sum_c a_c A_c)`` of a layer's maps A_c, with a_c the mean of
    ``df/dA_c`` over positions; enlarged to the image by linear interpolation. The covariates have none.

    "guided_backprop" (Springenberg et al., 2015): the gradient ``df/dz``, where each ReLU of the network passes back
    positive gradients only. Modules and functions count, also those inside a hyper or DAFT layer.

    "occlusion" (Zeiler and Fergus, ECCV 2014): f minus f with a patch of the image, or with one covariate, replaced by
    its baseline. Where patches overlap, the mean over the patches of a pixel.

    Integrated gradients, Grad-CAM and occlusion are Captum's. The model is in eval mode meanwhile and afterwards in
    the mode that it had; its parameters get no gradients.

    Args:
        model: fused, or any module called as ``model(x)`` or ``model(x, covariates)``.
        x: images (N, C, \*size), floating point.
        covariates: (N, K). Inside ``with fusionconv.covariates(model, s)`` those are the default.
        method: one of the four.
        target: which output of (N, outputs); of an image output (N, outputs, \*size) the mean of that channel; or a
            function of the outputs that gives (N,). Default: the only one.
        names: of the covariates; default: s_1 to s_K.
        layer: of Grad-CAM; default: the last convolution of the main path that has more than one position.
        baseline: x0, a number or a tensor that broadcasts to ``x``; default: 0.
        covariate_baseline: s0, a number, (K,) or (N, K); default: 0, the mean of standardised covariates.
        steps: of integrated gradients.
        window: sides of the occluding patch, in pixels; default: an eighth of the image.
        stride: from one patch to the next; default: ``window``.
        relu: of Grad-CAM; False keeps what speaks against the answer.
        batch_size: rows that run at once.

    Raises:
        ExplainError: an unknown method, layer or target; several outputs and no target; a network without ReLU.
        CovariateError: the covariates do not fit.

    Example:
        >>> import torch
        >>> from fusionconv.explain import attributions
        >>> line = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> x = torch.ones(1, 1, 2, 2)
        >>> found = attributions(line, x, target=1, method="occlusion", window=1)
        >>> torch.allclose(found.maps.flatten(), line[1].weight[1].detach())  # of a linear model: weight times input
        True
    """
    if method not in METHODS:
        raise ExplainError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ExplainError(f"{name}: expected a whole number of at least 1, got {value!r}")
    model = unwrapped(model)
    with torch.inference_mode(False), torch.enable_grad(), in_eval_mode(model):
        call = ready(model, x, covariates, names)
        images = call.x.detach().clone()
        s = None if call.s is None else call.s.detach().clone()

        def number(x: Tensor, s: Tensor | None = None) -> Tensor:
            return one_number(call(x, s), target, len(x))

        start = (
            _like(baseline, images, "baseline"),
            None if s is None else _like(covariate_baseline, s, "covariate_baseline"),
        )
        with torch.no_grad():
            outputs = number(images, s)
        found = METHODS[method](
            Asked(call.model, number, images, s, *start, layer, steps, window, stride, relu, batch_size)
        )
        baseline_outputs = gap = None
        if method == "integrated_gradients":
            with torch.no_grad():
                baseline_outputs = number(*start)
            total = found.maps.flatten(1).sum(1) + (0 if found.covariates is None else found.covariates.sum(1))
            gap = (total - (outputs - baseline_outputs)).detach().cpu()
            baseline_outputs = baseline_outputs.cpu()
    return Attributions(
        method, images.cpu(), found.maps.detach().cpu(), None if s is None else s.cpu(),
        None if found.covariates is None else found.covariates.detach().cpu(), call.names, outputs.cpu(),
        baseline_outputs, gap, found.layer,
    )  # fmt: skip


def attribute(
    model: nn.Module, x: Tensor, covariates: Tensor | None = None, method: str = "integrated_gradients", *,
    rows: int = 6, titles: Sequence[str] | None = None, axis: int = -1, slices: int | Sequence[int] | None = None,
    **options: Any,
) -> Figure:  # fmt: skip
    r"""`attributions` as a matplotlib figure: each image, its map, and a bar for each covariate.

    Red speaks for the answer, blue against it. One scale per row of the batch, written above its map.

    Args:
        model: as in `attributions`.
        x: images (N, C, \*size), in 1-D, 2-D or 3-D.
        covariates: (N, K).
        method: "integrated_gradients", "grad_cam", "guided_backprop" or "occlusion".
        rows: so many rows of the batch at most are shown.
        titles: of the rows; default: their numbers and f(x, s).
        axis: of volumes: the axis that slices lie across, -3, -2 or -1.
        slices: of volumes: which; default: the one where the map's magnitudes sum to most, of each row its own.
        **options: of `attributions`: ``target``, ``names``, ``layer``, ``baseline`` and others.

    Returns:
        A figure that belongs to no window: ``figure.savefig("attribution.png")``.

    Raises:
        ExplainError, CovariateError: as `attributions`.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import attribute
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 2))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> figure = attribute(model, torch.randn(3, 1, 8, 8), torch.randn(3, 2), target=1, names=["age", "sex"])
        >>> len(figure.axes)  # an image, a map and bars for each row
        9
    """
    return attributions(model, x, covariates, method, **options).figure(rows, titles, axis, slices)


def _like(value: Tensor | float, like: Tensor, name: str) -> Tensor:
    """A baseline in the shape of what it replaces."""
    given = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    try:
        return given.expand_as(like).clone()
    except RuntimeError as error:
        raise ExplainError(
            f"{name}: expected a number or a shape that broadcasts to {tuple(like.shape)}, got {tuple(given.shape)}"
        ) from error
