"""Every reader of files is given files of strangers: it ends with a value, or in a sentence; soon, and without bloat."""

import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save
from scipy import sparse

from engine.activations.matrix_files import read_matrix
from engine.activations.store import Store
from engine.images import FORMATS, BrokenImage, decode, open_images
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.names import read_vocabulary
from engine.runs.events import parse_events, read_events
from engine.runs.plan import read_plan
from engine.runs.run import Run
from engine.runs.trainings import TrainingLog
from engine.runs.watch import RunWatch
from engine.sae.config import read_config
from engine.sae.model import SAE
from engine.sae.preview import read_preview
from engine.sae.state import read_state, read_training
from engine.server.protocol import Answer, Cancel, Done, TellStatus, read_event, read_request, write_event, write_request
from engine.steer.recipes import load_recipe
from engine.steer.results import Steered
from engine.config import SteerSettings
from engine.workspace import Workspace
from tests.support.layouts import png
from tests.support.strangers import changed, odd_json, odd_lines, throw

OLD = Path(__file__).parents[1] / "old_workspace"


def pictures() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 17, 4), np.uint8)
    found = []
    for name in FORMATS:
        for mode in ("RGB", "RGBA", "L", "P", "I;16", "CMYK"):
            out = io.BytesIO()
            try:
                image = Image.fromarray(noise).convert("L" if mode == "I;16" else mode)
                exif = Image.Exif()
                exif[0x0112] = 6
                image.save(out, name, exif=exif)
            except (OSError, ValueError, KeyError):
                continue
            found.append(out.getvalue())
    return found


def tar() -> list[bytes]:
    found = []
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as tar:
            for name, data in (("a/1.png", png(1)), ("a/1.cls", b"cat"), ("b/ü.png", png(2)), ("b/ü.json", b'{"label": 3}')):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.pax_headers = {"comment": "x" * 200} if format == tarfile.PAX_FORMAT else {}
                tar.addfile(info, io.BytesIO(data))
        found.append(out.getvalue())
    sparse_header = "GNU.sparse.major=1 GNU.sparse.minor=0 GNU.sparse.name=a.png GNU.sparse.realsize=99999999999".split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/a.png")
        info.pax_headers = dict(one.split("=") for one in sparse_header)
        info.size = 512
        tar.addfile(info, io.BytesIO(b"2\n0\n10\n20\n10\n".ljust(512, b"\0")))
    return [*found, out.getvalue()]


def zips() -> list[bytes]:
    found = []
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", how) as archive:
            for name, data in (("a/1.png", png(1)), ("a/1.txt", b"cat"), ("b/2.png", png(2)), ("b/2.json", b"[1, 2]")):
                archive.writestr(name, data)
        found.append(out.getvalue())
    return found


def arrays() -> dict[str, list[bytes]]:
    matrix = np.arange(24, dtype=np.float32).reshape(6, 4)
    npy, npz, csr, coo, pt, spt, h5 = (io.BytesIO() for _ in range(7))
    np.save(npy, matrix)
    np.savez_compressed(npz, activations=matrix)
    sparse.save_npz(csr, sparse.csr_array(matrix))
    sparse.save_npz(coo, sparse.coo_array(matrix), compressed=False)
    torch.save({"activations": torch.from_numpy(matrix)}, pt)
    torch.save(torch.from_numpy(matrix).to_sparse_csr(), spt)
    with h5py.File(h5, "w") as file:
        file.create_dataset("activations", data=matrix, chunks=(2, 4), compression="gzip")
        file["other"] = h5py.SoftLink("/activations")
    return {
        ".npy": [npy.getvalue()],
        ".npz": [npz.getvalue(), csr.getvalue(), coo.getvalue()],
        ".pt": [pt.getvalue(), spt.getvalue()],
        ".safetensors": [save({"activations": matrix})],
        ".h5": [h5.getvalue()],
    }


def _look(source: Path) -> None:
    images = open_images(source)
    for index in range(min(len(images), 8)):
        try:
            images.load(index)
        except BrokenImage:
            continue
    images.sha256  # noqa: B018 - reads what is not known


def _store(file: Path) -> None:
    store = Store.open(file.parent)
    assert store.rows >= 0
    list(store.images)
    store.read(0, min(store.rows, 4))
    store.image, store.token  # noqa: B018 - read when asked for
    store.verify()


