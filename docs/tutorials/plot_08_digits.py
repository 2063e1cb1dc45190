"""
Digits: two questions to one network
====================================

A network of LeNet's size sees a digit of 8 x 8 pixels. A covariate says which question is asked: *is it even?* or *is
it 5 or more?* The same picture then has two answers.

**Known by construction.** For 1, 3, 6 and 8 both questions have the same answer; for the other six digits they
differ. A network that sees the picture alone cannot get more than about 70 % right, however good it is.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import fusionconv
from fusionconv.explain import kernels

SEED = 0

# %%
# Data
# ----
# 1,797 digits that scikit-learn ships, no download. Every test picture is asked both questions.

digits = load_digits()
order = np.random.default_rng(SEED).permutation(len(digits.target))
pictures = torch.from_numpy(digits.images[order]).float()[:, None] / 8 - 1
digit = torch.from_numpy(digits.target[order])
train, test = slice(0, 1200), slice(1200, None)


def answer(digit, question):
    """Question 0: even? Question 1: five or more?"""
    return torch.where(question == 0, digit % 2 == 0, digit >= 5).float()


test_pictures = pictures[test].repeat(2, 1, 1, 1)
test_digit = digit[test].repeat(2)
test_question = torch.arange(2).repeat_interleave(len(digit[test]))
truth = answer(test_digit, test_question)

same = answer(test_digit, torch.tensor(0)) == answer(test_digit, torch.tensor(1))
ceiling = {"picture alone": (same.float() + 0.5 * ~same).mean().item(), "both": 1.0}
print(f"best possible from the picture alone: {ceiling['picture alone']:.1%}")

# %%
# Six networks
# ------------
# All start from the same weights and see the same batches. ``concat, end`` adds the question to the last layer,
# ``concat, hidden`` puts it beside the features in front of the hidden layer, once for the same steps and once for
# four times as many. ``film`` and ``hybrid`` act in the first convolution.

STEPS = 400


class LeNet(nn.Module):
    """Two convolutions and two linear layers: 3,000 weights."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 2 * 2, 32)
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        """One logit for each row."""
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.out(self.hidden(x.flatten(1)).relu())


ARMS = {
    "image": (None, None, STEPS),
    "concat, end": ("out", "concat", STEPS),
    "concat, hidden": ("hidden", "concat", STEPS),
    "same, 4 x steps": ("hidden", "concat", 4 * STEPS),
    "film": ("conv1", "film", STEPS),
    "hybrid": ("conv1", "hybrid", STEPS),
}
networks, accuracy = {}, {}
for arm, (layer, method, steps) in ARMS.items():
    torch.manual_seed(SEED)
    network = LeNet()
    if layer:
        network = fusionconv.fuse_into(network, layer, num_covariates=1, method=method)
    optimizer = torch.optim.AdamW(fusionconv.param_groups(network, 3e-3, 1e-4))
    draw = torch.Generator().manual_seed(SEED)  # every arm sees the same batches
    for _ in range(steps):
        rows = torch.randint(1200, (64,), generator=draw)
        question = torch.randint(2, (64,), generator=draw)
        inputs = (pictures[rows], question[:, None].float())
        logits = network(*inputs) if layer else network(inputs[0])
        loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], answer(digit[rows], question))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        inputs = (test_pictures, test_question[:, None].float())
        logits = network(*inputs) if layer else network(inputs[0])
    networks[arm] = network
    accuracy[arm] = ((logits[:, 0] > 0) == (truth == 1)).float().mean().item()
    print(f"{arm:15s} {accuracy[arm]:.1%}")

# %%
# What came out
# -------------
# Adding the question at the end shifts all answers alike. What 0, 2 and 4 gain by it 5, 7 and 9 lose, so it stays
# where the picture alone is. In front of a hidden layer concatenation can answer both questions, and gets nearer with
# more steps. In the first convolution both methods answer them at once, FiLM as well as the hybrid kernels.
#
# The kernels show where the question went: each picture is convolved with ``W`` for question 0 and with ``W + V`` for
# question 1.

found = kernels(networks["hybrid"], covariates=torch.tensor([[0.0], [1.0]]))
at_0, at_1, difference = found.at[0, :, 0], found.at[1, :, 0], found.changes[0, :, 0]

fig = plt.figure(figsize=(10, 4.2), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.25, 1])
axes = left.subplots(3, 6)
bound = found.at.abs().max()
rows = {"even?\nW": at_0, "5 or more?\nW + V": at_1, "difference\nV": difference}
for row, (name, kernel) in zip(axes, rows.items(), strict=True):
    for axis, values in zip(row, kernel, strict=True):
        axis.imshow(values, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
left.suptitle("The six kernels of the first layer")

axis = right.subplots()
colors = ["0.6", "C1", "C1", "navajowhite", "C2", "C0"]
bars = axis.barh(list(accuracy), [100 * a for a in accuracy.values()], color=colors)
axis.bar_label(bars, fmt="%.0f", padding=3)
axis.axvline(100 * ceiling["picture alone"], color="k", ls="--", lw=1)
axis.text(100 * ceiling["picture alone"] + 1, -0.62, "best from the picture alone", fontsize=8, va="bottom")
axis.invert_yaxis()
axis.set(xlim=(50, 106), ylim=(5.6, -0.9), xlabel="test accuracy, %")
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("The earlier the question, the sooner it is learned")
plt.show()
