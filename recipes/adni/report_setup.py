"""What was run, for the report: rows found and used, folds, settings of every arm, versions, hardware, time."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fusionconv.tabular.suspicious import Suspicion
from recipes.adni.report_run import CrossRun


def setup_tables(run: CrossRun) -> tuple[list[str], list[pd.DataFrame]]:
    """Paragraphs and tables for the report's last part."""
    seconds = sum(fact["seconds"] for fact in run.facts)
    per_fold = pd.DataFrame([fact["counts"] for fact in run.facts]).fillna(0)
    parts = ", ".join(
        f"{part} {_span(per_fold[part].astype(int))}" for part in ("train", "val", "test") if part in per_fold
    )
    lines = [
        f"{len(run.facts)} networks or linear models, {seconds / 60:.1f} minutes of training and test in all. Rows of "
        f"a fold: {parts}. folds.csv says which subject was in which part; config.yaml is the resolved configuration."
    ]
    return lines, [_source(run), _settings(run), _covariates(run), _arms(run)]


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,d}" if low == high else f"{low:,d} to {high:,d}"


def _source(run: CrossRun) -> pd.DataFrame:
    """How many rows were found, matched, and left out; empty where an older run did not write it."""
    rows = [("rows", what, f"{count:,d}") for what, count in run.source.get("counts", {}).items()]
    rows += [("did not match", kind, f"{count:,d}") for kind, count in run.source.get("did not match", {}).items()]
    out = run.source.get("volumes left out", {})
    rows += [("volumes that cannot be used", "", f"{len(out):,d}")] if run.source else []
    return pd.DataFrame(rows, columns=["source", "group", "count"])


def _settings(run: CrossRun) -> pd.DataFrame:
    """The configuration that matters for a result, and where it was run."""
    config = run.config
    data, model, trainer = config["data"], config["model"], config["trainer"]
    source = {key: value for key, value in data["source"].items() if value is not None and key != "images"}
    task = {key: value for key, value in data["task"].items() if value is not None}
    settings: dict[str, Any] = {
        "source": source,
        "task": task,
        "rows, visits": f"{data.get('rows') or 'all'}; {data.get('visits')}",
        "covariates": ", ".join(data.get("covariates", [])),
        "missing covariates": f"{data.get('missing')}; indicator {data.get('indicator')}",
        "categories that training lacks": data.get("unknown"),
        "leaks allowed on purpose": ", ".join(data.get("allow_leaks") or []) or "none",
        "folds": f"{data.get('n_splits')} x {data.get('n_repeats')} repeats, split seed {data.get('split_seed')}",
        "validation share of the training subjects": data.get("val_size"),
        "preparation": data.get("preparation"),
        "augmentation": data.get("augment"),
        "network": f"{model.get('network')} {model.get('network_options') or ''}",
        "batch size": data.get("batch_size"),
        "learning rate, weight decay": f"{model.get('lr'):g}, {model.get('weight_decay'):g}; {model.get('schedule')}",
        "epochs at most": trainer.get("max_epochs"),
        "precision": trainer.get("precision") or "32-true",
        "seeds of training": _span(pd.Series([fact["seed"] for fact in run.facts])),
        "permutations of the covariates": config.get("controls"),
        "versions": "; ".join(dict.fromkeys(_joined(fact["versions"]) for fact in run.facts)),
        "hardware": "; ".join(dict.fromkeys(fact["hardware"] for fact in run.facts)),
    }
    shown = {name: _joined(value) if isinstance(value, dict) else str(value) for name, value in settings.items()}
    return pd.DataFrame({"": list(shown), "setting": list(shown.values())})


def _joined(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_joined(value) if isinstance(value, dict) else value}" for key, value in settings.items())


def _covariates(run: CrossRun) -> pd.DataFrame:
    """How each covariate was encoded in the first fold that has it, and the rows of unknown categories in all folds."""
    rows: dict[str, dict[str, str]] = {}
    unknown: dict[tuple[str, str], int] = {}
    for fact in run.facts:
        for column in (fact.get("encoder") or {"columns": []})["columns"]:
            doubts = [str(Suspicion(*s)) for s in column["suspects"]] + column["notes"]
            rows.setdefault(
                column["name"],
                {
                    "covariate": column["name"],
                    "kind": f"{column['kind']['kind']}, {'inferred' if column['inferred'] else 'declared'}",
                    "missing in training (first fold)": f"{column['num_missing']:,d}",
                    "look at": "; ".join(doubts) or "-",
                },
            )
        for name, count in fact.get("unknown_categories", {}).items():
            unknown[name, fact["fold"]] = count  # the same rows in every arm
    for name, row in rows.items():
        row["test rows of unknown categories"] = str(sum(n for (column, _), n in unknown.items() if column == name))
    return pd.DataFrame(list(rows.values()))


def _arms(run: CrossRun) -> pd.DataFrame:
    rows = []
    for arm in run.arms:
        facts = [fact for fact in run.facts if fact["arm"] == arm]
        epochs = [fact["epochs"] for fact in facts if fact.get("epochs") is not None]
        rows.append(
            {
                "arm": arm,
                "setting": _joined(facts[0]["options"]),
                "epochs of the judged network": _span(pd.Series(epochs)) if epochs else "-",
                "parameters": f"{facts[0]['parameters']:,d}",
                "of them for covariates": f"{facts[0]['covariate_parameters']:,d}",
                "folds": str(len(facts)),
                "seconds": f"{sum(fact['seconds'] for fact in facts):,.0f}",
            }
        )
    return pd.DataFrame(rows)
