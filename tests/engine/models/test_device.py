import pytest
import torch

from engine.errors import UserError
from engine.models.device import pick_device


def test_auto_is_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected and pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="choose auto"):
        pick_device(name)
