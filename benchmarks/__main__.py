"""python -m benchmarks MEASURE, or page: what hybrid layers cost (benchmarks/README.md)."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

MEASURES = ("ceilings", "probe", "layers", "lowrank", "models", "compiled", "scaling", "pipeline", "memory")
DESCRIPTION = """\
Measure one of: ceilings (what the machine can do at best), probe (ten typical layers in every known way), layers (every
way to compute a layer, and its peers), lowrank (method="lowrank" beside hybrid, deep layers too), models (training
steps of whole networks), compiled (layers by torch.compile), scaling (cost against the number of covariates), pipeline
(the study engine against a bare loop), memory (peak of a layer). Ratios are taken within rounds of one process;
benchmarks/README.md is the contract. Results go to a JSON file; `page` writes docs/performance.md from such files.
"""
EXAMPLES = """\
examples:
  python -m benchmarks layers --json layers.json
  python -m benchmarks models --device cuda --json models.json
  python -m benchmarks layers --quick                      three cases, under a minute
  python -m benchmarks page benchmarks/results/*.json      docs/performance.md from results
"""


def main(argv: list[str] | None = None) -> None:
    """Run one measurement, or write the page."""
    options = _options(argv)
    if options.measure == "page":
        from benchmarks.speed.page import write_page

        print(f"wrote {write_page(options.files, options.out)}")
        return
    if options.files:
        sys.exit(f"error: {options.measure} takes no files (got {options.files[0]}); did you mean page?")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda: torch finds no CUDA card here; leave --device out, or use cpu")
    if options.threads:
        torch.set_num_threads(options.threads)

    from benchmarks.speed.timing import environment

    module = importlib.import_module(f"benchmarks.speed.{options.measure}")
    budget = {} if options.budget is None else {"budget": options.budget}
    begun, records = time.perf_counter(), []
    found: dict[str, Any] = {"measure": options.measure, "device": device.type, "quick": options.quick}
    found["environment"], found["note"] = environment(device), options.note
    found["command"] = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)])
    for record in module.measure(device, options.quick, **budget):
        records.append(record)
        print(json.dumps(record), flush=True)
        if options.json:  # after each, so that a stopped run leaves what it has
            found |= {"records": records, "seconds": round(time.perf_counter() - begun, 1)}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if hasattr(module, "summary"):
        print(json.dumps(module.summary(records), indent=1))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("measure", choices=[*MEASURES, "page"])
    parser.add_argument("files", nargs="*", type=Path, help="page: JSON files of measurements")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="file for the results (written after each case)")
    parser.add_argument("--quick", action="store_true", help="a few cases only, to see that it works")
    parser.add_argument("--budget", type=float, help="seconds a case and comparison (each measure has its own default)")
    parser.add_argument("--threads", type=int, help="threads of a CPU measurement (torch's default)")
    parser.add_argument("--note", default="", help="what the page says of the conditions, such as what else ran")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"), help="page: what to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
