"""Covariate tables: from the files people have to the float32 vector that a layer takes."""

from fusionconv.tabular.adni import read_adnimerge
from fusionconv.tabular.adni_images import read_adni_bids, read_adni_loni
from fusionconv.tabular.anytable import MISSING, read_table
from fusionconv.tabular.bids import read_bids
from fusionconv.tabular.celeba import (
    CELEBA_ATTRIBUTES,
    read_celeba_attributes,
    read_celeba_identity,
    read_celeba_partition,
)
from fusionconv.tabular.celeba_frame import read_celeba
from fusionconv.tabular.columns import require_columns, require_names
from fusionconv.tabular.dropout import CovariateDropout, drop_covariates
from fusionconv.tabular.encoder import CovariateEncoder
from fusionconv.tabular.images import REPORT_COLUMNS, match_images
from fusionconv.tabular.inspection import inspect_table
from fusionconv.tabular.ixi import read_ixi
from fusionconv.tabular.kinds import Age, Binary, Categorical, Censored, Numeric, Ordinal
from fusionconv.tabular.leakage import LeakageReport, check_leakage
from fusionconv.tabular.loni import find_loni, read_loni_search
from fusionconv.tabular.oasis import read_oasis1, read_oasis2
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
from fusionconv.tabular.pathtable import read_paths_table
from fusionconv.tabular.split import holdout, kfold, leave_site_out
from fusionconv.tabular.visits import match_visits

__all__ = [
    "CELEBA_ATTRIBUTES",
    "MISSING",
    "REPORT_COLUMNS",
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
    "find_loni",
    "holdout",
    "images_by_id",
    "inspect_table",
    "kfold",
    "leave_site_out",
    "match_images",
    "match_visits",
    "pair_by_id",
    "read_adni_bids",
    "read_adni_loni",
    "read_adnimerge",
    "read_bids",
    "read_celeba",
    "read_celeba_attributes",
    "read_celeba_identity",
    "read_celeba_partition",
    "read_ixi",
    "read_loni_search",
    "read_oasis1",
    "read_oasis2",
    "read_paths_table",
    "read_table",
    "require_columns",
    "require_names",
    "torchio_batch",
    "torchio_subjects",
]
