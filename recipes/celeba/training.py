"""The commands that train and judge: fit, crossval, lr_find, validate, test, predict, explain, robustness.

Each is a study of `fusionconv.study` on CelebA's own table; all options are the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError, TableError
from fusionconv.study.command_line import parse
from fusionconv.study.own_options import OWN
from fusionconv.study.settings import Settings, make_settings, require_writable
from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.files import few, write_study_table

CONFIGS = Path(__file__).parent / "configs"
PROGRAM = "python -m recipes.celeba"
ROOT = {"root": (None, "folder that holds celeba/, or is it (needed)")}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FIT = {**ROOT, **OWN["compare"], "arms": (["image", "hybrid@first"], OWN["compare"]["arms"][1])}
LR_FIND = {**ROOT, **OWN["lr-find"]}
JUDGE = {"study": (None, "folder that fit or crossval wrote (needed)"), "arm": (None, "only this arm")}
PREDICT = {
    **OWN["predict"],
    "table": (None, "CSV with file and the covariates, or list_attr_celeba; not needed by the arm image"),
}


# ---- fit, crossval, lr_find ----


def fit(words: list[str]) -> None:
    """Train and judge the arms on the official split; the best epoch is chosen on the validation images."""
    settings, own = read(words, "fit", FIT)
    settings.setdefault("split_column", "split")
    study = make_study(settings, own.pop("root"), Path(own["out"]))
    study.compare(own.pop("arms"), **own)


def crossval(words: list[str]) -> None:
    """Train and judge the arms on folds of train and valid, people kept together; the official test is untouched."""
    settings, own = read(words, "crossval", FIT)
    if settings.get("split_column") == "as_published":
        raise StudyError(
            "crossval: expected corrected arms, got split_column as_published, the study's one split; give another "
            "--config"
        )
    settings.pop("split_column", None)
    rows = settings.get("rows")
    settings["rows"] = 'split != "test"' + (f" and ({rows})" if rows else "")
    settings.setdefault("val_size", 0.1)
    study = make_study(settings, own.pop("root"), Path(own["out"]))
    study.compare(own.pop("arms"), **own)


def lr_find(words: list[str]) -> None:
    """Train an arm for some steps at rising rates: the curve, and a rate to start from."""
    from fusionconv.study.lr_range import find_lr

    settings, own = read(words, "lr_find", LR_FIND)
    settings.setdefault("split_column", "split")
    study = make_study(settings, own.pop("root"), Path(own["out"]))
    _, rate = find_lr(study, own.pop("arm"), **own)
    print(f"wrote {own['out']}/lr_find.png; " + ("no suggestion: look at the curve" if rate is None else
                                                  f"suggested: --lr {rate:.2e}"))  # fmt: skip


def read(
    words: list[str], command: str, own: Mapping[str, tuple[Any, str]], config: str = "default.yaml"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the study and the command's own options; ``config`` where no ``--config`` is given."""
    given = parse(command, words, own, settings=True, config=CONFIGS / config, program=PROGRAM)
    settings = given.settings
    if settings.get("target") in ("all", ["all"]):
        settings["target"] = list(CELEBA_ATTRIBUTES)
    return settings, {name: given.own[name] for name in own}


