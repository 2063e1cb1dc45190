"""The commands fit, validate and test: LightningCLI reads YAML and flags; the steps after that stand here in order."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from fusionconv.study.curves import CurvesLogger
from fusionconv.study.environment import hardware
from recipes.celeba.balance import describe, mean_majority_accuracy
from recipes.celeba.data import CelebAData
from recipes.celeba.results import one_class_answers, write_results
from recipes.celeba.study import CelebAStudy
from recipes.common.checkpoint import check_checkpoint
from recipes.common.checkpoint_io import WholeCheckpoints
from recipes.common.gathering import gather
from recipes.common.own_config import early_options, with_own_config
from recipes.common.resuming import ExactResume
from recipes.common.runs import RunError, RunFolder, is_rank_zero
from recipes.common.trainer import EpochLog, RunCheckpoint, as_list, best_checkpoint, hide_advertisements

log = logging.getLogger("recipes.celeba")
# jsonargparse 4.49 renames what Lightning 2.6, and fit() below, call by the old names.
warnings.filterwarnings("ignore", message="(?s).*(instantiate_classes|skip_none|JsonargparseDeprecationWarning)")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.15: a deprecation inside Lightning
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # it is: ResumableOrder
warnings.filterwarnings(
    "ignore", message=".*Be aware that when using `ckpt_path`.*"
)  # test and validate need no callback

hide_advertisements()

CONFIGS = Path(__file__).parent / "configs"
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/f1_macro", "val/auroc")
SPLIT = {"validate": "valid", "test": "test"}


class CelebACLI(LightningCLI):
    """--trainer.*, --model.* and --data.* from Lightning and our two classes, and the options of a run folder."""

    def __init__(self, command: str, argv: list[str]) -> None:
        self.command = command
        super().__init__(
            CelebAStudy,
            CelebAData,
            save_config_callback=None,  # fit() writes config.yaml into the run folder
            parser_kwargs={
                "prog": f"python -m recipes.celeba {command}",
                "description": f"{command} one arm of the CelebA study; defaults from configs/default.yaml.",
                "default_config_files": [str(CONFIGS / "default.yaml")],
            },
            args=argv,
            run=False,  # the commands below call the Trainer themselves
            auto_configure_optimizers=False,  # CelebAStudy.configure_optimizers
            load_from_checkpoint_support=False,  # plain arguments in the checkpoint, no instantiator
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder's options, and what model and data share."""
        parser.add_argument("--experiment", type=str, default="celeba", help="name of the run, its folder, its files")
        parser.add_argument("--root_dir", type=str, default="runs", help="folder that holds the runs' folders")
        parser.add_argument(
            "--monitor", type=str, default="val/accuracy", help="metric that chooses the best checkpoint"
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="checkpoint to go on from (fit) or to judge: a file, 'last' or 'best' of this experiment",
        )
        parser.add_argument("--resume", action="store_true", help="fit: go on from this experiment's last checkpoint")
        parser.add_argument("--overwrite", action="store_true", help="fit: throw away a run of the same name")
        parser.add_argument(
            "--save_every_minutes",
            type=float,
            default=10.0,
            help="fit: how often the last checkpoint is written within an epoch; --resume then goes on exactly",
        )
        for shared in ("target", "covariates", "image_size", "constant"):
            parser.link_arguments(f"data.{shared}", f"model.{shared}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args``; Lightning's own version warns when sys.argv holds something too, as it always does here."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Know the run's folder, and whether a fit may use it, before anything is built."""
        self.folder = RunFolder(Path(self.config.root_dir), self.config.experiment)
        self.resume = self.config.resume or self.config.ckpt_path == "last"
        measured = [name for name in CURVES if name.startswith("val/")]
        if self.command == "fit" and self.config.monitor not in measured:
            raise RunError(f"--monitor: expected one of {', '.join(measured)}, got {self.config.monitor!r}. Change it.")
        if self.command == "fit" and is_rank_zero():
            self.folder.claim(self.resume, self.config.overwrite)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add this recipe's loggers and checkpoints to what the configuration says of the trainer."""
        callbacks = as_list(self.config_init.trainer.callbacks)
        kwargs["logger"] = False
        kwargs["default_root_dir"] = str(self.folder.path)
        if self.command == "fit":
            best = RunCheckpoint(
                dirpath=self.folder.checkpoints,
                filename=f"{self.folder.experiment}-best",
                monitor=self.config.monitor,
                mode="min" if self.config.monitor.endswith("loss") else "max",
                enable_version_counter=False,
            )
            # A callback of its own: `save_last` of the one above would follow the best epoch, not the last.
            last = RunCheckpoint(
                dirpath=self.folder.checkpoints,
                filename=f"{self.folder.experiment}-last",
                enable_version_counter=False,
            )
            within = ExactResume(self.folder.checkpoint("last"), self.config.save_every_minutes)
            callbacks += [within, best, last, EpochLog(log, CURVES)]
            kwargs["plugins"] = [*as_list(self.config_init.trainer.plugins), WholeCheckpoints()]
            kwargs["logger"] = [
                CurvesLogger(self.folder.path, CURVES, self.resume),
                TensorBoardLogger(self.folder.path / "tensorboard", name="", version="", default_hp_metric=False),
            ]
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def checkpoint(self, asked: str | None) -> str | None:
        """The path that 'best', 'last' or a path means, after a look inside that it is one of this very model."""
        if asked is None:
            return None
        path = self.folder.checkpoint(asked) if asked in ("best", "last") else Path(asked)
        self.model.require_same(check_checkpoint(path, "celeba"))
        return str(path)


def fit(argv: list[str]) -> None:
    """Train one arm; choose the best checkpoint on the validation split."""
    early = early_options(argv, "celeba")
    if early.resume and not early.config:
        argv = with_own_config(early, argv)
    cli = CelebACLI("fit", argv)
    with cli.folder.logging(begun=lambda: cli.trainer.global_step > 0):
        checkpoint = cli.checkpoint("last" if cli.resume else cli.config.ckpt_path)
        if is_rank_zero():
            log.info("fit %s: arm %s, mode %s", cli.folder.path, cli.model.hparams.arm, cli.model.hparams.mode)
        cli.datamodule.setup("fit")
        if is_rank_zero():
            if cli.config.overwrite:  # only now: an error above leaves the old run as it was
                cli.folder.clear()
            for line in describe(cli.datamodule.frames, cli.datamodule.targets, cli.datamodule.covariates):
                log.info(line)
            # As resolved, so that test, validate and --resume find it; how this fit was begun is not part of the run.
            config = cli.config.clone()
            config.resume, config.overwrite, config.ckpt_path = False, False, None
            cli.parser.save(config, cli.folder.config, skip_none=False, overwrite=True)
        if cli.resume:
            steps = check_checkpoint(Path(checkpoint or ""), "celeba")["history"]["steps"]
            for logger in cli.trainer.loggers:
                if isinstance(logger, CurvesLogger):
                    logger.forget_from(steps)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
        if is_rank_zero():
            _say_what_now(cli)


def _say_what_now(cli: CelebACLI) -> None:
    """The best checkpoint, and the command that judges it: one that works on what this fit has left."""
    best = best_checkpoint(cli.trainer)
    command = "test" if cli.model.hparams.mode == "corrected" else "validate"
    now = (
        f"now: python -m recipes.celeba {command} --experiment {cli.folder.experiment} --root_dir {cli.folder.root_dir}"
    )
    if best is not None and best.best_model_path and best.best_model_score is not None:
        log.info("best %s: %.4f (%s)", best.monitor, float(best.best_model_score), best.best_model_path)
        log.info(now)
    elif cli.folder.checkpoint("last").is_file():
        log.info("no epoch was finished and validated, so there is no best checkpoint")
        log.info("%s --ckpt_path last", now)
    elif cli.trainer.fast_dev_run:
        log.info("fast_dev_run: everything ran; nothing was saved, and there is nothing to judge")
    else:
        log.info("nothing was trained or saved, so there is nothing to judge")


def validate(argv: list[str]) -> None:
    """Judge a checkpoint on the validation split (the one that chose it: for as_published, and for a look)."""
    _judge("validate", argv)


def test(argv: list[str]) -> None:
    """Judge a checkpoint on the test split."""
    _judge("test", argv)


def _judge(command: str, argv: list[str]) -> None:
    early = early_options(argv, "celeba")
    if not early.config:
        argv = with_own_config(early, argv)
    cli = CelebACLI(command, argv)
    if command == "test" and cli.model.hparams.mode == "as_published":
        raise RunError(
            "mode as_published judges on the validation split, as the study did, and leaves the test split alone. "
            "Run `validate` instead, or fit in mode corrected."
        )
    with cli.folder.logging():
        checkpoint = cli.checkpoint(cli.config.ckpt_path or "best")
        if is_rank_zero():
            log.info("%s %s", command, checkpoint)
        judge = cli.trainer.validate if command == "validate" else cli.trainer.test
        judge(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
        split, data, model = SPLIT[command], cli.datamodule, cli.model
        skipped = gather(list(data.skipped[split]))
        if not is_rank_zero():
            return
        frame = data.frames[split]
        result = {
            "experiment": cli.folder.experiment,
            **model.identity,
            "image_size": model.hparams.image_size,
            "skipped": sorted(set(skipped)),
            "majority_accuracy": mean_majority_accuracy(frame, data.targets),
            **({} if data.fold is None else {"fold": data.fold, "folds": data.folds}),
            **model.history,
            "checkpoint": Path(checkpoint or "").name,
            "hardware": hardware(cli.trainer.strategy.root_device, cli.trainer.world_size),
        }
        write_results(
            cli.folder.path, split, result, frame.index.tolist(), model.predictions, data.targets, model.objective.loss
        )
        for line in describe({split: frame}, data.targets, data.covariates):
            log.info(line)
        for line in one_class_answers(model.predictions, data.targets):
            log.warning(line)
        log.info("wrote results-%s.json and predictions-%s.csv to %s", split, split, cli.folder.path)
