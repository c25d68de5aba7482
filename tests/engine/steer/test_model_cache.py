import gc
import os
import weakref

import torch

from engine.reporter import Reporter
from engine.sae.model import SAE
from engine.steer.model_cache import ModelCache
from tests.support.tiny_llava import random_sae, save_llava

CPU = torch.device("cpu")


class Listener(Reporter):
    def __init__(self):
        self.loads = []

    def loading(self, what, size):
        self.loads.append((what, size))
        return super().loading(what, size)


def test_two_saes_are_kept_and_changed_files_are_loaded_again(tmp_path):
    listener, loaded = Listener(), ModelCache()
    for seed, name in enumerate("abc"):
        random_sae(seed=seed).save(tmp_path / name)

    def load(name):
        return loaded.sae(tmp_path / name, CPU, listener)

    first = load("a")
    assert load("a") is first
    assert listener.loads == [("the SAE a", (tmp_path / "a/sae.safetensors").stat().st_size)]
    load("b")
    assert load("a") is first, "two are kept"
    load("c")
    assert load("a") is first, "the least recently used one was dropped"
    assert len(listener.loads) == 3
    random_sae(seed=9).save(tmp_path / "a")
    second = load("a")
    assert second is not first and second.sha256 != first.sha256
    torch.testing.assert_close(second.sae.W_dec, SAE.load(tmp_path / "a").W_dec)


def test_one_model_at_a_time_and_its_memory_is_free_before_the_next(tmp_path):
    listener, loaded = Listener(), ModelCache()
    folder = str(save_llava(tmp_path / "llava"))
    first = loaded.vlm(folder, CPU, "auto", listener)
    assert loaded.vlm(folder, CPU, "auto", listener) is first
    assert loaded.encoder(folder, CPU, listener) is loaded.encoder(folder, CPU, listener)
    gone, first = weakref.ref(first), None
    os.utime(tmp_path / "llava/model.safetensors")
    loaded.vlm(folder, CPU, "auto", listener)
    assert gone() is None
    assert [what for what, _ in listener.loads] == [
        f"the model {folder}",
        f"the encoder {folder}",
        f"the model {folder}",
    ]
    loaded.clear()
    gc.collect()
    assert not loaded.vlms.values() and not loaded.encoders.values()
