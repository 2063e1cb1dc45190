"""Answers of a study's networks for new rows, prepared as in training; the networks of all folds are averaged."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fusionconv.errors import CovariateError, StudyError
from fusionconv.study.answer_places import AnswerFolder, require_free_table
from fusionconv.study.arms import find_arm, parse_arm
from fusionconv.study.files import write_csv
from fusionconv.study.folder import read_study
from fusionconv.study.patches import Windows
from fusionconv.study.rows import read_rows
from fusionconv.study.sequences import flag_columns
from fusionconv.study.settings import make_settings
from fusionconv.study.tasks import Task, make_task
from fusionconv.study.tasks.base import Array
from fusionconv.study.tasks.classes import Multiclass

if TYPE_CHECKING:
    from fusionconv.tabular import CovariateEncoder

__all__ = ["Predictor", "load_predictor", "predict_table"]

log = logging.getLogger("fusionconv.study")


@dataclass(frozen=True)
class Predictor:
    """One saved network of a study with all that its answers need.

    Attributes:
        network: in eval mode.
        encoder: of its covariates; None where it takes none.
        task: what it predicts.
        about: the rest, as `fusionconv.checkpoint.read_about` gives it: images, normalisation, threshold, arm.

    Example:
        >>> import torch
        >>> from fusionconv.study import Predictor
        >>> from fusionconv.study.tasks import make_task
        >>> about = {"normalisation": {"mean": [0.5], "std": [0.25]}, "target": {"center": 0.0, "scale": 1.0}}
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
        >>> predictor = Predictor(network, None, make_task({"task": "binary", "columns": ["disease"]}), about)
        >>> predictor(torch.rand(3, 1, 4, 4))["probability"].shape
        (3,)
    """

    network: nn.Module
    encoder: CovariateEncoder | None
    task: Task
    about: dict[str, Any]

    def __call__(
        self, images: Tensor, covariates: Tensor | None = None, there: Tensor | None = None
    ) -> dict[str, Array]:
        """Answers for images (N, C, *size), float32, as `ImageStore.read` gives them, and encoded covariates (N, K).

        ``there`` (N, C), as `ImageStore.there` gives it, is 0 for the channels of an image that a row lacks: they stay
        zero, as in training.

        Returns:
            The columns of predictions.csv, such as ``probability``.
        """
        return self.answer(self.inputs(images, there), covariates)

    def inputs(self, images: Tensor, there: Tensor | None = None) -> Tensor:
        """Images as they enter the network."""
        mean, std = (torch.tensor(self.about["normalisation"][n]) for n in ("mean", "std"))
        if len(mean):
            shape = (-1, *[1] * (images.ndim - 2))
            images = (images - mean.reshape(shape)) / std.reshape(shape)
        if there is not None:
            images = images * there.reshape(*there.shape, *[1] * (images.ndim - 2))
        return images

    def encode(self, rows: pd.DataFrame) -> Tensor | None:
        """The covariates of rows as they enter the network, (N, K); None where it takes none."""
        return None if self.encoder is None else torch.from_numpy(self.encoder.transform(rows))

    def answer(self, inputs: Tensor, covariates: Tensor | None = None) -> dict[str, Array]:
        """Answers for images as they enter the network, such as `FoldData.batch` gives them."""
        target = self.about["target"]
        outputs = self.outputs(inputs, covariates).double().numpy()
        return self.task.answers(outputs * target["scale"] + target["center"])

    @torch.inference_mode()
    def outputs(self, inputs: Tensor, covariates: Tensor | None = None) -> Tensor:
        """What the network puts out for whole images, in windows where it was trained on patches."""
        if self.encoder is not None and covariates is None:
            raise CovariateError(
                f"expected covariates (N, {self.encoder.num_covariates}) beside the images, got none; "
                "encoder.transform(table) makes them"
            )
        given = None if self.encoder is None else covariates
        if patch := self.about.get("patch"):
            return Windows(patch, self.about["overlap"])(self.network, inputs, given)
        out: Tensor = self.network(inputs) if given is None else self.network(inputs, given)
        return out


def load_predictor(folder: str | Path) -> Predictor:
    """A network that a study saved (``runs/ARM/FOLD/model``).

    Example:
        >>> import contextlib, io, tempfile, torch
        >>> from pathlib import Path
        >>> from fusionconv.study import Study, load_predictor
        >>> from fusionconv.study.demo import write_images
        >>> with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ...     table = write_images(Path(folder, "images"), dims=2, subjects=24, seed=0)
        ...     study = Study(table=table, image_column="file", subject="patient", target="disease",
        ...                   covariates=["age"], network="fusionconv:small_cnn", image_size=32, channels=1)
        ...     _ = study.compare(["hybrid@first"], folds=1, epochs=1, resamples=100, out=Path(folder, "out"),
        ...                       progress=False)
        ...     predictor = load_predictor(next(Path(folder, "out", "runs").glob("*/*/model")))
        >>> predictor(torch.rand(3, 1, 32, 32), torch.zeros(3, predictor.encoder.num_covariates))["probability"].shape
        (3,)
    """
    from fusionconv.checkpoint import read_about
    from fusionconv.study.saved import open_network

    about = read_about(folder)
    if "task" not in about:
        raise StudyError(f"{folder}: expected a network of a study, got a checkpoint without one's settings; use "
                         "fusionconv.load(folder, network)")  # fmt: skip
    network, encoder = open_network(Path(folder))
    return Predictor(network.eval(), encoder, make_task(about["task"]), about)


def predict_table(
    study: str, arm: str, table: str, images: str | None = None, out: str = "predictions.csv", batch_size: int = 32,
    decimal: Literal[".", ","] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Predict the rows of a table by the networks of all folds of an arm, and write their mean.

    Every row of the table has one row in the answers, in the table's order. One that cannot be predicted (no image, a
    damaged one, several rows for an image, a value that the encoder refuses) has the reason in the column ``problem``
    and no answers; the others are predicted. The study's ``rows``, ``drop`` and ``limit`` choose no rows here.

    Args:
        study: folder of a finished comparison.
        arm: one of its arms with an image.
        table: rows with the study's image column and covariates; a target is not needed.
        images: folder of the images.
        out: CSV file to write: id, the answers (means over the networks), of a task with classes ``decided`` (the
            class's name), ``<answer> sd``, ``networks``, ``note`` (covariates that are missing or a category that
            training does not have: the answer does without them), ``problem``.
            Where the answers are images: ``file``, in a folder beside ``out`` and called as it is without ``.csv``.
            Only earlier answers are written over.
        batch_size: images at once.
        decimal: mark of the table's numbers, ``.`` or ``,``; default: the study's.

    Raises:
        StudyError: no such arm or no networks; no row can be predicted; ``out``, or the folder beside it, is or holds
            something else than answers.
        TableError: the table cannot be used; every row shares its image with another one.
    """
    from tqdm import tqdm

    from fusionconv.study.images import ImageOptions, prepare
    from fusionconv.study.saved import finished_networks

    if decimal not in (None, ".", ","):
        raise StudyError(f"decimal: expected '.' or ',', got {decimal!r}; give --decimal , for numbers such as 61,5")
    require_free_table(out, table)
    folder = Path(study)
    saved = read_study(folder)
    name = find_arm(arm, [parse_arm(said) for said in saved["arms"]]).name
    models = finished_networks(folder, name)
    if not models:
        kept = sorted({p.parent.parent.name for p in (folder / "runs").glob("*/*/model")})
        raise StudyError(f"arm: expected one of {', '.join(kept) or 'none (no networks were kept)'}, got {arm!r}")
    predictors = [load_predictor(p) for p in models]
    first = predictors[0]
    columns = [] if first.encoder is None else list(first.encoder.columns)
    settings = make_settings(saved["settings"])
    beside: AnswerFolder | None = None
    if first.task.IMAGE_OUT:
        inputs = (images, settings.images, settings.target_folder)
        beside = AnswerFolder(out, inputs, (table, settings.table))
    flags = flag_columns(settings)
    settings = replace(
        settings, decimal=decimal or settings.decimal, table=str(table), images=images, rows=None, limit=None,
        on_error="skip", covariates=[name for name in columns if name not in flags], split_column=None, stratify=[],
        subgroups=[], subject=None, pixel_size=None,
    )  # fmt: skip
    rows = read_rows(settings, first.task, with_target=False)
    options = ImageOptions(**first.about["images"])
    with tempfile.TemporaryDirectory() as cache:
        store = prepare(rows.images, options, Path(settings.cache) if settings.cache else Path(cache))
        lost = dict(rows.flow.lost)  # place in the table -> id, reason
        problems = {**store.failed}
        frame = rows.frame.set_index("id", drop=False)
        good = [i for i in frame.index if i not in problems]
        for predictor in predictors:
            if predictor.encoder is not None:
                for row, column, reason in predictor.encoder.check(frame.loc[good]):
                    problems.setdefault(str(row), f"{column}: {reason}")
        good = [i for i in good if i not in problems]
        if not good:
            first_problem = next(iter(problems.values()), "the table is empty")
            raise StudyError(f"{table}: expected at least one row that can be predicted, got none: {first_problem}")
        lost |= {rows.places[i]: (i, reason) for i, reason in problems.items()}
        places, gaps = [rows.places[i] for i in good], _gaps(predictors, frame.loc[good])
        if beside is not None:
            from fusionconv.study.predict_images import predict_images

            result = predict_images(predictors, store, frame.loc[good], beside)
            return _written(result, places, lost, gaps, len(predictors), out)
        answers, there = [], store.there(good)
        for predictor in tqdm(predictors, desc="networks", disable=len(predictors) < 2, leave=False):
            covariates = predictor.encode(frame.loc[good])
            parts = []
            for at in range(0, len(good), batch_size):
                ids = good[at : at + batch_size]
                rows_ = None if covariates is None else covariates[at : at + len(ids)]
                parts.append(pd.DataFrame(predictor(store.read(ids), rows_, there[at : at + len(ids)])))
            answers.append(pd.concat(parts, ignore_index=True))
    result = _averaged(first, answers, [p.about["threshold"] for p in predictors])
    result.insert(0, "id", good)
    return _written(result, places, lost, gaps, len(predictors), out)


