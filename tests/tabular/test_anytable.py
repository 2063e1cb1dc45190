"""read_table against files written here byte by byte, and against pandas where pandas reads the same."""

import csv
import io
import re
import sys
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import CovariateEncoder, read_table
from fusionconv.tabular.textcolumn import require_dates, require_numbers

ROWS = [["p1", "61", "72.5", "a, b"], ["p2", "70", "", 'say "hm"'], ["p3", "55", "80.25", "two\nlines; or\tmore"]]
HEADER = ["id", "age", "weight", "note"]
EXPECTED = {
    "id": ["p1", "p2", "p3"],
    "age": [61, 70, 55],
    "weight": [72.5, None, 80.25],
    "note": ["a, b", 'say "hm"', "two\nlines; or\tmore"],
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="table"):  # the name says nothing about the format
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def text(sep=",", eol="\n", rows=ROWS, header=HEADER):
    out = io.StringIO()
    csv.writer(out, delimiter=sep, lineterminator="\n").writerows([header, *rows])
    return out.getvalue().replace("\n", eol) if eol != "\n" else out.getvalue()


def values(frame):
    return {c: [None if pd.isna(v) else v for v in frame[c]] for c in frame.columns}


@pytest.mark.parametrize("sep", [",", "\t", ";", "|"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_every_text_edition_reads_as_the_same_table(write, sep, bom, eol):
    frame = read_table(write(bom + text(sep, eol).encode()))
    assert values(frame) == EXPECTED
    assert frame["age"].dtype == np.int64
    assert frame["weight"].dtype == np.float64
    assert isinstance(frame.index, pd.RangeIndex)


def test_excel_and_parquet_read_as_the_same_table(write, tmp_path):
    frame = pd.DataFrame(EXPECTED)
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.xlsx", "t.parquet"):
        path = write((tmp_path / name).read_bytes())
        assert values(read_table(path)) == EXPECTED
        as_text = read_table(path, numbers=False)
        assert values(as_text)["age"] == ["61", "70", "55"]
        assert values(as_text)["weight"] == ["72.5", None, "80.25"]


def test_excel_dates_and_whole_numbers_become_what_one_would_type(tmp_path):
    path = tmp_path / "t.xlsx"
    when = [pd.Timestamp("2005-09-08"), pd.Timestamp("2006-01-02 13:45")]
    pd.DataFrame({"id": [7.0, 8.0], "when": when, "ok": [True, False]}).to_excel(path, index=False)
    frame = read_table(path, numbers=False)
    assert values(frame) == {
        "id": ["7", "8"],
        "when": ["2005-09-08", "2006-01-02 13:45:00"],
        "ok": ["True", "False"],
    }


def test_of_several_excel_sheets_one_is_named(tmp_path):
    path = tmp_path / "t.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"a": [1]}).to_excel(book, sheet_name="Table", index=False)
        pd.DataFrame({"b": [2]}).to_excel(book, sheet_name="Codes", index=False)
        pd.DataFrame().to_excel(book, sheet_name="Empty", index=False)
    with pytest.raises(TableError, match=r"got 2: 'Table', 'Codes'; say which with sheet="):
        read_table(path)
    assert list(read_table(path, sheet="Codes").columns) == ["b"]
    with pytest.raises(TableError, match=r"unknown sheet 'Tabel'; did you mean 'Table'"):
        read_table(path, sheet="Tabel")


def test_latin_1_is_read_with_a_warning_or_as_stated(write):
    path = write("id;city\np1;Zürich\np2;Orléans\n".encode("latin-1"))
    with pytest.warns(TableWarning, match=r"not UTF-8 \(byte 0xfc in line 2\) and was read as Latin-1"):
        assert read_table(path)["city"].tolist() == ["Zürich", "Orléans"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(path, encoding="latin-1")["city"].tolist() == ["Zürich", "Orléans"]
        assert read_table(write("id;city\np1;Zürich\n"))["city"].tolist() == ["Zürich"]
        assert read_table(write("id\tcity\r\np1\tZürich\r\n".encode("utf-16")))["city"].tolist() == ["Zürich"]
    with pytest.raises(TableError, match="expected text in utf-8, got other bytes"):
        read_table(path, encoding="utf-8")
    with pytest.raises(TableError, match="expected a name that Python knows"):
        read_table(path, encoding="latin-17")


def test_text_stays_text(write):
    frame = read_table(
        write("zeros,long,bound,cap,mixed,code\n007,1234567890123456,>1700,89+,1,F32.0\n8,1,642.1,88,1.5,F34.1\n")
    )
    assert values(frame) == {
        "zeros": ["007", "8"],
        "long": ["1234567890123456", "1"],
        "bound": [">1700", "642.1"],
        "cap": ["89+", "88"],
        "mixed": [1.0, 1.5],
        "code": ["F32.0", "F34.1"],
    }
    frame = read_table(write("id,age\n1,61\n2,70\n"), text=["id"])
    assert values(frame) == {"id": ["1", "2"], "age": [61, 70]}
    assert values(read_table(write("a,b\n1,x\n"), numbers=False)) == {"a": ["1"], "b": ["x"]}
    with pytest.raises(TableError, match=r"unknown column 'Id'; did you mean 'id'"):
        read_table(write("id,age\n1,61\n"), text=["Id"])


def test_missing_values_are_those_that_people_write_and_none_is_an_answer(write):
    frame = read_table(write("a,b,c\n,n/a,None\nNA,#N/A,one\nnan,3,two\n"))
    assert frame["a"].isna().all()
    assert values(frame)["b"] == [None, None, 3]
    assert values(frame)["c"] == ["None", "one", "two"]
    assert values(read_table(write("a\n-4\n5\n"), missing=["-4"]))["a"] == [None, 5]


def test_numbers_as_pandas_reads_them(write):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=50) * 10.0 ** rng.integers(-30, 30, 50), "b": rng.integers(-9, 9, 50)})
    path = write(frame.to_csv(index=False))
    pd.testing.assert_frame_equal(read_table(path), frame, check_exact=True)


