"""Page: the what-if page as Gradio's blocks; what is asked and drawn is elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from fusionconv.errors import FusionError
from fusionconv.study.figures import arm_colour
from fusionconv.study.what_if.answers import Answer
from fusionconv.study.what_if.asking import WhatIf
from fusionconv.study.what_if.cards import answer_card, band_css, main_quantity, warning_card
from fusionconv.study.what_if.controls import MISSING, Control
from fusionconv.study.what_if.doubts import doubts
from fusionconv.study.what_if.inside import Rests, kernels_of, rests_on
from fusionconv.study.what_if.pictures import depth, effect_figure, first_slice, image_panel, kernel_figure
from fusionconv.study.what_if.quantities import quantities

__all__ = ["Page"]

_LISTED = 2000  # rows in the list; of more, any id can be typed
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_id": "networks"}


class Page:
    """The page of one study.

    Args:
        what_if: the study.
        arm: the arm that is shown first.
    """

    def __init__(self, what_if: WhatIf, arm: str) -> None:
        self.what_if, self.first = what_if, arm
        self.quantities = quantities(what_if.rows)
        self.columns = list(what_if.controls)
        self.asked = functools.lru_cache(maxsize=64)(self._asked)
        self.rests = functools.lru_cache(maxsize=8)(self._rests)
        with gr.Blocks(title=f"What if: {what_if.out.name}", analytics_enabled=False, fill_width=True) as self.blocks:
            self._draw()

    # ---- what is on it ----

    def _draw(self) -> None:
        w = self.what_if
        ids = list(w.rows.frame["id"])
        task = f"{w.task.NAME} of {', '.join(w.task.columns)}, {len(ids):,d} rows"
        what = f"{escape(w.out.name)}: {escape(task)}. For research, not for the care of patients."
        gr.HTML(f'<h1 class="fc-h1">What if?</h1><span class="fc-sub">{what}</span>', elem_classes="fc-top")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300, elem_classes="fc-left"):
                self.row = gr.Dropdown(ids[:_LISTED], value=ids[0], label=f"Image, one of {len(ids):,d}", elem_id="row",
                                       allow_custom_value=len(ids) > _LISTED)  # fmt: skip
                self.arm = gr.Dropdown(list(w.arms), value=self.first, label="Arm", elem_id="arm",
                                       visible=len(w.arms) > 1)  # fmt: skip
                self.inputs, self.missing = self._covariates(ids[0])
                self.bands = gr.HTML(self._bands(self.first), padding=False)
                self.back = gr.Button("Back to the row's own values", size="sm", elem_id="back")
            with gr.Column(scale=3, min_width=480):
                self.card = gr.HTML(elem_id="answer", padding=False)
                self.warnings = gr.HTML(elem_id="warnings", padding=False)
                with gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=320):
                        self.pictures = gr.HTML(elem_id="pictures", padding=False)
                        last = depth(w) - 1
                        self.slice = gr.Slider(0, max(last, 1), value=first_slice(w, ids[0]), step=1, label="Slice",
                                               visible=last > 0, elem_id="slice", buttons=[])  # fmt: skip
                        self.kernels = gr.HTML(elem_id="kernels", padding=False)
                    with gr.Column(scale=6, min_width=360):
                        with gr.Row():
                            columns = w.columns(self.first)
                            self.along = gr.Dropdown(columns, value=next(iter(columns), None), label="Effect of",
                                                     elem_id="along")  # fmt: skip
                            self.of = gr.Dropdown([(q.title, q.name) for q in self.quantities], label="on",
                                                  value=self.quantities[0].name, elem_id="of",
                                                  visible=len(self.quantities) > 1)  # fmt: skip
                        self.effect = gr.HTML(elem_id="effect", padding=False)
        self._connect()

    def _covariates(self, name: str) -> tuple[list[Any], list[Any]]:
        """A component for each column, and a box for "missing" (hidden where that is refused, or in a choice)."""
        own, inputs, boxes = self.what_if.own(name), [], []
        taken = self.what_if.columns(self.first)
        for at, (column, control) in enumerate(self.what_if.controls.items()):
            with gr.Column(elem_classes="fc-control", min_width=0):
                inputs.append(self._input(at, control, own[column], column in taken))
                beside = control.missing and control.kind != "choice"
                boxes.append(
                    gr.Checkbox(
                        own[column] == MISSING, label="missing", visible=beside and column in taken, container=False,
                        elem_id=f"missing-{at}", elem_classes="fc-missing",
                    )
                )  # fmt: skip
        return inputs, boxes

    def _input(self, at: int, control: Control, value: Any, visible: bool) -> Any:
        if control.kind == "choice":
            return gr.Dropdown([(str(label), n) for n, label in enumerate(control.choices)], label=control.column,
                               value=_shown(control, value), visible=visible, elem_id=f"covariate-{at}")  # fmt: skip
        if control.kind == "tick":
            return gr.Checkbox(bool(_shown(control, value)), label=control.column, visible=visible,
                               elem_id=f"covariate-{at}")  # fmt: skip
        return gr.Slider(control.low, control.high, _shown(control, value), step=control.step, visible=visible,
                         label=control.title, info=self._trained_on(self.first, control), elem_id=f"covariate-{at}",
                         buttons=[])  # fmt: skip

    def _seen(self, arm: str, control: Control) -> tuple[float, float] | None:
        """The range of a number that every network of an arm has seen in training; None where the arm has none."""
        if control.kind != "number" or control.column not in self.what_if.columns(arm):
            return None
        seen = self.what_if.trained(arm, control.column)
        assert isinstance(seen, tuple)
        return seen

    def _trained_on(self, arm: str, control: Control) -> str:
        seen = self._seen(arm, control)
        return "" if seen is None else f"trained on {seen[0]:.6g} to {seen[1]:.6g}"

    def _bands(self, arm: str) -> str:
        """The style of the lines under the sliders of an arm."""
        seen = [(at, c, self._seen(arm, c)) for at, c in enumerate(self.what_if.controls.values())]
        return f"<style>{''.join(band_css(at, c, ends) for at, c, ends in seen if ends is not None)}</style>"

    # ---- what it does ----

    def _connect(self) -> None:
        values = [self.row, self.arm, *self.inputs, *self.missing]
        asked, more = [*values, self.slice], [*values, self.along, self.of, self.slice]
        moved = [component.input for component in [*self.inputs, *self.missing, self.arm]]
        whole = [*self.inputs, *self.missing, self.slice]
        for began in (
            gr.on(moved, lambda: None, trigger_mode="always_last", **_QUIET),
            self.row.input(self.restore, [self.row], whole, **_QUIET),
            self.back.click(self.restore, [self.row], whole, **_QUIET),
            self.blocks.load(lambda: None, **_QUIET),
        ):  # what takes longest comes last
            said = began.then(self.say, asked, [self.card, self.warnings, self.pictures], **_QUIET)
            drawn = said.then(self.draw, more, [self.effect, self.kernels], **_QUIET)
            drawn.then(self.draw_pictures, asked, [self.pictures], **_QUIET)
        self.arm.input(self.choose, [self.arm], [*self.inputs, *self.missing, self.along, self.bands], **_QUIET)
        gr.on([self.along.input, self.of.input], self.draw_effect, more, [self.effect], trigger_mode="always_last",
              **_QUIET)  # fmt: skip
        self.slice.input(self.draw_pictures, asked, [self.pictures], trigger_mode="always_last", **_QUIET)

    def restore(self, name: str) -> list[Any]:
        """The components with the row's own values, and the slice to look at first."""
        own = self._own(name)
        values = [_shown(control, own[column]) for column, control in self.what_if.controls.items()]
        boxes = [own[column] == MISSING for column in self.columns]
        return [*values, *boxes, first_slice(self.what_if, name)]

    def choose(self, arm: str) -> list[Any]:
        """The components that this arm takes, and what its networks were trained on."""
        taken = self.what_if.columns(arm)
        controls = self.what_if.controls.items()
        shown = [
            gr.update(visible=column in taken, **({"info": self._trained_on(arm, c)} if c.kind == "number" else {}))
            for column, c in controls
        ]
        boxes = [gr.update(visible=column in taken and c.missing and c.kind != "choice") for column, c in controls]
        return [*shown, *boxes, gr.update(choices=taken, value=next(iter(taken), None)), self._bands(arm)]

    def say(self, name: str, arm: str, *given: Any) -> tuple[str, str, str]:
        """The answer, what to be careful of, and the image with the answer on it."""
        *rest, at = given
        values = self._values(rest)
        answer, own = self._ask(arm, name, values), self._own(name)
        changed = any(not self.what_if.controls[c].same(values[c], own[c]) for c in self.what_if.columns(arm))
        first = answer.first
        found = doubts(self.what_if, arm, name, values, None if first is None else first.network)
        card = answer_card(
            arm, answer, self._image(arm, name), self._ask(arm, name, own), self.quantities, colour=arm_colour(arm),
            truth=self._truth(name), changed=changed,
        )  # fmt: skip
        return card, warning_card(found), image_panel(self.what_if, name, first, None, int(at))

    def draw(self, *given: Any) -> tuple[str, str]:
        """The effect and the kernels."""
        return self.draw_effect(*given), self.draw_kernels(*given)

    def draw_pictures(self, name: str, arm: str, *given: Any) -> str:
        """The image with its answer, and what that rests on."""
        *rest, at = given
        values = self._values(rest)
        first = self._ask(arm, name, values).first
        found = None if first is None else self.rests(arm, name, tuple(values.items()))
        return image_panel(self.what_if, name, first, found, int(at))

    def draw_effect(self, name: str, arm: str, *given: Any) -> str:
        """The effect of one covariate."""
        *rest, column, quantity, _ = given
        if column not in self.what_if.columns(arm):
            return '<p class="fc-note">This arm does not take this covariate.</p>'
        values = self._values(rest)
        answer, image = self._ask(arm, name, values), self._image(arm, name)
        shown = next(q for q in self.quantities if q.name == quantity)
        effect = self.what_if.effect(arm, name, values, column, quantity)
        return effect_figure(
            effect, self.what_if.controls[column], shown, now=values[column], own=self._own(name)[column],
            answer={said.network.name: said.numbers[quantity] for said in answer.able},
            unseen=[said.network.name for said in answer.unseen], seen=self.what_if.trained(arm, column),
            image=None if image is None else image.value(quantity), colour=arm_colour(arm),
        )  # fmt: skip

    def draw_kernels(self, name: str, arm: str, *given: Any) -> str:
        """The kernels that these covariates make."""
        values = self._values(given[:-3])
        first = self._ask(arm, name, values).first
        return "" if first is None else kernel_figure(kernels_of(self.what_if, first, name, values))

    # ---- what it asks ----

    def _own(self, name: str) -> dict[str, Any]:
        try:
            return self.what_if.own(name)
        except FusionError as error:
            raise gr.Error(str(error)) from error

    def _values(self, given: Sequence[Any]) -> dict[str, Any]:
        """The components' values as those of the table."""
        count = len(self.columns)
        values: dict[str, Any] = {}
        for (column, control), value, missing in zip(
            self.what_if.controls.items(), given[:count], given[count : 2 * count], strict=True
        ):
            if control.kind == "choice":
                values[column] = control.choices[int(value)]
            else:
                values[column] = MISSING if missing else bool(value) if control.kind == "tick" else float(value)
        return values

    def _ask(self, arm: str, name: str, values: dict[str, Any]) -> Answer:
        return self.asked(arm, name, tuple(values.items()))

    def _asked(self, arm: str, name: str, values: tuple[tuple[str, Any], ...]) -> Answer:
        try:
            return self.what_if.ask(arm, name, dict(values))
        except FusionError as error:
            raise gr.Error(str(error)) from error

    def _rests(self, arm: str, name: str, values: tuple[tuple[str, Any], ...]) -> Rests:
        answer = self.asked(arm, name, values)
        assert answer.first is not None
        return rests_on(self.what_if, answer.first, name, dict(values), main_quantity(answer, self.quantities).name)

    def _image(self, arm: str, name: str) -> Answer | None:
        """What the image arm says, where there is one beside this one."""
        found = next((a.name for a in self.what_if.arms.values() if a.kind == "image" and a.name != arm), None)
        return None if found is None else self.asked(found, name, ())

    def _truth(self, name: str) -> str:
        if self.what_if.task.IMAGE_OUT:
            return ""
        row = self.what_if.frame.loc[name]
        return ", ".join(f"{column} {row[column]}" for column in self.what_if.task.columns)


def _shown(control: Control, value: Any) -> Any:
    """A value as its component has it; where it is missing, the middle of a slider."""
    if control.kind == "choice":
        return list(control.choices).index(value)
    if value == MISSING:
        return False if control.kind == "tick" else (control.low + control.high) / 2
    return value
