"""Paths that are wrong, and places that cannot be written to: one line, soon, and nothing is left behind."""

import logging
import os
import subprocess
import sys

import pytest

from recipes.celeba import paths
from recipes.celeba.__main__ import main
from recipes.common.own_config import configured, said
from recipes.common.runs import RunError, RunFolder, require_writable
from recipes.common.settings import differences
from recipes.common.trainer import hide_advertisements
from tests.recipes.celeba.conftest import SMALL

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def fails(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    return line


@pytest.fixture
def no_access(tmp_path, monkeypatch):
    """A folder that nobody may write into; the superuser may, so that the system's answer is put on."""
    folder = tmp_path / "locked"
    folder.mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(folder) and real(path, mode))
    return folder


@pytest.mark.parametrize("command", ["fit", "lr_find", "crossval"])
def test_a_folder_that_cannot_be_written(celeba, tmp_path, no_access, capsys, command):
    (tmp_path / "file").write_text("x")
    options = [command, f"--data.root={celeba}", "--experiment=x", *SMALL]
    assert "is not writable" in fails(capsys, [*options, f"--root_dir={no_access}/deeper"])
    assert "is a file" in fails(capsys, [*options, f"--root_dir={tmp_path}/file"])
    assert "is a file" in fails(capsys, [*options, f"--root_dir={tmp_path}/file/deeper"])
    assert "cannot be made" in fails(capsys, [*options, f"--root_dir={tmp_path}/{'n' * 300}"])
    assert not any(no_access.iterdir())
    assert (tmp_path / "file").read_text() == "x"


def test_require_writable_makes_nothing(tmp_path, no_access):
    require_writable(tmp_path / "a/b/c", "--out")
    assert {path.name for path in tmp_path.iterdir()} == {"locked"}
    with pytest.raises(RunError, match="cannot be written to"):
        require_writable(no_access, "--out")


def test_the_system_has_the_last_word(tmp_path, capsys, monkeypatch):
    """Where access() says yes and the system no (a network drive, a full disk), it is a line too."""
    monkeypatch.setattr(paths, "check_paths", lambda *_: None)
    (tmp_path / "file").write_text("x")
    assert "expected a place" in fails(capsys, ["demo", f"--out={tmp_path}/file/x"])


@pytest.mark.parametrize(
    "change",
    [
        "--data.covariates=[Male,Smilng]", "--data.image_size=16", "--data.root=absent", "--model.weights=absent.pt",
        "--ckpt_path=last", "--model.arch=resnet81", "--model.layer_idx=99", "--monitor=accuracy",
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", ["there", "new/deeper"])
def test_a_fit_that_is_refused_leaves_no_folder(celeba, tmp_path, capsys, change, root):
    (tmp_path / "there").mkdir()
    argv = ["fit", f"--data.root={celeba}", f"--root_dir={tmp_path / root}", "--experiment=x", *SMALL]
    fails(capsys, [*argv, "--model.arm=hybrid", change])
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_what_was_there_stays(tmp_path):
    """A refused run removes what it made, and nothing else."""
    folder = RunFolder(tmp_path / "runs", "x")
    (tmp_path / "runs/x").mkdir(parents=True)
    (tmp_path / "runs/x/notes.txt").write_text("mine")
    with pytest.raises(RunError), folder.logging():
        raise RunError("refused")
    assert (tmp_path / "runs/x/notes.txt").read_text() == "mine"
    other = RunFolder(tmp_path / "runs", "y")
    with pytest.raises(RunError), other.logging():
        raise RunError(f"refused {(other.path / 'notes.txt').write_text('mine')}")
    assert [path.name for path in other.path.iterdir()] == ["notes.txt"]
    begun = RunFolder(tmp_path / "runs", "z")
    with pytest.raises(RunError), begun.logging(begun=lambda: True):
        raise RunError("the loss is nan")
    assert "stopped: the loss is nan" in (begun.path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fit", "--data.root", "absent"], "img_align_celeba"),
        (["fit", "--config", "absent.yaml"], "there is no such file"),
        (["fit", "--model.weights=absent.pth"], "is no file"),
        (["test", "--experiment=absent"], "there is no run"),
        (["validate", "--ckpt_path", "absent.ckpt", "--config=recipes/celeba/configs/plain.yaml"], "no checkpoint"),
        (["crossval", "--data.root=absent"], "img_align_celeba"),
        (["lr_find", "--data.root=absent"], "img_align_celeba"),
        (["predict", "--checkpoint=absent.ckpt"], "no checkpoint"),
        (["explain", "--images=absent"], "folder of images"),
        (["robustness", "--root=absent"], "img_align_celeba"),
        (["predict", "--table=absent.csv"], "no such file"),
    ],
)
def test_a_wrong_path_is_refused_before_the_command_is_imported(monkeypatch, capsys, argv, words):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert words in fails(capsys, argv)


def test_that_needs_no_heavy_import():
    code = "import sys, recipes.celeba.__main__; print([m for m in ('lightning', 'torchvision', 'pandas', 'monai') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_options_are_read_as_the_parser_reads_them(tmp_path):
    assert said(["--a", "1", "--a=2", "--ab=3"], "a") == "2"
    assert said(["--a"], "a") is None
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("data: {root: first, limit: 3}\n")
    two.write_text("data: {root: second}\nmodel:\n")
    assert configured([], [one, two], "data", "root") == "second"
    assert configured([], [one, two], "data", "limit") == 3
    assert configured(["--data.root=third"], [one, two], "data", "root") == "third"
    assert configured([], [one, two], "model", "weights") is None


def test_settings_that_differ_are_named():
    there = {"data": {"size": 64, "limit": None}, "lr": 0.1, "arm": {"rank": 2}}
    here = {"data": {"size": 32, "limit": None}, "lr": 0.1, "arm": {"rank": 2}, "seed": 1}
    assert differences(there, here) == ["data.size: 64 there, 32 here", "seed: absent there, 1 here"]
    assert differences(here, here) == []
    assert len(differences({"rows": "x" * 5000}, {"rows": "y" * 5000})[0]) < 300


def test_advertisements_are_hidden(caplog):
    hide_advertisements()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=logger.name):
        logger.info("\N{ELECTRIC LIGHT BULB} Tip: try installing [litlogger](https://pypi.org/project/litlogger/)")
        logger.info("\N{ELECTRIC LIGHT BULB} Tip: try installing [litmodels]")
        logger.info("GPU available: False")
    assert [record.getMessage() for record in caplog.records] == ["GPU available: False"]
