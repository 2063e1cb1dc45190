"""Dates stored as numbers (20050908) are no measures; pandas categories are read as the same text would be."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import CovariateEncoder, inspect_table, read_table
from fusionconv.tabular.kinds import Age, Numeric

DAYS = pd.date_range("1937-03-01", periods=30, freq="397D")
NUMBERS = DAYS.strftime("%Y%m%d").astype(int)

COLUMNS = {
    "int64": pd.Series(NUMBERS, dtype="int64"),
    "float64": pd.Series(NUMBERS, dtype="float64"),
    "float with holes": pd.Series(NUMBERS, dtype="float64").where(np.arange(30) % 4 > 0),
    "Int64 with holes": pd.Series(NUMBERS, dtype="Int64").where(np.arange(30) % 4 > 0),
    "object": pd.Series(NUMBERS.tolist(), dtype=object),
    "two": pd.Series([20050908, 20050909] * 5),
    "with a code": pd.Series([*NUMBERS, -9]),
    "with nines": pd.Series([*NUMBERS, 99999999, 99999999]),
    "with a zero": pd.Series([*NUMBERS, 0, 0, 0]),
    "with times": pd.Series(NUMBERS.astype("int64") * 1_000_000 + 103059),
    "to minutes": pd.Series(NUMBERS.astype("int64") * 10_000 + 1030),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_dates_stored_as_numbers_are_no_measure(name):
    frame = COLUMNS[name].to_frame("scan")
    with pytest.raises(TableError, match=r"'scan'.*dates.*Age\(at=\.\.\., format='%Y%m%d"):
        CovariateEncoder(["scan"], missing="mean").fit(frame)
    report = inspect_table(frame)
    assert report.columns[0].covariates == []
    assert report.suggestion is None
    assert "format='%Y%m%d" in "; ".join(report.columns[0].notes)


def test_read_table_and_the_encoder_together_refuse_them(tmp_path):
    (tmp_path / "t.csv").write_text("scan,age\n" + "".join(f"{n},{60 + i % 9}\n" for i, n in enumerate(NUMBERS)))
    frame = read_table(tmp_path / "t.csv")
    with pytest.raises(TableError, match="such as 19370301"):
        CovariateEncoder(["scan", "age"]).fit(frame)
    assert inspect_table(frame).suggestion == "CovariateEncoder(['age'])"
    with pytest.raises(TableError, match=r"format='%Y%m%d'"):
        CovariateEncoder(["scan"]).fit(frame.astype({"scan": str}))


@pytest.mark.parametrize(
    "values",
    [
        [20050908, 20051399, 20060101],  # no month 13
        [20050230, 20050908, 20060101],  # no 30 February
        [18991231, 20050908, 20060101],  # before 1900
        [21010101, 20050908, 20060101],  # after 2100
        [20050908.5, 20050908, 20060101],
        [20050908, 1104500, 20060101],
        [1987, 2005, 2020],  # years are a measure
        [200509, 200610, 200701],
        [1104500, 1743000, 1512000],
    ],
)
def test_other_large_numbers_are_measures(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        assert CovariateEncoder(["x"]).fit(pd.DataFrame({"x": values * 3})).transform(
            pd.DataFrame({"x": values})
        ).shape == (3, 1)


def test_age_and_numeric_say_what_they_are():
    frame = pd.DataFrame({"birth": NUMBERS})
    encoder = CovariateEncoder(["birth"], {"birth": Age(at="2020-01-31", format="%Y%m%d", scaling="none")}).fit(frame)
    years = (pd.Timestamp("2020-01-31") - DAYS) / pd.Timedelta(days=365.25)
    np.testing.assert_allclose(encoder.transform(frame)[:, 0], years, rtol=1e-6)
    declared = CovariateEncoder(["birth"], {"birth": Numeric(scaling="none")}).fit(frame).transform(frame)
    np.testing.assert_array_equal(declared[:, 0], NUMBERS.to_numpy(np.float32))


CELLS = {
    "words": ["AD", "CN", "MCI", "CN"],
    "two words": ["F", "M", "F", "F"],
    "one word": ["Trio", "Trio", "Trio", "Trio"],
    "bounds": ["<8", "12", ">1700", "9"],
    "caps": ["89+", "61", "70", "70"],
    "ages": ["045Y", "006M", "061Y", "061Y"],
    "ranges": ["45-50", "50-55", "45-50", "55-60"],
    "units": ["172 cm", "168 cm", "181 cm", "168 cm"],
    "per cent": ["12%", "13%", "50%", "12%"],
    "pairs": ["120/80", "130/85", "120/80", "110/70"],
    "ISO dates": ["2005-09-08", "2006-01-02", "2005-09-08", "2007-03-04"],
    "other dates": ["9/8/2005", "10/29/2006", "9/8/2005", "1/2/2007"],
    "decimal commas": ["61,5", "70,25", "80,0", "61,5"],
    "thousands": ["1.743.000", "1.104.500", "1.743.000", "1.200.300"],
    "codes": ["007", "008", "007", "009"],
    "numbers": ["61", "70", "61", "82"],
    "spellings": ["M", "male", "F", "F"],
    "an odd cell": ["yes", "no", "unknown", "12%"],
    "many": [f"word{'abcdefghij'[i % 10]}{'abcdefghij'[i // 10]}" for i in range(60)],
}


def fitted(column):
    """The columns and their numbers, or the error."""
    frame = column.to_frame("x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        try:
            encoder = CovariateEncoder(["x"]).fit(frame)
        except TableError as error:
            return str(error)
        return encoder.get_feature_names_out().tolist(), encoder.transform(frame).tolist()


@pytest.mark.parametrize("name", CELLS)
def test_a_pandas_category_is_read_as_its_text(name):
    text = pd.Series(CELLS[name], dtype=object)
    assert fitted(text.astype("category")) == fitted(text)
    unused = text.astype(pd.CategoricalDtype([*dict.fromkeys(CELLS[name]), "99 cm", "elsewhere"]))
    assert fitted(unused) == fitted(text)
    report = [inspect_table(c.to_frame("x")).columns[0] for c in (text, text.astype("category"))]
    assert report[0] == report[1]


@pytest.mark.parametrize("name", CELLS)
def test_a_parquet_file_of_categories_reads_as_one_of_text(name, tmp_path):
    text = pd.Series([*CELLS[name], "NA"], dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        outcomes = []
        for dtype in (object, "category"):
            pd.DataFrame({"x": text.astype(dtype)}).to_parquet(tmp_path / "t.parquet")
            try:
                outcomes.append(read_table(tmp_path / "t.parquet")["x"].fillna("missing").tolist())
            except TableError as error:
                outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_an_ordered_category_and_a_category_of_numbers_stay_declared():
    ordered = pd.Series(pd.Categorical(["45-50", "50-55", "45-50"], categories=["45-50", "50-55"], ordered=True))
    names, rows = fitted(ordered)
    assert names == ["x"]
    assert rows[0] == rows[2] < rows[1]
    assert fitted(pd.Series([1, 2, 3, 2], dtype="category"))[0] == ["x_1", "x_2", "x_3"]
