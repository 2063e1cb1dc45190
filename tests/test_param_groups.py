"""param_groups: which parameter stands in which group, and what an optimizer then does with it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import fusionconv
from fusionconv import param_groups
from tests.helpers.networks import data, fused_body, small_net


def by_name(groups: list[dict]) -> dict[str, list[int]]:
    return {g["name"]: [id(p) for p in g["params"]] for g in groups}


def assert_parted(model: nn.Module, covariate_names: list[str]) -> None:
    """Each trainable parameter once, and exactly ``covariate_names`` in "covariates"."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    groups = by_name(param_groups(model, 0.1, 0.2, covariate_lr=0.1))  # one rate: one group of covariate parameters
    everything = [i for ids in groups.values() for i in ids]
    assert sorted(everything) == sorted(id(p) for p in named.values())
    assert groups.get("covariates", []) == [id(named[n]) for n in covariate_names]


def test_a_fused_network() -> None:
    model = fusionconv.fuse_into(small_net(), [0, -1], 3, covariate_bias=True, rank=2)
    names = ["covariate_weight", "covariate_bias", "covariate_map"]
    assert_parted(model, [f"{layer}.{name}" for layer in (0, 5) for name in names])
    model[0].covariate_weight.requires_grad_(False)
    model[5].weight.requires_grad_(False)
    assert_parted(model, ["0.covariate_bias", "0.covariate_map", *(f"5.{name}" for name in names)])


def test_layers_built_by_hand_and_a_linear_one() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = fusionconv.HybridConv3d(1, 2, 3, num_covariates=1)
            self.up = fusionconv.HybridConvTranspose3d(2, 1, 3, num_covariates=1, bias=False)
            self.head = fusionconv.HybridLinear(4, 2, num_covariates=1, covariate_bias=True)
            self.covariate_weight = nn.Parameter(torch.zeros(1))  # of that name, but no hybrid layer's

    covariates = ["conv.covariate_weight", "up.covariate_weight", "head.covariate_weight", "head.covariate_bias"]
    assert_parted(Net(), covariates)


def test_wrapped_models() -> None:
    model = fusionconv.fuse_into(small_net(), 0, 2)
    for wrapped, prefix in [
        (nn.DataParallel(model), "module."),
        (torch.compile(model), "_orig_mod."),
        (nn.Sequential(nn.Linear(2, 2), model), "1."),
    ]:
        assert_parted(wrapped, [f"{prefix}0.covariate_weight"])


def test_shared_parameters_stand_once() -> None:
    first, second = (fusionconv.HybridConv2d(3, 3, 3, num_covariates=2) for _ in range(2))
    second.covariate_weight, second.weight = first.covariate_weight, first.weight
    assert_parted(nn.Sequential(first, second, first), ["0.covariate_weight"])


def test_pruned_and_parametrized() -> None:
    model = fusionconv.fuse_into(small_net(), [0, -1], 2)
    prune.l1_unstructured(model[0], "covariate_weight", amount=0.5)
    nn.utils.parametrize.register_parametrization(model[5], "covariate_weight", nn.Identity())
    assert_parted(model, ["0.covariate_weight_orig", "5.parametrizations.covariate_weight.original"])


def test_one_group_where_there_is_only_one_kind() -> None:
    assert list(by_name(param_groups(small_net(), 0.1, 0.2))) == ["backbone"]
    layer = fusionconv.HybridConv2d(3, 3, 3, num_covariates=2)
    layer.weight.requires_grad_(False)
    layer.bias.requires_grad_(False)
    assert list(by_name(param_groups(layer, 0.1, 0.2))) == ["covariates"]


def test_rates() -> None:
    model = fusionconv.fuse_into(small_net(), 0, 2)
    numbers = [(g["lr"], g["weight_decay"]) for g in param_groups(model, 1e-3, 0.05)]
    assert numbers == [(1e-3, 0.05), (5e-4, 0.0)]  # two covariates
    numbers = [(g["lr"], g["weight_decay"]) for g in param_groups(model, 1e-3, 0.05, covariate_lr=1e-3)]
    assert numbers == [(1e-3, 0.05), (1e-3, 0.0)]
    numbers = [
        (g["lr"], g["weight_decay"]) for g in param_groups(model, 0, 0, covariate_lr=1, covariate_weight_decay=2)
    ]
    assert numbers == [(0.0, 0.0), (1.0, 2.0)]