def _neurons(path: Path) -> None:
    with Neurons.open(path) as neurons, refusing_damage(path):
        for row in neurons.table(top=3):
            neurons.top(row.latent), neurons.maps(row.latent), neurons.neighbours(row.latent)
        neurons.table(search="cat", top=3)
        neurons.taxonomy  # noqa: B018


def _labels(path: Path) -> None:
    labels = Labels.open(path)
    labels.set(3, "a cat")


def _status(file: Path) -> None:
    from saetui.cli.jobs import _line, _record

    run = Run(file.parent)
    _line(run)
    json.dumps(_record(run), default=str)
    RunWatch(Workspace(file.parents[2])).look()


def _events(path: Path) -> None:
    list(parse_events(path.read_bytes()))
    read_events(path)
    TrainingLog(path, "x", whole=True).read()


def _session(path: Path) -> None:
    from saetui.session import Session

    session = Session.__new__(Session)
    session.path, session._modes = path, {}
    session._load()
    for name, default in (("sort", "ms"), ("pictures", 16), ("open", False), ("sources", [])):
        assert type(session.recall("neurons", name, default)) is type(default)
    session.set("neurons", sort="ms")
    session.save()


def _versions(path: Path) -> None:
    from saetui.modes.steer.versions import Versions

    for version in Versions(path).read():
        version.text()


def _preferences(path: Path) -> None:
    from saetui.preferences import read_preferences

    read_preferences(path)


