"""Whole studies whose answers are images: pictures and volumes, patches in windows, predictions, figures."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionconv import fuse_into, window_predictor
from fusionconv.errors import CovariateError, StudyError
from fusionconv.evaluation import paired_bootstrap_scores
from fusionconv.study import Study, load_predictor
from fusionconv.study.command import main
from fusionconv.study.explain import covariate_effects
from fusionconv.study.networks import build_network
from fusionconv.study.patches import Windows
from fusionconv.study.robustness import check_robustness
from tests.study.pictures_out import ball_volumes, disc_pictures

NETWORK = "tests.study.tiny:image_network"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A finished study of 24 pictures."""
    folder = tmp_path_factory.mktemp("discs") / "set"
    disc_pictures(folder, 24)
    out = folder / "out"
    arms = ["image", "hybrid@first"]
    code = main([
        "compare", "--table", str(folder / "t.csv"), "--images", str(folder / "images"), "--target-folder",
        str(folder / "masks"), "--image-column", "file", "--subject", "patient", "--target", "mask", "--task",
        "segmentation", "--classes", "rest=0", "disc=255", "--covariates", "z", "--network", NETWORK, "--image-size", "20",
        "24", "--channels", "1", "--augment", "strong", "--lr", "0.03", "--epochs", "16", "--batch-size", "2", "--folds",
        "1", "--test-size", "0.5", "--controls", "2", "--resamples", "200", "--keep-images", "true", "--out", str(out), "--arms", *arms,
    ])  # fmt: skip
    assert code == 0
    return folder, out


def test_the_covariate_decides_what_is_segmented_and_the_tables_say_so(pictures):
    """z says which of two discs is meant: the image alone cannot know."""
    _, out = pictures
    results = pd.read_csv(out / "results.csv").set_index(["arm", "metric"])["mean"]
    assert results["hybrid-first", "dice"] > results["image", "dice"] + 0.1
    controls = pd.read_csv(out / "controls.csv")
    permuted = controls[(controls["arm"] == "hybrid-first") & (controls["control"] == "permuted")]
    assert permuted["difference"].iloc[0] < -0.05
    assert {"dice", "surface_distance", "hausdorff95"} <= set(results.loc["image"].index)


