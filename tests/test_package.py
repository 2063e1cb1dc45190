"""The public names, and that importing the package is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fusionconv

PUBLIC = """CheckpointError ConvInfo CovariateError CovariateTypeError FusionError HybridConv1d HybridConv2d HybridConv3d
    HybridConvTranspose1d HybridConvTranspose2d HybridConvTranspose3d HybridLinear LayerChoiceWarning SurgeryError TableError
    TunedLayer UnusedCovariatesWarning autotune covariates functional fuse_into list_convs load merge param_groups save
    unfuse
    window_predictor""".split()  # noqa: SIM905


def test_public_names() -> None:
    assert sorted(fusionconv.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(fusionconv, name).__doc__, name


def test_fusion_methods() -> None:
    from fusionconv.layers import METHODS

    assert list(METHODS) == ["hybrid", "lowrank", "hyper", "film", "daft", "scale", "attention", "concat", "condconv"]
    for name, method in METHODS.items():
        assert name == method.METHOD
        assert method.__doc__
        if name != "hybrid":  # its docstring is HybridConv2d's
            assert all(word in method.__doc__ for word in ("Source:", "Cost", "parameters:", "FLOPs", ">>>"))


def test_import_loads_only_torch_and_einops() -> None:
    heavy = ["pandas", "torchvision", "monai", "lightning", "matplotlib", "sklearn", "torchmetrics", "safetensors"]
    code = f"import sys, fusionconv; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_projects() -> None:
    assert f'version = "{fusionconv.__version__}"' in Path("pyproject.toml").read_text(encoding="utf-8")
