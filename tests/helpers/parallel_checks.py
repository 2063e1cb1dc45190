"""What a fused model must do in a group of processes; `tests/surgery/test_parallel.py` starts two and reads the answers.

    python -m tests.helpers.parallel_checks RANK FOLDER

Every check is a function of the rank. What it raises is written to FOLDER/RANK.json under its name, so that one pair of
processes serves all checks. Expected values come from the same network without wrapper, over the whole batch.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fusionconv
from fusionconv.errors import CovariateError, SurgeryError
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import data, with_covariates_that_matter

WORLD = 2
CHECKS: dict[str, Callable[[int], None]] = {}
MODES = ["plain", "reentrant", "non-reentrant"] if CAN_RECOMPUTE else ["plain"]
Wrap = Callable[[nn.Module], nn.Module]


def check(function: Callable[[int], None]) -> Callable[[int], None]:
    CHECKS[function.__name__] = function
    return function


def whole(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    x, s = data(0, n=8)
    return x.detach().to(dtype), s.to(dtype)


def mine(rank: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t[rank * 4 : (rank + 1) * 4] for t in tensors]


class Blocks(nn.Module):
    """Three blocks without batch norm, each under activation checkpointing unless ``mode`` is "plain"."""

    def __init__(self, mode: str = "plain") -> None:
        super().__init__()
        self.mode = mode
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Tanh()),
                nn.Sequential(nn.Conv2d(6, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 6, 1)),
                nn.Sequential(nn.Conv2d(6, 5, 3), nn.Tanh()),
            ]
        )
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x) if self.mode == "plain" else checkpoint(block, x, use_reentrant=self.mode == "reentrant")
        return self.head(x.mean((2, 3)))


def model_for(mode: str = "plain", seed: int = 0) -> Blocks:
    """Fused in its first and its last convolution; the two between stay plain."""
    torch.manual_seed(seed)
    model = fusionconv.fuse_into(Blocks(mode).double(), [0, -1], num_covariates=2, covariate_bias=True)
    return with_covariates_that_matter(model)


def loss(y: torch.Tensor) -> torch.Tensor:
    return y.square().mean()


def full(t: torch.Tensor | None) -> torch.Tensor | None:
    return t.full_tensor() if t is not None and hasattr(t, "full_tensor") else t  # type: ignore[operator]


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    named = {name.removeprefix("module."): full(p.grad) for name, p in model.named_parameters()}
    assert all(g is not None for g in named.values()), [n for n, g in named.items() if g is None]
    return named  # type: ignore[return-value]


def expected_gradients(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean over ``batches`` of the gradients of one process."""
    model = model_for()
    for x, s in batches:
        (loss(model(x, s)) / len(batches)).backward()
    return gradients(model)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    assert any("covariate" in name and g.abs().max() > 0 for name, g in expected.items())
    for name, g in expected.items():
        torch.testing.assert_close(got[name], g, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def raises(error: type[Exception], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=re.escape(words)):
        call()


# ---------------------------------------------------------------- DistributedDataParallel


def ddp_equals_one_process(rank: int, mode: str, **options: object) -> None:
    x, s = whole()
    ddp = DistributedDataParallel(model_for(mode), find_unused_parameters=False, **options)
    for _ in range(3):  # DDP notices in the second step what the first left out; static_graph starts there
        ddp.zero_grad()
        xi, si = mine(rank, x, s)
        loss(ddp(xi.requires_grad_(), si)).backward()
        assert_same(gradients(ddp), expected_gradients([(x, s)]))


for _mode in MODES:
    CHECKS[f"ddp_{_mode}"] = partial(ddp_equals_one_process, mode=_mode)
    CHECKS[f"ddp_static_graph_{_mode}"] = partial(ddp_equals_one_process, mode=_mode, static_graph=True)


@check
def ddp_with_batches_of_unequal_size(rank: int) -> None:
    x, s = whole()
    parts = [(x[:5], s[:5]), (x[5:6], s[5:6])]
    ddp = DistributedDataParallel(model_for())
    loss(ddp(*parts[rank])).backward()
    assert_same(gradients(ddp), expected_gradients(parts))


@check
def ddp_with_an_empty_batch_on_one_rank(rank: int) -> None:
    x, s = whole()
    ddp = DistributedDataParallel(model_for(), find_unused_parameters=False)
    n = 4 if rank == 0 else 0
    for _ in range(2):
        ddp.zero_grad()
        ddp(x[:n], s[:n]).square().sum().backward()
    one = model_for()
    (one(x[:4], s[:4]).square().sum() / WORLD).backward()
    assert_same(gradients(ddp), gradients(one))


@check
def ddp_accumulates_with_no_sync(rank: int) -> None:
    x, s = whole()
    ddp = DistributedDataParallel(model_for())
    xi, si = mine(rank, x, s)
    with ddp.no_sync():
        (loss(ddp(xi[:2], si[:2])) / 2).backward()
    (loss(ddp(xi[2:], covariates=si[2:])) / 2).backward()
    assert_same(gradients(ddp), expected_gradients([(x, s)]))


@check
def ddp_a_sampler_keeps_rows_with_their_images(rank: int) -> None:
    x, s = whole()
    ddp = DistributedDataParallel(model_for())
    dataset = TensorDataset(x, s, torch.arange(8))
    loader = DataLoader(dataset, batch_size=2, sampler=DistributedSampler(dataset, shuffle=True, seed=1))
    with torch.no_grad():
        expected = model_for()(x, s)
        seen = 0
        for xi, si, index in loader:
            torch.testing.assert_close(ddp(xi, si), expected[index], rtol=1e-10, atol=1e-10)
            seen += len(index)
    assert seen == 4


@check
def ddp_without_covariates_then_with(rank: int) -> None:
    x, s = whole()
    ddp = DistributedDataParallel(model_for())
    xi, si = mine(rank, x, s)
    with torch.no_grad():  # in training DDP itself allows no forward that is given up
        ddp(xi, si)
        raises(CovariateError, "needs them in every call", lambda: ddp(xi))
    loss(ddp(xi, si)).backward()
    assert_same(gradients(ddp), expected_gradients([(x, s)]))


@check
def ddp_trains_both_ranks_alike(rank: int) -> None:
    x, s = whole()
    ddp, one = DistributedDataParallel(model_for()), model_for()
    for model, batch in ((ddp, mine(rank, x, s)), (one, [x, s])):
        optimizer = torch.optim.AdamW(fusionconv.param_groups(model, lr=1e-2, weight_decay=0.1))
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(*batch)).backward()
            optimizer.step()
    for (name, p), q in zip(ddp.module.named_parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@check
def ddp_roots_are_refused(rank: int) -> None:
    ddp = DistributedDataParallel(model_for())
    raises(SurgeryError, "wrapped already", lambda: fusionconv.fuse_into(ddp, 1, 2))
    raises(SurgeryError, "wrapper.module", lambda: fusionconv.unfuse(ddp))
    raises(SurgeryError, "wrapper.module", lambda: fusionconv.covariates(ddp, torch.zeros(1, 2)))
    around = nn.Sequential(DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))))
    raises(SurgeryError, "DistributedDataParallel", lambda: fusionconv.fuse_into(around, 0, 2))
    assert type(around) is nn.Sequential
    assert type(around[0].module[0]) is nn.Conv2d
    inside = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)))
    outer = DistributedDataParallel(inside)
    for part in (outer.module, inside[0]):
        raises(
            SurgeryError, "stands inside a DistributedDataParallel", lambda part=part: fusionconv.fuse_into(part, 0, 2)
        )
    assert type(inside[0]) is nn.Sequential
    del outer
    fusionconv.fuse_into(inside, 0, 2)  # unwrapped again, it may be fused


