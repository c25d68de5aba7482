"""One latent: what is known of it in words and numbers, and its top images."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from saetui.formatting import literal, number, percent
from saetui.widgets.gallery import Gallery, Tile

if TYPE_CHECKING:
    from saetui.scores import Scores

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#@"
AHEAD = 2  # latents whose pictures are drawn before they are wished for


class LatentView(Vertical):
    """``show`` a latent of open results; pictures follow as they are drawn."""

    DEFAULT_CSS = """
    LatentView { padding: 0 1; }
    LatentView Static { height: 2; text-wrap: nowrap; text-overflow: ellipsis; }
    LatentView .head { height: 3; }
    LatentView .foot { color: $secondary; }
    """

    def compose(self) -> Iterable[Widget]:
        yield Static(classes="head", markup=False)
        yield Gallery()
        yield Static(classes="foot", markup=False)

    @property
    def gallery(self) -> Gallery:
        return self.query_one(Gallery)

    def show(self, results: "Scores | None", latent: int = -1, ahead: Iterable[int] = (), pictures: int = 16) -> None:
        """``ahead``: latents that may be wished for next."""
        head, foot = self.query_one(".head", Static), self.query_one(".foot", Static)
        if results is None or not 0 <= latent < results.neurons.w:
            head.update("", layout=False)
            foot.update("", layout=False)
            self.gallery.show(())
            return
        width = self.size.width - 2
        head.update(self._head(results, latent), layout=False)
        foot.update(self._foot(results, latent, width), layout=False)
        coming = [tile for other in ahead for tile in tiles(results, other, pictures)]
        self.gallery.show(tiles(results, latent, pictures), coming)

    def _head(self, results: "Scores", latent: int) -> Text:
        neurons, labels, theme = results.neurons, results.labels, self.app.current_theme
        accent, quiet = theme.accent or "", theme.secondary or ""
        text = Text()
        text.append(f"{latent}", style=f"bold {accent}")
        text.append(f"  {literal(' · '.join(neurons.names_of(latent)[:4]) or 'no name')}", style="bold")
        if labels.marked(latent):
            text.append("  ★", style=accent)
        if label := labels.text(latent):
            text.append(f'  "{literal(label)}"', style=accent)
        row = neurons.row(latent)
        half = None if row["low"] is None else (row["high"] - row["low"]) / 2
        scores = [f"MS {number(row['ms'])} ±{number(half)}", f"matched raw {number(row['matched'])}"]
        baseline = neurons.summary["ms"].get("baseline")
        if row["ms"] is not None and baseline and baseline > 0:
            scores.append(f"lift {row['ms'] / baseline:.0f}×")
        if row["depth"] is not None:
            scores.append(f"depth {row['depth']:.2f}")
        rest = [
            f"fires on {row['support']:,} images, {percent(row['frequency'], 1)}",
            f"effective {row['effective_support'] or 0:,.0f}",
            f"group {row['group'] + 1}/{results.groups}",
        ]
        text.append("\n" + "   ".join(scores) + "\n" + "   ".join(rest), style=quiet)
        return text

    def _foot(self, results: "Scores", latent: int, width: int) -> Text:
        neurons = results.neurons
        near = neurons.neighbours(latent)
        counts = neurons.histogram[latent]
        bars = ASCII_BARS if getattr(self.app, "ascii", False) else BARS
        first = f"activations {histogram(counts, bars)} 0 … {neurons.maximum[latent]:.3g}"
        path, share = neurons.path_of(latent)
        text = Text()
        where = f"taxonomy {literal('/'.join(path))} {percent(share)}" if path else ""
        if self.gallery.show_heat:
            from saetui.terminal.heat import legend

            text.append("heat ", style="bold")
            text.append_text(
                legend(float(neurons.maximum[latent]), 24, colours=self.gallery.look.colours == "truecolor")
            )
            text.append("   ")
        text.append(first)
        room = width - text.cell_len - 12
        if room > 12:
            text.append("   fires with ", style="bold")
            text.append(results.listed(near["cofiring"], room))
        text.append("\nnear ", style="bold")
        text.append(results.listed(near["near"], width - 8 - len(where)))
        text.append(f"   {where}")
        return text


def tiles(results: "Scores", latent: int, most: int) -> list[Tile]:
    """The top images of ``latent``, each with its patch map."""
    found = results.neurons.top(latent)[:most]
    maximum = float(results.neurons.maximum[latent]) or 1.0
    maps = cache(lambda: results.neurons.maps(latent))  # one read for all pictures, and only for a heat map
    return [
        Tile(
            key=(str(results.path), results.stamp, latent, place),
            caption=f"{one['activation']:.3g} {called(results.neurons.images[one['image']])}",
            load=partial(results.thumbnails.load, one["path"]),
            heat=partial(_map, maps, place),
            heat_maximum=maximum,
        )
        for place, one in enumerate(found)
    ]


def called(image: dict[str, Any]) -> str:
    """An image in a few words: the two deepest levels of its taxonomy (genus and species), its class, or its file."""
    return " ".join(image["taxonomy"][-2:]) or image["label"] or image["path"].rpartition("/")[2]


def _map(maps: Callable[[], Any], place: int) -> Any:
    found = maps()
    return None if found is None else found[place].astype("float32")


def histogram(counts: Any, bars: str = BARS) -> str:
    """Counts as one character each, the largest at full height; any count above 0 can be seen."""
    most = max(int(max(counts, default=0)), 1)
    return "".join(bars[-(-int(c) * (len(bars) - 1) // most)] for c in counts)
