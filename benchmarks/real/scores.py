"""What is kept of a study, and every figure of its page recomputed from it.

    python -m benchmarks.real.scores keep NAME OUT [OUT ...] [--score mae] [--exp] [--where blur=unseen] [--add]
    python -m benchmarks.real.scores show NAME [--reference ARM] [--markdown]

`keep` reads finished studies of ``fusionconv compare`` (several: the same split with other seeds) and writes
benchmarks/results/real/NAME.csv.gz: a line for each test row of each fold or seed, with a number for its subject and
a score for each arm; no image, no label. NAME.json has how the study was made. `show` prints the page's table.

Scores of a row: ``mae`` the absolute error, ``accuracy`` 1 where the decision is right, ``auc`` a pseudo-value of the
area under the curve (a fold's mean is its AUC; `_pseudo_values`), or a column of the task's own such as ``psnr``.
``--exp``: the target is a natural logarithm; errors are of its exponential. ``--where COLUMN=VALUE`` keeps the rows of
the table that have this value. ``--add``: the arms join those that NAME has, which were run on the same rows and folds
before; both processors are then in NAME.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from benchmarks.real.names import name_of
from fusionconv.errors import EvaluationError
from fusionconv.evaluation import corrected_resampled_ttest, fold_interval, holm, paired_bootstrap_scores
from fusionconv.evaluation.auc_difference import placements
from fusionconv.study.environment import hardware, versions
from fusionconv.study.written_tables import read_predictions, read_texts

__all__ = ["keep", "markdown", "read", "table"]

FOLDER = Path(__file__).parents[1] / "results" / "real"
_PLACES = ("table", "images", "cache", "out", "target_folder")
DECIMALS = {"mae": 3, "accuracy": 0, "psnr": 4}


def keep(
    name: str, studies: Sequence[Path], score: str = "mae", exp: bool = False, where: str = "", folder: Path = FOLDER,
    add: bool = False,
) -> Path:  # fmt: skip
    """Write NAME.csv.gz and NAME.json.

    Raises:
        ValueError: a study that is not finished, or studies whose rows differ; with ``add`` also from those kept, or
            an arm that is kept already.
    """
    frames, controls = [], []
    for study in studies:
        predictions: Any = read_predictions(study / "predictions.csv")
        if where:
            column, _, value = where.partition("=")
            rows = read_texts(study / "rows.csv")
            predictions = predictions[predictions["id"].isin(rows.loc[rows[column] == value, "id"])]
        if exp:
            predictions[["target", "prediction"]] = np.exp(predictions[["target", "prediction"]])
        if score in predictions:  # images out: a study means over each subject's images first
            parts = predictions.groupby(["arm", "fold", "control", "subject"], sort=False, as_index=False)
            predictions = parts[score].mean().assign(id=lambda frame: frame["subject"])
        predictions["score"] = _score(predictions, score)
        fold = predictions["fold"] if len(studies) == 1 else _seed(study)
        frame = predictions.assign(fold=fold, kind=predictions["control"].str.replace(r"-\d+$", "", regex=True))
        controls.append(frame[frame["kind"] != "true"].groupby(["arm", "kind"])["score"].mean())
        frames.append(frame[frame["kind"] == "true"])
    every = pd.concat(frames)
    wide = every.pivot(index=["fold", "subject", "id"], columns="arm", values="score").reset_index()
    arms = list(dict.fromkeys(every["arm"]))
    if wide[arms].isna().any(axis=None):
        raise ValueError(f"expected every arm to have every row, got {int(wide[arms].isna().sum().sum())} without")
    wide.insert(2, "row", pd.factorize(wide["id"])[0])
    wide["subject"] = pd.factorize(wide["subject"])[0]
    folder.mkdir(parents=True, exist_ok=True)
    wide = wide[["fold", "subject", "row", *arms]].round(DECIMALS.get(score, 4))
    runs = pd.read_csv(studies[0] / "runs.csv")
    said = yaml.safe_load((studies[0] / "study.yaml").read_text())
    settings = {k: v for k, v in said["settings"].items() if v is not None and k not in _PLACES}
    means = pd.concat(controls, axis=1).mean(axis=1) if len(pd.concat(controls)) else pd.Series(dtype=float)
    about = {
        "score": score, "reference": arms[0], "seeds_on_one_split": len(studies) > 1,
        "train": float(runs["n_train"].mean()), "test": float(runs["n_test"].mean()),
        "controls": {f"{arm}, {kind}": float(f"{value:.6g}") for (arm, kind), value in means.items()},
        "settings": settings, "arms": said["arms"], "versions": versions("torch", "lightning", "monai", "fusionconv"),
        "hardware": hardware(torch.device("cpu")),
    }  # fmt: skip
    if add:
        wide, about = _joined(*read(name, folder), wide, about)
    wide.to_csv(folder / f"{name}.csv.gz", index=False)
    (folder / f"{name}.json").write_text(json.dumps(about, indent=1, default=str) + "\n")
    return folder / f"{name}.csv.gz"


def _joined(
    kept: pd.DataFrame, before: dict[str, Any], wide: pd.DataFrame, about: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The arms of both, and how both were made."""
    rows = ["fold", "subject", "row"]
    if not kept[rows].equals(wide[rows]):
        raise ValueError(f"expected the rows and folds that are kept, {len(kept)} lines, got {len(wide)} others")
    if both := sorted(set(kept.columns[3:]) & set(wide.columns[3:])):
        raise ValueError(f"expected arms that are not kept yet, got {', '.join(both)}")
    own = [k for k, v in about["settings"].items() if before["settings"].get(k, v) != v]
    if own:
        raise ValueError(f"expected the settings of those kept, got others: {', '.join(own)}")
    added = {"arms": list(wide.columns[3:]), "versions": about["versions"], "hardware": about["hardware"]}
    joined = {
        **before, "controls": before["controls"] | about["controls"], "arms": before["arms"] + about["arms"],
        "added": [*before.get("added", []), added],
    }  # fmt: skip
    return kept.join(wide.drop(columns=rows)), joined


