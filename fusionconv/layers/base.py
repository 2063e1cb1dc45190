"""What all fusion layers share: torch's own layer, and parameters by which covariates act on it.

A fusion layer *is* torch's layer (same attributes, same parameter names, same state-dict keys) plus the parameters
that its method adds. One class a method (hybrid.py, film.py, daft.py, ...) says which parameters and options these are,
what they compute, and what they become when one covariate vector is baked in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn

from fusionconv.errors import FusionError

__all__ = [
    "CONVOLUTIONS",
    "EVERY_LAYER",
    "CovariateLayer",
    "Option",
    "Shapes",
    "native",
    "num_outputs",
    "precise",
    "variants",
    "whole_number",
]

Layer = TypeVar("Layer", bound="CovariateLayer")
Shapes = dict[str, tuple[int, ...]]

CONVOLUTIONS: tuple[type[nn.Module], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
EVERY_LAYER = (*CONVOLUTIONS, nn.Linear)


@dataclass(frozen=True)
class Option:
    """A layer option: its default, the types that it may have, and, where it is one of a few words, which."""

    default: Any
    kinds: tuple[type, ...]
    choices: tuple[str, ...] = ()

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with ``value``, in words, or None; whole numbers start at 1."""
        if self.choices and value not in self.choices:
            return f"{name} must be one of {list(self.choices)}, got {value!r}"
        if type(value) not in self.kinds or (type(value) is int and value < 1):
            words = {bool: "True or False", int: "an integer of at least 1", type(None): "None", str: "text"}
            return f"{name} must be {' or '.join(words[kind] for kind in self.kinds)}, got {value!r}"
        return None


class Merged(NamedTuple):
    """Weight and bias of the plain layer that one covariate vector makes, in float64; None: as they are."""

    weight: Tensor | None
    bias: Tensor | None


