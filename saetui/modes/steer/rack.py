"""The rack: latents, each with a slider that keys move."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from textual import events

from engine.config import InterventionMode
from engine.neurons import latents
from engine.numbers import typed
from saetui.background import look_up
from saetui.bindings import key
from saetui.formatting import signed, times, whole
from saetui.modes.steer.setup import BIG, STEP, SetupEditor, Slot
from saetui.services import Served
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.table import Column, Table

LOW, HIGH = -1.0, 4.0  # ends of a slider in multiples of the maximum, as long as the value lies between them


class Rack(Served, Table):
    """Slots as rows. Every edit is shown at once, and changes the setup."""

    BINDINGS = [
        key("rack.more", "right,l", f"turn({STEP})", "Stronger", show=True),
        key("rack.less", "left,h", f"turn({-STEP})", "Weaker", show=True),
        key("rack.much_more", "shift+right,L", f"turn({BIG})", "Much stronger", show=True),
        key("rack.much_less", "shift+left,H", f"turn({-BIG})", "Much weaker"),
        key("rack.type", "enter", "choose", "Type a strength"),
        key("rack.switch", "space", "switch", "On/off", show=True),
        key("rack.remove", "x,delete", "remove", "Remove"),
    ]

    def __init__(self, editor: SetupEditor, **options: Any):
        super().__init__(_columns(80), self._slot_cells, **options)
        self._editor = editor
        self.slots: tuple[Slot, ...] = ()
        self.mode: InterventionMode = "clamp"

    @property
    def slot(self) -> Slot | None:
        """The one under the cursor."""
        return self.slots[self.cursor] if self.slots else None

    def take(self, slots: tuple[Slot, ...], mode: InterventionMode, empty: str = "") -> None:
        """Show ``slots``; the cursor stays on its latent, or goes to one that is new."""
        if (slots, mode, empty) == (self.slots, self.mode, self.empty):
            return
        here, before = self.slot, {slot.latent for slot in self.slots}
        new = [place for place, slot in enumerate(slots) if slot.latent not in before]
        kept = [place for place, slot in enumerate(slots) if here and slot.latent == here.latent]
        self.slots, self.mode, self.empty = slots, mode, empty
        self.show(len(slots), (new[-1:] or kept or [self.cursor])[0])

    def select(self, latent: int) -> None:
        """Put the cursor on ``latent``, if it is here."""
        self.cursor = next((place for place, slot in enumerate(self.slots) if slot.latent == latent), self.cursor)

    def on_resize(self, event: events.Resize) -> None:
        self.set_columns(_columns(event.size.width))

    def action_turn(self, times: float) -> None:
        if self.slot:
            self._put(self.slot.at(self.slot.times + times), f"value {self.slot.latent}")

    def action_switch(self) -> None:
        if self.slot:
            self._put(replace(self.slot, on=not self.slot.on), "")

    def action_remove(self) -> None:
        if self.slot:
            left = tuple(slot for slot in self.slots if slot is not self.slot)
            self.slots = left
            self.show(len(left), min(self.cursor, len(left) - 1))
            self._edit(left, "")

    def _put(self, slot: Slot, kind: str) -> None:
        self.slots = (*self.slots[: self.cursor], slot, *self.slots[self.cursor + 1 :])
        self.refresh_row(self.cursor)
        self._edit(self.slots, kind)

    def _edit(self, slots: tuple[Slot, ...], kind: str) -> None:
        self._editor.change(replace(self._editor.setup, rack=slots), kind)

    # Latents by number and name

    def add(self, latent: int, sae: str, neurons: str, known: tuple[str, float] | None = None) -> None:
        """Put ``latent`` of ``sae`` into the rack, switched on at its own maximum.

        Its name and maximum are looked up in ``neurons`` unless they are ``known``; then it is there a moment later.
        Latents of another SAE leave the rack.
        """

        def put(name: str, maximum: float) -> None:
            slot = Slot(latent, maximum=max(maximum, 0.0), name=name)
            self._editor.change(self._editor.setup.of_sae(sae, neurons).with_latent(slot.at(1.0)))
            self.select(latent)
            self.focus()

        def take(described: dict[int, tuple[str, float]]) -> None:
            put(*described.get(latent, ("", 0.0)))

        if known is None:
            look_up(self, "add", partial(latents.describe, neurons, [latent]), take, self.services.say)
        else:
            put(*known)

    def ask_latent(self) -> None:
        if self._editor.setup.sae:
            self.services.ask(Ask("Latent: its number, or a name to search for"), self.find)
        else:
            self.services.say(self._editor.setup.lacks)

    def find(self, text: str) -> None:
        """Add the latent of that number or name; of several that are found a person picks one."""
        setup = self._editor.setup
        if not setup.neurons:
            if (latent := whole(text)) is not None:
                self.add(latent, setup.sae, "", ("", 0.0))
            else:
                self.services.say(
                    f"{setup.sae} has no scores, so its latents have no names: give a number, or score it."
                )
            return

        def take(found: list[latents.KnownLatent]) -> None:
            known = {str(one.latent): one for one in found}

            def chosen(latent: str) -> None:
                one = known[latent]
                self.add(one.latent, setup.sae, setup.neurons, (one.name, one.maximum))

            if len(found) == 1:
                chosen(str(found[0].latent))
            elif found:
                options = {n: f"{n:>6}  {one.name}" for n, one in known.items()}
                self.services.ask(Pick(f"Latents that {text} finds, the best first", options), chosen)
            else:
                self.services.say(f"No latent is called {text}: / in Neurons (3) searches while you type.")

        look_up(self, "search", partial(latents.search, setup.neurons, text), take, self.services.say)

    def look_names_up(self) -> None:
        """Names may have changed, scores may have come. Neither is a change of the setup that a person made."""
        setup = self._editor.setup
        if setup.neurons and setup.rack:
            find = partial(latents.describe, setup.neurons, [slot.latent for slot in setup.rack])
            # What was remembered of them will do.
            look_up(self, "names", find, self._rename, lambda _: None, unasked=True)

    def _rename(self, known: dict[int, tuple[str, float]]) -> None:
        setup = self._editor.setup
        rack = tuple(
            replace(slot, name=known[slot.latent][0], maximum=slot.maximum or max(known[slot.latent][1], 0.0))
            if slot.latent in known
            else slot
            for slot in setup.rack
        )
        self._editor.become(replace(setup, rack=rack))

    # Strengths

    def on_table_chosen(self, event: Table.Chosen) -> None:
        event.stop()
        slot = self.slot
        assert slot is not None
        question = Ask("Strength: 30 in raw units, or 2x its maximum", f"{slot.value:g}")
        self.services.ask(question, partial(self.set_strength, slot))

    def set_strength(self, slot: Slot, text: str) -> None:
        """To what was typed: raw units, or a multiple of the maximum like 2x."""
        number = typed(text.strip().removesuffix("x"), float)
        if number is None or abs(number) >= 1e9:
            self.services.say(f"{text!r} is no strength: write 30, or 2x for twice the maximum.")
            return
        slot = slot.at(number) if text.strip().endswith("x") else replace(slot, value=number)
        self._editor.change(self._editor.setup.with_latent(replace(slot, on=True)))

    def _slot_cells(self, row: int) -> tuple[str, ...]:
        slot = self.slots[row]
        width = self.columns[3].width
        ablated = self.mode == "ablate"
        if not slot.on:
            raw, of_max = "off", ""
        elif ablated:
            raw, of_max = "0", ""
        else:
            raw = "" if self.mode == "scale" else signed(slot.value, self.columns[4].width)
            of_max = times(slot.times, self.columns[5].width) if slot.maximum or self.mode == "scale" else ""
        bar = "─" * width if ablated else slider(slot.times, width, slot.on)
        return "▸" if row == self.cursor else "", str(slot.latent), slot.name, bar, raw, of_max


def slider(times: float, width: int, on: bool = True) -> str:
    """``width`` cells from ``LOW`` to ``HIGH``, or as far as ``times`` needs: a tick at 0, a knob at ``times``."""
    low, high = min(LOW, math.floor(times)), max(HIGH, math.ceil(times))
    line = ["─"] * width
    line[_place(0.0, low, high, width)] = "┼"
    line[_place(times, low, high, width)] = "●" if on else "○"
    return "".join(line)


def _place(times: float, low: float, high: float, width: int) -> int:
    return round((times - low) / (high - low) * (width - 1))


def _columns(width: int) -> tuple[Column, ...]:
    knob = max(min(width - 40, 40), 11)
    return (
        Column("", 1, "left"),
        Column("latent", 6),
        Column("name", 0, "left"),
        Column("strength", knob, "left"),
        Column("raw", 6),
        Column("x max", 5),
    )
