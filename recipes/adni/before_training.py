"""The commands inspect and prepare: look at a source, and bring its volumes into the cache."""

from __future__ import annotations

import logging

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.study.volumes import VolumeError
from recipes.adni.configuration import BrainCLI
from recipes.adni.data import BrainData
from recipes.adni.inspection import inspect_volumes
from recipes.adni.training import describe

log = logging.getLogger("recipes.adni")


def try_rows(data: BrainData) -> None:
    """Warn of rows that fit and crossval would refuse, of the folds as these are without --data.fold."""
    fold, data.fold = data.fold, "all"
    try:
        data.try_encoders(data.splits())
    except TableError as error:
        log.warning("fit and crossval will stop at this: %s", error)
    finally:
        data.fold = fold


def inspect(argv: list[str]) -> None:
    """Say what a source holds. Nothing is changed, and a bad volume stops nothing."""
    cli = BrainCLI("inspect", argv)
    with cli.folder.logging():
        data = cli.datamodule
        frame = data.read_source()
        target = None if data.task.kind == "classification" else data.task.columns[-1]
        covariates = [name for name in data.covariates if name in frame.columns]
        found = inspect_volumes(
            frame, data.report, cli.folder.path / "inspect", data.prepare_workers, voxels=not cli.config.skip_voxels,
            covariates=covariates, target=target,
        )  # fmt: skip
        log.info("%s", found.text)
        data.read()  # what --data.rows, --data.visits and --data.task make of it
        log.info("With --data.rows, --data.visits and --data.task:")
        try_rows(data)
        for line in describe(data):
            log.info(line)
        log.info("wrote inspect.txt, volumes.csv, unmatched.csv and slices.png to %s", cli.folder.path / "inspect")


def prepare(argv: list[str]) -> None:
    """Bring every volume of a source into the cache."""
    cli = BrainCLI("prepare", argv)
    with cli.folder.logging():
        data = cli.datamodule
        asked = data.on_error
        data.on_error = "skip"  # list all that fail, not the first
        data.read()
        try_rows(data)
        data.prepare_volumes()
        assert data.prepared is not None
        for line in describe(data):
            log.info(line)
        for image, reason in data.skipped.items():
            log.warning("not usable: %s", reason if image in reason else f"{image}: {reason}")
        log.info(
            "%d volumes prepared now, %d were in the cache %s",
            data.prepared.made,
            len(data.prepared.files) - data.prepared.made,
            data.cache,
        )
        if data.skipped:
            skipped = cli.folder.path / "skipped.csv"
            pd.DataFrame({"image": list(data.skipped), "reason": list(data.skipped.values())}).to_csv(
                skipped, index=False
            )
            log.info(
                "%d volumes cannot be used, see %s. fit and crossval leave them out with --data.on_error skip",
                len(data.skipped),
                skipped,
            )
            if asked == "fail":
                raise VolumeError(
                    f"{len(data.skipped):,d} of {len(data.skipped) + len(data.prepared.files):,d} volumes cannot be "
                    f"used, see {skipped}; what could be prepared is in the "
                    "cache. Correct them, or give --data.on_error skip."
                )
