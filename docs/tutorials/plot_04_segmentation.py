"""
Segmentation: the covariate says where the outline lies
=======================================================

A radiotherapist outlines a tumour *with a margin*. How wide the margin is stands in the plan and not in the picture:
the same picture has many right masks. The covariate is that margin in pixels, the network is MONAI's U-Net.

**Known by construction.** The masks are discs. Whoever sees the tumour perfectly and does not know the margin has to
take one for all: the Dice of the best such observer is computed below, from the test masks. That is the floor that
the picture alone cannot pass; with the margin, 1 is possible.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

import fusionconv

SEED = 0
SIZE, WIDEST = 32, 6.0

# %%
# Data
# ----
# A bright tumour on a mottled ground, and two dark vessels that are never outlined.

grid_y, grid_x = np.mgrid[:SIZE, :SIZE].astype(float)


def make(count, draw):
    """Pictures, distances to the tumour's edge (negative inside), and margins."""
    pictures, distances = [], []
    for _ in range(count):
        cy, cx, radius = draw.uniform(12, 20), draw.uniform(12, 20), draw.uniform(3, 6)
        distance = np.hypot(grid_y - cy, grid_x - cx) - radius
        ground = np.fft.ifft2(np.fft.fft2(draw.normal(size=(SIZE, SIZE))) * LOW_PASS).real
        picture = 0.3 * ground / ground.std() + 1.5 * np.clip(0.5 - distance, 0, 1)
        for _ in range(2):
            vy, vx = draw.uniform(3, SIZE - 3, 2)
            picture = picture - 1.5 * np.clip(2.5 - np.hypot(grid_y - vy, grid_x - vx), 0, 1) * (distance > 1)
        pictures.append(picture + draw.normal(0, 0.2, picture.shape))
        distances.append(distance)
    return np.array(pictures), np.array(distances), draw.uniform(0, WIDEST, count)


LOW_PASS = np.exp(-((np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.fftfreq(SIZE) ** 2) * 400))
draw = np.random.default_rng(SEED)
pictures, distances, margin = make(1000, draw)
masks = distances < margin[:, None, None]
train, test = slice(0, 700), slice(700, None)


def dice(answers, wanted):
    """Of each picture, (N,)."""
    return 2 * (answers & wanted).sum((1, 2)) / (answers.sum((1, 2)) + wanted.sum((1, 2)))


fixed = {m: dice(distances[test] < m, masks[test]).mean() for m in np.linspace(0, WIDEST, 25)}
floor = max(fixed.values())
print(f"best Dice of one margin for all, with the tumour seen perfectly: {floor:.3f}")

# %%
# Train
# -----
# ``concat`` is the margin as a constant second channel, what one does by hand. ``film`` and ``hybrid`` act in the
# first convolution. All have batch norm: behind MONAI's standard instance norm a constant channel, and FiLM, would do
# nothing (docs/limits.md).

STEPS = 250
x = torch.from_numpy(pictures).float()[:, None]
y = torch.from_numpy(masks).float()[:, None]
s = torch.from_numpy(2 * margin / WIDEST - 1).float()[:, None]


def build(arm):
    """A small U-Net, fused or not."""
    torch.manual_seed(SEED)
    network = UNet(2, 2 if arm == "concat" else 1, 1, channels=(8, 16, 32), strides=(2, 2), norm="batch")
    return fusionconv.fuse_into(network, "first", 1, method=arm) if arm in ("film", "hybrid") else network


def outline(network, arm, x, s):
    """Logits of the masks."""
    if arm == "concat":
        return network(torch.cat([x, s[:, :, None, None].expand_as(x)], dim=1))
    return network(x) if arm == "image" else network(x, s)


loss_of = DiceCELoss(sigmoid=True)
networks, scores = {}, {}
for arm in ("image", "concat", "film", "hybrid"):
    network = networks[arm] = build(arm)
    optimizer = torch.optim.AdamW(fusionconv.param_groups(network, 5e-3, 1e-4))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(STEPS):
        rows = torch.randint(700, (16,), generator=shuffle)
        loss = loss_of(outline(network, arm, x[rows], s[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        scores[arm] = dice(outline(network, arm, x[test], s[test])[:, 0].numpy() > 0, masks[test])
    print(f"{arm:8s} Dice {scores[arm].mean():.3f}")

# %%
# What came out
# -------------
# One picture, asked for three margins. The network without the covariate can only give the middle one each time, and
# stays below the perfect observer. The three that are told the margin pass that floor, and none of them needs a
# hybrid layer for it: a constant channel does as well.

fig = plt.figure(figsize=(11, 4.6), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.05])
axes = left.subplots(2, 3)
shown = 700
for row, arm in zip(axes, ("image", "hybrid"), strict=True):
    for axis, asked in zip(row, (0.0, 3.0, 6.0), strict=True):
        asked_row = torch.tensor([[2 * asked / WIDEST - 1]]).float()
        with torch.no_grad():
            answer = outline(networks[arm], arm, x[shown : shown + 1], asked_row)[0, 0].numpy()
        axis.imshow(pictures[shown], cmap="gray")
        axis.contour(distances[shown], [asked], colors="w", linestyles="dotted", linewidths=1.5)
        axis.contour(answer, [0], colors="C1" if arm == "image" else "C0", linewidths=2)
        axis.set(xticks=[], yticks=[])
        if arm == "image":
            axis.set_title(f"margin {asked:.0f} px", fontsize=10)
    row[0].set_ylabel(arm)
left.suptitle("Dotted: what was asked. Line: the answer")

axis = right.subplots()
edges = np.linspace(0, WIDEST, 9)
inside = np.digitize(margin[test], edges[1:-1])
best = max(fixed, key=fixed.get)
lines = {f"observer, {best:.1f} px for all": dice(distances[test] < best, masks[test]), **scores}
styles = [("k", "--"), ("0.6", "-"), ("C1", "-"), ("C2", "-"), ("C0", "-")]
for (name, values), (color, style) in zip(lines.items(), styles, strict=True):
    means = [values[inside == n].mean() for n in range(8)]
    axis.plot((edges[1:] + edges[:-1]) / 2, means, color=color, ls=style, lw=2, label=f"{name}: {values.mean():.2f}")
axis.legend(frameon=False, fontsize=9, title="mean Dice")
axis.set(xlabel="margin that was asked, pixels", ylabel="Dice", ylim=(0.5, 1))
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("Without the margin, the middle is the best guess")
plt.show()
