"""ROWS: every row of the study's table, its configuration read from configs/grid/, its figures from published.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

CONFIGS = Path(__file__).parent.parent / "configs" / "grid"
PUBLISHED = Path(__file__).parent / "published.csv"

# The blocks of the table, in its order, and the sections in which the rows of a block stand.
GROUPS = ("baseline", "male", "constant", "rates", "matched", "trio", "controls")
PLACES = {0: "1st conv", 1: "2nd conv", 2: "3rd conv", 4: "5th conv", -1: "last conv"}  # among VGG16's 13 convolutions


@dataclass(frozen=True)
class Row:
    """A row of the table: what is trained, and what was published of it.

    Attributes:
        name: the name of its YAML, and the first part of the names of its runs.
        title: a few words for a table.
        config: its YAML, for `fit --config`; either mode through --model.mode.
        arm: plain or hybrid.
        layer_idx: the layer that takes the covariates, as `fuse_into` counts it (0 in plain rows, without meaning).
        covariates: their names (in plain rows too: the controls need them; the network does not see them).
        constant: None, or what every covariate is set to, 0 or 1.
        method: how the covariates are fused, as `fuse_into` names it.
        lr: Adam's rate.
        batch_size: images a step.
        logged: published validation accuracies in %, one for each log.
        printed: the figures as the paper prints them.
        note: what is to be said about the published figures.
        group: which block of the table.
        baseline: the plain row with the same rate and batch size; None for plain rows and where the study has none.
        matched: one of the six rows at lr 1e-5 and batch 32 that can be compared with each other.
        modes: the modes in which the row can be run.
    """

    name: str
    title: str
    config: Path
    arm: str
    layer_idx: int
    covariates: tuple[str, ...]
    constant: int | None
    method: str
    lr: float
    batch_size: int
    logged: tuple[float, ...]
    printed: tuple[str, ...]
    note: str
    group: str
    baseline: str | None
    matched: bool
    modes: tuple[str, ...]


def read_rows(configs: Path = CONFIGS, published: Path = PUBLISHED) -> dict[str, Row]:
    """The rows of ``configs``, in the table's order, with the figures of ``published`` (row, accuracy, where, note)."""
    figures = pd.read_csv(published, dtype=str, keep_default_na=False)
    settings = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(configs.glob("*.yaml"))}
    if unknown := sorted(set(figures["row"]) - set(settings)):
        raise ValueError(f"{published} has figures of rows that have no YAML in {configs}: {', '.join(unknown)}")
    plain = {
        (config["model"]["lr"], config["data"]["batch_size"]): name
        for name, config in settings.items()
        if config["model"]["arm"] == "plain"
    }
    rows = []
    for name, config in settings.items():
        model, data = config["model"], config["data"]
        arm, method, constant = model["arm"], model.get("method", "hybrid"), data.get("constant")
        layer, covariates = model.get("layer_idx", 0), tuple(data.get("covariates", ["Male"]))
        lr, batch_size = float(model["lr"]), int(data["batch_size"])
        at_matched = (lr, batch_size) == (1e-5, 32)
        if method != "hybrid":
            group = "controls"
        elif constant is not None:
            group = "constant"
        elif len(covariates) > 1:
            group = "trio"
        elif at_matched:
            group = "matched"
        elif arm == "plain":
            group = "baseline"
        else:
            group = "male" if lr == 1e-3 else "rates"
        own = figures[figures["row"] == name]
        rows.append(
            Row(
                name=name,
                title=_title(arm, method, model.get("method_options", {}), layer, covariates, constant, lr, batch_size),
                config=configs / f"{name}.yaml",
                arm=arm,
                layer_idx=layer,
                covariates=covariates,
                constant=None if constant is None else int(constant),
                method=method,
                lr=lr,
                batch_size=batch_size,
                logged=tuple(float(value) for value in own.loc[own["where"] == "log", "accuracy"]),
                printed=tuple(own.loc[own["where"] == "paper", "accuracy"]),
                note="; ".join(note for note in own["note"] if note),
                group=group,
                baseline=plain.get((lr, batch_size)) if arm != "plain" else None,
                # The 2nd-convolution row exists too, but the published variant of it returned None.
                matched=at_matched and method == "hybrid" and not (len(covariates) > 1 and layer == 1),
                modes=("as_published", "corrected") if method == "hybrid" else ("corrected",),
            )
        )
    rows.sort(key=lambda row: (GROUPS.index(row.group), -row.lr, row.batch_size, row.arm != "plain", row.constant != 1,
                               row.layer_idx % 100, row.name))  # fmt: skip
    return {row.name: row for row in rows}


def _title(
    arm: str, method: str, options: dict[str, object], layer: int, covariates: tuple[str, ...],
    constant: float | None, lr: float, batch_size: int,
) -> str:  # fmt: skip
    rate = f"lr {lr:.0e}".replace("e-0", "e-") + f", batch {batch_size}"
    if arm == "plain":
        return f"plain, {rate}"
    what = f"all {constant:g}" if constant is not None else ", ".join(covariates)
    if method == "concat":
        return f"concat {'MLP' if options.get('hidden') else 'linear'}, {what}, {rate}"
    return f"{'FiLM' if method == 'film' else method}, {what}, {PLACES[layer]}, {rate}"


ROWS: dict[str, Row] = read_rows()