@pytest.mark.parametrize("value", ["1.743.000", "-12.345.678", "1,743,000"])
def test_a_number_that_a_spreadsheet_changed_is_refused(write, value):
    with pytest.raises(TableError, match=rf"column 'asf': .*in 1 of 3 rows, first at 1: '{value}'.*from its source"):
        read_table(write(f"id;asf\na;1.306\nb;{value}\nc;1.104\n"))
    with pytest.raises(TableError, match="several marks"):
        read_table(write(f"id;asf\na;{value}\n"))
    assert read_table(write(f"id;asf\na;{value}\n"), text=["asf"])["asf"].tolist() == [value]


def test_decimal_commas_are_refused_until_stated(write):
    path = write('id;age\na;61,5\nb;"70,25"\nc;\n')
    with pytest.raises(
        TableError, match=r"column 'age': .* got commas in 2 of 3 rows, first at 0: '61,5'.*decimal=','"
    ):
        read_table(path)
    assert values(read_table(path, decimal=",")) == {"id": ["a", "b", "c"], "age": [61.5, 70.25, None]}
    with pytest.raises(TableError, match="decimal comma, got numbers with several marks"):
        read_table(write("id;age\na;61,5\nb;1.743.000\n"), decimal=",")
    with pytest.raises(TableError, match=r"decimal: expected '\.' or ','"):
        read_table(path, decimal="'")


