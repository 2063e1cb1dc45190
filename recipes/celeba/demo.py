"""The command demo: draw a synthetic set, train both arms on it, and say what they reach of the known rates."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError
from recipes.celeba.synthetic import BAYES_RATES, COVARIATE, RULE, write_celeba
from recipes.celeba.training import FIT, make_study, read

NOTE = (
    "The images are SYNTHETIC: faces drawn by a program, with attributes that are true by construction. "
    "No photograph and no CelebA label is in them; only the file layout and the column names are CelebA's."
)
OPTIONS: dict[str, tuple[Any, str]] = {
    **{name: option for name, option in FIT.items() if name != "root"},
    "out": ("runs/celeba-demo", "folder to write"),
    "faces": (
        [432, 80, 400],
        "how many to draw for training, validation and test; multiples of 8 have the exact rates",
    ),
}


def demo(words: list[str]) -> None:
    """Draw the faces, train every arm of configs/demo.yaml, print the rates; OUT/report.html is the engine's."""
    print(NOTE, flush=True)
    started = time.perf_counter()
    settings, own = read(words, "demo", OPTIONS, config="demo.yaml")
    out, faces = Path(own["out"]), own.pop("faces")
    if len(faces) != 3 or not all(isinstance(count, int) and count >= 8 for count in faces):
        raise StudyError(f"--faces: expected three counts of at least 8 (train, valid, test), got {faces}")
    seed = int(settings.get("seed", 0))
    root = out / "cache" / f"faces-seed{seed}-{'-'.join(map(str, faces))}"
    if not (root / "celeba" / "identity_CelebA.txt").is_file():  # the last of its files
        if out.is_dir() and any(out.iterdir()) and not (out / "cache").is_dir():
            raise StudyError(
                f"out: expected a new folder or one of a demo, got {out}, which holds other files; give another --out"
            )
        shutil.rmtree(root, ignore_errors=True)  # what a demo that was stopped had drawn
        print(f"drawing {' + '.join(map(str, faces))} faces into {root}", flush=True)
        write_celeba(root, *faces, seed=seed)
    settings.setdefault("split_column", "split")
    comparison = make_study(settings, str(root), out).compare(own.pop("arms"), **own)
    print(f"\nthe rule: {RULE}; {COVARIATE} is drawn nowhere")
    print("best possible accuracy: " + ", ".join(f"{rate:.0%} from {what}" for what, rate in BAYES_RATES.items()))
    print(rates(comparison.predictions, pd.read_csv(out / "rows.csv")).to_string(index=False))
    print(f"\nreport: {out / 'report.html'} ({time.perf_counter() - started:.0f} seconds in all; synthetic images)")


def rates(predictions: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Each arm's test accuracy, and where glasses and smile agree (the image is enough) and differ (it is not)."""
    true = predictions[predictions["control"] == "true"].merge(rows[["id", "Smiling", "Eyeglasses"]], on="id")
    right = true["decision"] == true["target"]
    agree = true["Smiling"] == true["Eyeglasses"]
    table = pd.DataFrame({"arm": true["arm"], "accuracy": right, "glasses and smile agree": right.where(agree),
                          "differ": right.where(~agree)})  # fmt: skip
    return (
        table.astype(dict.fromkeys(table.columns[1:], float)).groupby("arm", sort=False).mean().round(3).reset_index()
    )