# ---------------------------------------------------------------- FSDP2


def mesh() -> object:
    return init_device_mesh("cpu", (WORLD,))


def root_only(model: nn.Module, **options: object) -> nn.Module:
    return fully_shard(model, mesh=mesh(), **options)


def each_block(model: nn.Module, **options: object) -> nn.Module:
    for block in model.blocks:
        fully_shard(block, mesh=mesh(), **options)
    return fully_shard(model, mesh=mesh(), **options)


def fused_layers_as_units(model: nn.Module, **options: object) -> nn.Module:
    for layer in (model.blocks[0][0], model.blocks[2][0]):
        fully_shard(layer, mesh=mesh(), **options)
    return fully_shard(model, mesh=mesh(), **options)


PLANS = {f.__name__: f for f in (root_only, each_block, fused_layers_as_units)}


def fsdp_equals_one_process(rank: int, plan: str, mode: str) -> None:
    x, s = whole()
    model = PLANS[plan](model_for(mode))
    assert isinstance(model, FSDPModule)
    xi, si = mine(rank, x, s)
    expected = model_for()(x, s)
    for _ in range(2):
        model.zero_grad()
        y = model(xi.requires_grad_(), si)
        torch.testing.assert_close(y, *mine(rank, expected), rtol=1e-10, atol=1e-10)
        loss(y).backward()
        assert_same(gradients(model), expected_gradients([(x, s)]))
    raises(CovariateError, "needs them in every call", lambda: model(xi))


for _plan in PLANS:
    for _mode in MODES:
        CHECKS[f"fsdp_{_plan}_{_mode}"] = partial(fsdp_equals_one_process, plan=_plan, mode=_mode)


@check
def fsdp_with_covariates_opened_by_hand(rank: int) -> None:
    x, s = mine(rank, *whole())
    model = each_block(model_for())
    with fusionconv.covariates(model, s):
        torch.testing.assert_close(model(x), model_for()(x, s), rtol=1e-10, atol=1e-10)


