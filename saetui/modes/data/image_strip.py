"""A row of an image source's pictures, which share the room that there is, each over its class."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from engine.errors import UserError, sentence_of
from engine.images.thumbnails import Thumbnails
from saetui.background import Wanted, look_up_each
from saetui.formatting import fit_ends, literal
from saetui.services import Served
from saetui.widgets.picture import Picture

WIDTH, MOST = 18, 8  # of a picture at least, where there is room; pictures


class PictureStrip(Served, Horizontal):
    """Shows a few of ``samples`` at a time; ``more`` goes on to the next ones, and round."""

    DEFAULT_CSS = """
    PictureStrip { height: auto; }
    PictureStrip Vertical { height: auto; margin-right: 1; }
    PictureStrip Picture { width: 100%; }
    PictureStrip Static { height: 1; color: $secondary; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._thumbnails: Thumbnails | None = None
        self._samples: list[tuple[str, str]] = []
        self._first = 0

    def compose(self) -> ComposeResult:
        for _ in range(MOST):
            with Vertical():
                yield Picture()
                yield Static(markup=False)

    def show(self, source: str, samples: Sequence[tuple[str, str]]) -> None:
        """``samples``: paths in ``source`` with their classes, to be shown from the first on."""
        if self._thumbnails is None or self._thumbnails.source != source:
            self._thumbnails = Thumbnails(source)
        self._samples, self._first = list(samples), 0
        self.display = bool(samples)
        self._fill()

    def more(self) -> None:
        if self._samples:
            self._first = (self._first + self._fitting) % len(self._samples)
            self._fill()

    def on_resize(self, event: events.Resize) -> None:
        self._fill()

    @property
    def _fitting(self) -> int:
        return max(min((self.size.width + 1) // (WIDTH + 1), MOST, len(self._samples)), 1)

    def _fill(self) -> None:
        ahead = self._samples[self._first :] + self._samples[: self._first]
        shown = ahead[: self._fitting]
        width = max((self.size.width + 1) // max(len(shown), 1) - 1, 1)
        width = min(width, 2 * WIDTH)  # a few pictures are not made larger than helps
        for place, box in enumerate(self.query(Vertical)):
            box.display = place < len(shown)
            if place < len(shown):
                path, label = shown[place]
                box.styles.width = width
                box.query_one(Picture).styles.height = max(round(width / self.services.cell_ratio), 1)
                words = fit_ends(literal(label.rpartition("/")[2] or path.rpartition("/")[2]), width)
                box.query_one(Static).update(Text(words, no_wrap=True))
        if self._thumbnails is not None:
            self._load(self._thumbnails, [path for path, _ in shown])

    def _load(self, thumbnails: Thumbnails, paths: list[str]) -> None:
        shown = [
            (picture, (thumbnails.source, path)) for picture, path in zip(self.query(Picture), paths, strict=False)
        ]
        missing = [(picture, key) for picture, key in shown if picture.key != key]

        def find(wanted: Wanted) -> Iterator[Callable[[], None]]:
            for picture, key in missing:
                if not wanted():
                    return
                try:
                    yield partial(picture.show, thumbnails.load(key[1]), key=key)
                except (UserError, OSError) as error:
                    yield partial(picture.failed, sentence_of(error))

        look_up_each(self, "strip", find, lambda draw: draw(), lambda sentence: None)