NET = ("covariate_out_weight", "covariate_hidden_weight", "covariate_hidden_bias")
# Of a layer with 3 inputs and 8 outputs and K = 6 covariates: what divides lr, by parameter; 1 where lr is kept.
DIVIDED = [
    ("hybrid", {"covariate_bias": True}, {"covariate_weight": 6, "covariate_bias": 6}),
    ("hybrid", {"rank": 2, "covariate_bias": True}, {"covariate_weight": 2, "covariate_bias": 2, "covariate_map": 1}),
    ("lowrank", {"covariate_bias": True, "rank": 3},
     {"covariate_bias": 3, "covariate_filters": 1, "covariate_mixing": 1, "covariate_out_weight": 1}),
    ("hyper", {"hidden": 5}, {"covariate_weight": 5, "covariate_hidden_weight": 1, "covariate_hidden_bias": 1}),
    ("hyper", {"hidden": 5, "rank": 3},
     {"covariate_weight": 3, "covariate_map": 1, "covariate_hidden_weight": 1, "covariate_hidden_bias": 1}),
    ("film", {}, {"covariate_out_weight": 6}),
    ("film", {"hidden": 4}, dict.fromkeys(NET, 1)),
    ("scale", {"hidden": 4}, dict.fromkeys(NET, 1)),
    ("attention", {"hidden": 4, "pooled": True}, dict.fromkeys(NET, 1)),
    ("daft", {}, {"covariate_out_weight": 1, "covariate_hidden_weight": 1}),
    ("condconv", {"experts": 3, "ignore_covariates": True},
     {"covariate_weight": 3, "routing_weight": 1, "routing_bias": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "expected"), DIVIDED)
def test_what_divides_the_rate(method, options, expected) -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 6, method=method, **options)
    rate = {id(p): g["lr"] for g in param_groups(model, 1.0, 0.0) for p in g["params"]}
    found = {name.removeprefix("0."): 1 / rate[id(p)] for name, p in model.named_parameters()}
    assert found == pytest.approx({"weight": 1, "bias": 1, **expected})


@pytest.mark.parametrize("name", NET)
@pytest.mark.parametrize("how", ["pruned", "parametrized"])
def test_rows_through_a_network_that_is_pruned_or_parametrized(how: str, name: str) -> None:
    """F of lowrank's d is the mean of sum |c|, with the C1, c1 and C2 that the layer computes with."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 6, "lowrank", hidden=40, covariate_bias=True)
    layer, rows = model[0], torch.randn(50, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.covariate_out_weight.mul_(20)
    if how == "pruned":
        prune.l1_unstructured(layer, name, amount=0.5)
    else:
        nn.utils.parametrize.register_parametrization(layer, name, nn.Softplus())
    names = ("covariate_hidden_weight", "covariate_hidden_bias", "covariate_out_weight")
    c1, c0, c2 = (getattr(layer, n).detach().double() for n in names)
    total = sum(float((c2 @ (c1 @ row + c0).clamp(min=0)).abs().sum()) for row in rows) / 50
    assert total > 1
    rate = {id(p): g["lr"] for g in param_groups(model, 1.0, 0.0, covariates=rows) for p in g["params"]}
    assert rate[id(layer.covariate_bias)] == pytest.approx(1 / total)


def test_concat_is_an_ordinary_linear_layer() -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Linear(3, 8)), 0, 6, method="concat", hidden=4)
    assert {g["lr"] for g in param_groups(model, 1.0, 0.0)} == {1.0}


def test_rows_of_the_covariates_divide_the_rate() -> None:
    """F is the mean over the rows of sum |s|: 1 for one-hot columns, however many; hidden units as the layer has them."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 6)
    assert param_groups(model, 1.0, 0.0, covariates=torch.eye(6).numpy())[1]["lr"] == 1
    rows = torch.randn(50, 6, dtype=torch.float64)
    total = sum(abs(float(v)) for row in rows for v in row) / 50
    assert param_groups(model, 1.0, 0.0, covariates=rows)[1]["lr"] == pytest.approx(1 / total)
    assert param_groups(model, 1.0, 0.0, covariates=rows / 1000)[1]["lr"] == 1  # never above lr
    fusionconv.unfuse(model)
    fusionconv.fuse_into(model, 0, 6, method="hyper", hidden=40)
    layer, units = model[0], 0.0
    for row in rows:
        for weights, bias in zip(layer.covariate_hidden_weight, layer.covariate_hidden_bias, strict=True):
            units += max(0.0, float(row @ weights.double() + bias)) / 50
    assert units > 1
    groups = {g["name"]: g["lr"] for g in param_groups(model, 1.0, 0.0, covariates=rows)}
    assert groups == {"backbone": 1, "covariates/1": 1, f"covariates/{units:.4g}": pytest.approx(1 / units)}


