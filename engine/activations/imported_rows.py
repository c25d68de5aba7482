"""Rows of other tools' files into the shards of a store, and on from where that was interrupted.

Shards cover fixed numbers of rows, so the bytes on disk do not depend on interruptions, nor on how the rows lay in the
parts. While one thread writes rows, a second one finishes shards. A run that goes on compares the shards that are there
with the parts, but for those whose stamps say that they are as they were when the shard was made.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.activations.asked import MadeOtherwise
from engine.activations.convert import Part
from engine.activations.manifest import FILE, Manifest, read_manifest, write_manifest
from engine.activations.shards import STORED, ImageRecord, Shard, ShardWriter, bytes_of, damaged, intact, read_records
from engine.activations.store import Store
from engine.errors import UserError, counted, reason, refusal
from engine.files import no_room, stamp, sweep_folder
from engine.images import Images
from engine.images.sources import identity
from engine.integrity import SETTLED, known_hashes
from engine.regular import open_regular
from engine.reporter import Reporter, StageBegan, Warned

_HELD = 256 << 20
"""Bytes of a part that is read ahead."""
_IN_CACHE = 1 << 17
"""Numbers that are looked at together."""
_EXPONENT = {"float16": (np.uint16, 0x7C00), "bfloat16": (np.uint16, 0x7F80), "float32": (np.uint32, 0x7F800000)}
"""The bits of a number that are all set where it is not finite."""


class StoreImport:
    """Parts on their way into the store in ``folder``, which is locked."""

    def __init__(self, folder: Path, head: Manifest, parts: Sequence[Part], images: Images | None, reporter: Reporter):
        assert head.origin is not None
        self.folder, self.head, self.images, self.reporter = folder, head, images, reporter
        self.parts, self.rows, self.each = parts, head.rows, head.origin.tokens
        self.shard_rows = head.shard_images * self.each
        self.shards: list[Shard] = []
        self._ends = np.cumsum([part.rows for part in parts])

    def run(self) -> int:
        """Make the shards that are missing; how many rows these have."""
        sweep_folder(self.folder)
        self._take_over()
        done = sum(shard.rows for shard in self.shards)
        if done == self.rows:
            self.reporter.event(StageBegan("nothing to do: it was imported already"))
            return 0
        free = shutil.disk_usage(self.folder).free
        if warning := no_room(bytes_of(self.rows - done, self.head.d, self.head.dtype), free):
            self.reporter.event(Warned(warning))
        self.reporter.event(StageBegan("importing"))
        with ThreadPoolExecutor(1, "finish") as finisher:
            self._write(done, finisher)
        return self.rows - done

    def _write(self, done: int, finisher: ThreadPoolExecutor) -> None:
        waiting: Future[None] | None = None
        blocks = _blocks(self.parts, done)
        rest = next(blocks)
        try:
            while done < self.rows:
                number, stop = done // self.shard_rows, min(self.rows, (done // self.shard_rows + 1) * self.shard_rows)
                writer = ShardWriter(self.folder / f"shard-{number:05d}.h5", self.head.d, self.head.dtype)
                try:
                    while done < stop:
                        if not len(rest[1]):
                            rest = next(blocks)
                        part, block = rest
                        rest = (part, block[stop - done :])
                        done += self._append(writer, part, block[: stop - done], done)
                        self.reporter.progress(done, self.rows, "rows")
                        self.reporter.check()
                    if waiting is not None:
                        waiting.result()
                except BaseException:
                    writer.discard()
                    raise
                waiting = finisher.submit(self._finish, writer, number, done)
        finally:
            if waiting is not None:
                waiting.result()

    def _append(self, writer: ShardWriter, part: Part, block: np.ndarray, first: int) -> int:
        values = self._as_stored(block)
        _check_finite(values, self.head.dtype, part)
        rows = np.arange(first, first + len(values))
        writer.append(values, rows // self.each, self._token(rows))
        return len(values)

    def _token(self, rows: np.ndarray) -> np.ndarray:
        """Positions in the sequence; -1 where they are not known."""
        if self.head.tokens == "all":
            return rows % self.each
        return np.full(len(rows), 0 if self.head.tokens == "cls" else -1)

    def _finish(self, writer: ShardWriter, number: int, done: int) -> None:
        try:
            records, first = self._records(number, done)
            shard = writer.commit(records, first)
        finally:
            writer.discard()
        self.shards.append(replace(shard, first_row=number * self.shard_rows))
        self._write_manifest(done)
        self._remember(self.shards[-1])

    def _records(self, number: int, done: int) -> tuple[list[ImageRecord], int]:
        if self.images is None:
            return [], 0
        first = number * self.head.shard_images
        numbers = range(first, done // self.each)
        self.images.learn(numbers)
        entries = self.images.entries
        return [
            ImageRecord(entries[i].path, entries[i].size, entries[i].label, entries[i].taxonomy, self.images.content(i))
            for i in numbers
        ], first

    def _write_manifest(self, done: int) -> None:
        head = self.head
        if done == self.rows:
            head = replace(self._with_identity(head), complete=True, broken=0)
        write_manifest(self.folder, replace(head, rows=done, shards=tuple(self.shards)))

    def _with_identity(self, head: Manifest) -> Manifest:
        if self.images is None:
            return head
        sha256 = identity((e.path, e.label, e.taxonomy, e.sha256) for e in self._all_records())
        made = (replace(one, sha256=sha256) if one.kind == "images" else one for one in head.provenance.made_from)
        return replace(
            head,
            source=replace(head.source, sha256=sha256),
            provenance=replace(head.provenance, made_from=tuple(made)),
        )

    def _all_records(self) -> Iterator[ImageRecord]:
        for shard in self.shards:
            yield from read_records(self.folder / shard.file)

    # Going on

    def _take_over(self) -> None:
        """Know the finished shards of an earlier run. UserError where it was of other parts, images or settings."""
        if not (self.folder / FILE).exists():
            return
        earlier = read_manifest(self.folder)
        if earlier.origin is None:
            raise UserError(f"{self.folder} was extracted, not imported: give another --name.")
        self._check_same(earlier)
        for number, shard in enumerate(earlier.shards):
            if not (self.folder / shard.file).exists():
                break
            if shard.first_row != number * self.shard_rows:
                raise damaged(self.folder, "its shards are not those of an import")
            intact(self.folder, shard)
            self._check_images(shard)
            self._check_rows(shard)
            self.shards.append(shard)

    def _check_same(self, earlier: Manifest) -> None:
        assert earlier.origin is not None and self.head.origin is not None
        for name in ("hook", "tokens", "dtype", "d", "shard_images", "transparency"):
            before, now = getattr(earlier, name), getattr(self.head, name)
            if before != now:
                raise MadeOtherwise(self.folder, f"{name.replace('_', ' ')} {before}, not {now}")
        if earlier.model.spec != self.head.model.spec:
            raise MadeOtherwise(self.folder, f"model {earlier.model.spec}, not {self.head.model.spec}")
        if earlier.source.images != self.head.source.images:
            raise MadeOtherwise(
                self.folder, f"{earlier.source.spec or 'no images'}, not {self.head.source.spec or 'none'}"
            )
        before, now = ([(part.file, part.rows) for part in m.parts] for m in (earlier.origin, self.head.origin))
        if before != now:
            raise MadeOtherwise(self.folder, f"other parts, of {earlier.origin.place}")

    def _check_images(self, shard: Shard) -> None:
        if self.images is None:
            return
        numbers = range(shard.first_image, shard.next_image)
        self.images.learn(numbers, self.reporter)
        for number, record in zip(numbers, read_records(self.folder / shard.file), strict=True):
            entry = self.images.entries[number]
            if (record.path, record.label, record.sha256) != (entry.path, entry.label, self.images.content(number)):
                raise MadeOtherwise(self.folder, f"other images ({record.path} was where {entry.path} is)")

    def _check_rows(self, shard: Shard) -> None:
        """UserError where the parts hold other rows now than those in ``shard``."""
        known, folder = known_hashes(), str(self.folder)
        if all(known.get(folder, what) == shard.sha256 for what in self._versions(shard)):
            return
        self.reporter.event(StageBegan(f"comparing the parts with {shard.file}"))
        done, stop = shard.first_row, shard.first_row + shard.rows
        stored = Store(self.folder, replace(self.head, rows=stop, shards=(*self.shards, shard)))
        for part, block in _blocks(self.parts, done):
            values = self._as_stored(block[: stop - done])
            if not np.array_equal(values.view(np.uint8), stored.stored_rows(done, done + len(values)).view(np.uint8)):
                raise MadeOtherwise(self.folder, f"other activations ({part.path.name} has changed since)")
            done += len(values)
            self.reporter.check()
            if done == stop:
                break
        self._remember(shard)

    def _remember(self, shard: Shard) -> None:
        """Let a run that goes on know, by the stamps of its parts, what ``shard`` was made of."""
        known = known_hashes()
        if all(abs(time.time() - part.path.stat().st_mtime) > SETTLED for part in self._parts_of(shard)):
            for what in self._versions(shard):
                known.add(str(self.folder), what, shard.sha256)
            known.save()

    def _versions(self, shard: Shard) -> list[str]:
        return [f"{shard.first_row}\0{part.path}\0{stamp(part.path)}" for part in self._parts_of(shard)]

    def _parts_of(self, shard: Shard) -> Sequence[Part]:
        first, last = np.searchsorted(self._ends, (shard.first_row, shard.first_row + shard.rows - 1), side="right")
        return self.parts[int(first) : int(last) + 1]

    def _as_stored(self, block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is too large for float32 is not finite then
            return np.ascontiguousarray(block, STORED[self.head.dtype])


def _blocks(parts: Sequence[Part], first: int) -> Iterator[tuple[Part, np.ndarray]]:
    """Rows from ``first`` on, in pieces as they are stored. UserError for a part that cannot be read to its end."""
    for part, following in zip(parts, (*parts[1:], None), strict=True):
        if first >= part.rows:
            first -= part.rows
            continue
        size, seen = part.path.stat().st_size, first
        if following is not None:
            _fetch(following.path)
        try:
            for block in part.blocks(first):
                if part.path.stat().st_size < size:  # what is mapped beyond the end of a file ends the process
                    raise EOFError("it was cut while it was read")
                seen += len(block)
                yield part, block
        except (UserError, GeneratorExit):
            raise
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            unread = UserError(f"{part.path} cannot be read to its end ({reason(error)}): copy it again.")
            raise refusal(error, part.path) or unread from error
        if seen != part.rows:
            raise UserError(
                f"{part.path} has {counted(seen, 'row')}, and said that it has {part.rows:,}: copy it again."
            )
        first = 0


def _fetch(path: Path) -> None:
    """Let the disk begin to read a file that is needed next, if it is small enough to be held until then."""
    with contextlib.suppress(OSError, AttributeError), open_regular(path) as file:  # macOS has no posix_fadvise
        if (size := path.stat().st_size) <= _HELD:
            os.posix_fadvise(file.fileno(), 0, size, os.POSIX_FADV_WILLNEED)


def _check_finite(values: np.ndarray, dtype: str, part: Part) -> None:
    kind, exponent = _EXPONENT[dtype]
    bits = values.view(kind).reshape(-1)
    if any(
        int((bits[at : at + _IN_CACHE] & kind(exponent)).max()) == exponent for at in range(0, len(bits), _IN_CACHE)
    ):
        raise UserError(
            f"{part.path} has values that are not finite (in {dtype}): leave their rows and images out, and try again."
        )
