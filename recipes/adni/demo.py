"""The command demo: a synthetic BIDS folder, then inspect, prepare, crossval and report on it, in a few minutes."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from recipes.adni.synthetic import BAYES, write_bids
from recipes.common.demos import MARK, clear, run, say
from recipes.common.runs import require_writable

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
OURS = ("bids", "cache", "demo")

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
    require_writable(out, "--out")
    if report.is_file() and not options.overwrite:
        print(f"\nThis demo has been run before; its report is {report}. To run it again: --overwrite")
        return
    clear(out, OURS)
    (out / MARK).write_text(json.dumps({"subjects": options.subjects, "seed": options.seed}) + "\n", encoding="utf-8")

    say(started, f"making {options.subjects} synthetic brains in {out / 'bids'}")
    write_bids(out / "bids", options.subjects, seed=options.seed)
    where = [
        "--config", str(CONFIG), "--root_dir", str(out), "--data.source.images", str(out / "bids"),
        "--data.cache", str(out / "cache"), "--seed_everything", str(options.seed),
        "--data.split_seed", str(options.seed), "--data.prepare_workers", "0",
    ]  # fmt: skip
    if options.epochs is not None:
        where += ["--trainer.max_epochs", str(options.epochs)]
    run(started, "recipes.adni", ["inspect", *where])
    run(started, "recipes.adni", ["prepare", *where])
    run(started, "recipes.adni", ["crossval", *where, "--keep_checkpoints"])
    say(started, "writing the report")
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
