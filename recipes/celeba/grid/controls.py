"""Controls of a grid: a trained network with exchanged covariates, and what the covariates say without an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch.utils.data import DataLoader
from tqdm import tqdm

from fusionconv.evaluation import control_predictions
from recipes.celeba.data import CelebAData
from recipes.celeba.grid.plan import write_text
from recipes.celeba.images import prepare, to_device
from recipes.celeba.study import CelebAStudy
from recipes.common.runs import RunError, RunFolder

FLOAT = "%.9g"  # every float32


def write_controls(folder: RunFolder, root: str, seed: int, device: torch.device) -> Path:
    """``controls-test.csv`` of a tested run: file, target, and the probability of target = 1 for each control.

    Columns: true; zero and mean (of the training rows) for every covariate; permuted (another image's covariates);
    only_NAME (that covariate alone of another image).
    """
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    study = CelebAStudy.load_from_checkpoint(folder.checkpoint("best"), map_location="cpu", weights_only=True).eval()
    study.to(device)
    data = CelebAData(**{**config["data"], "root": root})
    data.encoder = study.encoder
    data.setup("fit")  # for the mean of the training rows
    data.setup("test")
    assert data.encoder is not None

    names = data.covariates
    bf16 = str(config["trainer"]["precision"]).startswith("bf16")
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        found = control_predictions(
            study,
            _Prepared(data, study, device),
            # One covariate alone is all of them: permuting it is permuting the row.
            encoder=data.encoder if len(names) > 1 else None,
            reference=data.encoder.transform(data.frames["train"]).mean(axis=0),
            predict=lambda outputs: study.objective.probability(outputs)[:, 0],
            seed=seed,
            device=device,
        )
    said = {name: values[0] for name, values in found.predictions.items()}
    table = pd.DataFrame(
        {"file": found.ids, "target": found.target, **{k: said[k] for k in ("true", "zero", "mean", "permuted")}}
    )
    for name in names:
        table[f"only_{name}"] = said[f"permuted: {name}"] if len(names) > 1 else said["permuted"]
    path = folder.path / "controls-test.csv"
    write_text(path, table.to_csv(index=False, float_format=FLOAT))
    return path


class _Prepared:
    """The test batches as `control_predictions` wants them, resized and normalised; iterable again and again."""

    def __init__(self, data: CelebAData, study: CelebAStudy, device: torch.device) -> None:
        self.data, self.study, self.device = data, study, device
        self.loader: DataLoader[dict[str, Any]] = data.test_dataloader()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        files, hparams = self.data.frames["test"].index, self.study.hparams
        for batch in tqdm(self.loader, desc="controls", leave=False):
            self.data.on_before_batch_transfer(batch, 0)  # an image that does not decode
            if len(batch["targets"]) == 0:
                continue
            yield {
                "image": prepare(to_device(batch["images"], self.device), hparams.image_size, hparams.mode),
                "covariates": batch["covariates"],
                "target": batch["targets"],
                "id": [files[int(i)] for i in batch["index"]],
            }


def write_covariates_only(out: Path, sets: Sequence[tuple[str, ...]], data: dict[str, Any]) -> None:
    """What each set of covariates says without an image: ``covariates-only.csv`` and one file of probabilities a set.

    Logistic regression (scikit-learn, C = 1) on the training rows, of the covariates and of them with all their
    products, judged on valid and test. Written once; a folder that has the files keeps them.

    Args:
        out: the grid's folder.
        sets: sets of covariates.
        data: arguments of CelebAData without the covariates.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    path = out / "covariates-only.csv"
    rows: list[dict[str, Any]] = []
    for names in sets:
        each = out / f"covariates-only-{'-'.join(names)}.csv"
        if " ".join(names) in set(_scores(path)["covariates"]) and each.is_file():
            continue
        tables = CelebAData(**{**data, "covariates": list(names)})
        tables.setup("fit")
        tables.setup("test")
        assert tables.encoder is not None
        encoded = {split: tables.encoder.transform(frame) for split, frame in tables.frames.items()}
        target = {split: frame[tables.target].to_numpy() for split, frame in tables.frames.items()}
        if len(set(target["train"])) < 2:
            raise RunError(f"every training row has {tables.target} = {target['train'][0]}: there is nothing to learn.")
        said = []
        for split in ("valid", "test"):
            said.append(pd.DataFrame({"split": split, "file": tables.frames[split].index, "target": target[split]}))
        predictions = pd.concat(said, ignore_index=True)
        for model, degree in (("logistic", 1), ("interactions", len(names))):
            features = PolynomialFeatures(degree, interaction_only=True, include_bias=False)
            fitted = make_pipeline(features, LogisticRegression(max_iter=1000)).fit(encoded["train"], target["train"])
            for split in ("valid", "test"):
                probability = fitted.predict_proba(encoded[split])[:, 1]
                predictions.loc[predictions["split"] == split, model] = probability
                one_class = len(set(target[split])) < 2
                rows.append(
                    {
                        "covariates": " ".join(names),
                        "model": model,
                        "split": split,
                        "num_images": len(probability),
                        "accuracy": float(((probability > 0.5) == target[split]).mean()),
                        "auroc": None if one_class else float(roc_auc_score(target[split], probability)),
                    }
                )
        write_text(each, predictions.to_csv(index=False, float_format=FLOAT))
    if rows:  # read again: another part of the grid may have written its sets in the meantime
        table = pd.concat([_scores(path), pd.DataFrame(rows)], ignore_index=True)
        write_text(path, table.drop_duplicates(["covariates", "model", "split"], keep="last").to_csv(index=False))


def _scores(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["covariates"])
