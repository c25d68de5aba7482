"""The README's pictures and its table of keys, made from the workbench itself.

``python tests/pictures.py [WORKSPACE]`` opens a demo workspace (made by ``saetui demo --headless`` when none is given),
presses keys in every mode, asks the demo's model, and writes ``assets/pictures/MODE.svg``; with chromium it also writes
``assets/pictures/report.png``, a report as a browser shows it. ``assets/pictures/ms.svg`` is a figure for a paper. Then
it writes the keys into README.md, between their markers.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from textual.binding import Binding  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from engine.config import FigureSettings, ReportSettings  # noqa: E402
from engine.report.figures.figure import draw_figure  # noqa: E402
from engine.report.report import report  # noqa: E402
from engine.workspace import Workspace  # noqa: E402
from saetui.app import Workbench  # noqa: E402
from saetui.modes.forms import AskingForm  # noqa: E402
from saetui.modes.hierarchy.screen import HierarchyMode  # noqa: E402
from saetui.modes.mode import Mode  # noqa: E402
from saetui.modes.neurons.screen import NeuronsMode  # noqa: E402
from saetui.modes.steer.rack import Rack  # noqa: E402
from saetui.modes.steer.screen import SteerMode  # noqa: E402
from saetui.modes.train.screen import TrainMode  # noqa: E402
from saetui.widgets.form import Form  # noqa: E402
from saetui.widgets.runs_drawer import RunsDrawer  # noqa: E402
from saetui.widgets.table import Table  # noqa: E402
from saetui.widgets.tree_table import TreeTable  # noqa: E402
from tests.support.browser import browser, browser_path  # noqa: E402
from tests.support.pilots import until  # noqa: E402

PICTURES, README = ROOT / "assets" / "pictures", ROOT / "README.md"
BEGIN, END = "<!-- keys: python tests/pictures.py -->", "<!-- end of keys -->"
SIZE = (120, 34)
CELL, LINE = 9.6, 20  # pixels of a character
DRAWN = "▀─━│┊\u2800-\u28ff"  # characters that are drawn as shapes
M = TypeVar("M", bound=Mode)
Box = tuple[float, float, float, float, str]  # left, top, width, height, colour


async def neurons(pilot: Pilot[Any]) -> None:
    screen = _shown(pilot, NeuronsMode)
    await until(pilot, lambda: screen.scores)
    await pilot.press("slash", *"cup", "enter", "minus")  # fewer pictures, whose captions can be read
    gallery = screen.view.gallery
    await until(pilot, lambda: gallery._next is None and gallery._drawn(gallery.tiles))


async def train(pilot: Pilot[Any]) -> None:
    screen = _shown(pilot, TrainMode)
    await until(pilot, lambda: screen.trainings.rows)
    await until(pilot, lambda: not screen.gallery.tiles or screen.gallery._drawn(screen.gallery.tiles))


async def steer(pilot: Pilot[Any]) -> None:
    """The latent called cup at twice its maximum, on a blank image."""
    screen = _shown(pilot, SteerMode)
    await pilot.press("a", *"cup", "enter")
    await until(pilot, lambda: len(pilot.app.screen_stack) > 1 or screen.setup.rack)
    await pilot.press("enter", "L")
    await until(pilot, lambda: screen.answers.texts.get("steered") and not screen.conversation.answering, 120)
    await pilot.press("d")
    await until(pilot, lambda: screen.dose.points and not screen.conversation.sweeping, 300)
    await pilot.press(*"jjjjjjjj")  # to twice the maximum


async def data(pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: pilot.app.screen.query_one("#stores", Table).rows)
    await pilot.pause(1)


async def hierarchy(pilot: Pilot[Any]) -> None:
    screen = _shown(pilot, HierarchyMode)
    await until(pilot, lambda: screen.trees)
    await pilot.pause(0.5)


def _shown(pilot: Pilot[Any], mode: type[M]) -> M:
    screen = pilot.app.screen
    assert isinstance(screen, mode)
    return screen


MODES: dict[str, Callable[[Pilot[Any]], Awaitable[None]]] = {
    "neurons": neurons,
    "train": train,
    "steer": steer,
    "data": data,
    "hierarchy": hierarchy,
}


def svg(app: Workbench) -> str:
    """The screen as a picture: a rectangle for each run of one background, text where there is any."""
    columns, rows = app.size
    grounds: list[Box] = []
    shapes: list[Box] = []
    words: list[str] = []
    width, height = columns * CELL, rows * LINE
    for row, strip in enumerate(app.screen._compositor.render_strips()):
        column = 0
        for text, style, _ in strip:
            text, long = text.replace(f"{app.workspace.root}/", ""), len(text)  # of no particular machine
            ink, ground = _colours(style, app)
            x, y, wide = column * CELL, row * LINE, long * CELL
            grounds.append((x, y, wide, LINE, ground))
            words += _drawn(text, column, y, ink, bool(style and style.bold), shapes)
            column += long
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" font-size="16"',
            ' font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" shape-rendering="crispEdges"',
            ' xml:space="preserve">',
            *_rectangles(grounds),
            *_rectangles(shapes),
            *words,
            "</svg>\n",
        ]
    )


def _colours(style: Any, app: Workbench) -> tuple[str, str]:
    theme = app.current_theme
    ink, ground = theme.foreground or "", theme.background or ""
    if style is not None:
        ink = style.color.get_truecolor().hex if style.color else ink
        ground = style.bgcolor.get_truecolor(foreground=False).hex if style.bgcolor else ground
        if style.reverse:
            ink, ground = ground, ink
    return ink, ground


def _drawn(text: str, column: int, y: float, ink: str, bold: bool, boxes: list[Box]) -> list[str]:
    """Words as text, each at its place; what fonts do not draw from edge to edge as rectangles."""
    for place, character in enumerate(text, column):
        boxes += [(place * CELL + x, y + above, w, h, ink) for x, above, w, h in _shapes(character)]
    found = []
    for match in re.finditer(rf"[^\s{DRAWN}]+(?: [^\s{DRAWN}]+)*", text):
        x, length = (column + match.start()) * CELL, len(match[0]) * CELL
        weight = ' font-weight="bold"' if bold else ""
        place = f'x="{x:.4g}" y="{y + 15:g}" textLength="{length:.4g}"'
        found.append(f'<text {place} fill="{ink}"{weight}>{_escaped(match[0])}</text>')
    return found


def _shapes(character: str) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height of the parts of a half block, a line, or a braille character."""
    if character == "▀":
        return [(0, 0, CELL, LINE / 2)]
    if character in "─━":
        return [(0, LINE / 2, CELL, 1 if character == "─" else 2)]
    if character in "│┊":
        return [(CELL / 2, 0, 1, LINE)]
    if "\u2800" < character <= "\u28ff":  # dots 1 to 8 are bits 0 to 7 (Unicode 3.0)
        dots = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
        lit = [dot for bit, dot in enumerate(dots) if ord(character) >> bit & 1]
        return [(1.5 + 4.8 * x, 1.5 + 5 * y, 2, 2) for x, y in lit]
    return []


