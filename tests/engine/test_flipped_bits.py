"""A bit that flips in any artefact is refused in a sentence that names the file, or changes no number.

One small workspace is made by the stages themselves; then one bit after the other is flipped in its files, and what the
readers of the commands and screens make of the file is compared with what they made of it before.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.artefacts.entries import NeuronsEntry, SAEEntry, StoreEntry, read_entry
from engine.artefacts.provenance import describe
from engine.config import ScoreSettings
from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.quantities import KEPT
from engine.neurons.score import score
from engine.records import to_json
from engine.runs.events import DAMAGED, read_events
from engine.runs.run import Run
from engine.runs.trainings import trainings
from engine.sae.checkpoint import restore
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.sae.preview import read_preview
from engine.sae.state import read_state, read_training
from engine.sae.train import TrainingLoop
from engine.sae.training_sae import TrainingSAE
from engine.settings import to_mapping
from engine.workspace import Workspace
from tests.support.checkpoints import build, save
from tests.support.extractions import ask, write_pictures
from tests.support.trainings import begin, chosen, perform

TRAINED = {"activations": "A", "expansion": 1.0, "steps": 24, "eval_every": 8, "checkpoint_every": 10, "batch_size": 32}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("study")
    images = write_pictures(root / "images", 20)
    model = save(build("clip"), root / "clip", words=("ape", "bee"))
    (root / "words.txt").write_text("ape\nbee\n")
    place = Workspace(root / "w")
    extract(ask(model, images), place)
    for name, stop in (("s", 0), ("half", 15)):
        perform(begin(place, **to_mapping(chosen(**TRAINED, name=name, keep_state=True))), stop)
    words = str(root / "words.txt")
    score(ScoreSettings(sae="s", images=str(images), embed_with=str(model), vocabulary=words, device="cpu"), place)
    return place


# What the readers make of each kind of artefact


def of_store(folder: Path, place: Workspace) -> Any:
    store = Store.open(folder)
    columns = store.read(0, store.rows), store.take([3, 1]), store.image, store.token
    told = describe(str(folder), place).to_json(), read_entry(StoreEntry, folder)
    return *columns, list(store.images), store.sha256, store.problems(), told


def of_sae(folder: Path, place: Workspace) -> Any:
    sae = SAE.load(folder)
    weights = [p.numpy() for p in sae.parameters()]
    entry = read_entry(SAEEntry, folder)
    assert entry is not None
    if entry.error:
        raise UserError(entry.error)
    return weights, sae.config, weights_sha256(folder), entry, describe(str(folder), place).to_json()


def of_training(folder: Path, place: Workspace) -> Any:
    told = read_training(folder), read_preview(folder), read_state(folder)
    rows = trainings(place)
    if wrong := [row.error for row in rows if row.error]:
        raise UserError(wrong[0])
    return told, rows


def of_checkpoint(folder: Path, place: Workspace) -> Any:
    state = read_state(folder)
    assert state is not None
    training = TrainingLoop(chosen(**TRAINED), place, Store.open(place.activations("A")))
    model = TrainingSAE(training.architecture, training.store.d, training.w, 0)
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.999), fused=True)
    restore(folder, state, model, optimiser)
    moments = [one for kept in optimiser.state_dict()["state"].values() for one in kept.values()]
    return state, [tensor.numpy() for tensor in (*model.state_dict().values(), *moments)], model.dead


def of_scores(path: Path, place: Workspace) -> Any:
    with Neurons.open(path) as neurons:
        kept = {name: getattr(neurons, name) for name in KEPT}
        maps = [neurons.maps(latent) for latent in range(neurons.w)]
        listed = neurons.table(top=0), neurons.table(top=0, search="ape"), neurons.images, neurons.words
        more = neurons.summary, neurons.provenance, neurons.directions, neurons.word_mean
        return kept, maps, listed, more, read_entry(NeuronsEntry, path)


def of_run(folder: Path, place: Workspace) -> Any:
    run = Run(folder)
    if run.status.state == "died":
        raise UserError(f"{folder} has died.")
    events = [one.event for one in read_events(folder / "events.jsonl")[0]]
    if DAMAGED in events:
        raise UserError(f"{folder}: {DAMAGED.message}")
    return to_json(run.command), to_json(run.status), events, of_training(place.sae("s"), place)


@dataclass(frozen=True)
class Kind:
    name: str
    path: Path
    """Of the artefact."""
    files: tuple[Path, ...]
    read: Callable[[Path, Workspace], Any]


def kinds(place: Workspace) -> Iterable[Kind]:
    store, (embeddings,), sae, half = (
        place.activations("A"),
        (place.root / "embeddings").iterdir(),
        place.sae("s"),
        place.sae("half"),
    )
    (neurons,), run = (place.root / "neurons").glob("*.h5"), place.runs / "001"
    yield Kind("shards", store, tuple(sorted(store.glob("*.h5"))), of_store)
    yield Kind("embeddings", embeddings, tuple(sorted(embeddings.glob("*.h5"))), of_store)
    yield Kind("manifests", store, (store / "manifest.json",), of_store)
    yield Kind("manifests of embeddings", embeddings, (embeddings / "manifest.json",), of_store)
    yield Kind("sae.safetensors", sae, (sae / "sae.safetensors",), of_sae)
    yield Kind("config.json", sae, (sae / "config.json",), of_sae)
    yield Kind("training.json", sae, (sae / "training.json",), of_training)
    yield Kind("preview.json", sae, (sae / "preview.json",), of_training)
    yield Kind("checkpoints", half, (half / "checkpoints" / "newest.safetensors",), of_checkpoint)
    yield Kind("neurons", neurons, (neurons,), of_scores)
    yield Kind("command.json", run, (run / "command.json",), of_run)
    yield Kind("status.json", run, (run / "status.json",), of_run)
    yield Kind("events.jsonl", run, (run / "events.jsonl",), of_run)


# The flips


def flipped(path: Path, data: bytes, at: int, bit: int, when: int) -> None:
    """In place, at a time of its own: what is known of a file by its stamp must not hide what is in it now."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ (1 << bit)]))
    os.utime(path, ns=(when, when))


