"""What was answered, measured and judged, kept as it comes: a run that is killed goes on without asking again.

``answers.jsonl`` is only appended to: a JSON object a line, its CRC-32 last, as events have it. A line that is torn or
damaged is passed over: what it said is asked again.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from zlib import crc32

from engine.errors import UserError
from engine.files import make_folder, utf8
from engine.records import from_json, parse_json, seldom, to_json
from engine.regular import open_regular


@dataclass(frozen=True)
class KeptAnswer:
    """What the model said."""

    KIND: ClassVar[str] = "answer"
    key: str
    """Hash of all that the answer depends on."""
    condition: str
    latent: int | None
    """None for the two conditions that change none."""
    concept: str | None
    image: str
    prompt: str
    text: str


@dataclass(frozen=True)
class KeptDamage:
    """KL of the next token, in nats."""

    KIND: ClassVar[str] = "damage"
    key: str
    latent: int | None
    value: float | None
    prompt: str
    kl: float


@dataclass(frozen=True)
class KeptVerdict:
    """What a judge said of an answer."""

    KIND: ClassVar[str] = "verdict"
    key: str
    judge: str
    question: str
    concept: str
    prompt: str
    answer: str
    yes: bool | None
    said: str = seldom("")
    score: float | None = seldom()


Kept = KeptAnswer | KeptDamage | KeptVerdict
K = TypeVar("K", KeptAnswer, KeptDamage, KeptVerdict)
_KINDS: dict[str, type[Any]] = {one.KIND: one for one in (KeptAnswer, KeptDamage, KeptVerdict)}
_SUMMED = re.compile(rb', "crc": "([0-9a-f]{8})"\}$')


class Log:
    """The records in ``path`` by kind and key, and where more are added. Hold the lock of its folder."""

    def __init__(self, path: Path):
        make_folder(path.parent)
        self._file = open_regular(path, "ab")
        with open_regular(path) as file:
            written = file.readall()
        if written and not written.endswith(b"\n"):  # torn by a kill
            self._file.write(b"\n")
        self._kept: dict[tuple[str, str], Kept] = {(one.KIND, one.key): one for one in _read(written)}

    def get(self, kind: type[K], key: str) -> K | None:
        found: Any = self._kept.get((kind.KIND, key))
        return found

    def add(self, record: Kept) -> None:
        text = utf8(json.dumps({"kind": record.KIND, **to_json(record)}, ensure_ascii=False))
        self._file.write(text[:-1] + b', "crc": "%08x"}\n' % crc32(text))
        self._kept[record.KIND, record.key] = record

    def close(self) -> None:
        self._file.close()


def _read(written: bytes) -> list[Kept]:
    found = []
    for line in written.split(b"\n"):
        whole = _whole(line)
        if whole is None:
            continue
        try:
            values = parse_json(whole)
            found.append(from_json(_KINDS[values.pop("kind")], values, "A line of answers"))
        except (ValueError, KeyError, UserError):  # of a newer version
            continue
    return found


def damaged_lines(path: Path) -> list[int]:
    """Numbers, from 1, of the lines of a log that have changed since they were written. Those that a kill cut off, as
    it may the last line and what more was added below, are none."""
    if not path.exists():
        return []
    with open_regular(path) as file:
        lines = file.readall().split(b"\n")
    return [n for n, line in enumerate(lines, 1) if _has_end(line) and _whole(line) is None]


def _has_end(line: bytes) -> bool:
    return line.endswith(b'"}') and not line.endswith(b'\\"}')


def _whole(line: bytes) -> bytes | None:
    """The JSON in a line, without its checksum; None where it is torn or damaged."""
    summed = _SUMMED.search(line)
    whole = line[: summed.start()] + b"}" if summed else b""
    return whole if summed and crc32(whole) == int(summed[1], 16) else None
