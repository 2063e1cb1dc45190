"""Attribution: the way back into a subject's space, Grad-CAM by its formula, and that it speaks of the judged network."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from fusionconv.study.volumes import VolumeError
from recipes.adni.attribution import attribution_section, require_same_answer
from recipes.adni.attribution_figures import draw_averages, to_ras
from recipes.adni.gradcam import GradCam, choose_layer
from recipes.adni.preparation import Preparation
from recipes.adni.report_run import read_run
from recipes.adni.saliency import in_subject_space, save_in_subject_space
from recipes.adni.trained import open_study
from recipes.common.runs import RunError


def turned(axes, signs, spacing, degrees):
    """An affine whose axes run along the given world axes, rotated by some degrees about z."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * spacing[column]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = (11.0, -7.0, 3.0)
    return affine


def blob(shape, centre, width):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.exp(-0.5 * (((grid - np.array(centre)) / width) ** 2).sum(-1)).astype(np.float32)


@pytest.mark.parametrize(
    ("axes", "signs", "degrees", "options"),
    [
        ((0, 1, 2), (1, 1, 1), 0, {}),
        ((2, 0, 1), (-1, 1, -1), 12, {}),
        ((1, 2, 0), (-1, -1, 1), 20, {"orientation": "LPS", "foreground": True}),
        ((0, 1, 2), (-1, -1, -1), 15, {"spacing": None, "size": (24, 20, 14)}),
    ],
)
def test_a_mark_comes_back_where_it_was(tmp_path, axes, signs, degrees, options):
    """A blob in the file, prepared, is the mark; on its way back it must lie where the file has it."""
    shape, spacing, centre = (24, 30, 18), (1.5, 1.0, 2.0), (14, 9, 7)
    affine = turned(axes, signs, spacing, degrees)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(1000 * blob(shape, centre, 4 / np.array(spacing)), affine), path)
    preparation = Preparation(**{"spacing": 1.0, "size": (52, 52, 52), "percentiles": None} | options)
    prepared = preparation.transforms()({"image": str(path)})["image"][0].numpy()
    assert prepared.max() > 600  # the mark is within the crop
    saved = nib.load(save_in_subject_space(prepared, path, preparation, tmp_path / "deep" / "s.nii.gz"))
    back = saved.get_fdata()
    assert back.shape == shape
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)
    weight = np.where(back > 0.5 * back.max(), back, 0)
    found = [(np.arange(n) * weight.sum(tuple({0, 1, 2} - {i}))).sum() / weight.sum() for i, n in enumerate(shape)]
    np.testing.assert_allclose(found, centre, atol=0.3)  # voxels; an axis flipped or exchanged is off by two or more
    assert np.corrcoef(back.ravel(), nib.load(path).get_fdata().ravel())[0, 1] > 0.97


def test_what_was_cropped_away_is_zero_and_other_maps_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(blob((20, 20, 20), (10, 10, 10), 4), np.diag([1.0, 1, 1, 1])), path)
    preparation = Preparation(spacing=None, size=(10, 12, 10), percentiles=None)
    data, _ = in_subject_space(np.ones((10, 12, 10), np.float32), path, preparation)
    expected = np.zeros((20, 20, 20))
    expected[5:15, 4:16, 5:15] = 1
    np.testing.assert_array_equal(data, expected)
    with pytest.raises(VolumeError, match="expected a map of"):
        in_subject_space(np.ones((9, 9, 9), np.float32), path, preparation)


@pytest.fixture
def study(kept):
    return open_study(kept[2] / "folds" / "hybrid" / "repeat0-fold0" / "checkpoints" / "fold-last.ckpt")


