"""Which scores a workspace opens with: the newest, but a control's only where there are no others."""

import os

import pytest

from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench


@pytest.fixture
def place(tmp_path):
    (tmp_path / MARKER).touch()
    return Workspace(tmp_path)


def scored(place: Workspace, name: str, age: int, **control: str) -> None:
    SAE(SAEConfig(arch="topk", d=4, w=8, k=2, **control)).save(place.sae(name))
    path = place.neurons(name, "pictures")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))


def test_the_newest_scores_of_what_is_no_control_are_opened(place):
    assert Workbench(place).first_scores() is None
    scored(place, "random", 2, directions="random")
    scored(place, "frozen", 3, frozen="decoder")
    assert Workbench(place).first_scores() == place.neurons("random", "pictures")
    scored(place, "older", 5)
    scored(place, "newer", 4)
    assert Workbench(place).first_scores() == place.neurons("newer", "pictures")


def test_scores_of_an_sae_that_is_gone_are_opened_as_others(place):
    scored(place, "here", 2)
    scored(place, "gone", 1)
    (place.sae("gone") / "config.json").unlink()
    assert Workbench(place).first_scores() == place.neurons("gone", "pictures")
