"""Surgery: hybrid layers into any network, in place, with its pretrained weights kept."""

from __future__ import annotations

from fusionconv.surgery.fuse import fuse_into, unfuse
from fusionconv.surgery.merge import merge
from fusionconv.surgery.root import covariates
from fusionconv.surgery.select import ConvInfo, list_convs

__all__ = ["ConvInfo", "covariates", "fuse_into", "list_convs", "merge", "unfuse"]
