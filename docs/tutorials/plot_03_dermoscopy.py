"""
A table of skin lesions: a whole study in ten lines
===================================================

A folder of pictures and a CSV as one gets it: ages that are missing, categories, a device that is not always noted.
The question: does it help to tell the network? ``Study.compare`` answers it, with every arm on the same folds.

The lesions are drawn. A sign is white streaks under a *polarised* dermatoscope, and a blue veil under a *contact*
one; both are drawn with probability 1/2. Age adds: patients with the disease are older by one standard deviation.

**Known by construction.** From the picture alone: 75 % accuracy, AUC 0.875. From the age alone: 69 %, AUC 0.76, a
little less where ages are missing. With picture, device and age 99 %: the device is noted in 95 of 100 rows.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from fusionconv.study import Study

SEED = 0
FOLDER = Path(tempfile.mkdtemp())

# %%
# The folder and the table
# ------------------------
# Yours exist. Here they are made.


def draw_lesion(streaks, veil, draw):
    """A picture of 32 x 32 pixels in colours."""
    y, x = np.mgrid[:32, :32] - 15.5 + draw.normal(0, 1, 2)[:, None, None]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    edge = 9 + draw.uniform(0.5, 1.5) * np.cos(3 * angle + draw.uniform(0, 6)) + np.cos(5 * angle + draw.uniform(0, 6))
    inside = np.clip(edge - radius, 0, 1)[..., None]
    skin = np.array([225, 185, 165]) * draw.uniform(0.85, 1.05)
    brown = np.array([130, 85, 60]) * draw.uniform(0.8, 1.2)
    picture = skin * (1 - inside) + brown * inside
    if veil:
        cover = 0.55 * np.exp(-(((y - draw.normal(0, 2)) ** 2 + (x - draw.normal(0, 2)) ** 2) / 18))[..., None]
        picture = picture * (1 - cover) + np.array([90, 110, 165]) * cover
    if streaks:
        turn = draw.uniform(0, np.pi)
        lines = np.clip(np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / 4) - 0.3, 0, 1)[..., None]
        picture = picture + 90 * lines * inside
    return Image.fromarray((picture + draw.normal(0, 10, picture.shape)).clip(0, 255).astype(np.uint8))


ROWS = 480
draw = np.random.default_rng(SEED)
polarised, streaks, veil = draw.integers(0, 2, (3, ROWS)).astype(bool)
malignant = np.where(polarised, streaks, veil)
table = pd.DataFrame({
    "file": [f"lesion_{n:04d}.png" for n in range(ROWS)],
    "patient": [f"P{n:04d}" for n in range(ROWS)],
    "age": (55 + 15 * (draw.normal(size=ROWS) + malignant - 0.5)).clip(18, 95).round(),
    "sex": draw.choice(["female", "male"], ROWS),
    "site": draw.choice(["trunk", "limb", "head"], ROWS, p=[0.5, 0.35, 0.15]),
    "device": np.where(polarised, "polarised", "contact"),
    "diagnosis": np.where(malignant, "melanoma", "naevus"),
})  # fmt: skip
table.loc[draw.random(ROWS) < 0.08, "age"] = np.nan
table.loc[draw.random(ROWS) < 0.05, "device"] = np.nan
for name, a, b in zip(table["file"], streaks, veil, strict=True):
    draw_lesion(a, b, draw).save(FOLDER / name)
table.to_csv(FOLDER / "lesions.csv", index=False)
print(table.head(8).to_string(index=False))
print("missing:", table.isna().sum()[lambda n: n > 0].to_dict())

# %%
# The study
# ---------
# Ten lines. Missing values and categories are the encoder's work, fitted on training rows only. One split, since this
# page has to be quick; for a paper take ``folds=5``.

study = Study(
    table=FOLDER / "lesions.csv", images=FOLDER, image_column="file", image_size=32, subject="patient",
    target="diagnosis", positive="melanoma", covariates=["age", "site", "device"],
    network="fusionconv:small_cnn", network_options={"channels": [8, 16], "first_stride": 1},
    epochs=12, batch_size=8, lr=5e-3, folds=1, test_size=0.4, seed=SEED, resamples=500, controls=1,
)  # fmt: skip
ARMS = ["image", "covariates", "concat", "hybrid@first"]
comparison = study.compare(ARMS, out=FOLDER / "study", progress=False)

# %%
# How the table was read:

print(study.encoding)

# %%
# The answer
# ----------
# Every arm with its interval:

arms = list(comparison.table["arm"].unique())
table_of = comparison.table.pivot(index="arm", columns="metric", values="pooled").loc[arms]
accuracy = table_of["accuracy"].to_dict()
print(table_of[["accuracy", "auc"]].round(3).to_string())

# %%
# Each arm against the image, tested over the same subjects:

against = comparison.comparisons.query(
    "quote"
)  # the test to quote of each pair; smallest_difference: what it could see
print(against[["arm", "metric", "difference", "low", "high", "p_holm", "smallest_difference"]].to_string(index=False))

# %%
# And the same networks with the covariates of other subjects. What they gained has to go:

controls = comparison.controls.query("metric == 'auc'")
print(controls[["arm", "control", "true", "value"]].to_string(index=False))

# %%
# All of it, with subgroups and calibration, is in ``report.html`` in the study's folder.

print(sorted(path.name for path in (FOLDER / "study").iterdir() if path.is_file()))

# %%
# What came out
# -------------
# The picture is at its limit. Concatenation gains what the age adds. The device says which sign to look for, and a
# hybrid first convolution can express that: 99 % is possible. With 192 lesions to train on it has not learned it. It
# has 4,800 weights more, as the study noted at its start, and is no better than concatenation.
#
# The test over 192 patients tells neither from the image alone, and says how large a difference it could have seen.
# That is a result, too. More lesions, or an arm of low rank, ``{arm: hybrid@first, rank: 2}``, would be the next
# thing to try.

auc = comparison.table.query("metric == 'auc'").set_index("arm")
permuted = controls.query("control == 'permuted'").set_index("arm")["value"]

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.6])
for axis, (a, b) in zip(left.subplots(2, 2).flat, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
    first = np.flatnonzero((streaks == a) & (veil == b))[0]
    axis.imshow(Image.open(FOLDER / table["file"][first]))
    axis.set_title(" and ".join(["streaks"] * a + ["veil"] * b) or "neither", fontsize=9)
    axis.set_axis_off()
left.suptitle("Which sign counts: ask the device")

axis = right.subplots()
for at, arm in enumerate(auc.index):
    color = {"image": "0.6", "hybrid-first": "C0"}.get(arm, "C1")
    axis.plot(
        auc.loc[arm, ["pooled_low", "pooled_high"]], [at, at], color=color, lw=4, solid_capstyle="butt", alpha=0.5
    )
    axis.plot(auc.loc[arm, "pooled"], at, "o", color=color, ms=8)
    if arm in permuted.index:
        axis.plot(permuted[arm], at, "x", color="k", ms=7)
axis.plot([], [], "x", color="k", ls="none", label="with other patients' covariates")
axis.axvline(0.875, color="k", ls="--", lw=1)
axis.text(0.872, -0.45, "best from the picture alone", fontsize=8, ha="right")
axis.set(
    yticks=range(len(auc)),
    yticklabels=auc.index,
    ylim=(len(auc) - 0.5, -0.7),
    xlim=(0.4, 1.005),
    xlabel="AUC, 95 % interval",
)
axis.legend(frameon=False, fontsize=8, loc="lower left")
axis.spines[["top", "right"]].set_visible(False)
right.suptitle("192 lesions are too few to tell the networks apart")
plt.show()
