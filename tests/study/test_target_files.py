"""Masks and target images against their files: what padding, cutting and resizing do to them is scored right or told."""

import json
import struct
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage

from fusionconv.errors import FusionError, ImageWarning
from fusionconv.study.augment_pairs import pair_augmentation
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.masks import read_mask
from fusionconv.study.own_space import write_answer
from fusionconv.study.pictures import read_picture, real_pixels, resize_picture
from fusionconv.study.predict import predict_table
from fusionconv.study.preparation import prepare_target_volumes
from tests.study.pictures_out import ball_volumes, disc_pictures
from tests.study.test_target_images import study, volumes_study

QUICK = {"folds": 1, "test_size": 0.4, "epochs": 1, "controls": 0, "resamples": 100, "batch_size": 4}


@pytest.fixture
def folder(tmp_path):
    disc_pictures(tmp_path / "set", 8)
    return tmp_path / "set"


def rewrite(folder, change, pattern="masks/*.png"):
    """Change pictures, or volumes of labels, in place."""
    for path in sorted(folder.glob(pattern)):
        if path.suffix == ".gz":
            old = nib.load(path)
            nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj)), old.affine), path)
        else:
            Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def said_by(work):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made = work()
    return made, [str(one.message) for one in found if issubclass(one.category, ImageWarning)]


# ---- masks: padding, values of the file, what the grid loses ----


@pytest.mark.parametrize(("rest", "disc"), [(0, 255), (255, 0), (1, 2), (65535, 7)])
def test_padding_is_background_whatever_its_value(folder, rest, disc):
    rewrite(folder, lambda a: np.where(a > 0, disc, rest).astype(np.uint16))
    opened = study(folder, classes={"rest": rest, "disc": disc}, resize="pad", image_size=[20, 32])
    ids = opened.rows.frame["id"].tolist()
    found = opened.target_store.read(ids)[:, 0].numpy()
    for name, mask in zip(ids, found, strict=True):
        own = np.asarray(Image.open(folder / "masks" / name)) == disc
        np.testing.assert_array_equal(mask, np.pad(own, ((0, 0), (4, 4))))


@pytest.mark.parametrize(("rest", "ball"), [(1, 0), (3, 1)])
@pytest.mark.parametrize("options", [{"image_size": [26, 24, 22]}, {"image_size": [32] * 3, "spacing": [1.5] * 3}])
def test_padding_of_volumes_is_background(tmp_path, rest, ball, options):
    ball_volumes(tmp_path, 3)
    rewrite(tmp_path, lambda a: np.where(a > 0, ball, rest).astype(np.uint8), "*_mask.nii.gz")
    opened = volumes_study(tmp_path, classes={"rest": rest, "ball": ball}, **options)
    for n, mask in enumerate(opened.target_store.read([f"v{n}.nii.gz" for n in range(3)])):
        own = (np.asarray(nib.load(tmp_path / f"v{n}_mask.nii.gz").dataobj) == ball).sum() * 6
        voxel = 1.5**3 if "spacing" in options else 6
        assert float(mask.sum()) * voxel == pytest.approx(own, rel=0.05 if "spacing" in options else 1e-6)
        assert not mask[0, [0, -1]].any()


@pytest.mark.parametrize(
    "options", [{"image_size": [10, 12]}, {"resize": "crop", "image_size": [20, 20]}, {"crop": [16, 16]}]
)
def test_a_value_that_no_class_has_stops_a_study_also_where_the_grid_skips_it(folder, options):
    path = folder / "masks/p03.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(path)
    with pytest.raises(FusionError, match=r"got 7 \(in 1 masks\), such as 7 in p03.png"):
        _ = study(folder, classes={"rest": 0, "disc": 255}, **options).rows


