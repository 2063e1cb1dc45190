"""save and load: the same network comes back, bit for bit, whatever was fused and how."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys

import pandas as pd
import pytest
import safetensors.torch
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

import fusionconv
from fusionconv.tabular import CovariateEncoder
from tests.helpers.checkpoints import assert_same_state, batch, bits, edit, everything, fused_net, plain_net, randomize

CONVS = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
OPTIONS = [
    {},
    {"covariate_bias": True},
    {"rank": 2, "strategy": "loop"},
    {"rank": 1, "covariate_bias": True, "init": "kaiming", "strategy": "scaled"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "default")
@pytest.mark.parametrize("conv", CONVS)
def test_every_kind_of_layer(tmp_path, conv, options) -> None:
    def network(seed):
        torch.manual_seed(seed)
        return nn.Sequential(conv(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(), conv(4, 2, 2))

    model = randomize(fusionconv.fuse_into(network(0), 0, 3, **options))
    fusionconv.save(model, tmp_path / "saved")
    again, encoder = fusionconv.load(tmp_path / "saved", network(1))
    assert encoder is None
    assert type(again) is type(model)
    assert_same_state(again, model)
    x, s = torch.randn(5, 2, *(7,) * (model[0].weight.ndim - 2)), torch.randn(5, 3)
    assert torch.equal(again(x, s), model(x, s))
    assert not torch.allclose(again(x, s), again(x, s.flip(0)))
    for name in ("strategy", "init", "num_covariates"):
        assert getattr(again[0], name) == getattr(model[0], name)
    assert type(fusionconv.unfuse(again)[0]) is conv


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "default")
def test_a_linear_layer_beside_a_convolution(tmp_path, options) -> None:
    model = fusionconv.fuse_into(plain_net(), 0, 2)
    model = randomize(fusionconv.fuse_into(model, "8", 2, **options))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), plain_net(2))
    assert torch.equal(again(*batch()), model(*batch()))
    assert again[8].strategy == model[8].strategy
    assert json.loads((tmp_path / "fusion.json").read_text())["layers"][1]["kind"] == "Linear"
    assert type(fusionconv.unfuse(again)[8]) is nn.Linear


def test_two_calls_with_different_options(tmp_path) -> None:
    model = fusionconv.fuse_into(plain_net(), -1, 2, rank=1, strategy="loop")
    model = randomize(fusionconv.fuse_into(model, 0, 2, covariate_bias=True, init="kaiming"))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), plain_net(2))
    assert (again[0].strategy, again[0].init, again[0].covariate_map) == ("auto", "kaiming", None)
    assert (again[5].strategy, again[5].init, again[5].covariate_bias) == ("loop", "zeros", None)
    assert torch.equal(again(*batch()), model(*batch()))
    fusionconv.fuse_into(again, 1, 2)  # and surgery goes on
    assert torch.allclose(again(*batch()), model(*batch()))


def test_in_a_new_process_without_pickle(tmp_path) -> None:
    train = pd.DataFrame({"age": [61.0, 70.5, 83.25], "sex": [0, 1, 1]})
    encoder = CovariateEncoder(["age", "sex"]).fit(train)
    model = fused_net(rank=2, covariate_bias=True)
    x, _ = batch()
    s = torch.from_numpy(encoder.transform(train.iloc[[0, 1, 2, 1]]))
    y = model(x, s)
    fusionconv.save(model, tmp_path / "saved", encoder=encoder)
    torch.save({"x": x, "y": y.detach()}, tmp_path / "data.pt")
    code = """
