"""What if the covariates were others: a finished study's networks asked again, row by row; `serve` is the page."""

from __future__ import annotations

from fusionconv.study.what_if.answers import Answer, Effect, Network, Said
from fusionconv.study.what_if.asking import WhatIf
from fusionconv.study.what_if.controls import MISSING, Control
from fusionconv.study.what_if.doubts import doubts

__all__ = ["MISSING", "Answer", "Control", "Effect", "Network", "Said", "WhatIf", "doubts"]
