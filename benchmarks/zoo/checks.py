"""The four checks of one network, and the record that they leave.

1. start    with V = 0 the fused network gives the plain network's outputs.
2. rows     with V set in one layer, sample i's output is the plain network's with W + sum_j s_ij V_j written into
            that layer. Once for each of the three layers.
   alone    with V set in all three, sample i's output is the plain network's with the three kernels written in, run on
            sample i alone, and V's gradients are sum_i s_ij dL/dkernel_i from those runs (`gradient`). Permuting images
            and rows together permutes the outputs (`permuted`).
3. train    after loss.backward() in training mode each V has a finite gradient that is not all zero.
4. unfuse   gives back classes, state_dict and outputs, bit by bit.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

import fusionconv
from benchmarks.zoo.case import Case, Shape, build, call, inputs_for, precision, settle
from benchmarks.zoo.choose import (
    GRADIENT_FACTOR,
    SAMPLES,
    SMALLEST,
    K,
    Layer,
    TooCoarseError,
    choose,
    kernels_written,
    rows,
    tolerance,
)
from benchmarks.zoo.outputs import apart, distance, flatten, loss, split

__all__ = ["CHECKS", "check"]

NUMBERS = ("start", "rows", "permuted", "alone", "gradient")  # compared within a tolerance
CHECKS = (*NUMBERS, "train", "unfuse")
Record = dict[str, Any]


class FaultError(Exception):
    """A check says that the fused network is wrong."""


class RefusedError(Exception):
    """No convolution of the network can be fused, or none can be judged."""


class PlainError(Exception):
    """The plain network does not run here, so there is nothing to compare with."""


def check(case: Case) -> Record:
    """Run every check on ``case``. What goes wrong is in the record; only interrupts and time-outs are raised.

    The record's ``status`` is "pass", "refused" (no convolution can be fused, with the reasons), "fail" (the fused
    network is wrong, or raises where the plain one does not) or "error" (the plain network does not run here).
    """
    started = time.process_time()
    record: Record = {}
    for dtype in (torch.float64,) if case.double else (torch.float32, torch.float64):
        record = {"library": case.library, "group": case.group, "name": case.name, "note": case.note}
        record.update(status="fail", reason="", passed=[], layers=[], figures={}, remarks=[])
        try:
            _check(case, record, dtype)
            record["status"] = "pass"
        except (FaultError, RefusedError, PlainError) as verdict:
            record["status"] = {FaultError: "fail", RefusedError: "refused", PlainError: "error"}[type(verdict)]
            record["reason"] = str(verdict)
        except TooCoarseError:
            continue
        except TimeoutError:
            raise
        except Exception as error:  # the fused network, or the surgery, raises
            record["reason"] = _say(error)
        few = record["status"] == "pass" and len(record["layers"]) < min(3, record["convolutions"])
        numbers = record["status"] == "fail" and record["reason"].split(":")[0] in NUMBERS
        if dtype is torch.float64 or not (few or numbers or record["status"] == "refused"):
            break  # otherwise float32 was perhaps not sharp enough: once more in float64
    record["seconds"] = round(time.process_time() - started, 1)
    return record


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _check(case: Case, record: Record, dtype: torch.dtype) -> None:
    try:
        plain, shape = _plain(case, dtype)
    except TimeoutError:
        raise
    except Exception as error:
        raise PlainError(_say(error)) from error
    convs = fusionconv.list_convs(plain)
    record.update(
        parameters=sum(p.numel() for p in plain.parameters()),
        convolutions=len(convs),
        dtype=str(dtype)[6:],
        shape=shape,
    )
    if not convs:
        raise RefusedError("it holds no convolution")
    with precision(dtype):
        model = copy.deepcopy(plain)
        inputs, s = inputs_for(case, shape, SAMPLES, dtype), rows(dtype)
        layers, unavailable = choose(case, plain, model, inputs, dtype)
        record["layers"] = [
            {"which": a.which, "index": a.index, "name": a.name, "kind": a.kind, "passed_over": a.passed_over}
            for a in layers
        ]
        if not layers:
            raise RefusedError("; ".join(dict.fromkeys(unavailable)))
        before = _describe(model)
        with torch.no_grad():
            base = call(case, model, inputs)
        for layer in layers:  # in later calls on purpose
            fusionconv.fuse_into(model, layer.index, K)

        limits = [tolerance(layer.effect, dtype) for layer in layers]
        _start(case, record, model, inputs, s, flatten(base), min(limits))
        for layer, limit in zip(layers, limits, strict=True):
            _rows(case, record, model, layer, inputs, s, limit)
        _alone(case, record, model, plain, layers, inputs, s, dtype, min(limits))
        _train(case, record, model, layers, inputs, s)
        _unfuse(case, record, model, plain, inputs, before, base)


def _plain(case: Case, dtype: torch.dtype) -> tuple[nn.Module, Shape]:
    """The network and the smallest shape that it takes."""
    error: Exception | None = None
    for shape in case.shapes:
        try:
            model = build(case, shape, dtype)
            with precision(dtype), torch.no_grad():
                split(settle(case, model, inputs_for(case, shape, SAMPLES, dtype)), SAMPLES, case.per_image)
                flatten(call(case, model, inputs_for(case, shape, 1, dtype)))
            return model, shape
        except TimeoutError:
            raise
        except Exception as problem:
            error = problem
    assert error is not None, "a case needs at least one shape"
    raise error


def _passed(record: Record, name: str, figure: float, limit: float, what: str) -> None:
    record["figures"][name] = max(figure, record["figures"].get(name, 0.0))
    if not figure <= limit:
        raise FaultError(f"{name}: {what} ({figure:.1e} of the size of the outputs, allowed {limit:.0e})")
    if name not in record["passed"]:
        record["passed"].append(name)


def _start(
    case: Case, record: Record, model: nn.Module, inputs: tuple[Tensor, ...], s: Tensor, base: list[Tensor], tol: float
) -> None:
    with torch.no_grad():
        output = flatten(call(case, model, inputs, s))
    _passed(record, "start", distance(output, base), tol, "with V = 0 the outputs are not the plain network's")


def _rows(
    case: Case, record: Record, model: nn.Module, layer: Layer, inputs: tuple[Tensor, ...], s: Tensor, tol: float
) -> None:
    fused: Any = model.get_submodule(layer.name)
    where = f"layer {layer.name}"
    with torch.no_grad():
        fused.covariate_weight.copy_(layer.V)
        output = split(call(case, model, inputs, s), SAMPLES, case.per_image)
        fused.covariate_weight.zero_()
    off = max(distance(output[i], layer.expected[i]) for i in range(SAMPLES))
    _passed(record, "rows", off, tol, f"{where}: outputs do not follow the covariates as W + sum_j s_ij V_j says")


def _alone(
    case: Case,
    record: Record,
    model: nn.Module,
    plain: nn.Module,
    layers: list[Layer],
    inputs: tuple[Tensor, ...],
    s: Tensor,
    dtype: torch.dtype,
    limit: float,
) -> None:
    V = {layer.name: layer.V for layer in layers}
    modules: dict[str, Any] = {name: model.get_submodule(name) for name in V}
    with torch.no_grad():
        for name, kernel in V.items():
            modules[name].covariate_weight.copy_(kernel)
    model.requires_grad_(False)  # no gradients but those compared: half the time, and a usual way to use the library
    plain.requires_grad_(False)
    for name in V:
        modules[name].covariate_weight.requires_grad_(True)
        plain.get_submodule(name).weight.requires_grad_(True)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        mixed = split(call(case, model, tuple(t[order] for t in inputs), s[order]), SAMPLES, case.per_image)
    output = split(call(case, model, inputs, s), SAMPLES, case.per_image)
    off = max(distance(mixed[k], output[i]) for k, i in enumerate(order.tolist()))
    _passed(record, "permuted", off, limit, "permuting images and rows together does not permute the outputs")
    torch.stack([loss(part, i) for i, part in enumerate(output)]).sum().backward()
    gradients: dict[str, list[Tensor]] = {name: [] for name in V}
    for i in range(SAMPLES):
        (one,) = _sample(case, plain, V, inputs, s, [i], gradients)
        what = f"sample {i} is not what the plain network with its kernels gives for it alone"
        _passed(record, "alone", distance(output[i], one), limit, what)
    try:
        _gradients(record, modules, gradients, s, dtype)
    except FaultError as fault:  # is it the plain network whose gradients depend on the number of samples?
        twice: dict[str, list[Tensor]] = {name: [] for name in V}
        for i in range(SAMPLES):
            _sample(case, plain, V, inputs, s, [i, i], twice)
        _gradients(record, modules, twice, s, dtype)
        record["remarks"].append(
            "the plain network's gradients for one sample alone are not those of the sample in a batch of two, a fault "
            f"of this torch or library; V's gradients are those of the batch ({str(fault).split(' (', 1)[1]}"
        )
    model.requires_grad_(True).zero_grad()
    plain.requires_grad_(True).zero_grad()


def _sample(
    case: Case,
    plain: nn.Module,
    V: dict[str, Tensor],
    inputs: tuple[Tensor, ...],
    s: Tensor,
    batch: list[int],
    gradients: dict[str, list[Tensor]],
) -> list[list[Tensor]]:
    """The plain network with the kernels of sample ``batch[0]``, on ``batch``; its kernels' gradients are appended."""
    plain.zero_grad()
    with kernels_written(plain, V, s[batch[0]]):
        output = split(call(case, plain, tuple(t[batch] for t in inputs)), len(batch), case.per_image)
        loss(output[0], batch[0]).backward()
    for name, found in gradients.items():
        weight = plain.get_submodule(name).weight
        found.append(torch.zeros_like(weight) if weight.grad is None else weight.grad.clone())
    return output


