"""python -m recipes.adni COMMAND: demo, inspect, prepare, fit, test, predict, crossval, report."""

from __future__ import annotations

from recipes.common.commands import run_command

# command -> (module under recipes.adni, function, one line for --help)
COMMANDS = {
    "demo": (
        "demo",
        "main",
        "make a small synthetic BIDS folder, run the whole pipeline on it, write a report (minutes)",
    ),
    "inspect": (
        "before_training",
        "inspect",
        "say what a source holds: rows, images, headers, odd ones out; with a picture",
    ),
    "prepare": ("before_training", "prepare", "resample, crop and scale every volume once into a cache"),
    "fit": ("training", "fit", "train one arm; the best checkpoint is chosen on the validation part"),
    "test": ("training", "test", "judge a run's checkpoint on the test part"),
    "predict": ("predict", "main", "write a CSV of predictions for new volumes and a covariate table"),
    "crossval": ("crossval", "main", "every arm on the same folds, with controls and paired tests; resumable"),
    "report": ("report", "main", "figures, tables and attributions of a finished crossval"),
}

HELP = f"""usage: python -m recipes.adni COMMAND [options]      (COMMAND --help lists a command's options)

Brain MRI with covariates: diagnosis, brain age or time to dementia from a volume and a table, by a 3-D network that
sees the image alone, takes covariates beside its last features (concat), or inside a convolution (hybrid).

commands:
{chr(10).join(f"  {name:9s} {line}" for name, (_, _, line) in COMMANDS.items())}

examples:
  python -m recipes.adni demo
  python -m recipes.adni inspect  --config recipes/adni/configs/bids-ad-cn.yaml --data.source.images BIDS
  python -m recipes.adni prepare  --config recipes/adni/configs/bids-ad-cn.yaml --data.source.images BIDS
  python -m recipes.adni fit      --config recipes/adni/configs/bids-ad-cn.yaml --data.source.images BIDS \\
      --experiment first --model.arm hybrid --trainer.max_epochs 50
  python -m recipes.adni test     --experiment first
  python -m recipes.adni crossval --config recipes/adni/configs/oasis1-cdr.yaml \\
      --data.source.images OASIS1 --data.source.table oasis_cross-sectional.csv --experiment cdr
  python -m recipes.adni report   --experiment cdr
  python -m recipes.adni fit ... --trainer.devices 2 --trainer.strategy ddp --trainer.precision bf16-mixed

Everything of a run goes to runs/EXPERIMENT/ (config.yaml, log.txt, curves, checkpoints, results).
--debug shows a traceback instead of a one-line error.
"""


def main(argv: list[str] | None = None) -> None:
    """Run one command."""
    run_command("recipes.adni", COMMANDS, HELP, argv)


if __name__ == "__main__":
    main()
