"""Data parallel training of a fused network: torchrun --standalone --nproc-per-node 2 docs/examples/ddp.py FOLDER"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fusionconv


def network() -> nn.Module:
    """The plain network; every process builds the same one."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def main(folder: str) -> None:
    """Train two epochs; the first process saves."""
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if cuda else torch.device("cpu")

    model = fusionconv.fuse_into(network().to(device), "first", num_covariates=2)  # fuse first, then wrap
    ddp = DistributedDataParallel(model, device_ids=[device.index] if cuda else None)
    optimizer = torch.optim.AdamW(fusionconv.param_groups(ddp, lr=1e-2, weight_decay=1e-2))

    torch.manual_seed(1)
    images, covariates = torch.randn(32, 1, 16, 16), torch.randn(32, 2)
    labels = (covariates[:, 0] > 0).long()
    samples = TensorDataset(images, covariates, labels)  # the row is part of the sample: no sampler can part them
    sampler = DistributedSampler(samples)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for x, s, y in DataLoader(samples, batch_size=8, sampler=sampler):
            loss = nn.functional.cross_entropy(ddp(x.to(device), s.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()  # averages the gradients of V over processes, as those of W
            optimizer.step()

    if rank == 0:
        fusionconv.save(ddp.module, folder)
    dist.barrier()
    saved, _ = fusionconv.load(folder, network())
    mine = ddp.module[0].covariate_weight.detach().cpu()
    assert torch.equal(saved[0].covariate_weight, mine), f"process {rank} has another V than the file"
    assert mine.abs().max() > 0
    print(f"process {rank} of {dist.get_world_size()}: the same V everywhere")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