def same(one: Any, other: Any) -> bool:
    return plain(one) == plain(other)


def plain(value: Any) -> Any:
    """Told in text and bytes, so that arrays compare and NaN equals itself."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist() if value.dtype == object else value.tobytes()
    if isinstance(value, torch.Tensor):
        return plain(value.numpy())
    if isinstance(value, dict):
        return [(key, plain(one)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "latents") and hasattr(value, "grid"):  # a preview, whose maps are arrays
        return [plain(vars(value) | {"latents": [plain(vars(one)) for one in value.latents]})]
    return vars_of(value) if type(value).__name__ in ("TopImage", "FormingLatent") else without_time(repr(value))


def vars_of(value: Any) -> Any:
    return [(key, plain(one)) for key, one in vars(value).items()]


def without_time(told: str) -> str:
    """Entries tell when their file changed, which a flip does change."""
    return told if "when=" not in told else ", ".join(one for one in told.split(", ") if not one.startswith("when="))


def flip_many(place: Workspace, count: int, seed: int) -> Counter[tuple[str, str]]:
    """What became of ``count`` flips: (kind of artefact, refused or unchanged). AssertionError for any other end."""
    chance, told, when = random.Random(seed), Counter[tuple[str, str]](), 1_700_000_000_000_000_000
    all_kinds = list(kinds(place))
    before = [kind.read(kind.path, place) for kind in all_kinds]
    for number in range(count):
        kind, expected = all_kinds[number % len(all_kinds)], before[number % len(all_kinds)]
        path = chance.choice(kind.files)
        data = path.read_bytes()
        at, bit, when = chance.randrange(len(data)), chance.randrange(8), when + 10**9
        flipped(path, data, at, bit, when)
        try:
            found = kind.read(kind.path, place)
            assert same(found, expected), f"{path} was read as something else with bit {bit} of byte {at} flipped"
            told[kind.name, "no number changed"] += 1
        except UserError as error:
            assert str(kind.path) in str(error) and "\n" not in str(error), error
            told[kind.name, "refused"] += 1
        finally:
            path.write_bytes(data)
            os.utime(path, ns=(when + 1, when + 1))
    assert [same(kind.read(kind.path, place), one) for kind, one in zip(all_kinds, before, strict=True)] == [True] * 13
    return told


def test_a_flipped_bit_is_refused_or_changes_no_number(study: Workspace) -> None:
    told = flip_many(study, 390, seed=1)
    assert all(told[kind.name, "refused"] > 10 for kind in kinds(study)), told


@pytest.mark.slow
def test_five_thousand_flipped_bits_are_refused_or_change_no_number(study: Workspace) -> None:
    told = flip_many(study, 5_000, seed=2)
    for (kind, end), count in sorted(told.items()):
        print(f"{kind:<24} {end:<18} {count:>5}")
    assert sum(told.values()) == 5_000
