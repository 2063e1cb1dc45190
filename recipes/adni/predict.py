"""predict: volumes and a covariate table in, a CSV of probabilities, predicted values or log hazards out."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from fusionconv.errors import TableError
from fusionconv.tabular import read_paths_table, read_table
from fusionconv.tabular.images import NIFTI
from recipes.adni.preparation import ReadPrepared, prepare
from recipes.adni.study import BrainStudy
from recipes.adni.trained import answers, device_of, encode, open_study, preparation_of, refused
from recipes.common.runs import RunError, require_writable

SUFFIXES = (*NIFTI, ".mgz")


def main(argv: list[str]) -> None:
    """Predict every row that has an image; list rows without one, images without a row, and unusable volumes."""
    options = _options(argv)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} exists already. Give another --out, or --overwrite to write over it.")
    require_writable(options.out.parent, "--out")
    device = device_of(options.device)
    study = open_study(options.checkpoint)
    frame = volumes_alone(options.images) if options.table is None else rows_of(options)
    if options.table is None and study.hparams.arm != "image":
        raise TableError(
            f"this checkpoint is of the arm {study.hparams.arm!r}: give --table with the columns subject, image, "
            f"{', '.join(study.hparams.covariates)}."
        )
    if frame.empty:
        raise TableError("nothing to predict: no row has an image. The lines above say why.")
    rows = predict_rows(study, frame, options.batch_size, device, options.cache)
    failed = rows["problem"].notna()
    for problem in rows.loc[failed, "problem"]:
        print(f"left out, {problem}")
    if failed.all():
        raise RunError("nothing was predicted: no row can be used. The lines above say why.")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows[~failed].drop(columns="problem").to_csv(options.out, index=False, float_format="%.9g")
    left_out = f"; {failed.sum():,d} rows left out" * bool(failed.any())
    print(f"wrote {(~failed).sum():,d} predictions to {options.out}{left_out}")


def predict_rows(
    study: BrainStudy, frame: pd.DataFrame, batch_size: int, device: torch.device, cache: Path | None = None
) -> pd.DataFrame:
    """The answer for each row of a tidy frame, from its own volume and its own covariates.

    Args:
        study: what `trained.open_study` gave; it goes to ``device``.
        frame: subject, session, image and the covariates' columns.
        batch_size: volumes at a time.
        device: where the network runs.
        cache: a folder of prepared volumes, such as that of crossval; None: a temporary one, emptied batch by batch.

    Returns:
        subject, session, image, the answers, and ``problem``: why a row's covariates or volume cannot be used (then its
        answers are missing).
    """
    from tqdm import tqdm

    frame = frame.reset_index(drop=True)
    study.to(device)
    problems = pd.Series(pd.NA, frame.index, dtype=object)
    for place, reason in refused(study, frame, "the table of covariates").items():  # before hours go by
        problems[place] = f"the covariates of {frame['subject'][place]} cannot be used: {reason}"
    fine = frame.index[problems.isna()]
    encoded = torch.zeros(0, 0) if fine.empty else encode(study, frame.loc[fine], "the table of covariates")
    covariates = torch.zeros(len(frame), encoded.shape[1])
    covariates[torch.as_tensor(np.array(fine))] = encoded
    covariates = covariates.to(device)
    preparation = preparation_of(study)
    found: list[pd.DataFrame] = []
    with tqdm(total=len(fine), desc="predict", unit="volume") as bar, tempfile.TemporaryDirectory() as temporary:
        for start in range(0, len(fine), batch_size):
            places = fine[start : start + batch_size]
            images = frame.loc[places, "image"].astype(str)
            prepared = prepare(images, preparation, cache or Path(temporary), progress=False)
            for place in places[images.isin(prepared.failed.keys())]:
                problems[place] = f"the volume cannot be used: {prepared.failed[images[place]]}"
            good = places[images.isin(prepared.files.keys())]
            if len(good):
                read = ReadPrepared(prepared.files)
                batch = torch.stack([read({"image": images[place]})["image"].as_tensor() for place in good])
                with torch.inference_mode():
                    outputs = study(batch.to(device), covariates[torch.as_tensor(np.array(good), device=device)])
                found.append(answers(study, outputs).set_index(good))
            if cache is None:
                for file in prepared.files.values():
                    file.unlink(missing_ok=True)
            bar.update(len(places))
    rows = frame[["subject", "session", "image"]]
    return rows.join(pd.concat(found) if found else pd.DataFrame()).assign(problem=problems)


def rows_of(options: argparse.Namespace) -> pd.DataFrame:
    """The table's rows with an image, among --images; what does not match is printed, never guessed."""
    reading = dict(options.table_options or {})
    columns = {"subject": reading.pop("subject", "subject"), "image": reading.pop("image_column", "image")}
    columns["session"] = reading.pop("session", "session")
    try:
        header = read_table(options.table, **{**reading, "numbers": False})
    except TypeError as error:
        raise TableError(f"--table_options {reading}: {error}. docs/tables.md tells what read_table takes.") from None
    lacking = [columns[name] for name in ("subject", "image") if columns[name] not in header]
    if lacking:
        raise TableError(
            f"--table {options.table}: expected the columns {columns['subject']}, {columns['image']}, perhaps "
            f"{columns['session']}, and the covariates, and {', '.join(lacking)} is not among "
            f"{', '.join(map(str, header))}. Name yours: --table_options '{{subject: id, image_column: file}}'."
        )
    folder = options.images[0] if len(options.images) == 1 and options.images[0].is_dir() else None
    session = columns["session"] if columns["session"] in header else None
    try:
        frame, report = read_paths_table(
            options.table, columns["image"], folder, subject=columns["subject"], session=session, report=True, **reading
        )
    except FileNotFoundError as error:
        raise TableError(str(error)) from None
    for line in report.fillna("").itertuples():
        who = f"{line.subject} {line.session}".strip()
        print(f"left out, {line.kind}: {': '.join(filter(None, (who, line.image, line.reason)))}")
    frame = frame[frame["image"].notna()]
    if folder is None:
        asked = {path.resolve(): path for path in files_of(options.images)}
        named = frame["image"].map(lambda image: Path(image).resolve())
        for path in asked.keys() - set(named):
            print(f"left out, image without row: {asked[path]}: {options.table} has no row with this path")
        frame = frame[named.isin(asked.keys())]
    return frame.reset_index(drop=True)


