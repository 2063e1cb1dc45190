"""A fused model in DistributedDataParallel; `parallel_checks` runs these in two processes."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fusionconv
from fusionconv.errors import CovariateError, SurgeryError
from tests.helpers.parallel_case import (
    CHECKS,
    MODES,
    WORLD,
    assert_same,
    check,
    expected_gradients,
    gradients,
    loss,
    mine,
    model_for,
    raises,
    whole,
)


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
        raises(SurgeryError, "is inside a DistributedDataParallel", lambda part=part: fusionconv.fuse_into(part, 0, 2))
    assert type(inside[0]) is nn.Sequential
    del outer
    fusionconv.fuse_into(inside, 0, 2)  # unwrapped again, it may be fused
