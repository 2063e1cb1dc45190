"""Pictures of the what-if page: the image, a network's answer on it, what that rests on, an effect; as HTML."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from torch import Tensor

from fusionconv.explain.pictures import draw_signed
from fusionconv.study.image_answers import middle
from fusionconv.study.image_report import outline, upright
from fusionconv.study.tasks import Segmentation
from fusionconv.study.what_if.answers import Effect, Said
from fusionconv.study.what_if.asking import WhatIf
from fusionconv.study.what_if.controls import Control, Seen
from fusionconv.study.what_if.inside import Rests
from fusionconv.study.what_if.quantities import Quantity

__all__ = ["depth", "effect_figure", "first_slice", "image_panel", "kernel_figure"]

_INK = "#010203"  # becomes the page's own text colour, light or dark
_YELLOW = "#ffd400"


def depth(what_if: WhatIf) -> int:
    """Slices of a volume along its third axis; 1 of pictures."""
    shape = what_if.store.array.shape[2:]
    return int(shape[2]) if len(shape) == 3 else 1


def first_slice(what_if: WhatIf, name: str) -> int:
    """Where to look first: the slice with most of the mask, or the middle one."""
    if depth(what_if) == 1:
        return 0
    targets = what_if.study.target_store
    if targets is None:
        return depth(what_if) // 2
    return int(middle(targets.read([name])[0], isinstance(what_if.task, Segmentation))[-1])


def image_panel(what_if: WhatIf, name: str, said: Said | None, rests: Rests | None, at: int = 0) -> str:
    """The row's image, what a network makes of it, and what its answer rests on.

    Args:
        what_if: the study.
        name: the row.
        said: by the network that is shown.
        rests: on what its answer rests; None: not known yet, a pale image keeps the place.
        at: the slice of a volume.
    """
    volume = depth(what_if) > 1
    image, title = _shown(what_if, name)
    plane = _plane(image, at, volume)
    task, picture = what_if.task, None if said is None else said.picture
    if picture is None:
        shown = [_figure(plane, title)]
    else:
        assert what_if.study.target_store is not None
        target = what_if.study.target_store.read([name])[0]
        if isinstance(task, Segmentation):
            masks = [_plane(one, at, volume, raw=True) for one in (target, picture)]
            lines = [(masks[0], "white", False), (masks[1], _YELLOW, True)]
            shown = [_figure(plane, "White: the mask. Yellow: the network's answer.", lines=lines, turned=volume)]
        else:
            ends = (float(target.min()), float(target.max()))
            output, wanted = (_plane(one, at, volume) for one in (picture, target))
            shown = [
                _figure(plane, f"Input. {title}"), _figure(output, "The network's output", ends=ends),
                _figure(wanted, "The target", ends=ends),
            ]  # fmt: skip
    if said is not None and rests is None:
        shown.append(_figure(plane, "...", pale=True))
    elif rests is not None and rests.maps is not None:
        total = rests.maps.sum(0, keepdim=True)
        heat = upright(_plane(total, at, volume, raw=True)[0], volume)
        shown.append(_figure(plane, rests.caption, heat=heat, bound=float(total.abs().max()), pale=True))
    covariates = "" if rests is None else _largest(rests.covariates)
    return f'<div class="fc-pictures">{"".join(shown)}</div>{covariates}'


def _largest(covariates: Mapping[str, float], most: int = 6) -> str:
    """The covariates that the answer rests on most."""
    each = sorted(covariates.items(), key=lambda one: -abs(one[1]))[:most]
    shown = ", ".join(f"{escape(name)} <b>{value:+.3g}</b>" for name, value in each if value)
    return f'<div class="fc-note">The same of the encoded covariates: {shown}.</div>' if shown else ""


def _shown(what_if: WhatIf, name: str) -> tuple[Tensor, str]:
    """The channels that are shown, three or one, and what to say of them."""
    image, there = what_if.store.read([name])[0], what_if.store.there([name])[0]
    columns = list(what_if.rows.images.columns)
    own = len(image) // len(columns)
    first = int(there.argmax())
    which = f"Image {columns[first // own]}" if len(columns) > 1 else "The image"
    return (image[first : first + 3] if own == 3 else image[first : first + 1]), which


def _plane(image: Tensor, at: int, volume: bool, raw: bool = False) -> Any:
    """(C, height, width) of a picture or of a slice; turned upright unless ``raw``; colours last unless ``raw``."""
    plane = (image[..., min(at, image.shape[-1] - 1)] if volume else image).detach().numpy()
    if raw:
        return plane
    turned = np.stack([upright(channel, volume) for channel in plane])
    return _channels(turned)


def _channels(plane: Any) -> Any:
    return np.moveaxis(plane[:3], 0, -1) if len(plane) >= 3 else plane[0]


def _figure(
    plane: Any, caption: str, *, ends: tuple[float, float] | None = None, lines: Sequence[tuple[Any, str, bool]] = (),
    turned: bool = False, heat: Any = None, bound: float = 0.0, pale: bool = False,
) -> str:  # fmt: skip
    """An image as PNG in the page itself, so that no file of it is left anywhere."""
    from matplotlib.figure import Figure

    height, width = plane.shape[:2]
    figure = Figure(figsize=(3, 3 * height / width), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = ends or np.percentile(plane, (0.5, 99.5))
    shown = np.clip((plane - low) / ((high - low) or 1.0), 0, 1)
    if pale:
        shown = 0.45 + 0.4 * shown  # pale, so that red and blue stand out
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for mask, colour, dashed in lines:
        outline(axes, mask, colour, turned, dashed)
    if heat is not None:
        scaled = np.clip(heat / (bound or 1.0), -1, 1)
        axes.imshow(scaled, cmap="RdBu_r", vmin=-1, vmax=1, alpha=np.abs(scaled) ** 0.5 * 0.9, interpolation="nearest")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    text = base64.b64encode(data.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{text}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def effect_figure(
    effect: Effect, control: Control, quantity: Quantity, *, now: Any, own: Any, answer: Mapping[str, float],
    unseen: Sequence[str], seen: Seen, image: float | None, colour: str,
) -> str:  # fmt: skip
    """An answer along one covariate: a line for each network, those that have not seen the row thick.

    Args:
        effect: the curves.
        control: of the covariate.
        quantity: what is drawn.
        now: the present value of the covariate; own: the row's.
        answer: run -> the present answer.
        unseen: the runs that have not seen the row.
        seen: what every network has seen in training; the rest is shaded.
        image: the image arm's answer; None without.
        colour: of the arm.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 2.9), layout="constrained")
    axes = figure.subplots()
    number = control.kind == "number"
    places = list(effect.values) if number else list(range(len(effect.values)))
    for run, curve in effect.curves.items():
        thick = run in unseen or len(effect.curves) == 1
        axes.plot(places, curve, color=colour, lw=2.4 if thick else 1.0, alpha=1 if thick else 0.45,
                  marker=None if number else "o", ms=5 if thick else 3, ls="-" if number else ":")  # fmt: skip
    if image is not None and math.isfinite(image):
        axes.axhline(image, color="#8b8f98", lw=1.2, ls="--")
        axes.annotate("image arm", (1, image), (-4, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", fontsize=8, color="#8b8f98")  # fmt: skip
    if number:
        assert isinstance(seen, tuple)
        axes.set_xlim(control.low, control.high)
        for start, end in ((control.low, seen[0]), (seen[1], control.high)):
            axes.axvspan(start, max(start, end), color="#f59e0b", alpha=0.14, lw=0)
        rows = [float(v) for v in control.values.values() if not isinstance(v, str)]
        _rug(axes, rows, control)
    else:
        axes.set_xticks(places, [str(value) for value in effect.values])
        axes.set_xlim(-0.5, len(places) - 0.5)
    place = _place(now, effect, number)
    if place is not None:
        axes.axvline(place, color=_INK, lw=1, alpha=0.5)
        for run, value in answer.items():
            if run in effect.curves and (run in unseen or len(effect.curves) == 1):
                axes.plot(place, value, "o", color=colour, ms=8, mec=_INK, mew=1)
    if (home := _place(own, effect, number)) is not None and home != place:
        axes.axvline(home, color=_INK, lw=1, alpha=0.5, ls=":")
    if (quantity.low, quantity.high) == (0, 1):
        axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(control.title)
    axes.set_ylabel(_short(quantity.title))
    caption = (
        "Line: now. Dotted: the row's own value. Thick: the network that has not seen this subject. Shaded: outside of "
        "what training saw. Ticks: rows of the study."
        if number
        else "Line: now. Dotted: the row's own value. Large: the network that has not seen this subject."
    )
    if not effect.all_networks:
        caption += " One network only, since the images are large."
    drawn = to_svg(figure, caption).replace(colour, "var(--fc-line)")
    return (
        f'<figure class="fc-plot" style="--fc-arm: {colour}">{drawn}<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _short(title: str, most: int = 30) -> str:
    return title if len(title) <= most else title[: most - 3] + "..."


def _place(value: Any, effect: Effect, number: bool) -> float | None:
    if number:
        return None if isinstance(value, str) else float(value)
    return next((float(at) for at, one in enumerate(effect.values) if one == value), None)


def _rug(axes: Any, rows: Sequence[float], control: Control, most: int = 400) -> None:
    """A tick for each row of the study, at the bottom; of many rows every n-th of the sorted ones."""
    chosen = sorted(rows)[:: max(1, len(rows) // most)]
    axes.plot(chosen, [0.0] * len(chosen), "|", color=_INK, alpha=0.35, ms=7, transform=axes.get_xaxis_transform(),
              clip_on=False)  # fmt: skip


def to_svg(figure: Any, label: str) -> str:
    """A figure as SVG whose text and frame have the page's colour, light or dark."""
    import matplotlib as mpl
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_color() in ("black", "k", "#000000"):
            text.set_color(_INK)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=_INK, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_edgecolor(_INK)
            spine.set_alpha(0.5)
            spine.set_visible(side in ("left", "bottom"))
    data = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    text = data.getvalue().decode()
    text = text[text.index("<svg") :].replace(_INK, "currentColor").replace("'DejaVu Sans'", "inherit")
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def kernel_figure(found: tuple[str, Tensor, Tensor] | None, kernels: int = 8) -> str:
    """Kernels without covariates, what these add, and their sum, of the filters that change most; empty without any.

    Args:
        found: as `kernels_of` gives them.
        kernels: so many filters, of each the first input channel; in 3-D the middle slice.
    """
    from matplotlib.figure import Figure

    if found is None or found[1].ndim not in (4, 5):
        return ""
    layer, plain, now = found
    chosen = (now - plain).flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:kernels].sort().values
    rows = {"W": plain, "change": now - plain, "now": now}
    planes = {title: w[chosen, 0] if w.ndim == 4 else w[chosen, 0, ..., w.shape[-1] // 2] for title, w in rows.items()}
    bound = max(float(shown.abs().max()) for shown in planes.values())
    figure = Figure(figsize=(0.62 * len(chosen) + 1.3, 2.1), layout="constrained")
    panels = figure.subplots(3, len(chosen), squeeze=False)
    for line, (title, shown) in zip(panels, planes.items(), strict=True):
        for axes, kernel in zip(line, shown, strict=True):
            draw_signed(axes, kernel, bound)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=13)
    caption = f"Kernels of layer {layer}: W without covariates, what these covariates add, and their sum."
    return f'<figure class="fc-plot">{to_svg(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>'
