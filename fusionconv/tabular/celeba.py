"""CelebA's label files: the official text files and the CSV edition, told apart by their content.

Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015. The data are for non-commercial research
and may not be passed on; no label file comes with this package.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from typing import Any

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import did_you_mean
from fusionconv.tabular.datafile import read_text

__all__ = ["CELEBA_ATTRIBUTES", "read_celeba_attributes", "read_celeba_identity", "read_celeba_partition"]

#: The 40 attribute names in the official order, so that ``CELEBA_ATTRIBUTES.index("Attractive") == 2``.
CELEBA_ATTRIBUTES: tuple[str, ...] = tuple(
    """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young""".split()  # noqa: SIM905 - forty names on forty lines read no better
)
_PARTITIONS = {0: "train", 1: "valid", 2: "test"}


def read_celeba_attributes(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read ``list_attr_celeba.txt`` or its CSV edition.

    The official file has the number of rows in line 1, the 40 names in line 2, then a file name and 40 values a row,
    separated by runs of spaces. The CSV edition has a header ``image_id,5_o_Clock_Shadow,...`` and commas. Line ends
    may be LF or CRLF. Values are -1/1 or 0/1, not both. Columns in another order are put back into the official one.

    Returns:
        A table indexed by file name (``index.name == "file"``) with the 40 official columns in the official order and
        int8 values 0 (no) and 1 (yes), rows in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is empty, an HTML page, cut off, or has other names, other values or a file name twice.

    >>> import pathlib, tempfile
    >>> row = "000001.jpg" + " -1" * 39 + "  1"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "list_attr_celeba.txt")
    ...     _ = path.write_text("\\n".join(["1", " ".join(CELEBA_ATTRIBUTES), row]))
    ...     table = read_celeba_attributes(path)
    >>> table[["Male", "Young"]].to_dict("index")
    {'000001.jpg': {'Male': 0, 'Young': 1}}
    """
    lines = read_text(path, "CelebA's list_attr_celeba.txt or its CSV edition").split("\n")
    first = _split(lines[0])
    if counted := len(first) == 1 and first[0].isdecimal():
        names = lines[1].split() if len(lines) > 1 else []
    else:
        names = first[1:]
        if not set(names) & set(CELEBA_ATTRIBUTES):
            raise TableError(
                f"{path}, line 1: expected the number of rows (official text file) or the header "
                f"'image_id,5_o_Clock_Shadow,...' (CSV edition), got {_short(lines[0])}; "
                "this is another file or its first line is lost: download it again"
            )
    _require_official_names(names, path)
    skip = 2 if counted else 1
    if counted and int(first[0]) != len(lines) - skip:
        raise TableError(
            f"{path}: expected {int(first[0])} rows as line 1 says, got {len(lines) - skip} (the last line is "
            f"{_short(lines[-1])}); the file is cut off or was edited: download it again or mend line 1"
        )
    table = _read_rows(lines, skip, names, path)
    expected = "-1 or 1 (or 0 or 1 throughout)"
    _require(table, names, lambda column: column.isin((-1, 0, 1)), expected, skip, path)
    values = table[names].to_numpy("int8")
    minus, zero = values == -1, values == 0
    if minus.any() and zero.any():
        at_minus, at_zero = int(minus.any(axis=1).argmax()), int(zero.any(axis=1).argmax())
        raise TableError(
            f"{path}: expected values -1/1 or values 0/1, got both: -1 first in line {at_minus + skip + 1}, 0 first "
            f"in line {at_zero + skip + 1} ({minus.sum()} times -1, {zero.sum()} times 0); a 0 may mean 'no' or "
            "'unknown', so nothing is guessed: mend the file or download it again"
        )
    frame = pd.DataFrame((values == 1).astype("int8"), index=table.index, columns=pd.Index(names))
    return frame[list(CELEBA_ATTRIBUTES)]


def read_celeba_partition(path: str | os.PathLike[str]) -> pd.Series[Any]:
    """Read ``list_eval_partition.txt`` (rows ``file code``) or its CSV edition (header ``image_id,partition``).

    Returns:
        A series named ``"partition"`` indexed by file name, of ``"train"`` (code 0), ``"valid"`` (1) or ``"test"`` (2).

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is no such table, has a code other than 0, 1, 2, or a file name twice.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "list_eval_partition.txt")
        ...     _ = path.write_text("000001.jpg 0\\n000002.jpg 2\\n")
        ...     read_celeba_partition(path).to_dict()
        {'000001.jpg': 'train', '000002.jpg': 'test'}
    """
    column = _read_pairs(path, "partition", "CelebA's list_eval_partition.txt or its CSV edition")
    return column.map(_PARTITIONS)