@pytest.mark.parametrize(
    ("cells", "odd"),
    [
        (["900", "916", "1.867", "1.883"], "in 2 of 4 rows, first at 2: '1.867', 3: '1.883'"),  # grams, or 1.867?
        (["61,5", "1.743", "60,0"], "in 1 of 3 rows, first at 1: '1.743'"),
        (["61.5", "70.25"], "in 2 of 2 rows, first at 0: '61.5'"),
        (["", "1.867", "n. b.", "n. b.", "n. b.", "900"], "in 1 of 6 rows, first at 1: '1.867'"),
        ([">1700", "<8,5", "1.700"], "in 1 of 3 rows, first at 2: '1.700'"),
        (["900", ">1.700", "850"], "in 1 of 3 rows, first at 1: '>1.700'"),
        (["-1.867", "1.5e3"], "in 2 of 2 rows, first at 0: '-1.867'"),
    ],
)
@pytest.mark.parametrize("decimal", [",", "."])
def test_the_other_decimal_mark_is_refused_with_both_readings(write, cells, odd, decimal):
    swap = str.maketrans(".,", ",.") if decimal == "." else {}
    cells = [c if c == "n. b." else c.translate(swap) for c in cells]
    odd = re.sub(r"'[^']*'", lambda found: found[0].translate(swap), odd)
    path = write("id;Gew\n" + "".join(f"p{n};{cell}\n" for n, cell in enumerate(cells)))
    mark, other, wanted = ("comma", "point", ".") if decimal == "," else ("point", "comma", ",")
    says = (
        rf"column 'Gew': expected numbers with a decimal {mark}, got {other}s {re.escape(odd)}.*; if they are decimal "
        rf"{other}s, give decimal='{re.escape(wanted)}' \(--decimal {re.escape(wanted)}\); if they part thousands, write "
        r"the numbers without them; if it is no number, read it as text=\[\.\.\.\]"
    )
    with pytest.raises(TableError, match=says):
        read_table(path, sep=";", decimal=decimal)
    kept = read_table(path, sep=";", decimal=decimal, text=["Gew"])["Gew"]
    assert [v for v in kept if v == v] == [c for c in cells if c]


@pytest.mark.parametrize(
    "cells",
    [
        ["1.2.3", "1.10.0", "1.2", "2.0.1"], ["10.0.0.1", "10.0.0.2", "192.168.1.7"],
        ["01.02.2020", "17.11.2019", "30.06.2018"], ["F32.0", "F33.1", "G30.9"], ["AD", "MCI", "CN", "1.5"],
    ],
)  # fmt: skip
def test_other_text_with_points_stays_text_with_a_decimal_comma(write, cells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write("id;x\n" + "".join(f"p{n};{cell}\n" for n, cell in enumerate(cells)))
        assert read_table(path, decimal=",")["x"].tolist() == cells


def test_what_was_read_with_a_decimal_comma_is_not_to_be_read_so_again(write):
    path = write("id;age\na;61,5\nb;seventy\nc;60,0\nd;unknown\ne;59,25\n")
    with pytest.warns(TableWarning, match="mixes 3 numbers with text in 2 of 5 rows, first at 1: 'seventy'"):
        frame = read_table(path, decimal=",")
    assert frame["age"].tolist() == ["61.5", "seventy", "60.0", "unknown", "59.25"]
    with pytest.raises(TableError, match="'seventy'") as caught:
        CovariateEncoder(["age"], {"age": "numeric"}).fit(frame)
    assert "decimal=','" not in str(caught.value)
    with pytest.warns(TableWarning, match="'1' and '1,0' are one number and two names"):
        frame = read_table(write("id;n\na;1\nb;1,0\nc;2\n"), decimal=",")
    assert pd.to_numeric(frame["n"]).tolist() == [1, 1, 2]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-999_999, 999_999).map(lambda n: n / 100), min_size=1, max_size=8),
    st.integers(1, 999), st.integers(0, 999), st.integers(0, 8),
)  # fmt: skip
def test_a_column_with_decimal_commas_is_exact_and_one_thousands_point_is_refused(numbers, high, low, place):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"

        def write_cells(cells):
            path.write_text("id;x\n" + "".join(f"p{n};{cell}\n" for n, cell in enumerate(cells)), "utf-8")

        cells = [f"{number:.2f}".replace(".", ",") for number in numbers]
        write_cells(cells)
        assert read_table(path, decimal=",")["x"].tolist() == numbers
        cells.insert(place, f"{high}.{low:03d}")
        write_cells(cells)
        with pytest.raises(TableError, match=r"column 'x': expected numbers with a decimal comma, got points"):
            read_table(path, decimal=",")


