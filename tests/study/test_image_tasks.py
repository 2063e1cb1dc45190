"""Segmentation and restoration: scores and losses against formulas written out, on pictures and volumes."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv.errors import StudyError
from fusionconv.evaluation import paired_bootstrap, paired_bootstrap_scores
from fusionconv.study.tasks import make_task
from fusionconv.study.tasks.image_out import subject_mean
from fusionconv.study.tasks.segmentation import surface_distances

RNG = np.random.default_rng(0)
WANTED = ["dice", "surface_distance", "hausdorff95"]


def segmentation(columns=("mask",), loss="default", classes=None):
    classes = {"rest": 0, "a": 1, "b": 4} if classes is None else classes
    return make_task({"task": "segmentation", "columns": columns, "loss": loss, "classes": classes})


def blobs(shape, classes, count=2):
    """Random class numbers (count, 1, *shape) in coarse patches."""
    small = RNG.integers(0, classes, (count, 1, *(n // 4 for n in shape)))
    for axis in range(2, 2 + len(shape)):
        small = np.repeat(small, 4, axis)
    return torch.as_tensor(small, dtype=torch.float32)


def logits_of(labels, classes):
    hot = torch.nn.functional.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float()
    return 20 * hot - 10


@pytest.mark.parametrize("shape", [(16, 12), (12, 8, 8)])
def test_dice_by_class_and_image(shape):
    task, true, said = segmentation(), blobs(shape, 3, 4), blobs(shape, 3, 4)
    found = task.score(logits_of(said, 3), true, [[1.0] * len(shape)] * 4, ["dice"])
    for at in range(4):
        each = []
        for label in (1, 2):
            a, b = (said[at] == label).numpy(), (true[at] == label).numpy()
            each.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        np.testing.assert_allclose([found["dice_a"][at], found["dice_b"][at]], each, rtol=1e-6)
        assert found["dice"][at] == pytest.approx(np.mean(each), rel=1e-6)
    assert set(found) == {"dice", "dice_a", "dice_b"}  # no surface distances that nobody asked for


def test_masks_that_overlap_are_measured_one_by_one():
    task = segmentation(("edema", "core"), classes={})
    true = torch.zeros(1, 2, 8, 8)
    true[0, 0, :4], true[0, 1, 2:6] = 1, 1
    said = true.clone()
    said[0, 1, 2:4] = 0  # half of the core is not found
    found = task.score(20 * said - 10, true, [[1.0, 1.0]], ["dice"])
    assert found["dice_edema"][0] == pytest.approx(1)
    assert found["dice_core"][0] == pytest.approx(2 * 16 / (16 + 32))
    assert task.num_outputs == 2
    with pytest.raises(StudyError, match="expected none with several masks"):
        segmentation(("a", "b"))


def test_empty_masks_are_counted_as_the_docs_say():
    task = segmentation(classes={"rest": 0, "head": 255})
    empty, there = torch.zeros(1, 1, 9, 12), torch.zeros(1, 1, 9, 12)
    there[..., 2:5, 3:6] = 1
    sides = [[2.0, 1.0]]
    both = task.score(logits_of(empty, 2), empty, sides, WANTED)
    assert (both["dice"][0], both["surface_distance"][0], both["hausdorff95"][0]) == (1, 0, 0)
    diagonal = math.hypot(9 * 2, 12)
    for said, true in ((empty, there), (there, empty)):
        found = task.score(logits_of(said, 2), true, sides, WANTED)
        assert found["dice"][0] == 0
        assert found["surface_distance"][0] == found["hausdorff95"][0] == pytest.approx(diagonal)


def edge(mask):
    """Pixels of a mask with a neighbour (along an axis) outside it, or the border."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
    return np.argwhere(mask & ~inner)


@pytest.mark.parametrize("sides", [(1.0, 1.0), (0.5, 2.0), (1.0, 1.5, 3.0)])
def test_surface_distances_against_every_pair_of_border_pixels(sides):
    shape = (13, 11, 9)[: len(sides)]
    one, other = np.zeros(shape, bool), np.zeros(shape, bool)
    one[(slice(2, 8),) * len(shape)], other[(slice(4, 9),) * len(shape)] = True, True
    a, b = edge(one) * sides, edge(other) * sides
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    ways = apart.min(1), apart.min(0)
    mean, far = surface_distances(torch.as_tensor(one)[None], torch.as_tensor(other)[None], sides)
    assert mean == pytest.approx(np.concatenate(ways).mean(), rel=1e-5)
    assert far == pytest.approx(max(np.quantile(way, 0.95) for way in ways), rel=1e-5)


