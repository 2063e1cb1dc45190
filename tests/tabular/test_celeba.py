"""The CelebA readers against files written here, byte by byte, in the formats that people have."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.tabular import (
    CELEBA_ATTRIBUTES,
    read_celeba_attributes,
    read_celeba_identity,
    read_celeba_partition,
)

FILES = ["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg"]


@pytest.fixture
def truth():
    """What is true of the four images, 0/1, drawn once."""
    return np.random.default_rng(0).integers(0, 2, (len(FILES), 40))


def official(values, eol="\r\n", names=CELEBA_ATTRIBUTES, files=FILES, count=None) -> str:
    """The official layout: values right-aligned to width 2, two spaces at the end of a row, one after the names."""
    rows = [f"{f} " + " ".join(f"{v:2d}" for v in row) + "  " for f, row in zip(files, values, strict=True)]
    return eol.join([str(len(rows) if count is None else count), " ".join(names) + " ", *rows, ""])


def as_csv(values, eol="\n", names=CELEBA_ATTRIBUTES, files=FILES) -> str:
    rows = [",".join([f, *map(str, row)]) for f, row in zip(files, values, strict=True)]
    return eol.join(["image_id," + ",".join(names), *rows, ""])


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name="labels"):  # the name says nothing about the format
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_the_names_stand_where_the_published_study_counts_them():
    columns = {2: "Attractive", 20: "Male", 31: "Smiling", 39: "Young", 19: "High_Cheekbones"}
    assert {i: CELEBA_ATTRIBUTES[i] for i in columns} == columns
    assert len(set(CELEBA_ATTRIBUTES)) == 40
    assert list(CELEBA_ATTRIBUTES) == sorted(CELEBA_ATTRIBUTES)  # the official order is alphabetical


@pytest.mark.parametrize("layout", [official, as_csv])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("codes", [(-1, 1), (0, 1)])
def test_every_edition_reads_as_the_same_table(truth, write, layout, eol, bom, codes):
    path = write(bom + layout(np.array(codes)[truth], eol=eol).encode())
    frame = read_celeba_attributes(path)
    assert list(frame.columns) == list(CELEBA_ATTRIBUTES)
    assert list(frame.index) == FILES
    assert frame.index.name == "file"
    assert set(frame.dtypes) == {np.dtype("int8")}
    np.testing.assert_array_equal(frame.to_numpy(), truth)


def test_a_csv_with_quotes_and_spaces_reads_the_same(truth, write):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["image_id", *CELEBA_ATTRIBUTES])
    writer.writerows([f, *row] for f, row in zip(FILES, truth, strict=True))
    np.testing.assert_array_equal(read_celeba_attributes(write(text.getvalue())).to_numpy(), truth)
    spaced = as_csv(truth).replace(",", " , ")
    pd.testing.assert_frame_equal(read_celeba_attributes(write(spaced)), read_celeba_attributes(write(as_csv(truth))))


@pytest.mark.parametrize("layout", [official, as_csv])
def test_columns_in_another_order_come_back_in_the_official_one(truth, write, layout):
    order = np.random.default_rng(1).permutation(40)
    path = write(layout(truth[:, order], names=[CELEBA_ATTRIBUTES[i] for i in order]))
    frame = read_celeba_attributes(path)
    assert list(frame.columns) == list(CELEBA_ATTRIBUTES)
    np.testing.assert_array_equal(frame.to_numpy(), truth)


def test_one_row_and_rows_out_of_order_keep_the_order_of_the_file(truth, write):
    assert list(read_celeba_attributes(write(official(truth[:1], files=["9.jpg"]))).index) == ["9.jpg"]
    back = read_celeba_attributes(write(official(truth[::-1], files=FILES[::-1])))
    assert list(back.index) == FILES[::-1]
    np.testing.assert_array_equal(back.to_numpy(), truth[::-1])


QUOTA = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Sorry</body></html>"


@pytest.mark.parametrize("read", [read_celeba_attributes, read_celeba_partition, read_celeba_identity])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (QUOTA, "an HTML page titled 'Google Drive - Quota exceeded'.*download the file again"),
        (b"\n\n <html><body>Please log in</body></html>", "an HTML page;"),
        (b"", "an empty file"),
        (b"\xef\xbb\xbf", "an empty file"),
        (b" \r\n\r\n", "an empty file"),
        (b"PK\x03\x04rest", "zip archive; unpack"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        ("000001.jpg 0\n".encode("utf-16"), "not UTF-8"),
        (b"a\0b", "binary"),
    ],
)
def test_what_is_not_a_table_is_named(write, read, content, says):
    path = write(content)
    with pytest.raises(TableError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("read", [read_celeba_attributes, read_celeba_partition, read_celeba_identity])
def test_a_missing_file_names_the_nearest_one(write, tmp_path, read):
    write("x", name="list_attr_celeba.csv")
    with pytest.raises(FileNotFoundError, match=r"no such file; did you mean 'list_attr_celeba.csv'\?"):
        read(tmp_path / "list_attr_celeba.txt")
    with pytest.raises(FileNotFoundError, match="a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="download it first"):
        read(tmp_path / "nowhere" / "list_attr_celeba.txt")


def test_a_file_cut_off_between_rows_in_a_row_or_before_the_rows(truth, write):
    with pytest.raises(TableError, match=r"expected 202599 rows as line 1 says, got 4 .*000004.jpg.*download it again"):
        read_celeba_attributes(write(official(truth, count=202599)))
    with pytest.raises(TableError, match="expected 3 rows as line 1 says, got 4"):
        read_celeba_attributes(write(official(truth, count=3)))
    with pytest.raises(TableError, match=r"line 6: expected 41 entries .* got 38"):
        read_celeba_attributes(write(official(truth).rstrip()[:-9]))
    with pytest.raises(TableError, match=r"line 5: expected 41 entries .* got 40"):
        read_celeba_attributes(write(as_csv(truth).rstrip().rsplit(",", 1)[0]))
    with pytest.raises(TableError, match="got none"):
        read_celeba_attributes(write(as_csv(truth[:0], files=[])))
    with pytest.raises(TableError, match="expected the 40 official attribute names, got 0 names"):
        read_celeba_attributes(write("4\n"))


@pytest.mark.parametrize("layout", [official, as_csv])
def test_a_row_with_a_value_too_many_or_empty_names_its_line(truth, write, layout):
    sep, line = (" ", 4) if layout is official else (",", 3)
    text = layout(truth, eol="\n")
    row = text.split("\n")[line - 1]
    with pytest.raises(TableError, match=f"line {line}: expected 41 entries .* got 42"):
        read_celeba_attributes(write(text.replace(row, row.rstrip() + sep + "1")))
    with pytest.raises(TableError, match=f"line {line}: expected 41 entries"):
        read_celeba_attributes(write(text.replace(row, "")))


def test_wrong_names_are_told_with_the_nearest(truth, write):
    names = ["Smilling" if n == "Smiling" else n for n in CELEBA_ATTRIBUTES]
    for layout in (official, as_csv):
        with pytest.raises(
            TableError, match=r"missing: Smiling; not among the 40: 'Smilling'; did you mean 'Smiling'\?"
        ):
            read_celeba_attributes(write(layout(truth, names=names)))
    with pytest.raises(TableError, match="39 names; missing: Young"):
        read_celeba_attributes(write(as_csv(truth[:, :39], names=CELEBA_ATTRIBUTES[:39])))
    with pytest.raises(TableError, match="twice: Male"):
        read_celeba_attributes(write(as_csv(np.c_[truth, truth[:, 20]], names=[*CELEBA_ATTRIBUTES, "Male"])))
    with pytest.raises(TableError, match=r"line 1: expected the number of rows .* got '000001.jpg 0'"):
        read_celeba_attributes(write("000001.jpg 0\n"))


@pytest.mark.parametrize("layout", [official, as_csv])
@pytest.mark.parametrize("bad", [2, -2, 7])
def test_another_value_names_line_column_and_file(truth, write, layout, bad):
    truth[2, 20] = bad
    line = 5 if layout is official else 4
    with pytest.raises(TableError, match=rf"line {line}: expected -1 or 1 .* for Male of 000003.jpg, got '{bad}'"):
        read_celeba_attributes(write(layout(truth)))


@pytest.mark.parametrize("bad", ["yes", "", "nan", "True", "0.5"])
def test_a_value_that_is_no_number_of_the_two_is_refused(truth, write, bad):
    values = truth.astype(object)
    values[3, 39] = bad
    with pytest.raises(TableError, match=rf"line 5: .* for Young of 000004.jpg, got '{bad}'"):
        read_celeba_attributes(write(as_csv(values)))


def test_a_column_of_true_and_false_only_is_refused_too(truth, write):
    values = truth.astype(object)
    values[:, 5] = True
    with pytest.raises(TableError, match=r"line 2: .* for Bangs of 000001.jpg, got 'True'"):
        read_celeba_attributes(write(as_csv(values)))


def test_minus_one_and_zero_in_one_file_are_refused(truth, write):
    values = np.where(truth == 1, 1, -1)
    values[:, 0], values[3, 7] = 1, 0
    values[0, 1] = -1
    with pytest.raises(TableError, match=r"got both: -1 first in line 3, 0 first in line 6 .* 1 times 0"):
        read_celeba_attributes(write(official(values)))


def test_a_file_name_twice_is_refused(truth, write):
    with pytest.raises(TableError, match=r"'000002.jpg' in lines 4 and 6 \(1 repeated in all\)"):
        read_celeba_attributes(write(official(truth, files=[*FILES[:3], FILES[1]])))
    with pytest.raises(TableError, match=r"'000001.jpg' in lines 1 and 2"):
        read_celeba_partition(write("000001.jpg 0\n000001.jpg 2\n"))


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("header", [None, "image_id,partition"])
def test_partition(write, eol, bom, header):
    sep = "," if header else " "
    rows = [f"{f}{sep}{code}" for f, code in zip(FILES, "0120", strict=True)]
    partition = read_celeba_partition(write(bom + eol.join([header] * bool(header) + [*rows, ""])))
    assert partition.to_dict() == dict(zip(FILES, ["train", "valid", "test", "train"], strict=True))
    assert (partition.name, partition.index.name) == ("partition", "file")


@pytest.mark.parametrize(
    "text", ["000001.jpg 2880\r\n000002.jpg 9\r\n", "image_id,identity\n000001.jpg,2880\n000002.jpg,9\n"]
)
def test_identity(write, text):
    identity = read_celeba_identity(write(text))
    assert identity.to_dict() == {"000001.jpg": 2880, "000002.jpg": 9}
    assert (identity.name, identity.index.name, identity.dtype) == ("identity", "file", np.int64)


@pytest.mark.parametrize("code", ["3", "-1", "train", "0.5"])
def test_another_partition_code_is_refused(write, code):
    with pytest.raises(TableError, match=rf"line 2: expected 0 \(train\), 1 .* of 000002.jpg, got '{code}'"):
        read_celeba_partition(write(f"000001.jpg 0\n000002.jpg {code}\n"))
    with pytest.raises(TableError, match=f"line 1: .* of 000001.jpg, got '{code}'"):  # a bad first row is no header
        read_celeba_partition(write(f"000001.jpg {code}\n000002.jpg 0\n"))


@pytest.mark.parametrize("code", ["someone", "1.5", "-4", "1e300"])
def test_an_identity_that_is_no_whole_number_is_refused(write, code):
    with pytest.raises(TableError, match=r"line 2: expected a whole number .* of 000002.jpg"):
        read_celeba_identity(write(f"000001.jpg 5\n000002.jpg {code}\n"))


def test_files_mixed_up_or_reversed_are_refused(truth, write):
    with pytest.raises(TableError, match=r"line 1: expected 2 entries .* got 1: '4'"):
        read_celeba_partition(write(official(truth)))
    with pytest.raises(TableError, match="expected 2 entries"):
        read_celeba_identity(write(as_csv(truth)))
    with pytest.raises(TableError, match=r"got '000001.jpg'"):
        read_celeba_identity(write("identity,image_id\n2880,000001.jpg\n"))
    with pytest.raises(TableError, match="line 1: expected 2 entries"):
        read_celeba_identity(write("\n000001.jpg 2880\n"))


@pytest.mark.parametrize("reader", [read_celeba_partition, read_celeba_identity])
def test_files_named_without_a_suffix_lose_no_row(tmp_path, reader):
    """A first row "000001 0" is a row; only words in both places are a header."""
    path = tmp_path / "table.txt"
    path.write_text("000001 0\n000002 1\n")
    assert reader(path).index.tolist() == ["000001", "000002"]
    path.write_text("image_id,partition\n000001,0\n")
    assert reader(path).index.tolist() == ["000001"]
