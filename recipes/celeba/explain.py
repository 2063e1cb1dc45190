"""The command explain: where the network looks, for some images and covariate values, as one PNG."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionconv.errors import TableError
from fusionconv.tabular import require_columns
from recipes.celeba.images import NORMALISATION, decode, prepare
from recipes.celeba.paths import few, images_folder
from recipes.celeba.predict import SUFFIXES, read_covariates
from recipes.celeba.study import CelebAStudy
from recipes.celeba.trained import open_study
from recipes.common.figures import STYLE, blank, save
from recipes.common.runs import RunError

COARSE = 4  # maps with fewer pixels each way are drawn as the squares that they are


def explain(argv: list[str]) -> None:
    """Grad-CAM and guided backpropagation of the log odds that the target is 1, by Captum.

    A row an image; for each covariate setting two columns: what of the last convolution's maps speaks for the target
    (Grad-CAM, red is most), and the pixels that raise it (guided backpropagation). They show where a network looks,
    not why; guided backpropagation in particular draws edges whatever was learnt (Adebayo et al. 2018, NeurIPS).
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.celeba explain", description=explain.__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a file of a run's checkpoints/ folder")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--files", nargs="+", help="names of images in it; the default is its first --count")
    parser.add_argument("--count", type=int, default=4, help="how many images, without --files")
    parser.add_argument(
        "--at", nargs="+", metavar="NAME=VALUE", default=[], help="covariate settings, such as: Male=0 Male=1,Young=0"
    )
    parser.add_argument("--table", type=Path, help="covariates by file, as for predict; what --at leaves open")
    parser.add_argument("--target", help="which attribute, where the network answers several; the default is the first")
    parser.add_argument("--layer", help="dotted name of the Grad-CAM layer; the default is the last convolution")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--overwrite", action="store_true", help="write over --out")
    parser.add_argument("--device", help="cpu, cuda, ...; the default is cuda where there is one")
    options = parser.parse_args(argv)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} exists already. Give another --out, or --overwrite to write over it.")
    study, note = open_study(options.checkpoint, options.device)
    target = study.targets[0] if options.target is None else options.target
    if target not in study.targets:
        raise RunError(f"--target {target}: this network answers {few(study.targets)}.")

    images_folder(options.images)
    present = [name for name in sorted(os.listdir(options.images)) if Path(name).suffix.lower() in SUFFIXES]
    files = options.files or present
    files = files if options.files else files[: options.count]
    if not files:
        raise TableError(f"{options.images} has no image ({' '.join(sorted(SUFFIXES))}).")
    raw = [_decode(options.images / file).to(study.device) for file in files]
    images = prepare(raw, study.hparams.image_size, note["mode"])
    hybrid = note["arm"] == "hybrid"
    if hybrid and note.get("constant") is not None:
        raise RunError(f"this network was trained with {note['constant']:g} for every covariate: it knows no settings.")
    settings = {"": pd.DataFrame(index=files)}
    if hybrid:
        settings = covariate_settings(options.at, options.table, files, note["covariates"])
    camera = Camera(study, study.targets.index(target), options.layer)
    found = {}
    for name, frame in settings.items():
        rows = study.encoder.transform(frame) if hybrid else np.zeros((len(files), 0), np.float32)
        covariates = torch.as_tensor(rows, device=study.device)
        found[name] = (camera.answer(images, covariates), *camera(images, covariates))
    title = f"{target}: Grad-CAM of {camera.layer}, guided backpropagation"
    if note_on_map := camera.too_coarse(study.hparams.image_size):
        print(f"note: {note_on_map}")
        title += f"\n{note_on_map}"
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in NORMALISATION[note["mode"]])
    shown = (images.cpu() * std + mean).clamp(0, 1)
    draw(shown, files, found, title, options.out)
    print(f"wrote {options.out}: {len(files)} images, {len(settings)} covariate settings, Grad-CAM of {camera.layer}")


