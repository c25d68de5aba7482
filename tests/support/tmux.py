"""A real terminal without a window: a tmux server with its own socket, and a shell in it."""

import contextlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

CHECKOUT = str(Path(__file__).parents[2])
SAETUI = f"{shlex.quote(sys.executable)} -m saetui"
POLL = 0.01  # seconds between reads of the screen
FLAGS = ("mouse_any_flag", "cursor_flag", "alternate_on", "keypad_flag")
AT_REST = dict(zip(FLAGS, "0100", strict=True))  # as in a shell
_number = itertools.count()


class Terminal:
    """A terminal of ``columns`` x ``rows`` with a shell at its prompt; ``environment`` adds to ``environment_of``."""

    def __init__(self, folder: Path, columns: int = 120, rows: int = 40, **environment: str):
        self.socket = f"saetui-test-{os.getpid()}-{next(_number)}"
        self.output = folder / f"{self.socket}.bytes"
        _without_preload(folder / "config" / "saetui" / "config.toml")
        shell = ["env", "-i", *_pairs(environment_of(folder) | environment), "bash", "--norc", "--noprofile"]
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", columns, "-y", rows, shlex.join(shell))
        self.tmux("set", "-g", "status", "off")
        self.tmux("set", "-g", "escape-time", "0")
        self.tmux("pipe-pane", "-O", f"cat > {shlex.quote(str(self.output))}")
        self.until("$")

    def tmux(self, *arguments: object) -> str:
        command = ["tmux", "-L", self.socket, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, timeout=20)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press ``keys`` by tmux's names: ``j``, ``Enter``, ``Escape``, ``C-z``."""
        self.tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        """Run ``command`` in the shell."""
        self.type(command)
        self.press("Enter")

    def exit_code(self, command: str) -> int:
        """Run ``command`` to its end; its own end, whatever stands on the screen from one before."""
        mark = next(_number)
        self.run(f"{command}; echo $? of run $(({mark}))")  # what is typed does not look like what is printed
        ended = re.compile(rf"^(\d+) of run {mark}$", re.MULTILINE)
        self.until(ended.search)
        (code,) = ended.findall(self.screen)
        return int(code)

    def resize(self, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-x", columns, "-y", rows)

    @property
    def screen(self) -> str:
        """The text on the screen."""
        return self.tmux("capture-pane", "-p")

    @property
    def painted(self) -> str:
        """The text on the screen with its colours, as far as they are seen."""
        return _seen(self.tmux("capture-pane", "-epN"))

    @property
    def modes(self) -> dict[str, str]:
        """The terminal's modes: mouse reports, cursor, alternate screen, keypad."""
        values = self.tmux("display-message", "-p", " ".join(f"#{{{flag}}}" for flag in FLAGS)).split()
        return dict(zip(FLAGS, values, strict=True))

    @property
    def written(self) -> bytes:
        """All bytes that programs have written."""
        return self.output.read_bytes()

    def until(self, holds: str | Callable[[str], object], patience: float = 20.0) -> float:
        """Wait until the screen contains the text ``holds``, or ``holds(screen)``; returns the seconds that it took."""
        begun = time.perf_counter()
        while True:
            screen = self.screen
            if holds in screen if isinstance(holds, str) else holds(screen):
                return time.perf_counter() - begun
            assert time.perf_counter() - begun < patience, f"no {holds!r} on\n{screen}"
            time.sleep(POLL)

    def settle(self, quiet: float = 0.3, part: Callable[[str], str] = str) -> str:
        """Wait until ``part`` of the painted screen has not changed for ``quiet`` seconds; returns that part."""
        painted, since = part(self.painted), time.perf_counter()
        while time.perf_counter() - since < quiet:
            time.sleep(POLL)
            if (now := part(self.painted)) != painted:
                painted, since = now, time.perf_counter()
        return painted


def environment_of(folder: Path) -> dict[str, str]:
    """The variables of a workbench that keeps its state and settings in ``folder``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    return kept | {
        "PYTHONPATH": CHECKOUT,
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PS1": "$ ",
    }


def _without_preload(settings: Path) -> None:
    """No model is loaded beside what a test measures and counts, unless its settings ask for it."""
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("preload = false\n")


_SGR = re.compile(r"\x1b\[([\d;:]*)m")
_TURNED = dict(zip("▄▐▞▟▙▜▛", "▀▌▚▘▝▖▗", strict=True))  # the same with its two colours exchanged


def _seen(captured: str) -> str:
    """Each cell with what is seen of its paint. The ink of a blank is not, and a block may be turned over.

    Blanks at the end of a line are left out: tmux shows those that were erased in a colour, but does not capture them.
    """
    ink = ground = rest = ""
    cells: list[str] = []
    for place, part in enumerate(_SGR.split(captured)):
        if place % 2 == 0:
            for character in part:
                if character == "\n":
                    while cells and cells[-1].startswith(" ") and cells[-1].endswith("|"):
                        cells.pop()
                    cells.append(character)
                    continue
                seen = ("" if character == " " else ink, ground, rest)
                if character in _TURNED and ink[:2] == "38" and ground[:2] == "48":
                    character, seen = _TURNED[character], (f"3{ground[1:]}", f"4{ink[1:]}", rest)
                cells.append(f"{character}{'|'.join(seen)}")
            continue
        for code in re.findall(r"[34]8[;:]5[;:]\d+|[34]8[;:]2[;:]+\d+[;:]\d+[;:]\d+|\d+", part or "0"):
            first = int(re.split("[;:]", code)[0])
            if first == 0:
                ink = ground = rest = ""
            elif first in (39, 49):
                ink, ground = ("", ground) if first == 39 else (ink, "")
            elif first in range(30, 39) or first in range(90, 98):
                ink = code
            elif first in range(40, 49) or first in range(100, 108):
                ground = code
            else:
                rest += f" {code}"
    return "".join(cells)


def _pairs(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def processes(command: str, place: Path, program: str = "python") -> list[int]:
    """Processes of ``program`` whose command line contains ``command`` and ``place``, by process id."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if command in line and str(place) in line and program in os.path.basename(os.readlink(process / "exe")):
                found.append(int(process.name))
    return sorted(found)


def interface(place: Path) -> int:
    """The process id of the only workbench on the workspace ``place``."""
    (pid,) = processes("-m saetui", place)
    return pid


def alive(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def non_ascii(data: bytes) -> list[str]:
    return re.findall(r"[^\x00-\x7f]", data.decode(errors="replace"))
