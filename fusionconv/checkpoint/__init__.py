"""Checkpoints without pickle: a folder with fusion.json (what was fused, how) and model.safetensors (the numbers)."""

from __future__ import annotations

from fusionconv.checkpoint.loading import load
from fusionconv.checkpoint.saving import save

__all__ = ["load", "save"]
