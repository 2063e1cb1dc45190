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

__all__ = [
    "CELEBA_ATTRIBUTES",
    "Age",
    "Binary",
    "Categorical",
    "Censored",
    "CovariateDropout",
    "CovariateEncoder",
    "Numeric",
    "Ordinal",
    "drop_covariates",
    "inspect_table",
    "read_celeba_attributes",
    "read_celeba_identity",
    "read_celeba_partition",
    "require_columns",
    "require_names",
]