def _decode(path: Path) -> Tensor:
    try:
        return decode(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise TableError(f"cannot decode {path}: {error}. Choose other images with --files.") from None


def covariate_settings(
    at: list[str], table: Path | None, files: list[str], covariates: list[str]
) -> dict[str, pd.DataFrame]:
    """Each setting's name and its covariates by file: the table's, changed as ``at`` says; no value is guessed."""
    base = pd.DataFrame(index=files)
    if table is not None:
        own = read_covariates(table, covariates)
        if absent := [file for file in files if file not in own.index]:
            raise TableError(f"{table} has no row for {few(absent)}. Add them, or choose others with --files.")
        base = own.loc[files, covariates]
    settings = {}
    for text in at or ["as in the table"]:
        frame = base.copy()
        for part in text.split(",") if at else []:
            name, _, value = part.partition("=")
            require_columns(pd.DataFrame(columns=covariates), [name], where="--at")
            try:
                frame[name] = float(value)
            except ValueError:
                raise TableError(f"--at {text}: expected NAME=NUMBER, such as Male=1, came {part!r}.") from None
        if open_ones := [name for name in covariates if name not in frame]:
            raise TableError(
                f"{'--at ' + text if at else 'without --at'}: nothing says what {', '.join(open_ones)} should be. Give "
                "it in --at, or --table with a row for each image."
            )
        settings[text] = frame[covariates]
    return settings


class LogOdds(nn.Module):
    """The network with one output: the log odds that one target is 1 (loss mse: its output)."""

    def __init__(self, study: CelebAStudy, place: int) -> None:
        super().__init__()
        self.study, self.place = study, place

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """Images (N, 3, S, S) and covariates (N, K) to (N,)."""
        outputs = self.study(images, covariates)
        if self.study.objective.loss == "cross_entropy":
            return outputs[:, 1] - outputs[:, 0]
        return outputs[:, self.place]


class Camera:
    """Grad-CAM and guided backpropagation of one network for one target.

    Args:
        study: in evaluation mode. Its activations no longer work in place afterwards, which hooks do not bear.
        place: of the target among the study's.
        layer: whose maps Grad-CAM weighs; None: the last convolution that is not in a shortcut.
    """

    def __init__(self, study: CelebAStudy, place: int, layer: str | None) -> None:
        try:
            from captum.attr import GuidedBackprop, LayerGradCam
        except ImportError:
            raise RunError("explain needs Captum, which is not installed: pip install captum") from None
        network = study.network
        assert network is not None
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        modules = dict(network.named_modules())
        # A ResNet's shortcut is registered, and run, after its block's last convolution, and is not where one looks.
        convolutions = [
            name
            for name, module in modules.items()
            if isinstance(module, nn.Conv2d) and not {"downsample", "shortcut"} & set(name.split("."))
        ]
        if layer is None and not convolutions:
            raise RunError("the network has no 2-D convolution: say with --layer whose maps to look at.")
        self.layer = convolutions[-1] if layer is None else layer
        self.finer = _last_with_maps(study, [modules[name] for name in convolutions], convolutions)
        if self.layer not in modules:
            raise RunError(f"--layer {layer}: expected the name of a module, such as {few(convolutions[::-1])}.")
        if not any(isinstance(module, nn.ReLU) for module in modules.values()):
            print("note: the network has no ReLU layers, so guided backpropagation is the plain gradient")
        self.study, self.place = study, place
        self.wrapped = LogOdds(study, place)
        self.grad_cam = LayerGradCam(self.wrapped, modules[self.layer])
        self.guided = GuidedBackprop(self.wrapped)
        self.map_size: tuple[int, int] | None = None  # of the layer's maps, once it has run

    def answer(self, images: Tensor, covariates: Tensor) -> np.ndarray:
        """The probability of the target, (N,)."""
        with torch.inference_mode():
            outputs = self.study(images, covariates)
        return self.study.objective.probability(outputs)[:, self.place].cpu().numpy()

    def too_coarse(self, image_size: int) -> str | None:
        """What to say of maps with so few pixels that they hardly tell a place; None where they have enough."""
        if self.map_size is None or min(self.map_size) >= COARSE:
            return None
        height, width = self.map_size
        return (
            f"the maps of {self.layer} have {height} x {width} pixels: a square is {image_size // height} pixels of "
            f"the image wide, too coarse to say where; try --layer with an earlier one{self._finer()}"
        )

    def _finer(self) -> str:
        """The last convolution before a reduction that leaves fewer than COARSE pixels, where there is one."""
        return f" ({self.finer})" if self.finer else ""

    def __call__(self, images: Tensor, covariates: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Grad-CAM (N, S, S), at least 0, and guided backpropagation (N, 3, S, S), both as they come."""
        coarse = self.grad_cam.attribute(images, additional_forward_args=(covariates,), relu_attributions=True)
        if coarse.dim() != 4:
            raise RunError(f"--layer {self.layer} gives no maps (N, C, H, W). Choose a convolution.")
        self.map_size = coarse.shape[2], coarse.shape[3]
        if min(self.map_size) < 2:
            raise RunError(
                f"--layer {self.layer} has maps of {self.map_size[0]} x {self.map_size[1]}, which say nothing of "
                f"where. Choose an earlier layer{self._finer()}, or a network trained on larger images."
            )
        # A few large squares, drawn smoothly, would look like a place that was found.
        mode = "nearest" if min(self.map_size) < COARSE else "bilinear"
        fine = F.interpolate(coarse.detach(), images.shape[2:], mode=mode)[:, 0]
        guided = self.guided.attribute(images.clone().requires_grad_(), additional_forward_args=(covariates,))
        return fine.cpu().numpy(), guided.detach().cpu().numpy()


@torch.inference_mode()
def _last_with_maps(study: CelebAStudy, layers: list[nn.Module], names: list[str]) -> str | None:
    """The last of the layers, in the order in which they run, whose maps have COARSE pixels or more each way."""
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, maps: Any) -> None:
            if isinstance(maps, Tensor) and maps.dim() == 4 and min(maps.shape[2:]) >= COARSE:
                found.append(name)

        return hook

    hooks = [layer.register_forward_hook(look(name)) for layer, name in zip(layers, names, strict=True)]
    size, rows = study.hparams.image_size, len(study.hparams.covariates)  # CelebA's are binary: a number each
    try:
        study(torch.zeros(1, 3, size, size, device=study.device), torch.zeros(1, rows, device=study.device))
    finally:
        for handle in hooks:
            handle.remove()
    return found[-1] if found else None


@mpl.rc_context(STYLE)
def draw(
    images: Tensor,
    files: list[str],
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    title: str,
    path: Path,
) -> None:
    """A row an image: the image, and for each setting its Grad-CAM overlay and its guided backpropagation.

    Overlays of a row share a scale, so that settings can be compared; likewise the pixels.
    """
    columns = 1 + 2 * len(found)
    figure = blank(1.7 * columns, 1.9 * len(files) + 0.5 + 0.2 * (len(title) // (20 * columns)))
    panels = figure.subplots(len(files), columns, squeeze=False)
    for row, file in enumerate(files):
        picture = images[row].permute(1, 2, 0).numpy()
        panels[row, 0].imshow(picture)
        panels[row, 0].set_title(file, fontsize=7)
        highest = max(maps[row].max() for _, maps, _ in found.values()) or 1.0
        strongest = max(np.abs(pixels[row]).max() for _, _, pixels in found.values()) or 1.0
        for place, (setting, (probability, maps, pixels)) in enumerate(found.items()):
            left, right = panels[row, 1 + 2 * place], panels[row, 2 + 2 * place]
            left.imshow(picture)
            left.imshow(maps[row] / highest, cmap="jet", alpha=0.45, vmin=0, vmax=1)
            left.set_title(f"{setting}  p = {probability[row]:.2f}".strip(), fontsize=7)
            right.imshow((0.5 + 0.5 * pixels[row] / strongest).transpose(1, 2, 0))
    for axes in panels.flat:
        axes.set_axis_off()
    figure.suptitle("\n".join(textwrap.fill(line, 20 * columns) for line in title.splitlines()), fontsize=9)
    save(figure, path)
