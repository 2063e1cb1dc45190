"""What a fused model must do in a group of processes; `tests/surgery/test_parallel.py` starts two and reads the answers.

    python -m tests.helpers.parallel_checks RANK FOLDER

Every check is a function of the rank. What it raises is written to FOLDER/RANK.json under its name, so that one pair of
processes serves all checks.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import tests.helpers.ddp_checks  # (importing registers the checks)
import tests.helpers.fsdp_checks  # noqa: F401
from tests.helpers.parallel_case import CHECKS, WORLD


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD, timeout=timedelta(seconds=120)
    )
    answers = {}
    for name, function in CHECKS.items():
        start = time.perf_counter()
        try:
            function(rank)
            answers[name] = "ok"
        except Exception:
            answers[name] = traceback.format_exc()
        print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)
        (folder / f"{rank}.json").write_text(json.dumps(answers), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
