"""Where the files of the shipped models are."""

from __future__ import annotations

from pathlib import Path

from engine.errors import UserError

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