@check
def fsdp_mixed_precision(rank: int) -> None:
    """bfloat16 parameters: outputs near float32's, V's gradient in float32, and the covariates rounded to bfloat16.

    FSDP casts every floating-point argument of the root's forward, the covariates among them, and the fused layer
    itself takes covariates in the dtype of its weights; opening the frame by hand changes nothing about that.
    """
    x, s = mine(rank, *whole(torch.float32))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for plan in PLANS.values():
        reference = model_for().float()
        model = plan(model_for().float(), mp_policy=policy)
        y = model(x, s)
        torch.testing.assert_close(y.float(), reference(x, s), rtol=0.1, atol=0.1)
        loss(y.float()).backward()
        assert all(g.dtype == torch.float32 for g in gradients(model).values())
        assert model.blocks[0][0].covariate_weight.grad.full_tensor().abs().max() > 0
        with torch.no_grad():
            y, rounded = model(x, s), s.bfloat16().float()
            assert not torch.equal(s, rounded)
            assert torch.equal(y, model(x, rounded))
            with fusionconv.covariates(model, s):
                assert torch.equal(y, model(x))


@check
def fsdp_state_dict(rank: int) -> None:
    reference = model_for()
    for plan in PLANS.values():
        model = plan(model_for())
        assert list(model.state_dict()) == list(reference.state_dict())
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        if rank == 0:
            for key, value in reference.state_dict().items():
                assert torch.equal(state[key], value), key
    target = each_block(model_for(seed=1))
    set_model_state_dict(
        target, reference.state_dict(), options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )
    x, s = mine(rank, *whole())
    torch.testing.assert_close(target(x, s), reference(x, s), rtol=1e-10, atol=1e-10)


@check
def fsdp_param_groups(rank: int) -> None:
    x, s = whole()
    sharded, one = each_block(model_for()), model_for()
    for model, batch in ((sharded, mine(rank, x, s)), (one, [x, s])):
        groups = fusionconv.param_groups(model, lr=0.1, weight_decay=0.5)
        assert [len(g["params"]) for g in groups] == [12, 4]
        optimizer = torch.optim.SGD(groups)
        loss(model(*batch)).backward()
        optimizer.step()
    for (name, p), q in zip(sharded.named_parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(full(p), q, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@check
def fsdp_surgery_afterwards_is_refused(rank: int) -> None:
    for plan in PLANS.values():
        model = plan(model_for())
        before = [(n, type(m)) for n, m in model.named_modules()]
        raises(SurgeryError, "fully_shard", lambda model=model: fusionconv.fuse_into(model, 1, 2))
        raises(SurgeryError, "fully_shard", lambda model=model: fusionconv.unfuse(model))
        assert before == [(n, type(m)) for n, m in model.named_modules()]
    part = model_for()
    fully_shard(part.blocks[0], mesh=mesh())  # a part only: the root itself is as it was
    raises(SurgeryError, "fully_shard", lambda: fusionconv.unfuse(part))
    raises(SurgeryError, "fully_shard", lambda: fusionconv.merge(part, torch.zeros(2, dtype=torch.float64)))
    assert isinstance(part.blocks[0][0], fusionconv.HybridConv2d)
    plain = Blocks()
    fully_shard(plain.blocks[0], mesh=mesh())
    raises(SurgeryError, "fully_shard", lambda: fusionconv.fuse_into(plain, 0, 2))
    assert type(plain) is Blocks
    assert type(plain.blocks[0][0]) is nn.Conv2d


@check
def fsdp1_flat_parameters(rank: int) -> None:
    """The older FSDP works too; with flat parameters nobody can tell V from W any more, so param_groups says so."""
    x, s = mine(rank, *whole())
    cpu = torch.device("cpu")
    model = FullyShardedDataParallel(model_for(), device_id=cpu, use_orig_params=True)
    torch.testing.assert_close(model(x, s), model_for()(x, s), rtol=1e-10, atol=1e-10)
    assert [g["name"] for g in fusionconv.param_groups(model, 0.1, 0.1)] == ["backbone", "covariates"]
    raises(SurgeryError, "wrapped already", lambda: fusionconv.fuse_into(model, 1, 2))
    flat = FullyShardedDataParallel(model_for(), device_id=cpu, use_orig_params=False)
    torch.testing.assert_close(flat(x, s), model_for()(x, s), rtol=1e-10, atol=1e-10)
    raises(SurgeryError, "use_orig_params=True", lambda: fusionconv.param_groups(flat, 0.1, 0.1))


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD, timeout=timedelta(seconds=30)
    )
    answers = {}
    for name, function in CHECKS.items():
        start = time.perf_counter()
        try:
            function(rank)
            answers[name] = "ok"
        except Exception:
            answers[name] = traceback.format_exc()
        print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)
        (folder / f"{rank}.json").write_text(json.dumps(answers), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