@pytest.mark.parametrize(
    ("options", "place", "size"),
    [
        ({"image_size": [10, 12]}, (4, 5), 1),  # between two pixels of the grid
        ({"resize": "crop", "image_size": [20, 20]}, (3, 0), 2),
        ({"crop": [16, 16]}, (0, 3), 2),
    ],
)
def test_lost_lesions_of_pictures_are_named(folder, tmp_path, options, place, size):
    classes = {"rest": 0, "disc": 255}
    _, quiet = said_by(lambda: study(folder, classes=classes).rows)
    assert quiet == []
    mask = np.zeros((20, 24), np.uint8)
    mask[place[0] : place[0] + size, place[1] : place[1] + size] = 255
    Image.fromarray(mask).save(folder / "masks/p02.png")
    opened = study(folder, classes=classes, **options, **{k: v for k, v in QUICK.items() if k != "epochs"})
    _, said = said_by(lambda: opened.rows)
    assert not opened.target_store.read(["p02.png"]).any()
    assert any("loses more than 10% of its area" in one and "p02.png: disc keeps 0%" in one for one in said)
    opened.begin(["image"], out=tmp_path / "out")
    assert set(said) <= set(json.loads((tmp_path / "out/notes.json").read_text())["warnings"])


@pytest.mark.parametrize("overlapping", [False, True])
def test_lost_parts_are_those_outside_of_the_cut(tmp_path, overlapping):
    frame = ball_volumes(tmp_path, 6)
    frame.assign(core=frame["mask"]).to_csv(tmp_path / "t.csv", index=False)
    if overlapping:
        rewrite(tmp_path, lambda a: np.uint8(a > 0), "*_mask.nii.gz")
    more = {"target": ["mask", "core"]} if overlapping else {"classes": {"rest": 0, "ball": 1, "core": 2}}
    opened = volumes_study(tmp_path, image_size=[8, 8, 8], **more)
    _, said = said_by(lambda: opened.rows)
    lost = {}
    for n in range(6):
        labels = np.asarray(nib.load(tmp_path / f"v{n}_mask.nii.gz").dataobj)
        labels = labels[::-1] if nib.aff2axcodes(nib.load(tmp_path / f"v{n}_mask.nii.gz").affine)[0] == "L" else labels
        inside = labels[5:13, 4:12, 3:11]
        kept = [(inside == v).sum() / (labels == v).sum() for v in ([1] if overlapping else [1, 2])]
        if min(kept) < 0.9:
            lost[f"v{n}.nii.gz"] = min(kept)
    (line,) = [one for one in said if "loses more than" in one]
    assert line.startswith(f"{len(lost)} of 6 masks")
    worst = min(lost, key=lost.__getitem__)
    assert f"{worst}: " in line
    assert f"keeps {lost[worst]:.0%}" in line


def test_volumes_without_a_lesion_are_used(tmp_path):
    frame = ball_volumes(tmp_path, 4)
    frame.assign(core=frame["mask"]).to_csv(tmp_path / "t.csv", index=False)
    rewrite(tmp_path, lambda a: a * np.uint8(0), "v1_mask.nii.gz")
    for more in ({}, {"target": ["mask", "core"]}):
        if more:
            rewrite(tmp_path, lambda a: np.uint8(a > 0), "*_mask.nii.gz")
        opened = volumes_study(tmp_path, **more)
        assert len(opened.rows.frame) == 4
        assert not opened.target_store.read(["v1.nii.gz"]).any()
    rewrite(tmp_path, lambda a: np.where(a > 0, np.nan, 0).astype(np.float32), "v2_mask.nii.gz")
    with pytest.raises(FusionError, match="expected finite voxels"):
        _ = volumes_study(tmp_path).rows
    rewrite(tmp_path, lambda a: np.zeros_like(a), "v2*.nii.gz")
    with pytest.raises(FusionError, match="expected an image, got 0 in every voxel"):
        _ = volumes_study(tmp_path).store


