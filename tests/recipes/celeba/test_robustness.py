import pandas as pd
import pytest
import torch

from fusionconv.evaluation import wilson
from recipes.celeba.__main__ import main
from recipes.celeba.robustness import as_table, rotate, shuffle_pixels

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def test_rotation_is_counterclockwise_and_corners_are_grey():
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(rotate(images, 0), images)
    assert torch.equal(rotate(images, 360), images)
    torch.testing.assert_close(rotate(images, 90), torch.rot90(images, 1, (2, 3)), rtol=0, atol=1e-5)
    torch.testing.assert_close(rotate(images, 180), images.flip(2, 3), rtol=0, atol=1e-5)
    assert (rotate(images + 10, 45)[:, :, 0, 0] == 0).all()


def test_shuffled_images_keep_their_pixels_and_lose_their_order():
    images = torch.randn(3, 3, 6, 6)
    images[1] = images[0]
    shuffled = shuffle_pixels(images, torch.Generator().manual_seed(0))
    for before, after in zip(images, shuffled, strict=True):
        # the same pixels, each with its three channels
        assert {tuple(p.tolist()) for p in before.flatten(1).T} == {tuple(p.tolist()) for p in after.flatten(1).T}
        assert not torch.equal(before, after)
    assert not torch.equal(shuffled[0], shuffled[1])  # an order of its own


def test_intervals():
    table = as_table({0.0: 30.0, "shuffled": 20.0}, 40, single=True)
    assert table["accuracy"].tolist() == [0.75, 0.5]
    assert table["low"].tolist() == pytest.approx([wilson(30, 40).low, wilson(20, 40).low])
    assert as_table({0.0: 30.5}, 40, single=False)["low"].isna().all()


def test_the_command(run_folder, celeba, tmp_path, capsys):
    argv = ["robustness", f"--checkpoint={run_folder}/hybrid/checkpoints/hybrid-best.ckpt", f"--root={celeba}",
            f"--out={tmp_path}", "--step=120", "--num_workers=0", "--device=cpu"]  # fmt: skip
    main(argv)
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert table["degrees"].tolist()[:4] == [0, 120, 240, 360]
    assert table["condition"].tolist() == ["rotation"] * 4 + ["shuffled"]
    predictions = pd.read_csv(run_folder / "hybrid/predictions-test.csv")  # by `test`, of the same checkpoint
    assert table["accuracy"][0] == (predictions["prediction"] == predictions["target"]).mean()
    assert table["accuracy"][0] == table["accuracy"][3]
    assert (tmp_path / "robustness.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        main(argv)
    assert "--overwrite" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--step=0", "--overwrite"])
    assert "above 0" in capsys.readouterr().err
