"""How covariates reach a layer deep inside a network: a stack of frames, one a call, one stack a thread.

A call of a fused model pushes a `Frame` (which model, which covariates) and pops it at the end, whatever happens.
A fused layer asks for the topmost frame of its own model. So models nest, threads and asyncio tasks share a model, and
nothing stays on a module: a layer that is reached without a call around it raises instead of using somebody else's
covariates.

Backward is the one time when layers run outside their call (activation checkpointing runs the forward again): there
the autograd node that runs knows the frame, see recompute.py. A frame of a call still open outside is not valid inside
backward. torch.compile cannot ask whether a backward is running, so a compiled part of a model goes by the frames on
the stack alone: one that was reinstated is there during backward and at no other time.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor

from fusionconv.covariate_checks import check_range, largest_magnitude
from fusionconv.errors import CovariateError
from fusionconv.strategies.running import is_baked
from fusionconv.surgery import recompute
from fusionconv.surgery.recompute import in_backward, noted, noting

__all__ = ["OF_ITS_OWN", "Frame", "Owner", "current_frame"]


class Owner:
    """Identity of a fused model, shared by its root and its fused layers (and copied with them by deepcopy).

    A copy of a part alone gets an identity without a root: its layers belong to no call, and raise.
    """

    def __init__(self, num_covariates: int, model_name: str, check_finite: bool = True) -> None:
        self.num_covariates = num_covariates
        self.model_name = model_name
        self.check_finite = check_finite
        self.layers: tuple[str, ...] = ()  # the names that the layers had when they were fused
        self.by_name = False  # whether its forward takes covariates=... only, and none by position


class _Stack(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []


_stack = _Stack()


class Frame:
    """``with Frame(owner, covariates):`` the covariates of the calls inside, for the layers of ``owner``.

    ``largest`` is what `largest_magnitude` gave: their values are looked at where a frame is made, once for all layers.
    None: nobody looked (``check_finite=False``), or they cannot be read.
    """

    def __init__(self, owner: Owner, covariates: Tensor, largest: float | None = None, by_hand: bool = False) -> None:
        self.owner = owner
        self.covariates = covariates
        self.largest = largest
        self.looked_at: int | None = None  # the version of the tensor then
        if largest is not None and not covariates.is_inference():
            self.looked_at = covariates._version
        self.by_hand = by_hand  # opened by `covariates()`: its layers may run in any call, not only the root's
        self.reached: set[str] = set()  # the layers that took these covariates (not told while compiling)
        self.during_backward = False
        self.graph_task = -1  # the backward pass that it was opened in
        self.reinstated = False
        self.traced = False
        self.recorded = is_baked()  # opened inside a recording, whose program opens it too
        self.version: int | None = None
        self.task: object = None  # the asyncio task that opened it; None outside of one
        self.recorder: AbstractContextManager[object] = nullcontext()

    def __enter__(self) -> Frame:
        if not torch.compiler.is_compiling():
            self.version = None if self.covariates.is_inference() else self.covariates._version
            self.task = _current_task()
            self.during_backward, self.graph_task = in_backward(), torch._C._current_graph_task_id()
            if not self.during_backward:  # a node that raised in an earlier backward has left its frame behind
                _stack.frames[:] = [frame for frame in _stack.frames if not frame.during_backward]
            self.recorder = noting(self, self.reinstate, self.retire)
            self.recorder.__enter__()
        else:
            self.traced = True
        _stack.frames.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if torch.compiler.is_compiling():  # a trace has no backward inside: the frame is the topmost one
            _stack.frames.pop()
        else:
            at = max(i for i, frame in enumerate(_stack.frames) if frame is self)
            above = _stack.frames[at + 1 :]
            del _stack.frames[at]
            self.recorder.__exit__(None, None, None)
            self.recorder, self.task = nullcontext(), None  # it refers to this frame, which would keep itself alive
            if exception[:1] in ((), (None,)) and any(
                frame.owner is self.owner and frame.task is self.task and not frame.during_backward for frame in above
            ):
                raise CovariateError(
                    f"covariates of {self.owner.model_name} were closed while others, opened later, are still open: "
                    "what was computed in between had the later ones. Generators that hold `with "
                    "fusionconv.covariates(...)` open across a yield do this when they take turns; give the covariates "
                    "to each call: model(x, s)"
                )

    def reinstate(self) -> Frame:
        """Push these covariates again, for one autograd node of this call that is about to run backward."""
        self.refuse_changes()
        # of no task: no other one runs within a backward pass
        again = Frame(self.owner, self.covariates, self.largest)
        again.during_backward = again.reinstated = True
        _stack.frames.append(again)
        return again

    def look_again(self) -> float | None:
        """``largest``, of the values that the covariates have now, if they were changed in place since.

        Raises:
            CovariateError: NaN or infinity; which rows.
        """
        if self.looked_at is not None and self.covariates._version != self.looked_at:
            self.largest, self.looked_at = largest_magnitude(self.covariates), self.covariates._version
        return self.largest

    def check_values(self, dtype: torch.dtype) -> None:
        """Raise a CovariateError if a layer of this ``dtype`` cannot hold them (float16 ends at 65504)."""
        check_range(self.covariates, self.look_again(), dtype)

    def refuse_changes(self) -> None:
        """Raise a CovariateError if the covariates are no longer those that the call was made with."""
        if self.version is not None and self.covariates._version != self.version:
            raise CovariateError(
                f"the covariates of a call of {self.owner.model_name} were changed in place before its backward pass, "
                "which would compute with the new values; give each call a tensor of its own (covariates.clone())"
            )

    def retire(self, again: Frame) -> None:
        """Take that frame off when the node is done."""
        if again in _stack.frames:
            _stack.frames.remove(again)


def current_frame(owner: Owner) -> Frame | None:
    """The frame of the innermost call of ``owner``'s model in this thread, or None outside any.

    Raises:
        CovariateError: a program is being recorded, and would keep the covariates of a frame that it does not open.
    """
    frame = _frame_in_a_trace(owner) if torch.compiler.is_compiling() else _frame_in_eager_mode(owner)
    if frame is not None and not frame.recorded and is_baked():
        raise CovariateError(
            f"{owner.model_name} is recorded (torch.export, ONNX, torch.jit.trace, torch.fx) inside a `with "
            "fusionconv.covariates(...)` block, whose covariates would become constants of the program, the same for "
            "all images; give the covariates as an argument of the recorded call: torch.export.export(model, "
            + ('(images,), {"covariates": s})' if owner.by_name else "(images, covariates))")
            + ", or open the block in the forward that is recorded. For one covariate vector: fusionconv.merge"
        )
    return frame


def _frame_in_eager_mode(owner: Owner) -> Frame | None:
    if in_backward():
        return _frame_in_backward(owner)
    task = _current_task()
    for frame in reversed(_stack.frames):
        # another task's frame, left open while that one waits, holds somebody else's covariates
        if frame.owner is owner and not frame.during_backward and frame.task in (None, task):
            return frame
    return None


def _frame_in_backward(owner: Owner) -> Frame | None:
    """That of a call made in this very backward pass and still open, or of the call whose node is running."""
    graph_task = torch._C._current_graph_task_id()
    for frame in reversed(_stack.frames):
        if frame.owner is owner and frame.graph_task == graph_task and not frame.reinstated:
            return frame
    for frame in noted():
        if frame.owner is owner:
            frame.refuse_changes()
            return cast(Frame, frame)
    return None


def _current_task() -> object:
    """The asyncio task that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