def precision_of_a_card(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Lightning's options with bfloat16 autocast on a card, where none is said; on a CPU nothing is added."""
    import torch

    on_card = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return {**({"precision": "bf16-mixed"} if on_card else {}), **trainer}


def make_study(settings: Mapping[str, Any], root: str, out: Path) -> Any:
    """A study of CelebA's table, which is written into its cache, with its first weights."""
    make_settings(settings)  # names and types, before anything is read
    require_writable(str(out))
    cache = Path(settings["cache"]) if settings.get("cache") else out / "cache"
    places = write_study_table(root, cache, skip_absent=settings.get("on_error") == "skip")
    settings = {**places, **settings, "table": places["table"], "images": places["images"]}  # another --subject wins
    settings["trainer"] = precision_of_a_card(settings.get("trainer") or {})
    from fusionconv.study.study import Study

    study = Study(**{**settings, "weights": None, "pretrained": False})
    study.cache = cache
    weights = settings.get("weights") or ("imagenet" if settings.get("pretrained") else "none")
    study.settings = make_settings(first_weights(study, str(weights)), study.settings)
    return study


def first_weights(study: Any, weights: str) -> dict[str, Any]:
    """The engine's ``weights`` and ``pretrained`` for the recipe's ``--weights imagenet``, ``none`` or a file."""
    name = study.settings.network
    ours = name.startswith("recipes.celeba.vgg:")
    if weights == "none" or (weights == "imagenet" and not ours):
        return {"weights": None, "pretrained": weights == "imagenet"}
    if not ours and name != "torchvision:vgg16_bn":
        return {"weights": weights, "pretrained": False}
    from fusionconv.study.arms import parse_arm
    from fusionconv.study.networks import build_network
    from recipes.celeba.weights import IMAGES, weights_file

    def network() -> Any:
        s: Settings = study.settings
        return build_network(name, num_outputs=study.rows.task.num_outputs, in_channels=3, image_size=s.size,
                             options=s.network_options)  # fmt: skip

    def images() -> Any:
        data = study.data(parse_arm("image"), study.folds.columns[0])
        ids = data.tables["train"].ids
        return data.batch("train", ids[:: max(1, len(ids) // IMAGES)][:IMAGES])["image"]

    return {"weights": weights_file(weights, network, images, study.cache), "pretrained": False}


# ---- validate, test ----


def validate(words: list[str]) -> None:
    """The figures of every network on its validation images, which chose its epoch (as published: all there is)."""
    judge(words, "validate")


def test(words: list[str]) -> None:
    """The figures of every network on its test images."""
    judge(words, "test")


def judge(words: list[str], command: str) -> None:
    """Print and write ``validate.csv`` or ``test.csv``: a row per network; several attributes: also a row for each."""
    from fusionconv.study.arms import find_arm
    from fusionconv.study.files import read_json
    from fusionconv.study.study import Study
    from fusionconv.study.tasks import make_task
    from fusionconv.study.written_tables import read_predictions

    own = parse(command, words, JUDGE, settings=False, program=PROGRAM).own
    out = Path(own["study"])
    study, arms = Study.open(out)
    published = study.settings.split_column == "as_published"
    if command == "test" and published:
        raise StudyError(
            f"{out}: expected a study that is judged on the test images, got one as published, which chose and "
            "reported on the validation images; run validate"
        )
    part = "test" if command == "test" or published else "val"
    task = make_task((read_json(out / "notes.json") or {})["task"])
    chosen = arms if own["arm"] is None else [find_arm(own["arm"], arms)]
    figures, labels = [], []
    for arm in chosen:
        for path in sorted((out / "runs" / arm.name).glob("*/predictions.csv")):
            rows = read_predictions(path)
            rows = rows[(rows["part"] == part) & (rows["control"] == "true")]
            if len(rows):
                figures.append({"arm": arm.name, "run": path.parent.name, "n": len(rows), **task.measure(rows)})
                if task.NAME == "multilabel":
                    labels.append(per_attribute(rows, list(task.columns)).assign(arm=arm.name, run=path.parent.name))
                elif task.NAME == "binary":
                    figures[-1] |= {"base_rate": rows["target"].mean(), "selection_rate": rows["decision"].mean()}
    if not figures:
        raise StudyError(f"{out}: expected finished networks with {part} images, got none; run fit")
    table = pd.DataFrame(figures)
    table.to_csv(out / f"{command}.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    for row in figures:
        if row.get("selection_rate") in (0.0, 1.0):
            print(
                f"{row['arm']} {row['run']}: all {row['n']:,d} answers are one class, so the accuracy says nothing of "
                "the images; look at auc, or train for longer"
            )
    if labels:
        each = pd.concat(labels, ignore_index=True)
        each.to_csv(out / f"attributes-{command}.csv", index=False)
        print(each.groupby(["arm", "attribute"], sort=False).mean(numeric_only=True).round(4).to_string())
    print(f"wrote {out / command}.csv" + (f" and attributes-{command}.csv" if labels else ""))


def per_attribute(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A row for each label of a multilabel study: share of 1, majority answer, accuracy, balanced accuracy, F1, AUC."""
    from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

    found = []
    for name in names:
        true, said, p = (rows[f"{kind}_{name}"].to_numpy() for kind in ("target", "decision", "p"))
        both = len(np.unique(true)) == 2
        found.append({
            "attribute": name, "base_rate": true.mean(), "majority": max(true.mean(), 1 - true.mean()),
            "accuracy": (said == true).mean(),
            "balanced_accuracy": balanced_accuracy_score(true, said) if both else np.nan,
            "f1": f1_score(true, said, zero_division=0) if both else np.nan,
            "auc": roc_auc_score(true, p) if both else np.nan,
        })  # fmt: skip
    return pd.DataFrame(found)


# ---- predict, explain, robustness ----


def predict(words: list[str]) -> None:
    """Answers of an arm's networks for a folder of images and a table of covariates, as a CSV."""
    import tempfile

    from fusionconv.study.answer_places import require_free_table
    from fusionconv.study.arms import find_arm
    from fusionconv.study.predict import predict_table
    from fusionconv.study.study import Study

    own = parse("predict", words, PREDICT, settings=False, program=PROGRAM).own
    require_free_table(own["out"], own["table"])
    study, arms = Study.open(own["study"])
    arm = find_arm(own["arm"], arms)
    table = covariate_table(
        own["table"], own["images"], list(study.of_arm(arm).covariates) if arm.takes_covariates else [],
        own["decimal"] or study.settings.decimal,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        table.to_csv(path, index=False)
        own["images"] = own["images"] or str(Path(own["table"]).resolve().parent)
        predict_table(**{**own, "table": str(path), "decimal": "."})  # as it was written


def covariate_table(
    table: str | None, images: str | None, covariates: list[str], decimal: str = "."
) -> pd.DataFrame:  # fmt: skip
    """The rows to predict: all of a CSV with ``file``, those of CelebA's own table that have an image, or,
    without covariates, every image.

    Raises:
        TableError: no such file or folder; no table where the arm takes covariates; no row with an image.
    """
    from fusionconv.tabular import read_celeba_attributes, read_table, require_columns

    if images is not None and not Path(images).is_dir():
        raise TableError(f"--images: expected a folder of images, got {images}; check the path")
    present = None if images is None else sorted(p.name for p in Path(images).iterdir() if p.suffix.lower() in SUFFIXES)
    if table is None:
        if covariates or present is None:
            raise TableError(
                f"expected --table with the columns {', '.join(['file', *covariates])}, and --images, got "
                f"{'no table' if present is not None else 'no folder of images'}; give both"
            )
        return pd.DataFrame({"file": present})
    if not Path(table).is_file():
        raise TableError(f"--table: expected a file, got {table}, which is not there; check the path")
    with open(table, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().strip()
    of_celeba = first.isdecimal() or first.startswith("image_id,")
    if of_celeba:
        frame = read_celeba_attributes(table).reset_index()
    else:
        frame = read_table(table, text=["file"], decimal=decimal)
    require_columns(frame, ["file", *covariates], table)
    if present is not None:
        known = frame["file"].isin(present)
        if without := sorted(set(present) - set(frame["file"])):
            print(f"{len(without):,d} images have no row in {table} and are left out: {few(without)}")
        if not known.any():
            raise TableError(
                f"expected rows of images in {images}, got none of {few(list(frame['file']))}; names in the table are "
                "those in the folder, with their suffix"
            )
        if of_celeba and not known.all():  # of 202,599; a table of one's own has an answer or a problem for each row
            print(f"{int((~known).sum()):,d} rows of {table} have no image: {few(list(frame.loc[~known, 'file']))}")
            frame = frame[known]
    return frame[["file", *covariates]]


def explain(words: list[str]) -> None:
    """Figures of an arm's network: kernels, effects of the covariates, attributions, feature maps."""
    from fusionconv.study.explain import explain_arm

    for path in explain_arm(**parse("explain", words, program=PROGRAM).own):
        print(path)


def robustness(words: list[str]) -> None:
    """An arm's metrics on turned images, and with each image's pixels in a random order."""
    from fusionconv.study.robustness import check_robustness

    table = check_robustness(**parse("robustness", words, program=PROGRAM).own)
    print(table.to_string(index=False, float_format="{:.4g}".format))