@pytest.mark.parametrize("method", ["hybrid", "hyper", "film", "condconv"])
def test_every_row_counts(method) -> None:
    """A table that is sorted, or whose every second row is of another kind, has the F of the same rows in any order."""
    options = {"ignore_covariates": True} if method == "condconv" else {}
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 2, method, **options)
    first = torch.arange(25_001.0)
    tables = {"sorted": first, "every second": torch.where(first % 2 == 0, 0, 9.0)}
    for column in tables.values():
        rows = torch.stack([column / 1000, torch.ones_like(column)], 1)
        shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
        rates = [sorted(g["lr"] for g in param_groups(model, 1.0, 0.0, covariates=r)) for r in (rows, shuffled)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-9)
        if method == "hybrid":
            assert rates[0][0] == pytest.approx(1 / (float(rows.double()[:, 0].mean()) + 1))
    rows[-1, 0] = math.nan
    with pytest.raises(ValueError, match="got NaN or infinity"):
        param_groups(model, 1.0, 0.0, covariates=rows)


def test_rows_of_every_kind_of_table() -> None:
    import pandas as pd

    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 2)
    frame = pd.DataFrame({"age": [3.0, -2.5, 7.0], "female": [True, False, True]}, index=["a", "b", "c"])
    rows = torch.tensor([[3, 1], [-2.5, 0], [7, 1]])
    of_another_type = (frame.astype({"age": "Float64", "female": "boolean"}), frame[::-1], frame.to_numpy(dtype="f4"))
    for given in (rows, frame, *of_another_type, rows.tolist(), rows.to_sparse(), rows.half().requires_grad_()):
        assert param_groups(model, 1.0, 0.0, covariates=given)[1]["lr"] == pytest.approx(1 / (14.5 / 3))
    for bad in (frame.assign(age=["old", "young", "old"]), frame.astype("Float64").mask(frame > 5), [[1, 2], [3]]):
        with pytest.raises(ValueError, match=r"covariates: expected .*give them as the encoder makes them"):
            param_groups(model, 1.0, 0.0, covariates=bad)


@pytest.mark.parametrize(("rule", "times"), [(None, 2), (0.01, 1 + 5)])
def test_a_kernel_moves_as_a_plain_layers_would(rule, times) -> None:
    """Where all covariates are 1 and one rate holds, Adam's first step moves a sample's kernel 1 + K times lr."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 5).double()
    x, s = torch.rand(4, 3, 6, 6, dtype=torch.float64) + 0.1, torch.ones(4, 5, dtype=torch.float64)
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(param_groups(model, 0.01, 0.0, rule))
    (-model(x, s)).sum().backward()
    optimizer.step()
    kernels = [fusionconv.merge(m, s[0])[0].weight.detach() for m in (before, model)]
    torch.testing.assert_close(kernels[1] - kernels[0], torch.full_like(kernels[0], 0.01 * times), rtol=1e-6, atol=0)


def test_flattened_parameters_say_what_to_do() -> None:
    """FSDP's older form makes parts of flat vectors of parameters; what is not told by the options is not guessed."""
    for method, options, known in (("film", {}, 6), ("hybrid", {}, 6), ("hyper", {"hidden": 4}, None)):
        model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 6, method=method, **options)
        for name, p in list(model[0].covariate_parameters()):
            setattr(model[0], name, nn.Parameter(p.detach().flatten()[:7].clone()))
        assert {g["lr"] for g in param_groups(model, 1.0, 0.0, covariate_lr=1.0)} == {1.0}
        if known is None:
            with pytest.raises(fusionconv.SurgeryError, match="give covariate_lr"):
                param_groups(model, 1.0, 0.0)
        else:
            assert min(g["lr"] for g in param_groups(model, 1.0, 0.0)) == pytest.approx(1 / known)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_one_step_by_hand(optimizer) -> None:
    """SGD: p - lr (g + decay p). AdamW's first step: p (1 - lr decay) - lr g / (|g| + eps)."""
    model = fused_body().eval()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step = getattr(torch.optim, optimizer)(param_groups(model, 0.1, 0.5, covariate_lr=0.2, covariate_weight_decay=0.03))
    model(*data(1)).square().sum().backward()
    step.step()
    for name, p in model.named_parameters():
        lr, decay = (0.2, 0.03) if "covariate" in name else (0.1, 0.5)
        old, g = before[name], p.grad
        if optimizer == "SGD":
            expected = old - lr * (g + decay * old)
        else:
            expected = old * (1 - lr * decay) - lr * g / (g.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-7, atol=1e-9, msg=name)


