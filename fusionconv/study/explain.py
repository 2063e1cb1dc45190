"""``fusionconv explain``: figures of what an arm's network does with image and covariates."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusionconv.errors import ExplainError, StudyError, SurgeryError
from fusionconv.explain import Attributions, attributions, covariate_effect, plot_kernels
from fusionconv.explain.attribution_numbers import ATTRIBUTION_METHODS
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
from fusionconv.study.plan import require_same_rows
from fusionconv.study.predict import Predictor, load_predictor
from fusionconv.study.study import Study

__all__ = ["attribute", "covariate_effects", "explain_arm", "kernel_figure"]


def explain_arm(
    study: str, arm: str, fold: str | None = None, rows: int = 6, layer: str | None = None, out: str | None = None,
    nifti: bool = False, difference: Sequence[Any] = (), method: str = "integrated_gradients",
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
        method: of the attributions: integrated_gradients, grad_cam (of ``layer``, or of the last convolution),
            guided_backprop or occlusion.
        difference: of a task whose answers are images, a covariate and two values of it: `difference_figure`.

    Returns:
        The files: ``attribution.png`` always; ``kernels.png`` and ``effects.png`` where the network takes covariates;
        ``features-LAYER.png`` where a layer is named; ``attribution-N-ID.nii.gz`` with ``nifti``;
        ``difference-COLUMN.png``, and with ``nifti`` ``difference-COLUMN-N-ID.nii.gz``, with ``difference``.

    Raises:
        StudyError: no such arm, fold, network or layer.
    """
    if method not in ATTRIBUTION_METHODS:
        raise StudyError(f"method: expected one of {', '.join(ATTRIBUTION_METHODS)}, got {method!r}")
    opened, arms = Study.open(study)
    chosen_arm = find_arm(arm, [a for a in arms if a.has_network])
    name = chosen_arm.name
    chosen = fold or opened.folds.columns[0]
    if chosen not in opened.folds:
        raise StudyError(f"fold: expected one of {', '.join(opened.folds.columns)}, got {fold!r}")
    model = Path(study) / "runs" / name / chosen / "model"
    if not model.is_dir():
        raise StudyError(f"{model}: expected a network, got none; run the comparison with --keep best")
    require_same_rows(opened, [chosen_arm], Path(study))
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
    attributed = attribute(predictor, data, ids, method, layer)
    figures |= {"attribution": attributed.figure(len(ids), ids)}
    if predictor.encoder is not None:
        figures["effects"] = covariate_effects(predictor, data)
        if (kernels := kernel_figure(predictor.network, names)) is not None:
            figures["kernels"] = kernels
    paths = []
    for title, figure in figures.items():
        figure.savefig(folder / f"{title}.png", dpi=110)
        paths.append(folder / f"{title}.png")
    if nifti:
        paths += write_maps(attributed.maps, data, ids, folder)
        if asked is not None:
            paths += write_difference_maps(changes, data, asked[0], ids, folder)
    return paths


def kernel_figure(network: nn.Module, names: Sequence[str]) -> Any:
    """`fusionconv.explain.plot_kernels` of the first layer that has kernels of the covariates; None if none has."""
    try:
        return plot_kernels(network, names=names)
    except (ExplainError, SurgeryError):
        return None


def covariate_effects(predictor: Predictor, data: FoldData, images: int = 64) -> Any:
    """The mean answer over test images against one encoded covariate at a time, others as they are.

    Each panel is drawn as `fusionconv.explain.plot_covariate_effect` draws, over the training rows' distribution.
    """
    from matplotlib.figure import Figure

    assert data.encoder is not None
    ids = list(data.tables["test"].ids)[:images]
    batch = data.batch("test", ids)
    train = data.tables["train"].covariates.numpy()
    names = data.encoder.get_feature_names_out().tolist()
    shown = [j for j in range(len(names)) if train[:, j].std() > 0]
    across = min(4, max(len(shown), 1))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(3.2 * across, 2.8 * max(down, 1)), layout="constrained")
    panels = figure.subplots(max(down, 1), across, squeeze=False).ravel()
    answers = _Answers(predictor)
    for axes, j in zip(panels, shown, strict=False):
        few = np.unique(train[:, j])
        values = few if len(few) <= 5 else np.quantile(train[:, j], np.linspace(0.02, 0.98, 9))
        effect = covariate_effect(
            answers, batch["image"], batch["covariates"], j, values.tolist(), data=train, names=names, batch_size=images
        )
        replace(effect, answers=answers.columns).draw(axes, individual=False)
        axes.set_ylabel("")
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(f"mean {', '.join(answers.columns)}"[:60], fontsize=8)
    title = f"Answer over {len(ids)} test images against one encoded covariate; grey: training rows"
    figure.suptitle(textwrap.fill(title, 42 * across), fontsize=9)
    return figure


class _Answers(nn.Module):
    """A predictor's answers as a module's outputs, (N, answers); ``columns``: their names."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.network, self.predictor = predictor.network, predictor
        self.columns: tuple[str, ...] = ("answer",)

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:
        found = self.predictor.answer(x, covariates)
        self.columns = tuple(found)
        return torch.from_numpy(np.stack([np.asarray(column, dtype=np.float64) for column in found.values()], 1))


def attribute(
    predictor: Predictor, data: FoldData, ids: Sequence[str], method: str = "integrated_gradients",
    layer: str | None = None,
) -> Attributions:  # fmt: skip
    """What speaks for the last output of test images, by `fusionconv.explain.attributions`.

    The baseline is the mean training image's value (0 after normalisation) and covariates of 0. Of a class network the
    last class's logit is explained, of an image output the mean of the last channel. ``layer`` is Grad-CAM's.
    """
    batch = data.batch("test", ids)
    names = None if predictor.encoder is None else predictor.encoder.get_feature_names_out().tolist()
    covariates = None if predictor.encoder is None else batch["covariates"]
    return attributions(
        predictor.network, batch["image"], covariates, method, target=-1, names=names, steps=32,
        batch_size=max(len(ids), 8), layer=layer if method == "grad_cam" else None,
    )  # fmt: skip


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
