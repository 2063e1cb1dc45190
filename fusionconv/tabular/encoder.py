"""CovariateEncoder: from a table's columns to the vector s_i that a hybrid layer takes, fitted on training rows."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import CheckpointError, TableError, TableWarning
from fusionconv.tabular.columns import named_rows, require_names
from fusionconv.tabular.encoderfacts import EncoderFacts
from fusionconv.tabular.fitted import Defaults, FittedColumn, fit_column
from fusionconv.tabular.kinds import Kind, as_kind
from fusionconv.tabular.kinds.categorical import Unknown, as_unknown
from fusionconv.tabular.labels import Label
from fusionconv.tabular.missing import Indicator, Missing, as_codes, as_indicator, as_missing
from fusionconv.tabular.saved import encoder_from_dict, encoder_to_dict

__all__ = ["CovariateEncoder"]

_PARAMS = ("columns", "kinds", "missing", "indicator", "missing_codes", "unknown")
_ROWS = 1024


class CovariateEncoder(EncoderFacts):
    r"""Turn named columns of a table into float32 covariates, row by row, with what was learnt from the training rows.

    Each column has a *kind*, declared in ``kinds`` or inferred from the training rows; :meth:`summary` tells which:

    =========== ================================================== =====================================================
    kind        a value becomes                                    inferred for
    =========== ================================================== =====================================================
    numeric     s = (v - center) / scale                           numbers
    binary      0 or 1, so that all zeros is the plain convolution numbers that are all 0 or 1, booleans, two texts
    categorical one-hot, one covariate for each category           3 to 50 texts
    ordinal     its rank, scaled as a number                       ordered pandas categoricals
    censored    a clipped number and flags below and above         numbers as text with some such as ">1700"
    age         years from a date to that of measurement, scaled   never: ``Age(at=...)``
    =========== ================================================== =====================================================

    By default a numeric column is z-scored, with the population standard deviation as in scikit-learn's
    ``StandardScaler``:

    .. math:: s = (v - \mu) / \sigma, \quad \mu = \tfrac1n \sum v, \quad \sigma^2 = \tfrac1n \sum (v - \mu)^2

    Sums run over the training rows that have a value; s is 0 at the training mean, and has no unit. Fit on training
    rows only: statistics of other rows would leak into training.

    A missing value (None, NaN, NA, NaT, or a declared code) is an error unless ``missing`` says what it becomes. A code
    such as -4 or "NA" is never taken for missing unasked; :meth:`fit` warns of values that look like one.

    Args:
        columns: the names of the columns, in the order of the covariates.
        kinds: ``{"column": kind}`` where the inference is not wanted: a word from the table above, an object such as
            ``Binary({"F": 0, "M": 1})`` or ``Numeric("robust", missing="mean")``, whose options go before those below,
            or the same as plain data, for YAML: ``{"kind": "numeric", "scaling": "robust", "missing": "mean"}``.
        missing: ``"error"``; ``"mean"``, the mean of the encoded training rows (for a category its share); ``"zero"``,
            covariates that are all 0; or a constant in the column's own unit.
        indicator: a covariate ``<column>_missing``, 1 where the value was missing: ``"auto"``, where any training row
            missed it; ``"always"``; ``"never"``. Under ``"auto"`` a column that no training row missed refuses a
            missing value.
        missing_codes: values that mean "missing" in any of the columns, such as ``[-4, "NA"]``.
        unknown: a category that no training row has: ``"error"``, or ``"ignore"``, zeros in all covariates of a
            categorical column, and of a binary one the share of ones. :meth:`unknown_counts` counts them.

    Raises:
        TableError: no columns, a name twice, an unknown kind, or a kind for a column that is not encoded.

    >>> train = pd.DataFrame({"age": [60, 70, 80], "Male": [0, 1, 1], "site": ["A", "B", "C"]})
    >>> encoder = CovariateEncoder(["Male", "age"]).fit(train)
    >>> encoder
    CovariateEncoder(Male: binary, age: numeric (mean 70, scale 8.16497); fitted on 3 rows)
    >>> encoder.transform(pd.DataFrame({"age": [70, 80], "Male": [True, False]}))
    array([[1.       , 0.       ],
           [0.       , 1.2247449]], dtype=float32)
    >>> encoder = CovariateEncoder(["site", "age"], missing="mean", indicator="always").fit(train)
    >>> encoder.get_feature_names_out().tolist()
    ['site_A', 'site_B', 'site_C', 'site_missing', 'age', 'age_missing']
    """

    def __init__(
        self,
        columns: Sequence[str],
        kinds: Mapping[str, Kind | str | Mapping[str, Any]] | None = None,
        *,
        missing: Missing = "error",
        indicator: Indicator = "auto",
        missing_codes: Iterable[Label] = (),
        unknown: Unknown = "error",
    ) -> None:
        names = [] if isinstance(columns, str) else list(columns)
        if not names or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
            raise TableError(
                f"expected a list of different column names such as ['Male', 'Young'], got {columns!r}; name at least "
                "one column, each once (a model without covariates needs no encoder)"
            )
        self.columns: tuple[str, ...] = tuple(names)
        require_names(kinds or {}, self.columns, "column in kinds", "columns")
        self.kinds: dict[str, Kind] = {name: as_kind(kind, name) for name, kind in (kinds or {}).items()}
        self.missing = as_missing(missing)
        self.indicator = as_indicator(indicator)
        self.missing_codes = as_codes(missing_codes)
        self.unknown = as_unknown(unknown)
        if (
            self.missing == "error"
            and self.indicator == "always"
            and all(k.missing is None for k in self.kinds.values())
        ):
            raise TableError(
                "expected missing='mean', 'zero' or a constant with indicator='always', got missing='error', "
                "which refuses every missing value; give one of these"
            )
        self._fitted: tuple[FittedColumn, ...] | None = None
        self._num_rows = 0
        self._container: Literal["default", "pandas"] = "default"

    def fit(
        self,
        frame: pd.DataFrame,
        y: Any = None,
        *,
        target: str | Sequence[str] | None = None,
        ids: str | Sequence[Any] | None = None,
    ) -> CovariateEncoder:
        """Learn from ``frame``, the training rows; ``y`` is not used (scikit-learn's pipelines give it).

        Args:
            frame: the training rows, and no others.
            y: not read. Where it has a name (a column of a table), it is treated as ``target``.
            target: the column or columns that the model will predict, refused among the covariates.
            ids: as for :meth:`transform`.

        Raises:
            TableError: an absent or doubled column, no rows, the target among the covariates, a missing value that is
                refused, a value that is not of its column's kind, a constant column, or a kind that cannot be inferred.

        Warns:
            UserWarning: values that look like codes for "missing" (-4, 999, "NA") and are not declared. A
                ``missing_codes=[]`` in the column's kind says that they are values.
            UserWarning: whole numbers that may be codes (sex 1 and 2, side 1 to 3) and are taken as measures, with the
                line that declares them (docs/covariates.md has the rule). A declared kind says what they are.
        """
        self._require_rows(frame)
        frame = named_rows(frame, ids)
        self._refuse_target(target, y)
        defaults = Defaults(self.missing, self.indicator, self.missing_codes, self.unknown)
        fitted = tuple(fit_column(frame, name, self.kinds.get(name), defaults) for name in self.columns)
        names = [name for column in fitted for name in column.feature_names]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise TableError(f"expected different names of covariates, got several of {twice}; rename a column")
        self._warn(fitted)
        self._fitted, self._num_rows = fitted, len(frame)
        return self

    def transform(self, frame: pd.DataFrame, *, ids: str | Sequence[Any] | None = None) -> Any:
        """Encode the rows of ``frame`` in their order; each row by itself, whatever other rows there are.

        Args:
            frame: the rows.
            ids: what names a row in a message: a column such as ``"subject"``, or a name for each row. By default the
                index, with the name that the index has.

        Returns:
            float32 array of shape (N, K), K = :attr:`num_covariates`; a DataFrame after :meth:`set_output`.

        Raises:
            TableError: not fitted, an absent or doubled column, no rows, a missing value that is refused, or a value
                that is not of its column's kind (an unknown category, text for a number).
        """
        fitted = self._require_fitted()
        self._require_rows(frame)
        index = frame.index
        frame = named_rows(frame, ids)
        blocks = [column.encode(frame) for column in fitted]
        out = np.empty((len(frame), self.num_covariates), dtype=np.float32)
        for start in range(0, len(out), _ROWS):  # so few rows at a time stay in the processor's cache
            rows = slice(start, start + _ROWS)
            np.concatenate([block[rows] for block in blocks], axis=1, out=out[rows])
        if self._container == "pandas":
            return pd.DataFrame(out, index=index, columns=self.get_feature_names_out())
        return out

    def fit_transform(self, frame: pd.DataFrame, y: Any = None, *, target: str | Sequence[str] | None = None) -> Any:
        """``fit(frame)`` and then ``transform(frame)``; for the training rows only."""
        return self.fit(frame, y, target=target).transform(frame)

    def inverse_transform(self, covariates: npt.ArrayLike) -> pd.DataFrame:
        """The columns that :meth:`transform` would make these covariates of, as far as float32 keeps them.

        Missing again are values whose indicator is 1, and labels whose covariates are none of the codes (a share filled
        in, the zeros of an unknown category). A number filled in without an indicator comes back as that number. Of
        dates only the age in years is known: it comes back as ``<column>_age``.

        Args:
            covariates: (N, K).

        Raises:
            TableError: not fitted, or not (N, K).
        """
        fitted = self._require_fitted()
        values = np.asarray(covariates, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.num_covariates:
            raise TableError(
                f"expected covariates of shape (N, {self.num_covariates}), got {values.shape}; give transform's"
            )
        return pd.DataFrame(
            {
                c.feature_names[0] if c.kind.tag == "age" else c.name: c.decode(values[:, place])
                for c, place in zip(fitted, self.groups.values(), strict=True)
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything of a fitted encoder as strings, numbers, lists and dicts: fit for JSON and for a checkpoint."""
        return encoder_to_dict(self.get_params(), self._require_fitted(), self._num_rows)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CovariateEncoder:
        """The encoder that :meth:`to_dict` wrote; floats come back exactly.

        Raises:
            CheckpointError: this is not what ``to_dict`` wrote, or another version wrote it.

        >>> encoder = CovariateEncoder(["age"]).fit(pd.DataFrame({"age": [60, 70, 81]}))
        >>> import json
        >>> CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
        True
        """
        params, fitted, num_rows = encoder_from_dict(saved)
        try:
            encoder = cls(**params)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"expected what to_dict() writes, got a damaged encoder ({error}); load the checkpoint again from its "
                "source, or fit a new encoder"
            ) from error
        encoder._fitted, encoder._num_rows = fitted, num_rows
        return encoder

    def require_same(self, names: Sequence[str]) -> None:
        """Raise unless ``names`` are this encoder's columns in this order: kernel j belongs to covariate j.

        Call it on the encoder of a checkpoint, with the columns of the run that wants to use the checkpoint.

        Raises:
            CheckpointError: names or their order differ.
        """
        own, run = list(self.columns), list(names)
        if own == run:
            return
        absent, extra = [n for n in own if n not in run], [n for n in run if n not in own]
        parts = [f"without {', '.join(absent)}"] * bool(absent) + [f"with {', '.join(extra)} too"] * bool(extra)
        raise CheckpointError(
            f"expected the checkpoint's covariates {own}, got {run} ({', '.join(parts) or 'the order differs'}); each "
            "learnt kernel belongs to one covariate: give the run the checkpoint's list, or train from another start"
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in _PARAMS}

    def set_params(self, **params: Any) -> CovariateEncoder:
        """Change arguments of the constructor; the encoder is then not fitted.

        Raises:
            TableError: an unknown argument, or one that the constructor refuses; nothing is changed then.
        """
        require_names(params, _PARAMS, "parameter")
        fresh = type(self)(**{**self.get_params(), **params})
        fresh._container = self._container
        self.__dict__.update(fresh.__dict__)
        return self

    def set_output(self, *, transform: Literal["default", "pandas"] | None = None) -> CovariateEncoder:
        """What :meth:`transform` gives, as scikit-learn's transformers take it.

        Args:
            transform: ``"default"``: a float32 array; ``"pandas"``: a DataFrame of float32 with the names of
                the covariates and the index of the rows; None: as it is.

        Raises:
            TableError: another word (``"polars"``).

        >>> train = pd.DataFrame({"age": [60, 70, 80]}, index=["a", "b", "c"])
        >>> CovariateEncoder(["age"]).set_output(transform="pandas").fit_transform(train).loc["b"].to_dict()
        {'age': 0.0}
        """
        if transform is not None:
            require_names([transform], ["default", "pandas"], "container", "set_output(transform=)")
            self._container = transform
        return self

    def __sklearn_clone__(self) -> CovariateEncoder:
        return type(self)(**copy.deepcopy(self.get_params())).set_output(transform=self._container)

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(categorical=True, string=True, allow_nan=True),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CovariateEncoder):
            return NotImplemented
        mine = (self.get_params(), self._fitted, self._num_rows)
        return mine == (other.get_params(), other._fitted, other._num_rows)

    def __hash__(self) -> int:
        return hash(CovariateEncoder)  # the same for all: fit and set_params change what == compares

    def __repr__(self) -> str:
        if self._fitted is None:
            declared = (f"{n}: {self.kinds[n].tag}" if n in self.kinds else n for n in self.columns)
            return f"CovariateEncoder({', '.join(declared)}; not fitted)"
        parts = (f"{c.name}: {c.kind.tag}" + (f" ({t})" if (t := c.learnt.describe()) else "") for c in self._fitted)
        return f"CovariateEncoder({', '.join(parts)}; fitted on {self._num_rows} rows)"

    def _warn(self, fitted: tuple[FittedColumn, ...]) -> None:
        """Say what :meth:`summary` asks to look at."""
        if suspects := [f"{c.name}: {s}" for c in fitted for s in c.suspects]:
            warnings.warn(
                f"columns hold what may be codes for missing values ({'; '.join(suspects)}); they are encoded as they "
                "are. Declare them with missing_codes=[...], or give the column's kind missing_codes=[] if they are "
                "values.",
                TableWarning,
                stacklevel=3,
            )
        if notes := [f"{c.name}: {note}" for c in fitted for note in c.notes]:
            warnings.warn("columns of whole numbers may hold codes. " + ". ".join(notes), TableWarning, stacklevel=3)

    def _require_fitted(self) -> tuple[FittedColumn, ...]:
        if self._fitted is None:
            raise TableError(
                f"expected a fitted encoder, got {self!r}; call .fit(training_rows) first, or load one with from_dict"
            )
        return self._fitted

    def _refuse_target(self, target: str | Sequence[str] | None, y: Any) -> None:
        targets = {target} if isinstance(target, str) else set(target or ())
        for name in (getattr(y, "name", None), *getattr(y, "columns", ())):
            targets |= {name} if isinstance(name, str) else set()
        read = {*self.columns, *(k.beside for k in self.kinds.values() if k.beside)}
        if found := sorted(targets & read):
            raise TableError(
                f"expected covariates without the target, got {found} among {sorted(read)}: the model would be "
                "given the answer; remove it from the covariates or choose another target"
            )
