"""The command demo: a synthetic BIDS folder, then inspect, prepare, crossval and report on it, in a few minutes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusionconv.errors import StudyError
from recipes.adni import commands
from recipes.adni.synthetic import BAYES, write_bids

MARK = "demo.json"  # the demo's settings; a folder without it is not ours to clear


def run_demo(own: Mapping[str, Any], settings: dict[str, Any]) -> None:
    """Make the brains and run every step on them."""
    started = time.perf_counter()
    out = Path(own["out"])
    report = out / "study" / "report.html"
    if report.is_file() and not own["overwrite"]:
        print(f"\nThis demo has been run before; its report is {report}. To run it again: --overwrite")
        return
    _clear(out)
    seed = settings.get("seed", 0)
    (out / MARK).write_text(json.dumps({"subjects": own["subjects"], "seed": seed}) + "\n", encoding="utf-8")

    def say(text: str) -> None:
        print(f"\n[{time.perf_counter() - started:4.0f} s] {text}", flush=True)

    say(f"making {own['subjects']} synthetic brains in {out / 'bids'}")
    write_bids(out / "bids", own["subjects"], seed=seed)
    settings = settings | {"images": str(out / "bids")}
    options = {**own, "out": str(out / "study"), "overwrite": False}
    say("inspect")
    commands.inspect({**options, "skip_voxels": False}, settings)
    say("prepare")
    commands.prepare(options, settings)
    say("crossval")
    commands.crossval({k: v for k, v in options.items() if k != "subjects"}, settings)
    say("report")
    commands.report({"out": options["out"], "volumes": 4, "skip_attribution": False}, {})
    print(
        f"\nThe best that can be expected: {BAYES['covariates only']:.0%} accuracy from covariates alone, "
        f"{BAYES['image only']:.0%} from the image alone, {BAYES['image and covariates']:.0%} from both."
    )
    print(f"({time.perf_counter() - started:.0f} seconds in all; the volumes are synthetic)")


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in ``out``; refuse a folder that holds anything else."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise StudyError(
            f"out: expected a new folder or one of a demo (with {MARK}), got {out}, which holds other files; nothing "
            "there is touched: give another --out"
        )
    try:
        for name in ("bids", "study"):
            shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
    except OSError as error:
        raise StudyError(f"out: expected a folder that can be written, got {out} ({error.strerror})") from error
