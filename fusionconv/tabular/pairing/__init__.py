"""Images and covariate rows together: joined and checked by id, never by their order."""

from fusionconv.tabular.pairing.collate import covariate_collate
from fusionconv.tabular.pairing.dataset import CovariateDataset, covariate_items
from fusionconv.tabular.pairing.join import images_by_id, pair_by_id
from fusionconv.tabular.pairing.table import CovariateTable
from fusionconv.tabular.pairing.torchio_subjects import torchio_batch, torchio_subjects

__all__ = [
    "CovariateDataset",
    "CovariateTable",
    "covariate_collate",
    "covariate_items",
    "images_by_id",
    "pair_by_id",
    "torchio_batch",
    "torchio_subjects",
]
