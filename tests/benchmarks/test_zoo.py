"""The zoo: a sample of other libraries' networks, and the checker itself, which must see every wrong mechanism."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv
from benchmarks.zoo import __main__ as command
from benchmarks.zoo.case import Case
from benchmarks.zoo.checks import CHECKS, check
from benchmarks.zoo.outputs import distance, flatten, split
from benchmarks.zoo.table import page
from fusionconv.surgery.fused_layers import FusedConv2d

# ---------------------------------------------------------------- a sample of the sweep

SAMPLE = [
    "torchvision/densenet121 memory_efficient",  # activation checkpointing inside
    "torchvision/googlenet with auxiliary heads",
    "torchvision/efficientnet_b0",
    "torchvision/convnext_tiny",
    "torchvision/regnet_y_400mf",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/swin_t",  # one convolution
    "torchvision/lraspp_mobilenet_v3_large",  # outputs in a dict
    "torchvision/r3d_18",  # torchvision's own subclasses of Conv3d
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn",  # a list of images, a list of detections
    "torchvision/mobilenet_v2",
    "timm/efficientnet_lite0 with set_grad_checkpointing",
    "timm/nf_regnet_b0",  # weight-standardised convolutions stand aside
    "timm/ghostnet_050",
    "timm/repghostnet_050",
    "timm/mobilevit_xxs",
    "timm/edgenext_xx_small",
    "timm/starnet_s050",
    "monai/UNet 2-D",
    "monai/UNet 3-D",
    "monai/SegResNet 3-D",
    "monai/SwinUNETR use_checkpoint 2-D",
    "monai/DynUNet deep_supervision 2-D",
    "monai/AutoencoderKL reconstruct 2-D",  # another method than forward
    "monai/DiffusionModelUNet 2-D",
    "monai/VNet 2-D",
    "monai/DenseNet121 3-D",
]


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Case]:
    return {case.key: case for case in command.catalogue(list(command.LIBRARIES))}


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other libraries' notes on their own networks
@pytest.mark.parametrize("key", SAMPLE)
def test_a_network_of_the_sample(key: str, catalogue: dict[str, Case]) -> None:
    record = check(catalogue[key])
    assert record["status"] == "pass", record["reason"]
    assert len(record["layers"]) == min(3, record["convolutions"])


@pytest.mark.zoo
def test_the_catalogue_holds_what_it_promises(catalogue: dict[str, Case]) -> None:
    import monai.networks.nets
    import timm
    import torchvision

    names = {library: [c.name for c in catalogue.values() if c.library == library] for library in command.LIBRARIES}
    assert set(torchvision.models.list_models()) <= set(names["torchvision"])
    modules = {timm.model_entrypoint(n.split(" ")[0]).__module__ for n in names["timm"]}
    assert len(modules) > 90
    assert len(names["timm"]) >= 120
    assert len(catalogue) == sum(map(len, names.values()))  # no two cases share a key
    for case in catalogue.values():
        assert case.shapes, case.key
    classes = {
        m for m in vars(monai.networks.nets).values() if isinstance(m, type) and issubclass(m, nn.Module)
    }  # each is in the catalogue, is a part of one, or holds no convolution
    left_out = """FullyConnectedNet VarFullyConnectedNet DecoderOnlyTransformer BertAttention BertMixedLayer BertOutput
        BertPreTrainedModel MultiModal Pooler PatchMerging PatchMergingV2 ResNetBlock ResNetBottleneck HighResBlock
        TopologyConstruction TopologyInstance TopologySearch NaViT DenseNet EfficientNet ResNet SENet""".split()  # noqa: SIM905
    words = {name.split(" ")[0] for name in names["monai"]}
    for m in classes:
        known = [m.__name__, *(alias for alias, value in vars(monai.networks.nets).items() if value is m)]
        assert words & set(known) or set(known) & set(left_out), m


# ---------------------------------------------------------------- the checker sees what is wrong


class Net(nn.Module):
    """Three convolutions with batch norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 4, 3)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.norm(self.a(x)))))).mean((2, 3))


def case_of(build, **fields) -> Case:
    return Case("here", "test", "net", lambda shape: build(), ((3, 12, 12),), **fields)


def test_a_network_that_is_right_passes_every_check() -> None:
    record = check(case_of(Net))
    assert record["status"] == "pass", record["reason"]
    assert record["passed"] == list(CHECKS)
    assert [layer["name"] for layer in record["layers"]] == ["a", "b", "c"]
    assert record["remarks"] == []


def test_a_network_that_reads_the_weight_itself_fails() -> None:
    class Reads(Net):
        def forward(self, x):
            return self.c(F.conv2d(torch.relu(self.a(x)), self.b.weight, self.b.bias)).mean((2, 3))

    record = check(case_of(Reads))
    assert record["status"] == "fail"
    assert record["reason"].startswith("rows: layer b: outputs do not follow the covariates")


