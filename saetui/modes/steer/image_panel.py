"""The image that is asked about, and the ways to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from textual.app import ComposeResult
from textual.containers import Vertical

from engine import artefacts
from engine.images import opening
from engine.images.opening import IN, is_plain
from engine.neurons import latents
from engine.steer.results import Fired
from saetui.background import look_up
from saetui.formatting import significant
from saetui.modes.steer.setup import SetupEditor, Slot
from saetui.modes.steer.token_painter import TokenPainter
from saetui.services import Served
from saetui.terminal.dropped_files import dropped_path
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.picture import Picture
from saetui.widgets.sharp_picture import SharpPicture
from saetui.widgets.words import Words

COLOURS = ("blank", "blank:black", "blank:grey", "blank:red", "blank:green", "blank:blue", "blank:yellow")


class ImagePanel(Served, Vertical):
    """The picture over its caption. Whatever is chosen here changes the setup."""

    DEFAULT_CSS = """
    ImagePanel { width: 32; }
    ImagePanel #picture { width: 1fr; height: 1fr; }
    ImagePanel #caption { height: 1; padding: 0 1; color: $secondary; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, editor: SetupEditor, **options: Any):
        super().__init__(**options)
        self._editor = editor
        self._caption = Words(id="caption")
        self._called = ""
        self._fired: Fired | None = None
        self._listed: dict[str, list[str]] = {}
        self._picture: Picture | SharpPicture

    @property
    def image(self) -> str:
        return self._editor.setup.image

    def compose(self) -> ComposeResult:
        drawn_by = self.services.graphics
        self._picture = SharpPicture(drawn_by, id="picture") if drawn_by else Picture(id="picture")
        yield self._picture
        yield self._caption

    def load(self) -> None:
        """Draw the image of the setup."""
        image = self.image

        def take(found: tuple[Any, str]) -> None:
            pixels, self._called = found
            self._picture.show(pixels, key=image)
            self.lay()

        def fail(sentence: str) -> None:
            self._picture.failed(sentence)
            self._called = ""
            self.lay()

        self._fired = None  # that was another image

        look_up(self, "picture", partial(opening.picture, image), take, fail)

    # Where the latents of the rack fire

    def take_fired(self, fired: Fired) -> None:
        self._fired = fired
        self.lay()

    def switch_fire(self) -> None:
        self.services.remember("steer", fire=not self._shows_fire)
        self.lay()

    @property
    def _shows_fire(self) -> bool:
        return self.services.session.recall("steer", "fire", True)

    def lay(self) -> None:
        """Lay over the picture how near to its maximum the latent of the rack that is nearest to its own fires."""
        maps = dict(self._fired.maps) if self._fired and self._shows_fire else {}
        slots = [slot for slot in self._editor.setup.rack if slot.on and slot.latent in maps]
        peaks = [max(maps[slot.latent]) for slot in slots]
        if not self._fired or not any(peak > 0 for peak in peaks):
            self._picture.show_heat(None)
            self._caption.say(f"{self._called} · none fire" if slots else self._called)
            return
        shares = np.array([maps[slot.latent] for slot in slots]) / [[slot.unit] for slot in slots]
        self._picture.show_heat(shares.max(axis=0).reshape(self._fired.grid))
        slot, peak = max(zip(slots, peaks, strict=True), key=lambda one: one[1] / one[0].unit)
        self._caption.say(f"{slot.latent} peak {significant(peak)} · {self._called}")

    # The patches that are steered

    def paint_tokens(self, ask: Callable[[], None]) -> None:
        """Paint them on the picture; ``ask`` for them where no grid of patches is known."""
        image, neurons, fired = self.image, self._editor.setup.neurons, self._fired

        def read() -> tuple[Any, tuple[int, int] | None]:
            grid = fired.grid if fired else latents.grid(neurons) if neurons else None
            return opening.picture(image)[0], grid

        def take(found: tuple[Any, tuple[int, int] | None]) -> None:
            pixels, grid = found
            if grid is None:
                ask()
            else:
                self.services.ask(TokenPainter(pixels, grid, self._editor.setup.tokens), given)

        def given(tokens: str) -> None:
            self._editor.change(replace(self._editor.setup, tokens=tokens))

        look_up(self, "tokens", read, take, self.services.say)

    # Other images

    def choose(self, image: str) -> None:
        """Take ``image`` if it can be read."""
        look_up(self, "choose", partial(opening.picture, image), lambda _: self._take(image), self.services.say)

    def open(self, text: str) -> None:
        """Take the file that was typed or dropped, or a plain colour."""
        self.services.guard(lambda: self.choose(self.services.check_image(text)))

    def ask_file(self) -> None:
        known = {colour: "a plain colour" for colour in COLOURS}
        question = "Image file (or drop one here), blank, or blank:COLOUR"
        self.services.ask(Ask(question, known=known, check=self.services.check_image), self.open)

    def next_colour(self) -> None:
        here = COLOURS.index(self.image) if self.image in COLOURS else -1
        self._take(COLOURS[(here + 1) % len(COLOURS)])

    def step(self, by: int) -> None:
        """To another image of the same source, else of the workspace's first."""
        image = self.image
        source = "" if is_plain(image) or IN not in image else image.rpartition(IN)[0]

        def take(images: list[str]) -> None:
            place = images.index(image) + by if image in images else 0 if by > 0 else -1
            self._listed[source] = images
            self._take(images[place % len(images)])

        if source in self._listed:
            take(self._listed[source])
            return
        neurons, workspace = self._editor.setup.neurons, self.services.workspace

        def find() -> list[str]:
            return opening.listing(source or artefacts.first_source(workspace, neurons))

        look_up(self, "listing", find, take, self.services.say)

    def open_source(self, source: str) -> None:
        """Take the first image of ``source``."""
        path = dropped_path(source, self.services.base)
        self._take_first(str(path.absolute()) if path else source)

    def pick_source(self) -> None:
        def take(sources: list[str]) -> None:
            options = {source: source for source in sources}
            if options:
                self.services.ask(Pick("Images of", options, self.image.rpartition(IN)[0]), self._take_first)
            else:
                self.services.say("This workspace has no images of its own: o opens a file, :source takes a folder.")

        find = partial(artefacts.sources, self.services.workspace, self._editor.setup.neurons)
        look_up(self, "sources", find, take, self.services.say)

    def next_top(self, slot: Slot | None) -> None:
        """To the next of the images on which the latent of ``slot`` fires most."""
        neurons = self._editor.setup.neurons
        if slot is None or not neurons:
            self.services.say("Top images are those of a latent in the rack that has scores: a adds a latent.")
            return

        def take(images: list[str]) -> None:
            if not images:
                self.services.say(f"Latent {slot.latent} fired on no image.")
                return
            place = images.index(self.image) + 1 if self.image in images else 0
            self._take(images[place % len(images)])

        look_up(self, "top", partial(latents.top_images, neurons, slot.latent), take, self.services.say)

    def _take_first(self, source: str) -> None:
        find = partial(opening.listing, source)
        look_up(self, "listing", find, lambda images: self._take(images[0]), self.services.say)

    def _take(self, image: str) -> None:
        self._editor.change(replace(self._editor.setup, image=image))
