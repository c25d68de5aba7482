"""Whether an artefact is as it was written, to the byte; and how a damaged store is repaired."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.activations.asked import Made, MadeOtherwise, store_of
from engine.activations.manifest import FILE, LISTS_IMAGES, LONGEST, write_manifest
from engine.activations.results import SourceNow, Verified
from engine.activations.shards import Shard
from engine.activations.store import KINDS, Store
from engine.activations.target import task_of
from engine.artefacts.entries import NeuronsEntry, Origin, SAEEntry, StoreEntry
from engine.artefacts.kinds import kind_of
from engine.artefacts.provenance import NOT_COMPARED, find, origins_now
from engine.artefacts.results import Hashes, ResultEntry
from engine.config import ImportSettings, VerifySettings
from engine.errors import Unrecorded, UserError
from engine.files import SEAL, lock, read_text
from engine.images.sources import is_there
from engine.integrity import read_sha256
from engine.neurons.seal import verify_neurons
from engine.records import parse_json
from engine.reporter import Reporter, StageBegan
from engine.sae.config import WEIGHTS, named_weights, read_config, weights_sha256
from engine.sae.preview import read_preview
from engine.sae.state import check_together, checkpoint_path, read_state, read_training, verify_checkpoint
from engine.settings import about
from engine.workspace import Workspace

TRAIN_AGAIN = "train it again for one"
SCRATCH = ".repair"
"""The folder of a store in which shards are made anew, as a workspace of its own."""


def verify(settings: VerifySettings, workspace: Workspace, reporter: Reporter | None = None) -> Verified:
    """Compare every byte of an artefact with what was written, whatever is known of it; ``repair`` a store.

    UserError where it cannot be read or, by what else has changed, not be repaired.
    """
    reporter = reporter or Reporter()
    check_verify(settings, workspace)
    path = _find(settings.store, workspace)
    kind = kind_of(path)
    if kind is StoreEntry:
        return _store(Store.open(path), settings.repair, reporter)
    if kind is SAEEntry:
        checks = (_weights, _training, _checkpoint, read_preview)
        return _others(path, [path / WEIGHTS, *path.glob("*.json"), *path.glob("*/*.safetensors")], checks, TRAIN_AGAIN)
    if kind is NeuronsEntry:
        return _others(path, [path], (verify_neurons,), "")
    if issubclass(kind, ResultEntry):
        return _result(kind, path, reporter)
    raise UserError(f"{path} has no hashes to compare it with: verify takes stores, SAEs, scores and other results.")


def check_verify(settings: VerifySettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    with about("store"):
        path = _find(settings.store, workspace)
        kind = kind_of(path)
    with about("repair"):
        if settings.repair and kind is not StoreEntry:
            raise UserError(
                f"{path} is no activation store, which --repair is for: give the command that made it again."
            )


def _find(given: str, workspace: Workspace) -> Path:
    """The store of that name or at that path, else what else ``given`` names."""
    for kind in KINDS:
        if os.sep not in given and (workspace.root / kind / given).is_dir():
            return workspace.root / kind / given
    try:
        return find(given, workspace)
    except UserError:
        return workspace.existing(KINDS[0], given)  # says which there are


def _result(kind: type[ResultEntry[Any]], path: Path, reporter: Reporter) -> Verified:
    """Its sources are compared too: what has the name by now may not be what it says something of."""
    file, again = kind.file_of(path), f"run saetui {kind.KINDS[0].name} again for one"
    files = [path / mark for mark in kind.KINDS[0].marks] if kind.FILE else [file]
    found = _others(path, files, (kind.check,), again)
    if found.problems or not file.exists():
        return found
    entry, hashes = kind.read(path), kind.hashes(kind.record(file), reporter)
    now = [_looked_up(one, hashes) for one in origins_now(entry)]
    changed = [
        f"{one.kind} {one.name}, which it was made from, is {one.state} now: put back what it was, or measure "
        "again under another --name."
        for one in now
        if one.state not in ("unchanged", "missing", NOT_COMPARED)
    ]
    return replace(
        found,
        sources=tuple(SourceNow(one.kind, one.name, one.state) for one in now),
        changed=tuple(changed),
        unsourced=""
        if entry.told and entry.told.says_origin
        else f"{file} does not say all that it was made from (an older version wrote it): {again} that does.",
    )


def _looked_up(origin: Origin, hashes: Hashes) -> Origin:
    """``origin`` with what can be said of it where it is no artefact."""
    if origin.state != NOT_COMPARED or origin.kind not in hashes:
        return origin
    if not is_there(origin.path):
        return replace(origin, state="missing")
    try:
        return replace(origin, state="unchanged" if hashes[origin.kind](origin.path) == origin.sha256 else "changed")
    except UserError as error:
        return replace(origin, state=f"unreadable ({error})")


def _others(path: Path, files: Sequence[Path], checks: Iterable[Callable[[Path], object]], again: str) -> Verified:
    problems: list[str] = []
    unrecorded = [one for file in files if file.suffix == ".json" for one in _unsealed(file, again)]
    for check in checks:
        try:
            check(path)
        except Unrecorded as error:
            unrecorded.append(str(error))
        except UserError as error:
            problems.append(str(error))
    sizes = [file.stat().st_size for file in files if file.is_file()]
    size = sum(sizes)
    return Verified(str(path), len(sizes), size, tuple(problems), unit="file", unrecorded=tuple(unrecorded))


def _weights(sae: Path) -> None:
    read_config(sae)
    weights_sha256(sae, read_sha256)
    if named_weights(sae) is None:
        raise Unrecorded(sae / WEIGHTS, TRAIN_AGAIN)


def _training(sae: Path) -> None:
    check_together(sae, read_training(sae))


def _checkpoint(sae: Path) -> None:
    verify_checkpoint(sae)
    state = read_state(sae)
    if state is not None and state.tensors_sha256 is None:
        raise Unrecorded(checkpoint_path(sae), TRAIN_AGAIN)


def _unsealed(file: Path, again: str) -> tuple[str, ...]:
    """What to say of a JSON file that does not tell its hash."""
    with contextlib.suppress(OSError, ValueError):  # another check says what is wrong with it
        if SEAL not in parse_json(read_text(file, LONGEST)):
            return (str(Unrecorded(file, again)),)
    return ()


def _store(store: Store, repair: bool, reporter: Reporter) -> Verified:
    if not store.shards:
        store.check_filled()
    found = store.problems(reporter)
    size = sum(shard.bytes for shard in store.shards)
    bad = [shard for shard in found if not store.holds(shard)] if repair else []
    repaired = _repaired(store, bad, reporter) if bad else ()
    problems = [problem for shard, told in found.items() if shard.file not in repaired for problem in told]
    unrecorded: tuple[str, ...] = ()
    if store.manifest.version > LISTS_IMAGES:  # which had no seal
        unrecorded = _unsealed(store.path / FILE, "extract again, under another --name, for one")
    return Verified(str(store.path), len(store.shards), size, tuple(problems), repaired, unrecorded=unrecorded)


def _repaired(store: Store, bad: list[Shard], reporter: Reporter) -> tuple[str, ...]:
    """Make the ``bad`` shards anew, beside the store, and put them in their places; their names.

    UserError when they come out otherwise than they were: then the store is left as it is.
    """
    scratch = store.path / SCRATCH
    reporter.event(StageBegan("repairing"))
    with lock(store.path):
        shutil.rmtree(scratch, ignore_errors=True)  # of a repair that was killed
        try:
            made = _made_anew(store, bad, Workspace(scratch), reporter)
            for shard in bad:
                if read_sha256(made / shard.file) != shard.sha256:
                    raise UserError(
                        f"{store.path / shard.file} cannot be made as it was: it comes out otherwise now, with other "
                        "versions of libraries, on another device, or of other images; extract again, under another "
                        "--name."
                    )
            for shard in bad:
                os.replace(made / shard.file, store.path / shard.file)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return tuple(shard.file for shard in bad)


def _made_anew(store: Store, bad: list[Shard], scratch: Workspace, reporter: Reporter) -> Path:
    """The folder of a store in ``scratch`` that has the good shards of this one, and the ``bad`` ones made anew."""
    from engine.activations.extract import extract  # needs torch, which comparing does not
    from engine.activations.importing import import_activations

    manifest = store.manifest
    _, settings = task_of(manifest.command, store.path)
    if isinstance(settings, ImportSettings):
        folder = scratch.activations(settings.name)
    else:
        if settings.device == "auto":
            settings = replace(settings, device=manifest.device or "auto")
        folder = store_of(settings, manifest.hook, scratch)
    folder.mkdir(parents=True)
    write_manifest(folder, manifest, list(store.images) if manifest.version == LISTS_IMAGES else ())
    for shard in store.shards:
        if shard not in bad:
            os.symlink(store.path / shard.file, folder / shard.file)
    try:
        if isinstance(settings, ImportSettings):
            import_activations(settings, scratch, reporter)
        else:
            extract(settings, scratch, reporter, only=manifest.hook)
    except MadeOtherwise as error:
        raise UserError(
            f"{store.path} cannot be repaired, as it was made with {error.why}: put back what it was made with, or "
            "extract it again under another name."
        ) from error
    return folder
