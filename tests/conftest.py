import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import tests.support.typechecker  # noqa: F401 - the hook looks it up by name
from tests.support.alone import turn

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network is wrong
os.environ.setdefault("PYTHONPATH", str(Path(__file__).parent.parent))  # workers of a checkout
CACHE = tempfile.TemporaryDirectory(prefix="saetui-cache-")
os.environ["XDG_CACHE_HOME"] = CACHE.name  # not that of whoever runs the tests

# Where arrays cross public borders, their shapes and types are checked at every call of every test.
CHECKED = ("activations", "demo", "images", "metrics", "models", "neurons", "steer")
CHECKED_SAE = (
    "architectures",
    "checkpoint",
    "encode",
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)