def test_excel_cells_are_numbers_whatever_decimal_says(tmp_path):
    pd.DataFrame({"age": [61.5, "70,25"]}).to_excel(tmp_path / "t.xlsx", index=False)
    assert read_table(tmp_path / "t.xlsx", decimal=",")["age"].tolist() == [61.5, 70.25]


def test_a_column_of_mixed_types_stays_text_and_says_so(write):
    path = write("id,age\na,61\nb,seventy\nc,55\n")
    with pytest.warns(
        TableWarning, match=r"column 'age' mixes 2 numbers with text in 1 of 3 rows, first at 1: 'seventy'"
    ):
        assert read_table(path)["age"].tolist() == ["61", "seventy", "55"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(path, text=["age"])
        assert values(read_table(path, missing=["seventy"]))["age"] == [61, None, 55]


@pytest.mark.parametrize("odd", ["0x10", "1_000", "inf", "-Infinity", "1e999", "١٢"])
def test_what_only_a_program_takes_for_a_number_is_text(write, odd):
    with pytest.warns(TableWarning, match="mixes 2 numbers with text"):
        assert read_table(write(f"a,b\n1,x\n2,x\n{odd},x\n"))["a"].tolist() == ["1", "2", odd]


def test_a_name_twice_a_long_row_and_a_short_row_are_refused(write):
    with pytest.raises(TableError, match=r"got 'age' in columns \[2, 4\]; rename or remove"):
        read_table(write("id,age,sex,age\n1,2,3,4\n"))
    with pytest.raises(TableError, match=r"line 3: expected 3 values .*\('id', 'age', 'sex'\), got 4"):
        read_table(write("id,age,sex\na,1,m\nb,2,f,x\n"))
    with pytest.raises(TableError, match=r"line 3: expected 3 values .*got 2"):
        read_table(write("id\tage\tsex\na\t1\tm\nb\t2\n"))
    with pytest.raises(TableError, match=r"line 5: .*got 2"):  # the line of the file, with a field of two lines before
        read_table(write('id,age,note\na,1,"x\ny"\nb,2,z\nc,3\n'))
    with pytest.raises(TableError, match=r"line 2: expected 1 values .*; is the separator another"):
        read_table(write("a b\n1,2\n"), sep=",")
    with pytest.raises(TableError, match="expected rows after the header, got none"):
        read_table(write("id,age,sex\n"))


def test_empty_cells_at_the_end_of_the_last_row_are_cells(write):
    frame = read_table(write("id\ta\tb\np1\t1\t2\np2\t\t\n"))
    assert values(frame) == {"id": ["p1", "p2"], "a": [1, None], "b": [2, None]}
    assert values(read_table(write("id\ta\tb\np1\t1\t2\np2\t\t"))) == values(frame)


def test_columns_and_rows_with_nothing_in_them_go_and_so_does_a_count(write):
    frame = read_table(write(",id,age,\n0,a,61,\n1,b,62,\n,,,\n,,,\n"))
    assert values(frame) == {"id": ["a", "b"], "age": [61, 62]}
    assert list(read_table(write(pd.DataFrame({"a": [5, 6]}).to_csv())).columns) == ["a"]
    assert list(read_table(write(",a\n3,5\n9,6\n")).columns) == ["Unnamed: 0", "a"]  # not a count: it stays


def test_separators_with_equal_claims_are_not_chosen_from(write):
    path = write("id;weight, kg\np1;72,5\np2;80,1\n")  # read by commas, it would be "id;weight" and "kg"
    with pytest.raises(TableError, match=r"got ',' and ';', which part the rows equally well .*; say which with sep="):
        read_table(path)
    assert values(read_table(path, sep=";", decimal=",")) == {"id": ["p1", "p2"], "weight, kg": [72.5, 80.1]}


def test_the_separator_parts_all_rows_alike_not_most(write):
    frame = read_table(write("id\tnote: a, b, c, d\np1\tnone\np2\tx, y\n"))  # by commas the header has four names
    assert frame["id"].tolist() == ["p1", "p2"]


def test_one_column_alone(write):
    assert read_table(write("image\na.nii\nb.nii\n"))["image"].tolist() == ["a.nii", "b.nii"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"\xff\xfe", "an empty file"),
        (b" \r\n\r\n", "an empty file"),
        (b"<!DOCTYPE html><title>Quota exceeded</title>", "an HTML page titled 'Quota exceeded'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"a\0b\n1\0002\n", "binary"),
        (b"PK\x03\x04rest", "a zip archive, cut off"),
        (b"PAR1 and no more", "a damaged one"),
        (b'id,"age\n1,2\n', "expected rows after the header|is a quote not closed"),
    ],
)
def test_what_is_not_a_table_is_named(write, content, says):
    path = write(content)
    with pytest.raises(TableError, match=says) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_zip_of_something_else_and_a_missing_file(write, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("table.csv", "a\n1\n")
    with pytest.raises(TableError, match=r"a zip archive of \['table.csv'\]; unpack it"):
        read_table(tmp_path / "t.zip")
    with pytest.raises(FileNotFoundError, match=r"did you mean 't.zip'\?"):
        read_table(tmp_path / "t.zp")


@pytest.mark.parametrize(("name", "package"), [("t.xlsx", "openpyxl"), ("t.parquet", "pyarrow")])
def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch, name, package):
    frame = pd.DataFrame({"a": [1]})
    frame.to_excel(tmp_path / name, index=False) if package == "openpyxl" else frame.to_parquet(tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    if package == "pyarrow":
        monkeypatch.setattr(pd, "read_parquet", _no_pyarrow)  # pandas may have found it already
    with pytest.raises(TableError, match=r'pip install "fusionconv\[tabular\]"'):
        read_table(tmp_path / name)


def _no_pyarrow(*_):
    raise ImportError("Missing optional dependency 'pyarrow'")


def test_dates_in_two_ways_and_no_third():
    days = pd.to_datetime(["2005-09-08", None])
    for column in (["2005-09-08", None], ["9/8/2005", None], ["2005-09-08 10:11:12.0", None], [days[0], None]):
        assert require_dates(pd.Series(column, name="d"), "t", month_first=True).tolist() == days.tolist()
    with pytest.raises(TableError, match=r"got others in 1 of 1 rows, first at 0: '9/8/2005'"):
        require_dates(pd.Series(["9/8/2005"], name="d"), "t")
    for column in (["08.09.2005"], ["25/12/2005"], ["2005-13-01"], ["soon"], ["2005-09-08", "9/9/2005"]):
        with pytest.raises(TableError, match=r"t: column 'd': expected dates"):
            require_dates(pd.Series(column, name="d"), "t", month_first=True)


def test_require_numbers_names_the_rows():
    with pytest.raises(
        TableError, match=r"t: column 'a': expected numbers, got others in 1 of 2 rows, first at 1: 'x'"
    ):
        require_numbers(pd.Series(["1", "x"], name="a"), "t")
    with pytest.raises(TableError, match=r"expected numbers from 0 to 1, got others in 1 of 2 rows, first at 1: '743'"):
        require_numbers(pd.Series(["0.7", "743"], name="nWBV"), "t", low=0, high=1)


@pytest.mark.slow
def test_twenty_thousand_rows_in_seconds(write):
    """20,000 x 40 is about 1 s here on one busy core; the bound is for a mechanism that is slower by an order."""
    import time

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20_000, 39)).round(4), columns=[f"x{i}" for i in range(39)])
    frame.insert(0, "id", [f"S{i}" for i in range(len(frame))])
    path = write(frame.to_csv(index=False))
    start = time.process_time()
    pd.testing.assert_frame_equal(read_table(path), frame)
    assert time.process_time() - start < 10


