"""A network of a study on the disk: `fusionconv.save`, with all that its answers need, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionconv.study.arms import Arm
from fusionconv.study.files import read_json
from fusionconv.study.folds import FoldData
from fusionconv.study.forked import forked_rng
from fusionconv.study.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from fusionconv.tabular import CovariateEncoder

__all__ = ["finished_networks", "open_network", "save_network"]


def save_network(
    network: nn.Module, folder: Path, arm: Arm, data: FoldData, settings: Settings, threshold: float
) -> None:
    """Write ``folder``: the weights, the encoder, and what `fusionconv.load(folder)` builds the network by.

    ``read_about(folder)`` tells the task with its classes, the images' options and normalisation, the scale of a
    regression's target, the threshold and the arm.
    """
    from fusionconv.checkpoint import save

    assert data.store is not None
    channels = int(data.store.array.shape[1])
    size = list(settings.part or data.store.options.shape)
    build = {
        "name": settings.network, "num_outputs": data.task.num_outputs, "in_channels": channels,
        "image_size": size, "options": dict(settings.network_options), "head": settings.head,
    }  # fmt: skip
    about = {
        "build": {"function": "fusionconv.study.saved:plain_network", "arguments": build},
        "task": data.task.settings,
        "arm": asdict(arm),
        "takes_covariates": arm.takes_covariates,
        "images": asdict(data.store.options),
        "image_columns": len(settings.image_column),
        "patch": list(settings.part),
        "overlap": settings.overlap,
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "target": {"center": data.center, "scale": data.scale},
        "threshold": threshold,
        "fold": data.fold,
    }
    save(network, folder, data.encoder if arm.takes_covariates else None, about=about)


def plain_network(
    name: str, num_outputs: int, in_channels: int, image_size: list[int], options: Mapping[str, Any], head: str,
    own_functions: bool = False,
) -> nn.Module:  # fmt: skip
    """The plain network of a saved arm, with new weights, which `fusionconv.load` replaces.

    ``own_functions`` says whether the name may be a function of yours. `fusionconv.load` says no: nothing is run only
    because a file names it.
    """

    from fusionconv.study.networks import build_network

    with forked_rng():
        return build_network(
            name, num_outputs=num_outputs, in_channels=in_channels, image_size=tuple(image_size), options=options,
            head=head, own_functions=own_functions,
        )  # fmt: skip


def open_network(folder: Path) -> tuple[nn.Module, CovariateEncoder | None]:
    """The network and the encoder of a run's ``model/``, also of a network that is a function of your own."""
    from fusionconv.checkpoint import load, read_about

    build = read_about(folder)["build"]["arguments"]
    return load(folder, plain_network(**build, own_functions=True))


def finished_networks(out: Path, arm: str) -> list[Path]:
    """The folders ``model/`` of an arm's finished runs, sorted; a run that is not done may have an older one."""
    return sorted(p for p in (out / "runs" / arm).glob("*/model") if read_json(p.parent / "result.json"))
