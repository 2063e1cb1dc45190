"""
Brains: is it more than age explains?
=====================================

The hippocampus shrinks with age, and more so in disease. How much loss is too much depends on the age. The volumes
are the MNI152 template that nilearn ships, with a loss that is simulated in both hippocampi; the network is one of
MONAI's.

**Known by construction.** The visible loss is ``age + excess``, both standard normal, and the disease is ``excess >
0``. The best accuracy from the volume alone is then 75 %, from the age alone 50 %, and from both 100 %, where the
loss is seen without error.

Here the covariate *adds* to the evidence: a sum at the end can express the rule, and early fusion is not needed for
it.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.networks.nets import Classifier
from nilearn.datasets import load_mni152_template
from torch import nn

import fusionconv

SEED = 0
BEST = {"age": 0.50, "volume": 0.75, "both": 1.00}

# %%
# Data
# ----
# 8 mm voxels, so that it trains in seconds. The loss darkens a Gaussian of 8 mm around each hippocampus.

template = load_mni152_template(resolution=8)
brain = template.get_fdata()[1:25, 2:28, 1:23]
brain = brain / brain.max()
voxels = np.stack(np.meshgrid(np.arange(1, 25), np.arange(2, 28), np.arange(1, 23), indexing="ij"), axis=-1)
mm = voxels @ template.affine[:3, :3].T + template.affine[:3, 3]
hippocampi = sum(np.exp(-(((mm - centre) / 8) ** 2).sum(-1) / 2) for centre in ([-27, -20, -15], [27, -20, -15]))


def make(count, draw):
    """Volumes (count, x, y, z), ages and excess losses, both in standard deviations."""
    age, excess = draw.normal(size=(2, count))
    loss = 0.12 * (age + excess)
    gain = draw.normal(1, 0.03, (count, 1, 1, 1))  # the scanner's
    volumes = gain * (brain - loss[:, None, None, None] * hippocampi * (brain > 0))
    return volumes + 0.03 * draw.standard_normal(volumes.shape, dtype=np.float32), age, excess


draw = np.random.default_rng(SEED)
volumes, age, excess = make(2400, draw)
x = torch.from_numpy(volumes).float()[:, None]
x = (x - x[:2000].mean()) / x[:2000].std()
s = torch.from_numpy(age).float()[:, None]
target = torch.from_numpy(excess > 0).float()
train, test = slice(0, 2000), slice(2000, None)

# the best rule that does not know the age, on the very rows of the test: is the loss above its mean?
observer = np.mean((age + excess > 0)[test] == (excess > 0)[test])
print(f"best rule from the visible loss alone, on these test rows: {observer:.1%}")

# %%
# Train
# -----
# Three 3-D convolutions and a linear layer. ``concat`` puts the age beside the features in front of the linear layer;
# ``film`` and ``hybrid`` take it into the first convolution. One more arm gives concatenation ten times the learning
# rate: its one weight of the age starts at 0 and has far to go. Batch norm, since FiLM does nothing in front of
# MONAI's standard instance norm (docs/limits.md).

STEPS = 150
brain_shape = (1, *brain.shape)
RATE = 1e-2
ARMS = {  # where, how, the learning rate of what the covariates bring
    "volume": (None, None, None),
    "concat": ("last", "concat", RATE),
    "concat, rate x 10": ("last", "concat", 10 * RATE),
    "film": ("first", "film", RATE),
    "hybrid": ("first", "hybrid", RATE),
}
networks, accuracy, logits = {}, {}, {}
for arm, (layer, method, covariate_rate) in ARMS.items():
    torch.manual_seed(SEED)
    network = Classifier(brain_shape, 1, channels=(8, 8, 16), strides=(2, 2, 2), num_res_units=0, norm="batch")
    if layer:
        network = fusionconv.fuse_into(network, layer, num_covariates=1, method=method)
    optimizer = torch.optim.AdamW(fusionconv.param_groups(network, RATE, 1e-2, covariate_lr=covariate_rate))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in optimizer.param_groups], STEPS)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(STEPS):
        rows = torch.randint(2000, (32,), generator=shuffle)
        output = network(x[rows], s[rows]) if layer else network(x[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(output[:, 0], target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        logits[arm] = (network(x[test], s[test]) if layer else network(x[test]))[:, 0]
    networks[arm] = network
    accuracy[arm] = ((logits[arm] > 0) == (target[test] == 1)).float().mean().item()
    print(f"{arm:18s} {accuracy[arm]:.1%}")

# %%
# What came out
# -------------
# Each dot is a test volume. The rule's border is the diagonal: the older, the more loss is normal. Without the age
# the border can only be upright. Told the age, it leans.
#
# At the common rate concatenation leans least: in 150 steps its weight of the age stays too small. With a rate of its
# own it needs no hybrid layer. Tune the rate of each arm before saying which one is better.

fig = plt.figure(figsize=(13, 4.3), layout="constrained")
left, middle, right = fig.subfigures(1, 3, width_ratios=[0.5, 1.75, 1])
axes = left.subplots(2, 1)
lost = age + excess
middle_slice = int(np.abs(mm[0, 0, :, 2] + 15).argmin())
for axis, row, name in ((axes[0], lost.argmin(), "least loss"), (axes[1], lost.argmax(), "most loss")):
    axis.imshow(volumes[row, :, :, middle_slice].T, cmap="gray", origin="lower", vmin=0, vmax=1)
    axis.contour(hippocampi[:, :, middle_slice].T, [0.5], colors="C1", linewidths=1)
    axis.set_title(name, fontsize=10)
    axis.set_axis_off()
left.suptitle("The hippocampi")

for axis, arm in zip(middle.subplots(1, 3, sharey=True), ("volume", "concat, rate x 10", "hybrid"), strict=True):
    yes = logits[arm].numpy() > 0
    axis.scatter(lost[test][~yes], age[test][~yes], s=8, color="C0", label="says healthy")
    axis.scatter(lost[test][yes], age[test][yes], s=8, color="C3", label="says ill")
    axis.plot([-3, 3], [-3, 3], color="k", lw=1, ls="--")
    axis.set(xlabel="loss that is seen", title=arm, xlim=(-4, 4), ylim=(-3, 3))
    if arm == "volume":
        axis.set_ylabel("age, standardised")
        axis.legend(frameon=False, fontsize=8, loc="upper left", markerscale=2)
middle.suptitle("Below the dashed line: ill")

axis = right.subplots()
bars = axis.barh(list(accuracy), [100 * a for a in accuracy.values()], color=["0.6", "C1", "navajowhite", "C2", "C0"])
axis.bar_label(bars, fmt="%.0f", padding=3)
axis.axvline(100 * observer, color="k", ls="--", lw=1)
axis.text(100 * observer + 1, -0.62, "best from the volume", fontsize=8, va="bottom")
axis.set(xlim=(50, 106), ylim=(4.6, -0.9), xlabel="test accuracy, %")
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("A sum is enough, at a rate of its own")
plt.show()
