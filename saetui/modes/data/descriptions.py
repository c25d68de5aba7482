"""What mode Data says of an image source, an encoder or a store. Reads files: for a thread."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.activations.manifest import Manifest, Model
from engine.activations.shards import ImageRecord, intact, read_records
from engine.artefacts.entries import StoreEntry
from engine.errors import UserError, counted
from engine.images import open_images
from engine.images.entry import picture_of
from engine.images.kinds import in_words
from engine.models import HookPoint
from engine.settings import each
from saetui.background import Wanted
from saetui.formatting import size

SAMPLES = 96  # images of which the strip shows a few at a time
NAMED = 5  # broken images that are named


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
    of_class: dict[str, list[str]] = field(default_factory=dict)
    """Paths of some of the images that could be read."""

    @property
    def samples(self) -> list[tuple[str, str]]:
        """Paths and classes: one image of each class before the second of any, so that a few show what there is."""
        return [(path, label) for label, path in in_turn(self.of_class, SAMPLES)]

    def add(self, records: Sequence[ImageRecord], samples: int) -> None:
        self.images += len(records)
        self.classes.update(record.label for record in records if record.label)
        self.with_taxonomy += sum(1 for record in records if record.taxonomy)
        self.broken += [f"{record.path}: {record.broken}" for record in records if record.broken is not None]
        readable: dict[str, list[str]] = {}
        for record in records:
            if record.broken is None:
                readable.setdefault(record.label or "", []).append(picture_of(record.path))
        for label, paths in readable.items():
            self.of_class.setdefault(label, []).extend(spaced(paths, samples))

    def words(self) -> list[tuple[str, str]]:
        """Facts on classes, taxonomy and broken images."""
        broken = f"{len(self.broken):,}" if self.broken else "none"
        named = "".join(f"\n{one}" for one in self.broken[:NAMED]) + ("\n…" if len(self.broken) > NAMED else "")
        taxonomy = (
            f"of {counted(self.with_taxonomy, 'image')}" if self.with_taxonomy else "none: their folders spell no paths"
        )
        return [
            ("classes", f"{len(self.classes):,}" if self.classes else "none"),
            ("taxonomy", taxonomy),
            ("broken", broken + named),
        ]


def store(entry: StoreEntry, wanted: Wanted = lambda: True) -> Description:
    """A store in words. UserError when a shard cannot be read: the way out is in it."""
    head = entry.manifest
    if entry.error:
        return Description(entry.name, [("problem", entry.error)])
    if head is None:
        return Description(entry.name, [("state", "its first shard is being written")])
    seen = _records(entry, head, wanted)
    shards, model = len(head.shards), head.model
    state = "ready" if head.complete else f"unfinished: {entry.so_far}"
    facts = [
        ("state", state),
        ("model", _model(model)),
        ("hook", _hook(head.hook)),
        ("tokens", _tokens(head)),
        ("rows", f"{head.rows:,} of {head.d:,} {head.dtype}"),
        ("size", f"{size(entry.bytes)} in {counted(shards, 'shard')}"),
        ("images", f"{entry.pictures:,} of {entry.source}" if entry.source and entry.pictures else "not known which"),
        *([("crops", f"{head.source.crops:,} of each")] if head.source.crops else []),
        *_left_out(head.source.left_out),
        *seen.words()[-1:],
        _made(head),
        ("command", head.command),
    ]
    return Description(entry.name, facts, entry.source, seen.samples)


def _model(model: Model) -> str:
    weights = f"weights {model.sha256[:12]}" if model.sha256 else model.revision and f"revision {model.revision}"
    return " · ".join(filter(None, (model.spec, model.family, weights)))


def _made(head: Manifest) -> tuple[str, str]:
    if head.origin:
        files = counted(len(head.origin.parts), "file")
        return "imported", f"from {files} of {head.origin.format} in {head.origin.place}"
    return "computed", f"on {head.device or '?'} in {head.precision or '?'}, {head.batch_size or '?'} a batch"


def source(spec: str, stores: Iterable[StoreEntry], wanted: Wanted = lambda: True) -> Description:
    """An image source in words, from the largest store that was made of it, else from listing it."""
    made = [one for one in stores if one.source == spec]
    used = ("stores", ", ".join(one.name for one in made) or "none yet: e extracts activations")
    complete = [(one, one.manifest) for one in made if one.manifest and one.manifest.complete]
    if complete:
        largest, head = max(complete, key=lambda one: one[0].images)
        seen = _records(largest, head, wanted)
        facts = [
            ("images", f"{seen.images:,}, as extracted to {largest.name}"),
            *seen.words(),
            *_left_out(head.source.left_out),
            used,
        ]
        return Description(_short(spec), [("from", spec), *facts], spec, seen.samples)
    images = open_images(spec)
    seen = _Seen()
    seen.add([ImageRecord(one.path, one.size, one.label, one.taxonomy) for one in images.entries], SAMPLES)
    total = size(sum(one.size for one in images.entries))
    facts = [("images", f"{len(images):,}, {total}"), *seen.words()[:-1], *_left_out(images.left_out), used]
    return Description(_short(spec), [("from", spec), *facts], spec, seen.samples)


def encoder(spec: str, stores: Iterable[StoreEntry], defaults: Mapping[str, Any]) -> Description:
    """An encoder in words: what workspace.toml uses it for, and what was extracted with it."""
    made = [one for one in stores if one.model == spec]
    roles = {"model": "the encoder that is read", "embed_with": "judges which images are alike"}
    facts = [("default", words) for key, words in roles.items() if spec in each(defaults.get(key))]
    for head in [one.manifest for one in made if one.manifest][:1]:
        facts += [("family", head.model.family), ("weights", str(head.model.sha256))]
        facts += [("sees", _pixels(head.preprocessing) + _grid(head))]
    hooks = sorted({one.hook for one in made})
    facts += [("hooks", ", ".join(hooks))] if hooks else []
    facts += [("stores", ", ".join(one.name for one in made) or "none yet: e extracts with it")]
    return Description(spec, facts)


def in_turn(groups: Mapping[str, Sequence[Any]], count: int) -> list[tuple[str, Any]]:
    """At most ``count`` items with their group: the first of each, then the second, each time of groups far apart."""
    names = far_apart(list(groups))
    ordered = {name: far_apart(groups[name]) for name in names}
    rounds = range(max(map(len, ordered.values()), default=0))
    taken = ((name, ordered[name][place]) for place in rounds for name in names if place < len(ordered[name]))
    return list(itertools.islice(taken, count))


def far_apart(items: Sequence[Any]) -> list[Any]:
    """All ``items``, so ordered that any first few of them are from all over: the first, one from the middle, then from
    the middles of both halves (van der Corput's sequence)."""
    bits = (len(items) - 1).bit_length()
    return [items[place] for place in sorted(range(len(items)), key=lambda place: f"{place:0{bits}b}"[::-1])]


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of ``items``, evenly apart, the first among them."""
    if count <= 0 or not items:
        return []
    step = max(len(items) / count, 1.0)
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def _records(entry: StoreEntry, head: Manifest, wanted: Wanted) -> _Seen:
    """From shard to shard: parsing the whole manifest at once would stop the interface for as long as it takes."""
    seen, total = _Seen(), max(entry.images, 1)
    for shard in head.shards:
        if not wanted():
            break
        share = (shard.next_image - shard.first_image) / total
        seen.add(read_records(intact(entry.path, shard)), round(SAMPLES * share) or 1)
    return seen


def _left_out(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [("left out", f"{in_words(counts)}: not read")] if counts else []


def _hook(hook: str) -> str:
    try:
        return f"{hook} · {HookPoint.parse(hook).says}"
    except UserError:  # of a kind that only a newer saetui knows
        return hook


def _tokens(head: Manifest) -> str:
    if head.hook == "last":
        return "one row an image"
    seed = f", seed {head.seed}" if head.tokens.startswith("random") else ""
    return f"{head.tokens}{seed}{_grid(head)}"


def _grid(head: Manifest) -> str:
    return f" · {head.grid[0]} × {head.grid[1]} patches" if head.grid else ""


def _pixels(preprocessing: Any) -> str:
    """What an encoder sees, by how its images are prepared: families differ in what they call the size."""
    known = preprocessing if isinstance(preprocessing, dict) else {}
    sides = known.get("crop_size") or known.get("size")
    values = [value for value in sides.values() if isinstance(value, int)] if isinstance(sides, dict) else []
    return f"{values[0]} × {values[-1]} pixels" if values else "pictures"


def _short(spec: str) -> str:
    return Path(spec).name or spec
