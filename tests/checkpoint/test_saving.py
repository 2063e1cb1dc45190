"""save: what is refused, what is replaced, and what a crash leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fusionconv
from fusionconv.errors import CheckpointError, SurgeryError, TableError
from fusionconv.tabular import CovariateEncoder
from tests.helpers.checkpoints import assert_same_state, everything, fused_net, plain_net, randomize

TRAIN = pd.DataFrame({"age": [61.0, 70.5, 83.25], "sex": [0, 1, 1], "site": [1, 2, 3]})


def test_what_the_manifest_says(tmp_path) -> None:
    model = fusionconv.fuse_into(plain_net(), 1, 2, rank=1, covariate_bias=True, init="kaiming", strategy="stacked")
    path = fusionconv.save(model, str(tmp_path / "deep" / "er"))
    assert path == tmp_path / "deep" / "er"
    assert sorted(p.name for p in path.iterdir()) == ["fusion.json", "model.safetensors"]
    saved = json.loads((path / "fusion.json").read_text())
    assert (saved["format"], saved["version"], saved["model"]) == ("fusionconv.checkpoint", 1, "Sequential")
    assert saved["num_covariates"] == 2
    assert saved["layers"] == [
        {
            "name": "3",
            "kind": "Conv2d",
            "covariate_bias": True,
            "rank": 1,
            "init": "kaiming",
            "strategy": "stacked",
            "method": "hybrid",
        }
    ]
    assert saved["settings"]["3"] == {
        "kind": "Conv2d",
        "kernel_size": [3, 3],
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 2,
        "padding_mode": "zeros",
        "output_padding": [0, 0],
    }
    assert saved["settings"]["1"] == {"kind": "BatchNorm", "eps": 1e-5}
    assert saved["encoder"] is None
    assert saved["made_with"] == {"fusionconv": fusionconv.__version__, "torch": torch.__version__}
    digest = subprocess.run(["sha256sum", path / "model.safetensors"], capture_output=True, text=True, check=True)
    assert saved["weights"]["sha256"] == digest.stdout.split()[0]


def test_saving_changes_nothing(tmp_path) -> None:
    model = fused_net(rank=1)
    before, rng = everything(model), torch.get_rng_state()
    fusionconv.save(model, tmp_path)
    assert everything(model) == before
    assert torch.equal(torch.get_rng_state(), rng)


def test_the_encoder_comes_back(tmp_path) -> None:
    encoder = CovariateEncoder(["age", "sex"], kinds={"sex": "binary"}).fit(TRAIN)
    _, again = fusionconv.load(fusionconv.save(fused_net(), tmp_path, encoder), plain_net())
    assert again == encoder
    assert (again.transform(TRAIN) == encoder.transform(TRAIN)).all()


@pytest.mark.parametrize(
    ("encoder", "error", "words"),
    [
        (lambda: CovariateEncoder(["age"]).fit(TRAIN), CheckpointError, r"encoder of 2 .*got one of 1 \(age\)"),
        (lambda: CovariateEncoder(["age", "sex", "site"]).fit(TRAIN), CheckpointError, "got one of 3"),
        (lambda: CovariateEncoder(["age", "sex"]), TableError, "fitted encoder"),
        (lambda: {"columns": []}, TypeError, "CovariateEncoder, got dict"),
    ],
)
def test_encoders_that_do_not_fit(tmp_path, encoder, error, words) -> None:
    with pytest.raises(error, match=words):
        fusionconv.save(fused_net(), tmp_path / "new", encoder())
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- models that are refused


class Extra(nn.Module):
    def __init__(self, state) -> None:
        super().__init__()
        self.conv, self.state = nn.Conv2d(3, 4, 3), state

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state) -> None:
        self.state = state


def with_buffer(value: torch.Tensor) -> nn.Module:
    model = fused_net()
    model.register_buffer("odd", value)
    return model


def parametrized() -> nn.Module:
    model = fused_net()
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def parametrized_root() -> nn.Module:
    model = fused_net()
    model.scale = nn.Parameter(torch.ones(1))
    nn.utils.parametrize.register_parametrization(model, "scale", nn.Identity())
    return model


def other_dtype() -> nn.Module:
    model = fused_net()
    model[0].covariate_weight.data = model[0].covariate_weight.data.double()
    return model


def lazy() -> nn.Module:
    return fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyConv2d(4, 3)), 0, 1)


def without_v_in_the_state() -> nn.Module:
    model = fused_net()
    model._register_state_dict_hook(lambda m, state, *_: {k: v for k, v in state.items() if "covariate" not in k})
    return model


class FullyShardedDataParallel(nn.Module):
    """By name, as fuse_into knows it too: torch's own needs a process group."""

    def __init__(self) -> None:
        super().__init__()
        self.module = fused_net()


