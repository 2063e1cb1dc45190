import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fusionconv.errors import TableError
from fusionconv.tabular import CovariateEncoder
from fusionconv.tabular.kinds import Numeric
from recipes.celeba.images import NORMALISATION, FaceImages, decode, prepare, rows_by_file
from recipes.celeba.synthetic import draw_face, sample_face


def noise(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def face_images(folder, files):
    """A and B count up from row to row, so that no two rows are alike; targets 1, 0, 0, 1."""
    rows = pd.DataFrame({"A": np.arange(0, 8, 2), "B": np.arange(1, 9, 2)}, index=files)
    encoder = CovariateEncoder(["A", "B"], kinds={"A": Numeric("none"), "B": Numeric("none")}).fit(rows)
    return FaceImages(folder, rows_by_file(rows, encoder), pd.DataFrame({"target": [1, 0, 0, 1]}, index=files))


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
    rows = face_images(tmp_path, files)
    batch = rows.collate([rows[i] for i in range(4)])
    assert [file for file, _ in batch["failures"]] == files[1:]
    assert "truncated" in batch["failures"][0][1]
    assert batch["covariates"].tolist() == [[0, 1]]
    assert batch["targets"].tolist() == [1]
    assert batch["index"].tolist() == [0]
    nothing = rows.collate([rows[i] for i in (1, 2)])
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


def shifted(values):
    return [*values[1:], values[0]] if isinstance(values, list) else values.roll(1, 0)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("part", ["files", "covariates", "targets"])
def test_a_row_shifted_by_one_raises(tmp_path, part, workers):
    """Whatever of a row is moved against the rest of it: the batch says so, also from a worker."""
    files = ["a.png", "b.png", "c.png", "d.png"]
    for seed, file in enumerate(files):
        Image.fromarray(noise(8, 8, seed)).save(tmp_path / file)
    faces = face_images(tmp_path, files)
    (batch,) = DataLoader(faces, 4, collate_fn=faces.collate)
    assert batch["index"].tolist() == [0, 1, 2, 3]
    setattr(faces, part, shifted(getattr(faces, part)))
    with pytest.raises(TableError, match=r"each (id|file)'s own"):
        list(DataLoader(faces, 4, collate_fn=faces.collate, num_workers=workers))


def test_rows_meet_images_by_file_name(tmp_path):
    """The order of the tables does not matter; other files than the table's are refused."""
    files = ["a.png", "b.png", "c.png", "d.png"]
    faces = face_images(tmp_path, files)
    targets = pd.DataFrame({"target": [1, 0, 0, 1]}, index=files)
    again = FaceImages(tmp_path, faces.table, targets.iloc[[2, 0, 3, 1]])
    assert torch.equal(again.targets, faces.targets)
    with pytest.raises(TableError, match="targets of the table's 4 files"):
        FaceImages(tmp_path, faces.table, targets.iloc[:3])
