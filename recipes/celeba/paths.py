"""Where CelebA's files are, and what of a command line's paths is wrong, known before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from fusionconv.errors import CheckpointError, TableError
from recipes.common.checkpoint import check_checkpoint
from recipes.common.own_config import configured, early_options, own_config, said
from recipes.common.runs import RunFolder, is_rank_zero, require_writable


def celeba_folder(root: str | Path) -> Path:
    """The folder with img_align_celeba/ in it: ``root`` itself or ``root/celeba``, as in torchvision."""
    for folder in (Path(root) / "celeba", Path(root)):
        if (folder / "img_align_celeba").is_dir():
            return folder
    raise TableError(
        f"--data.root {root}: expected a folder that holds celeba/img_align_celeba/ (torchvision's layout) or "
        "img_align_celeba/ itself, got neither. `python -m recipes.celeba download --root DIR` fetches CelebA; "
        "`python -m recipes.celeba verify --root DIR` says what is there."
    )


def table_path(folder: Path, stem: str) -> Path:
    """``stem``.txt, or the CSV edition of it."""
    for path in (folder / f"{stem}.txt", folder / f"{stem}.csv"):
        if path.is_file():
            return path
    raise TableError(
        f"expected {stem}.txt or {stem}.csv in {folder}, got neither. "
        "`python -m recipes.celeba verify --root DIR` lists what is missing and where to get it."
    )


def images_folder(path: Path) -> Path:
    """``path``, if it is a folder."""
    if not path.is_dir():
        raise TableError(f"--images {path}: expected a folder of images, got {_kind(path)}. Check the path.")
    return path


def weights_file(weights: str) -> Path:
    """``weights`` as the path of a file that is there."""
    if not Path(weights).is_file():
        raise CheckpointError(
            f"--model.weights: expected imagenet, none or a file, got {weights!r}, which is no file. Check the path."
        )
    return Path(weights)


def few(names: list[str], count: int = 3) -> str:
    """The first few names of a long list, for a message."""
    return ", ".join(names[:count]) + (f", ... ({len(names):,d} in all)" if len(names) > count else "")


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "nothing there"


def check_paths(command: str, argv: list[str]) -> None:
    """Raise where a path among the options of a command is wrong; the command itself checks again, and more."""
    if {"-h", "--help"} & set(argv):
        return
    if command in ("fit", "lr_find", "crossval", "validate", "test"):
        _check_run(command, argv)
    elif command in ("predict", "explain", "robustness"):
        if (checkpoint := said(argv, "checkpoint")) is not None:
            check_checkpoint(Path(checkpoint), "celeba")
        if (images := said(argv, "images")) is not None:
            images_folder(Path(images))
        if (table := said(argv, "table")) is not None and not Path(table).is_file():
            raise TableError(f"--table {table}: no such file. Check the path.")
        if (root := said(argv, "root")) is not None:
            celeba_folder(root)
        if (out := said(argv, "out")) is not None:
            require_writable(Path(out) if command == "robustness" else Path(out).parent, "--out")


def _check_run(command: str, argv: list[str]) -> None:
    early = early_options(argv, "crossval" if command == "crossval" else "celeba")
    folder = RunFolder(Path(early.root_dir), early.experiment)
    files = [Path(path) for path in early.config or []]
    if not files and (command in ("validate", "test") or (command == "fit" and early.resume)):
        files = [own_config(early)]
    if command == "fit" and is_rank_zero():
        folder.claim(early.resume or said(argv, "ckpt_path") == "last", "--overwrite" in argv)
    require_writable(folder.path, "--root_dir")
    if (root := configured(argv, files, "data", "root")) is not None:
        celeba_folder(root)
    weights = configured(argv, files, "model", "weights")
    if weights not in (None, "imagenet", "none") and command not in ("validate", "test"):
        weights_file(str(weights))
    if (path := said(argv, "ckpt_path")) not in (None, "null", "best", "last"):
        check_checkpoint(Path(str(path)), "celeba")
