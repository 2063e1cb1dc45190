"""predict: a folder of images and a covariate table in, a CSV (file, probability, prediction) out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from fusionconv.errors import TableError
from fusionconv.tabular import read_celeba_attributes, read_table, require_columns
from recipes.celeba.attributes import answers_frame
from recipes.celeba.images import FaceImages, rows_by_file, to_device
from recipes.celeba.objective import target_names
from recipes.celeba.paths import few, images_folder
from recipes.celeba.trained import open_study
from recipes.common.runs import RunError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def predict(argv: list[str]) -> None:
    """Predict every image that has a row; say which images have none, and which rows have no image."""
    options = _options(argv)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} exists already. Give another --out, or --overwrite to write over it.")
    images_folder(options.images)

    # The model, with its image size, target and covariates, all from the checkpoint.
    study, note = open_study(options.checkpoint, options.device)
    device = study.device

    # Images and rows, matched by file name.
    files = sorted(path.name for path in options.images.iterdir() if path.suffix.lower() in SUFFIXES)
    if note["arm"] == "plain":
        table = pd.DataFrame(index=files)  # the plain arm looks at the image only
    else:
        if options.table is None:
            raise TableError(
                f"this checkpoint is hybrid: give --table with the columns file, {', '.join(note['covariates'])}."
            )
        table = read_covariates(options.table, note["covariates"])
        without_row = [file for file in files if file not in table.index]
        without_image = table.index.difference(files).tolist()
        files = [file for file in files if file in table.index]
        if without_row:
            print(f"{len(without_row):,d} images have no row in {options.table} and are left out: {few(without_row)}")
        if without_image:
            print(f"{len(without_image):,d} rows of {options.table} have no image: {few(without_image)}")
    if not files:
        raise TableError(
            f"nothing to predict: {options.images} has no image ({' '.join(sorted(SUFFIXES))}) with a row in it. "
            "File names in the table must be those in the folder, with their suffix."
        )

    encoder = None if note["arm"] == "plain" else study.encoder
    images = FaceImages(options.images, rows_by_file(table.loc[files], encoder, note.get("constant")))
    loader = DataLoader(images, options.batch_size, num_workers=options.num_workers, collate_fn=images.collate)
    targets = target_names(note["target"])
    probability = np.full((len(files), len(targets)), np.nan)
    skipped = 0
    for batch in tqdm(loader, desc="predict", unit="batch"):
        for file, reason in batch["failures"]:
            if options.on_error == "fail":
                raise TableError(
                    f"cannot decode {options.images / file}: {reason}. Replace the file, or leave such images out with "
                    "--on_error skip."
                )
            print(f"left out an image that does not decode: {file}: {reason}")
            skipped += 1
        if len(batch["index"]) == 0:
            continue
        moved = {"images": to_device(batch["images"], device), "covariates": batch["covariates"].to(device)}
        with torch.inference_mode():
            logits = study.predict_logits(moved)
        if not torch.isfinite(logits).all():
            among = few([files[int(i)] for i in batch["index"]])
            raise RunError(
                f"the network's answer is not a number for an image among {among}: the checkpoint holds NaN or "
                "infinite weights. Take another checkpoint of the run."
            )
        probability[batch["index"].numpy()] = study.objective.probability(logits).cpu().numpy()

    done = ~np.isnan(probability).any(1)
    answers = answers_frame(probability[done], study.objective.loss, targets)
    answers.insert(0, "file", np.array(files)[done])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    answers.to_csv(options.out, index=False, float_format="%.9g")
    print(
        f"wrote {len(answers):,d} predictions of {few(targets)} to {options.out}"
        + (f"; {skipped} skipped" * bool(skipped))
    )


def read_covariates(path: Path, covariates: list[str]) -> pd.DataFrame:
    """A covariate table indexed by file name: CelebA's own (txt or CSV edition), or a table with a column ``file``."""
    if not path.is_file():
        raise TableError(f"expected a covariate table at {path}, got no such file; give the path of the file itself")
    with path.open("rb") as file:
        header = file.readline().removeprefix(b"\xef\xbb\xbf")
    if path.suffix == ".txt" or header.startswith(b"image_id,5_o_Clock_Shadow"):
        table = read_celeba_attributes(path)
    else:
        table = read_table(path, text=["file"])
        require_columns(table, ["file", *covariates], where=str(path))
        if twice := table.loc[table["file"].duplicated(), "file"].tolist():
            raise TableError(f"{path} has several rows for {few(twice)}. Keep one row a file.")
        table = table.set_index("file")
    require_columns(table, covariates, where=str(path))
    return table


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.celeba predict",
        description="Predictions for a folder of images and a table of their covariates, as CSV.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a file of a run's checkpoints/ folder")
    parser.add_argument("--images", type=Path, required=True, help="folder of images (jpg, png, bmp, webp)")
    parser.add_argument(
        "--table",
        type=Path,
        help="CSV with a column 'file' and the covariates' columns (0/1), or CelebA's list_attr_celeba.txt; "
        "a plain checkpoint needs none",
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write: file, probability, prediction")
    parser.add_argument("--overwrite", action="store_true", help="write over --out")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_workers", type=int, default=min(4, os.cpu_count() or 1), help="processes that decode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the default is cuda where there is one")
    parser.add_argument("--on_error", choices=["fail", "skip"], default="fail", help="at an image that does not decode")
    return parser.parse_args(argv)
