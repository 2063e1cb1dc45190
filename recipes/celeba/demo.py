"""The command demo: draw a synthetic set, run `fit` and `test` for both arms on it, and write a report."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd

from fusionconv.tabular import read_celeba_attributes
from recipes.celeba.synthetic import BAYES_RATES, COVARIATE, RULE, write_celeba
from recipes.common.demos import MARK, clear, run, say

ARMS = ("plain", "hybrid")
CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
OURS = ("data", *ARMS, "figures", "report.html")

NOTE = (
    "The images are SYNTHETIC: faces drawn by a program, with attributes that are true by construction. "
    "No photograph and no CelebA label is in them; only the file layout and the column names are CelebA's."
)

WHY = f"""
<p>The target was made by a rule: <b>{RULE}</b>. The names are those of CelebA's columns; the rule is arbitrary and says
nothing about people. Glasses and smile can be seen. <code>{COVARIATE}</code> is in the table and is drawn nowhere: it
stands for what a picture cannot show, such as an age or a genotype. The three are independent, one half each.</p>
<p>A network that sees only the picture can be certain where glasses and smile agree (both or neither: the rule then
gives the same answer either way), and can only guess where they differ. So 75&nbsp;% is the best that any image-only
network can be expected to reach, however large; the covariate alone gives 50&nbsp;%, both together 100&nbsp;%. The
margin between the arms is therefore the information that the plain arm is not given; on a few hundred images chance
adds or takes a few points.</p>
<p>What the hybrid arm adds is one set of kernels, V, in one convolution: image i is convolved with
W&nbsp;+&nbsp;s<sub>i</sub>&nbsp;V, where s<sub>i</sub> is its <code>{COVARIATE}</code>. V starts at zero, so that both
arms start as the same network, with the same weights and the same order of images.</p>
<p>The accuracy by what the picture shows, below, is the check: both arms should be right where glasses and smile
agree, and only the hybrid arm where they differ. In guessing, the plain arm may lean to the glasses or to the smile; it
is then right more often for one value of <code>{COVARIATE}</code> and less often for the other, and gains nothing. Real
data are rarely so clear-cut: this demo shows that the machinery works, not how large the gain is on photographs.</p>
"""


def main(argv: list[str]) -> None:
    """Run the demo."""
    parser = _parser()
    options = parser.parse_args(argv)
    if min(options.images) < 1:
        parser.error(f"--images needs at least one image in each split, and {options.images} were asked for.")
    print(NOTE, flush=True)
    started = time.perf_counter()
    out: Path = options.out
    report = out / "report.html"
    if report.is_file() and not options.overwrite:
        print(f"\nThis demo has been run before; its report is {report}. To run it again: --overwrite")
        return
    clear(out, OURS)
    settings = {"seed": options.seed, "images": options.images, "epochs": options.epochs}
    (out / MARK).write_text(json.dumps(settings) + "\n", encoding="utf-8")

    train, valid, test = options.images
    say(started, f"drawing {train} training, {valid} validation and {test} test images into {out / 'data'}")
    write_celeba(out / "data", train, valid, test, seed=options.seed)
    for arm in ARMS:
        which = ["--experiment", arm, "--root_dir", str(out)]
        arguments = [
            "--config", str(CONFIG), *which, "--model.arm", arm, "--data.root", str(out / "data"),
            "--seed_everything", str(options.seed),
        ]  # fmt: skip
        if options.epochs is not None:
            arguments += ["--trainer.max_epochs", str(options.epochs)]
        run(started, "recipes.celeba", ["fit", *arguments])
        run(started, "recipes.celeba", ["test", *which])
        (out / arm / "checkpoints" / f"{arm}-last.ckpt").unlink(missing_ok=True)  # 200 MB to resume from; not needed

    say(started, "writing the report")
    comparison = report_on(out)
    print(f"\n{comparison}\n\nreport: {report}")
    print(f"({time.perf_counter() - started:.0f} seconds in all; the images are synthetic)")


def report_on(out: Path) -> str:
    """Write the report of the two finished runs in ``out``; return the comparison in a few lines."""
    from recipes.celeba.report import write_report  # brings Lightning: after the first line is printed

    attributes = read_celeba_attributes(out / "data" / "celeba" / "list_attr_celeba.txt")
    agree = attributes["Smiling"] == attributes["Eyeglasses"]
    shows = pd.Series("glasses and smile agree", index=attributes.index).where(agree, "glasses and smile differ")
    return write_report(
        [out / arm for arm in ARMS],
        out / "report.html",
        title="Plain and hybrid VGG16-BN on drawn faces",
        synthetic_note=NOTE,
        why=WHY,
        bayes_rates=BAYES_RATES,
        groups={"what the picture shows": shows},
        shown_attributes=("Smiling", "Eyeglasses"),
        data_root=out / "data",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.celeba demo",
        description="Train both arms on a small set of drawn faces and write a report. " + NOTE,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/celeba-demo"), help="folder to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the images and of the training (%(default)s)")
    parser.add_argument(
        "--images", type=int, nargs=3, default=[432, 80, 400], metavar=("TRAIN", "VALID", "TEST"),
        help="how many to draw; multiples of 8 have the Bayes rates exactly (432 80 400)",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, help="instead of the 4 of configs/demo.yaml")
    parser.add_argument("--overwrite", action="store_true", help="run again over a finished demo")
    return parser
