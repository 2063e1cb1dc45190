"""Studies: any table and its images, every arm on the same folds, tests, controls and a report.

>>> from fusionconv.study import Study
>>> Study(table="study.csv", target="dx", covariates=["age"], epochs=5).settings.epochs
5
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionconv.study.comparison import Comparison
    from fusionconv.study.predict import Predictor, load_predictor
    from fusionconv.study.settings import Settings
    from fusionconv.study.study import Study

__all__ = ["Comparison", "Predictor", "Settings", "Study", "load_predictor"]

_HOME = {
    "Comparison": "comparison",
    "Predictor": "predict",
    "Settings": "settings",
    "Study": "study",
    "load_predictor": "predict",
}


def __getattr__(name: str) -> Any:
    # nothing heavy before it is used: the console command answers --help at once
    if name not in _HOME:
        raise AttributeError(f"module 'fusionconv.study' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fusionconv.study.{_HOME[name]}"), name)
