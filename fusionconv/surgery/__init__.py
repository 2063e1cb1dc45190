"""Surgery: hybrid layers into any network, in place, with its pretrained weights kept."""

from __future__ import annotations

from fusionconv.surgery.fuse import fuse_into, unfuse
from fusionconv.surgery.listing import ConvInfo, list_convs
from fusionconv.surgery.merging import merge
from fusionconv.surgery.root import covariates
from fusionconv.surgery.summaries import FusedInfo, Summary, summary

__all__ = [
    "ConvInfo",
    "FusedInfo",
    "Summary",
    "covariates",
    "fuse_into",
    "list_convs",
    "merge",
    "summary",
    "unfuse",
]
