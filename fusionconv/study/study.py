"""Study: the Python face of the engine. ``Study(...).compare([...])`` is ``fusionconv compare``."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm, head_of_all, parse_arm
from fusionconv.study.board import require_tensorboard
from fusionconv.study.checks import check_arms, check_images, check_options, check_parts, check_rows
from fusionconv.study.comparison import Comparison
from fusionconv.study.files import read_json, write_json
from fusionconv.study.folder import claim, logging_to, read_study, require_same_study, write_study
from fusionconv.study.folds import FoldData, fold_data, make_folds
from fusionconv.study.plan import parse_arms, plan_runs
from fusionconv.study.rows import Rows, read_rows
from fusionconv.study.runs import Run, do_run
from fusionconv.study.settings import Settings, make_settings
from fusionconv.study.written_tables import column_types

if TYPE_CHECKING:
    from fusionconv.study.images import ImageStore
    from fusionconv.study.target_images import TargetStore
    from fusionconv.tabular import CovariateEncoder

__all__ = ["Study"]

log = logging.getLogger("fusionconv.study")


class Study:
    """A table, its images, a network and how it is trained; arms are compared on it.

    Args:
        **settings: every option of `Settings`, such as ``table``, ``images``, ``image_column``, ``subject``,
            ``target``, ``covariates``, ``network``, ``image_size``, ``epochs``.

    Raises:
        StudyError: an unknown option, or a value that it cannot have.

    Example:
        >>> from fusionconv.study import Study
        >>> study = Study(table="study.csv", images="images/", image_column="file", subject="patient", target="dx",
        ...               covariates=["age", "sex", "site"], network="timm:resnet18", image_size=128)
        >>> study.settings.image_size, study.settings.folds
        ([128], 5)
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = make_settings(settings)
        self.cache: Path | None = None
        self.targets: TargetStore | None = None

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> tuple[Study, list[Arm]]:
        """The study that a folder holds, and its arms."""
        saved = read_study(Path(out))
        study = cls(**saved["settings"])
        study.cache = Path(out) / "cache"
        return study, [parse_arm(arm) for arm in saved["arms"]]

    @cached_property
    def rows(self) -> Rows:
        """The rows with a target and an image."""
        rows = read_rows(self.settings)
        if not rows.task.IMAGE_OUT:
            return rows
        from fusionconv.study.image_options import image_options
        from fusionconv.study.target_images import prepare_targets

        rows, self.targets = prepare_targets(rows, image_options(self.settings), self.settings, self._cache)
        return rows

    @property
    def target_store(self) -> TargetStore | None:
        """The decoded masks or target images of all rows; None for a task of numbers."""
        return self.targets if self.rows.task.IMAGE_OUT else None

    @property
    def _cache(self) -> Path:
        places = (self.settings.cache, self.cache, Path(tempfile.gettempdir()) / "fusionconv-cache")
        return next(Path(p) for p in places if p)

    @cached_property
    def store(self) -> ImageStore:
        """The decoded images of all rows; those that cannot be used are left out or raise, as ``on_error`` says."""
        from fusionconv.study.images import file_channels, image_options, prepare

        channels = self.settings.channels or (file_channels(self.rows.images) if self.settings.dims == 2 else 1)
        options = image_options(self.settings, channels)
        store = prepare(self.rows.images, options, self._cache)
        if store.failed:
            self.__dict__["rows"] = self.rows.usable(store, "images", self.settings.on_error)
            for name in ("folds", "encoding"):
                self.__dict__.pop(name, None)
        return store

    @cached_property
    def folds(self) -> pd.DataFrame:
        """train, val, test for each row, a column per fold."""
        return make_folds(self.rows, self.settings)

    def data(self, arm: Arm, fold: str, encoder: CovariateEncoder | None = None) -> FoldData:
        """What an arm sees of a fold; ``encoder``: of a network that is loaded, instead of a newly fitted one."""
        settings = self.of_arm(arm)
        store = self.store if arm.takes_image else None  # first: it may leave rows out
        targets = self.target_store if arm.takes_image else None
        return fold_data(self.rows, self.folds[fold], settings, store, covariates=settings.covariates,
                         encoder=encoder, target_store=targets)  # fmt: skip

    def of_arm(self, arm: Arm) -> Settings:
        """The settings of one arm."""
        return make_settings(arm.settings, self.settings) if arm.settings else self.settings

    # ---- comparing ----

    def compare(
        self, arms: Sequence[str | Mapping[str, Any]] = ("image", "covariates", "concat", "hybrid@first"), *,
        out: str | os.PathLike[str], overwrite: bool = False, part: str = "1/1", launcher: str = "local", jobs: int = 1,
        launcher_options: Mapping[str, Any] | None = None, minutes: float | None = None, progress: bool = True,
        report: bool = True, **settings: Any,
    ) -> Comparison:  # fmt: skip
        """Train and judge every arm on the same folds, with the same seeds and first weights; write tables and a
        report.

        Runs that are finished are not done again; a call that was stopped goes on where it was.

        Args:
            arms: ``"image"``, ``"covariates"``, ``"stacked"``, ``"concat"``, ``"METHOD@WHERE"``, or dicts with options.
            out: the folder of everything that is written.
            overwrite: throw away what an earlier comparison left there.
            part: ``"2/3"``: do the second third of the runs, whole folds where there are enough; several machines may
                share ``out``.
            launcher: ``local``, ``ray`` or ``slurm``.
            jobs: runs at the same time; with ray and slurm 1 means as many as there is room for.
            launcher_options: ``num_cpus``, ``num_gpus``, ``address``, ``max_retries`` of ray; ``time``, ``partition``,
                ``gpus``, ``cpus``, ``memory`` and others of slurm.
            minutes: choose the number of epochs so that the whole takes about so long here.
            progress: show bars.
            report: write report.html at the end.
            **settings: further options of the study, such as ``folds`` and ``epochs``.

        Raises:
            StudyError: the folder holds a comparison with other settings (they are named), or a run cannot go on.
        """
        if settings:
            self.settings = make_settings(settings, self.settings)
            for name in ("rows", "store", "folds", "encoding"):
                self.__dict__.pop(name, None)
        out = Path(out)
        if overwrite and part != "1/1":
            raise StudyError(
                f"overwrite: expected part 1/1, got {part}, which would throw away what other parts did; give another "
                "--out, or remove the folder first"
            )
        plan = self.begin(arms, out=out, overwrite=overwrite, minutes=minutes)
        parsed = parse_arms(arms, self.settings)
        with logging_to(out / "log.txt"):
            from fusionconv.study.launch import launch, part_of
            from fusionconv.study.stacking import stack_folds

            mine = part_of(plan, part)
            todo = [run for run in mine if not run.done]
            log.info("%d runs (%d arms x %d folds), %d done before, %d to do", len(mine), len(parsed),
                     len(self.folds.columns), len(mine) - len(todo), len(todo))  # fmt: skip
            resumed = [run.name for run in mine if run.done]
            if resumed and todo:
                write_json(out / "resumed.json", {"finished before": resumed})
            local = launcher == "local" and jobs == 1
            do = self.do if local else do_named_run
            for result in launch(todo, out, launcher, jobs, progress=progress, do=do, options=launcher_options or {}):
                value = result["metrics"].get(result["main"])
                shown = "not defined" if value is None or value != value else f"{value:.4g}"
                log.info(
                    "%s %s: %s %s (%.0f s)", result["arm"], result["fold"], result["main"], shown, result["seconds"]
                )
            left = [run for run in plan if not run.done]
            if left:
                log.info("%d runs of other parts are not done yet; the last part to end writes the tables", len(left))
                return Comparison(out)
            for arm in parsed:
                if arm.kind == "stacked":  # a regression takes no time, and is made anew each time
                    stack_folds(self, arm, out)
            comparison = Comparison(out)
            comparison.summarise()
            if report:
                log.info("wrote %s", comparison.report())
        return comparison

    def begin(
        self, arms: Sequence[str | Mapping[str, Any]], *, out: str | os.PathLike[str], overwrite: bool = False,
        minutes: float | None = None,
    ) -> list[Run]:  # fmt: skip
        """Check everything, write to ``out`` what the study is, and list its runs; nothing is trained.

        `compare` begins so. To choose which runs are done and when, do them with `do`, and call
        ``Comparison(out).summarise()`` for the tables.

        Args:
            arms: as in `compare`.
            out: the folder of everything that is written.
            overwrite: throw away what an earlier comparison left there.
            minutes: choose the number of epochs so that the whole takes about so long here.
        """
        out = Path(out)
        parsed = parse_arms(arms, self.settings)
        self.settings = make_settings({"head": head_of_all(parsed, self.settings.head)}, self.settings)
        claim(out, overwrite)
        self.cache = out / "cache"
        with logging_to(out / "log.txt"):
            return self._plan(parsed, out, minutes)

    def _plan(self, arms: Sequence[Arm], out: Path, minutes: float | None) -> list[Run]:
        """Check everything, write study.yaml, rows.csv and folds.csv, and list the runs, fold by fold."""
        if self.settings.tensorboard:
            require_tensorboard()
        with_settings = [(arm, self.of_arm(arm)) for arm in arms]
        check_options(with_settings, self.rows)
        check_parts(with_settings, self.folds, self.rows)
        warned = self.check(arms)
        store = self.store if any(arm.takes_image for arm in arms) else None
        if store is not None:
            warned += check_images(self.rows, self.folds, store)
            warned += check_arms(arms, self.rows, self.folds, self.settings, store)
        if self.target_store is not None:
            warned += self.target_store.absent(self.folds.set_axis(self.rows.frame["id"]))
        if minutes is not None and store is not None:
            self.settings = replace(self.settings, epochs=self._epochs_within(minutes, arms, out))
        require_same_study(out, self.settings, arms)
        plan = self.plan(arms, out)
        for run in plan:
            _ = run.done  # raises where a result is of other rows; before their tables are written over
        write_study(out, self.settings, arms)
        log.info("%s", "\n".join(self.describe()))
        for text in warned:
            log.warning("%s", text)
        stores = (store, None if self.target_store is None else self.target_store.store)
        remarks = [remark for one in stores if one is not None for remark in one.remarks]  # warned of by `prepare`
        write_json(out / "notes.json", {
            "notes": list(self.rows.notes), "warnings": warned + remarks, "task": self.rows.task.settings,
            "flow": self.rows.flow.lines, "encoding": self.encoding,
            "types": column_types(self.rows.frame),
        })  # fmt: skip
        self.rows.frame.to_csv(out / "rows.csv", index=False)
        self.rows.frame[["id", "subject"]].join(self.folds).to_csv(out / "folds.csv", index=False)
        self._draw_inputs(arms, out / "figures/inputs.png")
        return plan

    def _draw_inputs(self, arms: Sequence[Arm], path: Path) -> None:
        """Some training images of the first fold, as the first arm with an image sees them."""
        arm = next((arm for arm in arms if arm.has_network), None)
        if arm is None or path.is_file():
            return
        from fusionconv.study.inputs import draw_inputs

        draw_inputs(path, self.data(arm, str(self.folds.columns[0])), self.of_arm(arm))

    def plan(self, arms: Sequence[Arm], out: Path) -> list[Run]:
        """All runs, fold by fold, so that a study that is stopped has every arm of the folds that it finished."""
        return plan_runs(self, arms, out)

    def do(self, run: Run, progress: bool = True) -> dict[str, Any]:
        """Do one run of the plan in this process, or what is left of it; returns its result."""
        return do_run(run, self.data(run.arm, run.fold), self.of_arm(run.arm), progress=progress)

    def _epochs_within(self, minutes: float, arms: Sequence[Arm], out: Path) -> int:
        """So many epochs as fit into the time, of at most those asked for; a plan that exists keeps its own."""
        if (out / "study.yaml").is_file():
            return int(read_study(out)["settings"]["epochs"])
        from fusionconv.study.timing import epochs_within

        return epochs_within(self, arms, minutes)

    # ---- looking ----

    def describe(self) -> list[str]:
        """What is studied, in lines: the flow of rows, targets, covariates, notes."""
        rows = self.rows
        lines = [f"task {rows.task.NAME}: {rows.task.describe(rows.targets)}"]
        lines += [
            f"  {count:+7,d}  {what}{f' ({detail})' if detail else ''}" for what, count, detail in rows.flow.lines
        ]
        lines += [f"note: {note}" for note in rows.notes]
        counts = self.folds.iloc[:, 0].value_counts()
        lines.append(f"{len(self.folds.columns)} folds, the first with " +
                     ", ".join(f"{counts.get(part, 0)} {part}" for part in ("train", "val", "test")))  # fmt: skip
        return [*lines, self.encoding] if self.encoding else lines

    def check(self, arms: Sequence[Arm] | None = None) -> list[str]:
        """What `compare` warns of in the table and the folds; no image is read.

        Args:
            arms: whose covariates are looked at; default: the study's covariates.

        Raises:
            TableError: what `compare` refuses: a fold that cannot be run, covariates that tell the target.
        """
        if arms is None:
            sets = {tuple(self.settings.covariates)} - {()}
        else:
            sets = {tuple(self.of_arm(arm).covariates) for arm in arms if arm.takes_covariates}
        return check_rows(self.rows, self.folds, self.settings, sorted(sets))

    @cached_property
    def encoding(self) -> str:
        """How the covariates are encoded in the first fold; empty without covariates."""
        data = fold_data(self.rows, self.folds.iloc[:, 0], self.settings, None)
        return "" if data.encoder is None else data.encoder.summary()


def do_named_run(out: str, arm: str, fold: str, number: int, progress: bool = False) -> dict[str, Any]:
    """Do one run of the study in ``out``; for another process or machine. A finished run is only read."""
    study, arms = Study.open(out)
    if any(a.takes_image for a in arms):
        _ = study.store  # first: it may leave rows out
    for run in study.plan(arms, Path(out)):
        if (run.arm.name, run.fold, run.number) == (arm, fold, number):
            done = read_json(run.folder / "result.json") if run.done else None
            return done or study.do(run, progress)
    raise StudyError(f"{out}: expected a run of the study, got arm {arm!r}, fold {fold!r}, seed {number}")