def test_classes_that_training_lacks_are_named(folder, tmp_path):
    rewrite(folder, lambda a: np.uint8(a > 0))
    for n in (0, 1):
        pixels = np.asarray(Image.open(folder / f"masks/p0{n}.png")).copy()
        pixels[:4, :4] = 2
        Image.fromarray(pixels).save(folder / f"masks/p0{n}.png")
    frame = pd.read_csv(folder / "t.csv").assign(split=["test"] * 4 + ["val"] * 2 + ["train"] * 2)
    frame.to_csv(folder / "t.csv", index=False)
    more = {k: v for k, v in QUICK.items() if k not in ("folds", "test_size")} | {"split_column": "split"}
    study(folder, classes={"rest": 0, "disc": 1, "speck": 2, "z": 7}, **more).begin(["image"], out=tmp_path / "o")
    said = json.loads((tmp_path / "o/notes.json").read_text())["warnings"]
    assert [one.split(":")[0] for one in said if one.startswith("class ")] == ["class speck", "class z"]
    assert any("class speck: no training mask has it in fold split" in one for one in said)
    assert any("class z: no mask has it" in one for one in said)
    frame.assign(other=frame["mask"]).to_csv(folder / "t.csv", index=False)
    rewrite(folder, lambda a: a * np.uint8(0), "masks/p0[4-7].png")
    rewrite(folder, lambda a: np.uint8(a > 0), "masks/p0[0-3].png")
    study(folder, target=["mask", "other"], **more).begin(["image"], out=tmp_path / "o2")
    said = json.loads((tmp_path / "o2/notes.json").read_text())["warnings"]
    assert len([one for one in said if "no training mask has it" in one]) == 2


def tiff(path, pixels, photometric):
    """A plain TIFF, byte for byte; photometric 0: white is zero."""
    kind = pixels.dtype
    data, (height, width) = pixels.tobytes(), pixels.shape
    tags = [(256, width), (257, height), (258, 8 * kind.itemsize), (259, 1), (262, photometric), (273, 8), (277, 1),
            (278, height), (279, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    )


def test_a_tiff_s_numbers_are_the_classes_and_its_colours_the_picture(tmp_path):
    labels = np.array([[0, 1, 2], [200, 255, 1]])
    for kind, most in ((np.uint8, 255), (np.uint16, 65535)):
        for photometric in (1, 0):
            tiff(tmp_path / "m.tif", labels.astype(kind), photometric)
            np.testing.assert_array_equal(read_mask(str(tmp_path / "m.tif")), labels)
            shown = labels if photometric else most - labels
            np.testing.assert_array_equal(read_picture(tmp_path / "m.tif", 1).pixels[0], shown)
    Image.fromarray(labels > 1).save(tmp_path / "b.tif")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "b.tif")), labels > 1)
    Image.fromarray(labels > 1).save(tmp_path / "b.tif", tiffinfo={262: 0})
    with pytest.raises(FusionError, match="one bit in which white is zero"):
        read_mask(str(tmp_path / "b.tif"))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("names", [["crop"], ["rotate"], ["shift"], ["hflip"], ["vflip"], ["light"], ["strong"]])
def test_masks_move_as_far_as_images(names, dims):
    """The middle of a ball in both; by NEAREST the masks of a crop lay 0.43 pixels beside."""
    size = (32,) * dims
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    ball = torch.as_tensor((np.linalg.norm(grid - 15.5, axis=-1) < 7).astype(np.float32))[None]
    change = pair_augmentation(names, ImageOptions(dims=dims, size=size, channels=1), True)
    torch.manual_seed(0)
    apart = []
    for _ in range(100 if dims == 2 else 20):
        image, mask = change(ball, ball)
        border = mask[0].sum() - mask[0][(slice(1, -1),) * dims].sum()
        if mask.sum() > 50 and not border:
            seen = image[0].numpy() > 0.5
            if ndimage.label(seen)[1] == 1:
                middle = ndimage.center_of_mass(seen)
                apart.append(np.array(ndimage.center_of_mass(mask[0].numpy())) - middle)
    assert len(apart) > 5
    assert np.abs(np.mean(apart, 0)).max() < 0.06


# ---- restored images: scores without padding, kinds, sizes ----


@pytest.mark.parametrize(
    ("own", "size", "resize", "crop"),
    [((12, 32), (32, 32), "pad", None), ((12, 32), (32, 32), "pad", (20, 24)), ((13, 31), (24, 20), "pad", (9, 20)),
     ((13, 31), (24, 20), "crop", None), ((13, 31), (24, 20), "stretch", (10, 10)), ((31, 13), (24, 21), "pad", None)],
)  # fmt: skip
def test_real_pixels_are_those_that_are_not_padding(own, size, resize, crop):
    there = resize_picture(np.full((1, *own), 200, np.uint8), size, resize, crop)[0] > 0
    expected = np.zeros_like(there)
    (top, bottom), (left, right) = real_pixels(own, size, resize, crop)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(there, expected)


