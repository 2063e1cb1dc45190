"""One network, forty questions: the covariate says which of CelebA's 40 attributes is asked, the answer is yes or no.

    python -m benchmarks.real.questions --celeba FOLDER --out OUT [--widths 4 16] [--steps 1000] [--only REGEX]

FOLDER is torchvision's layout (celeba/img_align_celeba and the tables). Images become 48 x 40 pixels. The network has
four convolutions of WIDTH to 4 WIDTH channels, batch norm, average pooling and a hidden layer. A step shows 64
images, each with one question drawn by the seed; every arm gets the same images and questions in the same order.
``hybrid, output`` has a row of weights for each question on shared features: the usual network of many answers, told
one answer a step. ``all forty answers`` is that network told all 40 answers of every image: it sees 40 times as many
labels. ``separate`` is one network a question, each trained for as many steps, of the smallest width and seed 0 only.

Every arm is trained at two rates with seed 0; the one with the lower validation loss is taken, and trained with the
other seeds. What is finished is not done again. OUT/levels.csv: accuracy and AUC, means over questions, on the test
part; OUT/correct.csv.gz: how many of its questions each test image had right, mean over seeds.

    python -m benchmarks.real.questions --show FOLDER [--reference 'FiLM, all']

prints the differences between arms from these two files alone, with intervals by person; FOLDER is OUT, or
benchmarks/results/real/questions.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import fusionconv
from fusionconv.errors import EvaluationError
from fusionconv.evaluation import holm, paired_bootstrap_scores, roc_auc

__all__ = ["Questions", "compared", "main", "network", "read"]

SIZE = (48, 40)
RATES = (1e-3, 3e-3)
SEEDS = (0, 1, 2)
BATCH = 64
FREQUENT = "the more frequent answer"
ARMS: dict[str, tuple[str, Any] | None] = {
    "image": None, "concat linear": ("concat", "output"), "concat MLP": ("concat", "hidden"),
    "FiLM, head": ("film", "hidden"), "FiLM, all": ("film", "all"), "hybrid, first": ("hybrid", "first"),
    "hybrid, last": ("hybrid", "last"), "hybrid, head": ("hybrid", "hidden"), "hybrid, output": ("hybrid", "output"),
    "hybrid, all": ("hybrid", "all"), "lowrank, all": ("lowrank", "all"),
    "all forty answers": None, "separate": None,
}  # fmt: skip


class Questions:
    """``images`` (N, 3, 48, 40) uint8, ``answers`` (N, 40) 0/1, ``part`` (N,) 0 train 1 val 2 test, ``person`` (N,)."""

    def __init__(
        self, images: np.ndarray, answers: np.ndarray, part: np.ndarray, person: np.ndarray, names: list[str]
    ) -> None:
        self.images, self.answers = torch.from_numpy(images), torch.from_numpy(answers).float()
        self.part, self.person, self.names = part, person, names
        train = self.images[torch.from_numpy(part == 0)].float()
        self.mean, self.std = (f((0, 2, 3))[:, None, None] for f in (train.mean, train.std))

    def batch(self, rows: Any) -> Tensor:
        """Standardised images."""
        return (self.images[rows].float() - self.mean) / self.std


def read(folder: Path) -> Questions:
    """CelebA's images and tables, in any part of it; decoded once into FOLDER/questions.npz."""
    root = folder / "celeba" if (folder / "celeba").is_dir() else folder
    rows = [line.split() for line in (root / "list_attr_celeba.txt").read_text().splitlines()[2:]]
    names = (root / "list_attr_celeba.txt").read_text().splitlines()[1].split()
    files = [row[0] for row in rows]
    of = {name: dict(line.split()[:2] for line in (root / name).read_text().splitlines())
          for name in ("list_eval_partition.txt", "identity_CelebA.txt")}  # fmt: skip
    cache = folder / "questions.npz"
    if cache.is_file():
        images = np.load(cache)["images"]
    else:
        places = [root / "img_align_celeba" / file for file in files]
        made = [
            np.asarray(Image.open(p).convert("RGB").resize(SIZE[::-1], Image.Resampling.BOX))
            for p in tqdm(places, desc="images")
        ]
        images = np.stack(made).transpose(0, 3, 1, 2).copy()
        np.savez(cache, images=images)
    answers = np.array([[value == "1" for value in row[1:]] for row in rows])
    part, person = (
        np.array([int(of[name][f]) for f in files]) for name in ("list_eval_partition.txt", "identity_CelebA.txt")
    )
    return Questions(images, answers, part, person, names)


