"""Tell a workspace that something was moved: rewrite where its artefacts say that it is."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from engine.activations.asked import Made
from engine.activations.manifest import FILE as MANIFEST
from engine.activations.manifest import Manifest, read_manifest
from engine.activations.shards import ImageRecord
from engine.activations.stored_images import StoredImages
from engine.artefacts.entries import (
    UNREADABLE,
    Entry,
    NeuronsEntry,
    RecipeEntry,
    RunEntry,
    SAEEntry,
    StoreEntry,
    unreadable,
)
from engine.artefacts.kinds import ENTRY_OF, identity
from engine.artefacts.results import Hashes, ResultEntry
from engine.config import PLACES, RelinkSettings, SteerSettings
from engine.errors import UserError
from engine.files import read_json, read_text, read_toml, to_toml, write_json, write_text
from engine.images import BrokenImage, open_images
from engine.images.entry import picture_of
from engine.images.sources import is_there
from engine.kinds import BY_NAME
from engine.links import check_own
from engine.neurons.file import Neurons
from engine.neurons.results import ScoredImage
from engine.neurons.seal import AS_WRITTEN, neurons_sha256, unsealed, write_sealed
from engine.places import (
    Relinked,
    Rewritten,
    changed,
    changed_values,
    located,
    located_text,
    recorded,
    recorded_text,
    split,
)
from engine.records import from_json, to_json
from engine.reporter import Reporter, StageBegan, Warned
from engine.runs.run import Run
from engine.sae.config import CONFIG, TRAINING, SAEConfig
from engine.sae.preview import PREVIEW
from engine.sae.state import Finished
from engine.settings import Place, about, places_of
from engine.workspace import MARKER, Provenance, Source, Workspace


def relink(settings: RelinkSettings, workspace: Workspace, reporter: Reporter | None = None) -> Relinked:
    """Let artefacts that name ``settings.old``, or what lies in it, name ``settings.new`` instead.

    What is named by its content stays the same: the identity of a store is not that of its place. UserError, before
    anything is written, when something is missing there, or is not what was used: images are compared by content.
    Artefacts that cannot be read are left as they are, and named.
    """
    reporter = reporter or Reporter()
    move = _Move.of(settings, workspace, reporter)
    reporter.event(StageBegan("looking through artefacts"))
    damaged: dict[str, str] = {}
    found = [one for one in _documents(workspace, move, damaged) if one.places]
    if not found:
        unread = f" in what can be read (not {', '.join(damaged)})" if damaged else ""
        raise UserError(
            f"Nothing in {workspace.root} names {settings.old}{unread}: saetui show ARTEFACT says what it names."
        )
    reporter.event(StageBegan("comparing"))
    images = move.check()
    for document in found:
        if document.path.parent != workspace.root:
            check_own(workspace.root.joinpath(*document.path.relative_to(workspace.root).parts[:2]))
    for document in found:
        document.write()
    files = [Rewritten(str(one.path.relative_to(workspace.root)), tuple(dict.fromkeys(one.places))) for one in found]
    for name, why in damaged.items():
        reporter.event(Warned(f"{name} is left as it is: {why}"))
    return Relinked(str(move.old[0]), str(move.new), images, tuple(files), damaged)


def check_relink(settings: RelinkSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    with about("new"):
        _Move.of(settings, workspace, Reporter())


@dataclass
class _Move:
    """From where to where; and what has to be there."""

    old: tuple[str, ...]
    new: str
    reporter: Reporter
    wanted: set[str] = field(default_factory=set)
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each source, in its new place: paths and content hashes of the images that were used."""
    sources: dict[str, str] = field(default_factory=dict)
    """Artefacts in their new places, and their content hashes."""
    contents: dict[tuple[str, str], tuple[str, Callable[[str], str]]] = field(default_factory=dict)
    """Of what is no artefact, its new place and kind: the hash of it all, and how that comes about."""

    @classmethod
    def of(cls, settings: RelinkSettings, workspace: Workspace, reporter: Reporter) -> "_Move":
        typed, new = (os.path.expanduser(text) for text in (settings.old, settings.new))
        if not os.path.exists(new):
            raise UserError(f"There is nothing at {settings.new}: give the place where {settings.old} is now.")
        # The second is what artefacts of older versions mean, which say paths as they were typed.
        return cls((os.path.abspath(typed), os.path.normpath(workspace.root / typed)), os.path.abspath(new), reporter)

    def path(self, path: str) -> str:
        for old in self.old:
            if path == old or path.startswith(f"{old}/"):
                return self.new + path[len(old) :]
        return path

    def text(self, text: str, sort: Place) -> str:
        before, path, after = split(text, sort)
        moved = self.path(path) if path else path
        if moved != path:
            self.wanted.add(moved)
        return f"{before}{moved}{after}"

    def expect(self, source: str, images: Iterable[ImageRecord | ScoredImage]) -> None:
        """``source``: where it was."""
        if (moved := self.path(source)) != source:
            hashes = {picture_of(one.path): one.sha256 for one in images if one.sha256}
            self.images.setdefault(moved, {}).update(hashes)

    def expect_sources(self, sources: Iterable[Source]) -> None:
        for one in sources:
            if one.kind in BY_NAME and (moved := self.path(one.path)) != one.path:
                self.sources[moved] = one.sha256

    def expect_contents(self, sources: Iterable[Source], hashes: Hashes) -> None:
        for one in sources:
            if one.kind in hashes and (moved := self.path(one.path)) != one.path:
                self.contents[moved, one.kind] = (one.sha256, hashes[one.kind])

    def check(self) -> int:
        """UserError unless all is there that has to be; how many images were compared."""
        for path in sorted(self.wanted):
            if not is_there(path):
                raise UserError(f"There is no {path}: move all that was used to {self.new}, or give another place.")
        for path, sha256 in self.sources.items():
            if identity(Path(path)) != sha256:
                raise UserError(f"{path} is another artefact than the one that was used: give the place of that.")
        done, total = 0, sum(map(len, self.images.values()))
        for source, hashes in self.images.items():
            images = open_images(source)
            places = {entry.path: number for number, entry in enumerate(images.entries)}
            for path, sha256 in hashes.items():
                try:
                    same = path in places and _sha256(images.read_bytes(places[path])) == sha256
                except BrokenImage:
                    same = False
                if not same:
                    what = "is another image" if path in places else "is missing"
                    raise UserError(f"{source} does not hold the same images: {path} {what}; give the place of those.")
                done += 1
                self.reporter.progress(done, total, "images")
                self.reporter.check()
        for (path, kind), (sha256, hashed) in self.contents.items():
            if hashed(path) != sha256:
                raise UserError(f"{path} does not hold the same {kind}: give the place of those that were used.")
            self.reporter.check()
        return total