def _gradients(
    record: Record, modules: dict[str, Any], gradients: dict[str, list[Tensor]], s: Tensor, dtype: torch.dtype
) -> None:
    """V's gradients against sum_i s_ij dL/dkernel_i."""
    record["figures"].pop("gradient", None)
    for name, found in gradients.items():
        G = torch.stack(found)
        expected = torch.einsum("nk,n...->k...", s, G)
        power = apart(expected, torch.einsum("nk,n...->k...", s.roll(1, 0), G)) / GRADIENT_FACTOR
        if power < SMALLEST[dtype]:
            if dtype is torch.float32:
                raise TooCoarseError(name)
            record["remarks"].append(f"{name}: its gradient is too small to tell the rows apart")
        got = modules[name].covariate_weight.grad
        got = torch.zeros_like(expected) if got is None else got
        what = f"layer {name}: V's gradient is not sum_i s_ij dL/dkernel_i"
        _passed(record, "gradient", apart(got, expected), GRADIENT_FACTOR * tolerance(power, dtype), what)


def _train(
    case: Case, record: Record, model: nn.Module, layers: list[Layer], inputs: tuple[Tensor, ...], s: Tensor
) -> None:
    tensors = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers())]  # a codebook learns in a call
    modes = [(m, m.training) for m in model.modules()]
    weights: list[Any] = [model.get_submodule(layer.name) for layer in layers]
    model.train()
    reason = ""
    for seed in range(3):  # stochastic depth may drop a layer for one seed
        model.zero_grad()
        try:
            output = [t for t in flatten(call(case, model, inputs, s, seed=seed)) if t.requires_grad]
            loss(output, 0).backward()
        except (ValueError, AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
            if _trains(case, model, inputs, seed):
                raise
            record["remarks"].append(f"the plain network does not train on these inputs ({_say(error)[:80]})")
            record["figures"]["train"] = None
            break
        grads = [layer.covariate_weight.grad for layer in weights]
        reason = ""
        for layer, grad in zip(layers, grads, strict=True):
            if grad is None or not grad.isfinite().all() or not grad.any():
                state = "none" if grad is None else "not finite" if not grad.isfinite().all() else "all zero"
                reason = f"train: layer {layer.name}: V's gradient is {state} after loss.backward()"
        if not reason:
            record["passed"].append("train")
            break
    model.zero_grad()
    with torch.no_grad():
        for tensor, value in tensors:
            tensor.copy_(value)
    for module, mode in modes:
        module.training = mode
    if reason:
        raise FaultError(reason)


def _trains(case: Case, model: nn.Module, inputs: tuple[Tensor, ...], seed: int) -> bool:
    """Whether the network without covariates trains on these inputs (a copy: ``model`` stays fused)."""
    plain = fusionconv.unfuse(copy.deepcopy(model))
    try:
        loss([t for t in flatten(call(case, plain, inputs, seed=seed)) if t.requires_grad], 0).backward()
    except (ValueError, AssertionError, RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def _describe(model: nn.Module) -> dict[str, tuple[int, type, list[str]]]:
    return {name: (id(m), type(m), sorted(m.__dict__)) for name, m in model.named_modules()}


def _unfuse(
    case: Case,
    record: Record,
    model: nn.Module,
    plain: nn.Module,
    inputs: tuple[Tensor, ...],
    before: dict[str, tuple[int, type, list[str]]],
    base: Any,
) -> None:
    fusionconv.unfuse(model)
    if _describe(model) != before:
        raise FaultError("unfuse: modules, classes or attributes are not what they were")
    old, new = plain.state_dict(), model.state_dict()
    if list(old) != list(new) or any(not _equal(old[key], new[key]) for key in old):
        raise FaultError("unfuse: the state_dict is not what it was")
    with torch.no_grad():
        output = flatten(call(case, model, inputs))
    if not all(torch.equal(a, b) for a, b in zip(output, flatten(base), strict=True)):
        raise FaultError("unfuse: the outputs are not bit by bit what they were")
    record["passed"].append("unfuse")


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)