def noisy(folder, count=10, size=(12, 32), scale=1.0, kind=np.uint8, times=1):
    """Discs with noise, and without (``times`` as large) as targets."""
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    y, x = np.mgrid[: size[0] * times, : size[1] * times] / times
    lines = []
    for n in range(count):
        clean = (60 + 120.0 * ((y - 6) ** 2 + (x - 8 - n) ** 2 < 20)) * scale
        image = clean[::times, ::times] / scale + draw.normal(0, 20, size)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"images/p{n}.png")
        ending = "tif" if kind == np.float32 else "png"
        Image.fromarray(clean.astype(kind)).save(folder / f"masks/p{n}.{ending}")
        split = "test" if n < 4 else "val" if n < 6 else "train"
        lines.append({"file": f"p{n}.png", "mask": f"p{n}.{ending}", "patient": f"s{n}", "split": split})
    pd.DataFrame(lines).to_csv(folder / "t.csv", index=False)
    return folder


RESTORE = {
    "task": "restoration", "split_column": "split", "folds": 5, "epochs": 8, "lr": 0.02, "controls": 0,
    "resamples": 100, "batch_size": 4, "keep_images": True,
}  # fmt: skip


def scores_of(out):
    rows = pd.read_csv(out / "predictions.csv", dtype={"control": str})
    return rows[rows["control"] == "true"].set_index("id")


def test_padding_is_not_scored_and_the_summary_is_of_the_file(tmp_path):
    folder = noisy(tmp_path / "set")
    opened = study(folder, image_size=[32, 32], resize="pad", **RESTORE | {"epochs": 40})
    opened.compare(["image"], out=tmp_path / "o", progress=False, report=False)
    scores = scores_of(tmp_path / "o")
    predict_table(str(tmp_path / "o"), "image", str(folder / "t.csv"), str(folder / "images"), str(tmp_path / "a.csv"))
    answers = pd.read_csv(tmp_path / "a.csv").set_index("id")
    for name in scores.index:
        said = np.asarray(Image.open(tmp_path / f"o/runs/image/split/images/{name}")) / 255
        error = said - np.asarray(Image.open(folder / "masks" / name)) / 255
        assert scores.loc[name, "psnr"] == pytest.approx(-10 * np.log10((error**2).mean()), abs=0.05)
        assert scores.loc[name, "mae"] == pytest.approx(np.abs(error).mean(), abs=0.002)
        again = np.asarray(Image.open(tmp_path / answers.loc[name, "file"]))
        np.testing.assert_allclose(again, 255 * said)
        assert answers.loc[name, "mean"] == pytest.approx(again.mean() / 255, abs=1e-6)


@pytest.mark.parametrize("percentiles", [[0.5, 99.5], []])
def test_padding_and_cutting_of_volumes_change_no_scale_and_no_score(tmp_path, percentiles):
    frame = ball_volumes(tmp_path, 8, affine=np.diag([2, 1.5, 2, 1.0]))
    frame["mask"] = frame["scan"].str.replace("v", "c")
    frame["split"] = ["test"] * 3 + ["val"] + ["train"] * 4
    for n in range(8):
        old = nib.load(tmp_path / f"v{n}.nii.gz")
        clean = 100 * np.asarray(nib.load(tmp_path / f"v{n}_mask.nii.gz").dataobj, np.float32) - 50
        nib.save(nib.Nifti1Image(clean, old.affine), tmp_path / f"c{n}.nii.gz")
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {"subject": None, "percentiles": percentiles, "normalize": "train", **RESTORE}
    opened = volumes_study(tmp_path, image_size=[24, 16, 20], **given)
    opened.compare(["image"], out=tmp_path / "o", progress=False, report=False)
    scores, spread = scores_of(tmp_path / "o"), opened.rows.task.data_range
    assert spread == (1 if percentiles else 200)
    for n in range(3):
        clean = np.asarray(nib.load(tmp_path / f"c{n}.nii.gz").dataobj)
        if percentiles:
            low, high = np.percentile(clean, percentiles)
            clean = ((clean - low) / (high - low)).clip(0, 1)
        said = np.asarray(nib.load(tmp_path / f"o/runs/image/split/images/v{n}.nii.gz").dataobj)
        psnr = 10 * np.log10(spread**2 / ((said - clean) ** 2).mean())
        assert scores.loc[f"v{n}.nii.gz", "psnr"] == pytest.approx(psnr, abs=0.01)
    options = {"dims": 3, "channels": 1, "percentiles": percentiles or None}
    scan, target = str(tmp_path / "v0.nii.gz"), str(tmp_path / "c0.nii.gz")
    whole, cut = (prepare_target_volumes([scan], [target], ImageOptions(size=size, **options), False)
                  for size in ((18, 16, 14), (10, 8, 10)))  # fmt: skip
    np.testing.assert_array_equal(cut.array[0], whole.array[0, 4:14, 4:12, 2:12])
    assert cut.box == [(0, 10), (0, 8), (0, 10)]