def test_scores_are_by_subject_and_compared_by_the_paired_bootstrap(pictures):
    _, out = pictures
    subjects = pd.read_csv(out / "subjects.csv")
    assert set(subjects["images"]) == {2}
    wide = subjects.pivot(index="subject", columns="arm", values="dice")
    rows = pd.read_csv(out / "comparisons.csv")
    mine = rows[(rows["arm"] == "hybrid-first") & (rows["test"] == "bootstrap by subject")].iloc[0]
    theirs = paired_bootstrap_scores(wide["hybrid-first"], wide["image"], n_resamples=200, seed=0)
    assert mine["n"] == 6
    assert mine["difference"] == pytest.approx(theirs.estimate)
    assert (mine["low"], mine["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_kept_images_are_what_was_scored(pictures):
    """Dice of the files on the disk: the pictures are as large as what the network sees."""
    folder, out = pictures
    rows = pd.read_csv(out / "predictions.csv")
    rows = rows[(rows["arm"] == "hybrid-first") & (rows["control"] == "true")]
    assert len(rows) == 12
    for row in rows.itertuples():
        said = np.asarray(Image.open(out / f"runs/hybrid-first/{row.fold}/images/{row.id}")) > 0
        true = np.asarray(Image.open(folder / "masks" / row.id)) > 0
        assert row.dice == pytest.approx(2 * (said & true).sum() / max(said.sum() + true.sum(), 1), abs=1e-6)


def test_the_report_shows_images_and_subjects(pictures):
    _, out = pictures
    page = (out / "report.md").read_text()
    for name in ("overlays", "subject-scores", "inputs"):
        assert f"figures/{name}.png" in page
        assert (out / f"figures/{name}.png").stat().st_size > 5000
    assert "subjects.csv" in page


def test_effects_are_named_by_what_is_drawn(pictures):
    """The share of the disc, not Dice: the y axis had the scores' names."""
    _, out = pictures
    study, arms = Study.open(out)
    predictor = load_predictor(out / "runs/hybrid-first/holdout/model")
    figure = covariate_effects(predictor, study.data(arms[1], "holdout", predictor.encoder))
    assert figure.axes[0].get_ylabel() == "mean share_disc"


def test_robustness_is_of_numbers(pictures):
    with pytest.raises(StudyError, match="robustness: expected a task of numbers, got segmentation"):
        check_robustness(str(pictures[1]), "image")


def test_new_rows_are_answered_as_images(pictures, tmp_path):
    folder, out = pictures
    table = pd.read_csv(folder / "t.csv").drop(columns=["mask"])
    table.loc[0, "file"] = "gone.png"
    table.to_csv(tmp_path / "new.csv", index=False)
    given = [
        "--table",
        str(tmp_path / "new.csv"),
        "--images",
        str(folder / "images"),
        "--out",
        str(tmp_path / "a/new.csv"),
    ]
    assert main(["predict", "--study", str(out), "--arm", "hybrid@first", *given]) == 0
    rows = pd.read_csv(tmp_path / "a/new.csv").set_index("id")
    assert len(rows) == 24
    assert rows["problem"].notna().tolist() == [name == "gone.png" for name in rows.index]
    assert rows["file"].isna().tolist() == rows["problem"].notna().tolist()
    said = np.asarray(Image.open(tmp_path / "a" / rows.loc["p03.png", "file"]))
    true = np.asarray(Image.open(folder / "masks/p03.png"))
    assert said.shape == true.shape
    assert set(np.unique(said)) <= {0, 255}
    assert rows.loc["p03.png", "share_disc"] == pytest.approx((said > 0).mean())


def test_a_resumed_run_and_other_masks(pictures, tmp_path):
    """The same command trains nothing again; a mask of other content is told."""
    folder, out = pictures
    settings = Study.open(out)[0].settings
    before = (out / "runs/image/holdout/result.json").stat().st_mtime_ns
    Study(**settings.to_dict()).compare(["image"], out=out, progress=False, report=False)
    assert (out / "runs/image/holdout/result.json").stat().st_mtime_ns == before
    path = folder / "masks/p00.png"
    old = path.read_bytes()
    try:
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        with pytest.raises(Exception, match=r"target images: .* before, .* now"):
            Study(**settings.to_dict()).compare(["image"], out=out, progress=False, report=False)
    finally:
        path.write_bytes(old)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A finished study of eight volumes of three classes, trained on patches."""
    folder = tmp_path_factory.mktemp("balls")
    ball_volumes(folder)
    study = Study(
        table=str(folder / "t.csv"), image_column="scan", target="mask", task="segmentation", covariates=["age"],
        network="monai:UNet", network_options={"channels": [4, 8], "strides": [2]}, dims=3, image_size=[18, 16, 14],
        patch=[16, 16, 14], augment=["light"], epochs=2, batch_size=2, folds=1, test_size=0.4, controls=1, resamples=100,
        keep_images=True,
    )  # fmt: skip
    study.compare(["image", "hybrid@bottleneck"], out=folder / "out", progress=False)
    return folder, folder / "out"


def test_volumes_in_patches(volumes):
    folder, out = volumes
    results = pd.read_csv(out / "results.csv")
    assert {"dice", "dice_1", "dice_2", "surface_distance"} <= set(results["metric"])
    kept = nib.load(next((out / "runs/hybrid-bottleneck").glob("*/images/v1.nii.gz")))
    mask = nib.load(folder / "v1_mask.nii.gz")
    np.testing.assert_allclose(kept.affine, mask.affine)
    assert kept.shape == mask.shape
    code = main(["predict", "--study", str(out), "--arm", "hybrid@bottleneck", "--table", str(folder / "t.csv"),
                 "--images", str(folder), "--out", str(folder / "new.csv")])  # fmt: skip
    assert code == 0
    assert nib.load(folder / "new/v3.nii.gz").shape == (18, 16, 14)


# ---- windows ----


def fused(dims=3, where="all"):
    net = build_network(NETWORK, num_outputs=2, in_channels=1, image_size=(8,) * dims)
    fuse_into(net, where, 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "covariate" in name:
                parameter.normal_(0, 0.3)
    return net.eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("batch", [1, 3, 5, 64])
def test_rows_of_one_subject_never_reach_another_one_s_windows(dims, batch):
    """Each image alone, with its own row, is the reference; batches of windows mix images."""
    net, size = fused(dims), (12, 10, 9)[:dims]
    images, rows = torch.randn(3, 1, *size), torch.randn(3, 2)
    windows = Windows((8,) * dims, batch=batch)
    with torch.no_grad():
        alone = torch.cat([windows(net, images[n : n + 1], rows[n : n + 1]) for n in range(3)])
        together = windows(net, images, rows)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
        changed = rows.clone()
        changed[1] = 9.0
        other = windows(net, images, changed)
    torch.testing.assert_close(other[[0, 2]], together[[0, 2]], atol=1e-5, rtol=1e-4)
    assert float((other[1] - together[1]).abs().max()) > 0.1


WRONG = {
    "the rows in turn": lambda rows, n, coords: rows[torch.arange(n) % len(rows)],
    "the rows in blocks": lambda rows, n, coords: rows.repeat_interleave(-(-n // len(rows)), 0)[:n],
    "the first row": lambda rows, n, coords: rows[:1].expand(n, -1),
    "the rows of the place": lambda rows, n, coords: rows[[int(c[2].start > 0) % len(rows) for c in coords]],
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_the_test_above_fails_under_a_wrong_mechanism(monkeypatch, wrong):
    def predictor(model, rows):
        return lambda windows, coords: window_predictor(model, WRONG[wrong](rows, len(windows), coords))(
            windows, [[slice(n, n + 1), *place[1:]] for n, place in enumerate(coords)])  # fmt: skip

    monkeypatch.setattr("fusionconv.surgery.window_guard.enclosing_windows", lambda: [])
    monkeypatch.setattr("fusionconv.windows.enclosing_windows", lambda: [])
    monkeypatch.setattr("fusionconv.windows.window_predictor", predictor)
    with pytest.raises(AssertionError):
        test_rows_of_one_subject_never_reach_another_one_s_windows(2, 5)


def test_windows_and_whole_images_agree_within_the_overlap_s_rule():
    """Two convolutions of 3 see two pixels beyond each: what lies farther from every window's border is the same. A
    network of 1 x 1 sees nothing beyond, and is the same everywhere."""
    net = fused(2)
    image, row = torch.randn(1, 1, 16, 12), torch.randn(1, 2)
    windows = Windows((16, 8), overlap=0.5)
    with torch.no_grad():
        whole, parts = net(image, row), windows(net, image, row)
    near = torch.zeros(12, dtype=torch.bool)
    near[[2, 3, 4, 5, 6, 7, 8, 9]] = True  # windows from 0, 4: borders between 3|4 and 7|8
    torch.testing.assert_close(parts[..., ~near], whole[..., ~near], atol=1e-5, rtol=1e-4)
    assert float((parts - whole).abs().max()) > 1e-3
    point = torch.nn.Conv2d(1, 2, 1)
    torch.testing.assert_close(Windows((5, 4), overlap=0.25)(point, image), point(image))
    with pytest.raises(CovariateError, match="expected a row for each of 1 images, got 3"):
        windows(net, image, torch.randn(3, 2))


def test_restoration_of_pictures(tmp_path):
    """A blurred disc back to the disc, and the error goes down; targets of twice the size are taken."""
    folder = tmp_path / "set"
    frame = disc_pictures(folder, 12)
    for name in frame["mask"]:
        clean = Image.open(folder / "masks" / name)
        noise = np.random.default_rng(int(name[1:3])).normal(0, 40, (20, 24))
        Image.fromarray((np.asarray(clean) * 0.6 + 50 + noise).clip(0, 255).astype(np.uint8)).save(
            folder / f"images/{name}"
        )
        if name == "p05.png":
            clean.resize((48, 40)).save(folder / "masks" / name)
    study = Study(
        table=str(folder / "t.csv"), images=str(folder / "images"), target_folder=str(folder / "masks"),
        image_column="file", subject="patient", target="mask", task="restoration", covariates=["age"], network=NETWORK,
        image_size=[20, 24], channels=1, epochs=12, lr=0.03, batch_size=2, folds=1, test_size=0.4, controls=0,
        resamples=100,
        keep_images=True,
    )  # fmt: skip
    found = study.compare(["image"], out=tmp_path / "out", progress=False).table
    psnr = found[found["metric"] == "psnr"].set_index("arm")["mean"]
    true = [np.asarray(Image.open(folder / "masks" / n).resize((24, 20))) / 255 for n in frame["mask"]]
    before = [np.asarray(Image.open(folder / "images" / n)) / 255 for n in frame["file"]]
    raw = np.mean([-10 * np.log10(((a - b) ** 2).mean()) for a, b in zip(true, before, strict=True)])
    assert psnr["image"] > raw + 3
    assert Image.open(next((tmp_path / "out/runs/image").glob("*/images/p03.png"))).size == (24, 20)
    assert "answer minus target" in (tmp_path / "out/report.md").read_text()


def test_film_in_front_of_an_instance_norm_does_nothing_and_hybrid_does():
    """docs/limits.md, Studies: the norm takes away what is added to a channel, or what it is multiplied by."""
    torch.manual_seed(0)
    images, rows = torch.randn(2, 1, 32, 32), torch.randn(2, 3)
    apart = {}
    for method in ("film", "scale", "daft", "hybrid"):
        net = build_network("monai:UNet", num_outputs=2, in_channels=1, image_size=(32, 32)).eval()
        fuse_into(net, "bottleneck", 3, method=method)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if "covariate" in name:
                    parameter.normal_(0, 0.01)
            apart[method] = float((net(images, rows) - net(images, rows + 1)).abs().max())
    assert apart["hybrid"] > 0.1
    assert max(apart["film"], apart["scale"], apart["daft"]) < 1e-4
