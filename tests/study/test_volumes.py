"""One volume file: what is accepted, and for each kind of bad file an error that names it and says what to do."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fusionconv.errors import ImageError
from fusionconv.study.volumes import check_volume, check_voxels, read_header, read_voxels

AFFINE = np.array([[0, 0, 1.5, -20], [-1.0, 0, 0, 30], [0, 2.0, 0, -40], [0, 0, 0, 1]])


def noise(*shape, dtype="int16"):
    return np.random.default_rng(0).integers(0, 1000, shape or (9, 10, 11)).astype(dtype)


def save(path, data=None, affine=AFFINE, kind=nib.Nifti1Image):
    kind(noise() if data is None else data, affine).to_filename(path)
    return path


def header_of(path, **fields):
    """Write fields into the header of an uncompressed NIfTI file, byte by byte, past all of nibabel's checks."""
    offsets = {"pixdim": (76, "<f4"), "qform_code": (252, "<i2"), "sform_code": (254, "<i2"), "scl_slope": (112, "<f4"),
               "scl_inter": (116, "<f4"), "quatern": (256, "<f4"), "srow_x": (280, "<f4"), "srow_y": (296, "<f4"), "srow_z": (312, "<f4")}  # fmt: skip
    content = bytearray(path.read_bytes())
    for name, value in fields.items():
        start, kind = offsets[name]
        value = np.asarray(value, kind).tobytes()
        content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


def complaint(path, **options):
    with pytest.raises(ImageError) as caught:
        check_volume(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected")
    return message


def test_the_header_as_it_was_written(tmp_path):
    info = check_volume(save(tmp_path / "a.nii.gz"))
    # AFFINE: the first axis runs to the back (1 mm), the second upwards (2 mm), the third to the right (1.5 mm)
    assert (info.shape, info.spacing, info.orientation) == ((9, 10, 11), (1.0, 2.0, 1.5), "PSR")
    assert info.affine == tuple(map(tuple, AFFINE.tolist()))
    assert (info.dtype, info.size_bytes, info.notes) == ("int16", (tmp_path / "a.nii.gz").stat().st_size, ())
    assert info.path == str(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("a.nii", nib.Nifti1Image, "uint8"),
        ("a.nii.gz", nib.Nifti2Image, "float64"),
        ("a.img", nib.Nifti1Pair, "float32"),
        ("a.hdr", nib.Nifti1Pair, "int16"),
        ("a.mgz", nib.MGHImage, "float32"),
    ],
)
def test_formats_that_are_read(tmp_path, name, kind, dtype):
    info = check_volume(save(tmp_path / name, noise(dtype=dtype), kind=kind))
    assert (info.shape, info.spacing, info.orientation, info.dtype) == ((9, 10, 11), (1.0, 2.0, 1.5), "PSR", dtype)
    assert np.array_equal(read_voxels(tmp_path / name), noise(dtype=dtype).astype("float32"))


def test_a_link_to_a_file_and_a_last_axis_of_one_are_fine(tmp_path):
    save(tmp_path / "a.nii.gz", noise(9, 10, 11, 1))
    os.symlink(tmp_path / "a.nii.gz", tmp_path / "link.nii.gz")
    assert check_volume(tmp_path / "link.nii.gz").shape == (9, 10, 11)
    assert np.array_equal(read_voxels(tmp_path / "link.nii.gz"), noise(9, 10, 11, 1)[..., 0])


def test_scaling_is_that_of_the_header_and_none_where_it_is_0_or_nan(tmp_path):
    stored = noise()
    path = save(tmp_path / "a.nii", stored)
    assert np.allclose(read_voxels(header_of(path, scl_slope=0.5, scl_inter=-3)), stored * 0.5 - 3)
    for slope in (0, np.nan):
        assert np.array_equal(read_voxels(header_of(path, scl_slope=slope, scl_inter=0)), stored)
    assert "invalid intercept" in complaint(header_of(path, scl_slope=2, scl_inter=np.nan))


