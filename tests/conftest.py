"""Shared by all tests: small tensors run faster on one thread than on many, in commands that tests start too."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
