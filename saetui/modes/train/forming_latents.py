"""The held-out images that fire a few latents most, while a training goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from textual.containers import Vertical
from textual.widget import Widget

from engine.errors import counted
from saetui.formatting import fit, number
from saetui.widgets.gallery import Gallery, Tile
from saetui.widgets.words import Words

if TYPE_CHECKING:
    from engine.images.thumbnails import Thumbnails
    from engine.sae.preview import FormingLatent, Preview, TopImage

TILES = 12  # pictures at most


class FormingLatents(Vertical):
    """A line and a gallery: ``each`` images of as many latents as there is room for, from the first one on."""

    DEFAULT_CSS = """
    FormingLatents Static { height: 1; color: $secondary; }
    FormingLatents .gallery--chosen { color: $secondary; text-style: none; }
    """
    each = 2

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.words, self.gallery = Words(), Gallery()
        self._first = 0
        self._shown: list[tuple[Any, str]] = []
        self._thumbnails: Thumbnails | None = None

    def compose(self) -> Iterable[Widget]:
        yield self.words
        yield self.gallery

    def restart(self) -> None:
        """Another training: begin with its first latent."""
        self._first = 0

    def turn(self, preview: Preview) -> None:
        """Begin after those that are shown."""
        self._first = (self._first + TILES // self.each) % len(preview.latents)

    def show(self, preview: Preview | None, training: str) -> None:
        """What ``preview`` has of ``training``; a picture that is shown already is not drawn again."""
        latents = preview.latents if preview else ()
        chosen = [*latents[self._first :], *latents[: self._first]][: TILES // self.each]
        tiles = [
            self._tile(preview, training, one, image) for one in chosen for image in one.images[: self.each] if preview
        ]
        shown = [(tile.key, tile.caption) for tile in tiles]
        if shown != self._shown:
            self._shown = shown
            self.gallery.show(tiles)
        if preview:
            forming = f"{counted(len(latents), 'latent')} forming"
            words = f"{forming}, step {preview.step:,}: the held-out images that fire each most"
            self.words.say(fit(words, max(self.screen.size.width - 2, 8)))

    def _tile(self, preview: Preview, training: str, latent: FormingLatent, image: TopImage) -> Tile:
        from engine.images.thumbnails import Thumbnails

        if self._thumbnails is None or self._thumbnails.source != preview.source:
            self._thumbnails = Thumbnails(preview.source)
        thumbnails = self._thumbnails
        # A picture is the same at every step; its heat map is not.
        heat = (training, preview.step, latent.latent) if self.gallery.show_heat else None
        return Tile(
            key=(preview.source, image.path, heat),
            caption=f"#{latent.latent}  {number(image.activation, 1)}",
            load=lambda: thumbnails.load(image.path),
            heat=lambda: image.map,
            heat_maximum=latent.images[0].activation or 1.0,
        )
