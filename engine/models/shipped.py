"""Where the files of the shipped models are."""

from __future__ import annotations

from pathlib import Path

from engine.errors import UserError
from engine.files import read_json
from engine.integrity import check_content

MODELS = ("clip", "llava", "encoder")


def assets() -> Path:
    """The folder of the shipped models: beside this file in an installed package, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "assets", here.parents[1] / "assets"):
        if all((folder / name / "config.json").is_file() for name in MODELS):
            return folder
    raise UserError(
        f"The demo's models are in neither {here / 'assets'} nor {here.parents[1] / 'assets'}: "
        "install saetui again, or build them with `python -m engine.demo.build`."
    )


SCORES = "scores.json"
"""What the build of the models measured and, by model, the hash of each of its ``files``."""


def shipped(name: str) -> Path:
    """The folder of one of ``MODELS``, whose files are as they were built."""
    folder = assets()
    for file, sha256 in read_json(folder / SCORES)[name]["files"].items():
        check_content(folder / name / file, sha256, "install saetui again")
    return folder / name