@dataclass
class _Document:
    """A file that says where things are."""

    path: Path
    write: Callable[[], None]
    places: list[str]
    """What it would say that it does not say yet."""


def _documents(workspace: Workspace, move: _Move, damaged: dict[str, str]) -> Iterator[_Document]:
    """Of every artefact that can be read; of the others, the reason in ``damaged``, by where they are."""
    for path, read in _readers(workspace, move):
        try:
            yield read()
        except UNREADABLE as error:
            name = str(path.relative_to(workspace.root))
            damaged[name] = str(unreadable(path, error))


def _readers(workspace: Workspace, move: _Move) -> Iterator[tuple[Path, Callable[[], _Document]]]:
    root = workspace.root
    for kind, entry in ENTRY_OF.items():
        for path in kind.all_in(root):
            if issubclass(entry, ResultEntry):
                if (file := entry.file_of(path)).exists():
                    yield file, partial(_result, entry, file, root, move)
            else:
                yield from _DOCUMENTS[entry](path, root, move)
    if (root / MARKER).is_file():
        yield root / MARKER, partial(_defaults, workspace, move)


def _of_store(folder: Path, root: Path, move: _Move) -> Iterator[tuple[Path, Callable[[], _Document]]]:
    if (folder / MANIFEST).is_file():
        yield folder, partial(_store, folder, root, move)


def _of_sae(folder: Path, root: Path, move: _Move) -> Iterator[tuple[Path, Callable[[], _Document]]]:
    for name, kind in ((CONFIG, SAEConfig), (TRAINING, Finished)):
        if (folder / name).is_file():
            yield folder / name, partial(_json_record, folder / name, kind, root, move)
    if (folder / PREVIEW).is_file():
        yield folder / PREVIEW, partial(_json_values, folder / PREVIEW, {"source": "path"}, root, move)


def _of_run(folder: Path, root: Path, move: _Move) -> Iterator[tuple[Path, Callable[[], _Document]]]:
    if (run := Run(folder)).is_there:
        yield folder, partial(_run, run, root, move)


def _store(folder: Path, root: Path, move: _Move) -> _Document:
    """Its identity is a hash of its manifest: that holds what it said when it was written (``as_written``)."""
    manifest = read_manifest(folder)
    move.expect(manifest.source.spec, StoredImages(folder, manifest.shards))
    value = read_json(folder / MANIFEST)
    record, said = _moved(from_json(Manifest, value, str(folder)), root, move)
    now = {key: one for key, one in to_json(record).items() if key in value and value[key] != one}
    was = {key: value[key] for key in now} | value.get("as_written", {})
    listed = {
        key: value.pop(key) for key in ("images",) if key in value
    }  # stays the last: see engine.activations.manifest
    return _Document(
        folder / MANIFEST, _json_writer(folder / MANIFEST, value | now | {"as_written": was} | listed), said
    )


