"""Where `predict` may write: over nothing but its own earlier answers, and beside no image of anybody."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fusionconv.errors import StudyError

__all__ = ["AnswerFolder", "require_free_table"]

_OWN = {"id", "networks", "problem"}  # columns that every table of answers has
_LIST = ".fusionconv-answers"  # in a folder of answers: the files that predict wrote


def require_free_table(out: str, table: str | None) -> None:
    """Raise where ``out`` is the table to predict, or a file that `predict` did not write.

    Raises:
        StudyError: it is.
    """
    path = Path(out)
    if path.is_dir():
        raise StudyError(f"out: expected a CSV file to write, got the folder {path}; name a file in it")
    if not path.is_file() or not path.stat().st_size:
        return
    if table and Path(table).exists() and path.samefile(table):
        raise StudyError(f"out: expected another file than the table of the rows, got {path} for both; give another "
                         "--out")  # fmt: skip
    with path.open("rb") as stream:
        head = stream.readline(2**16).decode("utf-8", "replace")
    if not {name.strip('"') for name in head.strip().split(",")} >= _OWN:
        raise StudyError(
            f"out: expected a new file or earlier answers of predict, got {path}, which is something else and would be "
            "lost; give another --out, or remove the file"
        )


class AnswerFolder:
    """The folder of images beside a table of answers, which has its name without ``.csv``.

    Args:
        out: the table of answers.
        inputs: folders of images, masks and target images that must stay as they are.
        tables: tables of rows. A folder of images with such a table in it is somebody's place to work: answers may lie
            in a folder of their own there.

    Raises:
        StudyError: ``out`` does not end in .csv; the folder is, contains or lies in one of ``inputs``; it holds files
            that `predict` did not write.
    """

    def __init__(self, out: str, inputs: Iterable[str | None], tables: Iterable[str | None]) -> None:
        path = Path(out)
        if path.suffix.lower() != ".csv":
            raise StudyError(
                f"out: expected a file that ends in .csv, got {out!r}; the images go into a folder of that name "
                "without .csv"
            )
        self.path = path.with_suffix("")
        folder = self.path.resolve()
        worked = [Path(table).resolve() for table in tables if table]
        for given in filter(None, inputs):
            place = Path(given).resolve()
            inside = folder.is_relative_to(place) and not any(table.is_relative_to(place) for table in worked)
            if folder == place or place.is_relative_to(folder) or inside:
                raise StudyError(
                    f"out: expected a folder of its own for the images of the answers, got {self.path}, which is, "
                    f"contains or lies in {given}, where images or masks are read; give another --out"
                )
        if self.path.exists() and not self.path.is_dir():
            raise StudyError(f"out: expected {self.path} to be a folder or not there, got a file; give another --out")
        listed = self.path / _LIST
        own = {_LIST, *(listed.read_text(encoding="utf-8").split("\n") if listed.is_file() else ())}
        files = (file for file in self.path.rglob("*") if not file.is_dir() or file.is_symlink())
        other = next((file for file in files if file.relative_to(self.path).as_posix() not in own), None)
        if other is not None:
            raise StudyError(
                f"out: expected a new folder, or one with nothing but earlier answers of predict, got {self.path} with "
                f"{other.name}; give another --out"
            )

    def claim(self, written: Iterable[Path]) -> None:
        """Note files as answers, which a later `predict` may write over."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LIST).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{file.relative_to(self.path).as_posix()}\n" for file in written)
