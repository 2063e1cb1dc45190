"""Arms: what is compared. ``image``, ``covariates``, ``stacked``, ``concat``, ``METHOD@WHERE``, or a dict."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError
from fusionconv.study.forked import forked_rng
from fusionconv.study.settings import Settings

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "METHODS",
    "Arm",
    "build_arm",
    "count_parameters",
    "find_arm",
    "head_of_all",
    "names_of",
    "parse_arm",
    "possible_arms",
    "too_large",
]

#: the fusion methods, as `fusionconv.layers.METHODS` has them (a test compares), without importing torch
METHODS = ("hybrid", "lowrank", "hyper", "film", "daft", "scale", "attention", "concat", "condconv")
#: what an arm may change of the study's settings
_OWN = ("lr", "covariate_lr", "weight_decay", "covariate_weight_decay", "optimizer", "schedule", "epochs",
        "batch_size", "covariates", "kinds", "freeze", "network_options")  # fmt: skip
_OTHER_WORDS = {"image-only": "image", "covariate": "covariates", "tabular": "covariates", "early": "hybrid@first",
                "late": "concat", "mlp": "concat-mlp", "concat_mlp": "concat-mlp"}  # fmt: skip
_SETTINGS = frozenset(Settings.__dataclass_fields__)
#: what --tune may change: all that is read when a network is built and trained, not before
_TUNED = frozenset({
    "network", "network_options", "pretrained", "weights", "head", "freeze", "unfreeze_epoch", "epochs", "batch_size",
    "lr", "covariate_lr", "weight_decay", "covariate_weight_decay", "optimizer", "momentum", "schedule", "milestones",
    "augment", "trainer",
})  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: a plain folder name.
        kind: image, covariates, stacked or fusion.
        method: of a fusion.
        where: a layer as `fusionconv.fuse_into` takes it, or "head": the linear layer that the features enter.
        options: further arguments of `fuse_into`, or of the estimator.
        settings: what this arm changes of the study's settings.
        estimator: of covariates and stacked.
        said: what it was made from.
        head: the head that every arm of the comparison must then have (of concat-mlp: mlp).
    """

    name: str
    kind: str
    method: str | None = None
    where: int | str | list[int | str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    estimator: str | None = None
    said: Any = None
    head: str | None = None

    @property
    def takes_image(self) -> bool:
        """Whether it needs images (stacked needs the image arm's)."""
        return self.kind != "covariates"

    @property
    def has_network(self) -> bool:
        """Whether a network is trained for it."""
        return self.kind in ("image", "fusion")

    @property
    def takes_covariates(self) -> bool:
        """Whether it needs covariates."""
        return self.kind != "image"

    def without_image(self) -> Arm:
        """The arm as one of covariates alone."""
        return replace(self, kind="covariates")

    def trials(self, tune: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every combination of the values to try; as many for each arm.

        An option that this arm does not have (a rank of the image arm, or of film) is left out of the combination,
        which is then tried again with another seed, so that no arm has more tries than another.

        Raises:
            StudyError: a name that is neither a setting nor an option of any method.
        """
        if not tune:
            return [{}]
        if fixed := sorted((set(tune) & _SETTINGS) - _TUNED):
            raise StudyError(
                f"tune: expected settings of the network and its training ({', '.join(sorted(_TUNED))}), got "
                f"{', '.join(fixed)}, which is the same for all trials; compare two studies instead"
            )
        mine = self._options_of_method({name for name in tune if name not in _SETTINGS})
        values = {name: v if isinstance(v, list) else [v] for name, v in tune.items()}
        every = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
        return [{k: v for k, v in chosen.items() if k in _SETTINGS or k in mine} for chosen in every]

    def _options_of_method(self, names: set[str]) -> set[str]:
        if not names:
            return set()
        from fusionconv.layers import METHODS as CLASSES

        known = sorted({option for kind in CLASSES.values() for option in kind.OPTIONS})
        for name in sorted(names - set(known)):
            raise StudyError(f"tune: expected a setting or an option of a method ({', '.join(known)}), got {name!r}"
                             + _near(name, [*known, *_SETTINGS]))  # fmt: skip
        return names & set(CLASSES[self.method].OPTIONS) if self.method is not None else set()

    def with_options(self, chosen: Mapping[str, Any]) -> Arm:
        """The arm with those of a trial's values that are no settings."""
        return replace(self, options={**self.options, **{k: v for k, v in chosen.items() if k not in _SETTINGS}})


# ---- from words ----


def parse_arm(said: str | Mapping[str, Any] | Arm) -> Arm:
    """An arm from a word or a dict.

    Args:
        said: ``"image"``; ``"covariates"``, ``"covariates:boosting"``; ``"stacked"``; ``"concat"`` (concat@last);
            ``"concat-mlp"`` (concat, where every arm of the comparison has a hidden layer at its end);
            ``"METHOD@WHERE"``, where WHERE is first, last, all, head, a number, a layer's or a module's name; or a
            dict with an entry ``arm``, perhaps ``name`` and ``where`` (for a list of layers), settings that this arm
            changes (``lr``, ``epochs``, ...), and options of the method or the estimator.

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
    if not isinstance(said, Mapping):
        return _named(_word(str(said).strip()))
    given = dict(said)
    word = given.pop("arm", None)
    if not isinstance(word, str):
        raise StudyError(
            f"arm: expected a dict with an entry arm, such as {{arm: hybrid@first, rank: 2}}, got {dict(said)}"
        )
    name, where = given.pop("name", None), given.pop("where", None)
    settings = {key: given.pop(key) for key in _OWN if key in given}
    if shared := sorted(given.keys() & _SETTINGS):
        raise StudyError(f"arm {name or word}: expected settings that an arm may change ({', '.join(_OWN)}), got "
                         f"{', '.join(shared)}, which all arms of a comparison share")  # fmt: skip
    arm = _word(word.strip())
    if where is not None:
        if arm.kind != "fusion" or "@" in word:
            raise StudyError(f"arm {name or word}: expected where beside a method alone, such as "
                             f"{{arm: hybrid, where: [0, layer4]}}, got {dict(said)}")  # fmt: skip
        arm = replace(arm, where=where)
        word = f"{word}@{'+'.join(map(str, where)) if isinstance(where, (list, tuple)) else where}"
    if arm.kind == "image" and given:
        raise StudyError(f"arm {name or word}: expected no options of a fusion for the image arm, got {sorted(given)}")
    shown = name or _folder("-".join([word, *(f"{k}{v}" for k, v in {**settings, **given}.items())]))
    return _named(replace(arm, name=str(shown), options={**arm.options, **given}, settings=settings, said=dict(said)))


def _named(arm: Arm) -> Arm:
    if not re.fullmatch(r"\w[\w.=+-]*", arm.name) or len(arm.name) > 100:
        raise StudyError(
            f"arm: expected a name of at most 100 letters, digits and . _ - = +, got {arm.name!r}; give another name"
        )
    return arm


def _word(word: str) -> Arm:
    if word == "image":
        return Arm("image", "image", said=word)
    head, colon, estimator = word.partition(":")
    if head in ("covariates", "stacked") and bool(colon) == bool(estimator):
        return Arm(_folder(word), head, estimator=estimator or None, said=word)
    if word == "concat-mlp":
        return Arm(word, "fusion", "concat", "last", said=word, head="mlp")
    method, at, where = word.partition("@")
    if method not in METHODS:
        known = ["image", "covariates", "stacked", "concat", "concat-mlp", *(f"{m}@first" for m in METHODS)]
        meant = _OTHER_WORDS.get(word.casefold())
        near = [meant] if meant else _nearest_arms(method, where, known)
        raise StudyError(f"arm: expected one of {', '.join(known)} (or @last, @all, @head, @layer4, ...), got {word!r}"
                         + (f"; did you mean {' or '.join(near)}?" if near else ""))  # fmt: skip
    if at and not where:
        raise StudyError(f"arm: expected a layer behind @, such as {method}@first, got {word!r}")
    place: int | str = where or ("last" if method == "concat" else "first")
    if re.fullmatch(r"-?\d+", str(place)):
        place = int(place)
    return Arm(_folder(word), "fusion", method, place, said=word)


def _nearest_arms(method: str, where: str, known: Sequence[str]) -> list[str]:
    if where:
        return [f"{m}@{where}" for m in difflib.get_close_matches(method.casefold(), METHODS, n=2)]
    return difflib.get_close_matches(method.casefold(), [*known, *METHODS], n=3)


def _near(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _folder(word: str) -> str:
    """A plain folder name of an arm: hybrid@features.0 is hybrid-features.0."""
    return re.sub(r"[^\w.=+-]+", "-", word.replace("@", "-")).strip("-")


def find_arm(said: str, arms: Sequence[Arm]) -> Arm:
    """The one of these arms that ``said`` names: by its name, or by what it was made from.

    Raises:
        StudyError: none of them; the message lists them.
    """
    found = [arm for arm in arms if arm.name == said] or [arm for arm in arms if arm.said == said]
    if not found:
        names = names_of(arms)
        raise StudyError(f"arm: expected one of {', '.join(names)}, got {said!r}{_near(said, names)}")
    return found[0]


def names_of(arms: Sequence[Arm]) -> list[str]:
    """Their names."""
    return [arm.name for arm in arms]


def head_of_all(arms: Sequence[Arm], head: str = "linear") -> str:
    """The head of the whole comparison: ``head``, or the one that an arm (concat-mlp) needs in every arm.

    >>> head_of_all([parse_arm("image"), parse_arm("concat-mlp")])
    'mlp'
    """
    needed = next((arm.head for arm in arms if arm.head is not None), None)
    return needed if needed is not None and head == "linear" else head


# ---- networks ----


def build_arm(arm: Arm, network: nn.Module, num_covariates: int) -> nn.Module:
    """The arm's network from a plain one, in place; before training all give the plain network's answers.

    Torch's random numbers are afterwards where they were, whatever the method has drawn.
    With a hidden layer at the network's end (head mlp or norm) concat@last joins the covariates to the features in
    front of it. ``condconv`` takes no covariates, so its ``ignore_covariates`` need not be said.

    Raises:
        SurgeryError: the network cannot have this arm; the message says which it can.
    """

    from fusionconv import fuse_into
    from fusionconv.errors import SurgeryError
    from fusionconv.study.heads import find_head

    if not arm.has_network:
        raise SurgeryError(f"arm {arm.name}: expected an arm with a network, got kind {arm.kind}")
    if arm.head is not None and find_head(network) is None:
        raise SurgeryError(
            f"arm {arm.name}: expected a network with a hidden layer at its end, got its own last layer; build every "
            f"arm's network with head={arm.head}"
        )
    if arm.kind == "image":
        return network
    method, options = str(arm.method), dict(arm.options)
    if method == "condconv":
        options.setdefault("ignore_covariates", True)
    with forked_rng():
        try:
            return fuse_into(network, _place(arm, network), num_covariates, method=method, **options)
        except (SurgeryError, TypeError, ValueError) as error:
            can = [word for word in possible_arms(network) if word.startswith(f"{method}@")] or possible_arms(network)
            instead = ", ".join(can) or "no arm but image"
            raise SurgeryError(f"arm {arm.name}: {error}; this network can have {instead}") from error


def _place(arm: Arm, network: nn.Module) -> Any:
    """The layer as `fuse_into` takes it."""
    from torch import nn

    from fusionconv.study.heads import find_head

    if arm.where != "head" and (arm.method, arm.where) != ("concat", "last"):
        return arm.where
    head = find_head(network)
    if head is not None:
        return f"{head}.hidden"
    if arm.where == "last":
        return "last"
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else "head"


def possible_arms(network: nn.Module) -> list[str]:
    """Which METHOD@first, @last and @head a plain network can have."""
    import warnings

    from fusionconv.errors import SurgeryError
    from fusionconv.surgery.select import resolve

    found = []
    for method in METHODS:
        for where in ("first", "last", "head"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    resolve(network, _place(Arm("", "fusion", method, where), network), method)
            except SurgeryError:
                continue
            found.append(f"{method}@{where}")
    return found


def count_parameters(model: nn.Module) -> dict[str, int]:
    """All trainable parameters, and those among them that only the covariates use."""
    from fusionconv.layers import CovariateLayer

    layers = [module for module in model.modules() if isinstance(module, CovariateLayer)]
    of_covariates = {id(p): p.numel() for layer in layers for _, p in layer.covariate_parameters() if p.requires_grad}
    every = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"parameters": every, "covariate_parameters": sum(of_covariates.values())}


def too_large(arm: Arm, counts: Mapping[str, int]) -> str | None:
    """A warning where an arm adds more parameters than the network has, with what to do; else None."""
    added = counts["covariate_parameters"]
    plain = counts["parameters"] - added
    if added <= plain:
        return None
    from fusionconv.layers import METHODS as CLASSES

    options = CLASSES[str(arm.method)].OPTIONS
    word = f"{arm.method}@{arm.where}" if isinstance(arm.where, (str, int)) else f"{arm.method}, where: {arm.where}"
    if "rank" in options and arm.options.get("rank") is None:
        hint = f"with few images give {{arm: {word}, rank: 2}}, or fewer covariates"
    else:
        smaller = " or ".join(name for name in ("rank", "hidden", "experts") if name in options)
        hint = (
            f"with few images give it a smaller {smaller}, or fewer covariates" if smaller else "give fewer covariates"
        )
    return f"arm {arm.name} adds {added:,} parameters to the {plain:,} that the network trains; {hint}"
