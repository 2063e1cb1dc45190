"""Options: TensorBoard, every epoch's network, parts that thaw, pictures of inputs and maps, shuffled pixels, other studies."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from fusionconv.errors import StudyError
from fusionconv.explain import attributions
from fusionconv.study import Study, load_predictor
from fusionconv.study.against import compare_studies
from fusionconv.study.arms import parse_arm
from fusionconv.study.command import main
from fusionconv.study.diagram import draw_diagram
from fusionconv.study.explain import explain_arm
from fusionconv.study.feature_maps import layer_outputs
from fusionconv.study.predict import predict_table


@pytest.fixture(scope="module")
def everything(small, tmp_path_factory):
    """One study with all of it: conv 0 is frozen, and trained from epoch 2 on."""
    out = tmp_path_factory.mktemp("everything") / "out"
    given = {**small, "folds": 1, "epochs": 4, "freeze": ["first:1"], "unfreeze_epoch": 2, "tensorboard": True, "keep": "every",
             "augment": ["vflip", "rotate"], "select": "last", "optimizer": "sgd", "lr": 0.05}  # fmt: skip
    return Study(**given).compare(["image", "concat-mlp"], out=out, progress=False), out, given


def test_a_frozen_part_is_trained_from_its_epoch_on(everything):
    _, out, _ = everything
    for arm in ("image", "concat-mlp"):
        epochs = [load_file(p / "model.safetensors") for p in sorted((out / "runs" / arm / "holdout/epochs").iterdir())]
        assert len(epochs) == 4
        first = [e["0.weight"] for e in epochs]
        other = [e["2.weight"] for e in epochs]
        assert torch.equal(first[0], first[1])  # not even by weight decay
        assert not torch.equal(first[1], first[2])
        assert not torch.equal(first[2], first[3])
        assert not torch.equal(other[0], other[1])


def test_a_part_that_thaws_counts_as_trained_and_its_norms_move_only_then(small, tmp_path, monkeypatch):
    from fusionconv.study.module import StudyModule

    seen, original = [], StudyModule.on_train_epoch_end

    def look(self):
        original(self)
        norms = [m for m in self.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        seen.append([norms[0].running_mean.clone(), norms[-1].running_mean.clone()])

    monkeypatch.setattr(StudyModule, "on_train_epoch_end", look)
    given = {**small, "folds": 1, "epochs": 2, "controls": 0, "network": "tests.study.test_options:normed",
             "freeze": ["1"], "unfreeze_epoch": 1}  # fmt: skip
    Study(**given).compare(["image"], out=tmp_path / "out", progress=False, report=False)
    assert not seen[0][0].any()  # as it was made
    assert seen[1][0].any()
    assert seen[0][1].any()


def normed(num_outputs, in_channels, image_size):
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_outputs))  # fmt: skip


def test_the_curves_have_a_line_where_fine_tuning_begins(everything, monkeypatch):
    from fusionconv.study.curves import draw_curves

    _, out, _ = everything
    folder = out / "runs/image/holdout"
    table = pd.read_csv(folder / "metrics.csv")
    assert table["lr"].nunique() > 1
    assert (folder / "curves.png").is_file()
    found = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *a, **k: found.append(self))
    draw_curves(table, folder / "unused.png", 2)
    panels = {axes.get_title(): axes for axes in found[0].axes if axes.get_title()}
    assert {"loss", "auc", "lr", "momentum"} <= set(panels)
    last_frozen = table.loc[table["epoch"] == 1, "step"].max()
    for axes in panels.values():
        lines = [line for line in axes.lines if line.get_label() == "fine-tuning begins"]
        assert [list(line.get_xdata()) for line in lines] == [[last_frozen, last_frozen]]
    draw_curves(table[table["epoch"] < 2], folder / "unused.png", 2)
    assert not any(line.get_label() == "fine-tuning begins" for axes in found[1].axes for line in axes.lines)


def test_tensorboard_has_losses_metrics_rate_momentum_and_the_graph(everything):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, out, _ = everything
    for arm, layers in (("image", "0.weight"), ("concat-mlp", "0.weight")):
        events = EventAccumulator(str(out / "runs" / arm / "holdout/tensorboard"))
        events.Reload()
        assert {"train/loss", "val/loss", "val/auc", "lr", "momentum"} <= set(events.Tags()["scalars"])
        table = pd.read_csv(out / "runs" / arm / "holdout/metrics.csv")
        np.testing.assert_allclose(
            [e.value for e in events.Scalars("train/loss")], table["train/loss"].dropna(), rtol=1e-5
        )
        assert events.Tags()["graph"], arm
        assert any("Conv" in node.op or "conv" in node.op for node in graph_of(events).node), layers


def graph_of(events):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = events.Graph()
    return graph if isinstance(graph, GraphDef) else GraphDef.FromString(graph)


def test_tensorboard_changes_no_number_and_is_off_by_default(everything, tmp_path):
    comparison, _, given = everything
    plain = Study(**{**given, "tensorboard": False, "keep": "none"}).compare(
        ["image", "concat-mlp"], out=tmp_path / "out", progress=False, report=False
    )
    pd.testing.assert_frame_equal(plain.predictions, comparison.predictions)
    assert not list((tmp_path / "out").rglob("tensorboard"))
    assert not list((tmp_path / "out").rglob("epochs"))
    assert Study().settings.tensorboard is False


def test_without_the_package_nothing_is_trained(small, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match="pip install tensorboard"):
        Study(**small, tensorboard=True).compare(["image"], out=tmp_path / "out", progress=False)


def test_the_last_epoch_kept_is_the_network_that_was_judged(everything):
    _, out, _ = everything
    folder = out / "runs/concat-mlp/holdout"
    last = load_file(folder / "epochs/003/model.safetensors")
    for name, value in load_file(folder / "model/model.safetensors").items():
        assert torch.equal(value, last[name]), name
    assert load_predictor(folder / "epochs/001").task.NAME == "binary"


def test_concat_mlp_gives_every_arm_the_hidden_layer(everything):
    _, out, _ = everything
    shapes = {}
    for arm in ("image", "concat-mlp"):
        state = load_file(out / "runs" / arm / "holdout/model/model.safetensors")
        shapes[arm] = {name: tuple(v.shape) for name, v in state.items() if v.ndim == 2}
    assert yaml.safe_load((out / "study.yaml").read_text())["settings"]["head"] == "mlp"
    assert set(shapes["image"]) <= set(shapes["concat-mlp"])
    assert len(shapes["image"]) == 2  # hidden and last: one more than the network has of its own


def test_the_report_shows_what_enters_the_network(everything):
    _, out, _ = everything
    assert Image.open(out / "figures/inputs.png").size[0] > 300
    assert "figures/inputs.png" in (out / "report.md").read_text()


@pytest.mark.parametrize(("step", "axis"), [("vflip", 1), ("hflip", 2)])
def test_flips_through_the_engine(small, step, axis):
    data = Study(**small, augment=step, normalize="none").data(parse_arm("image"), "repeat0-fold0")
    from fusionconv.study.augment import augmentation

    torch.manual_seed(0)
    loader = data.loader("train", 8, train=True, augment=augmentation([step], data.store.options))
    kinds = set()
    for batch in loader:
        for name, image in zip(batch["id"], batch["image"], strict=True):
            own = data.store.read([name])[0]
            same, flipped = torch.equal(image, own), torch.equal(image, own.flip(axis))
            assert same or flipped
            kinds.add(same)
    assert kinds == {True, False}


# ---- shuffled pixels ----


def test_shuffled_pixels_have_one_permutation_drawn_from_the_seed(small):
    plain, one, again, other = (
        Study(**{**small, "shuffle_pixels": on, "seed": seed}).store
        for on, seed in ((False, 0), (True, 0), (True, 0), (True, 1))
    )
    ids = list(plain.ids)
    images, mixed = plain.read(ids), one.read(ids)
    torch.testing.assert_close(images.flatten(2).sort(2).values, mixed.flatten(2).sort(2).values, rtol=0, atol=0)
    assert torch.equal(mixed, again.read(ids))
    assert not torch.equal(mixed, other.read(ids))
    assert not torch.equal(mixed, images)
    flat, after = images.flatten(1), mixed.flatten(1)  # every place's values over 40 images tell where it came from
    came_from = [int((flat == after[:, [place]]).all(0).nonzero()[0]) for place in range(after.shape[1])]
    assert sorted(came_from) == list(range(after.shape[1]))
    assert one.decoded == 0  # the cache of the plain study serves


def test_shuffled_pixels_from_training_to_prediction(small, tmp_path):
    given = {**small, "shuffle_pixels": True, "folds": 1, "epochs": 1, "controls": 0}
    comparison = Study(**given).compare(["image"], out=tmp_path / "out", progress=False, report=False)
    plain = Study(**{**given, "shuffle_pixels": False}).compare(
        ["image"], out=tmp_path / "plain", progress=False, report=False
    )
    assert not np.allclose(comparison.predictions["probability"], plain.predictions["probability"])
    said = predict_table(str(tmp_path / "out"), "image", small["table"], small["images"], str(tmp_path / "p.csv"))
    own = comparison.predictions.query("control == 'true'").set_index("id")["probability"]
    np.testing.assert_allclose(said.set_index("id")["probability"].reindex(own.index), own, atol=1e-5)
    with pytest.raises(StudyError, match="shuffle_pixels: False before, True now"):
        Study(**given).compare(["image"], out=tmp_path / "plain", progress=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unfreeze_epoch": 1}, "--freeze PARTS"),
        ({"unfreeze_epoch": 2, "freeze": "first:1"}, "from 1 to 1"),
        ({"unfreeze_epoch": 0, "freeze": "first:1"}, "unfreeze_epoch"),
        ({"shuffle_pixels": True, "augment": "light"}, "same permutation"),
        ({"shuffle_pixels": True, "augment": ["noise", "vflip"]}, "vflip"),
        ({"keep": "all"}, "keep"),
    ],
)
def test_options_that_do_not_go_together(small, change, says):
    with pytest.raises(StudyError, match=says):
        Study(**{**small, **change})


# ---- feature maps ----


def test_feature_maps_are_the_layers_own(everything, tmp_path):
    _, out, _ = everything
    predictor = load_predictor(out / "runs/image/holdout/model")
    images = torch.rand(2, 1, 16, 16)
    maps = layer_outputs(predictor, "0", images, None)
    mean, std = (torch.tensor(predictor.about["normalisation"][n]) for n in ("mean", "std"))
    state = load_file(out / "runs/image/holdout/model/model.safetensors")
    expected = torch.nn.functional.conv2d((images - mean) / std, state["0.weight"], state["0.bias"])
    torch.testing.assert_close(maps, expected)
    paths = explain_arm(str(out), "image", layer="2", rows=2, out=str(tmp_path))
    assert "features-2.png" in [p.name for p in paths]


@pytest.mark.parametrize(
    ("layer", "says"), [("nine", "expected a layer of the network"), ("", "there are 0"), ("6", "take one of 0, ")]
)
def test_layers_that_have_no_maps(everything, layer, says):
    _, out, _ = everything
    with pytest.raises(StudyError, match=says):
        explain_arm(str(out), "image", layer=layer)


# ---- explain and diagram ----


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam", "guided_backprop", "occlusion"])
def test_explain_draws_the_method_that_is_asked_for(everything, tmp_path, monkeypatch, method):
    _, out, _ = everything
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **_: drawn.append((path.name, self)))
    layer = ["--layer", "2"] if method == "grad_cam" else []
    words = ["--arm", "concat-mlp", "--method", method, "--rows", "2", "--out", str(tmp_path), *layer]
    assert main(["explain", str(out), *words]) == 0
    figure = dict(drawn)["attribution.png"]
    predictor = load_predictor(out / "runs/concat-mlp/holdout/model")
    data = Study.open(out)[0].data(parse_arm("concat-mlp"), "holdout", predictor.encoder)
    batch = data.batch("test", list(data.tables["test"].ids)[:2])
    layer = "2" if method == "grad_cam" else None
    found = attributions(
        predictor.network, batch["image"], batch["covariates"], method, target=-1, steps=32, layer=layer
    )
    for n in range(2):
        np.testing.assert_allclose(figure.axes[2 + n].images[0].get_array(), found.maps[n].sum(0), rtol=1e-4, atol=1e-6)
    assert figure.get_suptitle().lower().startswith(method[:3])


def test_explain_knows_four_methods(everything):
    with pytest.raises(StudyError, match="method: expected one of integrated_gradients, grad_cam"):
        explain_arm(str(everything[1]), "image", method="lime")


@pytest.mark.parametrize("arm", ["image", "concat-mlp"])
def test_the_diagram_of_a_studys_network_needs_nothing_but_the_network(everything, tmp_path, arm):
    _, out, _ = everything
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    said = yaml.safe_load((moved / "study.yaml").read_text())
    said["settings"] |= {"table": str(tmp_path / "gone.csv"), "images": str(tmp_path / "gone")}
    (moved / "study.yaml").write_text(yaml.safe_dump(said))
    words = ["--study", str(moved), "--arm", arm, "--out", str(tmp_path / "net.svg"), "--title", "mine"]
    assert main(["diagram", *words]) == 0
    drawn = (tmp_path / "net.svg").read_text()
    shapes = ["1 × 16 × 16", "4 × 14 × 14", "4 × 12 × 12"]  # image, and two convolutions of 3 x 3
    for words in [*shapes, "mine"]:
        assert f"<!-- {words} -->" in drawn
    assert ("<!-- age -->" in drawn) == (arm == "concat-mlp")


@pytest.mark.parametrize("arm", ["image", "hybrid@first", "concat-mlp", "film@last"])
def test_the_diagram_of_a_network_by_its_name(tmp_path, arm):
    words = ["--network", "tests.study.tiny:network", "--arm", arm, "--image-size", "20", "16", "--channels", "2"]
    assert main(["diagram", *words, "--covariates", "age", "sex", "--out", str(tmp_path / "net.svg")]) == 0
    drawn = (tmp_path / "net.svg").read_text()
    assert "<!-- 4 × 18 × 14 -->" in drawn
    assert ("<!-- sex -->" in drawn) == (arm != "image")


@pytest.mark.parametrize(("change", "says"), [
    ({"out": "net.jpg"}, "out: expected a file that ends in .svg"), ({"network": None}, "got neither"),
    ({"study": "out"}, "got both"), ({"arm": "hybrid@first"}, "give --covariates"),
    ({"arm": "covariates", "covariates": ["age"]}, "expected one with a network"),
    ({"network": None, "study": "nothing"}, "expected the folder of a study"),
])  # fmt: skip
def test_a_diagram_that_cannot_be(tmp_path, change, says):
    with pytest.raises(StudyError, match=says):
        draw_diagram(**{"network": "tests.study.tiny:network", "out": str(tmp_path / "net.svg"), **change})


# ---- two studies ----


@pytest.fixture(scope="module")
def two(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    given = {**small, "epochs": 1, "controls": 0}
    Study(**given).compare(["covariates", "image"], out=folder / "one", progress=False, report=False)
    Study(**given, lr=0.1).compare(
        ["covariates", "image", "concat"], out=folder / "other", progress=False, report=False
    )
    return folder, given


def test_two_studies_by_the_tests_of_one(two, tmp_path, capsys):
    folder, _ = two
    assert main(["report", str(folder / "one"), "--against", str(folder / "other")]) == 0
    assert "against-other.csv" in capsys.readouterr().out
    table = pd.read_csv(folder / "one/against-other.csv")
    assert table["reference"].unique().tolist() == ["other: covariates", "other: image"]
    same = table[table["arm"] == "covariates"]
    assert (same["difference"] == 0).all()  # the arm without images is the same in both
    image = table[(table["arm"] == "image") & (table["test"] == "corrected t-test") & (table["metric"] == "auc")].iloc[
        0
    ]
    means = [
        pd.read_csv(folder / name / "results.csv").set_index(["arm", "metric"]).loc[("image", "auc"), "mean"]
        for name in ("one", "other")
    ]
    assert image["difference"] == pytest.approx(means[0] - means[1])


def test_two_runs_and_they_agree_with_comparisons_csv(two):
    folder, _ = two
    other = folder / "other"
    table, _ = compare_studies(other / "runs/concat", other / "runs/covariates")
    own = pd.read_csv(other / "comparisons.csv").query("arm == 'concat'").reset_index(drop=True)
    columns = ["metric", "difference", "low", "high", "p", "n"]
    pd.testing.assert_frame_equal(table[columns].reset_index(drop=True), own[columns], check_dtype=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seed": 1}, "repeat0-fold0 of"), ({"folds": 3}, "folds repeat0"), ({"rows": "age > 50"}, "rows are in one only"),
     ({"target": "event"}, "task binary of dx")],
)  # fmt: skip
def test_studies_that_cannot_be_compared(two, tmp_path, change, says):
    folder, given = two
    Study(**{**given, **change}).compare(["covariates"], out=tmp_path / "third", progress=False, report=False)
    with pytest.raises(StudyError, match=says):
        compare_studies(folder / "one", tmp_path / "third")


def test_a_study_against_itself_or_half_a_study(two, tmp_path):
    folder, _ = two
    with pytest.raises(StudyError, match="twice"):
        compare_studies(folder / "one", folder / "one")
    with pytest.raises(StudyError, match="expected the folder of a study"):
        compare_studies(folder / "one", tmp_path)
    shutil.copytree(folder / "other", tmp_path / "half")
    (tmp_path / "half/runs/image/repeat0-fold1/result.json").unlink()
    with pytest.raises(StudyError, match="run of image on every fold, got none on repeat0-fold1"):
        compare_studies(folder / "one", tmp_path / "half")


# ---- left and right ----


@pytest.mark.parametrize(("augment", "warned"), [("hflip", True), ("vflip", False)])
def test_mirrored_images_beside_a_column_that_says_left_or_right(small, tmp_path, augment, warned):
    frame = pd.read_csv(small["table"])
    frame["laterality"] = np.where(np.arange(len(frame)) % 3, 1, 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "covariates": ["age", "laterality"], "augment": augment}
    Study(**given).compare(["covariates"], out=tmp_path / "out", progress=False, report=False)
    told = json.loads((tmp_path / "out/notes.json").read_text())["warnings"]
    assert any("mirrored" in text and "laterality" in text for text in told) == warned


# ---- losses ----


def linear(num_outputs, in_channels, image_size):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(in_channels * image_size[0] * image_size[1], num_outputs)
    )


def test_the_training_loss_is_of_the_training_rows(small, tmp_path):
    given = {**small, "folds": 1, "epochs": 1, "controls": 0, "network": "tests.study.test_options:linear", "lr": 1e-12,
             "keep": "best", "batch_size": 7}  # fmt: skip
    study = Study(**given)
    study.compare(["image"], out=tmp_path / "out", progress=False, report=False)
    table = pd.read_csv(tmp_path / "out/runs/image/holdout/metrics.csv")
    network = load_predictor(tmp_path / "out/runs/image/holdout/model").network
    data = study.data(parse_arm("image"), "holdout")
    for part in ("train", "val"):
        batch = data.batch(part, list(data.tables[part].ids))
        with torch.no_grad():
            own = data.task.loss(network(batch["image"]), batch["target"])
        assert table[f"{part}/loss"].dropna().iloc[0] == pytest.approx(float(own), rel=1e-4)
