"""Covariate tables: from the files people have to the float32 vector that a layer takes."""

from fusionconv.tabular.celeba import (
    CELEBA_ATTRIBUTES,
    read_celeba_attributes,
    read_celeba_identity,
    read_celeba_partition,
)
from fusionconv.tabular.columns import require_columns, require_names
from fusionconv.tabular.dropout import CovariateDropout, drop_covariates
from fusionconv.tabular.encoder import CovariateEncoder
from fusionconv.tabular.inspection import inspect_table
from fusionconv.tabular.kinds import Age, Binary, Categorical, Censored, Numeric, Ordinal
from fusionconv.tabular.leakage import LeakageReport, check_leakage
from fusionconv.tabular.pairing import (
    CovariateDataset,
    CovariateTable,
    covariate_collate,
    covariate_items,
    images_by_id,
    pair_by_id,
    torchio_batch,
    torchio_subjects,
)
from fusionconv.tabular.split import holdout, kfold, leave_site_out

__all__ = [
    "CELEBA_ATTRIBUTES",
    "Age",
    "Binary",
    "Categorical",
    "Censored",
    "CovariateDataset",
    "CovariateDropout",
    "CovariateEncoder",
    "CovariateTable",
    "LeakageReport",
    "Numeric",
    "Ordinal",
    "check_leakage",
    "covariate_collate",
    "covariate_items",
    "drop_covariates",
    "holdout",
    "images_by_id",
    "inspect_table",
    "kfold",
    "leave_site_out",
    "pair_by_id",
    "read_celeba_attributes",
    "read_celeba_identity",
    "read_celeba_partition",
    "require_columns",
    "require_names",
    "torchio_batch",
    "torchio_subjects",
]
