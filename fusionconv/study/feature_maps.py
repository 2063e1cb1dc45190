"""Feature maps of a layer as a figure: fusionconv explain STUDY --arm ARM --layer NAME."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.errors import ExplainError, StudyError
from fusionconv.explain.calling import find_layer, some
from fusionconv.study.folds import FoldData
from fusionconv.study.inputs import picture
from fusionconv.study.predict import Predictor

__all__ = ["feature_maps", "layer_outputs"]


def layer_outputs(
    predictor: Predictor, layer: str, images: Tensor, covariates: Tensor | None, there: Tensor | None = None
) -> Tensor:  # fmt: skip
    """The maps (N, C, *size) that a layer gives for images and ``there`` as `ImageStore.read` and `ImageStore.there`
    give them.

    Raises:
        StudyError: no such layer; one whose output is no map; one that is not called.
    """
    try:
        find_layer(predictor.network, layer)
    except ExplainError as error:
        raise StudyError(str(error)) from None
    modules = dict(predictor.network.named_modules())
    found: list[Any] = []
    given: list[tuple[str, int]] = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name == layer:
                found.append(output)
            if isinstance(output, Tensor) and output.ndim == images.ndim:
                given.append((name, int(output.shape[1])))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if name]
    try:
        predictor(images, covariates, there)
    finally:
        for handle in handles:
            handle.remove()
    maps = found[0] if found else None
    if not isinstance(maps, Tensor) or maps.ndim != images.ndim:
        kind = "no call of it" if not found else tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise StudyError(
            f"layer: expected a layer whose output is (N, C, {'x, y, z' if images.ndim == 5 else 'height, width'}), "
            f"got {kind} of {layer!r}; take one of {some(list(dict.fromkeys(name for name, _ in given)))}"
        )
    return maps.detach().float()


def feature_maps(predictor: Predictor, data: FoldData, layer: str, rows: int = 6, channels: int = 12) -> Any:
    """Test images, each with those channels of a layer that differ most over pixels and these images.

    Each channel has one scale for all images, so that rows can be compared. Of a volume the middle slices are shown.
    """
    from matplotlib.figure import Figure

    assert data.store is not None
    ids = list(data.tables["test"].ids)[:rows]
    images = data.store.read(ids)
    covariates = data.tables["test"].rows(ids) if predictor.encoder is not None else None
    with torch.inference_mode():
        maps = layer_outputs(predictor, layer, images, covariates, data.store.there(ids))
    spread = maps.transpose(0, 1).flatten(1).std(1)
    chosen = sorted(torch.argsort(spread, descending=True)[:channels].tolist())
    height, width = picture(images[0], data.store.options.channels).shape[:2]
    figure = Figure(
        figsize=(1.2 * (len(chosen) + 1) + 0.3, (1.2 * height / width + 0.15) * len(ids) + 0.6), layout="constrained"
    )
    panels = figure.subplots(len(ids), len(chosen) + 1, squeeze=False)
    for at, (name, line) in enumerate(zip(ids, panels, strict=True)):
        line[0].imshow(picture(images[at], data.store.options.channels), cmap="gray", vmin=0, vmax=1)
        line[0].set_title(name[-18:], fontsize=6)
        for axes, channel in zip(line[1:], chosen, strict=True):
            shown = maps[at, channel]
            if shown.ndim == 3:
                shown = shown[..., shown.shape[-1] // 2].T.flip(0)
            axes.imshow(shown.numpy(), cmap="viridis", vmin=float(maps[:, channel].min()),
                        vmax=float(maps[:, channel].max()))  # fmt: skip
            if at == 0:
                axes.set_title(f"channel {channel}", fontsize=6)
        for axes in line:
            axes.set_axis_off()
    size = " x ".join(map(str, maps.shape[2:]))
    figure.suptitle(f"{layer}: {len(chosen)} of {maps.shape[1]} channels, {size}; test images", fontsize=9)
    return figure
