"""Masks and target images: on the grid of their images, transformed and cut alike, and back on the file's own pixels."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionconv.errors import FusionError
from fusionconv.study import Study
from fusionconv.study.augment_pairs import pair_augmentation
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.masks import read_mask
from fusionconv.study.own_space import write_answer
from fusionconv.study.patches import random_part
from fusionconv.study.pictures import read_picture
from fusionconv.study.tasks import make_task
from tests.study.pictures_out import ball_volumes, disc_pictures
from tests.study.test_maps_on_files import turned

NETWORK = "tests.study.tiny:image_network"


def study(folder, **more):
    given = {
        "table": str(folder / "t.csv"), "images": str(folder / "images"), "target_folder": str(folder / "masks"),
        "image_column": "file", "subject": "patient", "target": "mask", "task": "segmentation", "network": NETWORK,
        "image_size": [20, 24], "channels": 1, "cache": str(folder / "cache"), "folds": 2,
    }  # fmt: skip
    return Study(**given | more)


def volumes_study(folder, **more):
    given = {"images": str(folder), "target_folder": str(folder), "image_column": "scan", "subject": None, "dims": 3,
             "image_size": [18, 16, 14], "channels": None}  # fmt: skip
    return study(folder, **given | more)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("discs") / "set"
    return folder, disc_pictures(folder)


@pytest.mark.parametrize(
    "options", [{}, {"image_size": [40, 31]}, {"resize": "pad", "image_size": [32, 32]},
                {"resize": "crop", "image_size": [16, 16]}, {"image_size": [30, 30], "crop": [24, 26]}]
)  # fmt: skip
def test_a_mask_lies_on_its_picture(pictures, options):
    folder, _ = pictures
    opened = study(folder, **options)
    ids = opened.rows.frame["id"].tolist()
    masks, images = opened.target_store.read(ids), opened.store.read(ids)
    assert set(np.unique(masks)) == {0, 1}
    for mask, image in zip(masks[:, 0].bool(), images[:, 0], strict=True):
        inside, outside = image[mask], image[~mask & (image > 0)]
        apart = abs(float(inside.mean() - outside.mean()))
        moved = torch.roll(mask, 2, 1)  # a shift of two pixels would be seen
        assert apart > abs(float(image[moved].mean() - image[~moved & (image > 0)].mean())) + 0.01
        assert apart > 0.18  # 60 of 255 would be 0.235 without the noise and the borders


@pytest.mark.parametrize(
    ("axes", "signs", "degrees", "options"),
    [((0, 1, 2), (1, 1, 1), 0, {}), ((2, 0, 1), (-1, 1, -1), 10, {"spacing": [1.5, 1.5, 1.5], "image_size": [24, 24, 24]}),
     ((1, 2, 0), (-1, -1, 1), 0, {"foreground": True, "orientation": "LPS", "image_size": [16, 16, 16]})],
)  # fmt: skip
def test_a_mask_lies_on_its_volume_and_comes_back_to_the_file(tmp_path, axes, signs, degrees, options):
    affine = turned(axes, signs, (2.0, 1.5, 1.8), degrees)
    ball_volumes(tmp_path / "v", 3, affine=affine)
    opened = volumes_study(tmp_path / "v", **options)
    ids = opened.rows.frame["id"].tolist()
    masks, images = opened.target_store.read(ids), opened.store.read(ids)
    assert opened.rows.task.labels == {"0": 0, "1": 1, "2": 2}
    means = [float(images[masks == label].mean()) for label in (0, 1, 2)]
    assert means[0] + 0.2 < means[1] < means[2] - 0.1
    expected = options.get("spacing") or sorted([2.0, 1.5, 1.8])
    assert sorted(opened.target_store.sides(ids)[0]) == pytest.approx(expected, rel=1e-4)
    chances = torch.nn.functional.one_hot(masks[0, 0].long(), 3).movedim(-1, 0).float()
    (path,) = write_answer(
        chances, opened.rows.task, ids[0], opened.store.sources[ids[0]], opened.store.options, tmp_path / "o"
    )
    mine, theirs = nib.load(path), nib.load(tmp_path / "v/v0_mask.nii.gz")
    np.testing.assert_allclose(mine.affine, theirs.affine, atol=1e-4)
    a, b = np.asarray(mine.dataobj) > 0, np.asarray(theirs.dataobj) > 0
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert dice == 1 if "spacing" not in options else dice > 0.85
    assert set(np.unique(mine.dataobj)) <= {0, 1, 2}


@pytest.mark.parametrize("options", [{}, {"resize": "pad", "image_size": [28, 28]}, {"image_size": [40, 48]},
                                     {"image_size": [20, 24], "crop": [20, 20]}])  # fmt: skip
def test_an_answer_comes_back_to_the_picture_s_pixels_and_values(pictures, tmp_path, options):
    folder, _ = pictures
    opened = study(folder, **options)
    name = opened.rows.frame["id"].iloc[3]
    mask = opened.target_store.read([name])[0]
    chances = torch.nn.functional.one_hot(mask[0].long(), 2).movedim(-1, 0).float()
    (path,) = write_answer(chances, opened.rows.task, name, opened.store.sources[name], opened.store.options, tmp_path)
    mine, theirs = (np.asarray(Image.open(p)) for p in (path, folder / "masks" / name))
    assert mine.shape == theirs.shape
    assert set(np.unique(mine)) == {0, 255}
    assert (mine != theirs).mean() < 0.03


def test_a_restored_picture_has_the_bits_of_its_file(tmp_path):
    task = make_task({"task": "restoration", "columns": ["clean"]})
    options = ImageOptions(size=(6, 8), channels=1)
    values = torch.linspace(-0.2, 1.2, 48).reshape(1, 6, 8)
    for kind, most in (("uint8", 255), ("uint16", 65535)):
        file = tmp_path / f"{kind}.png"
        Image.fromarray(np.arange(48).reshape(6, 8).astype(kind)).save(file)
        (path,) = write_answer(values, task, f"{kind}.png", [str(file)], options, tmp_path / "o")
        expected = np.rint(values[0].clip(0, 1).numpy() * most)
        np.testing.assert_array_equal(read_picture(path, 1).pixels[0], expected)
    Image.fromarray(np.zeros((6, 8), np.float32)).save(tmp_path / "f.tif")
    (path,) = write_answer(values, task, "f.tif", [str(tmp_path / "f.tif")], options, tmp_path / "o")
    np.testing.assert_allclose(read_picture(path, 1).pixels[0], values[0])


# ---- transforms and parts, the same for both ----


@pytest.mark.parametrize(
    "names", ["light", "strong", ["crop", "hflip", "vflip"], ["rotate"], ["shift", "noise", "contrast"]]
)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("labels", [True, False])
def test_image_and_target_move_alike(names, dims, labels):
    if not labels and (set(names) & {"noise"} or names in ("strong", "light" if dims == 3 else "")):
        pytest.skip("refused: test_value_transforms_are_refused_for_restoration")
    size = (24, 28, 20)[:dims]
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    target = torch.as_tensor((np.linalg.norm(grid - np.array([9, 16, 8][:dims]), axis=-1) < 5.5).astype(np.float32))[
        None
    ]
    change = pair_augmentation(names, ImageOptions(dims=dims, size=size, channels=1), labels)
    torch.manual_seed(0)
    seen = set()
    for _ in range(12):
        image, mask = change(0.2 + 0.6 * target, target)
        if labels:
            assert set(np.unique(mask)) <= {0, 1}
        values = ((image - 0.2) / 0.6 > 0.5).float()
        overlap = 2 * float((values * (mask > 0.5)).sum()) / float(values.sum() + (mask > 0.5).sum())
        assert overlap > 0.9  # apart by two pixels it would be 0.8
        seen.add(tuple((mask > 0.5).nonzero().float().mean(0).round(decimals=2).tolist()))
    assert len(seen) > 3  # it does move


def test_value_transforms_are_refused_for_restoration():
    with pytest.raises(FusionError, match=r"move pixels for task restoration.*got contrast, noise"):
        pair_augmentation("strong", ImageOptions(size=(8, 8), channels=1), False)


def test_a_part_is_one_part_of_both_and_masks_are_in_half_of_the_parts():
    image = torch.arange(30 * 40, dtype=torch.float32).reshape(1, 30, 40)
    mask = torch.zeros(1, 30, 40)
    mask[0, 27, 36] = 1  # one pixel, near the corner
    torch.manual_seed(0)
    hits = 0
    for _ in range(300):
        part, target = random_part(image, mask, (8, 10), True)
        assert part.shape == target.shape == (1, 8, 10)
        top, left = divmod(int(part[0, 0, 0]), 40)
        torch.testing.assert_close(target, mask[:, top : top + 8, left : left + 10])
        hits += int(target.any())
    assert 0.45 < hits / 300 < 0.62  # of a uniform draw alone it would be about 0.03
    corners = {int(random_part(image, mask, (8, 10), False)[0][0, 0, 0]) for _ in range(400)}
    assert len(corners) > 250
    assert divmod(max(corners), 40)[0] <= 22


# ---- bad input ----


def picture_set(tmp_path):
    folder = tmp_path / "set"
    return folder, disc_pictures(folder, 6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a[:, :-2], r"expected a mask of 20 x 24 pixels .*, as its image .*p01.png has, got 20 x 22"),
        (
            lambda a: np.where(a > 0, 128, a),
            "expected masks with the values 0, 1, 2, ... or 0 and one other, got 0 .*128",
        ),
        (lambda a: np.stack([a, 255 - a, a], -1), "expected one number for each pixel of a mask, got colours"),
        (lambda a: np.stack([a, a, a], -1), None),
        (lambda a: a > 0, "expected masks with the values .*, got 0 .*1 .*255"),
    ],
)
def test_masks_of_pictures_that_do_not_fit(tmp_path, change, match):
    folder, _ = picture_set(tmp_path)
    path = folder / "masks/p01.png"
    Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    if match is None:
        assert study(folder).rows.task.labels == {"0": 0, "255": 255}
        return
    with pytest.raises(FusionError, match=match):
        _ = study(folder).rows
    if "values" not in match:
        rows = study(folder, on_error="skip").rows
        assert len(rows.frame) == 5
        assert ("target cannot be used", -1) in [line[:2] for line in rows.flow.lines]


def test_a_value_that_no_class_has(tmp_path):
    folder, _ = picture_set(tmp_path)
    pixels = np.array(Image.open(folder / "masks/p02.png"))
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(folder / "masks/p02.png")
    with pytest.raises(
        FusionError, match=r"classes' values rest=0, head=255 in the masks, got 7 \(in 1 masks\), such as 7 in p02"
    ):
        _ = study(folder, classes={"rest": 0, "head": 255}).rows
    assert study(folder, classes={"rest": 0, "speck": 7, "head": 255}).rows.task.num_outputs == 3
    for wrong in ({"a": 0, "b": 0}, {"a": 0, "b": -1}, {"a": 0, "b": 0.5}, {"only": 1}):
        with pytest.raises(FusionError, match="classes: expected"):
            _ = study(folder, classes=wrong).rows


@pytest.mark.parametrize(
    ("values", "affine", "match"),
    [
        (
            lambda m: m[:-1],
            None,
            "expected the grid of .*v1.nii.gz.*mask or target image needs the shape and the affine",
        ),
        (lambda m: m, np.diag([2.0, 1.5, 2.0, 1.0]) + np.eye(4, k=3) * 40, "expected the grid of .*mm apart"),
        (lambda m: m + 0.5 * (m > 1), None, "expected whole numbers in a mask, got 2.5.*linear"),
        (lambda m: m - 1.0, None, "expected labels from 0 to 65535, got -1 to 1"),
    ],
)
def test_masks_of_volumes_that_do_not_fit(tmp_path, values, affine, match):
    ball_volumes(tmp_path, 3)
    old = nib.load(tmp_path / "v1_mask.nii.gz")
    made = values(np.asarray(old.dataobj).astype(np.float32))
    nib.save(nib.Nifti1Image(made, old.affine if affine is None else affine), tmp_path / "v1_mask.nii.gz")
    with pytest.raises(FusionError, match=match):
        _ = volumes_study(tmp_path).rows


def test_other_bad_input(tmp_path, pictures):
    folder, frame = picture_set(tmp_path)
    lines = frame.assign(mask=[None, "none.png", *frame["mask"][2:]])
    lines.to_csv(folder / "t.csv", index=False)
    flow = study(folder).rows.flow.lines
    assert ("target missing", -1) in [line[:2] for line in flow]
    assert ("target image not there", -1) in [line[:2] for line in flow]
    with pytest.raises(FusionError, match="patch: expected sides of at most"):
        study(folder, patch=[32, 16])
    whole = pictures[0]
    for arms, more, match in (
        (["image", "covariates"], {"covariates": ["age"]}, "arm covariates: expected one with a network"),
        (["image"], {"head": "mlp"}, "head: expected linear"),
        (["image"], {"task": "regression", "target": "age", "patch": [8]}, "patch: expected task segmentation or"),
        (["image"], {"network": "monai:UNet", "image_size": [18, 24], "network_options": {"channels": [4, 8, 16, 32],
                     "strides": [2, 2, 2]}}, "multiples of 8; give --image-size 24 24"),
        (["image"], {"network": "torchvision:resnet18", "image_size": 32}, "it is no network of images out"),
        (["image"], {"pixel_size": "age", "task": "restoration"}, "pixel_size: expected a segmentation"),
    ):  # fmt: skip
        with pytest.raises(FusionError, match=match):
            study(whole, **more).begin(arms, out=tmp_path / f"out{len(match)}")


def test_palettes_and_orientation_of_masks(tmp_path):
    labels = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 9, 9, 9])
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "p.png")), labels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(labels).save(tmp_path / "t.png", exif=exif)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "t.png")), np.rot90(labels, -1))


def test_sequences_that_differ_in_shape_are_refused(tmp_path):
    folder, frame = picture_set(tmp_path)
    for name in frame["file"]:
        Image.fromarray(np.zeros((20, 24 + (name == "p03.png")), np.uint8)).save(folder / f"images/b{name}")
    frame.assign(other="b" + frame["file"]).to_csv(folder / "t.csv", index=False)
    more = {"image_column": ["file", "other"]}
    with pytest.raises(FusionError, match=r"expected 20 x 24 pixels .* got 20 x 25 in bp03.png; several image columns"):
        _ = study(folder, **more).rows
    plain = study(folder, **more, task="regression", target="age", on_error="skip")
    assert len(plain.store.failed) == 1
    empty = pd.read_csv(folder / "t.csv").assign(file=[None, *frame["file"][1:]], other=None)
    empty.to_csv(folder / "t.csv", index=False)
    rows = study(folder, **more).rows
    assert len(rows.frame) == 5  # a row without any image is left out and counted
    assert ("image not there", -1) in [line[:2] for line in rows.flow.lines]
