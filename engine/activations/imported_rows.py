"""Rows of other tools' files into the shards of a store, and on from where that was interrupted.

Shards cover fixed numbers of rows, so the bytes on disk do not depend on interruptions, nor on how the rows lay in the
parts. While one thread writes rows, a second one finishes shards, and a third one reads ahead for the hashes of the
parts, by which a run that goes on knows that they are the same.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.activations.convert import Part
from engine.activations.extract import no_room
from engine.activations.manifest import FILE, Manifest, read_manifest, write_manifest
from engine.activations.shards import STORED, ImageRecord, Shard, ShardWriter, intact, read_records
from engine.activations.target import MadeOtherwise
from engine.errors import UserError, reason, refusal
from engine.files import sweep_folder, value_sha256
from engine.images import Images
from engine.images.sources import identity
from engine.integrity import content_sha256
from engine.reporter import Reporter, StageBegan, Warned

_EXPONENT = {"float16": (np.uint16, 0x7C00), "bfloat16": (np.uint16, 0x7F80), "float32": (np.uint32, 0x7F800000)}
"""The bits of a number that are all set where it is not finite."""


class StoreImport:
    """Parts on their way into the store in ``folder``, which is locked."""

    def __init__(self, folder: Path, head: Manifest, parts: Sequence[Part], images: Images | None, reporter: Reporter):
        assert head.origin is not None
        self.folder, self.head, self.images, self.reporter = folder, head, images, reporter
        self.parts, self.rows, self.each = parts, head.rows, head.origin.tokens
        self.shard_rows = head.shard_images * self.each
        self.hashes: list[str | None] = [None] * len(parts)
        self.shards: list[Shard] = []
        self._hashing: dict[int, Future[str]] = {}
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
        if warning := no_room((self.rows - done) * (self.head.d * STORED[self.head.dtype].itemsize + 8), free):
            self.reporter.event(Warned(warning))
        self.reporter.event(StageBegan("importing"))
        with ThreadPoolExecutor(1, "finish") as finisher, ThreadPoolExecutor(1, "hash") as self._ahead:
            try:
                self._write(done, finisher)
            finally:
                self._ahead.shutdown(cancel_futures=True)
        return self.rows - done

    def _hash_ahead(self, row: int) -> None:
        """Have the part in which ``row`` lies read for its hash, and those that follow soon."""
        first = int(np.searchsorted(self._ends, row, side="right"))
        for number in range(first, min(first + 2, len(self.parts))):
            if number not in self._hashing:
                self._hashing[number] = self._ahead.submit(content_sha256, self.parts[number].path)

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
                        self._hash_ahead(done)
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
        values = np.ascontiguousarray(block, STORED[self.head.dtype])
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
        complete = done == self.rows
        for number in range(int(np.searchsorted(self._ends, done, side="right"))):
            if self.hashes[number] is None:
                self.hashes[number] = self._hashing[number].result()
        assert self.head.origin is not None
        parts = tuple(replace(p, sha256=h) for p, h in zip(self.head.origin.parts, self.hashes, strict=True))
        head = replace(self.head, origin=replace(self.head.origin, parts=parts))
        if complete:
            head = self._with_identity(head)
        write_manifest(self.folder, replace(head, rows=done, complete=complete, shards=tuple(self.shards)))

    def _with_identity(self, head: Manifest) -> Manifest:
        assert head.origin is not None
        known = {"file": value_sha256([[part.file, part.sha256] for part in head.origin.parts])}
        if self.images is not None:
            known["images"] = identity((e.path, e.label, e.taxonomy, e.sha256) for e in self._all_records())
            head = replace(head, source=replace(head.source, sha256=known["images"]))
        made = tuple(replace(one, sha256=known.get(one.kind, one.sha256)) for one in head.provenance.made_from)
        return replace(head, provenance=replace(head.provenance, made_from=made), broken=0)

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
        assert earlier.origin is not None
        self.hashes = [part.sha256 for part in earlier.origin.parts]
        for part, sha256 in zip(self.parts, self.hashes, strict=True):
            if sha256 is not None and content_sha256(part.path) != sha256:
                raise MadeOtherwise(self.folder, f"other activations ({part.path.name} has changed since)")
        for number, shard in enumerate(earlier.shards):
            if not (self.folder / shard.file).exists():
                break
            intact(self.folder, shard)
            self._check_images(shard)
            self.shards.append(shard)
            assert shard.first_row == number * self.shard_rows

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


def _blocks(parts: Sequence[Part], first: int) -> Iterator[tuple[Part, np.ndarray]]:
    """Rows from ``first`` on, in pieces as they are stored. UserError for a part that cannot be read to its end."""
    for part in parts:
        if first >= part.rows:
            first -= part.rows
            continue
        size, seen = part.path.stat().st_size, first
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
            raise UserError(f"{part.path} has {seen:,} rows, and said that it has {part.rows:,}: copy it again.")
        first = 0


def _check_finite(values: np.ndarray, dtype: str, part: Part) -> None:
    kind, exponent = _EXPONENT[dtype]
    if values.size and int((values.view(kind) & kind(exponent)).max()) == exponent:
        raise UserError(
            f"{part.path} has values that are not finite (in {dtype}): leave their rows and images out, and try again."
        )
