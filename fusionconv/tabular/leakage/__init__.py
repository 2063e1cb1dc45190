"""What a training part may know of a test part: subjects, images, encoders, and covariates that define the target."""

from fusionconv.tabular.leakage.check import check_leakage
from fusionconv.tabular.leakage.images import content_hash
from fusionconv.tabular.leakage.report import LeakageReport

__all__ = ["LeakageReport", "check_leakage", "content_hash"]
