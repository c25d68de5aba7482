"""The event log of a run, and how long work reports and hears that it should stop."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import Stopped
from engine.files import utf8, write_json
from engine.reporter import Reporter
from engine.runs.memory import memory

Event = dict[str, Any]


class EventLog:
    """Append-only JSON lines, each with ``seq``, ``time`` (seconds since the epoch) and ``kind``."""

    def __init__(self, path: Path):
        events, _ = read_events(path)
        self._seq = events[-1]["seq"] if events else 0
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run
        if torn:
            self._file.write(b"\n")

    def append(self, kind: str, **fields: Any) -> None:
        self._seq += 1
        event = {"seq": self._seq, "time": round(time.time(), 3), "kind": kind, **fields}
        self._file.write(utf8(json.dumps(event, ensure_ascii=False, default=float)) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from byte ``offset`` on, and the offset to go on from. A torn last line is left for the next call."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(parse_events(data[:end])), offset + end


def parse_events(data: bytes) -> Iterator[Event]:
    """The events in whole lines of a log; what is no event is passed over."""
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # a line torn by a kill, closed by the run that went on after it
            continue
        if isinstance(event, dict) and "seq" in event:
            yield event


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
        self.status: dict[str, Any] = {"state": "running", "pid": os.getpid(), "started": time.time()}
        self.stop_requested = False
        self._shown = self._weighed = 0.0
        self._write_status()

    def progress(self, done: int, total: int, unit: str, **metrics: Any) -> None:
        now = time.monotonic()
        if now - self._shown < self.every and done < total:
            return
        self._shown = now
        record = {"done": done, "total": total, "unit": unit, **metrics}
        self._emit("progress", record)
        self.status["progress"] = record
        if now - self._weighed >= self.memory_every:
            self._weighed = now
            self.status["memory"] = memory()
        self._write_status()

    def event(self, kind: str, **fields: Any) -> None:
        self._emit(kind, fields)
        if kind == "stage":
            self.status["stage"] = fields.get("name")
            self._write_status()

    def check(self) -> None:
        while True:
            wish = self._control()
            if self.stop_requested or wish == "stop":
                raise Stopped
            if wish != "pause":
                break
            self._state("paused")
            time.sleep(0.2)
        self._state("running")

    def finish(self, state: str, **fields: Any) -> None:
        """Close the run as ``done``, ``stopped`` or ``failed``, with ``result`` or ``error``."""
        self.status.update(state=state, ended=time.time(), **fields)
        with contextlib.suppress(OSError):  # the disk may be what is full: the stream still gets its answer
            self._write_status()
        self._emit(state, fields)

    def _emit(self, kind: str, fields: dict[str, Any]) -> None:
        if self.stream:
            with contextlib.suppress(BrokenPipeError):
                self.stream.write(json.dumps({"kind": kind, **fields}, default=float).encode() + b"\n")
                self.stream.flush()
        if self.log:
            self.log.append(kind, **fields)

    def _control(self) -> str:
        if not self.run:
            return ""
        try:
            return (self.run / "control").read_text().strip()
        except FileNotFoundError:
            return ""

    def _state(self, state: str) -> None:
        if self.status["state"] != state:
            self.status["state"] = state
            self._write_status()

    def _write_status(self) -> None:
        if self.run:
            write_json(self.run / "status.json", json.loads(json.dumps(self.status, default=float)), durable=False)