import sys
import pandas as pd, torch
import pickle
data = torch.load(sys.argv[2], weights_only=True)
def no(*args, **kwargs): raise AssertionError("pickle")
pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = torch.load = no
torch.set_num_threads(1)
import fusionconv
from tests.helpers.checkpoints import plain_net
model, encoder = fusionconv.load(sys.argv[1], plain_net(9))
s = torch.from_numpy(encoder.transform(pd.DataFrame({"age": [61.0, 70.5, 83.25, 70.5], "sex": [0, 1, 1, 1]})))
print(torch.equal(model(data["x"], s), data["y"]))
"""
    args = [sys.executable, "-c", code, str(tmp_path / "saved"), str(tmp_path / "data.pt")]
    done = subprocess.run(args, capture_output=True, text=True, cwd=".")
    assert done.stdout.strip() == "True", done.stderr


def test_save_uses_no_pickle(tmp_path, monkeypatch) -> None:
    def no(*args, **kwargs):
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, no)
    monkeypatch.setattr(torch, "save", no)
    monkeypatch.setattr(torch, "load", no)
    fusionconv.load(fusionconv.save(fused_net(), tmp_path), plain_net())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_bit_for_bit(tmp_path, dtype) -> None:
    model = fused_net().to(dtype)
    strange = torch.tensor([float("nan"), float("inf"), -0.0, torch.finfo(dtype).smallest_normal / 4], dtype=dtype)
    model[0].covariate_weight.data.view(-1)[:4] = strange
    backbone = plain_net().to(dtype)
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), backbone)
    assert_same_state(again, model)
    assert again[0].covariate_weight.dtype == dtype
    assert bits(again[0].covariate_weight.reshape(-1)[:4]) == bits(strange)


def test_the_file_is_what_the_format_says(tmp_path) -> None:
    """Read by hand, without safetensors: 8 bytes of length, a JSON header, then the numbers; every key is there."""
    model = fused_net()
    data = (fusionconv.save(model, tmp_path) / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    state = model.state_dict()
    assert set(header) - {"__metadata__"} == set(state)
    for key, tensor in state.items():
        first, last = header[key]["data_offsets"]
        assert data[8 + length + first : 8 + length + last] == tensor.numpy().tobytes()
        assert header[key]["shape"] == list(tensor.shape)


def test_the_file_alone_serves_a_fused_model(tmp_path) -> None:
    model, other = fused_net(seed=0), fused_net(seed=3)
    other.load_state_dict(load_file(fusionconv.save(model, tmp_path) / "model.safetensors"))
    assert_same_state(other, model)


# ---------------------------------------------------------------- memory


class Tied(nn.Module):
    """A layer under two names, and two layers that share a weight."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)
        self.b = self.a
        self.c = nn.Conv2d(3, 3, 3, padding=1)
        self.d = nn.Conv2d(3, 3, 3, padding=1)
        if tied:
            self.d.weight = self.c.weight

    def forward(self, x):
        return self.d(self.c(self.b(self.a(x))))


def test_shared_memory(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(Tied(), ["b", "c"], 2))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), Tied())
    assert again.a is again.b
    assert again.c.weight is again.d.weight
    assert torch.equal(again(*batch()), model(*batch()))
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    untied, _ = fusionconv.load(tmp_path, Tied(tied=False))
    assert torch.equal(untied(*batch()), model(*batch()))


def test_two_weights_do_not_go_into_one(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(Tied(tied=False), "a", 2))
    fusionconv.save(model, tmp_path)
    backbone = randomize(Tied(), seed=4)
    before = backbone.c.weight.clone()
    with pytest.raises(fusionconv.CheckpointError, match=r"1 entries .*'c\.weight'.*share one tensor"):
        fusionconv.load(tmp_path, backbone)
    assert type(backbone) is Tied
    assert torch.equal(backbone.c.weight, before)