@pytest.mark.parametrize(
    ("kind", "scale", "times"), [(np.uint8, 1, 2), (np.uint16, 257, 1), (np.float32, 10, 1), (np.float32, 10, 3)]
)
def test_restored_pictures_are_of_the_targets_kind_and_size(tmp_path, kind, scale, times):
    folder = noisy(tmp_path / "set", scale=scale, kind=kind, times=times)
    size = [12 * times, 32 * times]
    opened = study(folder, image_size=size, **RESTORE | {"epochs": 30})
    opened.compare(["image"], out=tmp_path / "o", progress=False, report=False)
    scores = scores_of(tmp_path / "o")
    predict_table(str(tmp_path / "o"), "image", str(folder / "t.csv"), str(folder / "images"), str(tmp_path / "a.csv"))
    answers = pd.read_csv(tmp_path / "a.csv").set_index("id")
    for name in scores.index:
        said = read_picture(tmp_path / answers.loc[name, "file"], 1).pixels[0]
        true = read_picture((folder / "masks" / name).with_suffix(".tif" if kind == np.float32 else ".png"), 1)
        assert said.dtype == kind
        assert said.shape == true.pixels.shape[1:]
        spread = 120 * scale if kind == np.float32 else np.iinfo(kind).max
        psnr = 10 * np.log10(spread**2 / ((said.astype(float) - true.pixels[0]) ** 2).mean())
        assert scores.loc[name, "psnr"] == pytest.approx(
            psnr, abs=0.3
        )  # values below 0 are cut where it is 8 or 16 bits