_outside_the_graph = getattr(torch._compile, "_disable_dynamo", torch.compiler.disable)  # the first loads no compiler
_frame_outside_the_graph = _outside_the_graph(_frame_in_eager_mode)


def _frame_in_a_trace(owner: Owner) -> Frame | None:
    """The same for torch.compile, which guards on what it reads here, so that other frames are traced anew.

    On torch < 2.15 nothing is reinstated, and a part compiled in forward could be run again in backward by the frame
    of a call that is still open. There only a frame opened in the same trace counts; a part compiled by itself asks
    outside of its graph, which breaks that in two, or with fullgraph=True raises.
    """
    during_backward = False
    for frame in _stack.frames:
        during_backward = during_backward or frame.during_backward
    for frame in reversed(_stack.frames):
        if frame.owner is owner:
            if frame.traced:
                return frame
            if recompute.CAN_RECOMPUTE and frame.during_backward == during_backward:
                return frame
    if recompute.CAN_RECOMPUTE:
        return None
    outside: Frame | None = _frame_outside_the_graph(owner)
    return outside


OF_ITS_OWN = (
    "To use a part twice (a student and its teacher), fuse the part itself and copy that: part = fuse_into(part, ...), "
    "teacher = copy.deepcopy(part), each called as part(x, covariates)"
)


def missing_covariates(owner: Owner) -> CovariateError:
    """The error for a layer or a model that is reached without covariates."""
    name = owner.model_name
    if not torch.compiler.is_compiling() and in_backward():
        if recompute.CAN_RECOMPUTE:
            return CovariateError(
                f"{name} is called during backward from outside its call: a hook runs a layer anew, as Opacus does for "
                "per-sample gradients, and nothing says which covariates it needs. Take per-sample gradients with "
                "torch.func: vmap(grad(loss)) over functional_call(model, parameters, (image[None], row[None]))"
            )
        return CovariateError(
            f"{name} is run again during backward (activation checkpointing), where torch {torch.__version__} cannot "
            "tell which covariates belong to the call; use torch >= 2.15, or checkpoint around the whole call: "
            "checkpoint(model, images, covariates, use_reentrant=False)"
        )
    return CovariateError(
        f"{name} was fused with {owner.num_covariates} covariate(s) and needs them in every call: "
        + ("by name, model(images, covariates=s)" if owner.by_name else "model(images, covariates), or covariates=...")
        + f", of shape (N, {owner.num_covariates}); for other methods of the model use "
        "`with fusionconv.covariates(model, s): ...`"
        + (f". A copy of a part of it belongs to no call. {OF_ITS_OWN}" if _stack.frames else "")
    )
