"""What reading ahead keeps in memory, whatever the pictures."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.activations import reading
from engine.activations.reading import prepared
from engine.images import Images, open_images
from engine.images.room import Room
from engine.models import load_encoder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for n in range(40):
        Image.fromarray(np.roll(noise, n, 1)).resize((600 + n, 400)).save(folder / f"{n:02d}.png")
    return folder


def test_pictures_that_are_decoded_together_fit_into_the_room(photographs: Path, monkeypatch) -> None:
    encoder, decoded, most, changing = load_encoder("demo"), 0, 0, threading.Lock()
    plain, preprocess = Images.decode, encoder.preprocess

    def decode(self, index, data):
        nonlocal decoded, most
        picture = plain(self, index, data)
        with changing:
            decoded += 1
            most = max(most, decoded)
        return picture

    def processed(images):
        nonlocal decoded
        time.sleep(0.01)  # so that threads meet
        inputs = preprocess(images)
        with changing:
            decoded -= len(images)
        return inputs

    images, spans, alone = open_images(photographs), [(0, 16), (16, 32), (32, 40)], encoder.alone
    assert not alone
    before = list(prepared(images, encoder, spans, 4))
    monkeypatch.setattr(reading, "LOT", reading.PIXEL * 640 * 400 + (1 << 20))  # one picture a thread
    monkeypatch.setattr(Images, "decode", decode)
    monkeypatch.setattr(encoder, "preprocess", processed)
    after = list(prepared(images, encoder, spans, 4))

    assert 1 <= most <= 5
    assert [batch.records for batch in after] == [batch.records for batch in before]
    assert all(batch.indices == list(range(*span)) for batch, span in zip(after, spans, strict=True))
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.parts[0].inputs["pixel_values"], other.parts[0].inputs["pixel_values"])


def test_what_is_larger_than_the_room_goes_alone() -> None:
    room, inside, most = Room(10), 0, 0
    changing = threading.Lock()

    def work(wanted: int) -> None:
        nonlocal inside, most
        with room.taken(wanted):
            with changing:
                inside += wanted
                most = max(most, inside)
                assert wanted <= 10 or inside == wanted
            time.sleep(0.005)
            with changing:
                inside -= wanted

    threads = [threading.Thread(target=work, args=(n,)) for n in (4, 25, 3, 6, 25, 1, 5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 25


_EXTRACT = """
import resource, sys
from pathlib import Path
from engine.activations.extract import extract
from engine.config import ExtractSettings
from engine.models import load_encoder
from engine.workspace import Workspace
assert not load_encoder("demo").alone
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
extract(ExtractSettings(model="demo", images=sys.argv[1], name="x"), Workspace(Path(sys.argv[2])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_photographs_of_24_megapixels_take_two_gigabytes(tmp_path: Path) -> None:
    y, x = np.mgrid[0:4000, 0:6000]
    (tmp_path / "images").mkdir()
    for n in range(64):
        shades = np.stack([(x // 24 + n) % 256, y // 16, (x + y) // 40], -1).astype(np.uint8)
        Image.fromarray(shades).save(tmp_path / "images" / f"{n:02d}.jpg")
    asked = [sys.executable, "-c", _EXTRACT, str(tmp_path / "images"), str(tmp_path / "workspace")]
    kilobytes = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert kilobytes * 1024 <= 2e9