def _gaps(predictors: Sequence[Predictor], frame: pd.DataFrame) -> pd.DataFrame:
    """What the networks are not told of rows that they answer: id, column, reason; of several networks the first's."""
    found = [gap for p in predictors if p.encoder is not None for gap in p.encoder.gaps(frame)]
    return pd.DataFrame(found, columns=["id", "column", "reason"]).drop_duplicates(["id", "column"])


def _written(
    result: pd.DataFrame, places: Sequence[int], lost: Mapping[int, tuple[str, str]], gaps: pd.DataFrame,
    networks: int, out: str,
) -> pd.DataFrame:  # fmt: skip
    """The answers and the rows that could not be predicted, in the table's order; in the file too."""
    notes = (gaps["column"] + ": " + gaps["reason"]).groupby(gaps["id"]).agg("; ".join)
    note = [str(notes.get(name, "")) for name in result["id"]]
    result = result.assign(networks=networks, note=note, problem="").set_axis(list(places))
    whole = {name: "Int64" for name, kind in result.dtypes.items() if pd.api.types.is_integer_dtype(kind)}
    order = sorted([*places, *lost])
    result = result.astype(whole).reindex(order)
    if lost:
        result.loc[list(lost), ["id", "problem"]] = list(lost.values())
        result["note"] = result["note"].fillna("")
    result = result.reset_index(drop=True)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_csv(target, result)
    print(f"wrote {len(result)} rows to {out}, means of {networks} networks" +
          (f"; {len(lost)} of them could not be predicted (column problem)" if lost else ""))  # fmt: skip
    for (column, missing), rows in gaps.groupby(["column", gaps["reason"] == "missing"], sort=False):
        what = "missing" if missing else f"no category of training ({rows['reason'].iloc[0].partition(' is no ')[0]})"
        ask = "; is it coded as in the study's table?" if len(rows) > len(places) / 2 else ""
        print(f"look at {column}: {what} in {len(rows)} of {len(places)} rows (column note){ask}")
    return result


def _averaged(first: Predictor, answers: Sequence[pd.DataFrame], thresholds: Sequence[float]) -> pd.DataFrame:
    """Means and standard deviations over networks, and what follows from the means."""
    columns = first.task.score_columns(answers[0])
    values = np.stack([a[columns].to_numpy() for a in answers])
    means = pd.DataFrame(values.mean(0), columns=columns)
    spread = pd.DataFrame(values.std(0), columns=[f"{c} sd" for c in columns])
    decided = first.task.decide(means, float(np.mean(thresholds)))
    if isinstance(first.task, Multiclass):
        decided = decided.assign(decided=first.task.named(decided["decision"]))
    return decided.join(spread)
