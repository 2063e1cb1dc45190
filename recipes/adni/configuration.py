"""LightningCLI for every command of this recipe: --data, --model, --trainer from YAML and the command line."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from fusionconv.study.curves import CurvesLogger
from recipes.adni.data import BrainData
from recipes.adni.study import BrainStudy
from recipes.common.checkpoint import check_checkpoint
from recipes.common.runs import RunFolder, is_rank_zero
from recipes.common.trainer import RunCheckpoint, as_list, hide_advertisements

log = logging.getLogger("recipes.adni")
# jsonargparse 4.49 renames what Lightning 2.6 calls by the old names.
warnings.filterwarnings("ignore", message="(?s).*(instantiate_classes|skip_none|JsonargparseDeprecationWarning)")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.15: a deprecation inside Lightning
warnings.filterwarnings("ignore", message=".*Be aware that when using `ckpt_path`.*")  # judging needs no callback
warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # prepared volumes come from memory
warnings.filterwarnings("ignore", message=".*Total length of .list. across ranks is zero.*")  # no validation part
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")  # runs.py guards it
warnings.filterwarnings("ignore", message=".*number of training batches.*log_every_n_steps.*")

hide_advertisements()

CONFIGS = Path(__file__).parent / "configs"
DESCRIPTIONS = {
    "inspect": "Say what a source holds: rows, images, what matched, headers, odd ones out; with a picture of slices.",
    "prepare": "Resample, crop and scale every volume once into the cache. Can be stopped and started again.",
    "fit": "Train one arm on the training part of a hold-out or a fold; the best checkpoint is chosen on validation.",
    "test": "Judge a run's checkpoint on the test part.",
    "crossval": "Every arm on the same folds, with controls and paired tests. Finished folds are not run again.",
}


class BrainCLI(LightningCLI):
    """Lightning's options and our two classes', and the options of a run folder."""

    def __init__(self, command: str, argv: list[str]) -> None:
        self.command = command
        super().__init__(
            BrainStudy,
            BrainData,
            save_config_callback=None,  # the commands write config.yaml into the run folder
            parser_kwargs={
                "prog": f"python -m recipes.adni {command}",
                "description": DESCRIPTIONS[command]
                + " Defaults from configs/default.yaml, then --config, then the command line.",
                "default_config_files": [str(CONFIGS / "default.yaml")],
            },
            args=argv,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder's options, the arms of crossval, and what model and data share."""
        parser.add_argument("--experiment", type=str, default="adni", help="name of the run, its folder, its files")
        parser.add_argument("--root_dir", type=str, default="runs", help="folder that holds the runs' folders")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None,
            help="fit: go on from this checkpoint; test: judge it: a file, 'last' or 'best' of this experiment",
        )  # fmt: skip
        parser.add_argument("--resume", action="store_true", help="fit: go on from this experiment's last checkpoint")
        parser.add_argument("--overwrite", action="store_true", help="fit, crossval: throw away a run of the same name")
        parser.add_argument(
            "--arms", type=dict[str, dict[str, Any]], default={},
            help="crossval: arm name -> model options that differ, such as {hybrid: {arm: hybrid, layer_idx: 0}}; "
            "'covariates' among them replaces --data.covariates",
        )  # fmt: skip
        parser.add_argument(
            "--reference",
            type=str | None,
            default=None,
            help="crossval: the arm that others are compared with (default: the first)",
        )
        parser.add_argument(
            "--part",
            type=str,
            default="1/1",
            help="crossval: run only every n-th fold, such as 2/3 on the second of three machines",
        )
        parser.add_argument(
            "--controls", type=int, default=10, help="crossval: permutations of the covariates at test; 0: no controls"
        )
        parser.add_argument("--keep_checkpoints", action="store_true", help="crossval: keep every fold's network")
        parser.add_argument("--skip_voxels", action="store_true", help="inspect: headers only, faster")
        for shared in ("task", "covariates"):
            parser.link_arguments(f"data.{shared}", f"model.{shared}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args``; Lightning's own version warns when sys.argv holds something too, as it always does here."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Know the run's folder before anything is built."""
        self.folder = RunFolder(Path(self.config.root_dir), self.config.experiment)
        self.resume = self.config.resume or self.config.ckpt_path == "last"
        if self.command == "fit" and is_rank_zero():
            self.folder.claim(self.resume, self.config.overwrite)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer as configured, without loggers; ``trainer_for`` gives those that write."""
        return super().instantiate_trainer(**{"logger": False, "default_root_dir": str(self.folder.path), **kwargs})

    def trainer_for(
        self, folder: Path, name: str, resume: bool = False, keep_last: bool = True, **kwargs: Any
    ) -> Trainer:
        """A trainer that writes curves and checkpoints into a folder.

        The best checkpoint is chosen by the task's metric, where there is a validation part.

        Args:
            folder: where metrics.csv, curves.png, tensorboard/ and checkpoints/ go.
            name: of the checkpoints.
            resume: go on with the curves that are there.
            keep_last: keep a checkpoint of the last epoch to go on from.
            kwargs: of Lightning's Trainer, over the configuration.
        """
        task = self.datamodule.task
        metric, mode = task.monitor
        callbacks = copy.deepcopy(as_list(self.config_init.trainer.callbacks))
        if self.datamodule.val_size > 0:
            callbacks.append(
                RunCheckpoint(
                    dirpath=folder / "checkpoints", filename=f"{name}-best", monitor=f"val/{metric}", mode=mode,
                    enable_version_counter=False,
                )
            )  # fmt: skip
        if keep_last:
            callbacks.append(
                RunCheckpoint(dirpath=folder / "checkpoints", filename=f"{name}-last", enable_version_counter=False)
            )
        kwargs.setdefault("enable_checkpointing", any(isinstance(c, ModelCheckpoint) for c in callbacks))
        columns = ["train/loss", *(f"val/{m}" for m in task.metrics)]
        kwargs.setdefault("logger", [
            CurvesLogger(folder, columns, resume),
            TensorBoardLogger(folder / "tensorboard", name="", version="", default_hp_metric=False),
        ])  # fmt: skip
        return self.instantiate_trainer(callbacks=callbacks, default_root_dir=str(folder), **kwargs)

    def save_config(self, path: Path) -> None:
        """Write the configuration as resolved; how this command was begun is not part of it."""
        config = self.config.clone()
        config.resume, config.overwrite, config.ckpt_path, config.part = False, False, None, "1/1"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(config, path, skip_none=False, overwrite=True)

    def checkpoint(self, asked: str | None) -> str | None:
        """The path that 'best', 'last' or a path means, after a look inside that it is one of this very model."""
        if asked is None:
            return None
        if asked == "best" and not self.folder.checkpoint("best").is_file():
            asked = "last"  # a run without validation has no best
        path = self.folder.checkpoint(asked) if asked in ("best", "last") else Path(asked)
        self.model.require_same(check_checkpoint(path, "adni"))
        return str(path)
