"""A fused model as a folder: safetensors for the numbers, JSON for what they mean; never pickle."""

from __future__ import annotations

from fusionconv.checkpoint.loading import load, read_about
from fusionconv.checkpoint.saving import save

__all__ = ["load", "read_about", "save"]
