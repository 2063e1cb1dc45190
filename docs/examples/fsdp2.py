"""Sharded training (FSDP2): torchrun --standalone --nproc-per-node 2 docs/examples/fsdp2.py FOLDER"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fusionconv


def network() -> nn.Module:
    """The fused network, whole; every process builds the same one."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    )
    return fusionconv.fuse_into(plain, ["first", "last"], num_covariates=2)


def main(folder: str) -> None:
    """Train some steps on each process's part of a batch; the first process saves the whole network."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    device = torch.device(kind, rank % torch.cuda.device_count()) if kind == "cuda" else torch.device("cpu")
    mesh = init_device_mesh(kind, (size,))

    model = network().to(device)  # fuse first, then shard
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    groups = fusionconv.param_groups(model, lr=1e-2, weight_decay=1e-2)  # after fully_shard, which makes new parameters
    optimizer = torch.optim.AdamW(groups)

    torch.manual_seed(1)
    images, covariates = torch.randn(8 * size, 1, 16, 16), torch.randn(8 * size, 2)
    labels = (covariates[:, 0] > 0).long()
    part = slice(8 * rank, 8 * (rank + 1))  # images, rows and labels are cut alike
    x, s, y = (values[part].to(device) for values in (images, covariates, labels))
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x, s), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        again = network()
        again.load_state_dict(whole)
        fusionconv.save(again, folder)
        assert again[0][0].covariate_weight.abs().max() > 0
    print(f"process {rank} of {size}: loss {loss.item():.3f}")
    dist.barrier()  # the first process, to which the others are connected, may still be saving
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