def test_what_it_is_for() -> None:
    """Covariates of zero give V no push: AdamW over model.parameters() pulls V to zero, the groups leave it alone."""
    x, s = data(1)
    moved = {}
    for how in ("ordinary", "grouped"):
        model = copy.deepcopy(fused_body().eval())
        v = model.net[0].covariate_weight.detach().clone()
        groups = param_groups(model, 0.1, 0.5) if how == "grouped" else model.parameters()
        optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
        model(x, torch.zeros_like(s)).square().sum().backward()
        optimizer.step()
        moved[how] = (model.net[0].covariate_weight.detach() / v).mean().item()
    assert moved == {"ordinary": pytest.approx(0.95), "grouped": 1.0}


def test_schedulers_and_the_monitor_of_lightning(tmp_path) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    class Study(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = fusionconv.fuse_into(small_net(), 0, 2)

        def training_step(self, batch, index):
            return self.net(*batch).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(param_groups(self, 0.1, 0.0, covariate_lr=0.4))
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    monitor = LearningRateMonitor("step")
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=CSVLogger(tmp_path), callbacks=[monitor], log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    dataset = torch.utils.data.TensorDataset(torch.randn(8, 3, 8, 8), torch.randn(8, 2))
    trainer.fit(Study(), torch.utils.data.DataLoader(dataset, batch_size=4))
    seen = {name.split("/")[-1]: values for name, values in monitor.lrs.items()}
    assert seen == {"backbone": [0.1, 0.05], "covariates": [0.4, 0.2]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"lr": -0.1}, ValueError, "lr must be a finite number of at least 0, got -0.1"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay .*got nan"),
        ({"covariate_lr": math.inf}, ValueError, "covariate_lr .*got inf"),
        ({"covariate_weight_decay": -1}, ValueError, "covariate_weight_decay .*got -1"),
        ({"lr": "1e-5"}, TypeError, r"lr must be a number, got '1e-5' \(str\); YAML.*1.0e-5"),
        ({"lr": True}, TypeError, "got True"),
        ({"weight_decay": None}, TypeError, "got None"),
        ({"model": [nn.Linear(1, 1)]}, TypeError, "torch.nn.Module, got list"),
        ({"covariates": torch.full((3, 2), math.nan)}, ValueError, "finite training rows.*got NaN"),
        ({"covariates": torch.zeros(3)}, ValueError, r"rows \(N, K\), got shape \(3,\)"),
        ({"covariates": torch.zeros(0, 2)}, ValueError, r"got shape \(0, 2\)"),
        (
            {"covariates": torch.zeros(4, 3), "model": fusionconv.fuse_into(small_net(), 0, 2)},
            ValueError,
            "expected 2 columns for the layer '0', got 3",
        ),
        ({"model": nn.ReLU()}, ValueError, "at least one parameter.*ReLU has none"),
    ],
)
def test_bad_arguments(change, error, words) -> None:
    with pytest.raises(error, match=words):
        param_groups(**{"model": small_net(), "lr": 0.1, "weight_decay": 0.1, **change})
