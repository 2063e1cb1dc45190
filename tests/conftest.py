"""Shared by all tests: small tensors run faster on one thread than on many."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