def _request(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        try:
            read_request(line)
        except ValueError:
            continue


def _event(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        try:
            read_event(line)
        except ValueError:
            continue


QUESTION = SteerSettings(sae="s", vlm="demo", prompt="x", latent=("5=30",))
REQUESTS = b"".join(write_request(n, one) for n, one in enumerate((Answer(QUESTION), TellStatus(), Cancel())))
EVENTS = write_event(3, Done(Steered(QUESTION, "a", "b", "c"))) if False else b'{"id": 3, "kind": "stage", "name": "x"}\n'
PLAN = b'[[extract]]\nmodel = "demo"\nimages = "x"\nname = "a-{seed}"\n[[train]]\nactivations = "a"\narch = ["topk"]\nname = "{arch}"\n'
RUN = b'{"version": 2, "task": "train", "settings": {"name": "x", "activations": "a"}, "workspace": "/w", "cwd": "/w", "argv": []}'
STATUS = b'{"state": "running", "pid": 1, "started": 5.5, "ended": 9.5, "stage": "train", "progress": {"done": 3, "total": 9, "unit": "steps", "loss": 0.5}}'
LOG = (
    b'{"seq": 1, "time": 5.0, "kind": "stage", "name": "train"}\n'
    b'{"seq": 2, "time": 6.0, "kind": "progress", "done": 5, "total": 9, "unit": "steps", "loss": 0.5}\n'
    b'{"seq": 3, "time": 9.0, "kind": "metrics", "step": 5, "fve": 0.5}\n'
    b'{"seq": 4, "time": 9.5, "kind": "progress", "done": 9, "total": 9, "unit": "steps"}\n'
    b'{"seq": 5, "time": 9.9, "kind": "done", "result": {}}\n'
)
STATE = b'{"version": 1, "panes": {"neurons": {"sort": "ms", "pictures": 16, "open": true}, "data": {"sources": ["x"]}}}'
CONFIG = b'theme = "paper"\nascii = true\n[keys]\n"neurons.steer" = "s,f5"\n'
LABELS = b'format = "saetui-labels"\nversion = 1\nmarked = [3]\n[text]\n3 = "cat"\n5 = "dog"\n'


def _old(*parts: str) -> list[bytes]:
    return [(OLD.joinpath(*parts)).read_bytes()]


READERS: dict[str, tuple[str, Callable[[Path], Any], Callable[[], list[bytes]], Any]] = {
    "images": ("x.png", lambda path: decode(path.read_bytes()), pictures, changed),
    "a tree": ("tree/a.png", lambda path: _look(path.parent), pictures, changed),
    "tar": ("x.tar", _look, tar, changed),
    "zip": ("x.zip", _look, zips, changed),
    "text lists": ("x.txt", _look, lambda: [b'a.png cat\n~$scan.png\n"b, c.png", dog\n', b"a.png\tcat\n"], changed),
    "csv": ("x.csv", _look, lambda: [b'path,class\na.png,cat\n"b ""c"".png",dog\n', b"a.png;cat\n"], changed),
    "jsonl": ("x.jsonl", _look, lambda: [b'{"path": "a.png", "class": "cat"}\n{"file_name": "b.png", "taxonomy": ["a", "b"]}'], odd_lines),
    "metadata": ("tree/metadata.csv", lambda path: _look(path.parent), lambda: [b"file_name,label\na.png,cat\n"], changed),
    "vocabulary": ("words.txt", read_vocabulary, lambda: [b"cat\n# dog\nfish\n"], changed),
    "manifest": ("store/manifest.json", _store, lambda: _old("activations", "patches", "manifest.json"), odd_json),
    "shard": ("store/shard-00000.h5", _store, lambda: _old("activations", "patches", "shard-00000.h5"), changed),
    "neurons": ("n/jump--images.h5", _neurons, lambda: _old("neurons", "jump--images.h5"), changed),
    **{f"matrix {suffix}": (f"m{suffix}", read_matrix, lambda suffix=suffix: arrays()[suffix], changed) for suffix in (".npy", ".npz", ".pt", ".safetensors", ".h5")},
    "sae weights": ("sae/sae.safetensors", lambda path: SAE.load(path.parent), lambda: _old("saes", "jump", "sae.safetensors"), changed),
    "sae config": ("sae/config.json", lambda path: (read_config(path.parent), SAE.load(path.parent)), lambda: _old("saes", "jump", "config.json"), odd_json),
    "training": ("sae/training.json", lambda path: read_training(path.parent), lambda: _old("saes", "jump", "training.json"), odd_json),
    "preview": ("sae/preview.json", lambda path: read_preview(path.parent), lambda: _old("saes", "jump", "preview.json"), odd_json),
    "checkpoint": ("sae/checkpoints/newest.safetensors", lambda path: read_state(path.parents[1]), lambda: _old("saes", "interrupted", "checkpoints", "newest.safetensors"), changed),
    "events": ("runs/r/events.jsonl", _events, lambda: [LOG], odd_lines),
    "status": ("runs/r/status.json", _status, lambda: [STATUS], odd_json),
    "command": ("runs/r/command.json", _status, lambda: [RUN], odd_json),
    "workspace": ("w/workspace.toml", lambda path: Workspace(path.parent).defaults(), lambda: _old("workspace.toml"), changed),
    "plan": ("plan.toml", lambda path: read_plan(path, Workspace(path.parent)), lambda: [PLAN], changed),
    "recipe": ("recipes/hat.toml", lambda path: load_recipe(Workspace(path.parents[1]), str(path)), lambda: _old("recipes", "hat.toml"), changed),
    "labels": ("labels/x.toml", _labels, lambda: [LABELS], changed),
    "state": ("state.json", _session, lambda: [STATE], odd_json),
    "preferences": ("config.toml", _preferences, lambda: [CONFIG], changed),
    "versions": ("v.jsonl", _versions, lambda: [b'{"setup": {}, "answers": {}, "time": 1}\n'], odd_lines),
    "requests": ("in.jsonl", _request, lambda: [REQUESTS], odd_lines),
    "server events": ("out.jsonl", _event, lambda: [EVENTS], odd_lines),
}


def _placed(name: str, tmp_path: Path) -> Path:
    """Where the reader's file goes, with what belongs beside it."""
    place = tmp_path / READERS[name][0]
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = {
        "store": OLD / "activations" / "patches",
        "sae": OLD / "saes" / "jump",
    }.get(place.parent.name)
    if beside:
        shutil.copytree(beside, place.parent, dirs_exist_ok=True)
    if place.parent.name == "r":
        (place.parent / "command.json").write_bytes(RUN)
        (place.parent / "status.json").write_bytes(STATUS)
    return place


@pytest.mark.parametrize("name", READERS)
def test_hostile_files_end_in_a_value_or_a_sentence(name: str, tmp_path: Path) -> None:
    _, read, seeds, change = READERS[name]
    ends = throw(read, _placed(name, tmp_path), seeds(), change, 60)
    assert ends


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_hostile_files(name: str, tmp_path: Path) -> None:
    _, read, seeds, change = READERS[name]
    ends = throw(read, _placed(name, tmp_path), seeds(), change, 10_000)
    print(name, ends)