def test_views_strides_and_lazy_negatives(tmp_path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            whole = torch.arange(24.0).reshape(4, 6)
            self.register_buffer("part", whole[1:3])
            self.register_buffer("overlap", whole[:2])
            self.register_buffer("columns", whole[:, ::2])
            self.register_buffer("turned", whole.T)
            self.register_buffer("negative", torch.tensor([1 + 2j, 3 - 1j]).conj().imag)  # only marked as negated
            self.register_buffer("scalar", torch.tensor(7))
            self.register_buffer("empty", torch.zeros(0, 3))

    model = randomize(fusionconv.fuse_into(Views().to(memory_format=torch.channels_last), 0, 1))
    values = {k: v.clone() for k, v in model.named_buffers()}
    backbone = Views()
    with torch.no_grad():
        for b in backbone.buffers():
            b.zero_()
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), backbone)
    for name, expected in values.items():
        assert torch.equal(again.get_buffer(name), expected), name
    assert torch.equal(again.conv.covariate_weight, model.conv.covariate_weight)


@pytest.mark.skipif(torch.complex64 not in safetensors.torch._SIZE, reason="this safetensors has no complex numbers")
def test_complex_numbers(tmp_path) -> None:
    def network():
        net = plain_net()
        net.register_buffer("filter", torch.tensor([1 + 2j, 3 - 1j]))
        return net

    model = fusionconv.fuse_into(network(), 0, 2)
    model.filter = model.filter.conj()  # only marked as conjugated
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), network())
    assert again.filter.tolist() == [1 - 2j, 3 + 1j]


# ---------------------------------------------------------------- models in models, and layers in odd places


class Outer(nn.Module):
    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        self.inner = fusionconv.fuse_into(plain_net(), 0, 1, rank=1, strategy="loop") if fused else plain_net()

    def forward(self, x, inner_s):
        return self.inner(self.stem(x), inner_s)


def test_a_fused_model_inside_a_fused_model(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(Outer().eval(), ["stem", "inner.5"], 2))
    path = fusionconv.save(model, tmp_path / "outer")
    assert [layer["name"] for layer in json.loads((path / "fusion.json").read_text())["layers"]] == ["stem", "inner.5"]
    again, _ = fusionconv.load(path, Outer().eval())
    x, s = batch()
    t = torch.randn(4, 1)
    assert torch.equal(again(x, t, s), model(x, t, s))
    assert type(fusionconv.unfuse(again).inner[0]).__name__ == "FusedConv2d"

    with pytest.raises(fusionconv.CheckpointError, match="inside the saved one must be fused in the backbone"):
        fusionconv.load(path, Outer(fused=False))


def test_the_inner_model_alone(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(Outer().eval(), "stem", 2))
    inner, _ = fusionconv.load(fusionconv.save(model.inner, tmp_path), plain_net())
    x, t = batch()[0], torch.randn(4, 1)
    assert torch.equal(inner(x, t), model.inner(x, t))
    assert inner[0].strategy == "loop"


def test_a_hybrid_layer_made_by_hand_is_part_of_the_backbone(tmp_path) -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.own = fusionconv.HybridConv2d(3, 2, 3, num_covariates=2)

        def forward(self, x, covariates):
            return self.own(self.first(x), covariates)

    model = randomize(fusionconv.fuse_into(ByHand(), "first", 2))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), ByHand())
    assert torch.equal(again(*batch()), model(*batch()))
    assert type(fusionconv.unfuse(again).own) is fusionconv.HybridConv2d


def test_the_layer_as_the_root(tmp_path) -> None:
    model = randomize(fusionconv.fuse_into(nn.Conv2d(3, 4, 3), 0, 2))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), nn.Conv2d(3, 4, 3))
    assert torch.equal(again(*batch()), model(*batch()))
    assert json.loads((tmp_path / "fusion.json").read_text())["model"] == "Conv2d"


def test_activation_checkpointing_wrappers_come_and_go(tmp_path) -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    def wrapped():
        net = plain_net()
        net[3] = checkpoint_wrapper(net[3])
        return net

    x, s = batch()
    bare = fused_net(layers=[0, 1])
    y = bare(x, s)
    fusionconv.save(bare, tmp_path / "bare")
    bare[3] = checkpoint_wrapper(bare[3])
    fusionconv.save(bare, tmp_path / "wrapped")
    for source in ("bare", "wrapped"):
        for backbone in (plain_net(), wrapped()):
            again, _ = fusionconv.load(tmp_path / source, backbone)
            assert torch.equal(again(x, s), y)


