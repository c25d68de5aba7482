"""Where an interrupted training stands, as its checkpoint says. Costs no torch."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.errors import UserError
from engine.files import check_version
from engine.sae.config import CHECKPOINTS

VERSION = 1


def checkpoint_path(folder: Path) -> Path:
    """Where the newest checkpoint of the SAE in ``folder`` is. Older ones are not kept: each is three times an SAE."""
    return folder / CHECKPOINTS / "newest.safetensors"


def read_state(folder: Path) -> dict[str, Any] | None:
    """The ``state`` of the checkpoint in ``folder``; None if there is no checkpoint, UserError if it is damaged."""
    path = checkpoint_path(folder)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            state = json.loads(file.metadata()["note"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    check_version(state.get("version"), VERSION, path)
    return state


def damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"The checkpoint {path} is damaged ({error}): remove it to train from the start.")
