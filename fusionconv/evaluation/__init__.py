"""Is it better, for whom, and because of the covariates? Paired tests, intervals, calibration, subgroups, controls."""

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.calibration import expected_calibration_error, reliability_table
from fusionconv.evaluation.classification import balanced_accuracy, delong, roc_auc
from fusionconv.evaluation.controls import Control, control_inputs, control_rows, wrong_rows
from fusionconv.evaluation.intervals import bootstrap_interval, wilson
from fusionconv.evaluation.model_controls import ControlPredictions, control_predictions, covariate_controls
from fusionconv.evaluation.paired import McNemar, corrected_resampled_ttest, mcnemar, paired_bootstrap
from fusionconv.evaluation.regression import (
    AgeBias,
    RegressionSummary,
    age_bias,
    correct_age_bias,
    regression_summary,
)
from fusionconv.evaluation.result import Estimate, format_p
from fusionconv.evaluation.subgroups import subgroup_gaps, subgroup_table
from fusionconv.evaluation.survival import concordance_index

__all__ = [
    "AgeBias",
    "Control",
    "ControlPredictions",
    "Estimate",
    "EvaluationError",
    "McNemar",
    "RegressionSummary",
    "age_bias",
    "balanced_accuracy",
    "bootstrap_interval",
    "concordance_index",
    "control_inputs",
    "control_predictions",
    "control_rows",
    "correct_age_bias",
    "corrected_resampled_ttest",
    "covariate_controls",
    "delong",
    "expected_calibration_error",
    "format_p",
    "mcnemar",
    "paired_bootstrap",
    "regression_summary",
    "reliability_table",
    "roc_auc",
    "subgroup_gaps",
    "subgroup_table",
    "wilson",
    "wrong_rows",
]
