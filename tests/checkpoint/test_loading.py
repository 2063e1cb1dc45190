"""load: damaged files and other networks are refused with what does not fit, and nothing is changed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import fusionconv
from fusionconv.errors import CheckpointError
from fusionconv.tabular import CovariateEncoder
from tests.helpers.checkpoints import assert_same_state, edit, everything, fused_net, plain_net

OTHER_ENCODER = CovariateEncoder(["age"]).fit(pd.DataFrame({"age": [61.0, 70.5, 83.25]}))


@pytest.fixture
def saved(tmp_path):
    encoder = CovariateEncoder(["age", "sex"]).fit(pd.DataFrame({"age": [61.0, 70.5, 83.25], "sex": [0, 1, 1]}))
    return fusionconv.save(fused_net(rank=1), tmp_path / "saved", encoder)


def refused(folder, backbone: nn.Module, words: str) -> None:
    before, rng = everything(backbone), torch.get_rng_state()
    with pytest.raises(CheckpointError, match=words):
        fusionconv.load(folder, backbone)
    assert everything(backbone) == before
    assert torch.equal(torch.get_rng_state(), rng)


def rewrite(folder, data: bytes) -> None:
    """Another weights file, with a manifest that agrees: what a checksum cannot find."""
    (folder / "model.safetensors").write_bytes(data)
    record = {"file": "model.safetensors", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(folder, lambda m: m.update(weights=record))


# ---------------------------------------------------------------- files


def test_missing_folder_and_files(tmp_path, saved) -> None:
    refused(tmp_path / "nowhere", plain_net(), "expected a checkpoint folder.*no such folder")
    refused(saved / "model.safetensors", plain_net(), "expected a checkpoint folder.*got a file")
    refused(tmp_path, plain_net(), r"expected fusion\.json in")
    (saved / "model.safetensors").unlink()
    refused(saved, plain_net(), r"model\.safetensors, got no such file")


def test_damaged_weights(saved) -> None:
    path = saved / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for at in (8 + length, len(data) - 1, (8 + length + len(data)) // 2, 3, 40):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        refused(saved, plain_net(), "sha256")
    path.write_bytes(b"")
    refused(saved, plain_net(), f"expected {len(data)} bytes, got an empty file")
    path.write_bytes(data[:-100])
    refused(saved, plain_net(), f"got {len(data) - 100} bytes.*damaged")
    path.write_bytes(data)
    fusionconv.load(saved, plain_net())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**62) + b"{}",  # a huge header
        struct.pack("<Q", 200_000_000) + b" " * 1000,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{a}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}      ' + b"\0" * 4,
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9]}}      ' + b"\0" * 4,
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n",  # a pickle
    ],
    ids=["empty", "short", "huge", "larger", "list", "no-json", "wrong-shape", "outside", "pickle"],
)
def test_weights_that_are_no_safetensors_file(saved, data) -> None:
    rewrite(saved, data)
    refused(saved, plain_net(), "not a safetensors file|is not the network")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\x00\x01", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON|expected an object"),
        ("null", "expected an object, got None"),
        ("[1, 2]", "expected an object"),
        ("{}", "expected the format 'fusionconv.checkpoint', got None"),
        ('{"format": "fusionconv.CovariateEncoder", "version": 1}', "expected the format"),
    ],
)
def test_a_manifest_that_is_none(saved, text, words) -> None:
    (saved / "fusion.json").write_text(text)
    refused(saved, plain_net(), words)


def test_a_manifest_that_is_no_text(saved) -> None:
    (saved / "fusion.json").write_bytes(b"\xff\xfe\x00{")
    refused(saved, plain_net(), "is not JSON")


FIELDS = [
    "version",
    "model",
    "num_covariates",
    "layers",
    "settings",
    "module_versions",
    "weights",
    "encoder",
    "made_with",
]


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_missing_or_of_another_type(saved, name) -> None:
    text = (saved / "fusion.json").read_text()
    edit(saved, lambda m: m.pop(name))
    refused(saved, plain_net(), f"the field '{name}' is missing")
    for wrong in (1.5, True):
        (saved / "fusion.json").write_text(text)
        edit(saved, lambda m, wrong=wrong: m.update({name: wrong}))
        refused(saved, plain_net(), f"the field '{name}' must be")


@pytest.mark.parametrize("name", ["name", "kind", "covariate_bias", "rank", "init", "strategy", "method"])
def test_a_field_of_a_layer_is_missing_or_of_another_type(saved, name) -> None:
    edit(saved, lambda m: m["layers"][0].update({name: [3]}))
    refused(saved, plain_net(), f"the field '{name}' must be")
    edit(saved, lambda m: m["layers"][0].pop(name))
    refused(saved, plain_net(), f"the field '{name}' is missing")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(version=2, made_with={"fusionconv": "9.1"}), "version 2.*9.1.*install"),
        (lambda m: m.update(version=0), "version 0"),
        (lambda m: m.update(num_covariates=0), "'0': num_covariates must be"),
        (lambda m: m.update(num_covariates=3), r"'0.covariate_map' expected \(1, 2\), got \(1, 3\)|encoder of 3"),
        (lambda m: m.update(num_covariates=10**12, encoder=None), "got .1, 1000000000000."),
        (lambda m: m.update(layers=[]), "at least one layer"),
        (lambda m: m.update(layers=[1]), "must be an object"),
        (lambda m: m.update(layers=m["layers"] * 2), "each once"),
        (lambda m: m.update(layers=m["layers"][:1]), "missing in the backbone: '5.covariate_"),
        (lambda m: m["layers"][0].update(name="1"), "'1': expected a Conv2d, got BatchNorm2d"),
        (lambda m: m["layers"][0].update(name="net.0"), "'net.0': expected a Conv2d, got no such layer"),
        (lambda m: m["layers"][0].update(name="../0"), "no such layer"),
        (lambda m: m["layers"][0].update(kind="Conv3d"), "'0': expected a Conv3d, got Conv2d"),
        (lambda m: m["layers"][0].update(name="1", kind="BatchNorm2d"), "key|could not be loaded"),
        (lambda m: m["layers"][0].update(method="flim"), "must be one of 'hybrid'.*got 'flim'"),
        (lambda m: m["layers"][0].update(strategy="os.system"), "strategy must be one of"),
        (lambda m: m["layers"][0].update(init="ones"), "init must be one of"),
        (lambda m: m["layers"][0].update(rank=5), "rank must be"),
        (lambda m: m["layers"][0].update(rank=2), r"'0.covariate_weight' expected \(1, .*got \(2, "),
        (lambda m: m["layers"][0].update(covariate_bias=True), "missing in the checkpoint: '0.covariate_bias'"),
        (lambda m: m["settings"].update({"0": 3}), "settings of '0'"),
        (lambda m: m["settings"].pop("4"), "layer '4': expected none, got a Tanh"),
        (lambda m: m["settings"]["4"].update(kind="ReLU"), "layer '4': expected a ReLU, got a Tanh"),
        (lambda m: m.update(module_versions={"0": "new"}), "must hold integers"),
        (lambda m: m["weights"].pop("sha256"), "'sha256' is missing"),
        (lambda m: m["weights"].update(size="3"), "'size' must be int"),
        (lambda m: m["weights"].update(file=None), "'file' must be str"),
        (lambda m: m["encoder"].update(version=7), "expected an encoder"),
        (lambda m: m["encoder"].pop("columns"), "damaged encoder"),
        (lambda m: m["encoder"]["columns"][0].update(scale=0), "damaged encoder"),
        (lambda m: m["encoder"]["columns"][0].update(mean="a"), "damaged encoder"),
        (lambda m: m["encoder"].update(columns=7), "damaged encoder"),
        (lambda m: m["encoder"]["columns"].pop(), "damaged encoder"),
        (lambda m: m.update(encoder=OTHER_ENCODER.to_dict()), "encoder of 2 .*got one of 1"),
    ],
)
def test_a_damaged_manifest(saved, change, words) -> None:
    edit(saved, change)
    refused(saved, plain_net(), words)


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "..", ".", "", "sub/model.safetensors", "sub\\model.safetensors", "C:x", "a\0b", None],
)
def test_a_weights_file_outside_the_folder(saved, name) -> None:
    outside = saved.parent / "model.safetensors"
    outside.write_bytes((saved / "model.safetensors").read_bytes())
    (saved / "sub").mkdir()
    (saved / "sub" / "model.safetensors").write_bytes(outside.read_bytes())
    edit(saved, lambda m: m["weights"].update(file=str(outside) if name is None else name))
    refused(saved, plain_net(), "must lie in this folder")


def test_a_link_out_of_the_folder(saved) -> None:
    weights, outside = saved / "model.safetensors", saved.parent / "elsewhere.safetensors"
    os.replace(weights, outside)
    weights.symlink_to(outside)
    refused(saved, plain_net(), "link that leaves the folder")
    weights.unlink()
    weights.symlink_to(weights)
    refused(saved, plain_net(), "no such file")
    weights.unlink()
    os.replace(outside, saved / "blob")
    weights.symlink_to("blob")  # a link that stays inside is a file of this folder
    fusionconv.load(saved, plain_net())
    link = saved.parent / "link"
    link.symlink_to(saved)
    fusionconv.load(link, plain_net())


def test_a_weights_file_that_is_a_folder_or_a_pipe(saved) -> None:
    (saved / "model.safetensors").unlink()
    os.mkfifo(saved / "model.safetensors")
    refused(saved, plain_net(), "no such file")
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").mkdir()
    refused(saved, plain_net(), "no such file")


# ---------------------------------------------------------------- other networks


def changed(**layers: nn.Module) -> nn.Sequential:
    model = plain_net()
    for name, layer in layers.items():
        model[int(name.removeprefix("at"))] = layer
    return model


class SameKeys(nn.Sequential):
    """Another class with the same layers."""


def weight_normed() -> nn.Module:
    model = plain_net()
    nn.utils.parametrizations.weight_norm(model[0])
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SameKeys(*plain_net()), "expected the class Sequential, got SameKeys"),
        (lambda: torch.compile(plain_net()), r"got OptimizedModule.*load into its \._orig_mod"),
        (lambda: nn.DataParallel(plain_net()), r"got DataParallel.*load into its \.module"),
        (fused_net, "plain network, got FusedSequential, which is fused already.*unfuse"),
        (lambda: plain_net().half(), r"16 dtype\(s\) differ: '0.weight' expected torch.float32, got torch.float16"),
        (lambda: plain_net().to("meta"), "meta device.*nothing was changed"),
        (lambda: plain_net()[:8], r"2 key\(s\) of the checkpoint are missing in the backbone: '8.bias', '8.weight'"),
        (lambda: plain_net()[:5], "fused layer '5': expected a Conv2d, got no such layer"),
        (lambda: nn.Sequential(*plain_net(), nn.Linear(4, 4)), r"2 key\(s\) of the backbone are missing in the ch"),
        (lambda: changed(at8=nn.Linear(5, 7)), r"2 shape\(s\) differ: '8.weight' expected \(4, 5\), got \(7, 5\)"),
        (
            lambda: changed(at3=nn.Conv2d(6, 6, 3, groups=2, stride=2)),
            r"'3' \(Conv2d\): stride expected \[1, 1\], got",
        ),
        (lambda: changed(at3=nn.Conv2d(6, 6, 3, groups=2, padding=1)), "padding expected"),
        (lambda: changed(at3=nn.Conv2d(6, 6, 3, groups=2, padding="same")), "got 'same'"),
        (lambda: changed(at3=nn.Conv2d(6, 6, 3, groups=2, dilation=2)), "dilation expected"),
        (lambda: changed(at3=nn.Conv2d(3, 6, 3)), "groups expected 2, got 1"),
        (
            lambda: changed(at0=nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular")),
            "padding_mode expected 'zeros', g",
        ),
        (lambda: changed(at0=nn.Conv2d(3, 6, 3, padding=1, stride=2)), r"'0' \(Conv2d\): stride"),
        (lambda: changed(at5=nn.ConvTranspose2d(5, 6, 1)), "'5': expected a Conv2d, got ConvTranspose2d"),
        (lambda: changed(at5=nn.LazyConv2d(5, 1)), "'5': expected a Conv2d, got LazyConv2d"),
        (lambda: changed(at1=nn.BatchNorm2d(6, eps=1e-3)), "eps expected 1e-05, got 0.001"),
        (lambda: changed(at2=nn.GELU()), "'2': expected a ReLU, got a GELU"),
        (lambda: changed(at2=nn.Identity()), "'2': expected a ReLU, got none"),
        (lambda: changed(at6=nn.AdaptiveMaxPool2d(1)), "AdaptiveAvgPool2d, got a AdaptiveMaxPool2d"),
        (weight_normed, "fused layer '0': expected a Conv2d, got ParametrizedConv2d"),
    ],
)
def test_another_network(saved, make, words) -> None:
    refused(saved, make(), words)


def test_what_is_no_module(saved) -> None:
    with pytest.raises(TypeError, match="got str"):
        fusionconv.load(saved, "resnet18")


@pytest.mark.parametrize(
    "same",
    [
        lambda: changed(at2=nn.ReLU(inplace=True)),
        lambda: changed(at6=nn.AdaptiveAvgPool2d((1, 1))),
        lambda: changed(at1=nn.BatchNorm2d(6, momentum=0.01)),
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(plain_net()),
        lambda: nn.Sequential(*plain_net(), nn.Identity(), nn.Dropout()),
        lambda: plain_net().to(memory_format=torch.channels_last),
    ],
)
def test_differences_that_are_none(saved, same) -> None:
    again, _ = fusionconv.load(saved, same().eval())
    assert_same_state(again, fused_net(rank=1))


def test_output_padding_of_a_transposed_convolution(tmp_path) -> None:
    def network(extra):
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=extra))

    path = fusionconv.save(fusionconv.fuse_into(network(1), 0, 1), tmp_path)
    refused(path, network(0), r"'1' \(ConvTranspose2d\): output_padding expected \[1, 1\], got \[0, 0\]")
    fusionconv.load(path, network((1, 1)))


def test_a_subclass_in_place_of_a_convolution(tmp_path) -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    path = fusionconv.save(fusionconv.fuse_into(changed(at5=Standardized(6, 5, 1)), 0, 1), tmp_path)
    refused(path, plain_net(), "'5': expected a Standardized, got a Conv2d")


def test_all_that_does_not_fit_in_one_message_of_bounded_length(tmp_path) -> None:
    def network(width, stride):
        return nn.Sequential(*(nn.Conv2d(width, width, 3, stride=stride) for _ in range(40)))

    path = fusionconv.save(fusionconv.fuse_into(network(2, 1), 0, 1), tmp_path)
    with pytest.raises(CheckpointError) as caught:
        fusionconv.load(path, network(3, 2))
    assert "81 shape(s) differ" in str(caught.value)  # 40 weights, 40 biases, one V
    assert "40 setting(s) of layers differ" in str(caught.value)
    assert "and 78 more" in str(caught.value)
    assert len(str(caught.value)) < 1500


# ---------------------------------------------------------------- what a file may have run


BUILD = {"name": "torchvision:resnet18", "num_outputs": 2, "in_channels": 3, "image_size": [32, 32], "options": {}, "head": "linear"}  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        {"function": "os:system", "arguments": {"command": "exit 1"}},
        {"function": "fusionconv.study.files:write_text", "arguments": {"path": "PLANTED", "text": "x"}},
        {"function": "fusionconv.study.networks:build_network", "arguments": {**BUILD, "name": "os:system"}},
        {"function": "fusionconv.study.saved:plain_network", "arguments": {**BUILD, "name": "os:system"}},
        {"function": "fusionconv.study.saved:plain_network", "arguments": {**BUILD, "name": "os:system", "own_functions": True}},
        {"function": "fusionconv.study.saved:plain_network", "arguments": [["os:system"]]},
        "os:system",
    ],
)  # fmt: skip
def test_a_file_runs_nothing_but_the_builder_of_networks(build, saved, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.system", lambda *args: pytest.fail("os.system was called"))
    manifest = json.loads((saved / "fusion.json").read_text())
    manifest["about"] = {"build": build}
    (saved / "fusion.json").write_text(json.dumps(manifest))
    with pytest.raises(fusionconv.FusionError):
        fusionconv.load(saved)
    assert not Path("PLANTED").exists()


# ---------------------------------------------------------------- failures on the way


def test_weights_of_another_dtype_in_a_manifest_that_agrees(saved) -> None:
    tensors = load_file(saved / "model.safetensors")
    tensors["0.weight"] = tensors["0.weight"].double()
    save_file(tensors, saved / "model.safetensors")
    rewrite(saved, (saved / "model.safetensors").read_bytes())
    refused(saved, plain_net(), r"1 dtype\(s\) differ: '0.weight' expected torch.float64, got torch.float32")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda other: nn.MultiheadAttention(4, 2, add_zero_attn=other), "add_zero_attn expected False, got True"),
        (lambda other: nn.RNNCell(4, 4, nonlinearity="relu" if other else "tanh"), "nonlinearity expected 'tanh', got 'relu'"),
        (lambda other: nn.TransformerDecoderLayer(4, 2, 8, activation="gelu" if other else "relu"), "activation expected '<relu>', got '<gelu>'"),
        (lambda other: nn.TransformerEncoderLayer(4, 2, 8, activation=F.silu if other else torch.tanh), "activation expected '<tanh>', got '<silu>'"),
        (lambda other: nn.PairwiseDistance(1.0 if other else 2.0), "norm expected 2.0, got 1.0"),
    ],
)  # fmt: skip
def test_settings_of_torch_that_no_state_dict_holds(build, words, tmp_path) -> None:
    torch.manual_seed(0)

    def net(other: bool) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), build(other))

    fusionconv.save(fusionconv.fuse_into(net(False), 0, 1), tmp_path / "saved")
    fusionconv.load(tmp_path / "saved", net(False))
    refused(tmp_path / "saved", net(True), words)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyboardInterrupt])
def test_a_module_that_fails_while_it_is_loaded(saved, monkeypatch, error) -> None:
    def fails(self, *args):
        raise error("half way")

    backbone = plain_net()
    before = everything(backbone)
    monkeypatch.setattr(nn.Linear, "_load_from_state_dict", fails)
    with pytest.raises(CheckpointError if error is RuntimeError else error, match="half way"):
        fusionconv.load(saved, backbone)
    assert everything(backbone) == before  # the layers before it had their new numbers already


def test_a_module_that_changes_what_is_loaded(saved, monkeypatch) -> None:
    def doubles(self, state_dict, prefix, *args):
        state_dict[prefix + "weight"] = 2 * state_dict[prefix + "weight"]
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args)

    monkeypatch.setattr(nn.Linear, "_load_from_state_dict", doubles)
    refused(saved, plain_net(), r"1 entries of Sequential did not take the saved values: '8\.weight'")


def test_out_of_memory_in_the_second_layer(saved, monkeypatch) -> None:
    attach, calls = fusionconv.layers.HybridLayer.attach_covariates, []

    def fails(self, *args, **kwargs):
        attach(self, *args, **kwargs)
        calls.append(self)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(fusionconv.layers.HybridLayer, "attach_covariates", fails)
    backbone = plain_net()
    before = everything(backbone)
    with pytest.raises(CheckpointError, match="nothing was changed: no memory"):
        fusionconv.load(saved, backbone)
    assert everything(backbone) == before


def test_a_file_that_is_replaced_while_it_is_read(saved, monkeypatch) -> None:
    """What was checked is what is used: the file is read once."""
    from pathlib import Path

    reads, read_bytes = [], Path.read_bytes

    def read_once(self):
        reads.append(self.name)
        data = read_bytes(self)
        if self.name == "model.safetensors":
            self.write_bytes(b"another")
        return data

    monkeypatch.setattr(Path, "read_bytes", read_once)
    again, _ = fusionconv.load(saved, plain_net())
    assert reads == ["fusion.json", "model.safetensors"]
    assert_same_state(again, fused_net(rank=1))


def test_the_manifest_may_say_more(saved) -> None:
    edit(saved, lambda m: m.update(note="of a later library, same version"))
    assert json.loads((saved / "fusion.json").read_text())["note"]
    fusionconv.load(saved, plain_net())
