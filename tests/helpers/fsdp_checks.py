"""A fused model in FSDP2 (fully_shard) and in the older FSDP; `parallel_checks` runs these in two processes."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard

import fusionconv
from fusionconv.errors import CovariateError, SurgeryError
from tests.helpers.parallel_case import (
    CHECKS,
    MODES,
    WORLD,
    Blocks,
    assert_same,
    check,
    expected_gradients,
    full,
    gradients,
    loss,
    mine,
    model_for,
    raises,
    whole,
)


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
def fsdp_param_groups_of_rows(rank: int) -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 8, 3)), 0, 2, method="hyper", hidden=40)
    rows = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    expected = [g["lr"] for g in fusionconv.param_groups(model, 1.0, 0.0, covariates=rows)]
    fully_shard(model, mesh=mesh())
    assert [g["lr"] for g in fusionconv.param_groups(model, 1.0, 0.0, covariates=rows)] == expected
    assert min(expected) < 1


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
