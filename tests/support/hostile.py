"""A workspace of somebody who wants the terminal to do something, and what must not reach it."""

import json
import re
from pathlib import Path
from typing import Any

import h5py

from engine.files import SEAL, read_toml, to_toml
from tests.support.scores import changing

EVIL = "[red]EVIL[/red]\x1b[5;35m\x1b]52;c;ZXZpbA==\x07\x9b5m\x7f\u202e\u2066\u200f\u2028\u2029\x1b]0;title\x1b\\"
"""Markup, a style, the clipboard, C1, DEL, directions, line breaks and a title."""
NAME = EVIL.replace("/", "")
"""Of a file or a folder."""
ACTING = re.compile("[\x07\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\x1b(\\[5;35m|\\]52|\\]0;title)")
"""What of it would act, in output that may hold other escape sequences."""
FREE = {"command", "spec", "label", "stage", "error", "message", "name_", "model", "prompt", "unit", "argv", "revision"}
"""Fields of JSON files in which any text may stand."""


def _unhashed(value: Any) -> Any:
    """As a stranger writes it, who need not keep what our hashes say."""
    return {key: one for key, one in value.items() if key not in (SEAL, "crc")} if isinstance(value, dict) else value


def poison(root: Path) -> None:
    """Write it wherever files of the workspace ``root`` hold a free text."""
    for path in [*root.rglob("*.json"), *root.rglob("*.jsonl")]:
        if "images" not in path.parts:
            lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
            path.write_text(
                "".join(json.dumps(_poisoned(_unhashed(json.loads(line))), ensure_ascii=False) + "\n" for line in lines)
            )
    for path in root.rglob("log.txt"):
        path.write_text(f"{EVIL}\n" * 3)
    for path in root.glob("labels/*.toml"):
        path.write_text(to_toml({"text": {str(n): EVIL for n in range(64)}}, path.read_text()))
    for path in root.glob("recipes/*.toml"):
        recipe = read_toml(path)
        path.write_text(to_toml(recipe | {"settings": recipe["settings"] | {"prompt": EVIL}}))
    for path in root.glob("neurons/*.h5"):
        with changing(path) as file:
            for name in ("words/word", "images/label", "images/path"):
                texts = [(text if name == "images/path" else b"") + EVIL.encode() for text in file[name][:]]
                del file[name]
                file.create_dataset(name, data=texts, dtype=h5py.string_dtype("utf-8"))
            summary = _poisoned(json.loads(file["summary"][()]))
            del file["summary"]
            file["summary"] = json.dumps(summary)


def _poisoned(value: Any, key: str = "") -> Any:
    match value:
        case dict():
            return {name: _poisoned(one, name) for name, one in value.items()}
        case list():
            return [_poisoned(one, key) for one in value]
        case str() if key in FREE:
            return value + EVIL
        case _:
            return value