def _rectangles(boxes: list[Box]) -> list[str]:
    """One path a colour; neighbours of one colour in a line are one rectangle. Edges are absolute: an edge that two
    rectangles share has one place then, and no line of the page shows between them."""
    by_colour: dict[str, list[list[float]]] = {}
    for x, y, wide, high, colour in boxes:
        same = by_colour.setdefault(colour, [])
        if same and same[-1][1] == y and same[-1][3] == high and abs(same[-1][0] + same[-1][2] - x) < 1e-6:
            same[-1][2] += wide
        else:
            same.append([x, y, wide, high])
    paths = {
        colour: "".join(f"M{x:.5g} {y:g}H{x + wide:.5g}V{y + high:g}H{x:.5g}z" for x, y, wide, high in same)
        for colour, same in by_colour.items()
    }
    return [f'<path fill="{colour}" d="{path}"/>' for colour, path in paths.items()]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def draw(place: Workspace, only: list[str], into: Path = PICTURES, size: tuple[int, int] = SIZE) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for mode in only:
        app = Workbench(place, mode=mode)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await MODES[mode](pilot)
            app.clear_notifications()
            await pilot.pause(0.5)
            (into / f"{mode}.svg").write_text(svg(app), encoding="utf-8")


def draw_report(place: Workspace, profile: Path, into: Path = PICTURES) -> None:
    """The gallery of a report, and what is told of a number."""
    asked = ReportSettings(sae="demo", filter="group=0 NOT class=*blank*", out=str(profile / "report.html"))
    path = Path(report(asked, place).path)
    with browser(profile / "browser") as page:
        page.look(1280, 860)
        page.open(path)
        page.run("document.documentElement.style.scrollBehavior = 'auto'")
        page.run("document.querySelector('.card').focus(); document.getElementById('latents').scrollIntoView()")
        page.until("[...document.querySelectorAll('.picture img')].filter(one => one.complete).length >= 48")
        page.press("ArrowRight")
        page.run("document.getElementById('latents').scrollIntoView()")
        page.screenshot(into / "report.png")


