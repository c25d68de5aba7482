"""The files in which a run tells how it is going, and the reporter that writes them and hears that it should stop."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, assert_never
from zlib import crc32

from engine.errors import Stopped
from engine.files import read_bytes, read_text, utf8, write_json
from engine.records import parse_json, seldom, to_json
from engine.regular import open_regular
from engine.reporter import (
    Done,
    End,
    Event,
    Failed,
    Progress,
    Reporter,
    StageBegan,
    StoppedEarly,
    Warned,
    event_from_json,
    event_to_json,
)
from engine.runs.memory import Memory, memory, memory_kills
from engine.runs.rate import Rate

State = Literal["starting", "running", "paused", "done", "stopped", "failed", "died"]
Control = Literal["stop", "pause", ""]


@dataclass(frozen=True, kw_only=True)
class Status:
    """status.json: how a run is going, or how it ended."""

    state: State
    pid: int | None = seldom()
    started: float | None = seldom()
    """Seconds since the epoch, as ``ended``."""
    stage: str | None = seldom()
    since: float | None = seldom()
    """When its stage began, or it was started, of one that has told no progress since. Older versions did not say."""
    progress: Progress | None = seldom()
    """The last that was told, in whichever stage."""
    rate: float | None = seldom()
    """Units of it a second: see engine.runs.rate. Older versions did not tell it."""
    memory: Memory | None = seldom()
    kills: int | None = seldom()
    """See engine.runs.memory.memory_kills, when it was started."""
    ended: float | None = seldom()
    took: float | None = seldom()
    """Seconds, which a clock that is set meanwhile does not change."""
    result: Any = seldom()
    """Of a run that is done, as JSON values."""
    kept: str | None = seldom()
    """Of a run that was stopped: see engine.errors.Stopped."""
    error: str | None = seldom()
    mistake: bool | None = seldom()
    """See engine.reporter.Failed, as for ``error``."""

    @property
    def waits_for(self) -> str:
        """What a run does that tells no progress; empty for one that does, is paused, or has ended."""
        return (self.stage or "loading") if self.state in ("starting", "running") and self.since is not None else ""

    @property
    def waited(self) -> int:
        """Whole seconds since it began that."""
        return 0 if self.since is None else max(int(time.time() - self.since), 0)


@dataclass(frozen=True)
class Logged:
    """One line of events.jsonl."""

    seq: int
    time: float
    """Seconds since the epoch."""
    event: Event


class EventLog:
    """Append-only JSON lines: an event each, with ``seq``, ``time`` and, last, the CRC-32 of the line without that."""

    def __init__(self, path: Path):
        written = read_bytes(path, sys.maxsize) if path.exists() else b""
        self._seq = max((line["seq"] for line in _lines(written)), default=0)
        self._file = open_regular(path, "ab")
        if written and not written.endswith(b"\n"):  # torn by a kill
            self._file.write(b"\n")

    def append(self, event: Event) -> None:
        self._seq += 1
        line = {"seq": self._seq, "time": round(time.time(), 3), **event_to_json(event)}
        text = utf8(json.dumps(line, ensure_ascii=False, default=float))
        self._file.write(text[:-1] + b', "crc": "%08x"}\n' % crc32(text))

    def close(self) -> None:
        self._file.close()


def read_events(path: Path, offset: int = 0) -> tuple[list[Logged], int]:
    """Events from byte ``offset`` on, and the offset to go on from. A torn last line is left for the next call."""
    try:
        with open_regular(path) as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(parse_events(data[:end])), offset + end


def parse_events(data: bytes) -> Iterator[Logged]:
    """The events in whole lines of a log; what is no event, or of a kind that is not known, is passed over.

    In the place of a line of which a bit has changed since it was written stands the warning ``DAMAGED``.
    """
    for line in _lines(data):
        event = event_from_json(line)
        if event is not None:
            yield Logged(line["seq"], line["time"], event)


DAMAGED = Warned("A line of this run's events.jsonl is damaged: what it said is left out.")
_SUMMED = re.compile(rb', "crc": "([0-9a-f]{8})".$', re.DOTALL)


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    place: dict[str, Any] = {"seq": 0, "time": 0.0}
    for text in data.splitlines():
        summed = _SUMMED.search(text)
        whole = text[: summed.start()] + b"}" if summed else text
        try:
            line = parse_json(whole)
            damaged = summed is not None and crc32(whole) != int(summed[1], 16)
        except ValueError:  # else torn by a kill, and closed by the run that went on after it
            line, damaged = None, text.endswith(b"}") or summed is not None
        if damaged:
            yield place | event_to_json(DAMAGED)
        elif isinstance(line, dict) and isinstance(line.get("seq"), int) and isinstance(line.get("time"), (int, float)):
            place = {"seq": line["seq"], "time": line["time"]}
            yield line


class StreamReporter(Reporter):
    """Sends events to a run's directory, to a stream of JSON lines, or to both.

    ``run``: where events.jsonl and status.json are written and ``control`` (``stop``, ``pause`` or nothing) is read.
    ``stream``: a binary file that the process which waits for the answer reads.
    """

    every = 0.25  # seconds between progress records: a follower polls about as often
    memory_every = 2.0  # seconds between looks at the memory, which status.json then tells

    def __init__(self, run: Path | None, stream: BinaryIO | None = None):
        self.run, self.stream = run, stream
        self.log = EventLog(run / "events.jsonl") if run else None
        self.status = Status(state="running", pid=os.getpid(), started=time.time(), kills=memory_kills())
        self.status = replace(self.status, since=self.status.started)
        self.stop_requested = False
        self.began = False
        """Whether there was any progress."""
        self._shown = self._weighed = 0.0
        self._clock = time.monotonic()
        self._rate = Rate()
        self._write_status()

    def progress(self, done: int, total: int, unit: str, **measured: float | None) -> None:
        now = time.monotonic()
        if now - self._shown < self.every and done < total:
            return
        self._shown = now
        super().progress(done, total, unit, **measured)

    def event(self, event: Event) -> None:
        self._emit(event)
        match event:
            case StageBegan(name):
                self._rate.restart()
                self._update(stage=name, since=time.time(), rate=None)
            case Progress():
                self.began = True
                self._rate.see(time.monotonic(), event.done)
                self._update(progress=event, since=None, rate=self._rate.value, memory=self._memory())

    def check(self) -> None:
        while True:
            control = self._control()
            if self.stop_requested or control == "stop":
                raise Stopped
            if control != "pause":
                break
            self._enter("paused")
            time.sleep(0.2)
        self._enter("running")

    def finish(self, end: End) -> None:
        """Close the run."""
        with contextlib.suppress(OSError):  # the disk may be what is full: the stream still gets its answer
            self._update(rate=None, since=None, ended=time.time(), took=time.monotonic() - self._clock, **_ended(end))
        with contextlib.suppress(OSError):
            self._emit(end)

    def _emit(self, event: Event) -> None:
        if self.stream:
            with contextlib.suppress(BrokenPipeError):
                self.stream.write(json.dumps(event_to_json(event), default=float).encode() + b"\n")
                self.stream.flush()
        if self.log:
            self.log.append(event)

    def _memory(self) -> Memory | None:
        now = time.monotonic()
        if now - self._weighed < self.memory_every:
            return self.status.memory
        self._weighed = now
        return memory()

    def _control(self) -> str:
        if not self.run:
            return ""
        try:
            return read_text(self.run / "control").strip()
        except FileNotFoundError:
            return ""

    def _enter(self, state: State) -> None:
        if self.status.state != state:
            self._rate.restart()
            self._update(state=state, rate=None)

    def _update(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
        self._write_status()

    def _write_status(self) -> None:
        if self.run:
            status = json.loads(json.dumps(to_json(self.status), default=float))
            write_json(self.run / "status.json", status, durable=False)


def _ended(end: End) -> dict[str, Any]:
    """What status.json says of an end."""
    match end:
        case Done(result):
            return {"state": "done", "result": result}
        case StoppedEarly(kept):
            return {"state": "stopped", "kept": kept or None}
        case Failed(error, mistake):
            return {"state": "failed", "error": error, "mistake": mistake}
    assert_never(end)
