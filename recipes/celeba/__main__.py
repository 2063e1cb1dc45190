"""python -m recipes.celeba COMMAND: demo, verify, download, fit, crossval, validate, test, reproduce, report, ..."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from fusionconv.errors import FusionError

# command -> (module under recipes.celeba, function, the name of its options there, one line)
COMMANDS = {
    "demo": ("demo", "demo", "OPTIONS", "draw a small synthetic set, train both arms on it, write a report (minutes)"),
    "verify": ("files", "verify", None, "check a CelebA folder: files, tables, images; say what is wrong"),
    "download": ("files", "download", None, "fetch CelebA into a folder (non-commercial research only; needs gdown)"),
    "fit": ("training", "fit", "FIT", "train and judge the arms on the official split; write a report"),
    "validate": ("training", "validate", "JUDGE", "every network's figures on the validation images"),
    "test": ("training", "test", "JUDGE", "every network's figures on the test images"),
    "crossval": ("training", "crossval", "FIT", "train and judge the arms on folds of train and valid, by person"),
    "lr_find": ("training", "lr_find", "LR_FIND", "a learning-rate range test: its curve and a rate to start from"),
    "predict": ("training", "predict", "PREDICT", "answers for a folder of images and a covariate table, as a CSV"),
    "explain": ("training", "explain", None, "what a network does with image and covariates, as figures"),
    "robustness": ("training", "robustness", None, "an arm's metrics on turned images, and with pixels shuffled"),
    "reproduce": ("reproduce", "reproduce", "OPTIONS", "the study's rows and 8 more, in both modes; resumable"),
    "report": ("report", "report", "OPTIONS", "tables and figures of what `reproduce` has done so far"),
}
WITH_SETTINGS = ("fit", "crossval", "lr_find", "demo", "reproduce")
HELP = f"""usage: python -m recipes.celeba COMMAND [options]      (COMMAND --help lists a command's options)

Predict CelebA's attributes from the face and from other attributes: VGG16-BN (or any network) with the image alone, or
with a hybrid convolution.

{chr(10).join(f"  {name:10} {line}" for name, (_, _, _, line) in COMMANDS.items())}

examples:
  python -m recipes.celeba demo
  python -m recipes.celeba verify --root DIR                 DIR holds celeba/img_align_celeba/ and its tables
  python -m recipes.celeba fit --root DIR --out runs/male    both arms of configs/default.yaml
  python -m recipes.celeba test --study runs/male
  python -m recipes.celeba fit --root DIR --target Smiling --covariates Male Young --arms image hybrid@last \\
      --image-size 64 --out runs/smiling
  python -m recipes.celeba reproduce --root DIR --dry-run    the study's rows: what would be run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 where something was not as expected."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    command = words.pop(0)
    if command not in COMMANDS:
        print(f"recipes.celeba: expected one of the commands {', '.join(COMMANDS)}, got {command!r}", file=sys.stderr)
        return 2
    module, function, options, what = COMMANDS[command]
    try:
        found = importlib.import_module(f"recipes.celeba.{module}")
        if {"-h", "--help"} & set(words) and (options or command in ("explain", "robustness")):
            from fusionconv.study.help import help_text, trainer_help
            from fusionconv.study.own_options import OWN

            own = getattr(found, options) if options else OWN[command]
            usage = f"usage: python -m recipes.celeba {command} [options]"
            kind = "compare" if command in WITH_SETTINGS else "predict"
            print(trainer_help() if "trainer" in words else help_text(kind, what, own, usage=usage))
            return 0
        return getattr(found, function)(words) or 0
    except FusionError as error:
        print(f"recipes.celeba {command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"recipes.celeba {command}: expected a place that can be read and written, got {error.filename} "
            f"({error.strerror}); give another --out or --cache",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"recipes.celeba {command}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
