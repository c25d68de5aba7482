"""What a judge has seen it is not shown again, whoever asked for it first; told by the images that are decoded."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.config import ExtractSettings
from engine.images import Images
from engine.neurons.file import Neurons
from engine.neurons.score import score_together
from engine.workspace import Workspace
from tests.support.scoring import N, ask, random_sae

LISTED = N + 1  # one of which is broken


@pytest.fixture
def read(monkeypatch) -> Counter:
    """How many lists of images were opened, and images decoded, from here on."""
    counts, made, decode = Counter(), Images.__init__, Images.decode

    def opened(self, *given, **more):
        counts["lists"] += 1
        made(self, *given, **more)

    def decoded(self, index, data):
        counts["images"] += 1
        return decode(self, index, data)

    monkeypatch.setattr(Images, "__init__", opened)
    monkeypatch.setattr(Images, "decode", decoded)
    return counts


@pytest.fixture
def work(place, tmp_path):
    random_sae(str(place / "clip"), tmp_path / "work/saes/S")
    return Workspace(tmp_path / "work")


def embeddings(place, **more):
    """What a judge sees, as a person keeps it."""
    given = {"model": str(place / "dino"), "dtype": "float32", "batch_size": 7, "device": "cpu", **more}
    return ExtractSettings(images=str(place / "images"), at=("last",), embeddings=True, name="mine", **given)


def test_images_are_listed_once_and_decoded_once_for_each_encoder(place, work, read):
    score_together([ask(place, embed_with=str(place / one), name=one) for one in ("dino", "clip")], work)
    assert read == {"lists": 1, "images": 3 * LISTED}  # each judge, and the encoder that the SAE reads


def test_what_is_kept_for_another_purpose_is_copied_and_scores_are_the_same_bytes(place, work, read, tmp_path):
    alone = Path(score_together([ask(place)], work)[0].path).read_bytes()
    shared = Workspace(tmp_path / "shared")
    random_sae(str(place / "clip"), shared.sae("S"))
    extract(embeddings(place), shared)
    read.clear()
    (again,) = score_together([ask(place)], shared)
    assert read == {"lists": 1, "images": LISTED + 1}  # the broken one is tried again
    assert Path(again.path).read_bytes() == alone
    with Neurons.open(again.path) as neurons:
        (judged,) = (one.name for one in neurons.provenance.made_from if one.kind == "embeddings")
    assert (
        judged != "mine" and Store.open(shared.embeddings(judged)).sha256 == Store.open(work.embeddings(judged)).sha256
    )


def test_what_is_kept_otherwise_is_not_taken(place, work, read):
    changes = [{"dtype": "float16"}, {"batch_size": 8}, {"limit": 20}, {"model": str(place / "clip")}, {}]
    for number, change in enumerate(changes):
        extract(replace(embeddings(place, **change), name=f"other-{number}"), work)
    (shard,) = work.embeddings(f"other-{number}").glob("*.h5")
    shard.write_bytes(shard.read_bytes()[:-1])  # of the one that would serve
    read.clear()
    score_together([ask(place)], work)
    assert read["images"] - 2 * LISTED in (0, 1)  # the broken one may be tried again
