"""docs/compatibility.md, made from the stored results and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

__all__ = ["page"]

Record = dict[str, Any]
SHORT = 200  # characters of a reason


def page(records: list[Record], missing: list[str]) -> str:
    """The page as Markdown; ``missing`` are the networks of the catalogue that have no result yet."""
    libraries = list(dict.fromkeys(r["library"] for r in records))
    parts = [_head(records), _totals(records, libraries)]
    for title, statuses in (("Refused, with the reason", ["refused"]), ("Failed or not run", ["fail", "error"])):
        chosen = [r for r in records if r["status"] in statuses]
        lines = [f"- **{r['library']}: {r['name']}** ({_status(r)}): {_text(r['reason'])}" for r in chosen]
        parts.append(f"## {title}\n\n" + ("\n".join(lines) if lines else "None."))
    if missing:
        parts.append("## Not tried yet\n\n" + ", ".join(missing))
    parts.append(_passed_over(records))
    for library in libraries:
        parts.append(_library(library, [r for r in records if r["library"] == library]))
    return "\n\n".join(parts) + "\n"


def _head(records: list[Record]) -> str:
    conditions = dict.fromkeys(r["conditions"] for r in records)
    days = sorted({r["date"] for r in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"""# Compatibility: fuse_into on other libraries' networks

Made by `python -m benchmarks.zoo` ({when}; {"; ".join(conditions)}; {sum(r["seconds"] for r in records) / 60:.0f}
minutes of processor time). Do not edit: `python -m benchmarks.zoo --table` writes this page from the stored results.

Each network gets random weights (seed 0; parameters whose elements are all equal get noise, so that no branch is dead)
and three random samples, each with its own row of two covariates. Its first, middle and last convolution are fused,
or the nearest one on whose kernel the *plain* network's outputs visibly depend. A network passes when this holds:

1. `start`: with V = 0 the outputs are the plain network's.
2. `rows`, for each of the three layers: sample i's output is the plain network's with `W + sum_j s_ij V_j` written into
   that layer. `permuted`: permuting images and rows together permutes the outputs. `alone`: as `rows` with all three
   layers at once, the plain network running on sample i by itself. `gradient`: V's gradients are
   `sum_i s_ij dL/dkernel_i` of those runs.
3. `train`: after `loss.backward()` in training mode each V has a finite gradient that is not all zero ("n/a" where the
   plain network itself does not train on these inputs, detectors without targets for instance).
4. `unfuse` gives back classes, state_dict and outputs, bit by bit.

Differences are relative to the largest value of an output. They may be 2e-3 in float32 and 1e-6 in float64, and no more
than 1/50 of what the plain network's output changes when it gets another row's kernel; gradients 20 times that, by
their norm. What float32 does not decide runs again in float64. Detections run in float64 from the start."""


def _totals(records: list[Record], libraries: list[str]) -> str:
    rows = ["| library | kind | networks | hold a convolution | passed | refused | failed | not run | passed |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for library in libraries:
        of_library = [r for r in records if r["library"] == library]
        groups = list(dict.fromkeys(r["group"] for r in of_library))
        if 1 < len(groups) <= 10:
            rows += [_total(library, g, [r for r in of_library if r["group"] == g]) for g in groups]
        rows.append(_total(f"**{library}**", "**all**", of_library))
    return "## Totals\n\n" + "\n".join(rows)


def _total(library: str, group: str, records: list[Record]) -> str:
    convolutional = [r for r in records if r.get("convolutions") != 0]
    count = Counter(r["status"] for r in convolutional)
    share = f"{100 * count['pass'] / len(convolutional):.1f} %" if convolutional else "n/a"
    numbers = [len(records), len(convolutional), count["pass"], count["refused"], count["fail"], count["error"]]
    return f"| {library} | {group} | {' | '.join(map(str, numbers))} | {share} |"


def _passed_over(records: list[Record]) -> str:
    """How often a layer was passed over for each reason: the limits that users will meet first."""
    reasons: Counter[str] = Counter()
    for record in records:
        for layer in record["layers"]:
            for reason in layer["passed_over"]:
                reasons[_kind_of(reason.split(": ", 1)[1])] += 1
    lines = [f"- {count} x: {_text(reason)}" for reason, count in reasons.most_common()]
    intro = "Layers that stood nearer to first, middle or last than the one that was fused, by reason:"
    return "## Layers passed over\n\n" + intro + "\n\n" + ("\n".join(lines) if lines else "None.")


def _kind_of(reason: str) -> str:
    if " at the call: " in reason:
        return re.sub(r"\d+", "n", reason)
    return re.sub(r"\(\d[^)]*of their size\)", "", reason).strip()


def _library(library: str, records: list[Record]) -> str:
    rows = [
        "| network | kind | convolutions | fused: first, middle, last | passed | dtype, input | processor s | notes |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|")
    rows += [_row(r) for r in records]
    return f"## {library}\n\n" + "\n".join(rows)


def _row(record: Record) -> str:
    layers = ", ".join(f"`{layer['name'] or '(root)'}`" for layer in record["layers"]) or "none"
    shape = "x".join(map(str, record.get("shape", []))) or "n/a"
    cells = [
        record["name"],
        record["group"],
        str(record.get("convolutions", "n/a")),
        layers,
        _status(record),
        f"{record.get('dtype', 'n/a')}, {shape}",
        f"{record['seconds']:.0f}",
        _notes(record),
    ]
    return "| " + " | ".join(cells) + " |"


def _status(record: Record) -> str:
    if record["status"] == "pass":
        return "all; train n/a" if "train" not in record["passed"] else "all"
    names = {"refused": "refused", "fail": "**failed**", "error": "not run"}
    done = f" (after {', '.join(record['passed'])})" if record["passed"] else ""
    return names[record["status"]] + done


def _notes(record: Record) -> str:
    notes = [record["note"], *record["remarks"]]
    for layer in record["layers"]:
        if layer["passed_over"]:
            over = layer["passed_over"]
            more = f" and {len(over) - 1} more" if len(over) > 1 else ""
            notes.append(f"{layer['which']}: passed over {over[0]}{more}")
    return _text("; ".join(note for note in notes if note), 2 * SHORT)


def _text(text: str, limit: int = SHORT) -> str:
    """One cell's text: no bars, no line ends, no tags, not endless."""
    text = (
        " ".join(text.split()).replace("|", "/").replace("<", "(").replace(">", ")").replace("[", "(").replace("]", ")")
    )
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
