"""Memory that runs out: fewer images at once, a training that can go on, a training that is refused beforehand."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.errors import Notice, UserError
from engine.models import from_transformers
from engine.models.device import free_memory, is_out_of_memory
from engine.numbers import size
from engine.sae import train as module
from engine.sae.train import check_memory, train
from engine.settings import WrongValue
from engine.workspace import Workspace
from tests.support.extractions import Recorder, ask, contents, saved_model, write_pictures
from tests.support.stores import write_store
from tests.support.trainings import activations, chosen

Encoder = from_transformers.TransformersEncoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


def full_above(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory for ``most`` images at once. Returns how many each pass was given."""
    given: list[int] = []
    real = Encoder._forward

    def forward(self: Encoder, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        given.append(len(inputs["pixel_values"]))
        if given[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, inputs)

    monkeypatch.setattr(Encoder, "_forward", forward)
    return given


def test_a_batch_is_halved_until_it_fits_and_the_rows_are_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_pictures(tmp_path / "images", 40)
    once, less = Workspace(tmp_path / "once"), Workspace(tmp_path / "less")
    settings = ask(model, images, batch_size=8, shard_rows=300)
    extract(settings, once)
    given = full_above(3, monkeypatch)
    with pytest.warns(Notice) as told:
        extract(settings, less, Recorder())
    said = [str(one.message) for one in told if "memory" in str(one.message)]
    assert [re.findall(r"\d+", text.split("clip", 1)[1])[-1] for text in said] == ["4", "2"]
    assert "--batch-size 2 asks for that." in said[-1] and "8 images" in said[0]
    assert max(given[-10:]) == 2 and sum(n > 3 for n in given) == 2, "it is tried once"
    one, other = (Store.open(place.activations("A")) for place in (once, less))
    np.testing.assert_allclose(one.read(0, one.rows), other.read(0, other.rows), atol=1e-3, rtol=1e-3)
    assert (one.image == other.image).all() and (one.token == other.token).all()


def test_one_image_that_does_not_fit_is_a_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_pictures(tmp_path / "images", 8, broken=())
    full_above(0, monkeypatch)
    with pytest.raises(UserError, match=r"cpu is out of memory for a single image of .*: use --device cpu\."):
        extract(ask(model, images), Workspace(tmp_path / "w"))


def test_what_torch_says_where_the_host_has_no_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value) and not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_training_out_of_memory_goes_on_from_the_step_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [Workspace(tmp_path / name) for name in ("once", "twice")]
    for place in places:
        write_store(place.activations("a"), activations()[0], tokens=4)
    train(chosen(), places[0])
    real = module.TrainingLoop._update

    def update(self: module.TrainingLoop, x: torch.Tensor) -> torch.Tensor:
        if self.step == 12:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(module.TrainingLoop, "_update", update)
        with pytest.raises(UserError, match=r"cpu is out of memory in step 13 of s; step 12 is kept: .*--batch-size\."):
            train(chosen(), places[1])
    train(chosen(), places[1])
    assert contents(places[1].sae("s")) == contents(places[0].sae("s"))


@pytest.mark.parametrize(
    ("free", "way"),
    [
        (2_000_000_000, r"--batch-size (\d+) or less"),
        (400_000_000, r"--expansion ([\d.]+) or less, and --batch-size 256"),
    ],
)
def test_a_training_that_does_not_fit_is_refused_with_what_fits(free: int, way: str) -> None:
    asked = chosen(expansion=16.0, batch_size=65_536)
    with pytest.raises(WrongValue, match=rf"at least, and {size(free)} are free: give {way}\.") as refused:
        check_memory(asked, 1024, free)
    assert refused.value.setting == ("batch_size" if "batch-size (" in way else "expansion"), "what is to be mended"
    found = re.search(way, str(refused.value))
    assert found
    fits = replace(asked, batch_size=int(found[1])) if "batch-size (" in way else None
    check_memory(fits or replace(asked, expansion=float(found[1]), batch_size=256), 1024, free)


def test_free_memory_is_that_of_the_control_group_where_it_has_a_limit(tmp_path: Path) -> None:
    cpu, system, group = torch.device("cpu"), tmp_path / "meminfo", tmp_path
    assert free_memory(cpu, system, group) is None
    system.write_text("MemTotal:  9 kB\nMemAvailable:   1000 kB\n")
    assert free_memory(cpu, system, group) == 1_024_000
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(cpu, system, group) == 1_024_000
    (group / "memory.max").write_text("1000000\n")
    assert free_memory(cpu, system, group) == 200_000