class Strange(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (plain_net, SurgeryError, "fuse_into has fused, got Sequential.*call fuse_into"),
        (lambda: "resnet18", TypeError, "got str"),
        (lambda: nn.DataParallel(fused_net()), SurgeryError, r"wrapped \(DataParallel\).*: model\.module$"),
        (lambda: torch.compile(fused_net()), SurgeryError, r"OptimizedModule.*: model\._orig_mod$"),
        (lambda: nn.DataParallel(torch.compile(fused_net())), SurgeryError, r"model\.module\._orig_mod$"),
        (lambda: torch.optim.swa_utils.AveragedModel(fused_net()), SurgeryError, r"AveragedModel.*model\.module$"),
        (lambda: nn.DataParallel(plain_net()), SurgeryError, "got DataParallel"),
        (FullyShardedDataParallel, SurgeryError, "sharded.*gather its full state dict"),
        (parametrized, SurgeryError, "'0' was changed to ParametrizedFusedConv2d.*remove_parametrizations"),
        (parametrized_root, SurgeryError, "remove_parametrizations"),
        (lambda: fused_net().to("meta"), CheckpointError, r"'0\.weight'.*meta device"),
        (
            lambda: fusionconv.fuse_into(Extra({"a": 1}), 0, 1),
            CheckpointError,
            "'_extra_state'.* is a dict, not a tens",
        ),
        (lazy, CheckpointError, r"'1\.weight'.*lazy.*call the network once"),
        (lambda: with_buffer(torch.eye(3).to_sparse()), CheckpointError, "'odd'.*sparse_coo.*to_dense"),
        (lambda: with_buffer(torch.zeros(3).as_subclass(Strange)), CheckpointError, "'odd'.*class Strange"),
        (lambda: with_buffer(torch.zeros(3, dtype=torch.complex128)), CheckpointError, "complex128"),
        (other_dtype, CheckpointError, r"'0': expected covariate_weight .*float32.*got .*float64"),
        (without_v_in_the_state, CheckpointError, "'0': expected covariate_weight .*got none"),
    ],
)
def test_refused(tmp_path, make, error, words) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    with pytest.raises(error, match=words):
        fusionconv.save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_extra_state_that_is_a_tensor(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(Extra(torch.tensor([3, 4])), 0, 1))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), Extra(torch.tensor([0, 0])))
    assert again.state.tolist() == [3, 4]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_sharded(tmp_path) -> None:
    """In a process of its own, since a process group is of the process."""
    code = """
import sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import fusionconv
from tests.helpers.checkpoints import fused_net, plain_net
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
for call in (
    lambda: fusionconv.save(fully_shard(fused_net(), mesh=mesh), sys.argv[1] + "/a"),
    lambda: fusionconv.load(fusionconv.save(fused_net(), sys.argv[1] + "/b"), fully_shard(plain_net(), mesh=mesh)),
):
    try:
        call()
    except fusionconv.CheckpointError as error:
        print("error:", error)
dist.destroy_process_group()
"""
    args = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(args, capture_output=True, text=True, cwd=".")
    lines = [line for line in done.stdout.splitlines() if line.startswith("error:")]  # gloo may print too
    assert len(lines) == 2, done.stderr
    assert "sharded over processes (a DTensor)" in lines[0]
    assert "expected the class Sequential, got FSDPSequential" in lines[1]
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------- the folder