def _score(predictions: pd.DataFrame, score: str) -> Any:
    if score in predictions:
        return predictions[score]
    if score == "mae":
        return (predictions["prediction"] - predictions["target"]).abs()
    if score == "accuracy":
        return (predictions["decision"] == predictions["target"]).astype(float)
    if score == "auc":
        parts = [_pseudo_values(part) for _, part in predictions.groupby(["arm", "fold", "control"], sort=False)]
        return pd.concat(parts)
    raise ValueError(f"--score: expected mae, accuracy, auc or a column of predictions.csv, got {score!r}")


def _pseudo_values(part: pd.DataFrame) -> pd.Series:
    """AUC + (v - AUC) N / n of each row of a fold; their mean is the AUC, their spread what DeLong et al. (1988) give.

    v is the row's placement value, the share of the rows of the other class that it is on the right side of; n counts
    the rows of its own class, N all.
    """
    positive, answer = part["target"].to_numpy() > 0.5, part["probability"].to_numpy()
    placed = np.empty(len(part))
    placed[positive], placed[~positive] = placements(positive, answer)
    area, share = placed[positive].mean(), np.where(positive, positive.mean(), (~positive).mean())
    return pd.Series(area + (placed - area) / share, part.index)


def _seed(study: Path) -> str:
    said = yaml.safe_load((study / "study.yaml").read_text())
    return f"seed{said['settings']['seed']}"


