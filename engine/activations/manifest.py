"""The manifest of a store: what was extracted from what, and which shards hold it.

Version 2. Its images are listed by the shards, each its own (:mod:`engine.activations.stored_images`), so that nobody
reads a million of them for one. Version 1 ended with the list of all images, which may be hundreds of megabytes long;
all else, its head, stands before and is read alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.activations.shards import STORED, ImageRecord, Shard
from engine.config import Transparency
from engine.errors import UserError, reason, refusal
from engine.files import Stamp, check_version, read_json, stamp, write_json
from engine.hdf5 import MOST as CLAIMED
from engine.hdf5 import RATIO
from engine.places import located, recorded, workspace_of
from engine.records import from_json, parse_json, seldom, to_json
from engine.regular import open_regular
from engine.settings import place
from engine.workspace import Provenance

FILE = "manifest.json"
FORMAT = "saetui-activations"
VERSION = 2
LONGEST = 1 << 30  # bytes of a manifest: one that lists a million images has some 300 MB
MOST = 1 << 48  # rows, images and dimensions
LISTS_IMAGES = 1  # the version that does


@dataclass(frozen=True)
class Model:
    """The encoder that was run."""

    spec: str = place("model", "")
    family: str = ""
    revision: str | None = None
    sha256: str | None = None
    """Of its weights; None where they could not be hashed."""


@dataclass(frozen=True)
class Listed:
    """The image source as it was listed."""

    spec: str = place("path", "")
    images: int | None = None
    sha256: str | None = None
    """Of paths, classes, taxonomy and contents in order (engine.images.sources.identity), None until it is complete. In
    stores made before that was so: of the paths and sizes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many files of the source are pictures of kinds that are not read, by kind."""
    crops: int | None = None
    """Where the images of the store are crops of those of the source (engine.neurons.crops): how many of each."""


@dataclass(frozen=True)
class ImportedPart:
    """A file of another tool, of which rows were taken."""

    file: str
    """Below the place that was given."""
    rows: int


@dataclass(frozen=True, kw_only=True)
class ImportedFrom:
    """Where the rows of a store came from that were not extracted here."""

    format: str
    place: str = place("path", "")
    parts: tuple[ImportedPart, ...]
    tokens: int
    """Rows of each image."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest, but for a list of images, in the order in which it is written."""

    format: str = FORMAT
    version: int = VERSION
    model: Model = field(default_factory=Model)
    hook: str = ""
    tokens: str = ""
    seed: int = 0
    preprocessing: Any = None
    """What the encoder does to an image, as JSON."""
    transparency: Transparency = "white"
    """What shows through where an image is transparent, before the encoder's own preprocessing."""
    dtype: str
    """Of the stored activations."""
    precision: str = ""
    """Of the forward pass."""
    device: str = ""
    batch_size: int = 0
    shard_images: int = 0
    """Images that a shard covers, the last one perhaps fewer."""
    d: int
    n_prefix: int = 0
    """Tokens before the patches: CLS and registers."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches; None where they differ from image to image."""
    source: Listed = field(default_factory=Listed)
    command: str = place("command", "")
    """That continues it."""
    provenance: Provenance = Provenance()
    origin: ImportedFrom | None = seldom()
    """None where it was extracted here."""
    rows: int
    complete: bool
    shards: tuple[Shard, ...]
    broken: int | None = None
    """Images that cannot be used; None until it is complete."""


def write_manifest(folder: Path, manifest: Manifest, records: Sequence[ImageRecord] = ()) -> None:
    """Replace the manifest of the store in ``folder``. ``records``: its images, where its version lists them."""
    value = to_json(recorded(manifest, workspace_of(folder)))
    if manifest.broken is None:
        del value["broken"]
    if manifest.version == LISTS_IMAGES:  # what it did not say is left out: its hash is the store's identity
        del value["transparency"], value["source"]["left_out"]
        value["images"] = [one.to_json() for one in records]  # last: see _head
    write_json(folder / FILE, value, seal=manifest.version > LISTS_IMAGES)


def listed_images(folder: Path) -> list[ImageRecord]:
    """The images that a manifest of version 1 lists. UserError when it cannot be read."""
    path = folder / FILE
    try:
        return [ImageRecord.of(one) for one in read_json(path, most=LONGEST)["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged (its list of images: {reason(error)}): make the store again.") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the store in ``folder``. UserError when it cannot be read."""
    path = folder / FILE
    try:
        return _head(path, stamp(path))
    except OSError as error:
        raise refusal(error, path) or error from error


_IMAGES = b'\n "images": ['  # as write_json lays it out; a line break inside of a string would be escaped
_PIECE = 1 << 16


@lru_cache(maxsize=1024)
def _head(path: Path, stamp: Stamp | None) -> Manifest:
    """The head, kept for as long as the file stays as it is. Read whole where another program has laid it out anew."""
    data = bytearray()
    with open_regular(path) as file:
        while piece := file.read(_PIECE):
            searched = max(0, len(data) - len(_IMAGES))
            data += piece
            end = data.find(_IMAGES, searched)
            if end >= 0:
                head = _json(bytes(data[:end]).rstrip(b",") + b"}")
                if "shards" in head:
                    return _parsed(head, path)
                break
    found = read_json(path, "remove it and make it again with the command that made the store", LONGEST)
    if isinstance(found, dict):
        images = found.pop("images", [])
        found.setdefault("broken", _count_broken(images, path) if found.get("complete") else None)
    return _parsed(found, path)


def _count_broken(images: Any, path: Path) -> int:
    try:
        return sum("broken" in image for image in images)
    except TypeError as error:
        raise UserError(f"{path} is damaged (its list of images: {reason(error)}): make the store again.") from error


def _parsed(value: Any, path: Path) -> Manifest:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path.parent} holds something else than activations: give another name.")
    check_version(value.get("version"), VERSION, path)
    manifest: Manifest = located(from_json(Manifest, value, str(path)), workspace_of(path.parent))
    counts = [manifest.rows, manifest.d, *(n for s in manifest.shards for n in (s.rows, s.first_row, s.next_image))]
    if not all(0 <= count < MOST for count in counts):
        raise UserError(f"{path} is damaged (it counts more than there can be): make the store again.")
    if manifest.dtype not in STORED:
        raise UserError(f"{path} is damaged (dtype: none of {', '.join(STORED)}): make the store again.")
    a_row = manifest.d * STORED[manifest.dtype].itemsize
    if any(shard.rows * a_row > max(CLAIMED, RATIO * shard.bytes) for shard in manifest.shards):
        raise UserError(f"{path} is damaged (it claims more than its shards have): make the store again.")
    return manifest


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = parse_json(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
