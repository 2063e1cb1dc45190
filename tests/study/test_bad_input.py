"""Bad input, 2-D and 3-D: one refusal in plain words before the first training step, and never a line per file."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv.errors import StudyError
from fusionconv.study.command import main
from fusionconv.study.settings import make_settings
from tests.study.conftest import NETWORK, write_pictures


def write_volumes(folder, count=24):
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    ill = np.arange(count) % 2
    for n in range(count):
        voxels = draw.normal(50 + 20 * ill[n], 5, (12, 12, 12)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.diag([-2.0, 2, 2, 1])), folder / f"v{n:02d}.nii.gz")
    frame = pd.DataFrame({
        "file": [f"v{n:02d}.nii.gz" for n in range(count)], "patient": [f"s{n // 2:02d}" for n in range(count)],
        "dx": np.where(ill, "ill", "well"), "age": draw.permuted(np.repeat(np.arange(count // 2), 2)) + 50.5,
    })  # fmt: skip
    frame.to_csv(folder.parent / "t.csv", index=False)
    return frame


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    base = tmp_path_factory.mktemp("bad")
    return {
        2: (write_pictures(base / "two/images"), base / "two"),
        3: (write_volumes(base / "three/images"), base / "three"),
    }


@pytest.fixture(params=[2, 3], ids=["2-D", "3-D"])
def try_it(request, sets, tmp_path, monkeypatch, capsys):
    """Run `fusionconv compare` with something changed; returns the lines of its refusal ([]: it came to training)."""
    frame, folder = sets[request.param]
    trained = []

    class TrainedError(StudyError):
        pass

    def train(*args, **kwargs):
        trained.append(1)
        raise TrainedError("trained")

    monkeypatch.setattr("fusionconv.study.study.do_run", train)

    def run(rows=None, files=None, arms=("image", "hybrid@first"), **options):
        images = folder / "images"
        if files is not None:
            images = shutil.copytree(images, tmp_path / "images")
            for path in sorted(images.iterdir()):
                files(path)
        table = tmp_path / "t.csv"
        (rows(frame.copy()) if rows else frame).to_csv(table, index=False)
        given = {
            "table": table, "images": images, "image-column": "file", "subject": "patient", "target": "dx", "covariates": "age",
            "allow-leaks": "age", "network": NETWORK, "image-size": 12, "dims": request.param, "folds": 2, "epochs": 1,
            "out": tmp_path / "out", "cache": folder / "cache", **{k.replace("_", "-"): v for k, v in options.items()},
        }  # fmt: skip
        words = ["compare", "--arms", *arms]
        for name, value in given.items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        capsys.readouterr()
        assert main(words) == 2
        said = capsys.readouterr().err.splitlines()
        lines = said[next(n for n, line in enumerate(said) if line.startswith("fusionconv compare:")) :]
        if trained:
            return []
        assert not (tmp_path / "out/runs").exists()
        return lines

    run.dims, run.folder, run.others = request.param, folder, sets[5 - request.param][1]
    return run


def test_what_is_good_comes_to_training(try_it):
    assert try_it() == []


TEXT = b"I am a text, and no image.\n"


@pytest.mark.parametrize("skip", ["fail", "skip"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(TEXT, "text"), (b"<!doctype html><p>Log in", "web page"), (b"", "empty"), (b"version https://git-lfs.github.com/spec/v1", "git lfs pull")],
)  # fmt: skip
def test_files_of_the_wrong_kind_are_one_line(try_it, content, says, skip):
    lines = try_it(files=lambda path: path.write_bytes(content), on_error=skip)
    assert len(lines) == 2  # the refusal, and one line for all files
    assert says in lines[1]
    assert lines[1].split()[0] == ("40" if try_it.dims == 2 else "24")


def test_files_that_are_each_different_are_one_line_too(try_it):
    lines = try_it(files=lambda path: path.write_bytes(TEXT * (3 + sum(path.name.encode()))))
    assert len(lines) == 2


def test_images_of_the_other_dimensions(try_it):
    files = sorted(p.name for p in (try_it.others / "images").iterdir())

    def rows(frame):
        return frame.head(len(files)).assign(file=files[: len(frame)])

    lines = try_it(rows=rows, images=try_it.others / "images")
    assert f"--dims {5 - try_it.dims}" in " ".join(lines)


def damage(path):
    number = int(path.name[1:3])
    if number == 0:
        path.write_bytes(path.read_bytes()[:60])
    elif number == 1:
        path.write_bytes(b"")
    elif number == 2:
        path.unlink()


def test_a_few_damaged_files_are_named_and_can_be_left_out(try_it):
    (line,) = try_it(files=damage)
    assert "2 that cannot" in line
    assert "--on-error skip" in line


def test_damaged_files_left_out(try_it):
    assert try_it(files=damage, on_error="skip") == []


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (lambda f: f.assign(file="x" + f["file"]), {}, "expected at least one image"),
        (None, {"suffix": ".jpg"}, "--suffix"),
        (None, {"images": "/nowhere"}, "--images DIR"),
        (lambda f: f.assign(file=["../../secret.png", *f["file"][1:]]), {}, "inside"),
        (lambda f: f.assign(file=["/etc/passwd", *f["file"][1:]]), {}, "inside"),
        (lambda f: pd.concat([f, f.head(3)]), {}, "3 images"),
        (lambda f: pd.concat([f, f]), {"on_error": "skip"}, "several for every one"),
        (lambda f: f.assign(dx="ill"), {}, "two different values in 'dx', got only ill"),
        (lambda f: f.assign(dx=f["dx"].where(f["dx"] == "ill")), {}, "got only ill"),
        (None, {"drop": "ill"}, "got only well"),
        (lambda f: f.assign(dx=np.nan), {}, "rows with a value in dx"),
        (lambda f: f.assign(split=["train", "test"] * (len(f) // 2)), {"split_column": "split"}, "each subject on one side"),
        (lambda f: f.assign(split=np.where(np.arange(len(f)) < 10, "train", "test"),
                            dx=np.where(np.arange(len(f)) < 10, "ill", f["dx"])), {"split_column": "split"}, "got none of well"),
        (lambda f: f.assign(dx=f["dx"].where(f["patient"] != "s03", "rare")), {"task": "multiclass", "folds": 3},
         "every class in training, got none of rare"),
        (None, {"folds": 50}, "use fewer folds"),
        (None, {"out": "/proc/nothing/out"}, "folder that can be written"),
        (None, {"out": "/etc/hostname"}, "expected a folder, got the file"),
        (None, {"cache": "/proc/nothing"}, "cache: "),
        (lambda f: f.assign(patient=f["patient"].where(f.index > 0)), {}, "subject: expected a value"),
        (None, {"image_size": 2}, "give --image-size"),
        (None, {"network": "torchvision:resnet81"}, "did you mean resnet18"),
        (None, {"network": "nowhere.at_all:network"}, "which Python does not find"),
        (None, {"network": "tests.study.tiny:nothing"}, "function or class"),
        (None, {"arms": ["imge"]}, "did you mean image"),
        (None, {"arms": ["hybrid@layer9"]}, "this network can have hybrid@first"),
        (None, {"covariates": "agee"}, "did you mean 'age'"),
        (None, {"covariates": "dx"}, "the answer"),
        (None, {"metric": "aucc"}, "metric: expected one of auc"),
        (None, {"select": "aucc"}, "expected one of auc"),
        (None, {"loss": "l3"}, "loss: expected one of"),
        (None, {"freeze": "layer9"}, "freeze: expected a part"),
        (None, {"freeze": "first:8"}, "which is all of it"),
        (None, {"augment": "flipp"}, "did you mean vflip"),
        (None, {"trainer.precison": "16"}, "did you mean precision"),
        (None, {"weights": "/nowhere.pt"}, "--weights FILE"),
        (None, {"tune": "lrr=1,2"}, "did you mean lr"),
        (None, {"normalize": "imagenet"}, "expected 3 channels, got 1"),
        (None, {"part": "3/2"}, "part: expected a number from 1"),
    ],
)  # fmt: skip
def test_refused_in_one_line_before_training(try_it, rows, options, says):
    options = dict(options)
    arms = options.pop("arms", ("image", "hybrid@first"))
    (line,) = try_it(rows=rows, arms=arms, **options)
    assert says in line
    assert len(line) < 900


def test_one_picture_under_two_subjects(try_it):
    def copy(path):
        if "20." in path.name:
            shutil.copy(path.with_name(path.name.replace("20.", "00.")), path)

    (line,) = try_it(files=copy)
    assert "same picture" in line


def test_a_network_of_the_other_dimensions(try_it):
    (line,) = try_it(network="torchvision:resnet18" if try_it.dims == 3 else "fusionconv:small_resnet")
    assert f"expected {5 - try_it.dims}-D images" in line


def flat(num_outputs, in_channels, image_size):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(in_channels * int(np.prod(image_size)), num_outputs))


def test_a_network_without_the_layer_of_an_arm_says_which_it_can_have(try_it):
    (line,) = try_it(network="tests.study.test_bad_input:flat", arms=["condconv@first"])
    assert "this network can have" in line


def test_weights_of_another_network(try_it, tmp_path):
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "w.pt")
    (line,) = try_it(weights=tmp_path / "w.pt")
    assert "weights: expected weights of this network" in line


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"threshold": "often"}, "threshold: expected a number or validation, got 'often'"),
        ({"milestones": "five"}, "milestones: expected whole numbers, got"),
        ({"epochs": "many"}, "epochs: expected a whole number, got 'many'"),
        ({"dims": 4}, "dims: expected 2 or 3, got 4"),
        ({"keep": "all"}, "keep: expected best, every or none, got 'all'"),
        ({"lr": "fast"}, "lr: expected a number, got 'fast'"),
        ({"limit": "x"}, "limit: expected a whole number or none, got 'x'"),
        ({"channels": 2}, "channels: expected 1, 3 or none, got 2"),
        ({"pretrained": "yess"}, "pretrained: expected true or false, got 'yess'"),
        (
            {"task": "guess"},
            "task: expected auto, binary, multiclass, multilabel, regression, survival, segmentation or restoration, got 'guess'",
        ),
        ({"missing": [1]}, r"missing: expected text or a number, got \[1\]"),
    ],
)
def test_values_of_another_type_in_plain_words(values, says):
    with pytest.raises(StudyError, match=f"^{says}"):
        make_settings(values)
