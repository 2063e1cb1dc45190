"""Cards of the what-if page: the answer with every network as a dot, what to be careful of, as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fusionconv.study.what_if.answers import Answer, Said
from fusionconv.study.what_if.controls import Control
from fusionconv.study.what_if.quantities import Quantity

__all__ = ["CSS", "answer_card", "band_css", "main_quantity", "warning_card"]

_PARTS = {"test": "not seen", "val": "chose the epoch by it", "train": "trained on it", "": "not in this fold"}
_MOST = 8  # classes with a track of their own

#: of the page; colours are Gradio's variables, which know light and dark
CSS = """
:root { --fc-band: #16a34a; }
.fc-card, .fc-plot { --fc-line: var(--fc-arm); }
.dark .fc-card { --fc-line: color-mix(in srgb, var(--fc-arm) 60%, #bfe3ff); }
.dark .fc-plot { --fc-line: color-mix(in srgb, var(--fc-arm) 60%, #bfe3ff); }
.gradio-container { max-width: 1400px !important; margin: 0 auto !important; padding: 10px 16px !important; }
.gradio-container .column, .gradio-container .row { gap: 10px; }
.fc-h1 { font-size: 22px; font-weight: 700; display: inline; margin-right: 14px; color: var(--body-text-color); }
.fc-sub { font-size: 13px; color: var(--body-text-color-subdued); }
.fc-control { gap: 0 !important; border: 1px solid var(--border-color-primary); border-radius: 8px; overflow: hidden;
  background: var(--block-background-fill); }
.fc-control .block, .fc-control .form { border: 0 !important; box-shadow: none !important; border-radius: 0; }
.fc-missing { padding: 0 12px 10px; }
#answer, #warnings, #pictures, #effect, #kernels { min-height: 0; }
#kernels svg { max-height: 130px; width: auto; }
#answer > div, #warnings > div, #pictures > div, #effect > div, #kernels > div { padding: 0 !important; }
.fc-card { padding: 14px 18px 12px; border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: var(--block-background-fill); color: var(--body-text-color); }
.fc-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; }
.fc-value { font-size: 40px; line-height: 1.1; font-weight: 650; font-variant-numeric: tabular-nums;
  color: var(--fc-line); }
.fc-what { font-size: 16px; font-weight: 600; }
.fc-delta { margin-left: auto; font-size: 14px; color: var(--body-text-color-subdued); text-align: right; }
.fc-delta b { color: var(--body-text-color); font-size: 16px; font-variant-numeric: tabular-nums; }
.fc-who { margin: 2px 0 10px; font-size: 13px; color: var(--body-text-color-subdued); }
.fc-note { margin: 8px 0 0; font-size: 13px; line-height: 1.45; color: var(--body-text-color-subdued); }
.fc-others { margin-top: 8px; font-size: 13px; font-variant-numeric: tabular-nums; }
.fc-lines { display: grid; grid-template-columns: minmax(90px, max-content) 1fr max-content; gap: 5px 12px;
  align-items: center; font-size: 13px; }
.fc-track { position: relative; height: 18px; }
.fc-track::before { content: ""; position: absolute; inset: 8px 0 auto; height: 2px; border-radius: 1px;
  background: var(--border-color-primary); }
.fc-track i { position: absolute; top: 6px; height: 6px; border-radius: 3px; opacity: .35; background: var(--fc-dot); }
.fc-track s { position: absolute; top: 4px; width: 10px; height: 10px; margin-left: -5px; border-radius: 50%;
  border: 2px solid var(--fc-dot); background: var(--block-background-fill); box-sizing: border-box; }
.fc-track s.fc-unseen { top: 2px; width: 14px; height: 14px; margin-left: -7px; background: var(--fc-dot); }
.fc-axis { display: flex; justify-content: space-between; font-size: 11px; color: var(--body-text-color-subdued); }
.fc-number { font-variant-numeric: tabular-nums; text-align: right; }
.fc-image-line { color: var(--body-text-color-subdued); }
.fc-card details { margin-top: 8px; font-size: 13px; }
.fc-card summary { cursor: pointer; color: var(--body-text-color-subdued); }
.fc-card table { width: 100%; border-collapse: collapse; margin-top: 4px; font-variant-numeric: tabular-nums; }
.fc-card td, .fc-card th { text-align: left; padding: 3px 10px 3px 0; font-weight: 400;
  border-bottom: 1px solid var(--border-color-primary); }
.fc-card th { color: var(--body-text-color-subdued); }
.fc-warn { margin-top: 8px; padding: 8px 14px; border-left: 4px solid #d97706; border-radius: 6px; font-size: 14px;
  background: color-mix(in srgb, #f59e0b 14%, var(--block-background-fill)); color: var(--body-text-color); }
.fc-pictures { display: flex; flex-wrap: wrap; gap: 12px; }
.fc-pictures figure { margin: 0; flex: 1 1 150px; max-width: 260px; min-width: 0; }
.fc-pictures img { width: 100%; border-radius: 6px; display: block; image-rendering: pixelated; background: #000; }
.fc-pictures figcaption, .fc-plot figcaption { font-size: 12px; line-height: 1.35; margin-top: 4px;
  color: var(--body-text-color-subdued); }
.fc-plot { margin: 0; color: var(--body-text-color); }
.fc-plot svg { width: 100%; height: auto; display: block; }
.fc-title { font-size: 14px; font-weight: 600; margin: 0 0 6px; color: var(--body-text-color); }
"""


def answer_card(
    arm: str, answer: Answer, image: Answer | None, own: Answer, shown: Sequence[Quantity], *, colour: str, truth: str,
    changed: bool,
) -> str:  # fmt: skip
    """The main number, by the networks that have not seen the row; every network's answer; the image arm below.

    Args:
        arm: its name.
        answer: to the question.
        image: of the image arm; None where there is none, or where it is the arm.
        own: of the arm, with the row's own covariates.
        shown: the main number first.
        colour: of the arm.
        truth: what the table says, such as ``dx: ill``; empty for none.
        changed: whether a covariate is another than the row's.
    """
    if not answer.able:
        why = "; ".join(dict.fromkeys(said.problem for said in answer.said))
        return f'<div class="fc-card"><div class="fc-what">No network can answer</div>{escape(why)}</div>'
    main, decided = main_quantity(answer, shown), _decided(answer, shown)
    value = answer.value(main.name)
    change = value - own.value(main.name)
    delta = (
        f'<div class="fc-delta"><b data-change="{change!r}">{main.show(change, sign=True)}</b><br>against its own '
        "covariates</div>"
        if changed and math.isfinite(change)
        else ""
    )
    several = _who(answer)
    tracks = [q for q in shown if q.name.startswith("p_")][:_MOST] or [main]
    lines = "".join(_lines(arm, answer, image, q, len(tracks) > 1, q is tracks[-1]) for q in tracks)
    others = [q for q in shown if q is not main and q not in tracks]
    first = f'<span class="fc-what">{escape(decided)}</span>' if decided else ""
    return (
        f'<div class="fc-card" style="--fc-arm: {colour}"><div class="fc-head">'
        f'<span class="fc-value" data-value="{value!r}">{main.show(value)}</span>'
        f'<span><span class="fc-what">{escape(main.title)}</span>{first and "<br>" + first}</span>{delta}</div>'
        f'<div class="fc-who">{escape(several)}{f". In the table: {escape(truth)}" if truth else ""}.</div>'
        f'<div class="fc-lines">{lines}</div>{_others(answer, image, others)}{_spread(answer, main)}'
        f"{_table(answer, image, shown)}</div>"
    )


def main_quantity(answer: Answer, shown: Sequence[Quantity]) -> Quantity:
    """The quantity in large: of several classes the likeliest one's, else the first."""
    classes = len(shown) > 1 and all(q.name.startswith("p_") for q in shown)
    return max(shown, key=lambda q: answer.value(q.name)) if classes else shown[0]


def _decided(answer: Answer, shown: Sequence[Quantity]) -> str:
    """What the first network decides for; of labels those above its threshold."""
    first = answer.first
    assert first is not None
    if len(shown) > 1 and all(q.name.startswith("p_") for q in shown):
        if first.decision:
            return ""
        limit = float(first.network.predictor.about["threshold"])
        return "decided: " + (", ".join(q.name[2:] for q in shown if answer.value(q.name) >= limit) or "none")
    return f"decided: {first.decision}" if first.decision else ""


def _who(answer: Answer) -> str:
    unseen = [said.network.name for said in answer.unseen]
    if not unseen:
        return "Mean of all networks: each has seen this subject in training, so the answer is too good to be true"
    if len(unseen) == 1:
        return f"By {unseen[0]}, the network that has not seen this subject"
    return f"Mean of the {len(unseen)} networks that have not seen this subject"


def _lines(arm: str, answer: Answer, image: Answer | None, quantity: Quantity, several: bool, axis: bool) -> str:
    """A track for the arm and one for the image arm, with a dot for each network; ``axis``: the numbers below it."""
    both = [answer] if image is None else [answer, image]
    every = [said.numbers[quantity.name] for one in both for said in one.able if quantity.name in said.numbers]
    every = [value for value in every if math.isfinite(value)]
    if not every:
        return ""
    ends = [v for v in (quantity.low, quantity.high) if math.isfinite(v)]
    low, high = min([*every, *ends]), max([*every, *ends])
    room = 0.0 if ends else 0.08 * ((high - low) or abs(high) or 1.0)
    low, high = low - room, high + room
    label = quantity.title.removeprefix("probability of ") if several else arm
    found = _line(label, answer, quantity, (low, high), "var(--fc-line)", "")
    if image is not None:
        found += _line("image arm", image, quantity, (low, high), "#8b8f98", "fc-image-line")
    if not axis:
        return found
    numbers = f"<span>{low:.4g}</span><span>{(low + high) / 2:.4g}</span><span>{high:.4g}</span>"
    return f'{found}<span></span><div class="fc-axis">{numbers}</div><span></span>'


def _others(answer: Answer, image: Answer | None, others: Sequence[Quantity]) -> str:
    """The other numbers in a line, those of the image arm beside them."""
    each = [
        f"{escape(q.title)} <b>{q.show(answer.value(q.name))}</b>"
        + ("" if image is None else f" (image arm {q.show(image.value(q.name))})")
        for q in others
    ]
    return f'<div class="fc-others">{" &nbsp; ".join(each)}</div>' if each else ""


def _line(
    label: str, answer: Answer, quantity: Quantity, ends: tuple[float, float], colour: str, style: str
) -> str:  # fmt: skip
    low, high = ends
    values = [(said, said.numbers.get(quantity.name, math.nan)) for said in answer.able]
    values = [(said, value) for said, value in values if math.isfinite(value)]
    places = [100 * (value - low) / ((high - low) or 1.0) for _, value in values]
    bar = f'<i style="left: {min(places):.2f}%; width: {max(places) - min(places):.2f}%"></i>' if places else ""
    dots = "".join(
        f'<s class="{"fc-unseen" if said.part == "test" else ""}" style="left: {place:.2f}%" '
        f'title="{escape(said.network.name)} ({_PARTS[said.part]}): {quantity.show(value)}"></s>'
        for (said, value), place in sorted(zip(values, places, strict=True), key=lambda v: v[0][0].part == "test")
    )
    return (
        f'<span class="{style}">{escape(label)}</span>'
        f'<div class="fc-track" style="--fc-dot: {colour}">{bar}{dots}</div>'
        f'<span class="fc-number {style}">{quantity.show(answer.value(quantity.name))}</span>'
    )


def _spread(answer: Answer, quantity: Quantity) -> str:
    mean, low, high = answer.over_folds(quantity.name)
    count = len(answer.able)
    if count < 2:
        return (
            '<div class="fc-note">One network: how far its answer depends on the subjects that were trained on is not '
            "known.</div>"
        )
    return (
        f'<div class="fc-note">All {count} networks: mean {quantity.show(mean)}, from {quantity.show(low)} to '
        f"{quantity.show(high)}. Each was trained on other subjects; their spread is no confidence interval. "
        "Filled: the network that has not seen this subject.</div>"
    )


def _table(answer: Answer, image: Answer | None, shown: Sequence[Quantity]) -> str:
    """Every network's numbers."""
    titles = "".join(f"<th>{escape(q.title)}</th>" for q in shown)

    def lines(what: str, said: Sequence[Said]) -> str:
        return "".join(
            f"<tr><td>{what} {escape(one.network.name)}</td><td>{_PARTS[one.part]}</td>"
            + (
                f'<td colspan="{len(shown)}">{escape(one.problem)}</td>'
                if one.problem
                else "".join(f"<td>{q.show(one.numbers.get(q.name, math.nan))}</td>" for q in shown)
            )
            + "</tr>"
            for one in said
        )

    rows = lines("", answer.said) + ("" if image is None else lines("image arm,", image.said))
    return (
        f"<details><summary>Every network</summary><table><tr><th>network</th><th>this row</th>{titles}</tr>"
        f"{rows}</table></details>"
    )


def warning_card(found: Sequence[str]) -> str:
    """What to be careful of, a box each; empty without any."""
    return "".join(f'<div class="fc-warn" role="alert">{escape(text)}</div>' for text in found)


def band_css(at: int, control: Control, seen: tuple[float, float]) -> str:
    """A band under the slider of the n-th covariate, from the smallest to the largest value seen in training."""
    start, end = (100 * (v - control.low) / (control.high - control.low) for v in seen)
    band = f"transparent {start:.2f}%, var(--fc-band) {start:.2f}%, var(--fc-band) {end:.2f}%, transparent {end:.2f}%"
    return (
        f"#covariate-{at} input[type=range] {{ padding-bottom: 9px; margin-bottom: -9px; box-sizing: content-box; "
        f"background-image: linear-gradient(to right, {band}); background-size: 100% 3px; "
        "background-repeat: no-repeat; background-position: 0 100%; }"
    )
