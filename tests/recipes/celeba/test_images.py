import numpy as np
import pytest
import torch
from PIL import Image

from recipes.celeba.images import NORMALISATION, FaceImages, collate, decode, prepare
from recipes.celeba.synthetic import draw_face, sample_face


def noise(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_decode_gives_three_channels_of_any_kind_of_image(tmp_path):
    pixels = noise(5, 7)
    Image.fromarray(pixels).save(tmp_path / "rgb.png")
    assert torch.equal(decode(tmp_path / "rgb.png"), torch.from_numpy(pixels).permute(2, 0, 1))
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.fromarray(pixels).convert(mode).save(path)
        assert decode(path).shape == (3, 5, 7)
        assert decode(path).dtype == torch.uint8


def test_a_file_that_does_not_decode_comes_out_with_its_reason(tmp_path):
    Image.fromarray(noise(40, 40)).save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:800])
    (tmp_path / "page.jpg").write_text("<html>quota exceeded</html>")
    files = ["good.jpg", "cut.jpg", "page.jpg", "absent.jpg"]
    rows = FaceImages(tmp_path, files, np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1, 0, 0, 1]))
    batch = collate([rows[i] for i in range(4)])
    assert [file for file, _ in batch["failures"]] == files[1:]
    assert "truncated" in batch["failures"][0][1]
    assert batch["covariates"].tolist() == [[0, 1]]
    assert batch["targets"].tolist() == [1]
    assert batch["index"].tolist() == [0]
    nothing = collate([rows[i] for i in (1, 2)])
    assert nothing["covariates"].shape == (0, 2)
    assert prepare(nothing["images"], 32, "corrected").shape == (0, 3, 32, 32)


def test_prepare_resizes_as_pil_and_normalises_by_the_formula():
    pixels = noise(44, 36)
    for size in (32, 64):
        resized = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
        for mode, (mean, std) in NORMALISATION.items():
            expected = (resized / 255 - np.array(mean)) / np.array(std)
            got = prepare(torch.from_numpy(pixels).permute(2, 0, 1)[None], size, mode)[0].permute(1, 2, 0).numpy()
            assert np.abs(got - expected).max() < 2 / 255 / min(std)  # a rounding of the 8-bit resize apart
    assert NORMALISATION["as_published"] == ((0.5,) * 3, (0.5,) * 3)


def test_images_of_several_sizes_make_one_batch():
    images = [torch.from_numpy(noise(20 + i, 30)).permute(2, 0, 1) for i in range(3)]
    together = prepare(images, 32, "corrected")
    assert together.shape == (3, 3, 32, 32)
    for image, prepared in zip(images, together, strict=True):
        assert torch.equal(prepare(image[None], 32, "corrected")[0], prepared)


def test_files_with_the_wrong_ending_and_cut_files(tmp_path):
    face = draw_face(sample_face(1, 0))
    face.save(tmp_path / "png.jpg", format="PNG")
    assert np.array_equal(decode(tmp_path / "png.jpg").permute(1, 2, 0), np.asarray(face))
    face.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for share in (0.3, 0.7, 0.95):
        (tmp_path / "cut.jpg").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(OSError, match="truncated"):
            decode(tmp_path / "cut.jpg")
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent.jpg")
