"""Is it better, for whom, and because of the covariates? Paired tests, intervals, calibration, subgroups, controls."""

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.classification import balanced_accuracy, delong, roc_auc
from fusionconv.evaluation.intervals import bootstrap_interval, wilson
from fusionconv.evaluation.paired import McNemar, corrected_resampled_ttest, mcnemar, paired_bootstrap
from fusionconv.evaluation.regression import (
    AgeBias,
    RegressionSummary,
    age_bias,
    correct_age_bias,
    regression_summary,
)
from fusionconv.evaluation.result import Estimate
from fusionconv.evaluation.survival import concordance_index

__all__ = [
    "AgeBias",
    "Estimate",
    "EvaluationError",
    "McNemar",
    "RegressionSummary",
    "age_bias",
    "balanced_accuracy",
    "bootstrap_interval",
    "concordance_index",
    "correct_age_bias",
    "corrected_resampled_ttest",
    "delong",
    "mcnemar",
    "paired_bootstrap",
    "regression_summary",
    "roc_auc",
    "wilson",
]
