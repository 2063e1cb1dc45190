"""docs/results/phantoms.md and its figures, made from the stored results and nothing else."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.phantoms.arms import ARMS
from benchmarks.phantoms.figures import draw_curves, draw_tasks
from benchmarks.phantoms.statistics import MARGIN, Interval, choose, difference, interval, label, share
from benchmarks.phantoms.tasks import TASKS, bayes_shortcut_learned

__all__ = ["page", "write"]

Record = dict[str, Any]
REACHED, FAILED = 95.0, 80.0  # % of the Bayes rate: what early fusion is to reach, what no late fusion is to reach
RULES = {
    "additive": "y = 1[a + s > 0]: the image's brightness a and one number s",
    "xor": "y = 1[a s > 0], s = -1 or 1",
    "selection": "is grating s in the image? K gratings, each present with probability 1/2, s names one. Here, and "
    "only here, the head of every arm gets s as well (but that of image only)",
    "atrophy": "y = 1[loss > f(age)]; the image shows loss times head size; s = (age, sex)",
    "null": "y = 1[a > 0]; s is eight numbers that have nothing to do with it",
    "shortcut": "y = 1[a > 0]; s names y in 90 % of the training data and is a coin at test",
}


def write(path: Path, records: list[Record], command: str, missing: list[str] | None = None) -> None:
    """Write the page, and its figures into a folder of its name beside it; ``missing``: settings without a result."""
    figures = path.parent / path.stem
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for dims in (2, 3):
        mine = choose(records, dims=dims)
        tasks, names = {r["task"] for r in mine}, {r["arm"] for r in mine}
        if tasks:
            arms, order = [a for a in ARMS if a in names], [t for t in TASKS if t in tasks]
            file = draw_tasks(records, dims, arms, order, figures / f"tasks-{dims}d.png")
            drawn[f"Every arm in {dims}-D"] = f"{path.stem}/{file.name}"
    if choose(records, task="selection", dims=2, arm="hybrid, first"):
        file = draw_curves(records, figures / "selection.png")
        drawn["Selection: width and number of gratings"] = f"{path.stem}/{file.name}"
    path.write_text(page(records, command, drawn, missing or []), encoding="utf-8")


def page(records: list[Record], command: str, figures: dict[str, str], missing: list[str]) -> str:
    """The page as Markdown; ``figures``: caption -> relative path."""
    parts = [_head(records, command), _overview(records), _only_early(records), _no_loss(records), _shortcut(records)]
    parts += [f"![{caption}]({file})" for caption, file in figures.items()]
    parts.append("## Every result\n\n" + _wrap(COLUMNS))
    for dims in (2, 3):
        for task in TASKS:
            mine = choose(records, task=task, dims=dims)
            if mine:
                parts.append(_table(task, dims, mine))
    parts.append(_sweeps(records))
    if missing:
        parts.append(_missing(missing, command))
    return "\n\n".join(part for part in parts if part) + "\n"


def _missing(keys: list[str], command: str) -> str:
    """The settings without a result, a line for each task."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        task, rest = key.split(", ", 1)
        groups.setdefault(task, []).append(rest.removesuffix(", width 2"))
    lines = [f"- {task}: {'; '.join(rest)}" for task, rest in groups.items()]
    return f"## Not run yet\n\nThe same command, `{command}`, goes on with these:\n\n" + "\n".join(lines)


def _wrap(text: str) -> str:
    """Paragraphs in lines of at most 120 characters."""
    paragraphs = (" ".join(p.split()) for p in text.split("\n\n"))
    return "\n\n".join(fill(p, 120, break_long_words=False, break_on_hyphens=False) for p in paragraphs)


COLUMNS = """\
Share: accuracy over the Bayes rate, in %, mean over seeds with its 95 % t interval, which ends at 100 at the most;
worst: the worst seed's. Permuted, constant: the accuracy of the same networks, in %, when each test image gets
another's covariates, or all get the mean. Rate: the learning rate that was chosen. FLOPs: a forward pass of one image,
in thousands. Kept: numbers that the backward pass needs of one image, weights and image itself left out. ms: processor
time of a training step of 64 images with the library's own choice of strategy; other programs ran beside it and torch's
own overhead is most of it: read nothing into less than a factor of two."""


