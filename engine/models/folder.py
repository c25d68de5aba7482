"""What a model's directory may say, looked at before a library believes it. Costs no torch."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import read_json
from engine.regular import special

_READ = ("config.json", "preprocessor_config.json", "processor_config.json", "generation_config.json")
_WAY = "fetch it again"
Bounds = Mapping[re.Pattern[str], int]
"""Of what a name ends with: more than any model has, and less than takes minutes and gigabytes to make."""
_COUNTS: Bounds = {
    re.compile(r"(layers|depths?|blocks)$"): 2_000,
    re.compile(r"(_size|_dim|_heads|width)$"): 1 << 20,
    re.compile(r"(_labels|_classes)$"): 100_000,
}
_LENGTHS: Bounds = {re.compile(r"^(?!max_).*(_tokens|_len|_length)$"): 1 << 16}
_SIDES: Bounds = {
    re.compile(r"(height|width|edge|size|pinpoints|resolutions)$"): 4096,
    re.compile(r"patches$"): 1 << 14,
    re.compile(r"tokens$"): 1 << 17,
    re.compile(r"pixels$"): 4096**2,
}


def check_folder(folder: Path) -> None:
    """UserError for a model's directory in which something is no file (libraries would wait for a pipe), or whose JSON
    is none, asks for parts of no possible number, or names weights outside of the directory."""
    for path in folder.iterdir():
        if what := special(path):
            raise UserError(f"{path} is a {what}, not a file: move it away, or give another model.")
    said = {name: _object(folder / name) for name in _READ if (folder / name).is_file()}
    config = said.get("config.json", {})
    kind, classes = config.get("model_type"), config.get("architectures") or []
    if not isinstance(kind, str | None) or not isinstance(classes, list) or not all(map(_is_text, classes)):
        raise UserError(f"{folder / 'config.json'} is damaged (its model_type or architectures are no text): {_WAY}.")
    _check_counts(config, _COUNTS, folder / "config.json")
    _check_counts(said.get("processor_config.json"), _LENGTHS, folder / "processor_config.json")
    for index in folder.glob("*.index.json"):
        files = _object(index).get("weight_map")
        if not isinstance(files, Mapping) or not all(_is_plain(file) for file in files.values()):
            raise UserError(f"{index} does not map weights to files beside it: {_WAY}.")


def check_sides(preprocessing: object, where: str) -> None:
    """UserError for settings of a ``preprocessing`` that makes images larger than any model sees."""
    _check_counts(preprocessing, _SIDES, where)


def _check_counts(said: object, bounds: Bounds, where: object) -> None:
    for name, count in _numbers(said):
        if any(count > most and end.search(name) for end, most in bounds.items()):
            raise UserError(f"{where} asks for {name} = {count:,}, which no model has: {_WAY}.")


def _object(path: Path) -> Mapping[str, Any]:
    value = read_json(path, _WAY)
    if not isinstance(value, Mapping):
        raise UserError(f"{path} is damaged (it holds no JSON object): {_WAY}.")
    return value


def _numbers(value: object, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in it, with the name it stands under."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _numbers(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one, name)
    elif type(value) is int:
        yield name, value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_plain(file: object) -> bool:
    return isinstance(file, str) and file not in ("", ".", "..") and not set(file) & {"/", "\\", "\0"}
