"""Is it better, for whom, and because of the covariates? Paired tests, intervals, calibration, subgroups, controls."""

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.auc_difference import delong
from fusionconv.evaluation.bounds import metric_bounds
from fusionconv.evaluation.calibration import expected_calibration_error, reliability_table
from fusionconv.evaluation.classification import balanced_accuracy, f1_macro, roc_auc
from fusionconv.evaluation.controls import Control, control_inputs, control_rows, wrong_rows
from fusionconv.evaluation.folds import corrected_resampled_ttest, fold_interval
from fusionconv.evaluation.intervals import bootstrap_interval, wilson
from fusionconv.evaluation.model_controls import ControlPredictions, control_predictions, covariate_controls
from fusionconv.evaluation.multiclass import multiclass_roc_auc
from fusionconv.evaluation.multiple import holm
from fusionconv.evaluation.paired import McNemar, mcnemar, paired_bootstrap, paired_bootstrap_scores
from fusionconv.evaluation.power import smallest_difference, smallest_difference_by_subject
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
from fusionconv.evaluation.threshold import confusion, sensitivity, specificity, youden_threshold

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
    "confusion",
    "control_inputs",
    "control_predictions",
    "control_rows",
    "correct_age_bias",
    "corrected_resampled_ttest",
    "covariate_controls",
    "delong",
    "expected_calibration_error",
    "f1_macro",
    "fold_interval",
    "format_p",
    "holm",
    "mcnemar",
    "metric_bounds",
    "multiclass_roc_auc",
    "paired_bootstrap",
    "paired_bootstrap_scores",
    "regression_summary",
    "reliability_table",
    "roc_auc",
    "sensitivity",
    "smallest_difference",
    "smallest_difference_by_subject",
    "specificity",
    "subgroup_gaps",
    "subgroup_table",
    "wilson",
    "wrong_rows",
    "youden_threshold",
]
