"""``fusionconv explain``: figures of what an arm's network does with image and covariates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from fusionconv.errors import StudyError
from fusionconv.study.arms import find_arm
from fusionconv.study.difference_maps import (
    difference_figure,
    difference_maps,
    read_difference,
    write_difference_maps,
)
from fusionconv.study.feature_maps import feature_maps
from fusionconv.study.folds import FoldData
from fusionconv.study.own_space import write_map
from fusionconv.study.predict import Predictor, load_predictor
from fusionconv.study.study import Study

__all__ = ["attribute", "attributions", "covariate_effects", "explain_arm", "kernel_figure"]

Attributed = tuple[Tensor, Tensor, Tensor | None]


def explain_arm(
    study: str, arm: str, fold: str | None = None, rows: int = 6, layer: str | None = None, out: str | None = None,
    nifti: bool = False, difference: Sequence[Any] = (),
) -> list[Path]:  # fmt: skip
    """Draw kernels, effects of covariates and attributions of one network of a finished study.

    Args:
        study: folder of the comparison.
        arm: an arm with an image.
        fold: whose network; default: the first.
        rows: test images of the attributions.
        layer: whose feature maps are drawn, by its name, such as ``layer4.1``.
        out: folder of the figures; default: ``STUDY/explain/ARM``.
        nifti: 3-D: also write the attributions as NIfTI on the voxels of the images' own files.
        difference: of a task whose answers are images, a covariate and two values of it: `difference_figure`.

    Returns:
        The files: ``attribution.png`` always; ``kernels.png`` and ``effects.png`` where the network takes covariates;
        ``features-LAYER.png`` where a layer is named; ``attribution-N-ID.nii.gz`` with ``nifti``;
        ``difference-COLUMN.png``, and with ``nifti`` ``difference-COLUMN-N-ID.nii.gz``, with ``difference``.

    Raises:
        StudyError: no such arm, fold, network or layer.
    """
    opened, arms = Study.open(study)
    chosen_arm = find_arm(arm, [a for a in arms if a.has_network])
    name = chosen_arm.name
    chosen = fold or opened.folds.columns[0]
    if chosen not in opened.folds:
        raise StudyError(f"fold: expected one of {', '.join(opened.folds.columns)}, got {fold!r}")
    model = Path(study) / "runs" / name / chosen / "model"
    if not model.is_dir():
        raise StudyError(f"{model}: expected a network, got none; run the comparison with --keep best")
    predictor = load_predictor(model)
    data = opened.data(chosen_arm, chosen, predictor.encoder)
    folder = Path(out) if out else Path(study) / "explain" / name
    folder.mkdir(parents=True, exist_ok=True)
    ids = list(data.tables["test"].ids)[:rows]
    names = [] if predictor.encoder is None else predictor.encoder.get_feature_names_out().tolist()
    figures = {}
    if layer is not None:
        figures[f"features-{layer}"] = feature_maps(predictor, data, layer, rows)
    asked = read_difference(difference, predictor) if difference else None
    if asked is not None:
        changes = difference_maps(predictor, data, asked, ids)
        figures[f"difference-{asked[0]}"] = difference_figure(changes, data, asked, ids)
    attributed = attribute(predictor, data, ids)
    figures |= {"attribution": attributions(attributed, ids, names)}
    if predictor.encoder is not None:
        figures["effects"] = covariate_effects(predictor, data)
        if (kernels := kernel_figure(predictor.network, names)) is not None:
            figures["kernels"] = kernels
    paths = []
    for title, figure in figures.items():
        figure.savefig(folder / f"{title}.png", dpi=110)
        paths.append(folder / f"{title}.png")
    if nifti:
        paths += write_maps(attributed[1], data, ids, folder)
        if asked is not None:
            paths += write_difference_maps(changes, data, asked[0], ids, folder)
    return paths


def kernel_figure(network: nn.Module, names: list[str], kernels: int = 8) -> Any:
    """W and each V_j of the first hybrid convolution (their first input channel, the middle slice in 3-D); None if
    none.

    All pictures of a row share one scale, symmetric about 0, so that V can be compared with W.
    """
    from matplotlib.figure import Figure

    from fusionconv.layers import CovariateLayer

    layer: Any = next((m for m in network.modules() if isinstance(m, CovariateLayer) and m.METHOD == "hybrid"
                       and getattr(m, "covariate_map", None) is None and m.weight.ndim in (4, 5)), None)  # fmt: skip
    if layer is None:
        return None
    weight, change = layer.weight.detach(), layer.covariate_weight.detach()
    rows = [("W", weight), *((f"V {name}", change[j]) for j, name in enumerate(names))]
    count = min(kernels, weight.shape[0])
    figure = Figure(figsize=(1.1 * count + 2.2, 1.1 * len(rows) + 0.6), layout="constrained")
    panels = figure.subplots(len(rows), count, squeeze=False)
    for (title, values), line in zip(rows, panels, strict=True):
        shown = values[:, 0] if values.ndim == 4 else values[:, 0, ..., values.shape[-1] // 2]
        bound = float(shown.abs().max()) or 1.0
        for axes, kernel in zip(line, shown, strict=False):
            axes.imshow(kernel.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{title}\nmax {bound:.2g}", rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle("Kernels of the first hybrid convolution: kernel = W + sum of s_j V_j", fontsize=9)
    return figure


def covariate_effects(predictor: Predictor, data: FoldData, images: int = 64) -> Any:
    """The mean answer over test images against one covariate at a time, others as they are."""
    from matplotlib.figure import Figure

    assert data.encoder is not None
    assert data.store is not None
    ids = list(data.tables["test"].ids)[:images]
    batch = data.batch("test", ids)
    true = batch["covariates"]
    train = data.tables["train"].covariates.numpy()
    names = data.encoder.get_feature_names_out().tolist()
    shown = [j for j in range(len(names)) if train[:, j].std() > 0]
    across = min(4, max(len(shown), 1))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(3.2 * across, 2.8 * down), layout="constrained")
    panels = figure.subplots(max(down, 1), across, squeeze=False).ravel()
    answered: list[str] = []
    for axes, j in zip(panels, shown, strict=False):
        few = np.unique(train[:, j])
        values = few if len(few) <= 5 else np.quantile(train[:, j], np.linspace(0.02, 0.98, 9))
        means = []
        for value in values:
            changed = true.clone()
            changed[:, j] = float(value)
            answer = predictor.answer(batch["image"], changed)
            answered = list(answer)
            means.append([float(np.mean(column)) for column in answer.values()])
        axes.plot(values, means, marker="o", ms=3)
        axes.plot(train[:, j], np.full(len(train), axes.get_ylim()[0]), "|", color="0.6", ms=6)
        axes.set_xlabel(names[j], fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(f"mean {', '.join(answered)}"[:60], fontsize=8)
    figure.suptitle(
        f"Answer over {len(ids)} test images against one encoded covariate; grey: training rows", fontsize=9
    )
    return figure


def attribute(predictor: Predictor, data: FoldData, ids: Sequence[str]) -> Attributed:
    """Test images (N, C, *size), integrated gradients of each voxel, and those of the covariates (N, K).

    Sundararajan et al. 2017, through Captum, of image and covariates together. The baseline is the mean training
    image's value (0 after normalisation) and covariates of 0. Of a class network the last class's logit is explained.
    """
    from captum.attr import IntegratedGradients

    batch = data.batch("test", ids)
    images, covariates = batch["image"], batch["covariates"] if predictor.encoder is not None else None

    def answer(x: Tensor, s: Tensor | None = None) -> Tensor:
        out: Tensor = predictor.network(x) if s is None else predictor.network(x, s)
        return out[:, -1].flatten(1).mean(1) if predictor.task.IMAGE_OUT else out[:, -1]

    inputs = images if covariates is None else (images, covariates)
    found = IntegratedGradients(answer).attribute(inputs, n_steps=32, internal_batch_size=max(len(ids), 8))
    return (images, found.detach(), None) if covariates is None else (images, found[0].detach(), found[1].detach())


def write_maps(maps: Tensor, data: FoldData, ids: Sequence[str], folder: Path) -> list[Path]:
    """The attributions (N, C, *size) of 3-D images as NIfTI, float32, on the voxels of their own files, for any viewer.

    Raises:
        StudyError: 2-D images.
        ImageError: a preparation that cannot be undone.
    """
    assert data.store is not None
    options = data.store.options
    if options.dims != 3 or options.shuffle is not None:
        what = "2-D" if options.dims != 3 else "3-D ones whose voxels are shuffled"
        raise StudyError(f"nifti: expected a study of 3-D images, got {what}; leave --nifti out")
    return [
        write_map(one.sum(0).numpy(), name, data, folder / f"attribution-{at}") for at, (name, one) in
        enumerate(zip(ids, maps, strict=True))
    ]  # fmt: skip


def attributions(found: Attributed, ids: Sequence[str], names: Sequence[str]) -> Any:
    """The figure of what `attribute` found for test images; ``names``: of the encoded covariates."""
    from matplotlib.figure import Figure

    images, maps, values = found
    three = images.ndim == 5
    figure = Figure(figsize=(2 * len(ids) + 0.4, 4.2 + 1.8 * (values is not None)), layout="constrained")
    panels = figure.subplots(2 + (values is not None), len(ids), squeeze=False)
    for at, name in enumerate(ids):
        image, attributed = images[at].mean(0), maps[at].sum(0)
        if three:
            middle = image.shape[-1] // 2
            image, attributed = image[..., middle], attributed[..., middle]
        bound = float(attributed.abs().max()) or 1.0
        panels[0, at].imshow(image.numpy(), cmap="gray")
        panels[0, at].set_title(name[-18:], fontsize=7)
        panels[1, at].imshow(attributed.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
        for axes in panels[:2, at]:
            axes.set_axis_off()
        if values is not None:
            own = values[at].numpy()
            panels[2, at].barh(range(len(names)), own, color=np.where(own < 0, "C0", "C3"))
            panels[2, at].set_yticks(range(len(names)), names if at == 0 else [""] * len(names), fontsize=7)
            panels[2, at].tick_params(axis="x", labelsize=6)
            panels[2, at].axvline(0, color="0.5", lw=0.5)
    figure.suptitle("Test images, and what speaks for (red) and against (blue) the answer", fontsize=9)
    return figure
