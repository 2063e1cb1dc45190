"""
Restoration: a filter for each blur
===================================

A picture is blurred by an optic whose width is known for each picture. Which filter restores it depends on the width:
this is a kernel that a covariate decides, and theory says which one it is.

**Known by construction.** The pictures are Gaussian random fields, the blur is Gaussian, the noise white. Then
nothing restores better than the **Wiener filter**, which is computed from the spectra and the width, not learned.
That is the ceiling. A filter that has to be one for all widths has a best version, too: the floor.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import fusionconv
from fusionconv.explain import kernels

SEED = 0
SIZE, NOISE = 48, 0.1
NARROW, WIDE = 0.5, 3.0  # standard deviation of the blur, in pixels

# %%
# Data: clouds, blurred
# ---------------------

fy, fx = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE), indexing="ij")
square = fy**2 + fx**2
power = 1 / (square + 0.03**2) ** 1.5  # of a cloud, at each frequency
power[0, 0] = 0  # no mean
power /= power.mean()  # variance 1


def blur_of(width):
    """What a Gaussian blur leaves of each frequency."""
    return np.exp(-2 * np.pi**2 * np.asarray(width)[..., None, None] ** 2 * square)


def make(count, draw):
    """Clear and blurred pictures (count, SIZE, SIZE), and the widths."""
    width = draw.uniform(NARROW, WIDE, count)
    white = np.fft.fft2(draw.normal(size=(count, SIZE, SIZE)))
    clear = np.fft.ifft2(white * np.sqrt(power)).real
    blurred = np.fft.ifft2(white * np.sqrt(power) * blur_of(width)).real
    return clear, blurred + NOISE * draw.normal(size=clear.shape), width


draw = np.random.default_rng(SEED)
clear, blurred, width = make(1300, draw)
train, test = slice(0, 1000), slice(1000, None)


def psnr(restored):
    """Mean over the test pictures, in dB; the range is 4 standard deviations."""
    error = ((np.asarray(restored) - clear[test]) ** 2).mean((1, 2))
    return 10 * np.log10(16 / error)


# %%
# Two filters that are not learned
# --------------------------------
# With the width: Wiener's, ``H S / (H^2 S + N)`` for blur H, spectrum S, noise N. Without: the one filter with the
# least mean error over all widths, ``E[H] S / (E[H^2] S + N)``.

everywhere = np.linspace(NARROW, WIDE, 200)
H = blur_of(everywhere)
wiener = blur_of(width[test]) * power / (blur_of(width[test]) ** 2 * power + NOISE**2)
blind = H.mean(0) * power / ((H**2).mean(0) * power + NOISE**2)
spectrum = np.fft.fft2(blurred[test])
scores = {
    "blurred": psnr(blurred[test]),
    "best single filter": psnr(np.fft.ifft2(spectrum * blind).real),
    "Wiener, width known": psnr(np.fft.ifft2(spectrum * wiener).real),
}

# %%
# Networks that learn
# -------------------
# * ``image``: three convolutions that see the picture alone. They may guess the width from the picture.
# * ``concat``: the same with the width as a constant second channel, the usual way in restoration.
# * ``film``: the same, and the width scales and shifts the first layer's maps.
# * ``hybrid``: the same, and the first layer's kernels depend on the width.
# * ``hybrid filter``: **a single** convolution of 17 x 17 and nothing else. Its W starts as the best single filter,
#   its V at 0.
#
# The width enters by six hat functions, so that a kernel is a path through six kernels and not a straight line.

STEPS = 400


def kernel_of(transfer):
    """The middle 17 x 17 pixels of a filter that is given by what it does to each frequency."""
    return np.fft.fftshift(np.fft.ifft2(transfer).real, axes=(-2, -1))[..., 16:33, 16:33]


knots = np.linspace(NARROW, WIDE, 6)


def hats(width):
    """(N,) widths -> (N, 6): how near each knot is; a row sums to 1."""
    return torch.from_numpy(np.stack([np.interp(width, knots, one) for one in np.eye(6)], axis=1)).float()


def three_layers(channels):
    """5 x 5 convolutions; pictures are periodic, so the padding is, too."""
    options = {"padding": 2, "padding_mode": "circular"}
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, **options), nn.ReLU(), nn.Conv2d(8, 8, 5, **options), nn.ReLU(),
        nn.Conv2d(8, 1, 5, **options),
    )  # fmt: skip


def build(arm):
    """A network, called as network(pictures) or, fused, network(pictures, hats)."""
    torch.manual_seed(SEED)
    if arm == "hybrid filter":
        one = nn.Sequential(nn.Conv2d(1, 1, 17, padding=8, padding_mode="circular", bias=False))
        with torch.no_grad():
            one[0].weight.copy_(torch.from_numpy(kernel_of(blind)))
        return fusionconv.fuse_into(one, 0, num_covariates=6)
    network = three_layers(2 if arm == "concat" else 1)
    return fusionconv.fuse_into(network, 0, num_covariates=6, method=arm) if arm in ("film", "hybrid") else network


x, y = torch.from_numpy(blurred).float()[:, None], torch.from_numpy(clear).float()[:, None]
s = hats(width)
constant = torch.from_numpy((width - 1.75) / 0.72).float()[:, None, None, None].expand_as(x)


def restore(network, arm, rows):
    """The restored pictures of some rows; what a network answers is added to the picture."""
    if arm == "concat":
        return x[rows] + network(torch.cat([x[rows], constant[rows]], dim=1))
    if arm == "image":
        return x[rows] + network(x[rows])
    return network(x[rows], s[rows]) + (0 if arm == "hybrid filter" else x[rows])


networks = {}
for arm in ("image", "concat", "film", "hybrid", "hybrid filter"):
    network = networks[arm] = build(arm)
    rate = 1e-3 if arm == "hybrid filter" else 3e-3  # 289 weights that are summed want smaller steps
    optimizer = torch.optim.Adam(fusionconv.param_groups(network, rate, 1e-4, covariates=s[train]))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(STEPS):
        rows = torch.randint(1000, (8,), generator=shuffle)
        loss = nn.functional.mse_loss(restore(network, arm, rows), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        scores[arm] = psnr(restore(network, arm, test)[:, 0])
for name, values in scores.items():
    print(f"{name:22s} {values.mean():.2f} dB")

# %%
# What came out
# -------------
# Whoever is told the width comes nearer to the ceiling, at every width, than the network that is not. That one can
# guess it in part from the picture, and is better than the best single filter on average. Between a constant channel,
# FiLM and hybrid kernels there are about 0.2 dB.
#
# The single convolution, which has no ReLU and one channel, stays with them. Its kernels go the way that theory asks
# for, from little more than the pixel itself to a wide ring; 400 steps have not made them equal.

fig = plt.figure(figsize=(11, 4.4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.05, 1])
at = np.array([0.5, 1.5, 3.0])
learned = kernels(networks["hybrid filter"], covariates=hats(at)).at[:, 0, 0]
ideal = kernel_of(blur_of(at) * power / (blur_of(at) ** 2 * power + NOISE**2))
axes = left.subplots(2, 3)
for n, value in enumerate(at):
    bound = np.abs(ideal[n]).max()
    for axis, kernel in ((axes[0, n], learned[n]), (axes[1, n], ideal[n])):
        axis.imshow(kernel, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axis.set(xticks=[], yticks=[])
    axes[0, n].set_title(f"width {value} px", fontsize=10)
axes[0, 0].set_ylabel("hybrid filter, learned")
axes[1, 0].set_ylabel("Wiener, computed")
left.suptitle("The kernel for each blur")

axis = right.subplots()
lines = {
    "best single filter": ("0.5", "--"), "image": ("0.5", "-"), "concat": ("C1", "-"), "film": ("C2", "-"),
    "hybrid": ("C0", "-"), "hybrid filter": ("C0", ":"), "Wiener, width known": ("k", "--"),
}  # fmt: skip
edges = np.linspace(NARROW, WIDE, 9)
for name, (color, style) in lines.items():
    inside = np.digitize(width[test], edges[1:-1])
    means = [(scores[name] - scores["Wiener, width known"])[inside == n].mean() for n in range(8)]
    axis.plot((edges[1:] + edges[:-1]) / 2, means, color=color, ls=style, lw=2, label=name)
axis.legend(frameon=False, fontsize=9)
axis.set(xlabel="width of the blur, pixels", ylabel="PSNR minus that of the Wiener filter, dB")
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("What is lost against the best possible")
plt.show()