def test_absent_empty_and_links_to_nothing(tmp_path):
    assert "no such file" in complaint(tmp_path / "a.nii.gz")
    os.symlink("../.git/annex/objects/xyz", tmp_path / "b.nii.gz")
    assert "datalad get" in complaint(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").touch()
    assert "an empty or unreadable file" in complaint(tmp_path / "c.nii.gz")
    assert "got a folder; name the file" in complaint(tmp_path)
    save(tmp_path / "d.img", kind=nib.Nifti1Pair)
    (tmp_path / "d.hdr").unlink()
    assert "d.hdr beside it" in complaint(tmp_path / "d.img")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.img"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_truncated_files(tmp_path, name, kept):
    kind = {".mgz": nib.MGHImage, ".img": nib.Nifti1Pair}.get(Path(name).suffix, nib.Nifti1Image)
    path = save(tmp_path / name, noise(dtype="float32"), kind=kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "copy or download it again" in complaint(path)


def test_the_header_alone_does_not_see_a_cut_behind_it(tmp_path):
    path = save(tmp_path / "a.nii", noise())
    path.write_bytes(path.read_bytes()[:-7])
    assert read_header(path).shape == (9, 10, 11) == check_volume(path, voxels=False).shape
    with pytest.raises(ImageError, match="expected 990 voxels, got a file that is cut off"):
        check_voxels(path)


def test_a_changed_byte_in_a_compressed_file_is_seen_by_its_checksum(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))  # stored as it is
    content[-500] ^= 1
    path.write_bytes(content)
    assert not np.array_equal(np.asarray(nib.load(path).dataobj), noise())  # nibabel gives the wrong voxel
    assert "CRC check failed" in complaint(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"just a note\n", "text"),
        (b"<!DOCTYPE html><html>login</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s9--0.nii.gz\n", "datalad get"),
        (os.urandom(2000).replace(b"\x1f\x8b", b"ab"), "another kind"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_files_that_are_no_nifti(tmp_path, content, says, name, compressed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if compressed else content)
    message = complaint(path)
    assert (says if name.endswith("gz") or not compressed else "ends in .nii.gz, or unpack it") in message


def test_a_nifti_that_is_not_compressed_under_a_name_that_says_so(tmp_path):
    path = save(tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    assert "not compressed by gzip; compress it with gzip, or name it .nii" in complaint(path)


def test_what_another_format_cannot_read_is_told_too(tmp_path):
    for name in ("a.mgh", "a.img", "a.mnc", "a.gii", "a.txt"):
        save(tmp_path / "a.nii").rename(tmp_path / name)
        (tmp_path / "a.hdr").write_bytes(bytes(348))
        assert "expected a volume" in complaint(tmp_path / name)


def test_dicom_as_a_file_and_as_a_folder(tmp_path):
    folder = tmp_path / "series" / "deep"
    folder.mkdir(parents=True)
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(400))
    for path in (tmp_path / "series", folder / "IM0001"):
        assert "dcm2niix -z y" in complaint(path)
    (tmp_path / "a.dcm").write_bytes(b"no preamble")
    assert "dcm2niix -z y" in complaint(tmp_path / "a.dcm")


def test_four_dimensions_two_dimensions_and_thin_ones(tmp_path):
    message = complaint(save(tmp_path / "bold.nii.gz", noise(9, 10, 11, 5)))
    assert "got 9 x 10 x 11 x 5 with 5 volumes" in message
    assert "slicer" in message
    assert "got 9 x 10:" in complaint(save(tmp_path / "flat.nii", noise(9, 10)))
    assert "got 9 x 10 x 7:" in complaint(save(tmp_path / "thin.nii", noise(9, 10, 7)))
    assert check_volume(save(tmp_path / "small.nii", noise(8, 8, 8))).shape == (8, 8, 8)


def test_colours_and_complex_numbers(tmp_path):
    colours = np.zeros((9, 10, 11), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colours (RGB)" in complaint(save(tmp_path / "rgb.nii", colours))
    assert "complex64" in complaint(save(tmp_path / "c.nii", noise(dtype="complex64")))


def test_an_orientation_that_is_not_told(tmp_path):
    path = header_of(save(tmp_path / "a.nii"), qform_code=0, sform_code=0)
    assert "allow_unknown_orientation=True" in complaint(path)
    info = check_volume(path, allow_unknown_orientation=True)
    assert info.orientation == "LAS"  # nibabel's assumption, from the voxel sizes in pixdim
    assert "left and right may be swapped" in info.notes[0]
    # either code alone tells it
    assert check_volume(header_of(path, sform_code=1)).orientation == "PSR"
    assert check_volume(header_of(path, sform_code=0, qform_code=1)).orientation == "PSR"


def test_analyze_and_an_mgh_file_without_its_flag_do_not_tell_it(tmp_path):
    path = save(tmp_path / "a.img", affine=np.diag([-2, 2, 2, 1.0]), kind=nib.AnalyzeImage)
    assert "allow_unknown_orientation=True" in complaint(path)
    assert check_volume(path, allow_unknown_orientation=True).spacing == (2.0, 2.0, 2.0)
    path = save(tmp_path / "b.mgz", noise(dtype="float32"), kind=nib.MGHImage)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[28:30] = b"\0\0"
    path.write_bytes(gzip.compress(content))
    assert "allow_unknown_orientation=True" in complaint(path)


def test_sform_and_qform_that_disagree_are_noted(tmp_path):
    image = nib.Nifti1Image(noise(), np.diag([2, 2, 2, 1.0]))
    image.set_qform(np.diag([-2, 2, 2, 1.0]), code=1)
    image.set_sform(np.diag([2, 2, 2, 1.0]), code=1)
    image.to_filename(tmp_path / "a.nii")
    info = check_volume(tmp_path / "a.nii")
    assert info.orientation == "RAS"
    assert info.notes == ("sform says RAS and qform LAS; sform was taken, as nibabel and MONAI do",)


def test_pixdim_that_differs_from_the_affine_is_noted(tmp_path):
    path = header_of(save(tmp_path / "a.nii", affine=np.diag([2, 2, 2, 1.0])), pixdim=[1, 2, 2, 3])
    info = check_volume(path)
    assert info.spacing == (2.0, 2.0, 2.0)
    assert info.notes == ("pixdim says 2 x 2 x 3 mm and the affine 2 x 2 x 2 mm; the affine was taken",)


@pytest.mark.parametrize("pixdim", [[1, 0, 2, 2], [1, 2, -2, 2], [1, 2, 2, np.nan]])
@pytest.mark.parametrize("packed", [False, True])
def test_a_spacing_that_nibabel_would_mend_silently(tmp_path, pixdim, packed):
    path = header_of(save(tmp_path / "a.nii", affine=np.diag([2, 2, 2, 1.0])), pixdim=pixdim)
    if packed:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"
    assert "spacing above 0 in each direction, got pixdim" in complaint(path)


@pytest.mark.parametrize("size", [25, 0.01, 1000])
def test_a_spacing_in_another_unit(tmp_path, size):
    assert "0.05 to 20.0 mm" in complaint(save(tmp_path / "a.nii", affine=np.diag([2, size, 2, 1.0])))


def test_affines_that_cannot_be(tmp_path):
    path = save(tmp_path / "a.nii", affine=np.diag([2, 2, 2, 1.0]))
    assert "finite numbers" in complaint(header_of(path, srow_x=[np.nan, 0, 0, 0]))
    assert "singular" in complaint(header_of(path, srow_x=[0, 0, 0, 0], srow_y=[2, 2, 0, 0]))  # x runs where y does
    assert "mm" in complaint(header_of(path, srow_x=[2, 0, 0, 0], srow_z=[0, 0, 0, 0]))  # z has no length


def test_nan_and_infinite_voxels_are_counted_and_constants_refused(tmp_path):
    data = noise(dtype="float32")
    data[0, 0, :3], data[1, 1, 1] = np.nan, np.inf
    message = complaint(save(tmp_path / "a.nii.gz", data))
    assert "4 of 990 (0.40%)" in message
    assert "not replaced silently" in message
    assert "got 7 in every voxel" in complaint(save(tmp_path / "b.nii.gz", np.full((9, 10, 11), 7, "int16")))


def test_the_real_volume_of_ds002748():
    folder = os.environ.get("FUSIONCONV_TEST_DATA")
    if not folder or not (Path(folder) / "ds002748_mini").is_dir():
        pytest.skip("needs the folder of real data with ds002748_mini/ in the variable FUSIONCONV_TEST_DATA")
    info = check_volume(Path(folder) / "ds002748_mini" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert info.shape == (288, 288, 181)
    assert all(0.5 < s < 1.5 for s in info.spacing)
