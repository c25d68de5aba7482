"""Files as strangers may send them: valid ones changed at random, by bytes and by the values of their JSON."""

import json
import random
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.images import BrokenImage

SECONDS, GROWTH = 2.0, 500 << 20
"""That one input may take, and bytes by which memory may grow over all."""
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 31, 1 << 63, 10**40, -(10**300), 1e308, float("inf"), float("nan"), 0.5),
    *(
        "",
        "\0",
        "../../etc/passwd",
        "/dev/zero",
        "~$scan.png",
        "~nobody/x",
        "\ud800",
        "\u202e\x1b]52;c;x\x07",
        "x" * 5000,
    ),
    *([], {}, [[]], {"": None}, [0] * 40),
)
BYTES = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0" * 600, b"[" * 3000, b'{"a":' * 3000),
    *(b"9" * 5000, b'"', b"\n", b",", b"\r", b"\xed\xa0\x80", b"1e999", b"NaN", b"a = [" * 400, b"[a." + b"a." * 900),
)


def changed(data: bytes, chance: random.Random) -> bytes:
    """``data`` with one to four changes: a bit, a byte, a piece cut out, doubled or put in, a number, an early end."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 2, 4, 8, 64, 512))
        match chance.randrange(8):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1 if changed:
                changed[at % len(changed)] = chance.randrange(256)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 50))
            case 4:
                changed[at:at] = chance.choice(BYTES)
            case 5:
                del changed[at:]
            case 6:
                changed[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
            case _:
                _renumber(changed, chance)
    return bytes(changed)


def _renumber(data: bytearray, chance: random.Random) -> None:
    """Another number in the place of one of text."""
    if found := list(re.finditer(rb"\d+", bytes(data[: 1 << 16]))):
        one = chance.choice(found)
        data[one.start() : one.end()] = chance.choice((b"0", b"-1", b"9" * 5000, b"9" * 18, b"1e400", b"4294967296"))


def odd(value: Any, chance: random.Random) -> Any:
    """The JSON ``value`` with some part of it replaced by an odd one, left out, or nested deeply."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        left = {k: v for k, v in value.items() if k != key}
        return left if chance.random() < 0.15 else {**value, key: odd(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return [*value[:at], odd(value[at], chance), *value[at + 1 :]]
    if chance.random() < 0.05:
        for _ in range(chance.choice((50, 500, 900))):
            value = [value] if chance.random() < 0.5 else {"a": value}
        return value
    return chance.choice(ODD)


def odd_json(data: bytes, chance: random.Random) -> bytes:
    """JSON with an odd value in it, or its bytes changed."""
    if chance.random() < 0.3:
        return changed(data, chance)
    value = odd(json.loads(data), chance)
    return json.dumps(value).encode()


def odd_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines()
    at = chance.randrange(len(lines))
    return b"\n".join([*lines[:at], odd_json(lines[at], chance), *lines[at + 1 :]]) + b"\n"


def throw(
    read: Callable[[Path], Any],
    place: Path,
    seeds: list[bytes],
    change: Callable[[bytes, random.Random], bytes],
    count: int,
) -> dict[str, int]:
    """Write ``count`` changed ``seeds`` to ``place`` and ``read`` it; how each ended.

    A value, a UserError and a BrokenImage are the ends that are allowed, in SECONDS, without growth by GROWTH.
    """
    ends: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        chance = random.Random(number)
        data = change(chance.choice(seeds), chance)
        place.unlink(missing_ok=True)
        place.write_bytes(data)
        began = time.process_time()
        try:
            read(place)
            end = "value"
        except (UserError, BrokenImage) as error:
            end = type(error).__name__
            assert "\n" not in str(error)[:10], str(error)
        except Exception as error:
            kept = place.with_name(f"failed-{number}{place.suffix}")
            kept.write_bytes(data)
            raise AssertionError(f"input {number} ({kept}) ended in {type(error).__name__}: {error}") from error
        ends[end] = ends.get(end, 0) + 1
        assert time.process_time() - began < SECONDS, f"input {number} took {time.process_time() - began:.1f} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < GROWTH, f"memory grew by {grown:,} bytes"
    return ends
