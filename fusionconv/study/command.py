"""The console command ``fusionconv``: inspect, compare, fit, predict, report, explain, diagram, serve, and others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["main", "what_to_install"]

COMMANDS = {
    "inspect": "look at a table and its images: rows, targets, covariates, folds, what would be left out",
    "compare": "train and judge every arm on the same folds; tables, tests, controls and a report",
    "fit": "train one arm on one hold-out and keep its network",
    "predict": "answers of a finished study's networks for new rows",
    "report": "write the tables and the report of a study again; or test two studies against each other",
    "explain": "what an arm's network does with image and covariates, as figures",
    "diagram": "a network as blocks, and where its covariates enter, as a drawing",
    "serve": "a page in the browser: move the covariates of an image and see what the networks say",
    "robustness": "an arm's metrics on turned images, and with each image's pixels in a random order",
    "lr-find": "train an arm for some steps at rising rates: the curve, and a rate to start from",
    "demo": "a whole study on synthetic images with known rates, without data",
}
_HELP = """usage: fusionconv COMMAND [options]

Networks that know the patient, not just the picture: studies of a table and its images.

{commands}

`fusionconv COMMAND --help` lists a command's options; `--help trainer` those of Lightning's Trainer.
"""

#: what the extra brings, as Python imports it
_EXTRA = ("PIL", "captum", "filelock", "jsonargparse", "lightning", "matplotlib", "monai", "nibabel", "scipy",
          "sklearn", "torchmetrics", "torchsurv", "torchvision", "tqdm", "yaml")  # fmt: skip


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """What to say of a package that the extra brings and that is not installed; None of any other."""
    name = str(error.name).partition(".")[0]
    if name not in _EXTRA:
        return None
    return (
        f"expected the package {name}, got none; pip install 'fusionconv[study]' (in a clone: pip install '.[study]')"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 where something was not as expected."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP.format(commands="\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())))
        return 0
    if words[0] == "--version":
        import fusionconv

        print(fusionconv.__version__)
        return 0
    from fusionconv.errors import FusionError

    command = words.pop(0)
    try:
        if command not in COMMANDS:
            from fusionconv.errors import StudyError

            raise StudyError(f"expected one of the commands {', '.join(COMMANDS)}, got {command!r}")
        return _run(command, words)
    except FusionError as error:
        print(f"fusionconv {command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (said := what_to_install(error)) is None:
            raise
        print(f"fusionconv {command}: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fusionconv {command}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(command: str, words: list[str]) -> int:
    from fusionconv.study.command_line import parse
    from fusionconv.study.help import help_text, trainer_help

    if "--help" in words or "-h" in words:
        print(trainer_help() if "trainer" in words else help_text(command, COMMANDS[command]))
        return 0
    given = parse(command, words)
    settings, own = given.settings, given.own
    if command in ("inspect", "compare", "fit", "lr-find"):
        _check_early(settings, own)
        from fusionconv.study.study import Study

        study = Study(**settings)
        if command == "inspect":
            print("\n".join(study.describe()), flush=True)
            for text in study.check():
                print(f"warning: {text}")
        elif command == "compare":
            study.compare(own.pop("arms"), **own)
        elif command == "lr-find":
            from fusionconv.study.lr_range import find_lr

            _, rate = find_lr(study, own.pop("arm"), **own)
            none = "no suggestion: the smoothed loss never fell; look at the curve, try more --steps or other rates"
            print(f"wrote {own['out']}/lr_find.png; {none if rate is None else f'suggested: --lr {rate:.2e}'}")
        else:
            arm = own.pop("arm")
            study.compare([arm], folds=1, repeats=1, **own)
    elif command == "predict":
        from fusionconv.study.predict import predict_table

        predict_table(**own)
    elif command == "report":
        from fusionconv.study.comparison import Comparison

        if own["against"] is not None:
            from fusionconv.study.against import compare_studies

            table, path = compare_studies(own["out"], own["against"])
            shown = ["arm", "reference", "metric", "difference", "low", "high", "p", "p_holm", "test", "n", "quote"]
            print(table[shown].to_string(index=False, float_format="{:.4g}".format))
            print(path)
            return 0
        comparison = Comparison(own["out"])
        print(comparison.summarise().report())
    elif command == "robustness":
        from fusionconv.study.robustness import check_robustness

        print(check_robustness(**own).to_string(index=False, float_format="{:.4g}".format))
    elif command == "diagram":
        from fusionconv.study.diagram import draw_diagram

        print(draw_diagram(**own))
    elif command == "explain":
        from fusionconv.study.explain import explain_arm

        for path in explain_arm(**own):
            print(path)
    elif command == "serve":
        from fusionconv.study.serve import serve

        serve(**own)
    else:
        from fusionconv.study.demo import demo

        demo(**own)
    return 0


def _check_early(settings: dict[str, Any], own: dict[str, Any]) -> None:
    """What can be known before torch is imported: the table, its columns, names of arms."""
    from fusionconv.errors import StudyError
    from fusionconv.study.settings import require_places, require_writable

    require_places(settings.get("table"), settings.get("images"))
    if not settings.get("target"):
        raise StudyError("target: expected a column of the table, got none; give --target COLUMN")
    if own.get("out") is not None:
        require_writable(own["out"])
