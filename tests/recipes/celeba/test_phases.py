import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from recipes.celeba.arms import build_network
from recipes.celeba.data import CelebAData
from recipes.celeba.phases import Features, rates
from recipes.celeba.study import CelebAStudy
from recipes.common.runs import RunError


def test_rates_are_the_formulas():
    cosine = rates("cosine", [8], 0.1)
    assert cosine == pytest.approx([0.5 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])

    # OneCycleLR: from 1/25 up to 1 over 30 % of the steps, then down to 1/25/10,000, both along half a cosine.
    steps, (low, end) = 20, (1 / 25, 1 / 25 / 1e4)
    top = 0.3 * steps - 1

    def one_cycle(t):
        start, stop, share = (low, 1, t / top) if t <= top else (1, end, (t - top) / (steps - 1 - top))
        return stop + (start - stop) / 2 * (1 + math.cos(math.pi * share))

    found = rates("one_cycle", [steps], 0.1)
    assert found == pytest.approx([one_cycle(t) for t in range(steps)])
    two = rates("one_cycle", [steps, steps], 0.1)
    assert two == pytest.approx([*found, *(0.1 * rate for rate in found)])
    assert rates("constant", [4], 0.1) == [1.0] * 4  # one phase: nothing is fine-tuned


def test_frozen_is_all_but_head_and_covariate_kernels():
    network = build_network("hybrid", weights="none", num_covariates=2, arch="timm:resnet10t", layer_idx=0)
    fused = next(name for name, p in network.named_parameters() if name.endswith("covariate_weight"))
    features = Features(network)
    features.freeze(True)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {fused, "fc.weight", "fc.bias"}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    features.hold_statistics()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    network(torch.randn(4, 3, 32, 32), torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {fused, "fc.weight", "fc.bias"}  # no running mean either
    features.freeze(False)
    assert all(p.requires_grad for p in network.parameters())
    assert all(module.training for module in network.modules())


class Watch(Callback):
    def __init__(self):
        self.rates, self.states = [], []

    def on_train_batch_end(self, trainer, study, outputs, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_start(self, trainer, study):
        self.states.append({key: value.clone() for key, value in study.network.state_dict().items()})

    def on_train_end(self, trainer, study):
        self.on_train_epoch_start(trainer, study)


def train(celeba, tmp_path, epochs=2, **options):
    seed_everything(0)
    data = CelebAData(str(celeba), image_size=32, batch_size=8, num_workers=0)
    study = CelebAStudy("hybrid", weights="none", image_size=32, arch="timm:resnet10t", lr=1e-3, **options)
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[watch], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(study, data)
    return watch


def test_two_phases_in_a_training(celeba, tmp_path):
    watch = train(celeba, tmp_path, freeze_epochs=1, schedule="cosine", channels_last=True)
    # Lightning steps the schedule before this hook: the rates of steps 1 ... 5 of 6, and the last again
    expected = [1e-3 * rate for rate in rates("cosine", [3, 3], 0.1)]
    assert watch.rates == pytest.approx([*expected[1:], expected[-1]])
    start, middle, end = watch.states
    first = {key for key in start if not torch.equal(start[key], middle[key])}
    fused = next(key for key in start if key.endswith("covariate_weight"))
    assert first == {fused, "fc.weight", "fc.bias"}
    second = {key for key in start if not torch.equal(middle[key], end[key])}
    assert {"layer4.0.conv1.weight", "layer4.0.bn1.running_mean", "fc.weight", fused} <= second


@pytest.mark.parametrize("optimizer", ["adamax", "adamw", "sgd"])
def test_other_optimizers_train_everything_and_a_compiled_network_too(celeba, tmp_path, optimizer):
    compiled = {"compile": "eager"} if optimizer == "sgd" else {}
    watch = train(celeba, tmp_path, epochs=1, optimizer=optimizer, weight_decay=0.01, **compiled)
    start, end = watch.states
    assert set(start) == set(end)  # compile does not rename
    still = {key for key in start if torch.equal(start[key], end[key])}
    assert not still
    assert watch.rates == [1e-3] * 3


def test_a_schedule_without_an_end(celeba, tmp_path):
    with pytest.raises(RunError, match="max_epochs"):
        train(celeba, tmp_path, epochs=-1, schedule="cosine")
