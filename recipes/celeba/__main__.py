"""python -m recipes.celeba COMMAND: demo, verify, download, fit, validate, test, predict, reproduce, report, ..."""

from __future__ import annotations

from recipes.celeba.paths import check_paths
from recipes.common.commands import run_command

# command -> (module under recipes.celeba, function, one line for --help)
COMMANDS = {
    "demo": ("demo", "main", "draw a small synthetic set, train both arms on it, write a report (minutes, no data)"),
    "verify": ("files", "verify", "check a CelebA folder: files, tables, images; say what is wrong and what to do"),
    "download": ("files", "download", "fetch CelebA into a folder (non-commercial research only; needs gdown)"),
    "fit": ("training", "fit", "train one arm; the best checkpoint is chosen on the validation split"),
    "validate": ("training", "validate", "judge a run's checkpoint on the validation split"),
    "test": ("training", "test", "judge a run's checkpoint on the test split (mode corrected)"),
    "lr_find": ("lr_find", "lr_find", "a learning-rate range test: its curve and a suggestion"),
    "crossval": (
        "crossval",
        "crossval",
        "fit and judge the arms on folds of train + valid; the test split is untouched",
    ),
    "robustness": ("robustness", "robustness", "a checkpoint's accuracy on rotated images, and with pixels shuffled"),
    "explain": ("explain", "explain", "Grad-CAM and guided backpropagation of some images, by covariate value"),
    "predict": ("predict", "predict", "write a CSV of predictions for a folder of images and a covariate table"),
    "reproduce": ("grid.reproduce", "main", "the study's whole table: every row, both modes, several seeds; resumable"),
    "report": ("grid.report.command", "main", "what the whole grid gave: a page, a LaTeX table, figures"),
}

HELP = f"""usage: python -m recipes.celeba COMMAND [options]      (COMMAND --help lists a command's options)

Predict CelebA attributes from the face and from other attributes: VGG16-BN (or any network) plain, or with a hybrid
convolution.

commands:
{chr(10).join(f"  {name:10s} {line}" for name, (_, _, line) in COMMANDS.items())}

examples:
  python -m recipes.celeba demo
  python -m recipes.celeba verify --root DIR                      DIR holds celeba/img_align_celeba/ and its tables
  python -m recipes.celeba fit --config recipes/celeba/configs/plain.yaml --data.root DIR
  python -m recipes.celeba fit --config recipes/celeba/configs/hybrid-male.yaml --data.root DIR
  python -m recipes.celeba test --experiment hybrid-male          the run's best checkpoint, on the test split
  python -m recipes.celeba fit --experiment young --model.arm hybrid --model.layer_idx last \\
      --data.root DIR --data.target Smiling --data.covariates '[Male, Young]' --data.image_size 64
  python -m recipes.celeba fit --experiment young --resume --trainer.max_epochs 3
  python -m recipes.celeba fit ... --trainer.devices 2 --trainer.strategy ddp --trainer.precision bf16-mixed
  python -m recipes.celeba reproduce --root DIR --dry-run          the study's table: what would be run, and how long
  python -m recipes.celeba report runs/grid                        the page of what `reproduce` left there
  python -m recipes.celeba predict --checkpoint runs/hybrid-male/checkpoints/hybrid-male-best.ckpt \\
      --images FOLDER --table covariates.csv --out predictions.csv

A run leaves in runs/EXPERIMENT/: config.yaml, log.txt, metrics.csv, curves.png, tensorboard/, checkpoints/, and after
validate or test results-*.json and predictions-*.csv. --debug shows a traceback instead of a one-line error.
"""


def main(argv: list[str] | None = None) -> None:
    """Run one command."""
    run_command("recipes.celeba", COMMANDS, HELP, argv, check_paths)


if __name__ == "__main__":
    main()