def test_suffix_completes_paths(tmp_path):
    from fusionconv.tabular import read_paths_table

    for name in ("ISIC_1.jpg", "ISIC_2.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("lesion,image_id\na,ISIC_1\nb,ISIC_2.jpg\nc,ISIC_3\nd,\n")
    frame, report = read_paths_table(tmp_path / "t.csv", "image_id", subject="lesion", suffix=".jpg", report=True)
    assert [str(v).rpartition("/")[2] for v in frame["image"]] == ["ISIC_1.jpg", "ISIC_2.jpg", "nan", "nan"]
    assert report["reason"].tolist() == ["there is no file ISIC_3.jpg", "the table has no path"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,age,note\n1,60,"x\n2,61,y\n3,62,z\n', 2),
        ('id,age,note\n1,60,a\n2,61,"y\n3,62,z\n', 3),
        ('id,age,note\n1,60,"x\n2,61,y"\n3,62,z\n', 2),
        ('id,age,note\n1,60,"x\n2,61,y\n3,62,"z"\n4,63,w\n', 2),
        ('id,age,note\n"1,60,x\n2,61,y\n3,62,z\n', 2),
        ('id,age,note\n1,60,"x" y\n2,61,z\n', 2),
        ('id\tage\tnote\n1\t60\t"x\n2\t61\ty\n', 2),
        ("id,age,note\n1,60,x,\n2,61,y,\n", 2),
        ("id,age,note\n1,60,x\n2,61\n3,62,z\n", 3),
        ("id,age,note\n1,60,x\n# a comment\n3,62,z\n", 3),
        ("id,age,note\n1,60,x\nid,age,note\n3,62,z\n", 3),
    ],
)
def test_no_row_vanishes_and_the_error_names_the_line(write, text, line):
    with pytest.raises(TableError, match=rf", line {line}: expected"):
        read_table(write(text))


