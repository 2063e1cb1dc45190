"""docs/performance.md, from the JSON of the measurements: losses beside wins, and what was measured on what."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import layers, lowrank, models
from benchmarks.speed.cases import grid
from fusionconv.errors import FusionError

__all__ = ["write_page"]

GOALS = {
    "cpu": {"mean": 1.15, "worst": 1.6, "step": 1.05, "memory": 1.10},
    "cuda": {"mean": 1.10, "worst": 1.6, "step": 1.05, "memory": 1.10},
}
EXACT = {"mean": 1.25, "worst": 2.0}
LOWRANK = {"mean": 1.15, "worst": 1.35}
WAYS = ("loop", "grouped", "chunked", "tiled", "stacked", "scaled", "distinct", "auto")

HEAD = """\
# What a hybrid layer costs

Made by `python -m benchmarks page {files}`; do not edit. How things are measured is in
[benchmarks/README.md](../benchmarks/README.md): all ways take turns in one process, a figure is the median over rounds
of (its time / the plain layer's time in the same round). **1.00 is an ordinary convolution.** Bold: beyond
a goal, or 1.3 times the fastest way.
"""

BOUND = """\
## Where the bound lies

A plain convolution reads one kernel for the whole batch. Here every sample has one of its own: each of its numbers
costs K multiply-adds to make, is written once, read once, used on P output positions, and in the backward pass the
same again for its gradient. So the extra cost over plain is about c / P, where c is what making one number costs in
units of using it once. That is next to nothing where maps are large (first layers), and most of the work where a
kernel of 512 channels meets a map of 4 x 4. What can be done about it, and what `auto` does on a CPU:

- **Equal rows share a kernel** (`distinct`): with a binary covariate a batch needs two kernels, whatever its size.
- **Kernels in a cache** (`chunked`): a few are made, used and written over, forward and backward, instead of N kept
  in memory.
- **Rows of all kernels** (`tiled`): for maps of at most 64 positions; V is read once a pass, and matrix products use
  at once what was made of it.
- **No kernels** (`stacked`): K more convolutions, where K times P is small.
- `rank=R` makes K covariates cost what R do; `merge` makes one covariate vector cost nothing.

A cause of another kind is the library's own convolution. The ResNet stem (3 channels, 7x7, stride 2) has large maps,
yet one ordinary convolution a sample (`loop` in its row), and grouped ones more so, are slower than one for the batch,
whatever the kernels. Of a whole training step that is little (ResNet-50's row in the table of networks).

A layer that scales feature maps (`film`, `daft`) makes no kernels and has no such bound; what it cannot do instead
is in [methods.md](methods.md) and [choosing.md](choosing.md).

**Not there**: a kernel of our own for GPUs that forms kernel_i on the fly.
"""


def write_page(files: Sequence[Path], out: Path) -> Path:
    """Write the page from JSON files of `python -m benchmarks`; of two for one measure and device the later counts."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        try:
            result = json.loads(Path(file).read_text(encoding="utf-8"))
            found[result["device"], result["measure"]] = result
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FusionError(
                f"{file}: expected a JSON file written by `python -m benchmarks MEASURE --json FILE`, got {error!r}"
            ) from None
    if not found:
        raise FusionError("page needs the JSON files of at least one measurement")
    lines = [HEAD.format(files=" ".join(str(file) for file in files))]
    if not any(device == "cuda" for device, _ in found):
        lines.append(
            "**No CUDA card was at hand: nothing on this page was measured on a GPU**, and what `auto` takes there "
            "goes by channels, from reading (`fusionconv/strategies/on_device.py`). `bash benchmarks/gpu.sh` is made "
            "to measure all but the scaling in nine minutes; `fusionconv.autotune` chooses by measuring.\n"
        )
    for device in ("cuda", "cpu"):
        results = {measure: result for (d, measure), result in found.items() if d == device}
        if results:
            lines += _device(device, results)
    lines.append(BOUND)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return out


def _device(device: str, results: dict[str, dict[str, Any]]) -> list[str]:
    goal, lines = GOALS[device], []
    lines.append(f"## {'On a GPU' if device == 'cuda' else 'On a CPU'}\n")
    for result in results.values():
        words = ", ".join(f"{key} {value}" for key, value in result["environment"].items())
        quick = " (quick form: a few cases only)" if result.get("quick") else ""
        note = f"; {result['note']}" if result.get("note") else ""
        lines.append(f"- `{result['command']}`{quick}: {words}; {result['seconds']:.0f} s{note}")
    lines.append("")
    if "ceilings" in results:
        lines += _ceilings(results["ceilings"]["records"])
    if "probe" in results:
        lines += _probe(results["probe"]["records"])
    if "layers" in results:
        whole, done = len(grid(device)), len(results["layers"]["records"])
        if done < whole:
            lines.append(
                f"**{done} of the grid's {whole} cases**: the run was stopped there, the figures are of these.\n"
            )
        lines += _layers(
            results["layers"]["records"], goal, {case.name: layers.chosen(case, device) for case in grid(device)}
        )
    if "lowrank" in results:
        lines += _lowrank(results["lowrank"]["records"])
    if "models" in results:
        lines += _models(results["models"]["records"], goal)
    if "compiled" in results:
        lines += _compiled(results["compiled"]["records"])
    if "scaling" in results:
        lines += _scaling(results["scaling"]["records"])
    if "memory" in results:
        lines += _memory(results["memory"]["records"])
    if "pipeline" in results:
        lines += _pipeline(results["pipeline"]["records"])
    return lines


def _layers(records: list[dict[str, Any]], goal: dict[str, float], choices: dict[str, str]) -> list[str]:
    summary = layers.summary(records)
    step, forward = summary["step"], summary["forward"]
    plain, best, loop = step["auto / plain"], step["auto / best strategy of the case"], step["loop / auto"]
    lines = ["### Layers, forward + backward\n", "| | goal | measured |", "|---|---|---|"]
    rows = [
        ("auto / plain, geometric mean over the cases", goal["mean"], plain["geometric_mean"]),
        ("auto / plain, worst case", goal["worst"], plain["worst"]),
        ("auto / the best strategy of each case, mean", 1.05, best["mean"]),
        ("auto / the best strategy of each case, worst", 1.3, best["worst"]),
    ]
    lines += [f"| {words} | ≤ {limit:.2f} | {_mark(value, limit)} |" for words, limit, value in rows]
    lines.append(f"| per-sample loop / auto, geometric mean | | {loop['geometric_mean']:.2f} |")
    peer = step["condconv2d of timm / auto"]
    if peer:
        words = "timm's CondConv2d (given the routing and the same kernels) / auto, geometric mean; worst for us"
        lines.append(f"| {words} | ≥ 1.00 | {peer['geometric_mean']:.2f}; {peer['best']:.2f} |")
    lines += _noise([(r["step"], choices[r["case"]]) for r in records if choices.get(r["case"]) in r["step"]])
    inference = forward["auto / plain"]
    words = f"{inference['geometric_mean']:.2f}; {inference['worst']:.2f}"
    lines.append(f"| forward only: auto / plain, geometric mean; worst | | {words} |")
    lines.append("")
    peers = [name for name in layers.PEERS if any(name in record["step"] for record in records)]
    header = ["layer", "plain, ms", *WAYS, *peers]
    lines += [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for record in records:
        timings = record["step"]
        cells = [record["case"], f"{timings['plain']['seconds'] * 1e3:.3g}"]
        for name in (*WAYS, *peers):
            ratio = timings[name]["ratio"] if name in timings else None
            late = (
                name == "auto"
                and ratio is not None
                and (ratio > goal["worst"] or ratio > 1.3 * layers.fastest(timings))
            )
            cells.append("" if ratio is None else f"**{ratio:.2f}**" if late else f"{ratio:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    misses = [r for r in records if r["step"]["auto"]["ratio"] > goal["worst"]]
    lines.append("")
    for record in misses:
        ratio, why = record["step"]["auto"]["ratio"], _why(record, goal, choices)
        lines.append(f"- Beyond {goal['worst']}: {record['case']} ({ratio:.2f}): {why}")
    rounds = [timing["rounds"] for record in records for timing in record["step"].values()]
    lines.append(
        f"\nRounds a figure: {min(rounds):.0f} to {max(rounds):.0f}, median {statistics.median(rounds):.0f} (one where "
        "a way took four times as long as plain).\n"
    )
    return lines


def _noise(pairs: list[tuple[dict[str, Any], str]]) -> list[str]:
    """The column of `auto` beside that of the strategy it takes, the same code; and what the choice itself costs."""
    if not pairs:
        return []
    again = [t["auto"]["ratio"] / t[choice]["ratio"] for t, choice in pairs]
    apart = [max(r, 1 / r) for r in again]
    cost = [t[choice]["ratio"] / layers.fastest(t) for t, choice in pairs]
    return [
        "| noise: the columns of `auto` and of the strategy that it takes are the same code; the larger / the smaller, "
        f"median; worst | | {statistics.median(apart):.2f}; {max(apart):.2f} |",
        "| the column of the strategy that `auto` takes / the best of each case, mean; worst | | "
        f"{statistics.mean(cost):.2f}; {max(cost):.2f} |",
    ]


def _why(record: dict[str, Any], goal: dict[str, float], choices: dict[str, str]) -> str:
    """Whether a miss is noise, the choice's, or that of every strategy."""
    timings = record["step"]
    choice = choices.get(record["case"])
    if choice in timings and timings[choice]["ratio"] <= goal["worst"]:
        return f"noise: it takes `{choice}`, whose own column has {timings[choice]['ratio']:.2f}."
    best = layers.best(timings)
    ratio = timings[best]["ratio"]
    if ratio <= goal["worst"]:
        return f"the choice of `auto`; `{best}` takes {ratio:.2f} here."
    return f'the best strategy here, `{best}`, takes {ratio:.2f}; see "Where the bound lies".'


def _lowrank(records: list[dict[str, Any]]) -> list[str]:
    names = ("hybrid", *(f"lowrank, {way}" for way in lowrank.WAYS))
    found = lowrank.summary(records)
    lines = [
        f'### `method="lowrank"`, rank {lowrank.RANK}, forward + backward\n',
        "Two ways to compute the same numbers: by features (no kernel per sample) and by kernels; `auto` chooses by "
        "shapes.\n",
        f"| layer | plain, ms | {' | '.join(names)} | parameters, hybrid | lowrank |",
        "|" + "---|" * (len(names) + 4),
    ]
    for record in records:
        step, added = record["step"], record["parameters"]
        cells = [f"{step[name]['ratio']:.2f}" for name in names[:-1]]
        cells.append(_mark(step[names[-1]]["ratio"], LOWRANK["worst"]))
        lines.append(
            f"| {record['case']} | {step['plain']['seconds'] * 1e3:.3g} | {' | '.join(cells)} | {added['hybrid']:,} | "
            f"{added['lowrank']:,} |"
        )
    lines += _exact(records)
    lines += [f"| geometric mean; worst | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for part, words in (("grid", "layers of the grid"), ("deep", "layers that are not in it"), ("all", "all")):
        if part in found:
            cells = [f"{found[part][n]['geometric_mean']:.2f}; {found[part][n]['worst']:.2f}" for n in names]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return [
        *lines,
        f"\nGoal of lowrank's `auto`: {LOWRANK['mean']} in geometric mean, {LOWRANK['worst']} at worst; of hybrid on "
        f"layers that are not in the grid: {EXACT['mean']} and {EXACT['worst']:.1f}.\n",
    ]


def _exact(records: list[dict[str, Any]]) -> list[str]:
    """Hybrid's strategies on the deep layers."""
    names = ["hybrid", *(f"hybrid, {strategy}" for strategy in lowrank.EXACT)]
    rows = [r for r in records if all(name in r["step"] for name in names)]
    if not rows:
        return [""]
    words = "Hybrid on the deep layers, `auto` and three strategies. In italics: one round only, which may be noise."
    lines = ["", f"{words}\n", f"| layer | {' | '.join(names)} |"]
    lines.append("|" + "---|" * (len(names) + 1))
    for record in rows:
        found = [record["step"][name] for name in names]
        cells = [f"*{t['ratio']:.2f}*" if t["rounds"] == 1 else f"{t['ratio']:.2f}" for t in found]
        lines.append(f"| {record['case']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _models(records: list[dict[str, Any]], goal: dict[str, float]) -> list[str]:
    lines = ["### Training steps of whole networks, K = 3\n", "Forward, cross-entropy, backward, SGD with momentum.\n"]
    methods = [m for m in models.METHODS if any(m in record.get("step", {}) for record in records)]
    names = ["network, what is fused", "input", "precision", "plain, ms", *methods, "hybrid, peak memory"]
    lines += [f"| {' | '.join(names)} |"]
    lines += ["|" + "---|" * (5 + len(methods))]
    for record in records:
        if "left_out" in record:
            lines.append(f"| {record['model']} | left out: {record['left_out']} |{' |' * (3 + len(methods))}")
            continue
        step, memory = record["step"], record["peak_memory_mb"]
        shown = "not known"
        if memory["plain"] and memory["hybrid"] is not None:
            shown = f"{_mark(memory['hybrid'] / memory['plain'], goal['memory'])} of {memory['plain']:.0f} MB"
        cells = [
            f"{_mark(step[m]['ratio'], goal['step'])} ({step[m]['low']:.2f} to {step[m]['high']:.2f})"
            if m in step
            else ""
            for m in methods
        ]
        lines.append(
            f"| {record['model']} | {'x'.join(map(str, record['input']))} | {record['precision']} | "
            f"{step['plain']['seconds'] * 1e3:.0f} | {' | '.join(cells)} | {shown} |"
        )
    return [*lines, f"\nGoals: step ≤ {goal['step']}, memory ≤ {goal['memory']}. In brackets: quartiles over rounds.\n"]


def _ceilings(records: list[dict[str, Any]]) -> list[str]:
    units = {"tflops": "TFLOP/s", "gb_per_second": "GB/s", "microseconds": "us"}
    lines = ["### What the machine can do\n", "| | |", "|---|---|"]
    lines += [f"| {r['what']} | {r[key]:,} {unit} |" for r in records for key, unit in units.items() if key in r]
    return [*lines, ""]


def _probe(records: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for record in records for name in record["ways"]))
    lines = ["### All ways, forward + backward, ms\n"]
    lines += [f"| layer | K | cuDNN searches | auto | {' | '.join(names)} |", "|" + "---|" * (len(names) + 4)]
    for r in records:
        cells = [f"{r['ways'][n]['step_ms']:.3g}" if "step_ms" in r["ways"].get(n, {}) else "" for n in names]
        search = "yes" if r["cudnn_benchmark"] else "no"
        lines.append(f"| {r['layer']} | {r['k']} | {search} | {r['auto'] or ''} | {' | '.join(cells)} |")
    return [*lines, ""]


def _compiled(records: list[dict[str, Any]]) -> list[str]:
    lines = ["### Compiled by inductor, forward + backward\n"]
    lines += ["Each as a multiple of the compiled plain layer. In brackets: quartiles over rounds.\n"]
    names = [name for name in records[0]["step"] if name != "plain, compiled"]
    lines += [
        f"| layer | plain compiled, ms | {' | '.join(names)} | graphs for 4 batch sizes |",
        "|" + "---|" * (len(names) + 3),
    ]
    for record in records:
        step = record["step"]
        cells = [f"{step[n]['ratio']:.2f} ({step[n]['low']:.2f} to {step[n]['high']:.2f})" for n in names]
        plain = step["plain, compiled"]["seconds"] * 1e3
        lines.append(f"| {record['case']} | {plain:.1f} | {' | '.join(cells)} | {record['graphs']} |")
    return [*lines, ""]


def _scaling(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "### Cost against the number of covariates\n",
        "Forward + backward, as multiples of the layer at K = 1.\n",
    ]
    names = list(dict.fromkeys(name for record in records for name in record["step"]))
    lines += [f"| layer | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for record in records:
        cells = [f"{record['step'][n]['ratio']:.2f}" if n in record["step"] else "" for n in names]
        lines.append(f"| {record['layer']}, input {'x'.join(map(str, record['input']))} | {' | '.join(cells)} |")
    return [
        *lines,
        "\nGoal: K = 64 at most 1.30 for kernels that are small against their maps (the first two).\n",
    ]


def _memory(records: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for record in records for name in record["ratio"]))
    lines = ["### Peak memory of one layer, forward + backward, as a multiple of plain\n"]
    lines += [f"| layer | plain, MB | {' | '.join(names[1:])} |", "|" + "---|" * (len(names) + 1)]
    for record in records:
        cells = [f"{record['ratio'][n]:.2f}" if n in record["ratio"] else "" for n in names[1:]]
        lines.append(f"| {record['case']} | {record['peak_mb']['plain']:.0f} | {' | '.join(cells)} |")
    return [*lines, ""]


def _pipeline(records: list[dict[str, Any]]) -> list[str]:
    first = records[0]
    lines = [f"### The study engine, ResNet-18, {first['image_size']} px, batch {first['batch']}\n"]
    lines += ["Time of a whole run (training, validation, test, files) over that of a bare PyTorch loop; goal: 1.10.\n"]
    lines += ["| part | images a second | time / bare loop |", "|---|---|---|"]
    for record in records:
        against = record.get("against_bare")
        ratio = f"{against['ratio']:.2f} [{against['low']:.2f}, {against['high']:.2f}]" if against else ""
        lines.append(f"| {record['part']} | {record['images_per_second']:,.0f} | {ratio} |")
    return [*lines, ""]


def _mark(value: float, limit: float) -> str:
    return f"{value:.2f}" if value <= limit else f"**{value:.2f}**"
