"""Splits by subject: no person on two sides, the same for any order of rows and on any machine."""

from fusionconv.tabular.split.parts import holdout, kfold, leave_site_out

__all__ = ["holdout", "kfold", "leave_site_out"]
