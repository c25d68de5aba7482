"""One latent: what is known of it in words and numbers, and its top images."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from engine.neurons.results import ScoredImage, Summary
from saetui.formatting import count, literal, number, percent, significant
from saetui.widgets.gallery import Gallery, Tile

if TYPE_CHECKING:
    from saetui.scores import Scores

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#@"
AHEAD = 2  # latents whose pictures are drawn before they are asked for


class LatentView(Vertical):
    """``show`` a latent of open scores; pictures follow as they are drawn."""

    DEFAULT_CSS = """
    LatentView { padding: 0 1; }
    LatentView Static { height: 2; text-wrap: nowrap; text-overflow: ellipsis; }
    LatentView .head { height: 3; }
    LatentView .foot { color: $secondary; }
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.head, self.foot = (Static(classes=name, markup=False) for name in ("head", "foot"))
        self.gallery = Gallery()
        self._shown: tuple[Scores, int] | None = None

    def compose(self) -> Iterable[Widget]:
        yield from (self.head, self.gallery, self.foot)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_words())

    def show(self, scores: "Scores | None", latent: int = -1, ahead: Iterable[int] = (), pictures: int = 16) -> None:
        """``ahead``: latents that may be asked for next."""
        if scores is None or not 0 <= latent < scores.neurons.w:
            self.head.update("", layout=False)
            self.foot.update("", layout=False)
            self.gallery.show(())
            self._shown = None
            return
        self._shown = scores, latent
        self._show_words()
        coming = [tile for other in ahead for tile in tiles(scores, other, pictures)]
        self.gallery.show(tiles(scores, latent, pictures), coming)

    def on_resize(self) -> None:
        """What fits is another: a view that is just shown had no room at all."""
        self._show_foot()

    def _show_words(self) -> None:
        if self._shown is not None:
            self.head.update(self._head(*self._shown), layout=False)
        self._show_foot()

    def _show_foot(self) -> None:
        if self._shown is not None:
            self.foot.update(self._foot(*self._shown, self.size.width - 2), layout=False)

    def _head(self, scores: "Scores", latent: int) -> Text:
        neurons, labels, theme = scores.neurons, scores.labels, self.app.current_theme
        accent, quiet = theme.accent or "", theme.secondary or ""
        text = Text()
        text.append(f"{latent}", style=f"bold {accent}")
        text.append(f"  {literal(' · '.join(neurons.names_of(latent)[:4]) or 'no name')}", style="bold")
        if labels.marked(latent):
            text.append("  ★", style=accent)
        if label := labels.text(latent):
            text.append(f'  "{literal(label)}"', style=accent)
        ms, depth = float(neurons.ms[latent]), float(neurons.depth[latent])
        half = float(neurons.high[latent] - neurons.low[latent]) / 2
        first = [f"MS {number(ms)} ±{number(half)}", f"matched raw {number(float(neurons.matched[latent]))}"]
        baseline = neurons.summary.ms.baseline
        if ms == ms and baseline is not None and baseline > 0:
            first.append(f"lift {significant(ms / baseline, 2)}×")
        if depth == depth:
            first.append(f"depth {number(depth)}")
        share = percent(float(neurons.image_frequency[latent]), 1)
        rest = [
            _support(neurons.summary, int(neurons.support[latent]), share),
            f"effective {count(float(neurons.effective_support[latent]))}",
            f"group {neurons.group[latent]} of 0–{scores.groups - 1}",
        ]
        text.append("\n" + "   ".join(first) + "\n" + "   ".join(rest), style=quiet)
        return text

    def _foot(self, scores: "Scores", latent: int, width: int) -> Text:
        neurons = scores.neurons
        related = neurons.neighbours(latent)
        counts = neurons.histogram[latent]
        bars = ASCII_BARS if getattr(self.app, "ascii", False) else BARS
        first = f"activations {histogram(counts, bars)} 0 … {significant(float(neurons.maximum[latent]))}"
        path, share = neurons.path_of(latent)
        text = Text()
        where = f"taxonomy {literal('/'.join(path))} {percent(share)}" if path else ""
        if self.gallery.show_heat:
            from saetui.terminal.heat import legend

            text.append("heat ", style="bold")
            look = self.gallery.look
            text.append_text(legend(float(neurons.maximum[latent]), 24, look.ground, colours=not look.in_glyphs))
            text.append("   ")
        text.append(first)
        room = width - text.cell_len - 12
        if not neurons.knows_neighbours:  # an older version wrote the scores
            text.append(f"\nneighbours are not measured: score again   {where}")
            return text
        if room > 12:
            text.append("   fires with ", style="bold")
            text.append(scores.listed(related.cofiring, room))
        text.append("\nnear ", style="bold")
        text.append(scores.listed(related.near, width - 8 - len(where)))
        text.append(f"   {where}")
        return text


def tiles(scores: "Scores", latent: int, most: int) -> list[Tile]:
    """The top images of ``latent``, each with its patch map."""
    found = scores.neurons.top(latent)[:most]
    maximum = float(scores.neurons.maximum[latent]) or 1.0
    maps = cache(lambda: scores.neurons.maps(latent))  # one read for all pictures, and only for a heat map
    frames = cache(lambda: scores.neurons.frames(latent))
    return [
        Tile(
            key=(str(scores.path), scores.stamp, latent, place),
            caption=significant(one.activation),
            value=one.activation,
            name=called(scores.neurons.images[one.image]),
            load=partial(scores.thumbnails.load, one.path),
            heat=partial(_map, maps, place),
            heat_maximum=maximum,
            frame=partial(_frame, frames, place),
        )
        for place, one in enumerate(found)
    ]


def called(image: ScoredImage) -> str:
    """An image in a few words: the two deepest levels of its taxonomy (genus and species), its class, or its file."""
    return " ".join(image.taxonomy[-2:]) or image.label or image.path.rpartition("/")[2]


def _map(maps: Callable[[], Any], place: int) -> Any:
    found = maps()
    return None if found is None else found[place].astype("float32")


def _frame(frames: Callable[[], Any], place: int) -> Any:
    found = frames()
    return found[place] if found else None


def _support(summary: Summary, support: int, share: str) -> str:
    """On how much a latent fires; ``share``: of the images."""
    if summary.patches is None:
        return f"fires on {summary.in_units(support)}, {share}"
    return f"fires on {support:,} of {summary.in_units(summary.patches)}, {share} of images   frames: crops"


def histogram(counts: Any, bars: str = BARS) -> str:
    """Counts as one character each, the largest at full height; any count above 0 can be seen."""
    most = max(int(max(counts, default=0)), 1)
    return "".join(bars[-(-int(c) * (len(bars) - 1) // most)] for c in counts)
