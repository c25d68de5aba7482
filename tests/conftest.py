import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network is wrong
os.environ.setdefault("PYTHONPATH", str(Path(__file__).parent.parent))  # workers of a checkout

from engine.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")
