"""The workspace that other tests stand on is what it claims to be, at both of its sizes."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from engine.images import open_images
from engine.neurons.file import Neurons
from engine.neurons.taxonomy import matryoshka
from engine.sae.config import read_config
from engine.sae.model import SAE
from tests.support.synthetic import write_synthetic


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("small"), w=300, images=80)


def contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def test_it_is_a_workspace_that_everything_reads(small):
    with Neurons.open(small / "neurons/synthetic--drawn.h5") as neurons:
        assert neurons.w == 300 == read_config(small / "saes/synthetic").w
        pictures = open_images(neurons.summary.settings.images)
        assert [image.path for image in neurons.images] == [entry.path for entry in pictures.entries]
        assert neurons.summary.alive + neurons.summary.dead == 300 and neurons.summary.dead > 0
        assert len(matryoshka(neurons.group, neurons.summary.hierarchy)) == 3
        row = neurons.table(search="alive ms>0", top=1)[0]
        assert row.values["low"] < row.values["ms"] < row.values["high"] and neurons.search(row.names[0])
        shown = neurons.top(row.latent)
        assert len({one.image for one in shown}) == len(shown) == neurons.maps(row.latent).any(axis=(1, 2)).sum()
        assert len(neurons.neighbours(row.latent).near) == 8
        assert {len(neurons.path_of(latent)[0]) for latent in range(300)} == {0, 1, 2, 3}
        assert neurons.directions.shape == (300, len(neurons.word_mean))
    assert SAE.load(small / "saes/synthetic").W_dec.shape == (300, 192)


def test_a_seed_decides_everything(small, tmp_path):
    one, other = (
        contents(write_synthetic(tmp_path / n, w=300, images=80, seed=int(n)) / "neurons/synthetic--drawn.h5")
        for n in ("0", "1")
    )
    again = contents(small / "neurons/synthetic--drawn.h5")
    for name in set(one) - {"summary", "provenance"}:  # these tell where the images lie, and the hash of the weights
        np.testing.assert_array_equal(one[name], again[name], err_msg=name)
    assert one["provenance"] == again["provenance"]
    assert (one["latents/top_images"] != other["latents/top_images"]).any()


SCROLL = """
import resource, sys, time
from engine.neurons.file import Neurons
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
before = held()
neurons = Neurons.open(sys.argv[1])
for sort in ("ms", "support", "frequency", "group", "maximum", "matched", "depth", "gain"):
    for latent in neurons.order(sort)[:100]:
        neurons.row(latent)
neurons.order(search="pencil ms>.5")
assert held() - before < 100, held() - before
assert not {"torch", "scipy", "transformers"} & set(sys.modules)

def best(call):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)

# Five times the 10 ms that are meant: the machine may be busy.
assert best(lambda: neurons.order(search="ms>.5 freq<.01 pencil")) < 0.05
assert best(lambda: neurons.match(neurons, 5)) < 0.05
assert best(lambda: neurons.taxonomy.tree(neurons.top_images)) < 1
"""


def test_65_536_latents_are_light_and_quick(tmp_path):
    path = write_synthetic(tmp_path, images=300) / "neurons/synthetic--drawn.h5"
    subprocess.run([sys.executable, "-c", SCROLL, path], check=True)
    assert not (tmp_path / "saes/synthetic/sae.safetensors").exists()