# ---------------------------------------------------------------- torchvision


def test_torchvision_resnet_and_the_wrong_one(tmp_path) -> None:
    model = fusionconv.fuse_into(torchvision.models.resnet18(num_classes=3).eval(), [0, "layer4.1.conv2"], 2)
    for layer in (model.conv1, model.layer4[1].conv2):
        layer.covariate_weight.data.normal_(std=0.1)
    fusionconv.save(model, tmp_path)
    x, s = torch.randn(2, 3, 32, 32), torch.randn(2, 2)
    again, _ = fusionconv.load(tmp_path, torchvision.models.resnet18(num_classes=3).eval())
    assert torch.equal(again(x, s), model(x, s))
    with pytest.raises(
        fusionconv.CheckpointError, match=r"96 key\(s\) of the backbone are missing in the checkpoint: "
    ):
        fusionconv.load(tmp_path, torchvision.models.resnet34(num_classes=3))
    with pytest.raises(fusionconv.CheckpointError, match=r"'fc.weight' expected \(3, 512\), got \(1000, 512\)"):
        fusionconv.load(tmp_path, torchvision.models.resnet18())
    with pytest.raises(fusionconv.CheckpointError, match="expected the class ResNet, got VGG"):
        fusionconv.load(tmp_path, torchvision.models.vgg11())


def test_versions_of_a_modules_own_state(tmp_path) -> None:
    """MNASNet refuses a state dict without its version, and builds another stem for version 1."""

    def network():
        return torchvision.models.mnasnet0_5(num_classes=2).eval()

    model = randomize(fusionconv.fuse_into(network(), 0, 1))
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), network())
    assert_same_state(again, model)
    edit(tmp_path, lambda m: m.update(module_versions={}))
    backbone = network()
    before = everything(backbone)
    with (
        pytest.raises(fusionconv.CheckpointError, match="nothing was changed"),
        pytest.warns(UserWarning, match="version"),
    ):
        fusionconv.load(tmp_path, backbone)
    assert everything(backbone) == before  # though its own code had put another stem into it


# ---------------------------------------------------------------- what stays


def test_the_backbones_own_things_stay(tmp_path) -> None:
    fusionconv.save(fused_net(rank=1, init="kaiming"), tmp_path)
    backbone = plain_net(7)
    backbone[3].weight.requires_grad_(False)
    backbone.train()
    backbone[1].eval()
    before = {name: (p, p.data_ptr()) for name, p in backbone.named_parameters()}
    rng = torch.get_rng_state()
    again, _ = fusionconv.load(tmp_path, backbone)
    assert again is backbone
    for name, (p, pointer) in before.items():
        assert again.get_parameter(name) is p
        assert p.data_ptr() == pointer
    assert [p.requires_grad for n, p in again.named_parameters() if n == "3.weight"] == [False]
    assert all(p.requires_grad for n, p in again.named_parameters() if n != "3.weight")
    assert [m.training for m in again] == [True, False, True, True, True, True, True, True, True]
    assert torch.equal(torch.get_rng_state(), rng)
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    again(*batch()).sum().backward()
    optimizer.step()


def test_a_later_change_of_the_model_does_not_reach_the_checkpoint(tmp_path) -> None:
    model = fused_net()
    fusionconv.save(model, tmp_path)
    y = model(*batch())
    again, _ = fusionconv.load(tmp_path, plain_net())
    model[0].weight.data.zero_()
    assert torch.equal(again(*batch()), y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_devices(tmp_path) -> None:
    model = fused_net().cuda()
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path), plain_net().cuda())
    assert {p.device.type for p in again.parameters()} == {"cuda"}
    on_cpu, _ = fusionconv.load(tmp_path, plain_net())
    assert {p.device.type for p in on_cpu.parameters()} == {"cpu"}
    assert_same_state(on_cpu, model)
    assert_same_state(again, model)
