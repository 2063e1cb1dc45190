"""The command line: words to settings, YAML beside it, refusals that name the option, help that is short and quick."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from fusionconv.errors import StudyError
from fusionconv.study import settings as settings_module
from fusionconv.study.command import main, what_to_install
from fusionconv.study.command_line import parse
from fusionconv.study.folder import read_study
from fusionconv.study.help import help_text
from fusionconv.study.option_types import check_types
from fusionconv.study.own_options import OWN
from fusionconv.study.settings import Settings, differences, make_settings, require_writable

DERMOSCOPY = """--table T.csv --images DIR --image-column image_id --suffix .jpg --subject lesion_id --target dx
    --covariates age sex localization --missing-codes unknown --network timm:resnet18 --image-size 64 --channels 3
    --arms image covariates concat hybrid@first hybrid@last film@last --folds 3 --repeats 1 --epochs 2 --batch-size 64
    --limit 600 --seed 0 --out OUT --positive mel bcc akiec""".split()  # noqa: SIM905
BRAINS = """--table T.csv --images DIR --image-column file --subject patient --target grade --covariates age gender
    --kinds gender=categorical --dims 3 --network monai:resnet18 --image-size 48 48 24 --spacing 3.75 3.75 6
    --arms image hybrid@last --out OUT --trainer.precision bf16-mixed --trainer.devices 2 --tune lr=1e-3,3e-3 rank=2,4
    """.split()  # noqa: SIM905


def test_the_promised_lines():
    given = parse("compare", DERMOSCOPY)
    settings = make_settings(given.settings)
    assert settings.covariates == ["age", "sex", "localization"]
    assert (settings.size, settings.suffix, settings.missing_codes) == ((64, 64), ".jpg", ["unknown"])
    assert settings.positive == ["mel", "bcc", "akiec"]
    assert given.own["arms"][-1] == "film@last"
    given = parse("compare", BRAINS)
    settings = make_settings(given.settings)
    assert settings.size == (48, 48, 24)
    assert settings.spacing == [3.75, 3.75, 6.0]
    assert settings.kinds == {"gender": "categorical"}
    assert settings.trainer == {"precision": "bf16-mixed", "devices": 2}
    assert settings.tune == {"lr": [1e-3, 3e-3], "rank": [2, 4]}


def test_yaml_and_the_command_line_give_the_same(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "table: T.csv\ntarget: dx\nlr: 1e-5\nimage-size: [48, 24]\narms: [image, {arm: hybrid@first, rank: 2}]\n"
        "kinds: {laterality: {kind: categorical, unknown: ignore}, gender: {kind: binary, codes: {1: 0, 2: 1}}}\n"
    )
    given = parse("compare", ["--config", str(file), "--out", "O", "--image-size", "32"])
    settings = make_settings(given.settings)
    assert settings.lr == 1e-5
    assert settings.size == (32, 32)  # the command line wins
    assert settings.target == ["dx"]
    assert settings.kinds["gender"]["codes"] == {1: 0, 2: 1}
    assert given.own["arms"][1] == {"arm": "hybrid@first", "rank": 2}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--tabel T.csv", "did you mean --table"),
        ("--out O --table", "--table: expected a value"),
        ("table.csv", "expected an option"),
        ("--table T.csv", "expected --out"),
        ("--out O --config nowhere.yaml", "expected a YAML file"),
        ("--out O --jobs two", "jobs: expected a whole number"),
        ("--out O --minutes soon", "minutes: expected a number"),
        ("--out O --minutes true", "minutes: expected a number"),
    ],
)
def test_words_that_are_none(words, says):
    with pytest.raises(StudyError, match=says):
        parse("compare", words.split())


NAMES = [(c, n) for c, own in OWN.items() for n, (d, _) in own.items()
         if d is None or isinstance(d, str)]  # fmt: skip


@pytest.mark.parametrize(("command", "name"), NAMES)
@pytest.mark.parametrize("value", ["2024", "1e-3", "007", "true"])
def test_names_stay_text_also_where_they_look_like_numbers(tmp_path, command, name, value):
    needed = {n: "x" for n, (d, text) in OWN[command].items() if "(needed)" in text}
    words = [w for n, v in {**needed, name: value}.items() for w in (f"--{n}", v)]
    assert parse(command, words).own[name] == value
    if command == "compare":
        config = tmp_path / "c.yaml"
        config.write_text(f"{name}: 2024\n")
        rest = [w for n in needed if n != name for w in (f"--{n}", "x")]
        assert parse(command, ["--config", str(config), *rest]).own[name] == "2024"


def test_columns_may_be_called_as_numbers_are(tmp_path):
    words = ["--covariates", "age", "2019", "--subject", "3", "--target", "2020", "--epochs", "4", "--out", "o"]
    by_words = make_settings(parse("compare", words).settings)
    (config := tmp_path / "c.yaml").write_text("covariates: [age, 2019]\nsubject: 3\ntarget: 2020\nepochs: 4\n")
    by_file = make_settings(parse("compare", ["--config", str(config), "--out", "o"]).settings)
    assert by_words == by_file
    assert (by_file.covariates, by_file.subject, by_file.target, by_file.epochs) == (["age", "2019"], "3", ["2020"], 4)


@pytest.mark.parametrize("command", ["fit", "lr-find", "diagram"])
def test_one_arm_may_have_options(command):
    arm = {"arm": "hybrid@first", "rank": 2}
    assert parse(command, ["--arm", "{arm: hybrid@first, rank: 2}", "--out", "O"]).own["arm"] == arm


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"epochs": "many"}, "epochs"),
        ({"dims": 4}, "dims"),
        ({"epochs": 0}, "epochs: expected a whole number of at least 1"),
        ({"batch_size": 1}, "at least 2"),
        ({"decimal": ";"}, r"decimal: expected \. or ,, got ';'"),
        ({"lr": 0.0}, "lr and covariate_lr"),
        ({"val_size": 1.0}, "share"),
        ({"image_size": [1, 2, 3]}, "image_size: expected one number or 2"),
        ({"threshold": 2.0}, "threshold"),
        ({"optimiser": "adam"}, "did you mean optimizer"),
        ({"network_options": [1]}, "network_options"),
        ({"table": pd.DataFrame({"a": [1]})}, "table: expected a path, got DataFrame; write it to a file"),
    ],
)
def test_values_that_are_none(values, says):
    with pytest.raises(StudyError, match=says):
        make_settings(values)


def test_every_setting_has_a_line_of_help_and_the_help_is_short():
    text = help_text("compare", "compare")
    assert len(text.splitlines()) <= 100
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in text, name


def test_the_defaults_pass_their_own_types():
    assert check_types(Settings().to_dict()) == Settings()
    assert differences(Settings().to_dict(), make_settings({"lr": 0.1}).to_dict()) == {"lr": (0.001, 0.1)}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from fusionconv.study.command import main; main(['--help']); main(['compare', '--help'])\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'lightning', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


IMPORTED = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml", "jsonargparse[signatures]": "jsonargparse",
            "fusionconv[explain]": "captum"}  # fmt: skip


def test_without_the_extra_one_line_says_what_to_install():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["optional-dependencies"]["study"]:
        name = re.split(r"[<>=]", line)[0]
        assert "[study]" in what_to_install(ModuleNotFoundError(name=IMPORTED.get(name, name)))
    assert what_to_install(ModuleNotFoundError(name="mine")) is None  # a network of one's own
    code = (
        "import sys; sys.modules['jsonargparse'] = None; from fusionconv.study.command import main\n"
        "assert main(['--help']) == 0\nassert main(['demo']) == 2"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "expected the package jsonargparse, got none; pip install 'fusionconv[study]'"
    assert done.stderr.startswith(f"fusionconv demo: {expected}")


def test_a_wrong_path_is_refused_in_one_line_before_torch_is_loaded(capsys, tmp_path):
    assert main(["compare", "--table", str(tmp_path / "no.csv"), "--target", "y", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    code = (
        "import sys; from fusionconv.study.command import main\n"
        "assert main(['compare', '--table', 'no.csv', '--target', 'y', '--out', 'o']) == 2\n"
        "assert main(['compaer']) == 2 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_times_in_a_config_stay_text_and_numbers_numbers(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("launcher: slurm\nlauncher_options: {time: 2:00:00, b: 1:30.5, gpus: 2, c: 1e-5, d: 1.5}\n")
    given = parse("compare", ["--config", str(config), "--out", "o"])
    assert given.own["launcher_options"] == {"time": "2:00:00", "b": "1:30.5", "gpus": 2, "c": 1e-5, "d": 1.5}


@pytest.mark.parametrize(("command", "place"), [("report", "OUT"), ("explain", "STUDY")])
def test_a_folder_behind_the_command_stands_in_its_help(command, place):
    assert help_text(command, command).splitlines()[0] == f"usage: fusionconv {command} {place} [options]"
    assert place.lower() in parse(command, ["runs/x", *(["--arm", "image"] if command == "explain" else [])]).own


OF_A_PROGRAM = {"out": (None, "folder (needed)"), "source": ("bids", "kind"), "define": ({}, "columns")}


@pytest.mark.parametrize("command", ["inspect", "fit", "lr-find", "compare"])
def test_one_file_serves_every_command_of_a_study(tmp_path, command):
    config = tmp_path / "study.yaml"
    config.write_text("epochs: 3\narms: [image, concat]\narm: concat\nsteps: 7\nminutes: 5\n")
    words = ["--config", str(config), *(["--out", str(tmp_path / "out")] if "out" in OWN[command] else [])]
    given = parse(command, words)
    assert given.settings == {"epochs": 3}
    mine = {"arms": ["image", "concat"], "arm": "concat", "steps": 7, "minutes": 5}
    assert {k: v for k, v in given.own.items() if k in mine} == {k: v for k, v in mine.items() if k in OWN[command]}
    config.write_text("epochs: 3\narmz: [image]\n")
    with pytest.raises(StudyError, match="got --armz"):
        parse(command, words)


def test_a_program_on_top_has_options_of_its_own_in_one_file_with_a_studys(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 3\nx-brains: {source: ixi, define: {dx: {a: age > 3}}}\nx-other: {colour: red}\n")
    given = parse("crossval", ["--config", str(config), "--out", "O"], OF_A_PROGRAM, settings=True)
    assert given.settings == {"epochs": 3}
    assert given.own == {"out": "O", "source": "ixi", "define": {"dx": {"a": "age > 3"}}}
    given = parse("crossval", ["--config", str(config), "--out", "O", "--source", "table"], OF_A_PROGRAM, settings=True)
    assert given.own["source"] == "table"  # the command line wins
    assert parse("compare", ["--config", str(config), "--out", "O"]).settings == {"epochs": 3}  # theirs are left alone
    for words, source in (([], "ixi"), (["--config", str(tmp_path / "own.yaml")], "bids")):  # a program's own file
        (tmp_path / "own.yaml").write_text("x-brains: {source: bids}\n")
        given = parse("crossval", ["--out", "O", *words], OF_A_PROGRAM, settings=True, config=config)
        assert given.own["source"] == source
        assert given.settings == ({} if words else {"epochs": 3})  # one file or the other, never both
    config.write_text("x-brains: {source: ixi, defien: 1}\n")
    with pytest.raises(StudyError, match="did you mean --define"):
        parse("crossval", ["--config", str(config), "--out", "O"], OF_A_PROGRAM, settings=True)
    with pytest.raises(StudyError, match=r"got --epochs.*`brains predict --help`"):
        parse("predict", ["--epochs", "3"], OF_A_PROGRAM, settings=False, program="brains")


@pytest.mark.parametrize(
    ("out", "writable"),
    [
        ("new/deep", True),
        ("there", True),
        ("file.csv", True),
        ("file.csv/below", False),
        ("shut/new", False),
        ("shut", False),
    ],
)
def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path, monkeypatch, out, writable):
    (tmp_path / "there").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "file.csv").write_text("")
    monkeypatch.setattr(
        settings_module.os, "access", lambda path, mode: not str(path).endswith("shut")
    )  # also for root
    if writable:
        require_writable(tmp_path / out)
    else:
        with pytest.raises(StudyError, match=r"expected a place that can be written, got .*; give another --out"):
            require_writable(tmp_path / out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.csv", "shut", "there"]


@pytest.mark.parametrize(
    "words",
    [["--kinds", "{a:"], ["--kinds", "sex={a:"], ["--arms", "image", "{arm:"], ["--network-options", "[1"], ["--tune", "lr=[1"],
     ["--trainer.devices", "[1"], ["--positive", "[a"], ["--classes", "{a: 'b}"], ["--covariates", "{age,", "sex}"]],
)  # fmt: skip
def test_yaml_that_is_none_is_one_line(words):
    with pytest.raises(StudyError, match=r"expected YAML such as .*, got .*; close brackets, and put it in quotes"):
        parse("compare", ["--out", "O", *words])


@pytest.mark.parametrize("text", ["{a:", "", "[1, 2]", "settings: {}\n"])
def test_a_damaged_study_is_one_line(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"study\.yaml: expected .*; was it edited"):
        read_study(tmp_path)
