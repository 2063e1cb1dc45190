"""The cache: keyed by content and settings, never stale, whole or not there; and the voxels where the affine says."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

from recipes.adni import preparation as module
from recipes.adni.preparation import Preparation, ReadPrepared, prepare
from recipes.common.runs import RunError
from tests.recipes.adni.conftest import write_volume

PLAIN = Preparation(spacing=None, size=(16, 18, 16), percentiles=None)


def read(prepared, image):
    return np.load(prepared.files[str(image)])


def test_a_second_call_makes_nothing_and_other_settings_make_anew(tmp_path):
    image = write_volume(tmp_path / "a.nii.gz")
    first = prepare([str(image)], PLAIN, tmp_path / "cache", progress=False)
    assert (first.made, first.failed) == (1, {})
    assert prepare([str(image)], PLAIN, tmp_path / "cache", progress=False).made == 0
    other = Preparation(spacing=None, size=(12, 12, 12), percentiles=None)
    assert prepare([str(image)], other, tmp_path / "cache", progress=False).made == 1
    assert prepare([str(image)], PLAIN, tmp_path / "cache", progress=False).made == 0


def test_a_file_that_was_replaced_behind_the_same_name_size_and_date_is_prepared_anew(tmp_path):
    image = write_volume(tmp_path / "a.nii", value=0.2)
    before = prepare([str(image)], PLAIN, tmp_path / "cache", progress=False)
    stat = image.stat()
    write_volume(image, value=0.9)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = prepare([str(image)], PLAIN, tmp_path / "cache", progress=False)
    assert read(after, image).max() > read(before, image).max() + 0.5


def test_the_same_content_under_two_names_is_one_volume_in_the_cache(tmp_path):
    a = write_volume(tmp_path / "a.nii.gz")
    b = tmp_path / "b.nii.gz"
    b.write_bytes(a.read_bytes())
    prepared = prepare([str(a), str(b)], PLAIN, tmp_path / "cache", progress=False)
    assert prepared.files[str(a)] == prepared.files[str(b)]


def test_a_damaged_cache_file_is_made_again(tmp_path):
    image = write_volume(tmp_path / "a.nii.gz")
    prepared = prepare([str(image)], PLAIN, tmp_path / "cache", progress=False)
    good = read(prepared, image)
    for damage in (b"", prepared.files[str(image)].read_bytes()[:200], b"not an array"):
        prepared.files[str(image)].write_bytes(damage)
        again = prepare([str(image)], PLAIN, tmp_path / "cache", progress=False)
        assert again.made == 1
        np.testing.assert_array_equal(read(again, image), good)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "PIL"])
def test_a_marked_place_of_the_world_lands_at_the_same_voxel_in_whatever_orientation_it_was_stored(tmp_path, codes):
    """A point at known world coordinates (mm, right-anterior-superior) is looked for where the formula puts it."""
    shape, spacing = np.array([20, 24, 16]), 2.0
    ras = np.zeros(shape, dtype=np.float32)
    marked = np.array([14, 5, 9])
    ras[tuple(marked)] = 1.0
    ras[:2, :2, :2] = 0.3  # another corner
    image = nib.Nifti1Image(ras, np.diag([spacing] * 3 + [1.0]))
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    )
    assert "".join(nib.aff2axcodes(turned.affine)) == codes
    path = tmp_path / f"{codes}.nii.gz"
    nib.save(turned, path)
    size = (16, 20, 16)
    prepared = prepare(
        [str(path)], Preparation(spacing=None, size=size, percentiles=None), tmp_path / "c", progress=False
    )
    array = read(prepared, path)[0]
    # cropped around the middle: (shape - size) / 2 voxels go on each side
    assert np.unravel_index(array.argmax(), array.shape) == tuple(marked - (shape - np.array(size)) // 2)


def test_resampling_halves_the_voxels_and_keeps_the_place(tmp_path):
    data = np.zeros((32, 32, 32), dtype=np.float32)
    data[20:24, 8:12, 16:20] = 1.0
    path = tmp_path / "fine.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    prepared = prepare(
        [str(path)], Preparation(spacing=2.0, size=(16, 16, 16), percentiles=None), tmp_path / "c", progress=False
    )
    array = read(prepared, path)[0].astype(float)
    middle = (np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij")) * array).sum((1, 2, 3)) / array.sum()
    np.testing.assert_allclose(middle, np.array([21.5, 9.5, 17.5]) / 2, atol=0.6)


def test_bad_volumes_are_listed_with_their_reason_and_the_others_are_prepared(tmp_path):
    good = write_volume(tmp_path / "good.nii.gz")
    paths = {
        "good": good,
        "empty": tmp_path / "empty.nii.gz",
        "cut": tmp_path / "cut.nii.gz",
        "nan": tmp_path / "nan.nii.gz",
    }
    paths["empty"].touch()
    paths["cut"].write_bytes(good.read_bytes()[:2000])
    data = np.ones((16, 16, 16), dtype=np.float32)
    data[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(data, np.eye(4)), paths["nan"])
    paths["four"] = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((16, 16, 16, 3)).astype("f4"), np.eye(4)), paths["four"])
    paths["absent"] = tmp_path / "absent.nii.gz"
    prepared = prepare([str(p) for p in paths.values()], PLAIN, tmp_path / "cache", progress=False)
    assert set(prepared.files) == {str(good)}
    assert set(prepared.failed) == {str(p) for name, p in paths.items() if name != "good"}
    assert all(len(reason) > 20 for reason in prepared.failed.values())
    assert "3 volumes" in prepared.failed[str(paths["four"])]


def test_several_processes_give_what_one_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEW", 2)
    images = [str(write_volume(tmp_path / f"{i}.nii.gz", value=0.1 * (i + 1), seed=i)) for i in range(4)]
    one = prepare(images, PLAIN, tmp_path / "one", workers=0, progress=False)
    two = prepare(images, PLAIN, tmp_path / "two", workers=2, progress=False)
    assert two.made == 4
    for image in images:
        np.testing.assert_array_equal(read(one, image), read(two, image))


def test_a_full_disk_stops_with_a_reason_and_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    images = [str(write_volume(tmp_path / f"{i}.nii.gz", seed=i)) for i in range(2)]

    def full(handle, array):
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(RunError, match="No space left"):
        prepare(images, PLAIN, tmp_path / "cache", progress=False)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_what_is_read_says_which_file_it_was_made_from(tmp_path):
    image = str(write_volume(tmp_path / "a.nii.gz"))
    prepared = prepare([image], PLAIN, tmp_path / "cache", progress=False)
    item = ReadPrepared(prepared.files)({"image": image, "id": "a"})
    assert item["id"] == "a"
    assert item["image"].shape == (1, 16, 18, 16)
    assert item["image"].meta["filename_or_obj"] == image