def test_an_older_checkpoint_is_replaced_and_other_files_are_left(tmp_path) -> None:
    old, new = fused_net(seed=0), fused_net(seed=1, layers=[1])
    (tmp_path / "notes.txt").write_text("mine")
    fusionconv.save(old, tmp_path)
    fusionconv.save(new, tmp_path)
    again, _ = fusionconv.load(tmp_path, plain_net())
    assert_same_state(again, new)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fusion.json", '{"format": "of something else"}'),
        ("fusion.json", ""),
        ("model.safetensors", "not even one"),
        ("model.safetensors", None),
    ],
)
def test_files_of_somebody_else_are_not_overwritten(tmp_path, name, content) -> None:
    if content is None:  # pretrained weights in safetensors
        save_file({"a": torch.ones(2)}, tmp_path / name)
    else:
        (tmp_path / name).write_text(content)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(CheckpointError, match=f"holds {name} already"):
        fusionconv.save(fused_net(), tmp_path)
    assert (tmp_path / name).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_that_is_a_file(tmp_path) -> None:
    (tmp_path / "model.pt").write_text("x")
    with pytest.raises(CheckpointError, match=r"expected a folder.*got a file"):
        fusionconv.save(fused_net(), tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_others_may_read_what_the_umask_lets_them(tmp_path) -> None:
    old = os.umask(0o022)
    try:
        path = fusionconv.save(fused_net(), tmp_path)
    finally:
        os.umask(old)
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o644}


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("at", ["write", 1, 2])
def test_an_error_while_saving_over_an_older_checkpoint(tmp_path, monkeypatch, at) -> None:
    """The old one stays whole, or the folder is refused; it never loads as one's plan with the other's weights."""
    old, new = fused_net(seed=0), fused_net(seed=1)  # the same keys and shapes: nothing else would tell them apart
    fusionconv.save(old, tmp_path)
    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == at:
            raise OSError("the disk is gone")
        replace(source, target)

    def full(fd):
        raise OSError("no space left")

    monkeypatch.setattr(os, *(("fsync", full) if at == "write" else ("replace", interrupted)))
    with pytest.raises(OSError, match=r"disk is gone|no space"):
        fusionconv.save(new, tmp_path)
    monkeypatch.undo()
    assert [target.name for target in calls] == ["model.safetensors", "fusion.json"][: at if at != "write" else 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fusion.json", "model.safetensors"]
    if at == 2:
        with pytest.raises(CheckpointError, match=r"sha256.*interrupted"):
            fusionconv.load(tmp_path, plain_net())
    else:
        assert_same_state(fusionconv.load(tmp_path, plain_net())[0], old)
    fusionconv.save(new, tmp_path)
    assert_same_state(fusionconv.load(tmp_path, plain_net())[0], new)


def test_a_process_that_dies_between_the_two_files(tmp_path) -> None:
    fusionconv.save(fused_net(seed=8), tmp_path)
    code = """
import os, sys
import fusionconv
from tests.helpers.checkpoints import fused_net
replace = os.replace
def dies(source, target):
    if str(target).endswith(".json"):
        os._exit(9)
    replace(source, target)
os.replace = dies
fusionconv.save(fused_net(), sys.argv[1])
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=".").returncode == 9
    with pytest.raises(CheckpointError, match="interrupted"):
        fusionconv.load(tmp_path, plain_net())
    fusionconv.save(fused_net(), tmp_path)
    assert_same_state(fusionconv.load(tmp_path, plain_net())[0], fused_net())


def test_a_first_save_that_was_interrupted_can_be_repeated(tmp_path) -> None:
    (fusionconv.save(fused_net(seed=8), tmp_path) / "fusion.json").unlink()
    with pytest.raises(CheckpointError, match="interrupted"):
        fusionconv.load(tmp_path, plain_net())
    fusionconv.save(fused_net(), tmp_path)
    assert_same_state(fusionconv.load(tmp_path, plain_net())[0], fused_net())


def test_half_of_one_checkpoint_and_half_of_another(tmp_path) -> None:
    one = fusionconv.save(fused_net(seed=0), tmp_path / "one")
    two = fusionconv.save(fused_net(seed=1), tmp_path / "two")
    shutil.copy(two / "model.safetensors", one)
    with pytest.raises(CheckpointError, match="sha256"):
        fusionconv.load(one, plain_net())
