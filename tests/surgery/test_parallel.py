"""Fused models in several processes (DDP, FSDP2, FSDP) and several threads (DataParallel)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import data, fused_body

distributed = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this build of torch has no torch.distributed with gloo",
)


MODES = ["plain", "reentrant", "non-reentrant"] if CAN_RECOMPUTE else ["plain"]
NAMES = [  # written out: importing the checks takes seconds, and a check that is lost shall be missed
    *(f"ddp_{mode}" for mode in MODES),
    *(f"ddp_static_graph_{mode}" for mode in MODES),
    "ddp_with_batches_of_unequal_size",
    "ddp_with_an_empty_batch_on_one_rank",
    "ddp_accumulates_with_no_sync",
    "ddp_a_sampler_keeps_rows_with_their_images",
    "ddp_without_covariates_then_with",
    "ddp_trains_both_ranks_alike",
    "ddp_roots_are_refused",
    *(f"fsdp_{p}_{mode}" for p in ("root_only", "each_block", "fused_layers_as_units") for mode in MODES),
    "fsdp_with_covariates_opened_by_hand",
    "fsdp_mixed_precision",
    "fsdp_state_dict",
    "fsdp_param_groups",
    "fsdp_param_groups_of_rows",
    "fsdp_surgery_afterwards_is_refused",
    "fsdp1_flat_parameters",
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> list[dict[str, str]]:
    """Both processes' answers: {check: "ok" or a traceback}."""
    folder = tmp_path_factory.mktemp("parallel")
    command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.parallel_checks"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # -m finds the checks in cwd
    logs = [(folder / f"{rank}.log").open("wb") for rank in range(2)]
    pair = [
        subprocess.Popen([*command, str(rank), str(folder)], stdout=log, stderr=log, cwd=root, env=environment)
        for rank, log in enumerate(logs)
    ]
    try:
        for process in pair:
            process.wait(timeout=900)  # seconds of work, minutes on a busy machine
    finally:
        for process, log in zip(pair, logs, strict=True):
            process.kill()
            log.close()
    ends = [(folder / f"{rank}.log").read_text(errors="replace")[-2000:] for rank in range(2)]
    assert all((folder / f"{rank}.json").exists() for rank in range(2)), "\n".join(ends)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("name", NAMES)
def test_in_two_processes(answers, name) -> None:
    assert set(answers[0]) <= set(NAMES)
    for rank in range(2):
        answer = answers[rank].get(name, "not run: the process ended before, see the checks above")
        assert answer == "ok", f"rank {rank}: {answer}"


def replicas(model: nn.Module, count: int) -> list[nn.Module]:
    """What ``torch.nn.parallel.replicate`` makes on GPUs, from the same parts, with all replicas on the CPU."""
    modules = list(model.modules())
    copies: list[list[nn.Module]] = [[m._replicate_for_data_parallel() for m in modules] for _ in range(count)]
    for replica in copies:
        for module, twin in zip(modules, replica, strict=True):
            for name, child in module._modules.items():
                twin._modules[name] = None if child is None else replica[modules.index(child)]
            for name, p in module._parameters.items():
                if p is None:
                    twin._parameters[name] = None
                else:  # a plain tensor that leads back to the parameter, as Broadcast makes it
                    setattr(twin, name, p * 1.0)
            twin._buffers = dict(module._buffers)
    return [replica[0] for replica in copies]


@pytest.mark.parametrize("mode", [m for m in MODES if m != "reentrant"])
def test_replicas_of_data_parallel_in_threads(mode) -> None:
    model, one = fused_body(mode).eval(), fused_body().eval()
    x, s = data(0, n=8)
    x = x.detach().requires_grad_(mode != "plain")
    outputs: dict[int, torch.Tensor] = {}
    errors: list[Exception] = []

    def work(rank: int, replica: nn.Module) -> None:
        try:
            part = slice(rank * 4, rank * 4 + 4)
            outputs[rank] = replica(x[part], s[part])
            replica(x[part])
        except CovariateError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(replicas(model, 2))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(errors) == 2  # the calls without covariates, one in each thread
    y = torch.cat([outputs[0], outputs[1]])
    torch.testing.assert_close(y, one(x, s), rtol=1e-10, atol=1e-10)
    y.square().sum().backward()
    one(x, s).square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="no CUDA device")
def test_data_parallel_scatters_the_covariates() -> None:
    devices = list(range(torch.cuda.device_count()))
    model, one = fused_body().eval().cuda(), fused_body().eval().cuda()
    x, s = (t.detach().cuda() for t in data(0, n=8))
    parallel = nn.DataParallel(model, device_ids=devices)
    for y in (parallel(x, s), parallel(x, covariates=s)):
        torch.testing.assert_close(y, one(x, s), rtol=1e-8, atol=1e-8)
    y.square().sum().backward()
    one(x, s).square().sum().backward()
    torch.testing.assert_close(model.net[0].covariate_weight.grad, one.net[0].covariate_weight.grad)
    with pytest.raises(CovariateError, match="needs them in every call"):
        parallel(x)


def test_data_parallel_is_refused() -> None:
    inner = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)))
    outer = nn.Sequential(inner, nn.Conv2d(3, 3, 1))
    with pytest.raises(fusionconv.SurgeryError, match=r"'0.module.0'.*'0' is wrapped already \(DataParallel\)"):
        fusionconv.fuse_into(outer, [0, 2], 2)
    assert [type(m) for m in (outer, inner.module[0], outer[1])] == [nn.Sequential, nn.Conv2d, nn.Conv2d]
    fusionconv.fuse_into(outer, 2, 2)  # a layer outside the wrapper may be fused
    x, s = torch.randn(2, 3, 4, 4), torch.zeros(2, 2)
    assert outer(x, s).shape == x.shape
