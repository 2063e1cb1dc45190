"""Which --model options go together; checked before anything is built."""

from __future__ import annotations

from typing import Any

from fusionconv.errors import SurgeryError
from recipes.celeba.arms import smallest_image
from recipes.celeba.backbones import library_of
from recipes.celeba.objective import Objective

# Mode as_published is one study's training; an option that it did not have would not be as published.
PUBLISHED = {"arch": "vgg16_bn", "optimizer": "adam", "weight_decay": 0.0, "schedule": "constant", "freeze_epochs": 0}


def check_options(h: Any, objective: Objective) -> None:
    """Raise SurgeryError where the options of `CelebAStudy` contradict each other.

    Args:
        h: its hyperparameters.
        objective: what ``target`` and ``loss`` came to.
    """
    if h.mode == "as_published":
        other = {key: h[key] for key, value in PUBLISHED.items() if h[key] != value}
        if objective.loss != "cross_entropy":
            other["loss"] = objective.loss
        if other:
            raise SurgeryError(
                f"mode as_published is the study's VGG16-BN with cross-entropy and Adam, and these options differ: "
                f"{other}. Leave them out, or give --model.mode corrected."
            )
    if h.arch == "vgg16_bn":
        smallest = smallest_image(h.arm, h.mode)
        if h.image_size < smallest:
            raise SurgeryError(
                f"VGG16 halves the image five times: the {h.mode} {h.arm} arm needs --data.image_size of at least "
                f"{smallest}, and {h.image_size} was given."
            )
    else:
        library_of(h.arch)
        if h.classifier_width != 4096:
            raise SurgeryError(
                f"--model.classifier_width {h.classifier_width} is an option of vgg16_bn, and --model.arch is "
                f"{h.arch}. Leave it out (4096)."
            )
    if h.freeze_epochs < 0 or h.weight_decay < 0 or h.finetune_factor <= 0:
        raise SurgeryError(
            "expected --model.freeze_epochs and --model.weight_decay of at least 0 and --model.finetune_factor above "
            f"0, came {h.freeze_epochs}, {h.weight_decay:g} and {h.finetune_factor:g}."
        )
    if h.arm == "hybrid" and not h.covariates:
        raise SurgeryError("the hybrid arm needs at least one covariate: give --data.covariates '[Male]'.")