def _head(records: list[Record], command: str) -> str:
    days = sorted({r["date"] for r in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    seeds = " or ".join(map(str, sorted({r["seeds"] for r in records})))
    minutes = sum(r["seconds"] for r in records) / 60
    steps = {True: "no", False: "no"}
    for selection in steps:
        usual = {r["steps"] for r in records if (r["task"] == "selection") is selection and not r["extended"]}
        steps[selection] = " or ".join(map(str, sorted(usual))) or "no"
    text = f"""
Made by `{command}` ({when}; {"; ".join(dict.fromkeys(r["conditions"] for r in records))}; {len(records)} settings of
{seeds} seeds, {minutes:.0f} minutes of processor time, one thread, other programs beside it). Do not edit:
`{command} --table` writes this page from the stored results. What follows from it for a network of your own stands in
`docs/choosing.md`.

**Network.** Two convolutions of 2 channels, the mean over all positions, a head with 16 hidden units. *first*, *last*:
the covariates enter at the first or the last convolution, both in front of the pooling (early); *head*: at the first
linear layer behind it (late). *all*: at both convolutions. *concat linear*: at the last linear layer; *concat MLP*: at
the first. `hybrid`, `lowrank` (rank 4) and `hyper` with `covariate_bias=True`, "kernel only" without.

**Training.** Adam, {steps[False]} steps ({steps[True]} for selection; the smaller number in 3-D) of
{records[0]["batch"]} new samples each, the rate falling along a cosine; two learning rates, .01 and .03, for every arm,
the better one by mean validation accuracy over the seeds. Seed by seed all arms see the same training stream and the
same {records[0]["test"]} test images. Bayes rates are derived in `benchmarks/phantoms/tasks.py` and checked with
simulated observers in `tests/benchmarks/test_phantoms.py`."""
    return "# Phantoms: six tasks with known answers\n\n" + _wrap(text.strip())


def _overview(records: list[Record]) -> str:
    """Arms by tasks: the shares alone."""
    columns = [(t, d) for d in (2, 3) for t in TASKS if choose(records, task=t, dims=d)]
    lines = ["Accuracy as a share of the Bayes rate, in % (mean over seeds; intervals below):", ""]
    lines.append("| arm | " + " | ".join(f"{t} {d}-D" for t, d in columns) + " |")
    lines.append("|---" * (len(columns) + 1) + "|")
    rates = [f"{100 * choose(records, task=t, dims=d)[0]['bayes']:.1f}" for t, d in columns]
    lines.append("| *Bayes rate* | " + " | ".join(f"*{r}*" for r in rates) + " |")
    for arm in ARMS:
        cells = [choose(records, task=t, dims=d, arm=arm) for t, d in columns]
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(f"{share(c[0]).mean:.1f}" if c else "" for c in cells) + " |")
    return "\n".join(lines)


def _only_early(records: list[Record]) -> str:
    """Selection: early hybrid against every late fusion."""
    parts = []
    for dims in (2, 3):
        mine = choose(records, task="selection", dims=dims)
        early = [r for r in mine if r["arm"] == "hybrid, first"]
        late = [r for r in mine if label(r) == "late"]
        if not early or not late:
            continue
        hybrid, best = early[0], max(late, key=lambda r: share(r).mean)
        yes = share(hybrid).mean >= REACHED and share(best).mean < FAILED
        firm = share(hybrid).low >= REACHED and all(share(r).high < FAILED for r in late)
        flops = " and ".join(f"{r['cost']['flops'] / 1000:.1f}" for r in (hybrid, best))
        kept = " and ".join(f"{r['cost']['kept']:.0f}" for r in (hybrid, best))
        parts.append(
            f"{dims}-D, K = {hybrid['covariates']}, 2 channels: **{'yes' if yes else 'no'}**. `hybrid, first` "
            f"{share(hybrid).text()} %; the best late fusion (of {len(late)} tried), `{best['arm']}`, "
            f"{share(best).text()} % (every interval on its side of the mark: {'yes' if firm else 'no'}). A forward "
            f"pass of one image takes {flops} thousand FLOPs, and keeps {kept} numbers for the backward pass."
        )
    widths = choose(records, task="selection", dims=2, width="any")
    late = sorted((r for r in widths if r["arm"] == "concat MLP"), key=lambda r: r["width"])
    if len(late) > 1:
        enough = next((r for r in late if share(r).mean >= REACHED), None)
        words = "no width that was tried" if enough is None else f"a width of {enough['width']} channels"
        costs = ", ".join(f"{r['width']}: {share(r).text()} % at {r['cost']['flops'] / 1000:.0f}" for r in late)
        parts.append(
            "Width: with K channels and more there is room for all K features behind the pooling, and no reason in "
            f"principle why late fusion should fail. In these {late[0]['steps']:,} steps `concat MLP` reaches "
            f"{REACHED:.0f} % at {words} (channels: share at thousand FLOPs; {costs})."
        )
    long = choose(records, task="selection", dims=2, arm="concat MLP", width="any", extended=True)
    if long:
        long.sort(key=lambda r: r["width"])
        shares = ", ".join(f"{r['width']} channels {share(r).text()} %" for r in long)
        parts.append(f"`concat MLP` with {long[0]['steps']:,} steps and a third learning rate, .003: {shares}.")
    question = f"at least {REACHED:.0f} % of the Bayes rate) and no late fusion does (below {FAILED:.0f} %)?"
    head = f"## Is there a task that early fusion solves ({question}"
    return "\n\n".join([head, *map(_wrap, parts)]) if parts else ""


def _no_loss(records: list[Record]) -> str:
    """null and additive: hybrid less the plain way, seed by seed."""
    rows = []
    for task, references in (("null", ("image only", "concat MLP")), ("additive", ("concat linear", "concat MLP"))):
        for dims, samples, long in ((2, None, False), (3, None, False), (3, None, True), (2, 250, False)):
            mine = choose(records, task=task, dims=dims, samples=samples, extended=long)
            by_arm = {r["arm"]: r for r in mine}
            data = f"{task} {dims}-D" + ("" if samples is None else f", {samples} training samples")
            data += ", four times the steps" if long else ""
            for arm in ("hybrid, first", "hybrid, last", "hybrid, head"):
                for reference in references:
                    if arm in by_arm and reference in by_arm:
                        d = difference(by_arm[arm], by_arm[reference])
                        rows.append(f"| {data} | {arm} | {reference} | {d.text(2)} | {_verdict(d)} |")
    if not rows:
        return ""
    text = f"""Accuracy in points less the reference's, paired over seeds, with its 95 % t interval. The margin was set
before the run: {MARGIN:g} point. *Does not lose*: the interval lies above -{MARGIN:g}; *loses*: below it; *behind*: it
lies below 0 and holds -{MARGIN:g}; else *open*."""
    table = "| task | arm | reference | difference | verdict |\n|---|---|---|---|---|\n" + "\n".join(rows)
    return f"## Does hybrid lose where there is nothing to win?\n\n{_wrap(text)}\n\n{table}"


def _verdict(d: Interval) -> str:
    """What an interval says of a margin."""
    if d.low > -MARGIN:
        return "does not lose"
    if d.high < -MARGIN:
        return "loses"
    return "behind" if d.high < 0 else "open"


def _shortcut(records: list[Record]) -> str:
    mine = choose(records, task="shortcut", dims=2)
    if not mine:
        return ""
    trained, tested = bayes_shortcut_learned()
    text = f"""Accuracy in %, mean over seeds, on data as in training, on such data with permuted covariates, and at
test. The ideal observer of the training data has {100 * trained:.1f} there and {100 * tested:.1f} at test; the ideal
observer of the test data has {100 * mine[0]["bayes"]:.1f}."""
    columns = "| arm | as in training | permuted | lost by permuting | test | lost at test |\n|---|---|---|---|---|---|"
    lines = ["## Shortcut: what the permuted control reveals", _wrap(text), columns]
    rows = []
    for r in mine:
        v, p, t = (100 * interval(r["accuracy"][k]).mean for k in ("validation", "validation permuted", "true"))
        rows.append(f"| {r['arm']} | {v:.1f} | {p:.1f} | {v - p:.1f} | {t:.1f} | {v - t:.1f} |")
    return "\n\n".join(lines) + "\n" + "\n".join(rows)


def _table(task: str, dims: int, records: list[Record]) -> str:
    first = records[0]
    rule = f"{RULES[task]}. K = {first['covariates']}, Bayes rate {100 * first['bayes']:.1f} %."
    named = [(r["arm"], r) for r in sorted(records, key=lambda r: list(ARMS).index(r["arm"]))]
    return f"### {task}, {dims}-D\n\n{_wrap(rule)}\n\n{_rows(named, 'arm')}"


def _rows(named: list[tuple[str, Record]], first: str) -> str:
    lines = [
        f"| {first} | share | worst | permuted | constant | rate | parameters | FLOPs | kept | ms |",
        "|---" * 10 + "|",
    ]
    for name, r in named:
        worst = 100 * min(r["accuracy"]["true"]) / r["bayes"]
        wrong = [f"{100 * interval(r['accuracy'][c]).mean:.1f}" for c in ("permuted", "constant")]
        cost = r["cost"]
        cells = [name, share(r).text(), f"{worst:.1f}", *wrong, f"{r['rate']:g}", f"{cost['parameters']:,}"]
        cells += [f"{cost['flops'] / 1000:.1f}", f"{cost['kept']:.0f}", f"{cost['ms']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _sweeps(records: list[Record]) -> str:
    """The tables of the sweeps: width, K, a small training set, long training."""
    selection = choose(records, task="selection", dims=2, width="any", count="any")
    wide = [r for r in selection if r["count"] is None]
    many = [r for r in selection if r["width"] == 2]
    small = choose(records, task="null", dims=2, samples=250)
    long = choose(records, dims="any", width="any", extended=True)
    swept = ("concat MLP", "hybrid, first")
    sweeps = {
        "Selection, 2-D: width": [(f"{r['arm']}, width {r['width']}", r) for r in wide if r["arm"] in swept],
        "Selection, 2-D: K gratings": [(f"{r['arm']}, K = {r['covariates']}", r) for r in many if r["arm"] in swept],
        "Null, 2-D: 250 training samples": [(r["arm"], r) for r in small],
        "Four times the steps, and .003 as a third learning rate": [
            (f"{r['task']} {r['dims']}-D, {r['arm']}, width {r['width']}", r) for r in long
        ],
    }
    for named in sweeps.values():
        named.sort(key=lambda pair: (pair[1]["arm"], pair[1]["width"], pair[1]["covariates"]))
    return "\n\n".join(f"### {title}\n\n{_rows(named, 'setting')}" for title, named in sweeps.items() if named)
