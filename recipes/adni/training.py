"""The commands fit and test: the steps stand here in order."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.study.environment import hardware, versions
from fusionconv.tabular.suspicious import suspicious_numbers
from recipes.adni.configuration import BrainCLI
from recipes.adni.data import BrainData
from recipes.adni.memory import memory_errors
from recipes.common.own_config import early_options, with_own_config
from recipes.common.runs import is_rank_zero
from recipes.common.trainer import EpochLog, best_checkpoint

log = logging.getLogger("recipes.adni")
PACKAGES = ("torch", "monai", "nibabel", "lightning", "torchmetrics", "scikit-learn", "fusionconv")


def fit(argv: list[str]) -> None:
    """Train one arm."""
    early = early_options(argv, "adni")
    if early.resume and not early.config:
        argv = with_own_config(early, argv)
    cli = BrainCLI("fit", argv)
    trainer = None
    with cli.folder.logging(begun=lambda: trainer is not None and trainer.global_step > 0):
        checkpoint = cli.checkpoint("last" if cli.resume else cli.config.ckpt_path)
        cli.datamodule.setup("fit")
        if is_rank_zero():
            if cli.config.overwrite:  # only now: an error above leaves the old run as it was
                cli.folder.clear()
            log.info("fit %s: arm %s, network %s", cli.folder.path, cli.model.hparams.arm, cli.model.hparams.network)
            for line in describe(cli.datamodule):
                log.info(line)
            cli.save_config(cli.folder.config)
        trainer = cli.trainer_for(cli.folder.path, cli.folder.experiment, cli.resume)
        task = cli.datamodule.task
        trainer.callbacks.append(EpochLog(log, ["train/loss", *(f"val/{metric}" for metric in task.metrics)]))
        with memory_errors(cli.datamodule):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
        if is_rank_zero():
            best = best_checkpoint(trainer)
            if best is not None and best.best_model_score is not None:
                log.info("best %s: %.4f (%s)", best.monitor, float(best.best_model_score), best.best_model_path)
            log.info(
                "now: python -m recipes.adni test --experiment %s --root_dir %s",
                cli.folder.experiment,
                cli.folder.root_dir,
            )


def test(argv: list[str]) -> None:
    """Judge a run's checkpoint on its test part."""
    early = early_options(argv, "adni")
    if not early.config:
        argv = with_own_config(early, argv)
    cli = BrainCLI("test", argv)
    with cli.folder.logging():
        checkpoint = cli.checkpoint(cli.config.ckpt_path or "best")
        cli.datamodule.setup("test")
        trainer = cli.instantiate_trainer()
        with memory_errors(cli.datamodule):
            trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
        if not is_rank_zero():
            return
        assert cli.model.predictions is not None
        result = {
            "experiment": cli.folder.experiment,
            **cli.model.identity,
            "part": "test",
            **cli.model.history,
            "checkpoint": Path(checkpoint or "").name,
            "hardware": hardware(trainer.strategy.root_device, trainer.world_size),
        }
        write_result(cli.folder.path / "results-test.json", result, cli.datamodule, cli.model.predictions)
        write_predictions(cli.folder.path / "predictions-test.csv", cli.datamodule, cli.model.predictions)
        for name, value in cli.datamodule.task.measure(cli.model.predictions).items():
            log.info("test %s: %.4f", name, value)
        log.info("wrote results-test.json and predictions-test.csv to %s", cli.folder.path)


def describe(data: BrainData) -> list[str]:
    """Lines for the log: what was found, what is used, how the targets are spread."""
    lines = [", ".join(f"{count:,d} {what}" for what, count in data.counts.items())]
    if data.report is not None and len(data.report):
        kinds = data.report["kind"].value_counts()
        lines.append(
            "did not match: "
            + ", ".join(f"{count:,d} {kind}" for kind, count in kinds.items())
            + " (inspect lists them)"
        )
    for column, values in data.unused.items():
        told = ", ".join(f"{value} ({count:,d})" for value, count in values.items())
        lines.append(f"left out, without a target: {column} {told}")
    assert data.values is not None
    parts: dict[Any, pd.DataFrame] = {"all": data.values}
    if data.split is not None:
        parts = {
            part: data.values[data.split == part] for part in ("train", "val", "test") if (data.split == part).any()
        }
    for part, values in parts.items():
        if data.task.kind == "classification":
            counts = values["target"].value_counts()
            spread = ", ".join(f"{counts.get(code, 0)} {name}" for code, name in enumerate(data.task.queries))
        elif data.task.kind == "regression":
            spread = f"{data.task.target} {values['target'].mean():.1f} +- {values['target'].std():.1f}"
        else:
            spread = f"{int(values['event'].sum())} events, {data.task.time} up to {values['time'].max():g}"
        lines.append(f"  {part:5s} {len(values):6,d}: {spread}")
    if data.encoder is not None:
        lines.append(f"covariates: {', '.join(data.encoder.get_feature_names_out())}")
    if data.task.kind != "classification":
        for name, column in zip(data.task.columns, data.values, strict=True):
            for suspect in suspicious_numbers(data.values[column].to_numpy(), name):
                leave = f"--data.rows '`{name}` != {suspect.value}'"
                lines.append(f"look at the target {name}: {suspect}; if it means missing, leave it out: {leave}")
    return lines + [f"look at the covariate {line.strip()}" for line in data.doubts]


def write_result(path: Path, result: dict[str, Any], data: BrainData, predictions: pd.DataFrame) -> None:
    """Metrics of the true covariates and each control, counts, versions, hardware, as JSON; whole or not at all."""
    metrics = {
        str(control): {name: value if math.isfinite(value) else None for name, value in data.task.measure(rows).items()}
        for control, rows in predictions.groupby("control", sort=False)
    }
    assert data.split is not None
    text = json.dumps(
        {
            **result,
            "metrics": metrics.get("true", {}),
            "controls": {name: values for name, values in metrics.items() if name != "true"},
            "counts": {str(k): int(v) for k, v in data.split.value_counts().items()},
            "preparation": asdict(data.preparation),
            "skipped": len(data.skipped),
            "versions": versions(*PACKAGES),
        },
        indent=2,
    )
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def write_predictions(path: Path, data: BrainData, predictions: pd.DataFrame) -> None:
    """Each test row's answer and the truth, with subject, session and image."""
    assert data.frame is not None
    table = data.table("test")
    rows = data.part("test")[["subject", "session", "image"]].assign(id=table.ids)
    merged = rows.merge(predictions, on="id", how="right", validate="one_to_many")
    merged.to_csv(path, index=False, float_format="%.9g")
