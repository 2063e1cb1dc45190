"""The exceptions of fusionconv. Every message says what was expected, what came, and what to do."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CovariateError",
    "CovariateTypeError",
    "EvaluationError",
    "FusionError",
    "LeakageWarning",
    "SplitWarning",
    "StudyError",
    "SurgeryError",
    "TableError",
    "TableWarning",
    "UnusedCovariatesWarning",
]


class FusionError(Exception):
    """Base class: ``except FusionError`` catches whatever the library itself raises on purpose."""


class CovariateError(FusionError, ValueError):
    """The covariates do not fit the layer or the batch: count, rows, device, NaN, or none given at all."""


class CovariateTypeError(CovariateError, TypeError):
    """The covariates are not a floating-point tensor."""


class SurgeryError(FusionError, ValueError):
    """A layer cannot be fused, unfused or merged; nothing was changed."""


class TableError(FusionError, ValueError):
    """A table does not say what it should: a missing column, an unknown code, a file that is not a table."""


class CheckpointError(FusionError, ValueError):
    """A checkpoint does not belong to this model, encoder or run."""


class TableWarning(UserWarning):
    """Something of a table was left out or read in a way that one may not expect: rows without image, Latin-1, ..."""


class EvaluationError(FusionError, ValueError):
    """Results cannot be compared or summarised: other lengths, NaN, one class only, subjects counted several times."""


class StudyError(FusionError, ValueError):
    """A study cannot be run as asked: an option, an arm, a folder that is taken, a loss that is not a number."""


class UnusedCovariatesWarning(UserWarning):
    """A call of a fused model ended without having run one of its fused layers: no covariates went in there."""


class SplitWarning(UserWarning):
    """A split was made, but a class is absent from a part, or one person may be on two sides under two ids."""


class LeakageWarning(UserWarning):
    """``check_leakage`` found what may leak, or could not check something."""
