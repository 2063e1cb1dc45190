"""The command crossval: fit and judge every arm on the same folds of train + valid; the official test is untouched."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import corrected_resampled_ttest
from fusionconv.tabular import read_celeba_partition
from recipes.celeba.folds import assign_fold
from recipes.celeba.paths import celeba_folder, table_path
from recipes.celeba.training import CelebACLI, fit, test
from recipes.common.runs import RunError, RunFolder
from recipes.common.settings import differences

METRICS = ("accuracy", "f1_macro", "auroc", "loss")
NOTE = "crossval.json"  # the settings that all folds share


def crossval(argv: list[str]) -> None:
    """Fit each arm on each fold, judge it on the images held out, and compare the arms.

    People (identity file) are kept together. In each fold a tenth of the training people chooses the checkpoint. Folds
    that are finished are not run again. All other options are those of ``fit``.
    """
    parser = argparse.ArgumentParser(
        prog="python -m recipes.celeba crossval", description=crossval.__doc__, allow_abbrev=False
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=["plain", "hybrid"], default=["plain", "hybrid"])
    parser.add_argument(
        "--experiment", default="crossval", help="the folder, in --root_dir, with a run an arm and fold"
    )
    parser.add_argument("--root_dir", type=Path, default=Path("runs"))
    options, rest = parser.parse_known_args(argv)
    if any(word.startswith(("--data.fold", "--model.arm", "--overwrite", "--resume", "--ckpt_path")) for word in rest):
        raise RunError("crossval sets arm and folds itself, and skips what is finished: leave these options out.")
    if CelebACLI("crossval", rest).model.hparams.mode == "as_published":  # all options are checked here, too
        raise RunError("mode as_published is one fixed split, as the study had it: leave --model.mode out (corrected).")
    folder = RunFolder(options.root_dir, options.experiment).path
    settings = {"folds": options.folds, "options": rest}
    _require_same_settings(folder, settings)

    results: dict[tuple[str, int], dict[str, Any]] = {}
    for fold in range(options.folds):
        for arm in options.arms:  # both arms of a fold one after the other: a pair is there as early as can be
            run = RunFolder(folder, f"{arm}-fold{fold}")
            done = run.path / "results-test.json"
            if not done.is_file():
                where = ["--root_dir", str(folder), "--experiment", run.experiment]
                print(f"crossval: {arm}, fold {fold + 1} of {options.folds}", flush=True)
                own = [f"--model.arm={arm}", f"--data.fold={fold}", f"--data.folds={options.folds}"]
                fit([*rest, *own, *where, "--overwrite"])  # an unfinished run begins anew
                test(where)
            results[arm, fold] = json.loads(done.read_text(encoding="utf-8"))
    _summarise(folder, results, options.arms, options.folds)


def _require_same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Finished folds may only be joined by folds with the same settings."""
    path = folder / NOTE
    if path.is_file() and (old := json.loads(path.read_text(encoding="utf-8"))) != settings:
        there, here = ({"folds": s["folds"], **options_by_name(s["options"])} for s in (old, settings))
        differ = "; ".join(differences(there, here)) or "their order, in which the later one wins"
        raise RunError(
            f"{folder} holds folds with other settings ({differ}). Give another --experiment, or the same options."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def options_by_name(argv: list[str]) -> dict[str, Any]:
    """The options of a command line, ``--name=value`` and ``--name value`` alike.

    >>> options_by_name(["--model.lr", "0.1", "--data.limit=5", "--debug"])
    {'model.lr': '0.1', 'data.limit': '5', 'debug': 'given'}
    """
    found: dict[str, Any] = {}
    name = None
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else "given"
        elif name is not None:
            found[name] = word if found[name] == "given" else f"{found[name]} {word}"
    return found


def _summarise(folder: Path, results: dict[tuple[str, int], dict[str, Any]], arms: list[str], folds: int) -> None:
    """crossval.csv (a line an arm and fold), crossval.md (means, and the arms compared), and the same on the screen."""
    table = pd.DataFrame(
        [
            {"arm": arm, "fold": fold, "images": result["num_images"]} | {m: result["metrics"][m] for m in METRICS}
            for (arm, fold), result in results.items()
        ]
    )
    table.to_csv(folder / "crossval.csv", index=False, float_format="%.6g")
    lines = [
        f"{folds} folds of CelebA's train and valid splits; judged on the fold held out. Mean (standard deviation over "
        "folds).",
        "",
        "| arm | " + " | ".join(METRICS) + " |",
        "|---|" + "--:|" * len(METRICS),
    ]
    for arm in arms:
        own = table[table["arm"] == arm]
        cells = [f"{own[metric].mean():.4f} ({own[metric].std():.4f})" for metric in METRICS]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines.append("")
    by_fold = table.pivot(index="fold", columns="arm", values="accuracy")
    for other in arms[1:]:
        differences = by_fold[other] - by_fold[arms[0]]
        try:
            sizes = _sizes(folder / f"{other}-fold0", folds)
            found = str(corrected_resampled_ttest(differences, *sizes, bounds="accuracy"))
        except EvaluationError as error:
            found = f"not possible: {error}"
        lines.append(f"accuracy of {other} less {arms[0]}: {found}")
    (folder / "crossval.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _sizes(run: Path, folds: int) -> tuple[float, float]:
    """How many images fold 0 was trained on, and judged on."""
    data = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    root = celeba_folder(data["root"])
    split = assign_fold(root, read_celeba_partition(table_path(root, "list_eval_partition")), 0, folds)
    limit = data["limit"] or len(split)
    return float(min(limit, (split == "train").sum())), float(min(limit, (split == "test").sum()))