def network(width: int, outputs: int) -> nn.Module:
    """Four convolutions, pooling, a hidden layer."""
    layers: dict[str, nn.Module] = {}
    channels = [3, width, 2 * width, 4 * width, 4 * width]
    for n, (inputs, outs) in enumerate(pairwise(channels)):
        size, stride = (5, 2) if n == 0 else (3, 2 if n < 3 else 1)
        layers[f"conv{n}"] = nn.Conv2d(inputs, outs, size, stride, size // 2, bias=False)
        layers |= {f"norm{n}": nn.BatchNorm2d(outs), f"relu{n}": nn.ReLU()}
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "hidden": nn.Linear(4 * width, 64)}
    layers |= {"relu": nn.ReLU(), "output": nn.Linear(64, outputs)}
    return nn.Sequential(OrderedDict(layers))


def train(
    data: Questions, arm: str, width: int, rate: float, seed: int, steps: int, question: int | None = None
) -> nn.Module:
    """A network of an arm; ``question``: of one question only."""
    torch.manual_seed(seed)
    model: Any = network(width, len(data.names) if arm == "all forty answers" else 1)
    count = len(data.names)
    if (fusion := ARMS[arm]) is not None:
        model = fusionconv.fuse_into(model, fusion[1], num_covariates=count, method=fusion[0])
    groups = fusionconv.param_groups(
        model, rate, weight_decay=1e-2, **({"covariates": torch.eye(count)} if fusion else {})
    )
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in groups], total_steps=steps)
    rows = np.flatnonzero(data.part == 0)
    draw = np.random.default_rng(seed)
    model.train()
    for _ in range(steps):
        chosen = draw.choice(rows, BATCH, replace=False)
        asked = torch.from_numpy(draw.integers(0, count, BATCH))
        if question is not None:
            asked = torch.full_like(asked, question)
        x, answers = data.batch(chosen), data.answers[chosen]
        if arm != "all forty answers":
            answers = answers.gather(1, asked[:, None])
        out = model(x, F.one_hot(asked, count).float()) if fusion else model(x)
        loss = F.binary_cross_entropy_with_logits(out, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def answer(data: Questions, model: Any, arm: str, rows: np.ndarray) -> np.ndarray:
    """(n, 40) logits: every question asked of every image."""
    count, found = len(data.names), []
    for part in np.array_split(rows, max(1, len(rows) // 128)):
        x = data.batch(part)
        if arm == "all forty answers":
            found.append(model(x))
        elif ARMS[arm] is None:
            found.append(model(x).expand(-1, count))
        else:
            every = torch.eye(count)
            found.append(torch.cat([model(x, every[[q]].expand(len(x), -1)) for q in range(count)], 1))
    return torch.cat(found).double().numpy()


def one(data: Questions, arm: str, width: int, rate: float, seed: int, steps: int) -> tuple[float, np.ndarray]:
    """Validation loss, and the test part's logits."""
    parts = [np.flatnonzero(data.part == n) for n in (1, 2)]
    if arm == "separate":
        models = [
            train(data, arm, width, rate, seed, steps, q)
            for q in tqdm(range(len(data.names)), desc="separate", leave=False)
        ]
        val, test = (np.concatenate([answer(data, m, arm, rows)[:, :1] for m in models], 1) for rows in parts)
    else:
        model = train(data, arm, width, rate, seed, steps)
        val, test = (answer(data, model, arm, rows) for rows in parts)
    loss = F.binary_cross_entropy_with_logits(torch.from_numpy(val), data.answers[parts[0]].double())
    return float(loss), test


def main(words: list[str] | None = None) -> None:
    """Train, and write the tables; or show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--celeba", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", default=".", help="arms whose name this regular expression finds")
    parser.add_argument("--show", type=Path)
    parser.add_argument("--reference", default="FiLM, all")
    given = parser.parse_args(words)
    if given.show is not None:
        print(compared(given.show, given.reference).to_string(index=False))
        return
    if given.celeba is None or given.out is None:
        parser.error("expected --celeba FOLDER and --out OUT, or --show FOLDER")
    data = read(given.celeba)
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = [arm for arm in ARMS if re.search(given.only, arm)]
    plan = [
        (w, a, r, s)
        for s in SEEDS
        for w in given.widths
        for a in chosen
        for r in RATES
        if a != "separate" or (s == 0 and w == min(given.widths))
    ]
    losses: dict[tuple[int, str], dict[float, float]] = {}
    for width, arm, rate, seed in tqdm(plan, desc="networks", unit="network"):
        best = losses.get((width, arm), {})
        if seed > 0 and rate != min(best, key=lambda r: best[r]):
            continue
        path = given.out / f"{arm.replace(' ', '-').replace(',', '')}-{width}-{rate}-{seed}.npz"
        said = json.dumps([given.steps, width, arm, rate, seed])
        if not path.is_file() or str(np.load(path)["said"]) != said:
            loss, logits = one(data, arm, width, rate, seed, given.steps)
            np.savez(path, logits=logits.astype(np.float32), loss=loss, said=said)
        if seed == 0:
            losses.setdefault((width, arm), {})[rate] = float(np.load(path)["loss"])
    write(data, given.out, losses)


def write(data: Questions, out: Path, losses: dict[tuple[int, str], dict[float, float]]) -> None:
    """levels.csv and correct.csv.gz, of the arms at their chosen rates."""
    test = np.flatnonzero(data.part == 2)
    truth = data.answers[test].numpy() > 0
    frequent = (truth == (data.answers[data.part == 0].numpy().mean(0) > 0.5)).mean(1)
    kept = {"person": pd.factorize(data.person[test])[0], f"{FREQUENT} 0": frequent}
    rows: list[dict[str, Any]] = [{"width": 0, "arm": FREQUENT, "accuracy": frequent.mean()}]
    asked = [q for q in range(truth.shape[1]) if 0 < truth[:, q].mean() < 1]
    for (width, arm), found in losses.items():
        rate = min(found, key=lambda r: found[r])
        files = sorted(out.glob(f"{arm.replace(' ', '-').replace(',', '')}-{width}-{rate}-*.npz"))
        logits = [np.load(file)["logits"] for file in files]
        kept[f"{arm} {width}"] = np.mean([((z > 0) == truth).mean(1) for z in logits], 0)
        accuracies = [float(((z > 0) == truth).mean()) for z in logits]
        aucs = [float(np.mean([roc_auc(truth[:, q], z[:, q]) for q in asked])) for z in logits]
        rows.append({"width": width, "arm": arm, "rate": rate, "seeds": len(files), "accuracy": np.mean(accuracies),
                     "lowest": min(accuracies), "highest": max(accuracies), "auc": np.mean(aucs)})  # fmt: skip
    count = len(data.names)
    pd.DataFrame(rows).assign(questions=count).to_csv(out / "levels.csv", index=False)
    correct = pd.DataFrame({name: v if name == "person" else np.round(count * v, 4) for name, v in kept.items()})
    correct.to_csv(out / "correct.csv.gz", index=False)
    print(pd.DataFrame(rows).round(4).to_string(index=False))


def compared(folder: Path, reference: str, resamples: int = 2000) -> pd.DataFrame:
    """Accuracy in %, and minus the reference's of the same width: bootstrap by person, Holm over the width's arms."""
    levels, correct = pd.read_csv(folder / "levels.csv"), pd.read_csv(folder / "correct.csv.gz")
    if reference not in set(levels["arm"]):
        raise EvaluationError(f"reference: expected one of {', '.join(levels['arm'][1:].unique())}, got {reference!r}")
    right = correct.drop(columns="person") / levels["questions"][0]
    rows: list[dict[str, Any]] = []
    for width, part in levels[levels["width"] > 0].groupby("width", sort=False):
        found, there = [], reference in set(part["arm"])  # separate is of one width
        for arm in part["arm"]:
            row = {"width": width, "arm": arm, "accuracy": 100 * right[f"{arm} {width}"].mean()}
            if arm != reference and there:
                two = (right[f"{name} {width}"].to_numpy() for name in (arm, reference))
                d = paired_bootstrap_scores(*two, correct["person"].to_numpy(), n_resamples=resamples)
                row |= {"minus": 100 * d.estimate, "low": 100 * d.low, "high": 100 * d.high, "p": d.p_value}
            found.append(row)
        others = [row for row in found if "p" in row]
        for row, p in zip(others, holm([row["p"] for row in others]), strict=True):
            row["p"] = float(p)
        rows += found
    return pd.DataFrame(rows).round({"accuracy": 2, "minus": 2, "low": 2, "high": 2, "p": 4})


if __name__ == "__main__":
    main()
