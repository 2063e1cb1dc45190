"""The commands: each makes the study's table, and leaves the rest to fusionconv.study."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import FusionError, StudyError, TableError
from fusionconv.study import Comparison, Study
from fusionconv.study.answer_places import require_free_table
from fusionconv.study.arms import find_arm, parse_arm
from fusionconv.study.files import read_json, write_csv
from fusionconv.study.folder import claim
from fusionconv.study.folds import FoldData, fold_data
from fusionconv.study.plan import require_same_rows
from fusionconv.study.predict import Predictor, load_predictor, predict_table
from fusionconv.tabular.images import NIFTI
from recipes.adni.table import Source, as_list, make_table, require_same

SUFFIXES = (*NIFTI, ".mgz")


def inspect(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Say what a source holds, then what the study would take of it. A bad volume stops nothing."""
    from recipes.adni.inspection import inspect_volumes

    source = Source.read(own, settings)
    covariates, target = (
        [name for name in as_list(settings.get(option)) if name in source.frame] for option in ("covariates", "target")
    )
    found = inspect_volumes(
        source.frame, source.report, None, _cores(), not own["skip_voxels"], covariates, next(iter(target), None)
    )
    print(found.text)
    claim(Path(own["out"]), False)
    found.write(Path(own["out"]) / "table")
    print(f"\nwrote inspect.txt, volumes.csv, unmatched.csv and slices.png to {own['out']}/table\n\nThe study:")
    study = Study(**make_table(own, settings, source))
    print("\n".join(study.describe()))
    try:
        for text in study.check([parse_arm(arm) for arm in own["arms"]]):
            print(f"look at: {text}")
    except FusionError as error:
        print(f"fit and crossval will stop at this: {error}")