def test_remarks_on_target_images(tmp_path):
    given = {"task": "restoration", "image_size": [12, 32]}
    folder = noisy(tmp_path / "twelve", scale=16, kind=np.uint16)
    assert any(
        "no value above 2880 of 65535" in one and "27 dB" in one
        for one in said_by(lambda: study(folder, **given).rows)[1]
    )
    rewrite(folder, lambda a: (a // 16).astype(np.uint8), "masks/p[0-3].png")
    (rows, said) = said_by(lambda: study(folder, **given).rows)
    assert any("4 of 10 target images have 8 bits" in one for one in said)
    assert rows.task.bits == "uint16"
    folder = noisy(tmp_path / "full", scale=257, kind=np.uint16)
    assert said_by(lambda: study(folder, **given).rows)[1] == []
    rewrite(folder, lambda a: np.stack([a // 257, a // 300, a // 400], -1).astype(np.uint8))
    assert any("10 of 10 target images are in colour" in one for one in said_by(lambda: study(folder, **given).rows)[1])
    folder = noisy(tmp_path / "double", times=2)
    Image.fromarray(np.asarray(Image.open(folder / "masks/p0.png"))[::2, ::2]).save(folder / "masks/p0.png")
    (rows, said) = said_by(lambda: study(folder, **given).rows)
    assert any("1, 2 times as large as their images" in one for one in said)
    assert rows.task.ratio == 1


# ---- overlapping masks, options, messages ----


@pytest.mark.parametrize("value", [1, 255, 9])
def test_overlapping_masks_are_written_and_counted_as_they_are(folder, tmp_path, value):
    rewrite(folder, lambda a: np.uint8(value) * (a > 0))
    frame = pd.read_csv(folder / "t.csv")
    frame.assign(other=frame["mask"]).to_csv(folder / "t.csv", index=False)
    opened = study(folder, target=["mask", "other"], **QUICK)
    chances = torch.zeros(2, 20, 24)
    chances[0, 3:9], chances[1, :, 5:7] = 1, 1
    name = "p01.png"
    rows, store = opened.rows, opened.store
    paths = write_answer(chances, rows.task, name, store.sources[name], store.options, tmp_path)
    for path, expected in zip(paths, chances, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), value * expected)
    opened.compare(["image"], out=tmp_path / "o", progress=False, report=False)
    predict_table(str(tmp_path / "o"), "image", str(folder / "t.csv"), str(folder / "images"), str(tmp_path / "a.csv"))
    for row in pd.read_csv(tmp_path / "a.csv").itertuples():
        for file, share in zip(row.file.split(";"), (row.share_mask, row.share_other), strict=True):
            pixels = np.asarray(Image.open(tmp_path / file))
            assert set(np.unique(pixels)) <= {0, value}
            assert share == pytest.approx((pixels > 0).mean())


def test_shares_are_those_of_the_written_masks_also_where_the_grid_is_padded(folder, tmp_path):
    opened = study(folder, resize="pad", image_size=[48, 24], **QUICK)
    opened.compare(["image"], out=tmp_path / "o", progress=False, report=False)
    predict_table(str(tmp_path / "o"), "image", str(folder / "t.csv"), str(folder / "images"), str(tmp_path / "a.csv"))
    for row in pd.read_csv(tmp_path / "a.csv").itertuples():
        assert row.share_255 == pytest.approx((np.asarray(Image.open(tmp_path / row.file)) > 0).mean())


def test_a_threshold_is_refused(folder, tmp_path):
    for threshold in (0.3, "validation"):
        with pytest.raises(FusionError, match="threshold: expected none for task segmentation"):
            study(folder, threshold=threshold).begin(["image"], out=tmp_path / "o")


def test_a_target_that_is_the_image_is_refused(folder, tmp_path):
    frame = pd.read_csv(folder / "t.csv")
    for task in ("restoration", "segmentation"):
        with pytest.raises(FusionError, match=r"expected another file than the image of the row, got p00.png"):
            _ = study(folder, target="file", target_folder=None, task=task).rows
    for path in (folder / "images").iterdir():
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels).save(folder / "masks" / path.with_suffix(".bmp").name)
    frame.assign(mask=frame["file"].str.replace("png", "bmp")).to_csv(folder / "t.csv", index=False)
    with pytest.raises(FusionError, match="got the images themselves in every row"):
        _ = study(folder, task="restoration").rows
    Image.fromarray(pixels[::-1]).save(folder / "masks/p00.bmp")
    _, said = said_by(lambda: study(folder, task="restoration").rows)
    assert any("7 of 8 target images are their own images" in one for one in said)
    ball_volumes(tmp_path / "v", 3)
    for n in range(3):
        nib.save(nib.load(tmp_path / f"v/v{n}.nii.gz"), tmp_path / f"v/v{n}_mask.nii")
    pd.read_csv(tmp_path / "v/t.csv").assign(mask=lambda t: t["mask"].str[:-3]).to_csv(
        tmp_path / "v/t.csv", index=False
    )
    with pytest.raises(FusionError, match="got the images themselves in every row"):
        _ = volumes_study(tmp_path / "v", task="restoration").rows


def test_errors_name_the_option(folder, tmp_path):
    frame = pd.read_csv(folder / "t.csv")
    frame.assign(mask="../masks/" + frame["mask"]).to_csv(folder / "t.csv", index=False)
    with pytest.raises(FusionError, match="give as --target-folder the folder that all of them are in"):
        _ = study(folder, target_folder=None).rows
    frame.assign(file="../masks/" + frame["file"]).to_csv(folder / "t.csv", index=False)
    with pytest.raises(FusionError, match="give as --images the folder"):
        _ = study(folder).rows
    frame.assign(file=frame["file"].str[:-4], mask=frame["mask"].str[:-4]).to_csv(folder / "t.csv", index=False)
    with pytest.raises(FusionError, match=r"--suffix .png is added to images alone"):
        _ = study(folder, suffix=".png").rows
