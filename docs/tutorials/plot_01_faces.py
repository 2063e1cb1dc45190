"""
Faces: teach a trained network a covariate
==========================================

A network has been trained on pictures. Then a covariate turns up that decides what the picture means. This page puts
it into the network with ``fuse_into``, in the middle of a plain PyTorch training loop, and goes on.

The faces are drawn here and hold two signs, a smile and glasses, each with probability 1/2. A covariate that cannot
be seen says which sign counts.

**Known by construction.** In half of the faces both signs agree; the rest is a coin for anyone who sees the picture
alone. The best accuracy is 50 % from the covariate, 75 % from the picture, 100 % from both.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import fusionconv

SEED = 0
BEST = {"covariate": 0.50, "picture": 0.75, "both": 1.00}

# %%
# Data
# ----


def draw_face(smile, glasses, draw):
    """A face of 32 x 32 grey values, with its own place, size, skin and hair."""
    y, x = np.mgrid[:32, :32].astype(float)
    x, y = (x - draw.normal(15.5, 1)) / draw.uniform(0.9, 1.1), (y - draw.normal(16, 1)) / draw.uniform(0.9, 1.1)

    def paint(inside, value):  # inside > 0, with a soft edge of a pixel
        cover = np.clip(inside + 0.5, 0, 1)
        return face * (1 - cover) + value * cover

    face = np.full((32, 32), draw.uniform(0.25, 0.6))
    skin, dark = draw.uniform(0.7, 0.95), draw.uniform(0.0, 0.2)
    face = paint(13.5 - np.hypot(x * 1.15, y + 1), draw.uniform(0.0, 0.3))  # hair
    face = paint(11 - np.hypot(x * 1.2, y * 0.92 - 1), skin)
    for side in (-4, 4):
        face = paint(1.1 - np.hypot(x - side, y + 1.5), dark)
        if glasses:
            face = paint(0.7 - np.abs(np.hypot(x - side, y + 1.5) - 2.9), dark)
    bend = draw.uniform(1.6, 2.4) * (1 if smile else -0.3)
    mouth = np.maximum(np.abs(y - 6.5 + bend * ((x / 4) ** 2 - 0.5)) - 0.6, np.abs(x) - 4)
    face = paint(-mouth, 0.35 * skin)
    return face + draw.normal(0, 0.06, face.shape)


draw = np.random.default_rng(SEED)
smile, glasses, covariate = np.tile(np.indices((2, 2, 2)).reshape(3, 8), 300)  # each combination equally often
faces = np.stack([draw_face(a, b, draw) for a, b in zip(smile, glasses, strict=True)])
pictures = torch.from_numpy(2 * faces - 1).float()[:, None]
target = torch.from_numpy(np.where(covariate == 1, glasses, smile)).float()
s = torch.from_numpy(2.0 * covariate - 1).float()[:, None]  # -1 or 1: one row for each picture
train, test = slice(0, 1600), slice(1600, None)

# %%
# An ordinary network, trained on the pictures
# --------------------------------------------

network = nn.Sequential(
    nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1),
)  # fmt: skip


def accuracy_of(network, covariates=None):
    """Share of the test faces whose answer is right."""
    network.eval()
    with torch.no_grad():
        logits = network(pictures[test]) if covariates is None else network(pictures[test], covariates)
    return ((logits[:, 0] > 0) == (target[test] == 1)).float().mean().item()


def fit(network, steps, seed, fused):
    """Train in place; the test accuracy every 25 steps."""
    optimizer = torch.optim.AdamW(fusionconv.param_groups(network, 5e-3, 1e-4))
    shuffle, curve = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        network.train()
        rows = torch.randint(1600, (32,), generator=shuffle)
        logits = network(pictures[rows], s[rows]) if fused else network(pictures[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 25 == 0:
            curve.append(accuracy_of(network, s[test] if fused else None))
    return curve


torch.manual_seed(SEED)
for module in network:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
before = fit(network, 250, SEED, fused=False)
print(f"picture alone, 250 steps: {before[-1]:.1%} of at most {BEST['picture']:.0%}")

# %%
# The covariate enters
# --------------------
# Four copies go on for the same 300 steps: the plain network, two that get the covariate beside the features, in
# front of the last layer or of the hidden one, and one with a hybrid first convolution. The change itself costs
# nothing: V is 0, so the first answers are those of the trained network.

ARMS = {"image": None, "concat, end": "12", "concat, hidden": "10", "hybrid": "0"}
curves, networks, accuracy = {}, {}, {}
for arm, layer in ARMS.items():
    fused = copy.deepcopy(network)
    if layer:
        method = "hybrid" if arm == "hybrid" else "concat"
        fused = fusionconv.fuse_into(fused, layer, num_covariates=1, method=method)
        assert accuracy_of(fused, s[test]) == before[-1]  # as before
    curves[arm] = fit(fused, 300, SEED + 1, fused=bool(layer))
    networks[arm], accuracy[arm] = fused, curves[arm][-1]
    print(f"{arm:15s} {accuracy[arm]:.1%}")

# %%
# Is it the covariate?
# --------------------
# Give each face the covariate of another: what the network gained must go.

permuted = accuracy_of(networks["hybrid"], s[test][torch.randperm(800, generator=torch.Generator().manual_seed(SEED))])
print(f"hybrid, with the covariates of other faces: {permuted:.1%}")

# %%
# What came out
# -------------
# A number that is added at the end cannot say "look at the glasses, not at the mouth". What it gives the faces with a
# smile alone it takes from those with glasses alone, so training leaves it near 75 %. The hybrid convolution learns
# it. So does concatenation in front of a hidden layer, where the two signs can still be told apart.

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.5])
axes = left.subplots(2, 2)
for axis, (a, b) in zip(axes.flat, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
    first = np.flatnonzero((smile[test] == a) & (glasses[test] == b))[0]
    axis.imshow(faces[test][first], cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"{'yes' if a else 'no'} / {'yes' if b else 'no'}", fontsize=10)
    axis.set_axis_off()
left.suptitle("Answer at covariate -1 / +1")

axis = right.subplots()
axis.axhline(75, color="k", ls="--", lw=1)
axis.text(5, 72.4, "best from the picture alone", fontsize=8)
axis.plot(np.arange(25, 251, 25), [100 * a for a in before], color="0.5", lw=2)
axis.axvline(250, color="0.8", lw=1)
axis.text(246, 98.5, "fuse_into", fontsize=9, family="monospace", color="0.4", ha="right")
styles = {"image": ("0.5", "-"), "concat, end": ("C1", ":"), "concat, hidden": ("C1", "-"), "hybrid": ("C0", "-")}
for arm, curve in curves.items():
    color, style = styles[arm]
    axis.plot(
        np.arange(250, 551, 25), [100 * before[-1], *(100 * a for a in curve)], color=color, ls=style, lw=2, label=arm
    )
axis.legend(loc="lower right", frameon=False)
axis.set(xlabel="training step", ylabel="test accuracy, %", ylim=(45, 101), xlim=(0, 555))
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("The trained network learns what the covariate means")
plt.show()
