"""One volume file, checked: what its header says, and its voxels, or an ImageError that says what to do about it."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.not_a_volume import AGAIN, CONVERT, describe, has_dicom

__all__ = ["VolumeInfo", "check_volume", "check_voxels", "read_header", "read_voxels"]

SMALLEST = 8  # voxels: fewer in one direction is a localizer or a single slice
SPACING = (0.05, 20.0)  # mm: what lies outside is another unit or a damaged header


@dataclass(frozen=True)
class VolumeInfo:
    """What the header of a volume says.

    ``spacing`` (mm) and ``orientation`` are those of ``affine``, which MONAI resamples by; ``orientation`` names the
    direction in which each axis runs: ``"RAS"`` is to the right, to the front, upwards. ``notes`` are what is no error
    and yet worth a look.
    """

    path: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    dtype: str
    affine: tuple[tuple[float, float, float, float], ...]
    size_bytes: int
    notes: tuple[str, ...] = ()


def check_volume(
    path: str | os.PathLike[str], *, voxels: bool = True, allow_unknown_orientation: bool = False, flat: bool = False
) -> VolumeInfo:
    """The header of a volume, after its voxels were read as well (``voxels=True``), or an ImageError.

    ``flat``: one value in every voxel is none, as in a mask without a lesion.

    >>> import nibabel, numpy, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = numpy.arange(1000, dtype="int16").reshape(10, 10, 10)
    ...     nibabel.save(nibabel.Nifti1Image(data, numpy.diag([-2, 2, 2, 1])), f"{folder}/a.nii.gz")
    ...     info = check_volume(f"{folder}/a.nii.gz")
    >>> info.shape, info.spacing, info.orientation, info.dtype
    ((10, 10, 10), (2.0, 2.0, 2.0), 'LAS', 'int16')
    """
    info = read_header(path, allow_unknown_orientation=allow_unknown_orientation)
    if voxels:
        check_voxels(path, flat=flat)
    return info


def check_voxels(path: str | os.PathLike[str], *, flat: bool = False) -> None:
    """Read every voxel and forget them: raises as :func:`read_voxels` does."""
    read_voxels(path, flat=flat)


def read_header(path: str | os.PathLike[str], *, allow_unknown_orientation: bool = False) -> VolumeInfo:
    """Read the header alone: fast, but a file that is cut off behind it is not noticed.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.img`` or ``.hdr`` (its other half beside it), ``.mgz``, ``.mnc``: what nibabel
            reads.
        allow_unknown_orientation: take a header that does not say how the axes lie, with nibabel's assumption (x runs
            to the left, y to the front, z upwards) and a note.

    Raises:
        ImageError: no such file; not a volume; not one volume of three dimensions of 8 voxels or more; colours or
            complex numbers; an affine or a spacing that cannot be; an orientation that is not told.
    """
    import nibabel as nib

    path = Path(path)
    image = _open(path)
    notes: list[str] = []
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:  # (x, y, z, 1) is one volume; the preparation takes the axis away
        shape = shape[:-1]
    if len(shape) > 3:
        raise ImageError(
            f"{path}: expected one 3-D volume, got {' x '.join(map(str, shape))} with {np.prod(shape[3:])} volumes; "
            f"take one (nibabel: image.slicer[..., 0], FSL: fslroi IN OUT 0 1) or their mean, and write it to a file"
        )
    if len(shape) < 3 or min(shape) < SMALLEST:
        raise ImageError(
            f"{path}: expected three dimensions of {SMALLEST} voxels or more, got {' x '.join(map(str, shape))}: a "
            "slice, a localizer or a cut-out; name the whole volume"
        )
    dtype = np.dtype(image.get_data_dtype())
    if dtype.names or dtype.kind not in "iuf":
        what = "colours (RGB)" if dtype.names else str(dtype)
        raise ImageError(
            f"{path}: expected one real number a voxel, got {what}: a screenshot, a colour map or a complex image; "
            "name the volume of intensities"
        )
    _check_raw(path, image)
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all():
        raise ImageError(f"{path}: expected an affine of finite numbers, got {affine.tolist()}; {AGAIN}")
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not ((spacing >= SPACING[0]) & (spacing <= SPACING[1])).all():
        raise ImageError(
            f"{path}: expected a spacing of {SPACING[0]} to {SPACING[1]} mm, got {_mm(spacing)}: another unit than "
            "mm, or a damaged header; write the true spacing into the header or convert the source again"
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise ImageError(
            f"{path}: expected an affine of three independent axes, got {affine.tolist()}, which is singular; "
            "convert the source again"
        )
    told = _orientation_told(image)
    if not told and not allow_unknown_orientation:
        raise ImageError(
            f"{path}: expected a header that says how the axes lie, got none (qform_code = sform_code = 0, or a "
            "format without one): which side is left is then unknown. Find out and write it (nibabel: "
            "image.set_sform(affine, code=1)), or, if all images are alike and the side does not matter, allow it with "
            "allow_unknown_orientation=True"
        )
    codes = "".join(nib.aff2axcodes(affine))
    if not told:
        notes.append(f"the header does not tell the orientation: {codes} is assumed, left and right may be swapped")
    if isinstance(image.header, nib.Nifti1Header):
        sform, qform = (get(coded=True)[0] for get in (image.get_sform, image.get_qform))
        if sform is not None and qform is not None:
            by_s, by_q = ("".join(map(str, nib.aff2axcodes(a))) for a in (sform, qform))
            if by_s != by_q:
                notes.append(f"sform says {by_s} and qform {by_q}; sform was taken, as nibabel and MONAI do")
    zooms = np.asarray(image.header.get_zooms()[:3], dtype=float)
    if told and not np.allclose(zooms, spacing, rtol=0.01):
        notes.append(f"pixdim says {_mm(zooms)} and the affine {_mm(spacing)}; the affine was taken")
    return VolumeInfo(
        path=str(path),
        shape=(shape[0], shape[1], shape[2]),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        orientation=codes,
        dtype=str(dtype.newbyteorder("=")),
        affine=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine),
        size_bytes=path.stat().st_size,
        notes=tuple(notes),
    )


def read_voxels(path: str | os.PathLike[str], *, flat: bool = False) -> np.ndarray:
    """The voxels as float32 (x, y, z), in the file's own axes, scaled by scl_slope and scl_inter as nibabel does.

    A compressed file is read to its end first, so that its checksum is compared: nibabel stops at the last voxel and
    would give damaged ones.

    Raises:
        ImageError: cut off or damaged; NaN or infinite voxels (they are counted, never replaced); one value only,
            unless it may be ``flat``.
    """
    path = Path(path)
    image = _open(path)
    try:
        _read_through(Path(image.file_map["image"].filename or path))
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error, MemoryError) as error:
        raise ImageError(
            f"{path}: expected {np.prod(image.shape):,d} voxels, got a file that is cut off or damaged "
            f"({' '.join(str(error).split()) or type(error).__name__}); {AGAIN}"
        ) from error
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ImageError(
            f"{path}: expected finite voxels, got {bad:,d} of {data.size:,d} ({bad / data.size:.2%}) that are NaN or "
            "infinite; they are not replaced silently: find out what they stand for (often the background outside of a "
            "mask), write a number there (numpy.nan_to_num) and save the volume again"
        )
    if not flat and data.min() == data.max():
        raise ImageError(
            f"{path}: expected an image, got {data.flat[0]:g} in every voxel; a step before wrote an empty volume: "
            "run it again for this subject"
        )
    return data.reshape(data.shape[:3])


def _open(path: Path) -> Any:
    """The nibabel image, its voxels not read yet."""
    import nibabel as nib

    if not path.exists():
        link = "a link to a file that is not there (fetch it: datalad get, git annex get)"
        raise ImageError(f"{path}: expected a volume, got {link if path.is_symlink() else 'no such file'}")
    if path.is_dir():
        if has_dicom(path):
            raise ImageError(f"{path}: expected one volume file, got a folder of DICOM files; {CONVERT}")
        raise ImageError(f"{path}: expected one volume file, got a folder; name the file in it")
    if has_dicom(path):
        raise ImageError(f"{path}: expected one volume file, got a DICOM file; {CONVERT}")
    for one, other in ((".img", ".hdr"), (".hdr", ".img")):
        if path.suffix.lower() == one and not any(path.with_suffix(o).exists() for o in (other, other.upper())):
            raise ImageError(f"{path}: expected {path.stem}{other} beside it, got none; copy both files of the pair")
    try:
        image: Any = nib.load(path)
    except Exception as error:  # each of nibabel's formats has errors of its own, some straight from Exception
        got = describe(path, error)
        raise ImageError(f"{path}: expected a volume that nibabel reads (.nii.gz, .nii), got {got}") from error
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise ImageError(f"{path}: expected a volume (.nii.gz, .nii), got a {type(image).__name__}")
    return image


def _check_raw(path: Path, image: Any) -> None:
    """The voxel sizes as the file has them: nibabel makes 1 of 0 and 2 of -2 when it reads."""
    import nibabel as nib
    from nibabel.openers import ImageOpener

    if not isinstance(image.header, nib.Nifti1Header):
        return
    holder = image.file_map.get("header", image.file_map["image"])
    with ImageOpener(holder.filename) as stream:
        raw = type(image.header)(stream.read(type(image.header).template_dtype.itemsize), check=False)
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
    if not (np.isfinite(pixdim) & (pixdim > 0)).all():
        raise ImageError(
            f"{path}: expected a spacing above 0 in each direction, got pixdim {_mm(pixdim)}; convert the source "
            "again, or write the true spacing into the header"
        )


def _orientation_told(image: Any) -> bool:
    import nibabel as nib

    if isinstance(image.header, nib.Nifti1Header):
        return bool(image.header["qform_code"] > 0 or image.header["sform_code"] > 0)
    if isinstance(image, nib.MGHImage):  # nibabel fills in a default and sets the flag; look at the file
        from nibabel.openers import ImageOpener

        with ImageOpener(str(image.file_map["image"].filename)) as stream:
            return int.from_bytes(stream.read(30)[28:30], "big", signed=True) > 0
    if isinstance(image, nib.AnalyzeImage):  # Analyze has no field for it; SPM put it into a file beside
        mat = image.file_map.get("mat")
        return mat is not None and mat.filename is not None and os.path.isfile(mat.filename)
    return True


def _read_through(path: Path) -> None:
    """Decompress to the end, where the checksum stands."""
    if path.suffix.lower() in (".gz", ".mgz"):
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass


def _mm(values: np.ndarray) -> str:
    return " x ".join(f"{v:.4g}" for v in values) + " mm"
