"""The rack: latents, each with a slider that keys move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from textual import events
from textual.message import Message

from saetui.bindings import key
from saetui.modes.steer.setup import BIG, STEP, Slot
from saetui.widgets.table import Column, Table

LOW, HIGH = -1.0, 4.0  # ends of a slider in multiples of the maximum, as long as the value lies between them


class Rack(Table):
    """Slots as rows. Every edit is shown at once and told as ``Edited``: the setup is its parent's."""

    BINDINGS = [
        key("rack.more", "right,l", f"turn({STEP})", "Stronger", show=True),
        key("rack.less", "left,h", f"turn({-STEP})", "Weaker", show=True),
        key("rack.much_more", "shift+right,L", f"turn({BIG})", "Much stronger", show=True),
        key("rack.much_less", "shift+left,H", f"turn({-BIG})", "Much weaker"),
        key("rack.type", "enter", "choose", "Type a strength"),
        key("rack.switch", "space", "switch", "On/off", show=True),
        key("rack.remove", "x,delete", "remove", "Remove"),
    ]

    @dataclass
    class Edited(Message):
        """The slots are others now. Edits of the same ``kind`` in a row are one."""

        slots: tuple[Slot, ...]
        kind: str

    def __init__(self, **options):
        super().__init__(_columns(80), self._slot_cells, **options)
        self.slots: tuple[Slot, ...] = ()
        self.mode = "clamp"

    @property
    def slot(self) -> Slot | None:
        """The one under the cursor."""
        return self.slots[self.cursor] if self.slots else None

    def take(self, slots: tuple[Slot, ...], mode: str, empty: str = "") -> None:
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
            self.post_message(self.Edited(left, ""))

    def _put(self, slot: Slot, kind: str) -> None:
        self.slots = (*self.slots[: self.cursor], slot, *self.slots[self.cursor + 1 :])
        self.refresh_row(self.cursor)
        self.post_message(self.Edited(self.slots, kind))

    def _slot_cells(self, row: int) -> tuple[str, ...]:
        slot = self.slots[row]
        width = self.columns[3].width
        ablated = self.mode == "ablate"
        if not slot.on:
            raw, times = "off", ""
        elif ablated:
            raw, times = "0", ""
        else:
            raw = "" if self.mode == "scale" else f"{slot.value:+.3g}" if abs(slot.value) < 1 else f"{slot.value:+.0f}"
            times = f"{slot.times:.1f}x" if slot.maximum or self.mode == "scale" else ""
        bar = "─" * width if ablated else slider(slot.times, width, slot.on)
        return "▸" if row == self.cursor else "", str(slot.latent), slot.name, bar, raw, times


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
