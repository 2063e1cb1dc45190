"""The exceptions of fusionconv. Every message says what was expected, what it got, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "CheckpointError",
    "CovariateError",
    "CovariateTypeError",
    "EvaluationError",
    "ExplainError",
    "FusionError",
    "ImageError",
    "ImageWarning",
    "LayerChoiceWarning",
    "LeakageWarning",
    "RowsError",
    "SplitWarning",
    "StudyError",
    "SurgeryError",
    "TableError",
    "TableWarning",
    "UndefinedMetricError",
    "UnusedCovariatesWarning",
]


class FusionError(Exception):
    """Base class: ``except FusionError`` catches whatever the library itself raises on purpose.

    Example:
        >>> import torch, fusionconv
        >>> try:
        ...     fusionconv.unfuse(torch.nn.Conv2d(3, 8, 3))
        ... except fusionconv.FusionError as error:
        ...     print(type(error).__name__)
        SurgeryError
    """


class CovariateError(FusionError, ValueError):
    """The covariates do not fit the layer or the batch: count, rows, device, NaN, or none given at all.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv2d(3, 8, 3, num_covariates=2)
        >>> layer(torch.randn(4, 3, 8, 8), torch.randn(1, 2))  # one row for four images # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.CovariateError: ...
    """


class CovariateTypeError(CovariateError, TypeError):
    """The covariates are not a floating-point tensor.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv2d(3, 8, 3, num_covariates=2)
        >>> layer(torch.randn(4, 3, 8, 8), torch.ones(4, 2, dtype=torch.int64))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.CovariateTypeError: ...
    """


class SurgeryError(FusionError, ValueError):
    """A layer cannot be fused, unfused or merged; nothing was changed.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> fusionconv.fuse_into(model, "conv1", num_covariates=2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.SurgeryError: ...
    """


class TableError(FusionError, ValueError):
    """A table does not say what it should: a missing column, an unknown code, a file that is not a table.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import CovariateEncoder
        >>> CovariateEncoder(["age"]).fit(pd.DataFrame({"Age": [61, 70]}))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.TableError: ...
    """


class RowsError(TableError):
    """Some rows of one column are refused.

    Attributes:
        name: the column.
        rows: (number of rows of the table,) boolean, True where a row is refused.

    Example:
        >>> import pandas as pd, fusionconv
        >>> from fusionconv.tabular import CovariateEncoder
        >>> encoder = CovariateEncoder(["sex"]).fit(pd.DataFrame({"sex": ["F", "M", "F"]}))
        >>> try:
        ...     encoder.transform(pd.DataFrame({"sex": ["M", "X"]}))
        ... except fusionconv.RowsError as error:
        ...     print(error.name, error.rows)
        sex [False  True]
    """

    def __init__(self, message: str, name: str, rows: npt.NDArray[np.bool_], why: tuple[str, str, str]) -> None:
        super().__init__(message)
        self.name, self.rows, self.why = name, rows, why

    def reason(self, value: Any) -> str:
        """Why a row with this value is refused."""
        expected, got, do = self.why
        return f"expected {expected}, got {repr(value) if got == 'others' else got}; {do}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.name, self.rows, self.why)


class ImageError(FusionError, ValueError):
    """A file is not one readable 2-D image, or not one readable volume with known spacing and orientation.

    Example:
        >>> import pathlib, tempfile
        >>> from fusionconv.study.pictures import read_picture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "face.png").write_text("<html>")
        ...     read_picture(pathlib.Path(folder, "face.png"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.ImageError: ...
    """


class ImageWarning(UserWarning):
    """Images were read in a way that one may not expect: without contrast, colour made grey, transparent, ...

    Example:
        >>> import fusionconv, warnings
        >>> warnings.simplefilter("error", fusionconv.ImageWarning)  # stop a study at the first such image
        >>> warnings.simplefilter("default", fusionconv.ImageWarning)
    """


class CheckpointError(FusionError, ValueError):
    """A checkpoint does not belong to this model, encoder or run.

    Example:
        >>> import tempfile, torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), 0, num_covariates=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fusionconv.save(model, folder)
        ...     fusionconv.load(folder, torch.nn.Sequential(torch.nn.Conv2d(3, 9, 3)))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.CheckpointError: ...
    """


class TableWarning(UserWarning):
    """Something of a table was left out or read in a way that one may not expect: rows without image, Latin-1, ...

    Example:
        >>> import pathlib, tempfile, warnings
        >>> from fusionconv.tabular import read_paths_table
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = pathlib.Path(folder, "study.csv").write_text("id,file\\n1,absent.png\\n")
        ...     frame = read_paths_table(pathlib.Path(folder, "study.csv"), "file", subject="id")
        >>> caught[0].category.__name__, frame["image"].tolist()
        ('TableWarning', [nan])
    """


class EvaluationError(FusionError, ValueError):
    """Results cannot be compared or summarised: other lengths, NaN, one class only, subjects counted several times.

    Example:
        >>> from fusionconv.evaluation import roc_auc
        >>> roc_auc([0, 1, 1], [0.2, 0.5])  # two scores for three rows # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.EvaluationError: ...
    """


class UndefinedMetricError(EvaluationError):
    """A metric is not defined on most resamples, since a class or an event is too rare.

    Example:
        >>> from fusionconv.evaluation import bootstrap_interval
        >>> def largest_of_four_classes(target, score):  # one row of each class: few resamples hold all four
        ...     return score.max() if len(set(target)) == 4 else float("nan")
        >>> bootstrap_interval(largest_of_four_classes, [0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.UndefinedMetricError: ...
    """


class StudyError(FusionError, ValueError):
    """A study cannot be run as asked: an option, an arm, a folder that is taken, a loss that is not a number.

    Example:
        >>> from fusionconv.study import Study
        >>> Study(table="study.csv", target="dx", epoch=5)  # epochs # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.StudyError: ...
    """


class ExplainError(FusionError, ValueError):
    """A model cannot be looked at as asked: no such layer, a method without kernels, several outputs and no target.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import kernels
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, method="film")
        >>> kernels(model)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fusionconv.errors.ExplainError: ...
    """


class UnusedCovariatesWarning(UserWarning):
    """A call of a fused model ended without having run one of its fused layers: no covariates went in there.

    Example:
        >>> import torch, fusionconv, warnings
        >>> class Skips(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.used, self.spare = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)
        ...     def forward(self, x):
        ...         return self.used(x)
        >>> model = fusionconv.fuse_into(Skips(), "spare", num_covariates=1)
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = model(torch.randn(2, 3, 4, 4), torch.randn(2, 1))
        >>> caught[0].category.__name__
        'UnusedCovariatesWarning'
    """


class LayerChoiceWarning(UserWarning):
    """``layer_idx`` chose a layer that one may not expect: a projection shortcut, a linear layer, a patch embedding.

    Example:
        >>> import torch, fusionconv, warnings
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(32, 2))
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = fusionconv.fuse_into(net, 0, num_covariates=1, method="concat")  # 0 counts linear layers
        >>> caught[0].category.__name__
        'LayerChoiceWarning'
    """


class SplitWarning(UserWarning):
    """A split was made, but a class is absent from a part, or one person may be on two sides under two ids.

    Example:
        >>> import pandas as pd, warnings
        >>> from fusionconv.tabular import holdout
        >>> frame = pd.DataFrame({"subject": list("abcdef"), "dx": [0, 0, 0, 0, 0, 1]})
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = holdout(frame, stratify="dx")
        >>> caught[0].category.__name__
        'SplitWarning'
    """


class LeakageWarning(UserWarning):
    """``check_leakage`` found what may leak, or could not check something.

    Example:
        >>> import pandas as pd, warnings
        >>> from fusionconv.tabular import check_leakage
        >>> train, test = pd.DataFrame({"subject": ["a", "b"]}), pd.DataFrame({"subject": ["b", "c"]})
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     report = check_leakage(train, test, raise_on="never")
        >>> report.errors
        True
    """
