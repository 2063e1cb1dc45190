"""A guard against wrong patients: fused models inside MONAI's sliding-window inference without window coordinates.

`sliding_window_inference` makes batches of windows that may come from several volumes, and a window's place in the
batch says nothing of its volume. Where the number of windows happens to equal the number of covariate rows, the check
of row counts passes and every window but a few gets somebody else's row. So a call of a fused model looks up the
Python stack for that function and refuses what cannot be right. `fusionconv.window_predictor` is the way that is.

Cost of a call (CPython 3.11, a busy 2-core AMD EPYC): 0.1 us where MONAI is not imported, else about 0.1 us for each
Python frame on the stack (5 us at 50 frames).

What it cannot see: models that run without Python (torch.compile after the first call, exported programs), other
threads (nn.DataParallel on several GPUs), sliding windows of other libraries, and a predictor that is given the
coordinates and does not use them.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor

from fusionconv.errors import CovariateError
from fusionconv.strategies.running import can_read

__all__ = ["Windows", "check_windows", "enclosing_windows"]

FUNCTION, MODULE = "sliding_window_inference", "monai.inferers.utils"


class Windows(NamedTuple):
    """A running `sliding_window_inference`: how many volumes it cuts, and whether it tells the coordinates."""

    volumes: int
    with_coord: bool


def enclosing_windows() -> list[Windows]:
    """MONAI's sliding-window inferences that this call runs inside of, the innermost first."""
    if torch.compiler.is_compiling() or MODULE not in sys.modules:
        return []
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == FUNCTION and frame.f_globals.get("__name__") == MODULE:
            names = frame.f_locals
            found.append(Windows(len(names["inputs"]), bool(names.get("with_coord", False))))
        frame = frame.f_back
    return found


def check_windows(model_name: str, covariates: Tensor) -> None:
    """Raise where these covariates cannot be known to fit the windows of a sliding-window inference around this call.

    Allowed: coordinates are given (``with_coord=True``), or there is one volume and all rows are its one row.

    Raises:
        CovariateError: several volumes, or one volume and rows that differ, without coordinates.
    """
    for windows in enclosing_windows():
        if windows.with_coord:
            continue
        if windows.volumes != 1:
            raise CovariateError(
                f"{model_name} is called inside MONAI's sliding_window_inference over {windows.volumes} volumes "
                "without window coordinates, so that nothing says which volume's covariates a window needs; use "
                "sliding_window_inference(volumes, roi_size, sw_batch_size, fusionconv.window_predictor(model, "
                "covariates), with_coord=True), or infer one volume at a time"
            )
        if not _rows_are_equal(covariates):
            raise CovariateError(
                f"{model_name} is called inside MONAI's sliding_window_inference over one volume with covariate rows "
                "that differ; all its windows need the volume's own row: fusionconv.window_predictor(model, row) with "
                "row of shape (1, K) and with_coord=True (or row.expand(len(windows), -1)). For rows that belong to "
                "each window, take the coordinates too: with_coord=True, predictor(windows, coords)"
            )


def _rows_are_equal(covariates: Tensor) -> bool:
    """Whether they are, as far as they can be read."""
    return not can_read(covariates) or bool((covariates == covariates[:1]).all())
