"""``verify`` and ``verify --repair``: every byte compared, and only what is bad made anew, to the same bytes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.artefacts.verify import verify
from engine.config import VerifySettings
from engine.errors import Stopped, UserError
from engine.reporter import Reporter
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support import trainings
from tests.support.extractions import ask, contents, saved_model, write_pictures
from tests.support.scores import write_scores
from tests.support.shell import saetui
from tests.support.stores import write_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with stores of two hook points, which have 17 rows an image and 1; its model and its images."""
    root = tmp_path_factory.mktemp("study")
    model, images = saved_model(root / "model"), write_pictures(root / "images", 20)
    extract(ask(model, images, at=("layer:1", "last")), Workspace(root / "w"))
    return root


@pytest.fixture
def study(made, tmp_path):
    return Workspace(shutil.copytree(made / "w", tmp_path / "w"))


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at < 0 else at] ^= 1
    path.write_bytes(data)


def repair(store: str, place: Workspace, reporter: Reporter | None = None):
    return verify(VerifySettings(store=store, repair=True), place, reporter)


class Counting(Reporter):
    def __init__(self):
        self.images = 0

    def progress(self, done, total, unit, **measured):
        self.images += unit == "images"


class Stopping(Counting):
    def check(self):
        if self.images:
            raise Stopped


@pytest.mark.parametrize("store", ["A-layer1", "A-last"])
def test_only_bad_and_missing_shards_are_made_anew_to_the_same_bytes(study, store):
    folder, before = study.activations(store), contents(study.root)
    first, second, third = sorted(folder.glob("*.h5"))
    flip(first)
    kept = os.stat(second).st_mtime_ns
    third.unlink()
    assert len(verify(VerifySettings(store=store), study).problems) == 2
    counted = Counting()
    result = repair(store, study, counted)
    assert (result.repaired, result.problems) == ((first.name, third.name), ())
    assert contents(study.root) == before and os.stat(second).st_mtime_ns == kept
    assert 0 < counted.images <= 4, "two shards of three, of two batches each"
    assert repair(store, study).repaired == ()


def test_a_shard_of_another_store_is_named_and_replaced(study):
    before = contents(study.root)
    path = study.activations("A-layer1") / "shard-00000.h5"
    shutil.copy(study.activations("A-layer1") / "shard-00001.h5", path)
    with pytest.raises(UserError, match=r"shard-00000.h5 is damaged .* verify .* --repair"):
        Store.open(path.parent).read(0, 1)
    assert repair("A-layer1", study).repaired == (path.name,) and contents(study.root) == before


def test_a_repair_that_was_killed_is_done_again(study):
    before = contents(study.root)
    flip(study.activations("A-layer1") / "shard-00001.h5")
    with pytest.raises(Stopped):
        repair("A-layer1", study, Stopping())
    left = study.activations("A-layer1") / ".repair" / "activations" / "A-layer1"
    left.mkdir(parents=True)  # as SIGKILL leaves it
    (left / "shard-00001.h5").write_bytes(b"half")
    repair("A-layer1", study)
    assert contents(study.root) == before