def test_grad_cam_by_its_formula(study):
    torch.manual_seed(0)
    for name, parameter in study.network.named_parameters():
        if name.endswith("covariate_weight"):
            torch.nn.init.normal_(parameter)  # else the covariates would not show
    torch.nn.init.normal_(study.network.fc.weight)
    volume, rows = torch.rand(1, 1, 16, 16, 16), torch.tensor([[0.7, 1.0], [-0.5, 0.0]])
    maps = []
    for row in rows:
        seen = []
        hook = study.network.blocks[1].register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output))
        y = study.network(volume, row[None])
        hook.remove()
        (gradient,) = torch.autograd.grad(y[0, 1], seen[0])
        weights = gradient.mean((2, 3, 4), keepdim=True)
        coarse = F.relu((weights * seen[0]).sum(1, keepdim=True))
        fine = F.interpolate(coarse, (16, 16, 16), mode="trilinear", align_corners=False)[0, 0]
        maps.append((fine / fine.max()).detach().numpy())
    camera = GradCam(study, "blocks.1")
    for row, expected in zip(rows, maps, strict=True):
        np.testing.assert_allclose(camera(volume, row[None], 1), expected, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    study.network.fc.weight.data.zero_()
    assert not camera(volume, rows[:1], 1).any()  # nothing speaks for the class: zeros, not NaN


def test_the_layer(study):
    volume, rows = torch.zeros(1, 1, 16, 16, 16), torch.zeros(1, 2)
    assert choose_layer(study, volume, rows, None) == ("blocks.1", (4, 4, 4))  # 16 / 2 (pool) / 2 (second block)
    assert choose_layer(study, volume, rows, "blocks.3.conv2") == ("blocks.3.conv2", (1, 1, 1))
    assert choose_layer(study, torch.zeros(1, 1, 64, 64, 64), rows, None) == ("blocks", (4, 4, 4))
    with pytest.raises(RunError, match=r"--layer fc: expected .* stem\.0 \(16 x 16 x 16\)"):
        choose_layer(study, volume, rows, "fc")


def test_maps_of_test_volumes_and_one_subject_as_nifti(kept, tmp_path):
    images, _, folder = kept
    run = read_run(shutil.copytree(folder, tmp_path / "run"))
    title, paragraphs, tables, figures = attribution_section(run, "sub-004", None, 6)
    assert title == "Where the networks look"
    assert set(figures) == {"attribution-image", "attribution-hybrid"}  # the linear arm has no maps
    assert tables[0]["CN"].tolist() == ["6", "6"]
    assert tables[0]["map (voxels)"].tolist() == ["4 x 4 x 4"] * 2
    for arm in ("image", "hybrid"):
        path = run.folder / "attribution" / f"{arm}_sub-004_1_gradcam.nii.gz"
        assert str(path.relative_to(run.folder)) in paragraphs[0]
        own, file = nib.load(path), nib.load(images / "sub-004.nii.gz")
        assert own.shape == file.shape
        np.testing.assert_allclose(own.affine, file.affine)
    with pytest.raises(RunError, match="none of the 20 test subjects"):
        attribution_section(run, "sub-999", None, 6)


def test_another_network_or_row_than_the_judged_one_is_noticed(kept, tmp_path, study):
    run = read_run(shutil.copytree(kept[2], tmp_path / "run"))
    path = run.folder / "folds" / "hybrid" / "repeat0-fold1" / "predictions.csv"
    rows = pd.read_csv(path)
    path.write_text(rows.assign(p_CN=rows["p_CN"] + 0.1, p_AD=rows["p_AD"] - 0.1).to_csv(index=False))
    with pytest.raises(RunError, match="hybrid repeat0-fold1 answers"):
        attribution_section(read_run(run.folder), None, None, 6)
    volume, covariates = torch.rand(1, 1, 16, 16, 16), torch.zeros(1, 2)
    p = study(volume, covariates).softmax(1)[0].detach()
    row = pd.Series(
        {"arm": "hybrid", "fold": "f", "image": "i", "p_CN": float(p[0]) + 0.01, "p_AD": float(p[1]) - 0.01}
    )
    require_same_answer(study, volume, covariates, row, "bf16-mixed")
    with pytest.raises(RunError):
        require_same_answer(study, volume, covariates, row, "32-true")


def test_without_kept_networks_it_says_how_to_get_them(kept, tmp_path):
    run = read_run(shutil.copytree(kept[2], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    _, paragraphs, tables, figures = attribution_section(run, None, None, 6)
    assert "--keep_checkpoints" in paragraphs[0]
    assert not tables
    assert not figures


def test_pictures_are_turned_to_ras():
    """A mark at the right, back and top of an LPI volume is drawn at R, P and S."""
    values = np.zeros((5, 6, 7))
    values[0, 5, 0] = 1  # LPI: the first axis runs to the left, the second backwards, the third downwards
    right = to_ras(values, "LPI")
    assert np.argwhere(right).tolist() == [[4, 0, 6]]
    from recipes.adni.attribution import Averaged

    average = Averaged(np.zeros(values.shape), np.zeros(values.shape))
    average.add(values, values)
    average.add(values, 0 * values)
    assert (average.n, average.empty, average.saliency.max()) == (2, 1, 0.5)
    figure = draw_averages({"CN": average}, "LPI", "hybrid")
    coronal = figure.axes[4]  # through the largest
    assert "coronal at the largest (0)" in coronal.get_title(loc="left")
    drawn = coronal.images[1].get_array()
    assert np.argwhere(np.asarray(drawn)).tolist() == [[6, 4]]  # from below: top; from the left: R
