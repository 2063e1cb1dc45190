"""CelebA's folder: its tables joined into one study table, and the commands verify and download."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Literal

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.study.files import write_text
from fusionconv.tabular import read_celeba_attributes, read_celeba_identity, read_celeba_partition

OFFICIAL_IMAGES = 202_599
TEXT_MD5 = {  # of the official files, which have CRLF line ends (torchvision lists the same)
    "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
    "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
    "identity_CelebA.txt": "32bd1bd63d3c78cd57e08160ec5ed1e2",
    "list_bbox_celeba.txt": "00566efa6fedff7a56946cd1c10f1c16",
    "list_landmarks_align_celeba.txt": "cc24ecafdb5b50baae59b03474781f8c",
}
READERS = {
    "list_attr_celeba": read_celeba_attributes,
    "list_eval_partition": read_celeba_partition,
    "identity_CelebA": read_celeba_identity,
}
TERMS = (
    "CelebA is for non-commercial research only and may not be passed on; by downloading it you accept the terms on "
    "its home page (mmlab.ie.cuhk.edu.hk/projects/CelebA.html)."
)

Report = list[tuple[Literal["ok", "note", "WRONG"], str]]

# ---- the study table ----


def celeba_folder(root: str | Path) -> Path:
    """The folder with img_align_celeba/ in it: ``root`` itself or ``root/celeba``, as in torchvision."""
    for folder in (Path(root) / "celeba", Path(root)):
        if (folder / "img_align_celeba").is_dir():
            return folder
    raise TableError(
        f"--root {root}: expected a folder that holds celeba/img_align_celeba/ (torchvision's layout) or "
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


def study_table(root: str | Path) -> pd.DataFrame:
    """A row per image of the partition, in its order, with columns named as in CelebA.

    Columns: ``file``; ``person`` (of identity_CelebA; without that file each image is its own); ``split`` (train,
    valid, test: the official partition); ``as_published`` (train; the validation images as test, on which the study
    chose and reported; the test images are left out); the 40 attributes, 0 and 1; ``all_0`` and ``all_1``, covariates
    that say nothing.

    Raises:
        TableError: no such folder or table; tables of different editions.
    """
    folder = celeba_folder(root)
    attributes = read_celeba_attributes(table_path(folder, "list_attr_celeba"))
    partition = read_celeba_partition(table_path(folder, "list_eval_partition"))
    if unknown := partition.index.difference(attributes.index).tolist():
        raise TableError(
            f"expected attributes of every file of the partition, got none of {few(unknown)}. The two tables must come "
            "from the same edition of CelebA."
        )
    person = pd.Series(partition.index, partition.index)
    if any(folder.glob("identity_CelebA.*")):
        person = read_celeba_identity(table_path(folder, "identity_CelebA")).reindex(partition.index)
        if unknown := partition.index[person.isna()].tolist():
            raise TableError(
                f"expected the identity of every image, got none of {few(unknown)}: people could not be kept on one "
                "side. Take the tables of one edition, or remove the identity file."
            )
        person = person.astype("int64").map("p{}".format)
    published = partition.map({"train": "train", "valid": "test", "test": ""})
    table = pd.DataFrame({"file": partition.index, "person": person.to_numpy(), "split": partition.to_numpy()})
    table["as_published"] = published.to_numpy()
    return pd.concat([table, attributes.loc[partition.index].reset_index(drop=True)], axis=1).assign(all_0=0, all_1=1)


def write_study_table(root: str | Path, cache: Path, skip_absent: bool = False) -> dict[str, str]:
    """The table as a file in ``cache``, under the name of its content, and the settings of a study that say so.

    Raises:
        TableError: images that are listed and not there, unless ``skip_absent``: they are then left out, and counted.
    """
    table = study_table(root)
    present = {entry.name for entry in os.scandir(celeba_folder(root) / "img_align_celeba")}
    absent = [name for name in table["file"] if name not in present]
    if absent and not skip_absent:
        raise TableError(
            f"expected the {len(table):,d} listed images in img_align_celeba/, got none of {few(absent)}; unpack the "
            "zip file again, or leave them out with --on-error skip"
        )
    text = table.to_csv(index=False)
    path = cache / f"celeba-{hashlib.sha256(text.encode()).hexdigest()[:12]}.csv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    images = str(celeba_folder(root) / "img_align_celeba")
    return {"table": str(path), "images": images, "image_column": "file", "subject": "person"}


def few(names: list[str], count: int = 3) -> str:
    """The first few names of a long list, for a message."""
    return ", ".join(names[:count]) + (f", ... ({len(names):,d} in all)" if len(names) > count else "")


# ---- verify, download ----


def text_md5(path: Path) -> str:
    r"""md5 of a text file with its line ends made CRLF, as the official files have them: an LF copy is as good."""
    return hashlib.md5(
        path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), usedforsecurity=False
    ).hexdigest()


def inspect(root: Path) -> Report:
    """Every check, in the order in which one would look."""
    report: Report = []
    try:
        folder = celeba_folder(root)
    except TableError as error:
        return [("WRONG", str(error))]
    report.append(("ok", f"{folder} has img_align_celeba/"))

    # The tables: there, readable, and (the full official text files) unchanged.
    tables = {}
    for stem, reader in READERS.items():
        optional = stem == "identity_CelebA"
        try:
            path = table_path(folder, stem)
            tables[stem] = reader(path)
        except TableError as error:
            absent = optional and not any(folder.glob(f"{stem}.*"))
            report.append(("note", f"no {stem}: fine, training does not need it") if absent else ("WRONG", str(error)))
            continue
        report.append(("ok", f"{path.name}: {len(tables[stem]):,d} rows"))
    for name, official in TEXT_MD5.items():
        path = folder / name
        if not path.is_file():
            continue
        if text_md5(path) == official:
            report.append(("ok", f"{name}: the official file (md5 after making line ends CRLF)"))
        elif len(tables.get("list_attr_celeba", ())) == OFFICIAL_IMAGES:
            report.append(
                ("WRONG", f"{name}: all {OFFICIAL_IMAGES:,d} images are listed, but its md5 is {text_md5(path)}, the "
                 f"official one {official}: the file was changed or cut. Delete it and download it again.")
            )  # fmt: skip
        else:
            report.append(
                ("note", f"{name}: not the official file (md5 differs); right for a subset or a synthetic set")
            )

    # The images against the tables.
    images = folder / "img_align_celeba"
    present = {entry.name for entry in os.scandir(images) if entry.is_file()}
    kind = "ok" if len(present) == OFFICIAL_IMAGES else "note"
    report.append((kind, f"{len(present):,d} files in img_align_celeba/ (the full set has {OFFICIAL_IMAGES:,d})"))
    attributes, partition = tables.get("list_attr_celeba"), tables.get("list_eval_partition")
    if attributes is None or partition is None:
        return report
    absent = partition.index.difference(list(present)).tolist()
    if absent:
        report.append(
            ("WRONG", f"{len(absent):,d} images are listed but absent: {few(absent)}. Unpack the zip file again, "
             "or train with --on-error skip.")
        )  # fmt: skip
    unlisted = sorted(present - set(partition.index))
    if unlisted:
        report.append(("note", f"{len(unlisted):,d} images are in no split and will not be used: {few(unlisted)}"))
    strangers = partition.index.difference(attributes.index).tolist()
    if strangers:
        report.append(
            ("WRONG", f"{len(strangers):,d} files of the partition have no attributes: {few(strangers)}. Take both "
             "tables from one edition.")
        )  # fmt: skip
    counts = {split: int((partition == split).sum()) for split in ("train", "valid", "test")}
    empty = [split for split, count in counts.items() if count == 0]
    report.append(
        ("WRONG" if empty else "ok", f"partition: {counts}" + (f"; empty: {', '.join(empty)}" if empty else ""))
    )
    identity = tables.get("identity_CelebA")
    if identity is not None:
        shared = identity.reindex(partition.index).groupby(partition).unique().apply(lambda ids: set(ids))
        leaks = len(shared.get("train", set()) & (shared.get("test", set()) | shared.get("valid", set())))
        stops = "; `fit` stops there, --subject file goes on all the same" if leaks else ""
        report.append(("note" if leaks else "ok", f"{leaks} identities are both in train and in valid or test{stops}"))

    # A few images, evenly spaced.
    listed = [name for name in partition.index if name in present]
    for name in listed[:: max(1, len(listed) // 20)]:
        try:
            _decode(images / name)
        except (OSError, ValueError, SyntaxError) as error:
            report.append(
                ("WRONG", f"{name} does not decode: {error}. Unpack it again, or train with --on-error skip.")
            )
    report.append(("ok", "looked into about 20 images"))
    return report


def verify(argv: list[str]) -> None:
    """Print what is there and what is wrong; exit code 1 when something is."""
    root = _root(argv, "verify", "Check a CelebA folder; exit code 1 when something is wrong.")
    report = inspect(root)
    for kind, line in report:
        print(f"[{kind:>5s}] {line}")
    wrong = sum(kind == "WRONG" for kind, _ in report)
    print(f"{root}: " + (f"{wrong} thing{'s' * (wrong > 1)} wrong, see above" if wrong else "good to train on"))
    if wrong:
        raise SystemExit(1)


def download(argv: list[str]) -> None:
    """Fetch what is missing, with torchvision's list and downloader; files that are there are never written over."""
    root = _root(argv, "download", f"Fetch CelebA with torchvision (needs gdown). {TERMS}")
    print(TERMS)
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import check_integrity, download_file_from_google_drive, extract_archive

    folder = root / "celeba"
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "img_align_celeba"
    for file_id, md5, name in CelebA.file_list:
        path = folder / name
        if name.endswith(".zip") and images.is_dir() and len(os.listdir(images)) >= OFFICIAL_IMAGES:
            print(f"{name}: not needed, img_align_celeba/ is full")
            continue
        if path.exists():
            if (text_md5(path) if path.suffix == ".txt" else _file_md5(path)) != md5:
                raise TableError(
                    f"{path} is there, but is not the official file (md5). It is not written over: move it away if it "
                    "is yours, or delete it if a download was cut short, and run this again."
                )
            print(f"{name}: already there")
            continue
        try:
            download_file_from_google_drive(file_id, str(folder), name, md5)
        except Exception as error:  # gdown and torchvision raise many kinds
            _explain(path, error)
        if not path.is_file() or not check_integrity(str(path), md5):
            _explain(path, None)
        print(f"{name}: downloaded")
    if not images.is_dir() or len(os.listdir(images)) < OFFICIAL_IMAGES:
        print("unpacking img_align_celeba.zip ...")
        extract_archive(str(folder / "img_align_celeba.zip"), str(folder))
    verify(["--root", str(root)])


def _explain(path: Path, error: Exception | None) -> None:
    """What a failed download was, as far as it can be told. A file that it left is removed: it was not there before."""
    came = f"{type(error).__name__}: {error}" if error else "a file with another md5"
    if isinstance(error, ImportError):
        raise TableError(f"the download needs gdown, which is not installed ({error}): pip install gdown") from None
    if path.is_file():
        with path.open("rb") as file:
            if file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html")):
                came = "an HTML page in place of the file, which is how Google Drive says that its quota is used up"
        path.unlink()
    raise TableError(
        f"{path.name} did not arrive: expected the official file, got {came}. Google Drive limits the downloads of a "
        "file per day: try again tomorrow, or fetch it by hand in a browser from CelebA's home page and put it at "
        f"{path}; then run this again, which keeps what is there."
    ) from None


def _file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _decode(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB")


def _root(argv: list[str], command: str, description: str) -> Path:
    parser = argparse.ArgumentParser(prog=f"python -m recipes.celeba {command}", description=description)
    parser.add_argument("--root", type=Path, required=True, help="folder that holds (or will hold) celeba/")
    root: Path = parser.parse_args(argv).root
    return root
