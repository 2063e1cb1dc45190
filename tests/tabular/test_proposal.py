"""inspect's proposed call, for many tables: it runs on the table as read, warns of nothing, and has no column warned of."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusionconv import tabular
from fusionconv.tabular import inspect_table, read_table
from fusionconv.tabular.__main__ import main

many = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ROWS = 24
SOME = {
    "age": st.integers(40, 90),
    "weight": st.floats(40, 120).map(lambda v: f"{v:.1f}"),
    "score": st.sampled_from(["12", "15", "20", "31", "-9998"]),
    "dash": st.sampled_from(["1.5", "2.25", "3", "4", "-"]),
    "word": st.sampled_from(["10", "20", "30", "40", "unknown"]),
    "mostly_words": st.sampled_from(["a", "b", "c", "99"]),
    "gender": st.sampled_from([1, 2]),
    "race": st.sampled_from([1, 2, 3, 4, 5, 9]),
    "sex": st.sampled_from(["F", "M", "NA", "refused"]),
    "hand": st.sampled_from(["left", "right", "n/a"]),
    "site": st.sampled_from(["A", "B", "C", "[Not Available]"]),
    "code": st.sampled_from(["001", "002", "010", "0"]),
    "zeros": st.sampled_from(["00000000", "00000001"]),
    "smoker": st.sampled_from(["True", "False", ""]),
    "flag": st.sampled_from([0, 1, 9]),
    "exam": st.sampled_from(["2011-03-05", "2012-03-05"]),
    "slashed": st.sampled_from(["9/8/2005", "1/12/2006"]),
    "tau": st.sampled_from([">1300", "<80", "200", "305.5", "-4"]),
    "plus": st.sampled_from(["+", "-", "++"]),
    "comma": st.sampled_from(["1,5", "2,5", "3,75"]),
    "mangled": st.sampled_from(["1.743.000", "1.512.000"]),
    "constant": st.just("Trio"),
    "noise": st.sampled_from(["14.62", "14.620000000000002"]),
    "empty": st.just(""),
    "inf": st.sampled_from(["1.5", "inf", "2.5"]),
    "free": st.text("abcdefgh ", min_size=5, max_size=12),
    "a": st.sampled_from(["b_c", "d", "e"]),
    "a_b": st.sampled_from(["c", "d", "e"]),
    "age_missing": st.sampled_from([0, 1]),
    "site_A": st.sampled_from([0.5, 1.5, 2.5]),
}


def leaks(frame):
    """Columns that say the target, and the id."""
    dx = frame["dx"]
    return frame.assign(
        dx_type=dx.map({"AD": "type 1", "CN": "type 2"}),
        dx_score=np.where(dx == "AD", 10, 20) + np.arange(len(dx)) % 5,
        madrs=np.where(dx == "AD", (np.arange(len(dx)) % 9).astype(str), ""),
        id=[f"{i:08d}" for i in range(len(dx))],
        rid=range(100, 100 + len(dx)),
    )


@st.composite
def tables(draw):
    names = draw(st.lists(st.sampled_from(list(SOME)), min_size=1, max_size=9, unique=True))
    columns = {}
    for name in names:
        values = draw(st.lists(SOME[name], min_size=ROWS, max_size=ROWS))
        holes = draw(st.sets(st.integers(0, ROWS - 1), max_size=2))
        columns[name] = ["" if i in holes else str(v) for i, v in enumerate(values)]
    frame = leaks(pd.DataFrame(columns).assign(dx=["AD", "CN"] * (ROWS // 2)))
    return frame[draw(st.permutations(list(frame)))]


@many
@given(tables(), st.booleans())
def test_the_proposed_call_runs_and_has_no_column_that_was_warned_of(frame, targeted):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "study.csv")
        frame.to_csv(path, index=False)
        report = inspect_table(read_table(path, numbers=False, missing=()), "dx" if targeted else None)
        read = read_table(path, text=[c for c in ("comma", "mangled") if c in frame])  # which it refuses as numbers
    if report.suggestion is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no doubt is left that fit would warn of
        encoder = eval(report.suggestion, {**vars(tabular), "training_rows": read})
        encoder = encoder if targeted else encoder.fit(read)
    by_name = {c.name: c for c in report.columns}
    assert encoder.get_feature_names_out().tolist() == [n for name in encoder.columns for n in by_name[name].covariates]
    encoder.transform(read)
    for name in encoder.columns:
        assert all("whole numbers" in note for note in by_name[name].notes)  # and those are declared as codes
    if targeted:
        assert not {"dx_type", "dx_score", "madrs", "dx"} & set(encoder.columns)
    assert not {"id", "rid"} & set(encoder.columns)
    for name, rows in zip(encoder.columns, encoder.groups.values(), strict=True):
        words = ["-9998", "NA", "n/a", "refused", "unknown", "[Not Available]"]
        lost = frame[name].isin(["", *words]).to_numpy()
        if lost.any():
            assert (encoder.transform(read)[:, rows.stop - 1] >= lost).all()  # the indicator


@pytest.mark.parametrize("values", [["00000000", "00000001"] * 6, [f"{i:08d}" for i in range(12)]])
def test_ids_with_leading_zeros_stop_no_call(values):
    frame = pd.DataFrame({"id": values, "age": [60, 61, 62, 63] * 3})
    report = inspect_table(frame)
    eval(report.suggestion, vars(tabular)).fit(frame)


def test_the_command_proposes_what_runs_and_says_how_to_read_a_dash_as_missing(tmp_path, capsys):
    path = tmp_path / "study.csv"
    path.write_text("age,tau\n" + "\n".join(f"{60 + i % 7},{v}" for i, v in enumerate(["1.5", "2.5", "-", "4"] * 5)))
    assert main(["inspect", str(path), "--json"]) == 0
    told = json.load(io.StringIO(capsys.readouterr().out))
    assert told["suggestion"] == "CovariateEncoder(['age'])"
    (note,) = told["columns"][1]["notes"]
    assert "read_table(..., missing=[*MISSING, '-'])" in note
    assert not told["columns"][0]["left_out"]
    assert told["columns"][1]["left_out"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_table(path, missing=[*tabular.MISSING, "-"])
    assert again["tau"].isna().sum() == 5
    assert again["tau"].dtype == float


def test_declared_kinds_are_plain_data_for_yaml(tmp_path):
    frame = pd.DataFrame({"gender": [1, 2, 2, 9] * 6, "race": [1, 2, 3, 4] * 6, "score": [10, 30, 20, -9999] * 6})
    report = inspect_table(frame)
    kinds = {c.name: c.declared for c in report.columns if c.declared}
    assert kinds == json.loads(
        json.dumps(kinds), object_hook=lambda d: {int(k) if k.isdigit() else k: v for k, v in d.items()}
    )
    encoder = tabular.CovariateEncoder(list(frame), kinds, missing="mean").fit(frame)
    assert encoder == eval(report.suggestion, vars(tabular)).fit(frame)