WRONG = {
    "rows rolled by one": lambda s: s.roll(1, 0),
    "rows swapped": lambda s: s[[0, 2, 1][: len(s)]],
    "the first row for all": lambda s: s[:1].expand_as(s),
    "the mean row for all": lambda s: s.mean(0, keepdim=True).expand_as(s),
    "no covariates": lambda s: 0 * s,
    "covariates in another order": lambda s: s.flip(1),
    "one covariate left out": lambda s: s * torch.tensor([1.0, 0.0], dtype=s.dtype),
    "a little too strong": lambda s: 1.1 * s,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_rows_fail(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = FusedConv2d.call_covariates
    monkeypatch.setattr(FusedConv2d, "call_covariates", lambda self: WRONG[wrong](right(self)))
    record = check(case_of(Net))
    assert record["status"] == "fail"
    assert record["reason"].startswith("rows: layer a")


def test_wrong_covariates_in_recomputation_fail_by_their_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right outputs, but a checkpointed layer that is run again sees another row: only gradients tell."""

    class Checkpointed(Net):
        def forward(self, x):
            x = checkpoint(lambda y: torch.relu(self.norm(self.a(y))), x, use_reentrant=False)
            return self.c(torch.tanh(self.b(x))).mean((2, 3))

    right = FusedConv2d.call_covariates

    def call_covariates(self):
        s = right(self)
        return s.roll(1, 0) if torch._C._current_graph_task_id() != -1 else s

    assert check(case_of(Checkpointed))["status"] == "pass"
    monkeypatch.setattr(FusedConv2d, "call_covariates", call_covariates)
    record = check(case_of(Checkpointed))
    assert record["status"] == "fail"
    assert record["reason"].startswith("gradient: layer a")


def test_outputs_that_are_not_the_plain_networks_at_the_start_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FusedConv2d.forward
    monkeypatch.setattr(FusedConv2d, "forward", lambda self, x: right(self, x) * 1.01)
    assert check(case_of(Net))["reason"].startswith("start: with V = 0")


def test_a_v_without_a_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FusedConv2d.forward

    def detached(self, x):
        self.covariate_weight.requires_grad_(False)
        try:
            return right(self, x)
        finally:
            self.covariate_weight.requires_grad_(True)

    monkeypatch.setattr(FusedConv2d, "forward", detached)
    record = check(case_of(Net))
    assert record["status"] == "fail"
    assert "no output takes a gradient" in record["reason"]


def test_a_v_without_a_gradient_in_training_mode_alone_fails() -> None:
    class Detaches(Net):
        def forward(self, x):
            x = self.a(x)
            x = torch.relu(self.norm(x.detach() if self.training else x))
            return self.c(torch.relu(self.b(x))).mean((2, 3))

    record = check(case_of(Detaches))
    assert record["reason"].startswith("train: layer a: V's gradient is none")


@pytest.mark.parametrize("trace", ["class", "weight", "attribute"])
def test_an_unfuse_that_leaves_a_trace_fails(trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fusionconv.unfuse

    def leaves_a_trace(model):
        right(model)
        if trace == "class":
            model.b.__class__ = type("Conv2d", (nn.Conv2d,), {})
        elif trace == "weight":
            model.b.weight.data += 1e-7
        else:
            model.b.left_over = 1
        return model

    calls: list[int] = []

    def after_the_trials(model):  # each of the three layers is fused and unfused once before
        calls.append(1)
        return right(model) if len(calls) <= 3 else leaves_a_trace(model)

    monkeypatch.setattr(fusionconv, "unfuse", after_the_trials)
    record = check(case_of(Net))
    assert record["status"] == "fail"
    assert record["reason"].startswith("unfuse: ")


# ---------------------------------------------------------------- which layers are chosen


def test_layers_that_do_not_count_are_passed_over_and_named() -> None:
    class Own(nn.Conv2d):
        """A class of its own."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = Own(3, 4, 3)
            self.first = nn.Conv2d(4, 4, 3)
            self.dead = nn.Conv2d(4, 4, 3)
            self.last = nn.Conv2d(4, 4, 3)
            self.auxiliary = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            x = self.first(torch.tanh(self.own(x)))
            return self.last(torch.tanh(x) + 0 * self.dead(x).mean())

    record = check(case_of(Odd))
    assert record["status"] == "pass", record["reason"]
    assert [(layer["which"], layer["name"]) for layer in record["layers"]] == [("first", "first"), ("middle", "last")]
    over = {p.split(": ", 1)[0]: p.split(": ", 1)[1] for layer in record["layers"] for p in layer["passed_over"]}
    assert "a class of its own" in over["own"]
    assert "do not depend on it" in over["dead"]


def test_a_layer_that_sees_other_rows_is_refused_at_the_call() -> None:
    class Pairs(Net):
        def forward(self, x):
            x = torch.relu(self.a(torch.cat([x, x.flip(-1)])))  # twice the batch
            x, y = x.chunk(2)
            return self.c(torch.relu(self.b(x + y))).mean((2, 3))

    record = check(case_of(Pairs))
    assert record["status"] == "pass", record["reason"]
    assert [layer["name"] for layer in record["layers"]] == ["b", "c"]
    assert record["layers"][0]["passed_over"][0].startswith("a: CovariateError at the call")
    record = check(case_of(Pairs, rows=2))  # now it is the others that do not fit
    assert record["layers"][0]["name"] == "a"


def test_networks_that_cannot_be_judged_are_not_passed() -> None:
    class Own(nn.Conv2d):
        """A class of its own."""

    record = check(case_of(lambda: nn.Sequential(Own(3, 4, 3))))
    assert record["status"] == "refused"
    assert "a class of its own" in record["reason"]
    assert check(case_of(lambda: nn.Sequential(nn.Flatten())))["status"] == "refused"

    class Dead(Net):
        def forward(self, x):
            return x.mean((2, 3)) + 0 * super().forward(x).mean()

    record = check(case_of(Dead))
    assert record["status"] == "refused"
    assert "do not depend on it" in record["reason"]

    class Broken(Net):
        def forward(self, x):
            raise ValueError("no such size")

    record = check(case_of(Broken))
    assert record["status"] == "error"
    assert "no such size" in record["reason"]


def test_a_fused_network_that_raises_where_the_plain_one_does_not_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self, x):
        raise RuntimeError("a shape that does not fit")

    monkeypatch.setattr(FusedConv2d, "forward", broken)
    record = check(case_of(Net))
    assert record["status"] == "fail"
    assert "a shape that does not fit" in record["reason"]


# ---------------------------------------------------------------- outputs


def test_outputs_of_every_form_are_flattened_and_nothing_is_left_out() -> None:
    import dataclasses

    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor
        aux: torch.Tensor | None = None

    x = torch.arange(6.0).reshape(3, 2)
    assert len(flatten({"a": [x, (x, None)], "b": Output(x), "c": 2.0})) == 4
    with pytest.raises(TypeError, match="cannot be compared"):
        flatten({"a": object()})
    parts = split({"a": x, "loss": torch.tensor(1.0)}, 3)
    assert [len(p) for p in parts] == [1, 1, 1]
    assert torch.equal(parts[2][0], x[2:])
    with pytest.raises(ValueError, match="no output has rows"):
        split(torch.tensor(1.0), 3)


def test_distance_sees_shapes_numbers_and_nan() -> None:
    x = torch.ones(2, 2)
    assert distance([x], [x]) == 0
    assert distance([x], [1.5 * x]) == pytest.approx(1 / 3)
    for other in ([x[:1]], [x, x], [], [x * float("nan")], [x.double()]):
        assert distance([x], other) == float("inf")


# ---------------------------------------------------------------- the command


def test_the_command_resumes_and_writes_the_page(tmp_path, monkeypatch, capsys) -> None:
    class Reads(Net):
        def forward(self, x):
            return F.conv2d(x, self.a.weight).mean((2, 3))

    cases = [
        Case("timm", "kind", "good", lambda shape: Net(), ((3, 12, 12),), note="a note"),
        Case("timm", "kind", "bad", lambda shape: Reads(), ((3, 12, 12),)),
    ]
    monkeypatch.setattr(command, "catalogue", lambda libraries: cases)
    built: list[str] = []
    real = command.run
    monkeypatch.setattr(command, "run", lambda case, seconds: built.append(case.name) or real(case, seconds))
    options = ["--output", str(tmp_path / "zoo"), "--page", str(tmp_path / "page.md")]
    assert command.main([*options, "--only", "good"]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "## Not tried yet\n\ntimm/bad" in text
    assert command.main(options) == 1
    assert built == ["good", "bad"]
    lines = (tmp_path / "zoo" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["pass", "fail"]
    with (tmp_path / "zoo" / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"library": "timm", "na')  # cut off by a crash
    assert command.main([*options, "--table"]) == 1
    assert built == ["good", "bad"]
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Not tried yet" not in text
    assert "| **timm** | **all** | 2 | 2 | 1 | 0 | 1 | 0 | 50.0 % |" in text
    assert "**timm: bad** (**failed**" in text
    assert "outputs do not follow the covariates" in text
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main([*options, "--only", "nothing"])
    assert "matches none of the 2 networks" in capsys.readouterr().err


def test_a_network_that_takes_too_long_is_an_error(tmp_path) -> None:
    import time

    def busy():
        started = time.monotonic()
        while time.monotonic() < started + 100:
            pass

    record = command.run(case_of(busy), 1)
    assert record["status"] == "error"
    assert "took more than 1 s of processor time" in record["reason"]
    assert page([record | {"date": "2020-01-01", "conditions": "here"}], [])
