import contextlib
import os
import runpy
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

import tests.support.typechecker  # noqa: F401 - the hook looks it up by name
from tests.support.alone import turn

for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # so shells and nohup start what is in the background
    if signal.getsignal(ignored) is signal.SIG_IGN:  # tests send them
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)
# Tests run at once, and small matrices gain nothing by threads that wait for each other. And sums split among another
# number of threads end in other last bits: all that compare bytes have the same.
os.environ["OMP_NUM_THREADS"] = "1"
for screen in ("COLUMNS", "LINES"):  # which readline, that pytest loads, gives to all processes that are started here
    os.environ.pop(screen, None)
    os.unsetenv(screen)
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network is wrong
os.environ.setdefault("PYTHONPATH", str(Path(__file__).parent.parent))  # workers of a checkout
hypothesis.settings.register_profile("untimed", deadline=None)  # an example takes as long as the machine is busy
hypothesis.settings.load_profile("untimed")
CACHE = tempfile.TemporaryDirectory(prefix="saetui-cache-")
os.environ["XDG_CACHE_HOME"] = CACHE.name  # not that of whoever runs the tests

# Where arrays cross public borders, their shapes and types are checked at every call of every test.
CHECKED = ("activations", "demo", "images", "metrics", "models", "neurons", "report", "steer")
CHECKED_SAE = (
    "architectures",
    "checkpoint",
    "convert",
    "encode",
    "exchange",
    "fidelity",
    "held_out",
    "model",
    "sparse_codes",
    "train",
    "training_sae",
)
CHECKED_SAETUI = ("terminal", "widgets.picture")
install_import_hook(
    [
        *(f"engine.{name}" for name in CHECKED),
        *(f"engine.sae.{name}" for name in CHECKED_SAE),
        *(f"saetui.{name}" for name in CHECKED_SAETUI),
    ],
    "tests.support.typechecker.check",
)

from engine.workspace import Workspace  # noqa: E402


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write tests/saetui/snapshots anew")
    parser.addoption("--without-locks", action="store_true", help="as on a file system whose flock answers ENOLCK")


WITHIN = "PYTEST_CURRENT_TEST" in os.environ
"""These tests are run by a test, which has the machine for them already."""


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-locks"):
        refusing = Path(__file__).parent / "support" / "without_locks"
        os.environ["PYTHONPATH"] = os.pathsep.join([str(refusing), os.environ["PYTHONPATH"]])  # workers too
        runpy.run_path(str(refusing / "sitecustomize.py"))


def having_the_machine(alone: bool = False) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if WITHIN else turn(alone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with having_the_machine():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with having_the_machine(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    with having_the_machine():
        return (yield)