@pytest.mark.parametrize("loss", ["dice_ce", "dice", "cross_entropy"])
def test_losses_of_masks(loss):
    true, outputs = blobs((8, 8), 3), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    p = outputs.softmax(1)
    hot = torch.nn.functional.one_hot(true[:, 0].long(), 3).movedim(-1, 1).double()
    overlap, size = (p * hot).sum((2, 3)), p.sum((2, 3)) + hot.sum((2, 3))
    dice = (1 - (2 * overlap + 1e-5) / (size + 1e-5))[:, 1:].mean()
    entropy = -(hot * p.log()).sum(1).mean()
    expected = {"dice_ce": dice + entropy, "dice": dice, "cross_entropy": entropy}[loss]
    torch.testing.assert_close(segmentation(loss=loss).loss(outputs, true.double()), expected)


def test_losses_of_overlapping_masks_are_not_exclusive():
    task, true = segmentation(("a", "b"), classes={}), torch.ones(1, 2, 4, 4)  # both everywhere
    assert float(task.loss(torch.full((1, 2, 4, 4), 30.0), true)) < 1e-3
    assert float(task.loss(torch.full((1, 2, 4, 4), -30.0), true)) > 10


@pytest.mark.parametrize("shape", [(16, 16), (12, 12, 12), (8, 6)])
@pytest.mark.parametrize("spread", [1.0, 250.0])
def test_psnr_mae_and_ssim(shape, spread):
    task = make_task({"task": "restoration", "columns": ["clean"], "data_range": spread})
    true = torch.rand(2, 1, *shape) * spread
    said = true + 0.05 * spread * torch.randn_like(true)
    found = task.score(said, true, [[1.0] * len(shape)] * 2, [])
    error = (said - true).double().numpy().reshape(2, -1)
    np.testing.assert_allclose(found["psnr"], 10 * np.log10(spread**2 / (error**2).mean(1)), rtol=1e-6)
    np.testing.assert_allclose(found["mae"], np.abs(error).mean(1), rtol=1e-6)
    flat = [torch.full((1, 1, *shape), value * spread) for value in (0.2, 0.8)]  # SSIM of two flat images has a formula
    ssim = task.score(flat[0], flat[1], [[1.0] * len(shape)], [])["ssim"][0]
    assert ssim == pytest.approx((2 * 0.16 + 1e-4) / (0.04 + 0.64 + 1e-4), rel=5e-3)  # MONAI's kernel is of float32
    same = task.score(true, true, [[1.0] * len(shape)] * 2, [])
    assert same["ssim"].tolist() == pytest.approx([1, 1], abs=1e-4)
    assert same["psnr"].tolist() == pytest.approx([120, 120])
    assert float(task.loss(said, true)) == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_ssim_as_a_loss_ends_at_the_image_itself():
    task = make_task({"task": "restoration", "columns": ["clean"], "loss": "ssim"})
    true = torch.rand(1, 1, 16, 16)
    assert float(task.loss(true, true)) < 1e-4 < float(task.loss(1 - true, true))


def test_a_resample_with_a_subject_twice_counts_it_twice():
    """The engine's figure on resampled rows against the bootstrap of one mean for each subject."""
    rows = pd.DataFrame({
        "id": [f"i{n:02d}" for n in range(30)], "subject": [f"s{n // 3 if n < 12 else n:02d}" for n in range(30)],
        "dice": RNG.random(30),
    })  # fmt: skip
    other = rows.assign(dice=RNG.random(30))
    at = np.arange(30)
    groups = rows["subject"].to_numpy()

    def figure(target, prediction):
        part = rows if prediction[0] < 30 else other
        return subject_mean(part.iloc[np.asarray(prediction) % 30], "dice")

    mine = paired_bootstrap(figure, at, at, at + 30, groups=groups, n_resamples=300, seed=3)
    means = [part.groupby("subject")["dice"].mean() for part in (rows, other)]
    theirs = paired_bootstrap_scores(*(m.to_numpy() for m in means), n_resamples=300, seed=3)
    assert mine.estimate == pytest.approx(theirs.estimate)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    by_image = rows["dice"].mean() - other["dice"].mean()
    assert abs(by_image - mine.estimate) > 1e-3  # the mean over images is another number


def test_a_metric_that_a_table_lacks_is_nan():
    rows = pd.DataFrame({"id": ["a"], "subject": ["s"], "dice": [0.5]})
    found = segmentation().measure(rows)
    assert found["dice"] == 0.5
    assert math.isnan(found["surface_distance"])