def read(name: str, folder: Path = FOLDER) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The kept scores, and how they were made."""
    return pd.read_csv(folder / f"{name}.csv.gz"), json.loads((folder / f"{name}.json").read_text())


def table(scores: pd.DataFrame, about: dict[str, Any], resamples: int = 2000, reference: str = "") -> pd.DataFrame:
    """A line for each arm.

    ``mean`` over folds or seeds, ``least`` and ``most``; over folds also an interval (Nadeau and Bengio). Then
    the difference to ``reference``, by subject (bootstrap of all rows, each subject with all its own) and over folds
    (corrected t-test; None for seeds on one split, which are no further folds), p after Holm.
    """
    arms, reference = list(scores.columns[3:]), reference or about["reference"]
    means = scores.groupby("fold")[arms].mean()
    rows: list[dict[str, Any]] = []
    for arm in arms:
        row: dict[str, Any] = {
            "arm": arm,
            "mean": means[arm].mean(),
            "least": means[arm].min(),
            "most": means[arm].max(),
        }
        if not about["seeds_on_one_split"]:
            found = fold_interval(means[arm].to_numpy(), about["train"], about["test"], bounds=about["score"])
            row |= {"low": found.low, "high": found.high}
        if arm != reference:
            d = paired_bootstrap_scores(scores[arm], scores[reference], scores["subject"], resamples)
            row |= {"difference": d.estimate, "d_low": d.low, "d_high": d.high, "p_subjects": d.p_value}
            if not about["seeds_on_one_split"]:
                try:
                    difference = (means[arm] - means[reference]).to_numpy()
                    row["p_folds"] = corrected_resampled_ttest(difference, about["train"], about["test"]).p_value
                except EvaluationError:
                    row["p_folds"] = np.nan
        row |= {kind: about["controls"].get(f"{arm}, {kind}", np.nan) for kind in ("permuted", "constant")}
        rows.append(row)
    made = pd.DataFrame(rows)
    for column in ("p_subjects", "p_folds"):
        if column in made:
            known = made[column].notna()
            made.loc[known, column] = holm(made.loc[known, column].to_numpy())
    return made


def markdown(made: pd.DataFrame, head: str, decimals: int = 1) -> str:
    """The table as pages have it."""
    folds = "low" in made
    heads = ["arm", "mean [95 % interval]" if folds else "mean (lowest to highest seed)"]
    heads += ["minus the reference, by subject", "p by subject (Holm)", *(["p over folds (Holm)"] if folds else [])]
    heads += ["permuted", "constant"]

    def number(value: float, sign: str = "") -> str:
        return "" if pd.isna(value) else f"{value:{sign}.{decimals}f}"

    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in made.to_dict("records"):
        low, high = (number(row[end]) for end in (("low", "high") if folds else ("least", "most")))
        spread = f"[{low}, {high}]" if folds else f"({low} to {high})"
        cells = [name_of(str(row["arm"]), head), f"{number(row['mean'])} {spread}"]
        difference = f"{number(row['difference'], '+')} [{number(row['d_low'])}, {number(row['d_high'])}]"
        cells.append("" if pd.isna(row["difference"]) else difference)
        cells += ["" if pd.isna(row[p]) else f"{row[p]:.2g}" for p in ("p_subjects", "p_folds") if p in made]
        lines.append("| " + " | ".join([*cells, number(row["permuted"]), number(row["constant"])]) + " |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    """Keep or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("keep", "show"))
    parser.add_argument("name")
    parser.add_argument("studies", type=Path, nargs="*")
    parser.add_argument("--score", default="mae")
    parser.add_argument("--exp", action="store_true")
    parser.add_argument("--where", default="")
    parser.add_argument("--add", action="store_true", help="to what is kept under this name")
    parser.add_argument("--reference", default="", help="the arm that the others are compared with")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--decimals", type=int, default=1)
    given = parser.parse_args(words)
    if given.command == "keep":
        print(keep(given.name, given.studies, given.score, given.exp, given.where, add=given.add))
    scores, about = read(given.name)
    made = table(scores, about, reference=given.reference)
    shown = markdown(made, about["settings"]["head"], given.decimals)
    print(shown if given.markdown else made.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
