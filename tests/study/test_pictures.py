"""One 2-D file: pixels against values known from how the file was written; each kind of bad file with its reason."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fusionconv.errors import ImageError
from fusionconv.study.pictures import picture_channels, read_picture, resize_picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (11, 17), dtype=np.uint16)


def png(width, height, depth, colour_type, rows):
    """A PNG written by hand, so that what Pillow cannot write can be read."""

    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour_type, 0, 0, 0])
    data = b"".join(b"\0" + row for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "gif", "ppm", "jp2"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_every_lossless_format_gives_the_pixels_that_were_written(tmp_path, suffix, kind):
    if kind == "colour" and suffix == "gif":
        pytest.skip("GIF has 256 colours")
    file = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "jp2": {"irreversible": False}}.get(suffix, {})
    Image.fromarray(GREY if kind == "grey" else COLOUR).save(file, **options)
    want = np.stack([GREY] * 3) if kind == "grey" else COLOUR.transpose(2, 0, 1)
    picture = read_picture(file, 3)
    np.testing.assert_array_equal(picture.pixels, want)
    assert picture.pixels.dtype == np.uint8
    expected = [] if kind == "colour" or suffix == "webp" else ["grey"]  # WebP has no grey
    assert list(picture.notes) == expected
    assert picture_channels(file) == (3 if kind == "colour" or suffix == "webp" else 1)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_stays_16_bit(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(DEEP).save(file)
    pixels = read_picture(file, 1).pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, DEEP[None])
    np.testing.assert_array_equal(read_picture(file, 3).pixels, np.stack([DEEP] * 3))


def test_big_endian_tiff_and_one_in_which_white_is_zero(tmp_path):
    for name, order, photometric, want in [("b", "MM", 1, DEEP), ("w", "II", 0, 65535 - DEEP)]:
        file = tmp_path / f"{name}.tif"
        end = ">" if order == "MM" else "<"
        tags = [(256, 17), (257, 11), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 11), (279, DEEP.nbytes)]  # fmt: skip
        table = struct.pack(f"{end}H", len(tags)) + b"".join(struct.pack(f"{end}HHII", n, 4, 1, v) for n, v in tags)
        start = order.encode() + struct.pack(f"{end}HI", 42, 8 + DEEP.nbytes)
        file.write_bytes(start + DEEP.astype(f"{end}u2").tobytes() + table + bytes(4))
        np.testing.assert_array_equal(read_picture(file, 1).pixels[0], want, err_msg=name)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_exif_orientation_is_applied(tmp_path, orientation, suffix):
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :8] = 255  # top left as stored
    exif = Image.Exif()
    exif[274] = orientation
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(file, exif=exif)
    # what the standard says of the stored first row and first column: (row at, column at)
    want = {1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"), 5: ("left", "top"),
            6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")}[orientation]  # fmt: skip
    pixels = read_picture(file, 1).pixels[0]
    assert pixels.shape == ((16, 32) if orientation < 5 else (32, 16))
    top = slice(0, 4) if "top" in want else slice(-4, None)
    left = slice(0, 4) if "left" in want else slice(-4, None)
    assert pixels[top, left].min() > 240
    assert pixels.mean() < 64


def test_a_palette_becomes_its_colours_and_one_of_greys_is_grey(tmp_path):
    indices = Image.fromarray(RNG.integers(0, 3, (6, 5), dtype=np.uint8), "P")
    indices.putpalette([10, 200, 30, 0, 0, 0, 255, 255, 255])
    indices.save(tmp_path / "p.png")
    colours = np.array([[10, 200, 30], [0, 0, 0], [255, 255, 255]], np.uint8)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "p.png", 3).pixels, colours[np.asarray(indices)].transpose(2, 0, 1)
    )
    indices.putpalette([7, 7, 7, 90, 90, 90, 200, 200, 200])
    indices.save(tmp_path / "g.png")
    picture = read_picture(tmp_path / "g.png", 1)
    np.testing.assert_array_equal(picture.pixels[0], np.array([7, 90, 200], np.uint8)[np.asarray(indices)])
    assert picture.notes == ()
    assert (picture_channels(tmp_path / "p.png"), picture_channels(tmp_path / "g.png")) == (3, 1)


def test_transparent_pixels_become_black_and_are_noted(tmp_path):
    alpha = np.full((11, 17), 255, np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "opaque.png").pixels, COLOUR.transpose(2, 0, 1))
    assert read_picture(tmp_path / "opaque.png").notes == ()
    alpha[2:5] = 0
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "holes.png")
    Image.fromarray(np.dstack([GREY, alpha]), "LA").save(tmp_path / "grey.png")
    picture = read_picture(tmp_path / "holes.png")
    assert "transparent" in picture.notes
    want = COLOUR.copy()
    want[2:5] = 0
    np.testing.assert_array_equal(picture.pixels, want.transpose(2, 0, 1))
    grey = read_picture(tmp_path / "grey.png", 1)
    np.testing.assert_array_equal(grey.pixels[0], np.where(alpha > 0, GREY, 0))
    assert grey.notes == ("transparent",)


def test_colour_becomes_grey_by_the_weights_that_are_told_and_equal_channels_are_exact(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    picture = read_picture(tmp_path / "c.png", 1)
    assert picture.notes == ("colour",)
    np.testing.assert_allclose(picture.pixels[0], COLOUR @ [0.299, 0.587, 0.114], atol=0.51)
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "g.png")
    picture = read_picture(tmp_path / "g.png", 1)
    np.testing.assert_array_equal(picture.pixels[0], GREY)
    assert picture.notes == ()


def test_floats_keep_their_values_and_those_not_finite_are_refused(tmp_path):
    values = RNG.normal(-500, 300, (6, 5)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "f.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "f.tif", 1).pixels[0], values)
    values[2, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(ImageError, match=r"expected finite pixels, got 1 of 30"):
        read_picture(tmp_path / "nan.tif", 1)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_one_value_everywhere_is_noted(tmp_path, value):
    Image.new("RGB", (9, 9), (value, 3, value)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").notes == ("flat",)


def test_16_bit_colour_of_which_pillow_reads_8_is_noted(tmp_path):
    deep = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(5, 4, 16, 2, [row.astype(">u2").tobytes() for row in deep]))
    picture = read_picture(tmp_path / "a.png")
    assert picture.notes == ("reduced",)
    np.testing.assert_array_equal(picture.pixels, (deep >> 8).astype(np.uint8).transpose(2, 0, 1))


def encoded(kind, **options):
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, kind, share):
    content = encoded(kind)
    (tmp_path / "a").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="expected") as caught:
        read_picture(tmp_path / "a")
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: expected")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000"])
def test_whatever_is_in_a_damaged_file_it_is_an_image_or_refused(tmp_path, kind):
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, kind)
    random = np.random.default_rng(1)
    for _ in range(120):
        content = bytearray(stream.getvalue())
        for place in random.integers(0, min(len(content), int(random.choice([60, 200, 10**6]))), 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "a").write_bytes(content)
        for look in (read_picture, picture_channels):
            with contextlib.suppress(ImageError):  # any other exception fails
                look(tmp_path / "a")


def frames(file, **options):
    pages = [Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(3)]
    pages[0].save(file, save_all=True, append_images=pages[1:], **options)


BAD = {
    "text.png": (b"hello, here is a note\n" * 5, "text"),
    "web.jpg": (b"<!DOCTYPE html><html><body>log in</body></html>", "web page"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "git lfs pull"),
    "annex.png": (b"/annex/objects/MD5E-s10--ab.png\n", "datalad get"),
    "empty.png": (b"", "empty file"),
    "noise.png": (bytes(RNG.integers(0, 256, 500, dtype=np.uint8)), "another kind"),
    "doc.pdf": (b"%PDF-1.7 " + b"\0" * 100, "PDF"),
    "a.zip": (b"PK\x03\x04" + b"\0" * 100, "zip"),
    "v.nii.gz": (b"\x1f\x8b\x08" + b"\0" * 100, "--dims 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_named_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name][0])
    for look in (read_picture, picture_channels):
        with pytest.raises(ImageError, match=BAD[name][1]) as caught:
            look(tmp_path / name)
        assert "; " in str(caught.value)


@pytest.mark.parametrize(("suffix", "word"), [("gif", "animation"), ("png", "animation"), ("webp", "animation"), ("tif", "pages")])  # fmt: skip
def test_several_frames_or_pages_are_refused(tmp_path, suffix, word):
    frames(tmp_path / f"a.{suffix}")
    with pytest.raises(ImageError, match=f"expected one image, got 3 .*{word}"):
        read_picture(tmp_path / f"a.{suffix}")


def test_the_preview_behind_a_phones_photograph_is_no_second_image(tmp_path):
    frames(tmp_path / "a.mpo", format="MPO")
    assert read_picture(tmp_path / "a.mpo").pixels.shape == (3, 8, 8)


def test_cmyk_a_folder_no_file_and_a_dangling_link_are_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "link.png").symlink_to(tmp_path / "away.png")
    for name, word in [("a.jpg", "CMYK"), ("", "folder"), ("b.jpg", "no such file"), ("link.png", "a link")]:
        with pytest.raises(ImageError, match=word):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("side", [15_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side, monkeypatch):
    monkeypatch.setattr("fusionconv.study.pictures.LARGEST", 10_000**2)
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 0, [b""]))
    with pytest.raises(ImageError, match=r"expected at most .* pixels"):
        read_picture(tmp_path / "a.png")


# ---- sizes ----


def test_stretching_is_torchvisions_resize_of_bytes():
    from torchvision.transforms.v2 import functional

    pixels = RNG.integers(0, 256, (3, 109, 89), dtype=np.uint8)
    theirs = functional.resize(torch.from_numpy(pixels), [64, 64], antialias=True).numpy()
    np.testing.assert_array_equal(resize_picture(pixels, (64, 64)), theirs)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (31, 17), (7, 9)])
@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_the_aspect(dtype, shape, mode):
    """A gradient down and one across: their slopes tell the scale of each axis."""
    down = np.broadcast_to(np.linspace(10, 200, shape[0])[:, None], shape)
    out = resize_picture(np.stack([down]).astype(dtype), (24, 16), mode)
    assert (out.shape, out.dtype) == ((1, 24, 16), dtype)
    ratio = {"stretch": 24 / shape[0], "pad": min(24 / shape[0], 16 / shape[1]), "crop": max(24 / shape[0], 16 / shape[1])}[mode]  # fmt: skip
    column = out[0, :, 8].astype(float)
    middle = column[10:14]
    slope = 190 / (shape[0] - 1) / ratio
    if shape[0] > 16:
        np.testing.assert_allclose(np.diff(middle).mean(), slope, rtol=0.25)
    if mode == "pad":
        inside = (round(shape[0] * ratio), round(shape[1] * ratio))
        out = out.astype(float)
        fill = 10 if dtype == np.float32 else 0
        assert np.count_nonzero(np.abs(out - fill) > 1e-3) <= inside[0] * inside[1]
        assert np.count_nonzero(np.abs(out - fill) > 1e-3) >= (inside[0] - 2) * inside[1]
    else:
        assert out.min() >= 10 - 1e-3


def test_resized_to_270_by_220_and_cut_to_218_by_178():
    pixels = RNG.integers(0, 256, (3, 218, 178), dtype=np.uint8)
    whole = resize_picture(pixels, (270, 220))
    np.testing.assert_array_equal(resize_picture(pixels, (270, 220), crop=(218, 178)), whole[:, 26:244, 21:199])


# ---- DICOM ----


def dicom(file, pixels, bits, photometric="MONOCHROME2", signed=0, **more):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Modality = "CR"
    data.Rows, data.Columns = pixels.shape[-3:-1] if photometric == "RGB" else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation, data.PixelRepresentation = photometric, signed
    data.BitsAllocated, data.BitsStored, data.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    data.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(data, name, value)
    data.save_as(file, enforce_file_format=True)
    return file


def test_dicom_by_what_its_header_says(tmp_path):
    raw = RNG.integers(0, 4096, (6, 8), dtype=np.uint16)
    raw[0, :2] = 0, 4095
    file = tmp_path / "no-suffix"
    plain = read_picture(dicom(file, raw, 12), 1).pixels
    assert plain.dtype == np.uint16
    assert (plain[0, 0, 0], plain[0, 0, 1]) == (0, 65535)
    np.testing.assert_allclose(plain[0] / 65535, raw / 4095, atol=1e-5)
    assert picture_channels(file) == 1
    negative = read_picture(dicom(file, raw, 12, "MONOCHROME1"), 1).pixels
    np.testing.assert_array_equal(negative, 65535 - plain.astype(int))
    rescaled = read_picture(dicom(file, raw, 12, RescaleSlope="2", RescaleIntercept="-1024"), 1).pixels
    np.testing.assert_array_equal(rescaled[0], (2.0 * raw - 1024).astype(np.float32))
    signed = (raw.astype(np.int16) - 2048).astype(np.int16)
    np.testing.assert_array_equal(read_picture(dicom(file, signed, 12, signed=1), 1).pixels[0], signed)
    eight = (raw // 16).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(dicom(file, eight, 8), 1).pixels[0], eight)
    colour = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_picture(dicom(file, colour, 8, "RGB"), 3).pixels, colour.transpose(2, 0, 1))
    assert picture_channels(file) == 3


def test_dicom_that_is_no_single_image_is_refused(tmp_path):
    raw = RNG.integers(0, 4096, (3, 6, 8), dtype=np.uint16)
    with pytest.raises(ImageError, match="expected one frame, got a DICOM file of 3 frames"):
        read_picture(dicom(tmp_path / "a.dcm", raw, 12, NumberOfFrames=3), 1)
    dicom(tmp_path / "a.dcm", raw[0], 12)
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-20])
    (tmp_path / "c.dcm").write_bytes(b"no DICOM at all")
    for name in ("b.dcm", "c.dcm"):
        with pytest.raises(ImageError, match="expected"):
            read_picture(tmp_path / name, 1)


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    dicom(tmp_path / "a.dcm", RNG.integers(0, 4096, (6, 8), dtype=np.uint16), 12)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match="pip install pydicom"):
        read_picture(tmp_path / "a.dcm", 1)
