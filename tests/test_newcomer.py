"""A newcomer's whole path with the wheel alone: quick start, own table, own network, figures, what-if page.

Every step is a command or a page's code, in a folder that is not the repository.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.helpers.markdown import ROOT, blocks

NETWORK = """
from torch import nn

def network(num_outputs, in_channels, image_size):
    return nn.Sequential(nn.Conv2d(in_channels, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(6, num_outputs))
"""


def write_table(folder: Path) -> None:
    """A hospital's CSV: semicolons, decimal commas, German words; bright images mean "ja" in one ward, "nein" in the other."""
    draw = np.random.default_rng(0)
    (folder / "bilder").mkdir()
    lines = ["datei;patient;alter;station;befund"]
    for n in range(48):
        bright, ward = bool(draw.integers(2)), "AB"[n % 2]
        pixels = draw.normal(150 if bright else 90, 15, (24, 20)).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / "bilder" / f"{n:03d}.png")
        age = f"{60 + draw.normal(0, 9):.1f}".replace(".", ",")
        lines.append(f"{n:03d}.png;P{n // 2:03d};{age};{ward};{'ja' if bright == (ward == 'A') else 'nein'}")
    (folder / "tabelle.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder, and what runs a command there with the wheel; ``fusionconv`` is the wheel's own program."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv, which builds the wheel, is not installed: pip install uv")
    folder = tmp_path_factory.mktemp("newcomer")
    built, site, desk = folder / "dist", folder / "site", folder / "desk"
    desk.mkdir()
    for words in (["build", "--wheel", "--out-dir", built, ROOT],
                  ["pip", "install", "--python", sys.executable, "--no-deps", "--target", site]):  # fmt: skip
        wheel = list(built.glob("*.whl")) if words[0] == "pip" else []
        subprocess.run([uv, "--quiet", *map(str, [*words, *wheel])], check=True, cwd=folder, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

    def run(*words: str, wait: bool = True):
        program = [sys.executable, str(site / "bin" / "fusionconv")] if words[0] == "fusionconv" else [sys.executable]
        command = [*program, *words[1:]]
        if not wait:
            return subprocess.Popen(
                command, cwd=desk, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        done = subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return desk, run


def test_the_whole_path(home):
    desk, run = home
    assert (desk.parent / "site") in Path(
        run("python", "-c", "import fusionconv; print(fusionconv.__file__)").strip()
    ).parents

    # the quick start
    (desk / "quick.py").write_text("\n".join(blocks(ROOT / "docs" / "quickstart.md", "python")), encoding="utf-8")
    assert "age" in run("python", "quick.py")

    # one's own table and network
    write_table(desk)
    (desk / "mine.py").write_text(NETWORK, encoding="utf-8")
    common = ["--table", "tabelle.csv", "--images", "bilder", "--image-column", "datei", "--subject", "patient", "--target",
              "befund", "--positive", "ja", "--covariates", "alter", "station", "--network", "mine:network"]  # fmt: skip
    common += ["--decimal", ",", "--channels", "1", "--image-size", "24", "20", "--batch-size", "8", "--lr", "0.03"]
    told = run("fusionconv", "inspect", *common)
    assert re.search(r"48\s+rows of the table", told)
    assert re.search(r"24 subjects", told)
    run("fusionconv", "compare", *common, "--arms", "image", "concat", "hybrid@first", "--folds", "2", "--epochs", "12",
        "--resamples", "200", "--out", "out")  # fmt: skip
    results = pd.read_csv(desk / "out" / "results.csv").query("metric == 'auc'").set_index("arm")["mean"]
    assert results["hybrid-first"] > 0.9 > 0.75 > results["image"]  # the ward decides how brightness is read

    # figures
    report = (desk / "out" / "report.html").read_text(encoding="utf-8")
    assert "hybrid-first" in report
    assert "<svg" in report or "data:image/png" in report
    for line in run("fusionconv", "explain", "out", "--arm", "hybrid@first", "--rows", "2").splitlines():
        assert np.ptp(np.asarray(Image.open(desk / line).convert("L"))) > 100  # ink on paper

    # predictions of new rows
    shutil.copy(desk / "bilder" / "000.png", desk / "bilder" / "neu.png")
    rows = "datei;patient;alter;station\n000.png;P000;61,5;A\nneu.png;P000;61,5;B\n"
    (desk / "neu.csv").write_text(rows, encoding="utf-8")
    run("fusionconv", "predict", "--study", "out", "--arm", "hybrid@first", "--table", "neu.csv", "--images", "bilder", "--out",
        "neu-answers.csv")  # fmt: skip
    answers = pd.read_csv(desk / "neu-answers.csv")["probability"]
    assert (answers > 0.5).nunique() == 2  # the same image, another ward

    # the what-if page
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'fusionconv[serve]'")
    page = run("fusionconv", "serve", "out", wait=False)
    try:
        address = next(
            found[1] for line in page.stdout if (found := re.search(r"what-if page of .*?: (http://\S+)", line))
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=60) as answer:
            text = answer.read().decode("utf-8")
        assert answer.status == 200
        assert "alter" in text
        assert "station" in text
    finally:
        page.terminate()
        page.wait(30)