def test_values_with_line_ends_separators_and_quotes_are_read(write):
    text = '\ufeffid,age,note\n1,60,"two\nlines"\n2,61,"a, b"\n\n3,62,"say ""x"""\n4,63, "spaced, out"\n5,64,6" wide\n'
    frame = read_table(write(text))
    assert frame["id"].tolist() == [1, 2, 3, 4, 5]
    assert frame["note"].tolist() == ["two\nlines", "a, b", 'say "x"', "spaced, out", '6" wide']


@pytest.mark.parametrize("text", ["a,b\n1,\0\n", "a\0,b\n1,2\n", "\0a,b\n1,2\n", "a,b\n1,2\n\0", 'a,b\n1,"x\0y"\n'])
def test_nul_bytes_are_no_table_wherever_they_are(tmp_path, text):
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "t.csv").write_bytes(text.encode(encoding) + b"\xe9" * (encoding == "latin-1"))
        with pytest.raises(TableError, match=r"binary file .*NUL"):
            read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("header", ["a,b,a", "a,b, a", 'a,b,"a"', "a,a,a", "b,b,a"])
def test_a_column_name_twice_is_refused_in_every_format(tmp_path, header):
    (tmp_path / "t.csv").write_text(f"{header}\n1,2,3\n")
    names = [n.strip().strip('"') for n in header.split(",")]
    pd.DataFrame([names, [1, 2, 3]]).to_excel(tmp_path / "t.xlsx", index=False, header=False)
    for name in ("t.csv", "t.xlsx"):
        with pytest.raises(TableError, match="each column name once"):
            read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (",a\n0,5\n1,6\n", ["a"]),
        (",a\n1,5\n2,6\n", ["a"]),
        ('"",a\n0,5\n1,6\n', ["a"]),
        (",a\n1,5\n0,6\n", ["Unnamed: 0", "a"]),  # another order: it may say something
        (",a\n2,5\n3,6\n", ["Unnamed: 0", "a"]),
        ("index,a\n0,5\n1,6\n", ["index", "a"]),  # it has a name
        ("a,\n5,0\n6,1\n", ["a", "Unnamed: 1"]),  # not the first column
    ],
)
def test_only_an_unnamed_first_column_that_counts_the_rows_goes(tmp_path, text, columns):
    (tmp_path / "t.csv").write_text(text)
    frame = read_table(tmp_path / "t.csv")
    assert list(frame.columns) == columns
    assert frame["a"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("name", "start", "package"),
    [("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xlrd"), ("new.xlsx", None, '"fusionconv[tabular]"')],
)
def test_without_the_package_that_reads_an_excel_file_the_right_one_is_named(
    tmp_path, monkeypatch, name, start, package
):
    if start is None:
        pd.DataFrame({"id": [1]}).to_excel(tmp_path / name, index=False)
    else:
        (tmp_path / name).write_bytes(start + bytes(600))

    def absent(*args, **kwargs):
        raise ImportError("Missing optional dependency 'openpyxl' or 'xlrd'")

    monkeypatch.setattr(pd, "read_excel", absent)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(TableError, match=rf"pip install {re.escape(package)}, or save"):
        read_table(tmp_path / name)


