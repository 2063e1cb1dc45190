"""One grammar of text cells: each shape goes through the readers, inspect and the encoder, with one meaning or a refusal.

What a shape means is written out here by hand; nothing is taken from fusionconv.tabular.text.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import CovariateEncoder, inspect_table, read_bids, read_table
from fusionconv.tabular.kinds import Age, Binary, Categorical, Censored, Numeric, Ordinal

DAY = 1 / 365.25

#: What is understood: the cells, their numbers, and the side of each (0: a plain number).
NUMBERS = {
    "decimals": (["61.5", "-4.25", "7.", ".5"], [61.5, -4.25, 7, 0.5]),
    "whole": (["61", "70", "-4", "+8"], [61, 70, -4, 8]),
    "exponents": (["1.5e3", "1e+03", "2.5E-2", "1e-05"], [1500, 1000, 0.025, 1e-5]),
    "typeset minus": (["\N{MINUS SIGN}4.5", "3.5", "\N{MINUS SIGN}.5"], [-4.5, 3.5, -0.5]),
    "wide digits": (["６１.5", "70", "80"], [61.5, 70, 80]),
    "outer spaces": ([" 61.5", "70 ", "\N{NO-BREAK SPACE}80"], [61.5, 70, 80]),
}
BOUNDS = {
    "<": (["<8", "< 9.5", "203.1", "10"], [8, 9.5, 203.1, 10], [-1, -1, 0, 0]),
    ">": ([">1700", "> 1.7e3", "203.1"], [1700, 1700, 203.1], [1, 1, 0]),
    "+": (["89+", "89 +", "45", "89.5+"], [89, 89, 45, 89.5], [1, 1, 0, 1]),
    "1700+": (["1700+", "1200", "800"], [1700, 1200, 800], [1, 0, 0]),
    "≤": (["≤8", "≤ 8.5", "61"], [8, 8.5, 61], [-1, -1, 0]),
    "≥": (["≥89", "≥ 90", "61"], [89, 90, 61], [1, 1, 0]),
    "<=": (["<=8", "=<9", ">=89", "=>90", "61"], [8, 9, 89, 90, 61], [-1, -1, 1, 1, 0]),
    "all": (
        ["<8", ">1700", "89+", "≤8", "≥89", "<=8", "1700+"],
        [8, 1700, 89, 8, 89, 8, 1700],
        [-1, 1, 1, -1, 1, -1, 1],
    ),
}
AGES = {
    "years": (["045Y", "061Y", "007Y"], [45, 61, 7]),
    "all units": (["045Y", "006M", "030W", "30W", "010D"], [45, 0.5, 210 * DAY, 210 * DAY, 10 * DAY]),
}
#: What is refused: the cells, and what the encoder says to do.
REFUSED = {
    "ranges": (["45-50", "50-55", "55-60"], r"Ordinal\(\['45-50', '50-55', '55-60'\]\)"),
    "ranges with bounds": (["45-50", "<45", "51–60", "61+"], r"Ordinal\(\['<45', '45-50', '51–60', '61\+'\]\)"),
    "ranges in words": (["45 to 50", "50 to 55", "9 to 45"], r"Ordinal\(\['9 to 45', '45 to 50'"),
    "intervals": (["(20, 30]", "(30, 40]", "(40, 50]"], r"Ordinal\(\['\(20, 30\]'"),
    "one unit": (["172 cm", "168.5 cm", "181 cm"], r"removesuffix\('cm'\)"),
    "units": (["172cm", "1.68 m", "181 cm"], "all in one unit"),
    "per cent": (["12%", "13 %", "50%"], "all in one unit"),
    "compound units": (["12 mg/dl", "13.5 mg/dl", "9 mg/dL"], "all in one unit"),
    "words as units": (["12 months", "6 weeks", "3 years"], "all in one unit"),
    "field strengths": (["1.5T", "3T", "3T"], "all in one unit"),
    "years in words": (["45y", "61 yrs", "72 years old"], "all in one unit"),
    "marks": (["~45", "61*", "(72)", "12 ± 3"], "a unit or a mark"),
    "money": (["$12.50", "€ 13", "$9"], "a unit or a mark"),
    "pairs": (["120/80", "130/85", "110/70"], "make a column of each"),
    "decimal commas": (["61,5", "70,25", "80,0"], r"decimal=','"),
    "bounds with decimal commas": (["<1,5", "7,25", "8,0"], r"decimal=','"),
    "thousands, comma": (["1,743,000", "1,104,500", "1,200,300"], "thousands"),
    "thousands, dot": (["1.743.000", "1.104.500", "1.200.300"], "spreadsheet rewrote"),
    "thousands and decimals": (["1,743.5", "1,104.25", "2,000.0"], "thousands"),
    "thousands, German": (["1.743,5", "1.104,25", "2.000,0"], "thousands"),
    "thousands, space": (["1 743", "1\N{NARROW NO-BREAK SPACE}104", "1 200"], "thousands"),
    "thousands, Swiss": (["1'743", "1’104", "1'200"], "thousands"),
    "ISO dates": (["2005-09-08", "2006-01-02", "2007-03-04"], r"Age\(at="),
    "ISO times": (["2005-09-08T10:30", "2006-01-02 10:30:15.5", "2007-03-04T10:30Z"], r"Age\(at="),
    "slashes": (["9/8/2005", "10/29/2006", "1/2/2007"], r"Age\(at=\.\.\., format='%d\.%m\.%Y'\)"),
    "slashes, short": (["9/8/05", "10/29/06", "1/2/07"], r"Age\(at=\.\.\., format="),
    "dots": (["08.09.2005", "29.10.2006", "1.2.2007"], r"Age\(at=\.\.\., format="),
    "dots, short": (["08.09.05", "29.10.06", "01.02.07"], r"Age\(at=\.\.\., format="),
    "dashes": (["08-09-2005", "29-10-2006", "1-2-2007"], r"Age\(at=\.\.\., format="),
    "year first": (["2005/09/08", "2006.10.29", "2007-1-2"], r"Age\(at=\.\.\., format="),
    "months": (["8 Sep 2005", "29-OCT-2006", "1. März 2007", "May 5, 2001"], r"Age\(at=\.\.\., format="),
    "year and month": (["2005-09", "2006-10", "2007-01"], r"Age\(at=\.\.\., format="),
    "times of day": (["10:30", "11:45:10", "9:05 pm"], "of times of day make numbers"),
    "ages and numbers": (["045Y", "61", "006M"], "all values must be"),
    "leading zeros": (["007", "012", "100"], r"'categorical'.*pandas.to_numeric"),
    "exponents of ids": (["10E2", "1E3", "2e5"], r"'categorical'.*pandas.to_numeric"),
    "long digits": (["1234567890123456", "1234567890123457", "12345678901234567890"], "'categorical'"),
}


def columns(table):
    return pytest.mark.parametrize(
        ("cells", "meaning"), [(cells, rest) for cells, *rest in table.values()], ids=list(table)
    )


def written(folder, cells, **options):
    """The column as read_table has it."""
    rows = "".join(f'p{i}\t"{cell}"\n' for i, cell in enumerate(cells))
    path = folder / "table.tsv"
    path.write_text("id\tx\n" + rows, encoding="utf-8")
    return read_table(path, sep="\t", **options)


def in_bids(folder, cells):
    """The column as read_bids has it, with an image for each."""
    for i in range(len(cells)):
        anat = folder / "bids" / f"sub-p{i}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-p{i}_T1w.nii.gz").write_bytes(b"")
    rows = "".join(f"sub-p{i}\t{cell}\n" for i, cell in enumerate(cells))
    (folder / "bids" / "participants.tsv").write_text("participant_id\tx\n" + rows, encoding="utf-8")
    return read_bids(folder / "bids")


def encode(column, kind=None):
    frame = pd.DataFrame({"x": column})
    return CovariateEncoder(["x"], {"x": kind} if kind is not None else None).fit_transform(frame)


@columns(NUMBERS)
def test_a_number_is_that_number_everywhere(tmp_path, cells, meaning):
    (numbers,) = meaning
    for frame in (written(tmp_path, cells), in_bids(tmp_path, cells)):
        assert frame["x"].tolist() == numbers
    np.testing.assert_allclose(encode(cells, Numeric("none"))[:, 0], numbers, rtol=1e-6)
    np.testing.assert_allclose(encode(cells, Censored("none"))[:, 0], numbers, rtol=1e-6)
    with pytest.raises(TableError, match=r"declare kinds=\{'x': 'numeric'\}, or kinds=\{'x': 'categorical'\}"):
        encode(cells)  # text: could be codes, so it asks
    (found,) = inspect_table(pd.DataFrame({"x": cells})).columns
    assert (found.type, found.lowest, found.highest) == ("number", min(numbers), max(numbers))


@columns(BOUNDS)
def test_a_bound_is_a_number_with_a_side_everywhere(tmp_path, cells, meaning):
    numbers, sides = meaning
    expected = np.array([[n, s < 0, s > 0] for n, s in zip(numbers, sides, strict=True)])
    for column in (cells, written(tmp_path, cells)["x"], in_bids(tmp_path, cells)["x"]):
        assert list(column) == cells  # text, as it is written
        np.testing.assert_allclose(encode(column, Censored("none")), expected, rtol=1e-6)
        encoder = CovariateEncoder(["x"]).fit(pd.DataFrame({"x": column}))
        assert encoder.get_feature_names_out().tolist() == ["x", "x_below", "x_above"]
        with pytest.raises(TableError, match=r"declare kinds=\{'x': 'censored'\}"):
            encode(column, "numeric")
    (found,) = inspect_table(pd.DataFrame({"x": cells})).columns
    assert (found.type, found.covariates) == ("censored number", ["x", "x_below", "x_above"])


@columns(AGES)
def test_an_age_of_dicom_is_years_everywhere(tmp_path, cells, meaning):
    (years,) = meaning
    for column in (cells, written(tmp_path, cells)["x"], in_bids(tmp_path, cells)["x"]):
        assert list(column) == cells
        np.testing.assert_allclose(encode(column, Numeric("none"))[:, 0], years, rtol=1e-6)
        encoder = CovariateEncoder(["x"]).fit(pd.DataFrame({"x": column}))
        z = (np.array(years) - np.mean(years)) / np.std(years)
        np.testing.assert_allclose(encoder.transform(pd.DataFrame({"x": column}))[:, 0], z, rtol=1e-5)
        np.testing.assert_allclose(encoder.transform(pd.DataFrame({"x": years}))[:, 0], z, rtol=1e-5)  # years are years
        assert "years" in repr(encoder)
        assert CovariateEncoder.from_dict(encoder.to_dict()) == encoder
    (found,) = inspect_table(pd.DataFrame({"x": cells})).columns
    assert (found.type, found.covariates) == ("number", ["x"])
    np.testing.assert_allclose((found.lowest, found.highest), (min(years), max(years)))
    in_another_unit = CovariateEncoder(["x"]).fit(pd.DataFrame({"x": [540.0, 732.0, 84.0]}))  # months, for all we know
    with pytest.raises(TableError, match="an age as DICOM writes it"):
        in_another_unit.transform(pd.DataFrame({"x": cells}))
    with pytest.raises(TableError, match="ages such as '045Y' in every row"):
        encode([*cells, 61], "numeric")


@columns(REFUSED)
def test_what_could_be_misread_is_refused_everywhere(tmp_path, cells, meaning):
    (says,) = meaning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        for read in (written, in_bids):
            try:
                column = read(tmp_path, cells)["x"]
            except TableError as error:
                said = str(error)
                assert said.partition("column 'x'")[2].endswith("read it as text=[...]")
            else:
                assert list(column) == cells  # not a letter changed
        frame = written(tmp_path, cells, text=["x"])
    assert list(frame["x"]) == cells
    for column in (cells, pd.Series(cells, dtype="string"), pd.Series(cells * 9)):
        with pytest.raises(TableError, match=rf"column 'x': .*{says}"):
            encode(column)
    for kind in ("numeric", "censored"):
        with pytest.raises(TableError, match=r"column 'x': expected .*in [1-9] of"):
            encode(cells, kind)
    (found,) = (report := inspect_table(pd.DataFrame({"x": cells}))).columns
    if found.type != "number":  # decimal commas are read once decimal="," says so; the note does
        assert (found.covariates, report.suggestion) == ([], None)
    assert found.notes


@columns(REFUSED)
def test_it_is_asked_about_among_words_too(cells, meaning):
    words = [f"word {chr(97 + i)}" for i in range(9)] * 3
    if cells[0] in ("007", "10E2", "1234567890123456"):  # ids among words are words
        assert encode(cells[:1] + words).shape[1] == 10
        return
    with pytest.raises(TableError, match=r"column 'x': .*beside words.*declare the column 'categorical' if not"):
        encode(cells[:1] + words)
    assert encode(cells[:1] + words, "categorical").shape[1] == 10
    assert (
        encode(cells[:1] + words, Categorical(missing_codes=cells[:1], missing="zero", indicator="never")).shape[1] == 9
    )


@pytest.mark.parametrize(
    "spellings",
    [["M", "male", "F", "female"], ["m", "Male"], ["Y", "no", "yes", "N"], ["L", "right", "Left"], ["T", "true", "F", "x"],
     ["w", "m", "männlich"], ["pos", "negative", "positive"]],
)  # fmt: skip
def test_two_spellings_of_one_word_are_refused(tmp_path, spellings):
    cells = spellings * 4
    frame = written(tmp_path, cells)
    assert frame["x"].tolist() == cells
    for kind in (None, "categorical"):
        with pytest.raises(TableError, match=r"two spellings of one; make them one: frame\['x'\]\.replace"):
            encode(frame["x"], kind)
    (found,) = inspect_table(frame, columns=["x"]).columns
    assert found.covariates == []
    assert "two spellings of one" in "; ".join(found.notes)
    if spellings[0] == "M":
        codes = Binary({"M": 1, "male": 1, "F": 0, "female": 0})
        np.testing.assert_array_equal(encode(frame["x"], codes)[:4, 0], [1, 1, 0, 0])


@pytest.mark.parametrize("words", [["M", "F"], ["yes", "no"], ["L", "R"], ["A", "AD", "MCI"], ["male", "female"], ["T1", "T2"],
                                   ["e3/e4", "e3/e3"], ["2D", "3D"], ["1A", "2B", "3C"], ["N", "S", "W"], ["UCLA", "NYU 2"],
                                   ["v1.2", "v1.3"], ["sub-01", "sub-02"]])  # fmt: skip
def test_words_stay_words(tmp_path, words):
    cells = words * 4
    for column in (cells, written(tmp_path, cells)["x"]):
        assert list(column) == cells
        assert encode(column).shape == (len(cells), 1 if len(words) == 2 else len(words))
    (found,) = inspect_table(pd.DataFrame({"x": cells})).columns
    assert (found.type, found.notes) == ("text", [])


@pytest.mark.parametrize("blank", ["", " ", "\t ", "\N{NO-BREAK SPACE}"])
@pytest.mark.parametrize(("cells", "kind"), [(["61.5", "70", "80"], "numeric"), (["<8", "70", "80"], None), (["045Y", "006M"], None),
                                             (["A", "B", "C"], None), (["A", "B"], None), (["lo", "hi"], Ordinal(["lo", "hi"])),
                                             (["2005-09-08", "2006-01-01"], Age(at="2020-01-01"))])  # fmt: skip
def test_a_blank_is_a_missing_value_everywhere(tmp_path, cells, kind, blank):
    assert written(tmp_path, [*cells, blank])["x"].isna().tolist() == [False] * len(cells) + [True]
    (found,) = inspect_table(pd.DataFrame({"x": [*cells, blank]})).columns
    assert found.missing == 1
    frame = pd.DataFrame({"x": [*cells, blank]})
    kinds = {"x": kind} if kind else None
    with pytest.raises(TableError, match=r"missing values in 1 of"):
        CovariateEncoder(["x"], kinds).fit(frame)
    filled = CovariateEncoder(["x"], kinds, missing="mean").fit_transform(frame)
    with_none = CovariateEncoder(["x"], kinds, missing="mean").fit_transform(frame.assign(x=[*cells, None]))
    np.testing.assert_array_equal(filled, with_none)
    with pytest.raises(TableError, match="blank text is a missing value"):
        Categorical(["A", blank])


def test_bounds_of_a_table_with_decimal_commas_are_read_by_the_encoder(tmp_path):
    column = written(tmp_path, ["<1,5", "7,25", "≥ 8,0", "12"], decimal=",")["x"]
    np.testing.assert_allclose(encode(column, Censored("none")), [[1.5, 1, 0], [7.25, 0, 0], [8, 0, 1], [12, 0, 0]])


def test_dates_of_any_writing_are_read_where_the_format_is_stated():
    for cells, form in [
        (["08.09.2005", "29.10.2006"], "%d.%m.%Y"),
        (["9/8/2005", "10/29/2006"], "%m/%d/%Y"),
        (["8 Sep 2005", "29 Oct 2006"], "%d %b %Y"),
        (["20050908", "20061029"], "%Y%m%d"),
        ([20050908, 20061029], "%Y%m%d"),
        ([20050908.0, 20061029.0], "%Y%m%d"),
    ]:
        years = encode(cells, Age(at="2010-01-01", scaling="none", format=form))[:, 0]
        days = [(pd.Timestamp("2010-01-01") - pd.Timestamp(d)).days for d in ("2005-09-08", "2006-10-29")]
        np.testing.assert_allclose(years, np.array(days) / 365.25, rtol=1e-6)


@pytest.mark.parametrize("cell", ["61¹", "10³", "①", "<8²", "8⁺", "⒈", "½", "61½", "10⁻³", "2₁", "７¹"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_small_or_circled_digit_is_no_digit_of_the_number(tmp_path, cell, decimal):
    cells = [cell, "70", "82"]
    with pytest.warns(TableWarning, match=r"column 'x' mixes 2 numbers with text in 1 of 3 rows, first at 0: "):
        assert written(tmp_path, cells, decimal=decimal)["x"].tolist() == cells
    for kind in ("numeric", "censored"):
        with pytest.raises(TableError, match=rf"column 'x': expected .*in 1 of 3 rows, first at 0: '{cell}'"):
            encode(cells, kind)
    codes = Numeric("none", missing="zero", missing_codes=[61, 10, 1, 8, 611, 103])
    with pytest.raises(TableError, match=rf"first at 0: '{cell}'"):  # it is not found among the codes either
        encode(cells, codes)


def test_footnotes_are_told_where_few_numbers_are_without_one(tmp_path):
    for cells in (["61¹", "70", "82²"], ["1.5", "low", "2.5", "high"], ["5 mg", "10 mg", "10"]):
        with pytest.warns(TableWarning, match=r"column 'x' mixes . numbers with text"):
            assert written(tmp_path, cells)["x"].tolist() == cells
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cells in (["A", "B", "2"], ["1 a", "2 b", "3"], ["12%", "13%"]):
            assert written(tmp_path, cells)["x"].tolist() == cells


@pytest.mark.parametrize(
    ("form", "numbers", "dates"),
    [
        ("%d%m%Y", [1031950, 12111950], ["1950-03-01", "1950-11-12"]),
        ("%m%d%Y", [1121950, 12111950], ["1950-01-12", "1950-12-11"]),
        ("%d%m%y", [10375, 121175], ["1975-03-01", "1975-11-12"]),
        ("%y%m%d", [301, 50301], ["2000-03-01", "2005-03-01"]),
        ("%m%Y", [11950, 121950], ["1950-01-01", "1950-12-01"]),
    ],
)
def test_a_number_that_lost_the_zeros_of_its_date_is_that_date(form, numbers, dates):
    years = [(pd.Timestamp("2010-01-01") - pd.Timestamp(d)).days / 365.25 for d in dates]
    kind = Age(at="2010-01-01", scaling="none", format=form)
    full = [pd.Timestamp(d).strftime(form) for d in dates]
    for cells in (numbers, [float(n) for n in numbers], full, pd.Series(numbers, dtype=object)):
        np.testing.assert_allclose(encode(cells, kind)[:, 0], years, rtol=1e-6)
    for odd in (str(numbers[0]), -numbers[0], numbers[0] + 10 ** (len(full[0]) + 1), f"{full[0]}0"):
        with pytest.raises(TableError, match=rf"expected dates as '{form}' says, got others in 1 of 2 rows"):
            encode(pd.Series([odd, full[1]], dtype=object), kind)


def test_a_year_has_no_zeros_to_lose():
    for odd in (2011031, 950301, 0, "2011031"):
        with pytest.raises(TableError, match="expected dates as '%Y%m%d' says, got others in 1 of 2 rows"):
            encode(pd.Series([odd, 20110301], dtype=object), Age(at="2020-01-01", format="%Y%m%d"))


@given(
    st.lists(st.decimals(-9999, 9999, places=2), min_size=2, max_size=8, unique=True),
    st.sampled_from(["{}", " {}", "<{}", "< {}", "<={}", "≤{}", ">{}", ">= {}", "≥{}", "{}+", "{} +"]),
)
def test_any_number_in_any_shape_is_itself(numbers, shape):
    cells = [shape.format(n) for n in numbers]
    below, above = "<" in shape or "≤" in shape, ">" in shape or "≥" in shape or "+" in shape
    block = encode(cells, Censored("none"))
    np.testing.assert_allclose(block, [[float(n), below, above] for n in numbers], rtol=1e-6)


@given(st.integers(0, 999), st.sampled_from("DWMY"))
def test_any_age_of_dicom_is_years(count, unit):
    cell = f"{count:03d}{unit}"
    expected = count * {"D": DAY, "W": 7 * DAY, "M": 1 / 12, "Y": 1}[unit]
    np.testing.assert_allclose(encode([cell, "120Y"], Numeric("none"))[0, 0], expected, rtol=1e-6)


@given(st.dates(), st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d %b %Y", "%B %d, %Y", "%d-%b-%y"]),
       st.integers(0, 8))  # fmt: skip
def test_a_date_of_any_writing_never_becomes_a_category(date, form, words):
    cells = [date.replace(year=date.year % 200 + 1900, day=min(date.day, 28)).strftime(form)]
    with pytest.raises(TableError, match=r"not written as 2005-09-08"):
        encode((cells + ["AD", "CN", "MCI", "x", "y", "z", "u", "v"][:words]) * 3)