def prepare(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Bring every volume of a source into the cache; those that cannot be used are listed, and do not stop it."""
    asked = settings.get("on_error", "fail")
    study = Study(**make_table(own, settings) | {"on_error": "skip"})
    study.cache = Path(study.settings.cache or Path(own["out"]) / "cache")
    count = len(study.rows.frame)
    store = study.store
    print(f"{store.decoded} volumes prepared now, {len(store.ids)} of {count} are in the cache {study.cache}")
    if store.failed:
        skipped = Path(own["out"]) / "table" / "skipped.csv"
        write_csv(skipped, pd.DataFrame({"image": list(store.failed), "reason": list(store.failed.values())}))
        print("\n".join(f"not usable: {reason}" for reason in store.problems()))
        if asked == "fail":
            raise StudyError(
                f"images: expected {count} volumes that can be used, got {len(store.failed)} that cannot ({skipped}); "
                "mend them, or give --on-error skip, which leaves them out and counts them"
            )


def crossval(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Every arm on the same folds."""
    made = make_table(own, settings)
    comparison = Study(**made).compare(**{name: own[name] for name in own if name not in _OF_THE_TABLE})
    if (comparison.out / "results.csv").is_file():  # not where other parts are to come
        _bias(comparison)


def fit(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Train one arm on a hold-out, and keep its network."""
    named = {parse_arm(arm).name: arm for arm in own["arms"]}
    own["arms"] = [named.get(own["arm"], own["arm"])]
    made = make_table(own, settings | {"reference": None, "folds": 1, "repeats": 1})
    out = Study(**made).compare(own["arms"], out=own["out"], overwrite=own["overwrite"]).out
    print(f"now: python -m recipes.adni test {out}")


def test(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Open every network that a study kept, and judge it again on the test rows of its fold."""
    out = Path(own["out"])
    study, arms = Study.open(out)
    _ = study.store  # first: it may leave rows out
    lines, chosen = [], arms if own["arm"] is None else [find_arm(own["arm"], arms)]
    require_same_rows(study, [arm for arm in chosen if arm.has_network], out)
    for arm in chosen:
        for model in sorted((out / "runs" / arm.name).glob("*/model")) if arm.has_network else []:
            result, predictor = read_json(model.parent / "result.json"), load_predictor(model)
            if result is None:
                continue
            data = fold_data(
                study.rows, study.folds[result["fold"]], study.of_arm(arm), study.store, encoder=predictor.encoder,
                covariates=() if predictor.encoder is None else None,
            )  # fmt: skip
            measured = data.task.measure(_judged(predictor, data, study.settings.batch_size))
            main = result["main"]
            lines.append({"arm": arm.name, "fold": result["fold"], "seed": result["seed"], **measured,
                          f"{main} in training": result["metrics"][main]})  # fmt: skip
    if not lines:
        raise StudyError(f"{out}: expected networks of a study, got none; run crossval or fit with --keep best")
    table = pd.DataFrame(lines)
    write_csv(out / "test.csv", table)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print(f"wrote {out / 'test.csv'}")


def _judged(predictor: Predictor, data: FoldData, batch_size: int) -> pd.DataFrame:
    """The test rows with their answers, by a saved network."""
    ids = list(data.tables["test"].ids)
    parts = []
    for at in range(0, len(ids), batch_size):
        batch = data.batch("test", ids[at : at + batch_size])
        covariates = None if predictor.encoder is None else batch["covariates"]
        parts.append(pd.DataFrame(predictor.answer(batch["image"], covariates)))
    truth = pd.DataFrame(data.task.truth(data.targets["test"]))
    answers = pd.concat(parts, ignore_index=True)
    return data.task.decide(truth.join(answers).assign(id=ids), predictor.about["threshold"])


def predict(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """Answers of a study's networks for new volumes; what cannot be predicted is listed with the reason."""
    out = Path(own["out"])
    if out.exists() and not own["overwrite"]:
        raise StudyError(f"{out}: expected a new file, got one that is there; give another --out, or --overwrite")
    require_free_table(str(out), own["table"])
    study, arms = Study.open(own["study"])
    alone = own["table"] is None and own["source"] == "table"
    if alone:
        frame, folder = volumes_alone(own["images"])
    else:
        images = own["images"][0] if own["images"] else None
        if len(own["images"]) > 1:
            raise StudyError(f"--images: expected one folder beside a source or table, got {', '.join(own['images'])}")
        source = Source.read(own, {"images": images, "table": own["table"], "decimal": own["decimal"]})
        for line in source.report.fillna("").itertuples():
            who = f"{line.subject} {line.session}".strip()
            print(f"left out, {line.kind}: {': '.join(filter(None, (who, str(line.image), line.reason)))}")
        frame, folder = source.frame[source.frame["image"].notna()].reset_index(drop=True), source.folder
        if frame.empty:
            raise TableError("expected rows with an image to predict, got none; the lines above say why")
    arm = find_arm(own["arm"], arms)
    needed = study.of_arm(arm).covariates if arm.takes_covariates else []
    if alone and needed:
        raise TableError(f"--table: expected a table with {', '.join(needed)} for the arm {arm.name}, got none")
    frame = frame.assign(image=[os.path.relpath(os.path.abspath(i), os.path.abspath(folder)) for i in frame["image"]])
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "new.csv"
        write_csv(table, frame)
        require_same(frame, table, ["subject", *needed])
        found = predict_table(own["study"], own["arm"], str(table), folder, str(out), decimal=".")
    write_csv(out, frame[["subject", "session"]].join(found))  # a row for each, in the same order


def volumes_alone(images: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Volumes without a table, and the folder that they are in; a file's name stands for the subject.

    Raises:
        TableError: a path that is not there, a folder without volumes, or none.
    """
    files: list[Path] = []
    for path in map(Path, images):
        if not path.exists():
            raise TableError(f"--images: expected volumes or a folder of them, got {path}, which is not there")
        inside = [file for file in sorted(path.rglob("*")) if file.name.endswith(SUFFIXES)] if path.is_dir() else [path]
        if not inside:
            raise TableError(f"--images: expected volumes ({', '.join(SUFFIXES)}) in {path}, got none")
        files += inside
    files = list({os.path.abspath(file): file for file in files}.values())  # one that was given twice is one
    if not files:
        raise TableError("--images: expected volumes or a folder of them, got none; give --images DIR")
    names = [file.name.removesuffix(".gz").rsplit(".", 1)[0] for file in files]
    if len(set(names)) < len(names):  # s01/T1.nii.gz, s02/T1.nii.gz: only their paths tell them apart
        names = [str(file) for file in files]
    folder = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    return pd.DataFrame({"subject": names, "session": "", "image": [str(file) for file in files]}), folder


def report(own: dict[str, Any], settings: dict[str, Any]) -> None:
    """The tables and the report again, and what speaks for each arm's answers, as figures and as NIfTI."""
    comparison = Comparison(own["out"])
    page = comparison.summarise().report()
    _bias(comparison)
    study, arms = Study.open(own["out"])
    for arm in arms:
        if own["skip_attribution"] or not arm.has_network:
            continue
        from fusionconv.study.explain import explain_arm

        kept = [fold for fold in study.folds if (comparison.out / "runs" / arm.name / fold / "model").is_dir()]
        if kept:
            print(*explain_arm(own["out"], arm.name, kept[0], own["volumes"], nifti=True), sep="\n")
        else:
            print(f"arm {arm.name}: no network was kept (--keep none), so there is nothing to attribute")
    print(page)


def _bias(comparison: Comparison) -> None:
    """brain_age.csv, where a number is predicted."""
    if "prediction" in comparison.predictions:
        table = brain_age(comparison.predictions)
        write_csv(comparison.out / "brain_age.csv", table)
        print("\nThe line of the gap (predicted minus true) on the target, fitted on the other folds (de Lange & Cole "
              "2020). The error without it uses the true value.\n" + table.round(3).to_string(index=False))  # fmt: skip


def brain_age(predictions: pd.DataFrame) -> pd.DataFrame:
    """Per arm: mean absolute error, the slope of the gap (predicted - true) on age, and the error without that line.

    The line is fitted for each fold on the predictions of the other folds of its repeat, which no network has been
    trained on. The corrected error uses the true age; it is no error of predicting an unknown one.
    """
    from fusionconv.evaluation import age_bias, correct_age_bias

    rows = []
    for arm, given in predictions[predictions["control"] == "true"].groupby("arm", sort=False):
        repeat = given["fold"].str.split("-").str[0]
        parts = []
        for (_, _), own in given.groupby([repeat, given["fold"]]):
            others = given[(repeat == repeat[own.index[0]]) & (given["fold"] != own["fold"].iloc[0])]
            if len(others) > 2:
                line = age_bias(others["target"], others["prediction"])
                parts.append(own.assign(corrected=correct_age_bias(own["target"], own["prediction"], line)))
        if not parts:  # one fold: no other fold to fit the line on
            continue
        whole = pd.concat(parts)
        slope = np.mean([age_bias(g["target"], g["prediction"]).slope for _, g in given.groupby(repeat)])
        rows.append({
            "arm": arm, "mean absolute error": (whole["prediction"] - whole["target"]).abs().mean(),
            "slope of the gap": slope,
            "error without the line": (whole["corrected"] - whole["target"]).abs().mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


#: of the command line, and no argument of Study.compare
_OF_THE_TABLE = ("source", "source_options", "visits", "define")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def demo(own: Mapping[str, Any], settings: dict[str, Any]) -> None:
    """The whole pipeline on synthetic brains."""
    from recipes.adni.demo import run_demo

    run_demo(own, settings)
