"""The command demo: a synthetic BIDS folder, then inspect, prepare, crossval and report on it, in a few minutes."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from recipes.adni.synthetic import BAYES, write_bids
from recipes.common.runs import RunError

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
MARK = "demo.json"  # the demo's settings; a folder without it is not ours to clear
OURS = ("bids", "cache", "demo", MARK)

NOTE = (
    "The volumes are SYNTHETIC: one template brain (MNI152, from nilearn) with atrophy made by a program. No person "
    "and no measurement is behind them; what comes out says that the machinery works, and nothing about dementia."
)


def main(argv: list[str]) -> None:
    """Run the demo."""
    options = _parser().parse_args(argv)
    print(NOTE, flush=True)
    started = time.perf_counter()
    out: Path = options.out
    report = out / "demo" / "report.html"
    if report.is_file() and not options.overwrite:
        print(f"\nThis demo has been run before; its report is {report}. To run it again: --overwrite")
        return
    _clear(out)
    (out / MARK).write_text(json.dumps({"subjects": options.subjects, "seed": options.seed}) + "\n", encoding="utf-8")

    _say(started, f"making {options.subjects} synthetic brains in {out / 'bids'}")
    write_bids(out / "bids", options.subjects, seed=options.seed)
    where = [
        "--config", str(CONFIG), "--root_dir", str(out), "--data.source.images", str(out / "bids"),
        "--data.cache", str(out / "cache"), "--seed_everything", str(options.seed),
        "--data.split_seed", str(options.seed), "--data.prepare_workers", "0",
    ]  # fmt: skip
    if options.epochs is not None:
        where += ["--trainer.max_epochs", str(options.epochs)]
    _run(started, ["inspect", *where])
    _run(started, ["prepare", *where])
    _run(started, ["crossval", *where, "--keep_checkpoints"])
    _say(started, "writing the report")
    from recipes.adni.report import write_report  # brings Lightning: after the first line is printed

    write_report(out / "demo", title="Image alone and image with age and sex, on synthetic brains", note=NOTE)
    print(
        f"\nThe best that can be expected: {BAYES['covariates only']:.0%} accuracy from covariates alone, "
        f"{BAYES['image only']:.0%} from the image alone, {BAYES['image and covariates']:.0%} from both."
    )
    print(f"report: {report}")
    print(f"({time.perf_counter() - started:.0f} seconds in all; the volumes are synthetic)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.adni demo",
        description="The whole pipeline on a small set of synthetic brains. " + NOTE,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/adni-demo"), help="folder to write (%(default)s)")
    parser.add_argument("--subjects", type=int, default=210, help="how many to make (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the volumes, the split and the training (%(default)s)")
    parser.add_argument("--epochs", type=int, help="instead of those of configs/demo.yaml")
    parser.add_argument("--overwrite", action="store_true", help="run again over a finished demo")
    return parser


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in ``out``; refuse a folder that holds anything else."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise RunError(
            f"{out} is not empty and is not a demo's folder (no {MARK} in it), so nothing there is touched. "
            "Give an empty or new folder with --out."
        )
    for name in OURS:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _run(started: float, argv: list[str]) -> None:
    from recipes.adni.__main__ import main as recipe

    _say(started, "python -m recipes.adni " + " ".join(argv))
    recipe(argv)


def _say(started: float, text: str) -> None:
    print(f"\n[{time.perf_counter() - started:4.0f} s] {text}", flush=True)
