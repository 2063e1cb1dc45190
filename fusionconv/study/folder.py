"""The folder of a study: claimed, described by study.yaml, refused to other settings, with a log."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm
from fusionconv.study.files import write_text
from fusionconv.study.settings import AFTERWARDS, Settings, differences

__all__ = ["claim", "logging_to", "read_study", "require_same_study", "write_study"]

log = logging.getLogger("fusionconv.study")


def claim(out: Path, overwrite: bool) -> None:
    """Make the folder; with ``overwrite`` throw away an earlier comparison, and nothing else.

    Raises:
        StudyError: it cannot be written, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise StudyError(f"out: expected a folder, got the file {out}; give another --out")
    others = {path.name for path in out.iterdir() if path.name[:7] != ".write-"} if out.is_dir() else set()
    ours = {"study.yaml", "cache", "table"}  # cache, table: of one that has not begun, here or on another machine
    if others - {"log.txt"} and not others & ours:
        raise StudyError(f"out: expected a new folder or one of a comparison, got {out}, which holds other files; give "
                         "another --out")  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".write-{uuid.uuid4().hex}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"out: expected a folder that can be written, got {out} ({error.strerror}); give another --out"
        ) from error
    if overwrite:
        for name in ("runs", "figures"):
            shutil.rmtree(out / name, ignore_errors=True)
        for path in (*out.glob("*.csv"), *out.glob("*.json"), *out.glob("report.*"), out / "study.yaml"):
            path.unlink(missing_ok=True)


def write_study(out: Path, settings: Settings, arms: Sequence[Arm]) -> None:
    """study.yaml: everything that the comparison is, so that it can be run again."""
    content = {"settings": settings.to_dict(), "arms": [arm.said for arm in arms]}
    text = "# fusionconv compare --config study.yaml --out DIR\n" + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True
    )
    write_text(out / "study.yaml", text)


def read_study(out: Path) -> dict[str, Any]:
    """What study.yaml says."""
    path = out / "study.yaml"
    if not path.is_file():
        raise StudyError(f"expected the folder of a study (with study.yaml), got {out}; give --out of a comparison")
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: expected YAML, got {' '.join(str(error).split())}; was it edited?") from error
    if not isinstance(saved, dict) or not {"settings", "arms"} <= saved.keys():
        raise StudyError(f"{path}: expected settings and arms, as a comparison writes them, got others; was it edited?")
    return saved


def require_same_study(out: Path, settings: Settings, arms: Sequence[Arm]) -> None:
    """Raise where the folder holds a comparison of other settings; arms may be added.

    Raises:
        StudyError: the settings that differ are named, with both values.
    """
    if not (out / "study.yaml").is_file():
        return
    saved = read_study(out)
    free = {*AFTERWARDS, "repeats", "seeds"}
    new = settings.to_dict()
    old = {**Settings().to_dict(), **saved["settings"]}  # an option that came later had its default
    differ = {k: v for k, v in differences(old, new).items() if k not in free}
    if differ:
        told = "; ".join(f"{name}: {before} before, {now} now" for name, (before, now) in differ.items())
        raise StudyError(
            f"{out}: expected the settings of the comparison that it holds, got others ({told}); give another --out, "
            "or --overwrite to throw the old results away"
        )


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Messages of the engine on the console, and in a file with time stamps."""
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    handlers: list[logging.Handler] = [to_file]
    if not any(getattr(h, "fusionconv", False) for h in log.handlers):
        console = _Console()
        console.setFormatter(logging.Formatter("%(message)s"))
        console.fusionconv = True  # type: ignore[attr-defined]
        handlers.append(console)
    level, log.propagate = log.level, False
    log.setLevel(logging.INFO)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    except Exception as error:
        to_file.emit(logging.LogRecord(log.name, logging.ERROR, "", 0, "stopped: %s", (error,), None))
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        to_file.close()
        log.setLevel(level)
        log.propagate = True


class _Console(logging.Handler):
    """Lines above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record))
