"""More columns for the table of head circumferences: the target as a logarithm, and a split by pixel size.

    python -m benchmarks.real.hc18 --table hc18.csv --out hc18-more.csv

``log_circumference`` is the natural logarithm of the millimetres. ``split`` puts every woman with an image of pixels
of 0.2 mm or more into the test part, and of the others a fifth into the validation part: what training sees has
smaller pixels only. Printed as well: the errors that linear fits of perfect measurements would have (`floors`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["floors", "more"]

LARGE = 0.2


def more(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The table with ``log_circumference`` and ``split`` (none: smaller pixels of a woman in the test part).

    >>> table = pd.DataFrame({"subject": [1, 1, 2], "pixel_size_mm": [0.1, 0.25, 0.11], "circumference_mm": 90.0})
    >>> more(table)["split"].tolist()
    ['none', 'test', 'val']
    """
    large = table["pixel_size_mm"] >= LARGE
    test = set(table.loc[large, "subject"])
    others = np.random.default_rng(seed).permutation(sorted(set(table["subject"]) - test))
    val = set(others[: max(1, round(len(others) / 5))].tolist())
    part = ["test" if s in test else "val" if s in val else "train" for s in table["subject"]]
    part = ["none" if p == "test" and not own else p for p, own in zip(part, large, strict=True)]
    return table.assign(log_circumference=np.log(table["circumference_mm"]), split=part)


def floors(table: pd.DataFrame) -> dict[str, float]:
    """Mean absolute error in mm with a perfect measurement in pixels, of least squares on all rows.

    >>> table = pd.DataFrame({"pixel_size_mm": [1.0, 2, 1, 2], "circumference_mm": [10.0, 20, 30, 60]})
    >>> floors(table)["pixels times pixel size"]
    0.0
    """
    mm, size = table["circumference_mm"].to_numpy(), table["pixel_size_mm"].to_numpy()
    pixels = mm / size
    known = {"nothing (the mean)": [], "pixels": [pixels], "pixel size": [size], "their sum": [pixels, size]}
    found = {}
    for name, columns in known.items():
        X = np.stack([np.ones_like(mm), *columns], 1)
        found[name] = float(np.abs(X @ np.linalg.lstsq(X, mm, rcond=None)[0] - mm).mean())
    return found | {"pixels times pixel size": float(np.abs(pixels * size - mm).mean())}


def main(words: list[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    table = more(pd.read_csv(given.table, dtype={"subject": str}))
    table.to_csv(given.out, index=False)
    print(table["split"].value_counts().to_string())
    for known, error in floors(table).items():
        print(f"{error:5.1f} mm from {known}")


if __name__ == "__main__":
    main()