LONG = [90071992547409931, 90071992547409932, 90071992547409933]


@pytest.mark.parametrize("ids", [LONG, [float(i) for i in LONG], [1234567890123456, 7, 8], [-(10**15) - 1, 7, 8]])
@pytest.mark.parametrize("options", [{"text": ["subject"]}, {}, {"numbers": False}, {"decimal": ","}])
def test_a_number_with_more_digits_than_excel_keeps_is_refused(tmp_path, ids, options):
    pd.DataFrame({"age": [61.5, 70, 82], "subject": ids}).to_excel(tmp_path / "t.xlsx", index=False)
    with pytest.raises(
        TableError, match=r"column 'subject', row 2 of the sheet: .*Excel keeps 15 digits.*store the column as text"
    ):
        read_table(tmp_path / "t.xlsx", **options)
    pd.DataFrame({"subject": [str(int(i)) for i in ids]}).to_excel(tmp_path / "t.xlsx", index=False)
    assert read_table(tmp_path / "t.xlsx", **options)["subject"].map(str).tolist() == [str(int(i)) for i in ids]


@pytest.mark.parametrize("decimal", [".", ","])
def test_a_large_measure_in_excel_is_a_number_unless_the_column_stays_text(tmp_path, decimal):
    counts = [6.022e23, 2.0, 1e15, 0.5, -1.25e30, 999999999999999]
    pd.DataFrame({"n": counts}).to_excel(tmp_path / "t.xlsx", index=False)
    assert read_table(tmp_path / "t.xlsx", decimal=decimal)["n"].tolist() == counts
    with pytest.raises(TableError, match=r"column 'n', row 2 of the sheet"):
        read_table(tmp_path / "t.xlsx", text=["n"])


@pytest.mark.parametrize("error", ["#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"])
@pytest.mark.parametrize("count", [1, 5])
def test_errors_of_excel_are_read_as_in_csv(tmp_path, error, count):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["id", "x", "y"], *([n, error if n < count else n + 0.5, "#N/A" if n else 3] for n in range(7))]:
        book.active.append(row)
    assert book.active["B2"].data_type == "e"
    book.save(tmp_path / "t.xlsx")
    (tmp_path / "t.csv").write_text(
        "id,x,y\n" + "".join(f"{n},{error if n < count else n + 0.5},{'#N/A' if n else 3}\n" for n in range(7))
    )
    for name in ("t.xlsx", "t.csv"):
        with pytest.warns(
            TableWarning,
            match=rf"'x' mixes {7 - count} numbers with text in {count} of 7 rows, first at 0: '{re.escape(error)}'",
        ):
            frame = read_table(tmp_path / name)
        assert frame["x"].tolist() == [error if n < count else str(n + 0.5) for n in range(7)]
        assert values(frame)["y"] == [3, *[None] * 6]
        with pytest.raises(TableError, match=re.escape(error)):
            CovariateEncoder(["x"], {"x": "numeric"}).fit(frame)
        assert values(read_table(tmp_path / name, missing=["", "#N/A", error]))["x"][:count] == [None] * count


