"""A killed run goes on exactly, and a checkpoint that cannot be written leaves the old one."""

import resource
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from recipes.celeba.__main__ import main
from recipes.celeba.study import CelebAStudy
from recipes.common.checkpoint_io import write_whole
from recipes.common.resuming import ResumableOrder
from recipes.common.runs import RunError
from tests.recipes.celeba.conftest import SMALL, TINY, write_celeba

# 8 steps an epoch, a figure every 3 (so that an epoch ends between two), dropout at work, a checkpoint wherever one may be.
OPTIONS = [*SMALL, "--trainer.log_every_n_steps=3", "--trainer.max_epochs=2", "--save_every_minutes=0"]
OPTIONS += ["--model.arm=hybrid", "--data.covariates=[Male,Young]", "--model.lr=1e-3"]

# The command in a process of its own that dies, as by kill -9, right before training step STOP. The number of threads is
# that of the tests (tests/conftest.py): another number sums in another order.
DIES = f"""
import os, signal, sys, torch
torch.set_num_threads({torch.get_num_threads()})
from recipes.celeba import arms
arms.cfgs = {{"D": {TINY!r}}}
from recipes.celeba.study import CelebAStudy
step = CelebAStudy.training_step
def dying(self, batch, batch_idx):
    if self.global_step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
CelebAStudy.training_step = dying
from recipes.celeba.__main__ import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_vgg):
    """A run that is never stopped; at5/ is what a kill before its step 5 would have left on the disk."""
    root = tmp_path_factory.mktemp("whole")
    write_celeba(root / "data", num_train=60)
    step = CelebAStudy.training_step

    def copying(self, batch, batch_idx):
        if self.global_step == 5:
            shutil.copytree(root / "run", root / "at5/run")
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CelebAStudy, "training_step", copying)
        main(["fit", f"--data.root={root}/data", f"--root_dir={root}", "--experiment=run", *OPTIONS])
    return root


def weights(root):
    return torch.load(root / "run/checkpoints/run-last.ckpt", weights_only=True)


@pytest.mark.parametrize("stop", [5, 12])  # within the first epoch, within the second
def test_a_run_that_is_killed_goes_on_bit_by_bit(uninterrupted, tmp_path, stop):
    if stop == 5:  # a process of its own takes 15 s to import everything: once is enough
        shutil.copytree(uninterrupted / "at5/run", tmp_path / "run")
    else:
        kill_before(stop, uninterrupted, tmp_path)
    assert 0 < weights(tmp_path)["global_step"] <= stop
    main(["fit", f"--root_dir={tmp_path}", "--experiment=run", "--resume"])
    assert (tmp_path / "run/metrics.csv").read_bytes() == (uninterrupted / "run/metrics.csv").read_bytes()
    one, other = weights(tmp_path), weights(uninterrupted)
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())
    assert one["global_step"] == other["global_step"] == 16


def kill_before(stop, uninterrupted, tmp_path):
    fit = ["fit", f"--data.root={uninterrupted}/data", f"--root_dir={tmp_path}", "--experiment=run", *OPTIONS]
    died = subprocess.run([sys.executable, "-c", DIES, str(stop), *fit], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    order = ResumableOrder(range(20), None, 4)
    first = list(order)
    assert sorted(first) == list(range(20))
    order.set_epoch(1)
    assert list(order) != first
    again = ResumableOrder(range(20), None, 4)
    again.done = 8
    assert list(again) == first[8:]
    again.set_epoch(1)
    assert list(again) == list(order)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "run.ckpt"
    write_whole({"x": torch.ones(3)}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails, as on a full disk
    try:
        with pytest.raises(RunError, match=r"run\.ckpt could not be written.*untouched"):
            write_whole({"x": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
