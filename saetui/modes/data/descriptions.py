"""What mode Data says of an image source, an encoder or a store. Reads files: for a thread."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.activations.manifest import manifest_head
from engine.activations.shards import read_records
from engine.config import ExtractSettings, from_words
from engine.errors import UserError
from engine.images import ImageEntry, open_images
from engine.models import HookPoint
from saetui.formatting import size

SAMPLES = 96  # images of which the strip shows a few at a time
NAMED = 5  # broken images that are named

Record = dict[str, Any]
Going = Callable[[], bool]
"""Whether the answer is still wanted."""


@dataclass(frozen=True, kw_only=True)
class StoreEntry:
    """An activation store as ``engine.inventory`` lists it; one of which nothing is finished has only its name."""

    kind: str
    """The folder of the workspace that it is in: activations or embeddings."""
    path: Path
    state: str = "writing"
    """complete, writing or unfinished."""
    problem: str = ""
    """Why it cannot be read; then nothing below is known."""
    rows: int = 0
    bytes: int = 0
    images: int = 0
    """Images of the source when the extraction began."""
    images_done: int = 0
    model: str = ""
    source: str = ""
    hook: str = ""
    tokens: str = ""

    @classmethod
    def of(cls, kind: str, listed: dict[str, Any]) -> "StoreEntry":
        if "error" in listed:
            return cls(kind=kind, path=Path(listed["path"]), state="", problem=listed["error"])
        return cls(
            kind=kind,
            path=Path(listed["path"]),
            state=listed["state"],
            rows=listed["rows"],
            bytes=listed["bytes"],
            images=listed["of_images"] or 0,
            images_done=listed["images"],
            model=listed.get("model") or "",
            source=listed.get("source") or "",
            hook=listed.get("hook") or "",
            tokens=listed.get("tokens") or "",
        )

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def complete(self) -> bool:
        return self.state == "complete"

    def settings(self) -> ExtractSettings:
        """Those of the command that made it. UserError when its manifest does not tell it."""
        try:
            words = shlex.split(str(manifest_head(self.path).get("command") or ""))
        except ValueError:  # a quote that is not closed
            words = []
        if words[:2] != ["saetui", "extract"]:
            raise UserError(f"{self.path} does not say what command made it: start its extraction anew.")
        return from_words(ExtractSettings, words[2:], str(self.path))


@dataclass(frozen=True)
class Description:
    """A title, facts in words, and some of the images, by their paths in ``source``."""

    title: str
    facts: list[tuple[str, str]]
    source: str = ""
    samples: list[tuple[str, str]] = field(default_factory=list)
    """Path and class."""


@dataclass
class _Seen:
    """What the records of images add up to."""

    images: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    with_taxonomy: int = 0
    broken: list[str] = field(default_factory=list)
    samples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, records: Sequence[Record], samples: int) -> None:
        self.images += len(records)
        self.classes.update(record["label"] for record in records if record.get("label"))
        self.with_taxonomy += sum(1 for record in records if record.get("taxonomy"))
        self.broken += [f"{record['path']}: {record['broken']}" for record in records if "broken" in record]
        readable = [record for record in records if "broken" not in record]
        self.samples += [(r["path"], r.get("label") or "") for r in spaced(readable, samples)]

    def words(self) -> list[tuple[str, str]]:
        """Facts on classes, taxonomy and broken images."""
        broken = f"{len(self.broken):,}" if self.broken else "none"
        named = "".join(f"\n{one}" for one in self.broken[:NAMED]) + ("\n…" if len(self.broken) > NAMED else "")
        taxonomy = f"of {self.with_taxonomy:,} images" if self.with_taxonomy else "none: their folders spell no paths"
        return [
            ("classes", f"{len(self.classes):,}" if self.classes else "none"),
            ("taxonomy", taxonomy),
            ("broken", broken + named),
        ]


UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError, AttributeError)
"""What reading a store of which files are damaged or removed may raise."""


def store(entry: StoreEntry, going: Going = lambda: True) -> Description:
    """A store in words. UserError when a shard cannot be read: the way out is in it."""
    if entry.problem:
        return Description(entry.name, [("problem", entry.problem)])
    head = manifest_head(entry.path)
    seen = _records(entry, head, going)
    shards = len(head["shards"])
    state = "ready" if entry.complete else f"unfinished: {entry.images_done:,} of {entry.images:,} images"
    model = head["model"]
    weights = f"weights {model['sha256'][:12]}" if model.get("sha256") else f"revision {model.get('revision')}"
    facts = [
        ("state", state),
        ("model", f"{entry.model} · {model.get('family', '')} · {weights}"),
        ("hook", _hook(str(head.get("hook", "")))),
        ("tokens", _tokens(head)),
        ("rows", f"{entry.rows:,} of {head['d']:,} {head['dtype']}"),
        ("size", f"{size(entry.bytes)} in {shards:,} {'shard' if shards == 1 else 'shards'}"),
        ("images", f"{entry.images:,} of {entry.source}"),
        *seen.words()[-1:],
        (
            "computed",
            f"on {head.get('device', '?')} in {head.get('precision', '?')}, {head.get('batch_size', '?')} a batch",
        ),
        ("command", str(head.get("command", ""))),
    ]
    return Description(entry.name, facts, entry.source, seen.samples)


def source(spec: str, stores: Iterable[StoreEntry], going: Going = lambda: True) -> Description:
    """An image source in words, from the largest store that was made of it, else from listing it."""
    made = [one for one in stores if one.source == spec]
    used = ("stores", ", ".join(one.name for one in made) or "none yet: e extracts activations")
    largest = max((one for one in made if one.complete), key=lambda one: one.images, default=None)
    if largest is not None:
        seen = _records(largest, manifest_head(largest.path), going)
        facts = [("images", f"{seen.images:,}, as extracted to {largest.name}"), *seen.words(), used]
        return Description(_short(spec), [("from", spec), *facts], spec, seen.samples)
    images = open_images(spec)
    seen = _Seen()
    seen.add([_record(one) for one in images.entries], SAMPLES)
    total = size(sum(one.size for one in images.entries))
    facts = [("images", f"{len(images):,}, {total}"), *seen.words()[:-1], used]
    return Description(_short(spec), [("from", spec), *facts], spec, seen.samples)


def encoder(spec: str, stores: Iterable[StoreEntry], defaults: dict[str, Any]) -> Description:
    """An encoder in words: what workspace.toml uses it for, and what was extracted with it."""
    made = [one for one in stores if one.model == spec]
    roles = {"model": "the encoder that is read", "embed_with": "judges which images are alike"}
    facts = [("default", words) for key, words in roles.items() if defaults.get(key) == spec]
    for head in [manifest_head(one.path) for one in made][:1]:
        facts += [("family", str(head["model"].get("family", ""))), ("weights", str(head["model"].get("sha256")))]
        crop = (head.get("preprocessing") or {}).get("crop_size") or (head.get("preprocessing") or {}).get("size")
        facts += [("sees", _pixels(crop) + _grid(head))]
    hooks = sorted({one.hook for one in made})
    facts += [("hooks", ", ".join(hooks))] if hooks else []
    facts += [("stores", ", ".join(one.name for one in made) or "none yet: e extracts with it")]
    return Description(spec, facts)


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of ``items``, evenly apart, the first among them."""
    if count <= 0 or not items:
        return []
    step = max(len(items) / count, 1.0)
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def _records(entry: StoreEntry, head: dict[str, Any], going: Going) -> _Seen:
    """From shard to shard: parsing the whole manifest at once would stop the interface for as long as it takes."""
    seen, total = _Seen(), max(entry.images_done, 1)
    for shard in head["shards"]:
        if not going():
            break
        share = (shard["next_image"] - shard["first_image"]) / total
        seen.add(read_records(entry.path / shard["file"]), round(SAMPLES * share) or 1)
    return seen


def _record(entry: ImageEntry) -> Record:
    return {"path": entry.path, "label": entry.label, "taxonomy": entry.taxonomy}


def _hook(hook: str) -> str:
    try:
        return f"{hook} · {HookPoint.parse(hook).says}"
    except UserError:  # of a kind that only a newer saetui knows
        return hook


def _tokens(head: dict[str, Any]) -> str:
    seed = f", seed {head.get('seed')}" if str(head.get("tokens")).startswith("random") else ""
    if head.get("hook") == "last":
        return "one row an image"
    return f"{head.get('tokens')}{seed}{_grid(head)}"


def _grid(head: dict[str, Any]) -> str:
    grid = head.get("grid")
    return f" · {grid[0]} × {grid[1]} patches" if grid else ""


def _pixels(size_of: Any) -> str:
    if not isinstance(size_of, dict):
        return "pictures"
    values = [value for value in size_of.values() if isinstance(value, int)]
    return f"{values[0]} × {values[-1]} pixels" if values else "pictures"


def _short(spec: str) -> str:
    return Path(spec).name or spec