def draw_ms(place: Workspace, into: Path = PICTURES) -> None:
    """The figure of MS."""
    draw_figure(FigureSettings(kind="ms", sae=("demo",), out=str(into / "ms.svg"), replace=True), place)


def key_table() -> str:
    """The keys as the README lists them: those of all modes and of each, of the list of runs and of forms."""
    lines = ["| where | keys |", "|---|---|"]
    shared = (("everywhere", Workbench), ("in every mode", Mode), ("in tables", Table), ("in trees", TreeTable))
    for title, owner in (
        *shared,
        *_modes(),
        ("the jobs (`J`)", RunsDrawer),
        ("forms", Form),
        ("forms that ask", AskingForm),
    ):
        bindings = [b for b in vars(owner)["BINDINGS"] if isinstance(b, Binding)]
        lines.append(f"| {title} | {' · '.join(f'{_keys(b)} {_lower(b.description)}' for b in bindings)} |")
    return "\n".join(lines)


def _modes() -> list[tuple[str, type]]:
    modes = Workbench.MODES
    found: list[tuple[str, Any]] = [(mode.capitalize(), modes[mode]) for mode in ("data", "train", "neurons", "steer")]
    assert found[-1][1] is SteerMode
    return [*found, ("Steer's rack", Rack), ("Hierarchy", modes["hierarchy"])]


def _keys(binding: Binding) -> str:
    shown = {"question_mark": "?", "colon": ":", "slash": "/", "asterisk": "*", "plus": "+", "minus": "-"}
    shown |= {"left_square_bracket": "[", "right_square_bracket": "]", "equals_sign": "=", "escape": "esc"}
    shown |= {"greater_than_sign": ">", "less_than_sign": "<"}
    return " ".join(f"`{shown.get(key, key)}`" for key in binding.key.split(","))


def _lower(words: str) -> str:
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


def with_keys(text: str) -> str:
    """The README with the table of keys as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{key_table()}\n{END}{after}"


def main() -> None:
    given = [argument for argument in sys.argv[1:] if argument not in MODES]
    only = [mode for mode in MODES if mode in sys.argv[1:] or len(sys.argv) - 1 == len(given)]
    with tempfile.TemporaryDirectory() as state:
        os.environ.update(XDG_STATE_HOME=state, XDG_CONFIG_HOME=state)
        folder = Path(given[0]).resolve() if given else Path(state) / "saetui-demo"
        if not given:
            command = [sys.executable, "-m", "saetui", "demo", "--headless", "--workspace", str(folder)]
            subprocess.run(command, check=True, cwd=ROOT)
        asyncio.run(draw(Workspace(folder), only))
        draw_ms(Workspace(folder))
        if browser_path():
            draw_report(Workspace(folder), Path(state))
        else:
            print("There is no chromium here: report.png stays as it is.")
    README.write_text(with_keys(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