def test_an_excel_file_of_one_column_keeps_its_blank_rows(tmp_path):
    pd.DataFrame({"x": [1.5, None, 2.5]}).to_excel(tmp_path / "t.xlsx", index=False)
    assert values(read_table(tmp_path / "t.xlsx"))["x"] == [1.5, None, 2.5]


@pytest.mark.parametrize(
    ("name", "cells", "says"),
    [
        (
            "vol",
            ["980", "1.743", "12.100", "743"],
            "980 beside '1.743' and its like, with three decimals each, which may be thousands",
        ),
        ("vol", ["1.743", "7"], "7 beside '1.743'"),
        ("vol", ["850.000", "-12", "", "0", "-1.250"], "-12 beside '850.000'"),
        (
            "icd",
            ["250.1", "250.10", "401.9"],
            r"'250.1' and '250.10' are one number, as which they are read, and may be two codes",
        ),
        ("protocol_version", ["1.100", "1.10", "2", "3.5"], "'1.100' and '1.10' are one number"),
        ("x", ["250.1", "250.10", "401"], "'250.1' and '250.10' are one number"),
    ],
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_numbers_that_may_mean_others_are_read_as_written_and_told(write, name, cells, says, decimal):
    swap = str.maketrans(".", decimal)
    path = write(f"id;{name}\n" + "".join(f"p{n};{cell.translate(swap)}\n" for n, cell in enumerate(cells)))
    with pytest.warns(
        TableWarning, match=f"column '{name}': " + re.sub(r"(?<=[0-9])\.", re.escape(decimal), says)
    ) as caught:
        frame = read_table(path, sep=";", decimal=decimal)
    assert len(caught) == 1
    assert values(frame)[name] == [float(c) if c else None for c in cells]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(path, sep=";", decimal=decimal, text=[name])


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("ASF", ["1.306", "1.104", "0.975"]),  # all with three decimals
        ("vol", ["0", "1.306", "12.104"]),  # nothing, beside volumes
        ("vol", ["980", "1.743", "12.10"]), ("vol", ["1980", "1.743"]), ("vol", ["980", "0.743"]), ("vol", ["980", "1.5e3"]),
        ("x", ["1.50", "2.25", "3.00"]), ("x", ["8", "8.0", "8.5"]), ("x", ["1.0", "1.00", "2.5"]),
        ("weight", ["172.5", "172.50"]),
        ("x", ["1.5", "1.50", "2.25"]), ("x", ["250.1", "250.10", "41.9"]),
        ("age_years", ["61.5", "61.50"]),
    ],
)  # fmt: skip
def test_ordinary_measures_are_read_without_a_word(write, name, cells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = read_table(write(f"id;{name}\n" + "".join(f"p{n};{cell}\n" for n, cell in enumerate(cells))))
    assert frame[name].tolist() == [float(c) for c in cells]


@pytest.mark.parametrize("decimal", [".", ","])
def test_decimals_of_a_database_are_numbers_and_long_ones_stay_exact(tmp_path, decimal):
    ids = ["90071992547409931", "90071992547409932", "90071992547409933"]
    dose, whole = [Decimal("1.50"), Decimal("2.25"), None], [Decimal("61"), Decimal("70"), Decimal("82")]
    frame = pd.DataFrame(
        {
            "dose": dose,
            "age": whole,
            "tiny": [Decimal("1E-7"), Decimal("0"), Decimal("3")],
            "id": [Decimal(i) for i in ids],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", decimal=decimal)
    assert values(read) == {"dose": [1.5, 2.25, None], "age": [61, 70, 82], "tiny": [1e-7, 0, 3], "id": ids}
    kept = read_table(tmp_path / "t.parquet", text=["age", "dose"])
    assert values(kept)["age"] == ["61", "70", "82"]
    assert values(kept)["dose"] == ["1.50", "2.25", None]
    assert values(read_table(tmp_path / "t.parquet", numbers=False))["age"] == ["61", "70", "82"]
