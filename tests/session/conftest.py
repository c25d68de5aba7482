"""Sessions in real terminals: tmux and sshd are needed, and are all that a test here may be skipped for."""

import os
import shutil
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from engine.workspace import MARKER
from tests.support.shell import saetui
from tests.support.synthetic import write_synthetic
from tests.support.tmux import Terminal

NEEDED = {
    "test_terminal": ("tmux",),
    "test_idle": ("tmux",),
    "test_journey": ("tmux",),
    "test_over_ssh": ("tmux", "sshd", "ssh"),
}


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        lacking = [name for name in NEEDED.get(item.path.stem, ()) if which(name) is None]
        if lacking:
            item.add_marker(pytest.mark.skip(reason=f"{' and '.join(lacking)} not installed (tmux, openssh-server)"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with made-up scores of 512 latents and an SAE of random weights that the demo's model takes."""
    place = write_synthetic(tmp_path_factory.mktemp("drawn") / "study", 512, 120)
    (place / MARKER).write_text('vlm = "demo"\n')
    return place


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's workspace, made once for all workers."""
    ours = tmp_path_factory.getbasetemp()
    place = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "the-demo"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        flock(lock, LOCK_EX)
        if not (place / "made").exists():
            _make_demo(place)
            (place / "made").touch()
    return place / "saetui-demo"


def _make_demo(place: Path) -> None:
    # as the README has it, with all cores: with another number of threads another dictionary is learned
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    saetui("demo", "--headless", cwd=place, env=environment)


@pytest.fixture
def study(drawn: Path, tmp_path: Path) -> Path:
    """A copy of ``drawn`` that a test has for itself."""
    return Path(shutil.copytree(drawn, tmp_path / "study"))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with Terminal(tmp_path) as opened:
        yield opened
