"""What the model is asked for. Costs no torch."""

import importlib
import re

from engine.config import SteerabilitySettings
from engine.errors import UserError, reason
from engine.files import path_of, read_text

ONE_WORD = "What is shown in this image? Use exactly one word!"
ONE_WORD_TOKENS = 5
PROMPTS = (
    "Write a short love poem.",
    "Write the title of a scientific article.",
    "Write a to-do list with four items.",
    "Write a rap song with two verses.",
    "Write a math word problem.",
    "Write a paragraph of an encyclopaedia.",
    "Invent a new holiday and describe it.",
    "Write a dialogue between two people.",
    "Write a newspaper headline and the first paragraph below it.",
    "Write something to start a conversation with at a party.",
)
"""The ten kinds of text of arXiv 2504.02821."""
_OF_THE_DEMO = "engine.demo.judge"
_MOST = 200
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def prompts(settings: SteerabilitySettings) -> tuple[str, ...]:
    """Those of the file that ``settings`` name, else the ten of the paper, of the demo those that it knows."""
    if not settings.prompts:
        return importlib.import_module(_OF_THE_DEMO).PROMPTS if settings.vlm == "demo" else PROMPTS
    try:
        lines = read_text(path_of(settings.prompts), encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read the prompts {settings.prompts} ({reason(error)}): give a text file, one prompt a line."
        ) from error
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not 1 <= len(found) <= _MOST:
        raise UserError(f"{settings.prompts} has {len(found):,} prompts: give 1 to {_MOST}, one a line.")
    return found


def first_word(answer: str) -> str:
    """The first word of an answer; empty for one without any."""
    found = _WORD.search(answer)
    return found[0] if found else ""