class CovariateLayer(nn.Module):
    """Base of every fusion layer; a subclass is one method, and its variants extend one torch layer each.

    Example:
        >>> import torch
        >>> from fusionconv.layers import CovariateLayer, Film
        >>> layer = Film.from_plain(torch.nn.Conv2d(3, 8, 3), num_covariates=2)
        >>> isinstance(layer, CovariateLayer), isinstance(layer, torch.nn.Conv2d)
        (True, True)
        >>> [(name, tuple(p.shape)) for name, p in layer.covariate_parameters()]
        [('covariate_out_weight', (16, 2))]
    """

    METHOD: ClassVar[str]
    ADDED: ClassVar[tuple[str, ...]]  # the parameters on top of torch's; one that an option leaves out is None
    OPTIONS: ClassVar[dict[str, Option]]
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ("num_covariates", "covariate_options")
    VARIANTS: ClassVar[dict[type[nn.Module], type[CovariateLayer]]]
    PLAIN: ClassVar[type[nn.Module]]  # of a variant: what it extends

    weight: Tensor
    bias: Tensor | None
    num_covariates: int
    covariate_options: dict[str, Any]

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """``options`` with the defaults filled in.

        Raises:
            ValueError: a value that no layer can have. TypeError: an option that this method does not have.
        """
        whole_number(num_covariates)
        unknown = sorted(set(options) - set(cls.OPTIONS))
        if unknown:
            raise TypeError(
                f"method {cls.METHOD!r}: layer options are {', '.join(cls.OPTIONS)}, got {', '.join(unknown)}"
            )
        complete = {name: native(options.get(name, option.default)) for name, option in cls.OPTIONS.items()}
        for name, option in cls.OPTIONS.items():
            problem = option.problem(name, complete[name])
            if problem:
                raise ValueError(problem)
        return complete

    @classmethod
    def strategies(cls) -> tuple[str, ...]:
        """The ways to compute such a layer, by name, among which ``strategy`` chooses; none where there is one only."""
        option = cls.OPTIONS.get("strategy")
        return tuple(way for way in option.choices if way != "auto") if option else ()

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """Names and shapes of the parameters that these (complete) options add to ``plain``."""
        raise NotImplementedError

    def attach_covariates(self, num_covariates: int, **options: Any) -> None:
        """Add the method's parameters, on the device and in the dtype of ``weight``."""
        complete = self.check_options(num_covariates, options)
        if not self.weight.is_floating_point():
            raise ValueError(
                f"expected a layer with a real floating-point weight, got {self.weight.dtype}; covariates act on no "
                "other"
            )
        self.num_covariates = num_covariates = whole_number(num_covariates)
        self.keep_options(complete)
        shapes = self.added_shapes(self, num_covariates, complete)
        like = self.weight.detach()
        for name in self.ADDED:
            parameter = nn.Parameter(like.new_empty(shapes[name])) if name in shapes else None
            self.register_parameter(name, parameter)
        self.reset_covariate_parameters()

    def detach_covariates(self) -> None:
        """Remove what `attach_covariates` added; the module's class is the caller's to restore."""
        for name in self.ADDED:
            self._parameters.pop(name, None)
        for name in self.ATTRIBUTES:
            self.__dict__.pop(name, None)

    def keep_options(self, options: dict[str, Any]) -> None:
        """Remember the (complete) options."""
        self.covariate_options = options

    def layer_options(self) -> dict[str, Any]:
        """The options that would make this layer again, complete, as JSON knows them."""
        return dict(self.covariate_options)

    def reset_covariate_parameters(self) -> None:
        """Give the added parameters their start."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Reset W and b as torch does and the added parameters as the method starts them."""
        super().reset_parameters()  # type: ignore[misc]  # torch's layer comes next in the order of classes
        if "num_covariates" in self.__dict__:  # not yet while torch's constructor runs
            self.reset_covariate_parameters()

    def covariate_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the added parameters that this layer has, by name."""
        for name in self.ADDED:
            parameter = self._parameters.get(name)
            if parameter is not None:
                yield name, parameter

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """What multiplies each added parameter that makes kernels, scales or shifts for the covariates.

        `fusionconv.param_groups` divides the learning rate of these parameters by it, and of no others.

        Args:
            s: covariates (N, K) in float64, or None.

        Returns:
            By name of the parameter: the numbers that multiply its entries for each row, (N, F), or how many there
            are, F, where they depend on the image too or ``s`` is None.
        """
        return {}

    def looks_for_nan(self) -> bool:
        """Whether this layer is to look for NaN in its covariates: one called by hand does; see `FusedLayer`."""
        return True

    def merged(self, s: Tensor) -> Merged:
        """The plain layer that the covariates ``s`` (K,) in float64 make of this one.

        Raises:
            NotImplementedError: there is none, since what the layer does depends on the image; the reason.
        """
        raise NotImplementedError

    @classmethod
    def from_plain(cls: type[Layer], plain: nn.Module, num_covariates: int, **options: Any) -> Layer:
        """A fusion layer that shares ``plain``'s own Parameter objects, options, hooks and mode.

        Unless an option says otherwise its output equals ``plain``'s for every covariate vector until it is trained.
        ``plain`` itself is not changed. It is called as ``layer(x, covariates)``.

        Raises:
            TypeError: ``plain`` is not exactly a torch class that this method can extend.
        """
        own = issubclass(cls, EVERY_LAYER)  # one variant, not the method
        known: dict[type[nn.Module], Any] = {cls.plain_class(): cls} if own else dict(cls.VARIANTS)
        if type(plain) not in known:
            kinds = " or ".join(kind.__name__ for kind in known)
            raise TypeError(f"{cls.__name__} can be made from exactly a torch.nn.{kinds}, got {type(plain).__name__}")
        variant: type[Layer] = known[type(plain)]
        layer = variant.__new__(variant)
        layer.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in plain.__dict__.items()}
        layer.attach_covariates(num_covariates, **options)
        return layer

    def check_batch(self, x: Tensor) -> None:
        """Raise unless ``x`` is a batch: torch's layers also take one image, whose channels would pass for rows here.

        Raises:
            ValueError: the shape that was expected and the one it got.
        """
        if self.PLAIN is nn.Linear:
            if x.ndim < 2:
                raise ValueError(
                    f"x must have shape (N, *, features), got {tuple(x.shape)}; a single sample needs x[None]"
                )
        elif x.ndim != self.weight.ndim:
            raise ValueError(
                f"x must be a batch (N, C, *spatial) with {self.weight.ndim - 2} spatial dimension(s), got "
                f"{tuple(x.shape)}; a single image needs x[None]"
            )

    def _conv_forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """torch's inner step, which some networks call by themselves: it would leave the covariates out."""
        raise FusionError(
            f"{type(self).__name__}._conv_forward would ignore the covariates; the network calls its convolution's "
            "inner step instead of the layer, so this layer cannot be a fused one: choose another"
        )

    @classmethod
    def plain_class(cls) -> type[nn.Module]:
        """The torch class that this layer extends."""
        return next(base for base in cls.__mro__ if base.__module__.startswith("torch.nn."))

    def extra_repr(self) -> str:
        """Torch's own text plus the options that are not at their defaults."""
        text: str = super().extra_repr() + f", num_covariates={self.num_covariates}"
        changed = {k: v for k, v in self.layer_options().items() if v != self.OPTIONS[k].default}
        return text + "".join(f", {name}={value}" for name, value in changed.items())


def whole_number(num_covariates: Any) -> int:
    """``num_covariates`` as an int, also if it is NumPy's.

    Raises:
        ValueError: no whole number, or less than 1.
    """
    value = native(num_covariates)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"num_covariates must be an integer of at least 1, got {num_covariates!r}; without covariates use the "
            "plain layer"
        )
    return value


def native(value: Any) -> Any:
    """A number or text of NumPy as Python's own (JSON knows no other); anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def variants(
    method: type[CovariateLayer],
    plain: tuple[type[nn.Module], ...],
    bases: Mapping[type[nn.Module], type[nn.Module]] | None = None,
) -> None:
    """Make ``method``'s variant of each class in ``plain`` (`Film` of Conv2d: FilmConv2d), and `VARIANTS` of them.

    They are in the module of ``method``, where pickle looks for them. ``bases`` names another base than the plain
    class itself.
    """
    module = sys.modules[method.__module__]
    method.VARIANTS = {}
    for kind in plain:
        name = method.__name__ + kind.__name__
        doc = f"`{method.__name__}` on ``nn.{kind.__name__}``."
        body = {"__module__": method.__module__, "__doc__": doc, "PLAIN": kind}
        method.VARIANTS[kind] = type(name, (method, kind if bases is None else bases[kind]), body)
        setattr(module, name, method.VARIANTS[kind])


def num_outputs(layer: nn.Module) -> int:
    """The length of a bias: C_out of a convolution, the output features of a linear layer."""
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return cast(int, outputs)


def precise(tensor: Tensor) -> Tensor:
    """In float64 and on the CPU (not every device has float64), a DTensor whole; a meta tensor stays one."""
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().to(tensor.device if tensor.is_meta else "cpu", torch.float64)