def _json_record(path: Path, kind: type[Any], root: Path, move: _Move) -> _Document:
    value = read_json(path)
    before = from_json(kind, value, str(path))
    if isinstance(before, SAEConfig):
        move.expect_sources(located(before, root).provenance.made_from)
    record, said = _moved(before, root, move)
    return _Document(path, _json_writer(path, value | to_json(record)), said)


def _json_values(path: Path, places: dict[str, Place], root: Path, move: _Move) -> _Document:
    value = read_json(path)
    full = changed_values(value, places, lambda text, sort: located_text(text, sort, root))
    moved, said = _moved_values(full, places, root, move)
    written = changed_values(moved, places, lambda text, sort: recorded_text(text, sort, root))
    return _Document(path, _json_writer(path, written), said)


def _result(entry: type[ResultEntry[Any]], file: Path, root: Path, move: _Move) -> _Document:
    before, value = entry.record(file), read_json(file)
    if origin := entry.origin(before):
        move.expect_sources(origin.made_from)
        move.expect_contents(origin.made_from, entry.hashes(before, move.reporter))
    record, said = _moved(before, root, move)
    now = {key: one for key, one in to_json(record).items() if key in value}
    return _Document(file, _json_writer(file, value | now), said)


def _neurons(path: Path, root: Path, move: _Move) -> _Document:
    with Neurons.open(path) as neurons:
        move.expect(neurons.summary.settings.images, neurons.images)
        move.expect_sources(neurons.provenance.made_from)
        summary, said = _moved(neurons.summary, root, move)
        provenance, more = _moved(neurons.provenance, root, move)

    def write() -> None:
        first, content = neurons_sha256(path), io.BytesIO(unsealed(path))
        with h5py.File(content, "r+") as file:
            for name, record in (("summary", summary), ("provenance", provenance)):
                del file[name]
                file[name] = json.dumps(to_json(record), allow_nan=False)
            if AS_WRITTEN not in file:
                file[AS_WRITTEN] = json.dumps(first)
        write_sealed(path, content.getvalue())

    return _Document(path, write, said + more)


def _recipe(path: Path, root: Path, move: _Move) -> _Document:
    value, places = read_toml(path), places_of(SteerSettings)
    full = changed_values(value["settings"], places, lambda text, sort: located_text(text, sort, root))
    moved, said = _moved_values(full, places, root, move)
    settings = changed_values(moved, places, lambda text, sort: recorded_text(text, sort, root))
    origin = Provenance(from_json(tuple[Source, ...], value.get("made_from", []), f"{path}: made_from"))
    move.expect_sources(located(origin, root).made_from)
    record, more = _moved(origin, root, move)
    return _toml(path, value | {"settings": settings, "made_from": to_json(record.made_from)}, said + more)


def _run(run: Run, root: Path, move: _Move) -> _Document:
    file, places = run.path / "command.json", run.command.places
    asked, said = _moved_values(run.command.asked(root), places, root, move)
    settings = changed_values(asked, places, lambda text, sort: recorded_text(text, sort, root))
    return _Document(file, _json_writer(file, read_json(file) | {"version": 2, "settings": settings}), said)


def _defaults(workspace: Workspace, move: _Move) -> _Document:
    root = workspace.root
    written, said = _moved_values(workspace.defaults(), PLACES, root, move)
    values = changed_values(written, PLACES, lambda text, sort: recorded_text(text, sort, root))
    return _toml(root / MARKER, values, said)


_Readers = Iterator[tuple[Path, Callable[[], _Document]]]
_DOCUMENTS: dict[type[Entry], Callable[[Path, Path, _Move], _Readers]] = {
    StoreEntry: _of_store,
    SAEEntry: _of_sae,
    NeuronsEntry: lambda path, root, move: iter([(path, partial(_neurons, path, root, move))]),
    RecipeEntry: lambda path, root, move: iter([(path, partial(_recipe, path, root, move))]),
    RunEntry: _of_run,
}
"""Of the kinds that are no results."""


def _moved(record: Any, root: Path, move: _Move) -> tuple[Any, list[str]]:
    """A record as it is written down, with its places moved; and those that were."""
    said: list[str] = []
    return recorded(changed(located(record, root), _telling(root, move, said)), root), said


def _moved_values(
    values: dict[str, Any], places: dict[str, Place], root: Path, move: _Move
) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return changed_values(values, places, _telling(root, move, said)), said


def _telling(root: Path, move: _Move, said: list[str]) -> Callable[[str, Place], str]:
    def tell(text: str, sort: Place) -> str:
        moved = move.text(text, sort)
        if moved != text:
            said.append(recorded_text(moved, sort, root))
        return moved

    return tell


def _json_writer(path: Path, value: Any) -> Callable[[], None]:
    return lambda: write_json(path, value)


def _toml(path: Path, value: dict[str, Any], said: list[str]) -> _Document:
    over = read_text(path)
    return _Document(path, lambda: write_text(path, to_toml(value, over)), said)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
