"""``python -m fusionconv.tabular inspect``: what it finds in a table with known troubles, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.tabular import Binary, CovariateEncoder, Numeric, inspect_table
from fusionconv.tabular.__main__ import main, render

ROWS = 40


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    dx = np.array(["CN", "AD"])[np.arange(ROWS) % 2]
    frame = pd.DataFrame(
        {
            "id": [f"sub-{i:02d}" for i in range(ROWS)],
            "rid": range(100, 100 + ROWS),
            "age": rng.integers(55, 90, ROWS).astype(str),
            "sex": rng.choice(["F", "M"], ROWS),
            "site": rng.choice(["A", "B", "C"], ROWS),
            "scanner": "Trio",
            "weight": [f"{w:.1f}".replace(".", ",") for w in rng.normal(70, 9, ROWS)],
            "etiv": ["1.743.000", "1.512.000"] * (ROWS // 2),
            "tau": rng.choice([">1300", "<80", "200", "305.5"], ROWS),
            "exam": "2011-03-05",
            "mixed": rng.choice(["1", "2", "high"], ROWS),
            "nothing": "",
            "mmse": np.where(dx == "CN", rng.integers(28, 31, ROWS), rng.integers(10, 20, ROWS)).astype(str),
            "madrs": np.where(dx == "AD", rng.integers(5, 20, ROWS).astype(str), ""),
            "dx": dx,
        }
    )
    frame.loc[[0, 5], "age"] = "-4"
    frame.loc[3, "age"] = ""
    frame.loc[[1, 2], "site"] = "NA"
    return frame


def by_name(report):
    return {c.name: c for c in report.columns}


def test_types_holes_ranges_and_codes(table):
    found = by_name(inspect_table(table))
    types = {name: c.type for name, c in found.items()}
    assert types == {
        "id": "text",
        "rid": "number",
        "age": "number",
        "sex": "text",
        "site": "text",
        "scanner": "text",
        "weight": "number",
        "etiv": "number with thousands marks",
        "tau": "censored number",
        "exam": "date",
        "mixed": "text",
        "nothing": "empty",
        "mmse": "number",
        "madrs": "number",
        "dx": "text",
    }
    assert found["age"].missing == 1
    assert (found["age"].lowest, found["rid"].lowest, found["rid"].highest) == (-4, 100, 139)
    assert [(c["value"], c["rows"]) for c in found["age"].codes] == [(-4, 2)]
    assert [(c["value"], c["rows"]) for c in found["site"].codes] == [("NA", 2)]
    assert found["site"].missing_percent == pytest.approx(5)
    assert found["nothing"].missing_percent == 100


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("id", "an identifier?"),
        ("rid", "an identifier?"),
        ("scanner", "constant"),
        ("weight", "decimal commas: read the table with decimal=','"),
        ("etiv", "a spreadsheet may have rewritten them"),
        ("mixed", "text and numbers mixed (2 of 3 different values)"),
        ("nothing", "a value in some training rows, got none"),
        ("mmse", "nearly says dx: does it define it?"),
        ("madrs", "never there where dx is CN: the hole itself says the target"),
    ],
)
def test_troubles_are_noted(table, name, note):
    assert note in "; ".join(by_name(inspect_table(table, "dx"))[name].notes)


def test_columns_without_trouble_have_no_note(table):
    found = by_name(inspect_table(table, "dx"))
    assert [name for name in ("age", "sex", "site", "tau") if found[name].notes] == []


def test_the_target_is_compared_and_never_encoded(table):
    found = by_name(inspect_table(table, "dx"))
    assert found["mmse"].association.measure == "AUC for CN"
    assert found["mmse"].association.value == 1
    assert found["dx"].covariates == []
    assert found["id"].association is None
    assert "'dx'" not in inspect_table(table, "dx").suggestion.split(".fit")[0]


def test_the_suggested_encoder_works_on_the_typed_table_and_makes_what_was_said(table):
    names = ["age", "sex", "site", "tau"]
    report = inspect_table(table, "dx", columns=names)
    assert report.suggestion == (
        "CovariateEncoder(['age', 'sex', 'site', 'tau'], {'age': Numeric(missing_codes=[-4, 'NA'])}, missing='mean', "
        "missing_codes=['NA']).fit(training_rows, target='dx')"
    )
    rows = table.assign(age=pd.to_numeric(table["age"]))
    known = {"CovariateEncoder": CovariateEncoder, "Numeric": Numeric, "Binary": Binary, "training_rows": rows}
    encoder = eval(report.suggestion, known)
    assert list(encoder.get_feature_names_out()) == [n for c in report.columns for n in c.covariates]
    age = dict(zip(encoder.get_feature_names_out(), encoder.transform(rows).T, strict=True))
    np.testing.assert_array_equal(np.flatnonzero(age["age_missing"]), [0, 3, 5])


def test_a_code_beside_flags_is_suggested_for_a_binary_column():
    report = inspect_table(pd.DataFrame({"smoker": [0, 1, 1, 0, 9]}))
    assert report.suggestion == "CovariateEncoder(['smoker'], {'smoker': Binary(missing_codes=[9])}, missing='mean')"


def test_text_and_typed_tables_are_told_alike():
    typed = pd.DataFrame({"age": [61.0, None, 70.5, 999.0], "flag": [True, False, True, True], "visit": [1, 2, 1, 3]})
    text = pd.DataFrame({"age": ["61", "", "70.5", "999"], "visit": ["1", "2", "1", "3"]})
    one, two = by_name(inspect_table(typed)), by_name(inspect_table(text))
    for name in ("age", "visit"):
        assert one[name] == two[name]
    assert one["flag"].covariates == ["flag"]


def test_inspection_changes_nothing(table):
    before = table.copy()
    inspect_table(table, "dx")
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("frame", [pd.DataFrame({"a": []}), pd.DataFrame(), pd.DataFrame([[1]])])
def test_a_table_without_rows_or_names_is_refused(frame):
    with pytest.raises(TableError, match="a table with rows and named columns"):
        inspect_table(frame)


# the command


def write(table, path):
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep={".csv": ",", ".tsv": "\t", ".txt": ";"}[path.suffix])
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".xlsx", ".parquet"])
def test_the_command_reads_every_format(table, tmp_path, capsys, suffix):
    path = write(table, tmp_path / f"study{suffix}")
    assert main(["inspect", str(path), "--target", "dx"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == f"{path}: 40 rows, 15 columns"
    place = lines[1].index("covariates")
    assert {line[place - 1] for line in lines[2:17]} == {" "}  # aligned
    assert next(line for line in lines if line.startswith("sex "))[place:] == "sex_M"
    assert "  age: -4 in 2 rows is apart from the others" in printed.out
    assert "AUC for CN 1.00" in printed.out


def test_the_command_prints_json(table, tmp_path, capsys):
    path = write(table, tmp_path / "study.csv")
    assert main(["inspect", str(path), "--target", "dx", "--columns", "age", "mmse", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in told["columns"]] == ["age", "mmse"]
    assert told["rows"] == ROWS
    assert told["columns"][0]["missing_percent"] == 2.5
    assert told["columns"][0]["codes"] == [{"value": -4, "rows": 2, "reason": told["columns"][0]["codes"][0]["reason"]}]
    assert told["columns"][1]["association"] == {"measure": "AUC for CN", "value": 1.0, "rows": ROWS}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-file.csv"], "no-such-file.csv"),
        (["{csv}", "--target", "DX"], "unknown column 'DX'; did you mean 'dx'?"),
        (["{csv}", "--columns", "age", "Sex"], "unknown column 'Sex'; did you mean 'sex'?"),
        (["{empty}"], "empty"),
        (["{folder}"], "{folder}"),
    ],
)
def test_a_failure_is_one_message_and_status_2(table, tmp_path, capsys, arguments, says):
    places = {"csv": write(table, tmp_path / "study.csv"), "empty": tmp_path / "empty.csv", "folder": tmp_path}
    places["empty"].write_text("")
    assert main(["inspect", *(a.format(**places) for a in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says.format(**places).lower() in printed.err.lower()
    assert "Traceback" not in printed.err


def test_it_runs_as_a_module_and_help_says_what_it_does(table, tmp_path):
    path = write(table, tmp_path / "study.csv")
    run = [sys.executable, "-m", "fusionconv.tabular", "inspect"]
    done = subprocess.run([*run, str(path)], capture_output=True, text=True, check=True)
    assert "age" in done.stdout
    told = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in told for word in ("--target", "--columns", "--json", "FILE", "Parquet"))
    failed = subprocess.run([*run, str(tmp_path / "none.csv")], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr


DATA = os.environ.get("FUSIONCONV_TEST_DATA")


@pytest.mark.skipif(DATA is None, reason="FUSIONCONV_TEST_DATA does not say where ds002748_mini is")
def test_the_real_participants_table(capsys):
    path = Path(DATA) / "ds002748_mini" / "participants.tsv"
    assert main(["inspect", str(path), "--target", "group", "--json"]) == 0
    told = {c["name"]: c for c in json.loads(capsys.readouterr().out)["columns"]}
    plain = pd.read_csv(path, sep="\t")
    for name in plain:
        assert told[name]["missing"] == plain[name].isna().sum(), name
        assert told[name]["distinct"] == plain[name].nunique(), name
    assert (told["age"]["lowest"], told["age"]["highest"]) == (plain["age"].min(), plain["age"].max())
    assert told["participant_id"]["covariates"] == []
    assert told["Edinburgh"]["codes"][0]["value"] == "n/a"  # and -9, which is a value there, is not among them
    assert len(told["Edinburgh"]["codes"]) == 1
    assert any("never there where group is control" in note for note in told["MADRS"]["notes"])


def test_wide_cells_are_cut(table):
    many = pd.DataFrame({"site": [f"hospital number {i % 20}" for i in range(60)]})
    assert max(map(len, render(inspect_table(many)).splitlines()[:3])) < 160


@pytest.mark.parametrize(
    "values",
    [
        [1.0, np.inf, -np.inf],
        pd.Series([1, 10**400, 2], dtype=object),
        [[1], [2], None],
        [object(), 1, "a"],
        pd.to_datetime(["2000-01-01", None, "2001-01-01"]).tz_localize("UTC"),
        [pd.Timestamp("2000-01-01"), "2000-01-01", None],
        pd.Categorical([True, False, True]),
        [1 + 2j, 2, 3],
        pd.period_range("2000", periods=3, freq="Y"),
    ],
)
def test_odd_cells_are_told_of_and_do_not_stop_it(values):
    report = inspect_table(pd.DataFrame({"odd": values, "y": [0, 1, 1]}), "y")
    assert render(report).startswith("table: 3 rows, 2 columns")
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_command_takes_a_sheet(tmp_path, capsys):
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"age": [61, 70]}).to_excel(book, sheet_name="first", index=False)
        pd.DataFrame({"weight": [81, 70]}).to_excel(book, sheet_name="second", index=False)
    assert main(["inspect", str(tmp_path / "t.xlsx")]) == 2
    assert main(["inspect", str(tmp_path / "t.xlsx"), "--sheet", "second"]) == 0
    assert "weight" in capsys.readouterr().out
