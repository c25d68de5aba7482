"""Read an activation store. Costs no torch; random rows come straight from memory-mapped shards."""

import itertools
import shlex
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
from jaxtyping import Float, Int

from engine.activations.manifest import FILE, LONGEST, Manifest, read_manifest
from engine.activations.shards import STORED, ImageRecord, Shard, damaged, intact, open_shard
from engine.activations.stored_images import StoredImages, stored_images
from engine.errors import UserError, counted, refusal
from engine.files import read_json, value_sha256
from engine.hdf5 import check_size, read_array, read_number
from engine.integrity import is_known, read_sha256
from engine.models.hookpoints import HookPoint, TokenPolicy
from engine.places import workspace_of
from engine.reporter import Reporter, StageBegan
from engine.workspace import Workspace

_PIECE = 16 << 20  # bytes that are read at once
KINDS = ("activations", "embeddings")  # the folders of a workspace that hold stores


class Store:
    """A complete store: rows ordered by image, then token. Values are read as float32, whatever they are stored as."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self.shards: tuple[Shard, ...] = manifest.shards
        self.rows = manifest.rows
        self.d = manifest.d
        self.dtype = manifest.dtype
        self._first_rows = np.array([shard.first_row for shard in self.shards], np.int64)
        self._maps: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store in the directory ``path``. UserError when there is none, or it is unfinished or too new."""
        path = Path(path)
        if not (path / FILE).is_file():
            raise UserError(
                f"{path} is no activation store (it has no {FILE}): make one with saetui extract or import."
            )
        manifest = read_manifest(path)
        if not manifest.complete:
            known = manifest.command.startswith(("saetui extract ", "saetui import "))  # else a stranger's
            command, root = manifest.command if known else "the same command", workspace_of(path)
            here = "" if Workspace.find().root == root.resolve() else f" --workspace {shlex.quote(str(root))}"
            raise UserError(f"{path} is not finished: continue it with {command}{here}")
        ends = [0, *itertools.accumulate(shard.rows for shard in manifest.shards)]
        if [*(shard.first_row for shard in manifest.shards), manifest.rows] != ends:
            raise UserError(f"{path / FILE} is damaged (its shards do not add up to its rows): make the store again.")
        return cls(path, manifest)

    @cached_property
    def images(self) -> StoredImages | list[ImageRecord]:
        """All images, those without rows too; read when they are asked for."""
        return stored_images(self.path, self.manifest)

    @cached_property
    def sha256(self) -> str:
        """Identity: hash over the manifest as it was written, which holds the hash of every shard. What was said
        since of where things are now (engine.artefacts.relink) is no part of it."""
        manifest = read_json(self.path / FILE, most=LONGEST)
        return value_sha256(manifest | manifest.pop("as_written", {}))

    @cached_property
    def image(self) -> Int[np.ndarray, " rows"]:
        """For each row, the index of its image in ``images``."""
        return self._column("image")

    @cached_property
    def token(self) -> Int[np.ndarray, " rows"]:
        """For each row, its position in the model's sequence; -1 for a mean and for a pooled output."""
        return self._column("token")

    def check_filled(self) -> None:
        """UserError where there is nothing in it."""
        if self.rows == 0:
            raise UserError(f"The activation store {self.path} has no rows: extract it again, from readable images.")

    def check_listed(self) -> None:
        """UserError where a row is of an image that is not listed."""
        if self.image.size and not 0 <= self.image.min() <= self.image.max() < len(self.images):
            raise damaged(self.path, "it has rows of images that it does not list")

    def read(self, start: int, stop: int) -> Float[np.ndarray, "n d"]:
        """Rows ``start`` to ``stop`` (exclusive), 0 <= start <= stop <= rows."""
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"rows {start} to {stop} of {self.rows}")
        out = np.empty((stop - start, self.d), np.float32)
        for number in self._touching(start, stop):
            first = int(self._first_rows[number])
            lower, upper = max(start, first), min(stop, first + self.shards[number].rows)
            _as_float32(self._map(number)[lower - first : upper - first], out[lower - start : upper - start])
        return out

    def stored(self) -> Iterator[Iterator[np.ndarray]]:
        """For each shard its rows as they are stored (bfloat16 as its 16 bits), in pieces."""
        for number, shard in enumerate(self.shards):
            step = max(1, _PIECE // (self.d * STORED[self.dtype].itemsize))
            yield (self._map(number)[start : start + step] for start in range(0, shard.rows, step))

    def stored_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, as they are stored; they must be of one shard."""
        number = self._touching(start, stop)[0]
        first = int(self._first_rows[number])
        return self._map(number)[start - first : stop - first]

    def take(self, indices: Int[np.ndarray, " n"] | Sequence[int]) -> Float[np.ndarray, "n d"]:
        """The rows at ``indices``, in their order; repeats are allowed, negative ones are not."""
        wanted = np.asarray(indices, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.rows):
            raise IndexError(f"row {wanted.min()} or {wanted.max()} of {self.rows}")
        out = np.empty((len(wanted), self.d), np.float32)
        # In ascending order each shard is walked once, front to back: the disk and the page cache like it.
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        numbers = np.flatnonzero(self._rows_of_shards)
        bounds = np.searchsorted(ascending, np.append(self._first_rows[numbers], self.rows))
        for number, (lower, upper) in zip(numbers, itertools.pairwise(bounds), strict=True):
            if lower < upper:
                rows = self._map(int(number))[ascending[lower:upper] - self._first_rows[number]]
                _scatter(rows, out, order[lower:upper])
        return out

    def check(self, reporter: Reporter, unasked: int = 1 << 30) -> None:
        """Read what is not known to be as it was written, and tell how that goes; UserError at the first that is not.

        Less than ``unasked`` bytes are left for whoever reads them first: nobody waits for these.
        """
        unknown = [shard for shard in self.shards if not is_known(self.path / shard.file)]
        done, total = 0, sum(shard.bytes for shard in unknown)
        if total < unasked:
            return
        reporter.event(StageBegan("comparing the store with what was written, once"))
        for shard in unknown:
            intact(self.path, shard)
            done += shard.bytes
            reporter.progress(done, total, "bytes")
            reporter.check()

    def verify(self, reporter: Reporter | None = None) -> list[str]:
        """What is wrong with the files, one sentence each; empty when every byte is as it was written."""
        return [problem for problems in self.problems(reporter).values() for problem in problems]

    def problems(self, reporter: Reporter | None = None) -> dict[Shard, list[str]]:
        """What is wrong with each shard that something is wrong with."""
        reporter = reporter or Reporter()
        found: dict[Shard, list[str]] = {}
        done, total = 0, sum(shard.bytes for shard in self.shards)
        for shard in self.shards:
            reporter.check()
            if problems := self._verify(shard):
                found[shard] = problems
            done += shard.bytes
            reporter.progress(done, total, "bytes", problems=len(found))
        return found

    def holds(self, shard: Shard) -> bool:
        """Whether the shard's file is there and every byte of it as it was written."""
        path = self.path / shard.file
        return path.is_file() and read_sha256(path) == shard.sha256

    def _verify(self, shard: Shard) -> list[str]:
        path = self.path / shard.file
        if not path.is_file():
            return [f"{path} is missing."]
        if self.holds(shard):
            return self.misplaced(shard)
        try:
            with open_shard(path) as file:
                values, sums = file["activations"], read_array(file["checksums"])
                check_size(values)
                size = read_number(file["checksums"], "block_rows")
                blocks = range(0, values.shape[0], size)
                bad = [b for b, s in zip(blocks, sums, strict=True) if crc32(values[b : b + size].tobytes()) != s]
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            if refused := refusal(error, path):
                raise refused from error
            return [f"{path} is truncated or unreadable."]
        if not bad:
            return [f"{path} differs from what was written, outside its activations."]
        spans = ", ".join(f"{b}-{min(b + size, shard.rows) - 1}" for b in bad[:4]) + (", ..." if len(bad) > 4 else "")
        return [f"{path} has wrong values in rows {spans}."]

    def misplaced(self, shard: Shard) -> list[str]:
        """A sentence when rows are not their images': so were some of older versions, of tiled and packed images."""
        path = self.path / shard.file
        if self.manifest.source.images is None and self.manifest.origin:  # its rows are of images that are not known
            return []
        image = self._column_of(shard, "image")
        if self.manifest.hook and self.manifest.tokens and not owned(image, self._readable(shard), self._rows_an_image):
            return [f"{path} has rows that are not their images': extract them again, under another --name."]
        return []

    def _readable(self, shard: Shard) -> list[int]:
        if not shard.first_image <= shard.next_image <= len(self.images):
            raise damaged(self.path / shard.file, "the manifest counts images that are not listed")
        return [i for i in range(shard.first_image, shard.next_image) if self.images[i].broken is None]

    @cached_property
    def _rows_an_image(self) -> int | None:
        return TokenPolicy.parse(self.manifest.tokens).rows_an_image(HookPoint.parse(self.manifest.hook))

    @cached_property
    def _rows_of_shards(self) -> np.ndarray:
        return np.array([shard.rows for shard in self.shards], np.int64)

    def _touching(self, start: int, stop: int) -> range:
        first = int(np.searchsorted(self._first_rows, start, side="right")) - 1
        return range(max(first, 0), int(np.searchsorted(self._first_rows, stop)))

    def _map(self, number: int) -> np.ndarray:
        """The shard's activations as stored, mapped into memory.

        What is mapped beyond the end of a file ends the process by SIGBUS: whether it was cut is asked at each use.
        """
        if number not in self._maps:
            self._maps[number] = self._open_map(self.shards[number])
        elif isinstance(known := self._maps[number], np.memmap):
            _check_whole(known, self.path / self.shards[number].file)
        return self._maps[number]

    def _open_map(self, shard: Shard) -> np.ndarray:
        path, shape, stored = intact(self.path, shard), (shard.rows, self.d), STORED[self.dtype]
        try:
            with open_shard(path) as file:
                values = file["activations"]
                if values.shape != shape or values.dtype != stored:
                    raise damaged(path, f"it holds {values.shape} {values.dtype}, the manifest says {shape} {stored}")
                offset = values.id.get_offset()
                if offset is None:  # no rows, or rewritten in chunks by another tool
                    return read_array(values)
            return np.memmap(path, stored, "r", offset, shape)
        except UserError:
            raise
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            raise refusal(error, path) or damaged(path, "it is truncated or not a shard") from error

    def _column(self, name: str) -> np.ndarray:
        columns = [np.empty(0, np.int32)]
        columns += [self._column_of(shard, name) for shard in self.shards]
        joined = np.concatenate(columns)
        if len(joined) != self.rows:
            raise damaged(self.path, f"{counted(len(joined), 'row')} instead of {self.rows}")
        return joined

    def _column_of(self, shard: Shard, name: str) -> Int[np.ndarray, " rows"]:
        path = intact(self.path, shard)
        try:
            with open_shard(path) as file:
                return read_array(file[name]).astype(np.int32, casting="same_kind").reshape(-1)
        except UserError:
            raise
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            raise refusal(error, path) or damaged(path, f"{name} cannot be read") from error


def owned(image: Int[np.ndarray, " rows"], readable: Sequence[int], each: int | None) -> bool:
    """Whether the ``readable`` images, and no others, have rows, in order, and ``each`` that many where it is given."""
    numbers, counts = np.unique(image, return_counts=True)
    in_order = bool((np.diff(image) >= 0).all())
    return in_order and numbers.tolist() == list(readable) and (each is None or bool((counts == each).all()))


def _check_whole(mapped: np.memmap, path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError:  # moved away: what is mapped stays whole
        return
    if size < mapped.offset + mapped.nbytes:
        raise damaged(path, "it was cut while it was read")


def _as_float32(stored: np.ndarray, out: np.ndarray) -> None:
    if stored.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        np.left_shift(stored, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32, casting="unsafe")
    else:
        out[...] = stored


def _scatter(stored: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
    if stored.dtype == np.uint16:
        decoded = np.empty(stored.shape, np.float32)
        _as_float32(stored, decoded)
        stored = decoded
    out[places] = stored
