"""python -m recipes.adni COMMAND: demo, inspect, prepare, fit, test, predict, crossval, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusionconv.errors import FusionError

CONFIGS = Path(__file__).parent / "configs"
COMMANDS = {
    "demo": "make synthetic brains in BIDS, run the whole pipeline on them, write a report (minutes)",
    "inspect": "say what a source holds: rows, images, headers, odd ones out; with a picture",
    "prepare": "resample, crop and scale every volume once into a cache",
    "fit": "train one arm on one hold-out and keep its network",
    "test": "judge a study's networks again on their test rows",
    "predict": "answers of a study's networks for new volumes and their covariates",
    "crossval": "every arm on the same folds, with controls and paired tests; resumable",
    "report": "tables, figures and attributions of a finished crossval",
}
HELP = f"""usage: python -m recipes.adni COMMAND [options]

Brain MRI with covariates: diagnosis, brain age or time to dementia from a volume and a table.

{chr(10).join(f"  {name:9} {what}" for name, what in COMMANDS.items())}

`python -m recipes.adni COMMAND --help` lists a command's options: the recipe's, then those of `fusionconv compare`.
"""


def options_of(command: str) -> dict[str, tuple[Any, str]]:
    """The options of a command beside a study's: name -> (default, help)."""
    from fusionconv.study.own_options import OWN
    from recipes.adni.table import OPTIONS

    out = {"out": OWN["compare"]["out"]}
    arms = {"arms": OWN["compare"]["arms"]}
    source = {name: OPTIONS[name] for name in ("source", "source_options")}
    return {
        "demo": {
            "out": ("runs/adni-demo", "folder to write"),
            "subjects": (210, "how many brains to make"),
            "overwrite": (False, "run again over a finished demo"),
            **OPTIONS,
            **arms,
        },
        "inspect": {**OPTIONS, **out, **arms, "skip_voxels": (False, "headers only; a moment instead of minutes")},
        "prepare": {**OPTIONS, **out, **arms},
        "fit": {**OPTIONS, **OWN["fit"], **arms},
        "test": {"out": (None, "folder of a study (needed)"), "arm": (None, "whose networks; default: all")},
        "predict": {
            **OWN["predict"],
            "table": (None, "rows to predict; without it, and of the arm image, all volumes in --images"),
            "images": ([], "folder of the volumes, or files"),
            "decimal": (None, "mark of the numbers of --table, . or , (61,5)"),
            **source,
            "source": ("table", OPTIONS["source"][1]),
            "overwrite": (False, "write over --out"),
        },
        "crossval": {**OPTIONS, **OWN["compare"]},
        "report": {
            "out": (None, "folder of a finished crossval (needed)"),
            "volumes": (6, "test volumes whose attributions are drawn and written as NIfTI"),
            "skip_attribution": (False, "tables and figures only; faster"),
        },
    }[command]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 where something was not as expected."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    command = words.pop(0)
    try:
        if command not in COMMANDS:
            from fusionconv.errors import StudyError

            raise StudyError(f"expected one of the commands {', '.join(COMMANDS)}, got {command!r}")
        _run(command, words)
    except FusionError as error:
        print(f"recipes.adni {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"recipes.adni {command}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


def _run(command: str, words: list[str]) -> None:
    from fusionconv.study.command_line import parse
    from fusionconv.study.help import help_text, trainer_help
    from fusionconv.study.settings import require_writable

    own, program = options_of(command), "python -m recipes.adni"
    studies = command not in ("test", "predict", "report")
    place = " OUT" if command in ("test", "report") else ""
    if "--help" in words or "-h" in words:
        usage = f"usage: {program} {command}{place}{' [--config FILE]' * studies} [options]"
        like = "compare" if studies else "report"
        print(trainer_help() if "trainer" in words else help_text(like, COMMANDS[command], own, usage=usage))
        return
    if place and words and not words[0].startswith("-"):
        words = ["--out", *words]
    if command == "demo":
        print(NOTE, flush=True)
    config = CONFIGS / ("demo.yaml" if command == "demo" else "default.yaml") if studies else None
    given = parse(command, words, own, settings=studies, config=config, program=program)
    require_writable(given.own["out"])
    from recipes.adni import commands

    getattr(commands, command)(given.own, given.settings)


NOTE = (
    "The volumes are SYNTHETIC: one template brain (MNI152, from nilearn) with atrophy made by a program. No person "
    "and no measurement is behind them; what comes out says that the machinery works, and nothing about dementia."
)

if __name__ == "__main__":
    sys.exit(main())