def volumes_alone(images: list[Path]) -> pd.DataFrame:
    """The volumes without a table; a file's name stands for the subject."""
    files = files_of(images)
    names = [file.name.removesuffix(".gz").rsplit(".", 1)[0] for file in files]
    if len(set(names)) < len(names):  # s01/T1.nii.gz, s02/T1.nii.gz: only their paths tell them apart
        names = [str(file) for file in files]
    return pd.DataFrame({"subject": names, "session": "", "image": [str(file) for file in files]})


def files_of(images: list[Path]) -> list[Path]:
    """The files named, and all volumes in the folders named.

    Raises:
        TableError: a path that is not there, or a folder without volumes.
    """
    files: list[Path] = []
    for path in images:
        if not path.exists():
            raise TableError(f"--images {path}: there is no such file or folder. Check the path.")
        inside = [file for file in sorted(path.rglob("*")) if file.name.endswith(SUFFIXES)] if path.is_dir() else [path]
        if not inside:
            raise TableError(f"--images {path}: no volume in it ({', '.join(SUFFIXES)}). Check the folder.")
        files += inside
    return files


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.adni predict",
        description="Predictions of a trained network for new volumes and a table of their covariates, as CSV. Volumes "
        "are prepared as in training; the covariates' encoding is that of the checkpoint.",
        epilog="The table: a row per image with the columns subject, image (a path in --images, or beside the table "
        "where --images names files), session (optional), and the covariates by the names that they had in training. A "
        "checkpoint of the arm image needs no table.",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a .ckpt of fit, or of crossval --keep_checkpoints"
    )
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="the folder of the volumes, or files")
    parser.add_argument("--table", type=Path, help="CSV, TSV, Excel or Parquet: subject, image, the covariates")
    parser.add_argument(
        "--table_options",
        type=yaml.safe_load,
        default={},
        metavar="YAML",
        help="how the table is read, as --data.source.options was in training: {image_column: file, subject: id, "
        "session: visit, decimal: ','}",
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write: subject, session, image, the answers")
    parser.add_argument("--overwrite", action="store_true", help="write over --out")
    parser.add_argument("--batch_size", type=_positive, default=4, help="volumes at a time (default 4)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the network runs")
    parser.add_argument("--cache", type=Path, help="keep prepared volumes in this folder (crossval's --data.cache)")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, came {text!r}")
    return int(text)
