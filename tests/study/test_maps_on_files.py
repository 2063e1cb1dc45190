"""A map of a prepared volume on the voxels of its file: a mark comes back where it was, whatever the orientation."""

import nibabel as nib
import numpy as np
import pytest

from fusionconv.errors import ImageError
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.preparation import on_file_grid, prepare_volume


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
    path = str(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(1000 * blob(shape, centre, 4 / np.array(spacing)), affine), path)
    given = {"dims": 3, "channels": 1, "spacing": (1.0, 1.0, 1.0), "size": (52, 52, 52), "percentiles": None} | options
    prepared = prepare_volume([path], ImageOptions(**given))[0]
    assert prepared.max() > 600  # the mark is within the crop
    back, its = on_file_grid(prepared, path, ImageOptions(**given))
    assert back.shape == shape
    np.testing.assert_allclose(its, affine, atol=1e-5)
    weight = np.where(back > 0.5 * back.max(), back, 0)
    found = [(np.arange(n) * weight.sum(tuple({0, 1, 2} - {i}))).sum() / weight.sum() for i, n in enumerate(shape)]
    np.testing.assert_allclose(found, centre, atol=0.3)  # voxels; an axis flipped or exchanged is off by two or more
    assert np.corrcoef(back.ravel(), nib.load(path).get_fdata().ravel())[0, 1] > 0.97


def test_what_was_cropped_away_is_zero_and_other_maps_are_refused(tmp_path):
    path = str(tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(blob((20, 20, 20), (10, 10, 10), 4), np.diag([1.0, 1, 1, 1])), path)
    options = ImageOptions(dims=3, channels=1, size=(10, 12, 10), percentiles=None)
    data, _ = on_file_grid(np.ones((10, 12, 10), np.float32), path, options)
    expected = np.zeros((20, 20, 20))
    expected[5:15, 4:16, 5:15] = 1
    np.testing.assert_array_equal(data, expected)
    with pytest.raises(ImageError, match="expected a map of"):
        on_file_grid(np.ones((9, 9, 9), np.float32), path, options)
