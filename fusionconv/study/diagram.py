"""``fusionconv diagram``: a drawing of an arm's network, by name or of a finished study."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionconv.errors import LayerChoiceWarning, StudyError
from fusionconv.explain import plot_network
from fusionconv.study.arms import build_arm, find_arm, head_of_all, parse_arm
from fusionconv.study.folder import read_study
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.networks import build_network
from fusionconv.study.predict import load_predictor
from fusionconv.study.saved import finished_networks

__all__ = ["draw_diagram"]

KINDS = (".svg", ".pdf", ".png")


def draw_diagram(
    network: str | None = None, study: str | None = None, arm: str | Mapping[str, Any] = "image",
    covariates: Sequence[str] = (), image_size: Sequence[int] = (224, 224), channels: int = 3, num_outputs: int = 1,
    network_options: Mapping[str, Any] | None = None, title: str | None = None, out: str = "network.svg",
) -> Path:  # fmt: skip
    """Draw the network of an arm with `fusionconv.explain.plot_network`, and write it.

    Args:
        network: its name, as of a study; with random weights, nothing is downloaded.
        study: folder of a finished comparison, in place of ``network``; image size and covariates are then its own.
        arm: which arm of it.
        covariates: their names, where ``network`` is given.
        image_size, channels, num_outputs, network_options: as `build_network` takes them.
        title: above the drawing.
        out: file of the drawing, by its ending SVG, PDF or PNG.

    Raises:
        StudyError: not one of ``network`` and ``study``; no covariates for an arm that takes them; another ending.
        SurgeryError: the network cannot have this arm.
    """
    path = Path(out)
    if path.suffix.lower() not in KINDS:
        raise StudyError(f"out: expected a file that ends in {', '.join(KINDS)}, got {out!r}")
    if (network is None) == (study is None):
        raise StudyError(f"expected --network or --study, got {'neither' if network is None else 'both'}; give one")
    if study is not None:
        figure = _of_study(study, arm, title)
    else:
        chosen = parse_arm(arm)
        names = [str(name) for name in covariates]
        if chosen.takes_covariates and not names:
            raise StudyError(
                f"covariates: expected the names of those that {chosen.name} takes, got none; give --covariates"
            )
        if not chosen.has_network:
            raise StudyError(f"arm: expected one with a network, such as hybrid@first, got {chosen.name}")
        size = tuple(int(n) for n in image_size)
        made = build_network(
            str(network), num_outputs=num_outputs, in_channels=channels, image_size=size, options=network_options,
            head=head_of_all([chosen]),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerChoiceWarning)
            made = build_arm(chosen, made, len(names))
        figure = plot_network(made, (channels, *size), names=names if chosen.kind != "image" else None, title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    return path


def _of_study(folder: str, arm: str | Mapping[str, Any], title: str | None) -> Any:
    """A network that the study kept; neither its table nor its images are read."""
    arms = [parse_arm(said) for said in read_study(Path(folder))["arms"]]
    chosen = find_arm(str(arm), [a for a in arms if a.has_network])
    models = finished_networks(Path(folder), chosen.name)
    if not models:
        raise StudyError(f"{folder}: expected a network of {chosen.name}, got none; run it with --keep best")
    predictor = load_predictor(models[0])
    size = (predictor.about["build"]["arguments"]["in_channels"], *ImageOptions(**predictor.about["images"]).shape)
    names = None if predictor.encoder is None else predictor.encoder.get_feature_names_out().tolist()
    return plot_network(predictor.network, size, names=names, title=title)
