"""Arms: what is compared. ``image``, ``covariates``, ``stacked``, ``concat``, ``METHOD@WHERE``, or a dict with options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError, SurgeryError
from fusionconv.study.settings import Settings

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METHODS", "Arm", "build_arm", "count_parameters", "parse_arm", "too_large"]

#: the fusion methods, as `fusionconv.layers.METHODS` has them (a test compares), without importing torch
METHODS = ("hybrid", "hyper", "film", "daft", "scale", "attention", "concat", "condconv")
_ALIKE = {"image-only": "image", "covariate": "covariates", "tabular": "covariates", "early": "hybrid@first"}
#: what an arm may change of the study's settings
_OWN = ("lr", "covariate_lr", "weight_decay", "optimizer", "schedule", "epochs", "covariates", "kinds", "freeze")


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: a plain folder name.
        kind: image, covariates, stacked or fusion.
        method: of a fusion.
        where: a layer as `fusionconv.fuse_into` takes it.
        options: further arguments of `fuse_into`, or of the estimator.
        settings: what this arm changes of the study's settings.
        estimator: of covariates and stacked.
        said: what it was made from.
    """

    name: str
    kind: str
    method: str | None = None
    where: int | str | list[int | str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    estimator: str | None = None
    said: Any = None

    @property
    def takes_image(self) -> bool:
        """Whether it needs images (stacked needs the image arm's)."""
        return self.kind != "covariates"

    @property
    def takes_covariates(self) -> bool:
        """Whether it needs covariates."""
        return self.kind != "image"

    def without_image(self) -> Arm:
        """The arm as one of covariates alone."""
        return replace(self, kind="covariates")

    def trials(self, tune: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every combination of the values to try; as many for each arm.

        An option that this arm does not have (a rank of the image arm) is left out of the combination, which is then
        tried again with another seed, so that no arm has more tries than another.
        """
        if not tune:
            return [{}]
        values = {name: v if isinstance(v, list) else [v] for name, v in tune.items()}
        every = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
        return [
            {k: v for k, v in chosen.items() if k in Settings.__dataclass_fields__ or self.kind == "fusion"}
            for chosen in every
        ]

    def with_options(self, chosen: Mapping[str, Any]) -> Arm:
        """The arm with those of a trial's values that are no settings."""
        return replace(
            self,
            options={**self.options, **{k: v for k, v in chosen.items() if k not in Settings.__dataclass_fields__}},
        )


def parse_arm(said: str | Mapping[str, Any] | Arm) -> Arm:
    """An arm from a word or a dict.

    >>> parse_arm("hybrid@first").method, parse_arm("hybrid@first").where
    ('hybrid', 'first')
    >>> parse_arm({"name": "small", "arm": "hybrid@last", "rank": 2}).options
    {'rank': 2}
    >>> parse_arm("covariates:boosting").estimator
    'boosting'

    Raises:
        StudyError: no such arm.
    """
    if isinstance(said, Arm):
        return said
    if isinstance(said, Mapping):
        given = dict(said)
        word = given.pop("arm", None)
        if not isinstance(word, str):
            raise StudyError(
                f"arm: expected a dict with an entry arm, such as {{arm: hybrid@first, rank: 2}}, got {dict(said)}"
            )
        name = given.pop("name", None)
        settings = {key: given.pop(key) for key in _OWN if key in given}
        arm = _word(word)
        shown = name or _folder("-".join([word, *(f"{k}{v}" for k, v in {**settings, **given}.items())]))
        arm = replace(arm, name=str(shown), options={**arm.options, **given}, settings=settings, said=dict(said))
        if arm.kind == "image" and given:
            raise StudyError(f"arm {shown}: expected no options of a fusion for the image arm, got {sorted(given)}")
    else:
        arm = _word(str(said))
    if not re.fullmatch(r"\w[\w.=+-]*", arm.name):
        raise StudyError(f"arm: expected a name of letters, digits and . _ - = +, got {arm.name!r}; give another name")
    return arm


def _word(word: str) -> Arm:
    word = _ALIKE.get(word, word)
    if word == "image":
        return Arm("image", "image", said=word)
    head, colon, estimator = word.partition(":")
    if head in ("covariates", "stacked"):
        return Arm(_folder(word), head, estimator=estimator or None, said=word)
    method, at, where = word.partition("@")
    if method == "concat-mlp":
        raise StudyError("arm: expected concat with --head mlp (the hidden layer then stands in every arm, so that they "
                         "stay comparable), got concat-mlp")  # fmt: skip
    if method not in METHODS:
        known = ["image", "covariates", "stacked", *(m if m == "concat" else f"{m}@first" for m in METHODS)]
        near = difflib.get_close_matches(word, [*known, *METHODS], n=3, cutoff=0.4)
        raise StudyError(f"arm: expected one of {', '.join(known)}, got {word!r}" +
                         (f"; did you mean {' or '.join(near)}?" if near else ""))  # fmt: skip
    if at and not where:
        raise StudyError(f"arm: expected a layer behind @, such as {method}@first, got {word!r}")
    place: int | str = where or ("last" if method == "concat" else "first")
    if re.fullmatch(r"-?\d+", str(place)):
        place = int(place)
    return Arm(_folder(word), "fusion", method, place, said=word)


def _folder(word: str) -> str:
    """A plain folder name of an arm; the usual ones read as they are said."""
    return re.sub(r"[^\w.=+-]+", "-", word.replace("@", "-")).strip("-")


def build_arm(arm: Arm, network: nn.Module, num_covariates: int) -> nn.Module:
    """The arm's network from a plain one; before training all give the plain network's answers.

    Raises:
        SurgeryError: the network cannot have this arm; the message says which it can.
    """
    from fusionconv import fuse_into

    if arm.kind != "fusion":
        return network
    where: Any = arm.where
    try:
        return fuse_into(network, where, num_covariates, method=str(arm.method), **arm.options)
    except (SurgeryError, TypeError, ValueError) as error:
        raise SurgeryError(f"arm {arm.name}: {error}") from error


def count_parameters(model: nn.Module) -> dict[str, int]:
    """All trainable parameters, and those among them that only the covariates use."""
    from fusionconv.layers import CovariateLayer

    layers = [module for module in model.modules() if isinstance(module, CovariateLayer)]
    of_covariates = {id(p): p.numel() for layer in layers for _, p in layer.covariate_parameters() if p.requires_grad}
    every = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"parameters": every, "covariate_parameters": sum(of_covariates.values())}


def too_large(arm: Arm, counts: Mapping[str, int]) -> str | None:
    """A warning where an arm adds more parameters than the network has."""
    added = counts["covariate_parameters"]
    plain = counts["parameters"] - added
    if added <= plain:
        return None
    return (f"arm {arm.name} adds {added:,} parameters to a network of {plain:,}; with few images give it "
            f"{{arm: {arm.method}@{arm.where}, rank: 2}} or fewer covariates")  # fmt: skip


def names_of(arms: Sequence[Arm]) -> list[str]:
    """Their names."""
    return [arm.name for arm in arms]