def read_celeba_identity(path: str | os.PathLike[str]) -> pd.Series[Any]:
    """Read ``identity_CelebA.txt`` (rows ``file identity``) or a CSV with a header and the same two columns.

    Returns:
        An int64 series named ``"identity"`` indexed by file name; pictures of one person have one number.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is no such table, has an identity that is not a whole number, or a file name twice.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "identity_CelebA.txt")
        ...     _ = path.write_text("000001.jpg 2880\\n000002.jpg 2937\\n")
        ...     read_celeba_identity(path).to_dict()
        {'000001.jpg': 2880, '000002.jpg': 2937}
    """
    return _read_pairs(path, "identity", "CelebA's identity_CelebA.txt or a CSV of it")


def _read_pairs(path: str | os.PathLike[str], name: str, expected: str) -> pd.Series[Any]:
    """The two-column files: a file name and a whole number a row, with a header line or without."""
    lines = read_text(path, expected).split("\n")
    first = _split(lines[0])
    skip = 1 if len(first) == 2 and "." not in first[0] and not first[1].lstrip("+-").isdecimal() else 0  # a header
    table = _read_rows(lines, skip, [name], path)
    if name == "partition":
        _require(table, [name], lambda c: c.isin(_PARTITIONS), "0 (train), 1 (valid) or 2 (test)", skip, path)
    else:
        _require(table, [name], lambda c: c.between(0, 2**53) & (c % 1 == 0), "a whole number from 0 on", skip, path)
    return table[name].astype("int64")


def _split(line: str) -> list[str]:
    return [v.strip().strip('"') for v in line.split(",")] if "," in line else line.split()


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


def _require_official_names(names: list[str], path: str | os.PathLike[str]) -> None:
    missing = [n for n in CELEBA_ATTRIBUTES if n not in names]
    others = [f"{n!r}{did_you_mean(n, missing)}" for n in names if n not in CELEBA_ATTRIBUTES]
    twice = sorted({n for n in names if names.count(n) > 1})
    if missing or others or twice:
        came = [f"{len(names)} names"]
        for label, found in (("missing", missing), ("not among the 40", others), ("twice", twice)):
            came += [f"{label}: {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}"] if found else []
        raise TableError(
            f"{path}: expected the 40 official attribute names, got {'; '.join(came)}. "
            "Rename or drop the columns, or download the file again"
        )


def _read_rows(lines: list[str], skip: int, names: list[str], path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows after the first ``skip`` lines as columns ``names`` indexed by file, each row of the right length."""
    # Not by read_table: for 202,599 rows of 40 attributes that takes 50 s and this 2 s, as it looks at the text of each
    # cell; here each value is held to -1, 0, 1 or a whole number afterwards (_require).
    rows = lines[skip:]
    if not rows:
        raise TableError(f"{path}: expected rows after the header, got none; the file is cut off: download it again")
    comma = "," in rows[0]
    width = 1 + len(names)
    for number, row in enumerate(rows, skip + 1):
        if (came := len(row.split("," if comma else None))) != width:
            raise TableError(
                f"{path}, line {number}: expected {width} entries (a file name and {len(names)} value"
                f"{'s' if len(names) > 1 else ''}), got {came}: {_short(row)}; "
                "the file is cut off or was edited: mend that line or download it again"
            )
    text = "\n".join(rows)
    table = pd.read_csv(
        io.StringIO(text.replace('"', "") if comma else text),
        sep="," if comma else r"\s+",
        names=["file", *names],
        dtype={"file": str},
        na_filter=False,
        skipinitialspace=True,
        low_memory=False,
        quoting=csv.QUOTE_NONE,
    )
    files = table["file"].str.strip()
    if (again := files.duplicated()).any():
        at = int(again.to_numpy().argmax())
        before = int((files == files[at]).to_numpy().argmax())
        raise TableError(
            f"{path}: expected every file name once, got {files[at]!r} in lines {before + skip + 1} and "
            f"{at + skip + 1} ({again.sum()} repeated in all); remove the repeated rows"
        )
    return table[names].set_index(pd.Index(files, name="file"))


def _require(
    table: pd.DataFrame,
    names: list[str],
    is_good: Callable[[pd.Series[Any]], pd.Series[Any]],
    expected: str,
    skip: int,
    path: str | os.PathLike[str],
) -> None:
    """Raise for the first row that has a value other than ``expected``, naming its line and column."""
    bad: list[tuple[int, str]] = []
    for name in names:
        column = table[name]
        good = is_good(pd.to_numeric(column, errors="coerce")).to_numpy() & (column.dtype != bool)
        if not good.all():
            bad.append((int(good.argmin()), name))
    if bad:
        at, name = min(bad)
        raise TableError(
            f"{path}, line {at + skip + 1}: expected {expected} for {name} of {table.index[at]}, "
            f"got {str(table[name].iloc[at])!r}; give the right file, download it again, or mend that line"
        )