def test_other_images_and_models_are_said_and_nothing_is_touched(made, study, tmp_path):
    shard = study.activations("A-layer1") / "shard-00001.h5"
    flip(shard)
    manifest = shard.parent / "manifest.json"
    images = shutil.copytree(made / "images", tmp_path / "images")
    model = shutil.copytree(made / "model", tmp_path / "model")
    text = manifest.read_text().replace(str(made / "images"), str(images)).replace(str(made / "model"), str(model))
    said = json.loads(text)
    del said["content_sha256"]
    manifest.write_text(json.dumps(said))
    before = contents(study.root)
    changed = images / "bee" / "0001.png"  # of the bad shard, whose own list cannot be trusted
    kept = changed.read_bytes()
    changed.write_bytes((images / "bee" / "0003.png").read_bytes())
    with pytest.raises(UserError, match=r"shard-00001.h5 cannot be made as it was: .* of other images"):
        repair("A-layer1", study)
    changed.write_bytes(kept)
    changed = images / "ape" / "0002.png"
    kept = changed.read_bytes()
    changed.write_bytes((images / "bee" / "0003.png").read_bytes())
    with pytest.raises(UserError, match=r"cannot be repaired, as it was made with 20 images .* has other content"):
        repair("A-layer1", study)
    changed.write_bytes(kept)
    flip(model / "model.safetensors")
    with pytest.raises(UserError, match=r"cannot be repaired, as it was made with model .*their weights or config"):
        repair("A-layer1", study)
    assert contents(study.root) == before
    shutil.rmtree(images)
    with pytest.raises(UserError, match="images"):
        repair("A-layer1", study)
    assert contents(study.root) == before


def test_a_store_that_does_not_say_how_it_was_made(tmp_path):
    place = Workspace(tmp_path)
    store = write_store(place.activations("a"), trainings.activations()[0])
    flip(store.path / "shard-00000.h5")
    with pytest.raises(UserError, match="does not say what command made it"):
        repair("a", place)
    assert not (store.path / ".repair").exists()


def test_saes_and_scores_are_compared_too(tmp_path):
    place = Workspace(tmp_path)
    write_store(place.activations("a"), trainings.activations()[0], tokens=4)
    train(trainings.chosen(keep_state=True), place)
    scores = write_scores(place.neurons("s", "val"), 4)
    for name, files in (("saes/s", 5), (str(scores), 1)):
        result = verify(VerifySettings(store=name), place)
        assert (result.problems, result.shards, result.unit) == ((), files, "file")
    flip(place.sae("s") / "sae.safetensors")
    flip(place.sae("s") / "checkpoints" / "newest.safetensors", -1)
    flip(place.sae("s") / "training.json")
    flip(scores)
    told = verify(VerifySettings(store="saes/s"), place).problems
    assert [next(n for n in ("sae.s", "training", "newest") if n in one) for one in told] == [
        "sae.s", "training", "newest",
    ]  # fmt: skip
    assert "score again" in verify(VerifySettings(store=str(scores)), place).problems[0]
    with pytest.raises(UserError, match="no activation store, which --repair is for"):
        repair("saes/s", place)


def unseal(path: Path, *also: str) -> None:
    said = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in said.items() if name not in ("content_sha256", *also)}))


def test_what_says_no_hash_is_not_called_as_it_was_written(study):
    train(trainings.chosen(activations="A-layer1"), study)
    sae, store = study.sae("s"), study.activations("A-last")
    unseal(sae / "training.json")
    unseal(sae / "config.json", "weights_sha256")
    unseal(sae / "preview.json")
    unseal(store / "manifest.json")
    result = verify(VerifySettings(store="s"), study)
    files = sorted(Path(one.split(" has no hash")[0]).name for one in result.unrecorded)
    assert files == ["config.json", "preview.json", "sae.safetensors", "training.json"] and result.problems == ()
    assert all("has no hash to compare it with" in one for one in result.unrecorded)
    assert "manifest.json has no hash" in verify(VerifySettings(store="A-last"), study).unrecorded[0]
    assert verify(VerifySettings(store="A-layer1"), study).unrecorded == ()
    told = saetui("verify", "s", cwd=study.root, code=2)
    assert "as it was written" not in told.stdout and "is not all compared" in told.stderr
    told = saetui("verify", "A-last", cwd=study.root, code=2)
    assert "every byte of 3 shards" in told.stdout and "manifest.json has no hash" in told.stdout


def test_a_store_of_nothing_is_not_called_as_it_was_written(tmp_path):
    place = Workspace(tmp_path)
    write_store(place.activations("a"), trainings.activations()[0][:0])
    with pytest.raises(UserError, match="has no rows"):
        verify(VerifySettings(store="a"), place)
