"""Every reader is given files of strangers: it ends with a value or in a sentence, soon, and without bloat."""

import atexit
import contextlib
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save
from scipy import sparse

from engine.activations.matrix_files import read_matrix
from engine.activations.store import Store
from engine.config import ExportSettings, ImportSettings, SteerSettings
from engine.errors import UserError
from engine.exchange import bring_in
from engine.images import FORMATS, BrokenImage, decode, open_images
from engine.models import HookPoint, load_encoder
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.names import read_vocabulary
from engine.reporter import Failed, StageBegan
from engine.runs.events import parse_events, read_events
from engine.runs.plan import read_plan
from engine.runs.run import Run
from engine.runs.trainings import TrainingLog
from engine.runs.watch import RunWatch
from engine.sae.config import SAEConfig
from engine.sae.exchange import export_sae, import_sae
from engine.sae.model import SAE
from engine.sae.preview import read_preview
from engine.sae.state import read_state, read_training
from engine.server.protocol import (
    Answer,
    Cancel,
    TellStatus,
    read_event,
    read_request,
    write_event,
    write_request,
)
from engine.steer.recipes import load_recipe
from engine.workspace import Workspace
from tests.support.checkpoints import build, open_clip_model, save_open_clip
from tests.support.checkpoints import pictures as pictures_of
from tests.support.checkpoints import save as save_model
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


BESIDE = {"a/1.png": png(1), "a/1.cls": b"cat", "b/ü.png": png(2), "b/ü.json": b'{"label": 3}'}
SPARSE = {"major": "1", "minor": "0", "name": "a.png", "realsize": "99999999999"}


def tar() -> list[bytes]:
    found = []
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as tar:
            for name, data in (
                ("a/1.png", png(1)),
                ("a/1.cls", b"cat"),
                ("b/ü.png", png(2)),
                ("b/ü.json", b'{"label": 3}'),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.pax_headers = {"comment": "x" * 200} if format == tarfile.PAX_FORMAT else {}
                tar.addfile(info, io.BytesIO(data))
        found.append(out.getvalue())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/a.png")
        info.pax_headers = {f"GNU.sparse.{key}": value for key, value in SPARSE.items()}
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
EVENTS = write_event(3, StageBegan("x")) + write_event(4, Failed("no"))
PLAN = (
    b'[[extract]]\nmodel = "demo"\nimages = "x"\nname = "a-{seed}"\n'
    b'[[train]]\nactivations = "a"\narch = ["topk"]\nname = "{arch}"\n'
)
RUN = (
    b'{"version": 2, "task": "train", "settings": {"name": "x", "activations": "a"}, "workspace": "/w", '
    b'"cwd": "/w", "argv": []}'
)
STATUS = (
    b'{"state": "running", "pid": 1, "started": 5.5, "ended": 9.5, "stage": "train", '
    b'"progress": {"done": 3, "total": 9, "unit": "steps", "loss": 0.5}}'
)
ENDED = (
    b'{"state": "done", "pid": 1, "started": 5.5, "ended": 9.5, "result": {"fve": 0.5}, "memory": 9}',
    b'{"state": "failed", "pid": 1, "started": 5.5, "ended": 9.5, "error": "no room", "mistake": true}',
)
LOG = (
    b'{"seq": 1, "time": 5.0, "kind": "stage", "name": "train"}\n'
    b'{"seq": 2, "time": 6.0, "kind": "progress", "done": 5, "total": 9, "unit": "steps", "loss": 0.5}\n'
    b'{"seq": 3, "time": 9.0, "kind": "metrics", "step": 5, "fve": 0.5}\n'
    b'{"seq": 4, "time": 9.5, "kind": "progress", "done": 9, "total": 9, "unit": "steps"}\n'
    b'{"seq": 5, "time": 9.9, "kind": "done", "result": {}}\n'
)
STATE = b'{"version": 1, "panes": {"neurons": {"sort": "ms", "pictures": 16}, "data": {"sources": ["x"]}}}'
CONFIG = b'theme = "paper"\nascii = true\n[keys]\n"neurons.steer" = "s,f5"\n'
LABELS = b'format = "saetui-labels"\nversion = 1\nmarked = [3]\n[text]\n3 = "cat"\n5 = "dog"\n'
CSV = (b'path,class\na.png,cat\n"b ""c"".png",dog\n', b"a.png;cat\n")
TEXT = (b'a.png cat\n~$scan.png\n"b, c.png", dog\n', b"a.png\tcat\n")
JSONL = b'{"path": "a.png", "class": "cat"}\n{"file_name": "b.png", "taxonomy": ["a", "b"]}\n'
VERSION = b'{"setup": {}, "answers": {"untouched": "a", "attached": "b", "steered": "c"}, "time": 1}\n'


@dataclass(frozen=True)
class Reader:
    file: str
    read: Callable[[Path], Any]
    seeds: Callable[[], list[bytes]]
    change: Any = changed
    few: int = 60
    """Inputs of the short test."""


def _in_tree(path: Path) -> None:
    _look(path.parent)


def _of(*seeds: bytes) -> Callable[[], list[bytes]]:
    return lambda: list(seeds)


def _old(*parts: str) -> Callable[[], list[bytes]]:
    return lambda: [OLD.joinpath(*parts).read_bytes()]


def _matrix(suffix: str) -> Reader:
    return Reader(f"m{suffix}", read_matrix, lambda: arrays()[suffix])


def _sae(name: str, read: Callable[[Path], Any], change: Any = odd_json) -> Reader:
    return Reader(f"sae/{name}", lambda path: read(path.parent), _old("saes", "jump", name), change)


@cache
def models() -> Path:
    """Two small models, in the layouts of transformers (``clip``) and of open_clip."""
    root = Path(tempfile.mkdtemp(prefix="models-"))
    atexit.register(shutil.rmtree, root)
    model, processor = build("clip"), save_model(build("clip"), root / "clip", words=("ape", "bee"))
    model.save_pretrained(processor, max_shard_size="60KB")  # in several files, with an index
    save_open_clip(open_clip_model(), root / "open_clip")
    return root


def _model(path: Path) -> None:
    encoder = load_encoder(str(path.parent))
    inputs = encoder.preprocess(pictures_of(1))
    encoder.activations(inputs, [HookPoint("layer", 0)])
    if encoder.has_text and encoder.family == "clip":
        encoder.embed_text(["ape"])


def _of_model(kind: str, name: str, change: Any = odd_json) -> Reader:
    return Reader(f"{kind}/{name}", _model, lambda: [(models() / kind / name).read_bytes()], change, few=15)


@cache
def exported() -> Path:
    """An SAE of each format of another tool."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root)
    saes = {"dictionary_learning": "matryoshka", "saelens": "jump", "sparsify": "topk", "saev": "topk"}
    topk = SAE(SAEConfig(arch="topk", d=8, w=12, k=3, model="demo", hook="layer:4", tokens="all"))
    for parameter in topk.parameters():
        parameter.uniform_(-1, 1)
    topk.save(root / "topk")
    for format in FOREIGN:
        sae = str(OLD / "saes" / saes[format]) if saes.get(format, "topk") != "topk" else str(root / "topk")
        export_sae(ExportSettings(sae=sae, to=format, out=str(root / format)), Workspace(root))
    return root


def _imported(path: Path) -> None:
    place = Workspace(path.parent / "w")
    shutil.rmtree(place.root, ignore_errors=True)
    sae = SAE.load(import_sae(ImportSettings(source=str(path.parent), name="s"), place).path)
    sae(torch.ones(2, sae.config.d))


def _parts(path: Path) -> None:
    """The other files of a part, if it has some, lie beside it."""
    asked = ImportSettings(source=str(path.parent), name="s", model="m", hook="layer:1", tokens="cls")
    place = Workspace(path.parents[1] / "w")
    shutil.rmtree(place.root, ignore_errors=True)
    bring_in(asked, place)


def _rows(suffix: str) -> Reader:
    return Reader(f"parts/x{suffix}", _parts, lambda: arrays()[suffix])


@cache
def arrow() -> list[bytes]:
    found = []
    values = pa.array(np.arange(48, dtype=np.float32))
    rows = pa.FixedSizeListArray.from_arrays(values, 6)
    images = pa.ListArray.from_arrays(pa.array([0, 2, 4, 8], pa.int32()), rows)
    for column in (rows, images[:2]):
        for new in (pa.ipc.new_stream, pa.ipc.new_file):
            out, table = io.BytesIO(), pa.table({"acts": column})
            with new(out, table.schema) as writer:
                writer.write_table(table)
            found.append(out.getvalue())
    return found


SHARDS = {"layers": [3], "cls_token": True, "content_tokens_per_example": 1, "d_model": 3, "n_examples": 4}
SHARDS |= {"ckpt": "ViT-B-32/openai", "max_tokens_per_shard": 8}
LISTED = [{"name": "acts000000.bin", "n_examples": 4}]


def _of_saev(name: str, value: Any) -> Reader:
    return Reader(f"shards/{name}", _parts, _of(json.dumps(value).encode()), odd_json)


def _of_tool(format: str, name: str) -> Reader:
    change = odd_json if name.endswith(".json") else changed
    return Reader(f"{format}/{name}", _imported, lambda: [(exported() / format / name).read_bytes()], change, few=30)


FOREIGN = {
    "dictionary_learning": ("config.json", "ae.pt"),
    "saelens": ("cfg.json", "sae_weights.safetensors"),
    "sparsify": ("cfg.json", "sae.safetensors"),
    "saev": ("sae.pt",),
    "overcomplete": ("sae.pt", "saetui.json"),
}
STORE = ("activations", "patches")
OF_TRANSFORMERS = (
    *("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    "model.safetensors.index.json",
)
CHECKPOINT = ("saes", "interrupted", "checkpoints", "newest.safetensors")
READERS: dict[str, Reader] = {
    "images": Reader("x.png", lambda path: decode(path.read_bytes()), pictures),
    "a tree": Reader("tree/a.png", _in_tree, pictures),
    "tar": Reader("x.tar", _look, tar),
    "zip": Reader("x.zip", _look, zips),
    "text lists": Reader("x.txt", _look, _of(*TEXT)),
    "csv": Reader("x.csv", _look, _of(*CSV)),
    "jsonl": Reader("x.jsonl", _look, _of(JSONL), odd_lines),
    "metadata": Reader("tree/metadata.csv", _in_tree, _of(b"file_name,label\na.png,cat\n")),
    "metadata of lines": Reader("tree/metadata.jsonl", _in_tree, _of(JSONL), odd_lines),
    "vocabulary": Reader("words.txt", read_vocabulary, _of(b"cat\n# dog\nfish\n")),
    "manifest": Reader("store/manifest.json", _store, _old(*STORE, "manifest.json"), odd_json),
    "shard": Reader("store/shard-00000.h5", _store, _old(*STORE, "shard-00000.h5")),
    "neurons": Reader("n/jump--images.h5", _neurons, _old("neurons", "jump--images.h5")),
    **{f"matrix {suffix}": _matrix(suffix) for suffix in (".npy", ".npz", ".pt", ".safetensors", ".h5")},
    **{f"rows {suffix}": _rows(suffix) for suffix in (".npy", ".npz", ".pt", ".safetensors")},
    "rows .arrow": Reader("parts/x.arrow", _parts, arrow),
    "shards' metadata": _of_saev("metadata.json", SHARDS),
    "shards' list": _of_saev("shards.json", LISTED),
    "what an export left": Reader("npy/saetui.json", _parts, _of(b'{"tokens_per_image": 2}'), odd_json),
    "sae weights": _sae("sae.safetensors", SAE.load, changed),
    "sae config": _sae("config.json", SAE.load),
    "training": _sae("training.json", read_training),
    "preview": _sae("preview.json", read_preview),
    "checkpoint": Reader(
        "sae/checkpoints/newest.safetensors", lambda path: read_state(path.parents[1]), _old(*CHECKPOINT)
    ),
    "events": Reader("runs/r/events.jsonl", _events, _of(LOG), odd_lines),
    "ended status": Reader("runs/r/status.json", _status, _of(*ENDED), odd_json),
    "status": Reader("runs/r/status.json", _status, _of(STATUS), odd_json),
    "command": Reader("runs/r/command.json", _status, _of(RUN), odd_json),
    "workspace": Reader(
        "w/workspace.toml", lambda path: Workspace(path.parent).defaults(), _of(b'seed = 3\nimages = "x"\n')
    ),
    "plan": Reader("plan.toml", lambda path: read_plan(path, Workspace(path.parent)), _of(PLAN)),
    "recipe": Reader(
        "recipes/hat.toml",
        lambda path: load_recipe(Workspace(path.parents[1]), str(path)),
        _old("recipes", "hat.toml"),
    ),
    "labels": Reader("labels/x.toml", _labels, _of(LABELS)),
    "state": Reader("state.json", _session, _of(STATE), odd_json),
    "preferences": Reader("config.toml", _preferences, _of(CONFIG)),
    "versions": Reader("v.jsonl", _versions, _of(VERSION), odd_lines),
    "requests": Reader("in.jsonl", _request, _of(REQUESTS), odd_lines),
    **{f"model's {name}": _of_model("clip", name) for name in OF_TRANSFORMERS},
    "model's open_clip_config.json": _of_model("open_clip", "open_clip_config.json"),
    "model's weights": _of_model("open_clip", "open_clip_model.safetensors", changed),
    **{f"{tool}'s {name}": _of_tool(tool, name) for tool, names in FOREIGN.items() for name in names},
    "server events": Reader("out.jsonl", _event, _of(EVENTS), odd_lines),
}


def placed(name: str, tmp_path: Path) -> Path:
    """Where the reader's file goes, with what belongs beside it."""
    place = tmp_path / READERS[name].file
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = {"store": OLD.joinpath(*STORE), "sae": OLD / "saes" / "jump"}.get(place.parent.name)
    if place.parent.name in ("clip", "open_clip"):
        beside = models() / place.parent.name
    if place.parent.name in FOREIGN:
        beside = exported() / place.parent.name
    if place.parent.name == "npy":
        np.save(place.parent / "x.npy", np.ones((4, 3), np.float32))
    if place.parent.name == "shards":
        np.ones((4, 2, 3), np.float32).tofile(place.parent / "acts000000.bin")
        (place.parent / "metadata.json").write_text(json.dumps(SHARDS))
    if beside:
        shutil.copytree(beside, place.parent, dirs_exist_ok=True)
    if place.parent.name == "tree":  # so that what is said of it matters
        (place.parent / "a.png").write_bytes(png(1))
        (place.parent / "b.png").write_bytes(png(2))
    if place.parent.name == "r":
        (place.parent / "command.json").write_bytes(RUN)
        (place.parent / "status.json").write_bytes(STATUS)
    return place


@pytest.mark.parametrize("name", READERS)
def test_files_of_strangers_end_in_a_value_or_a_sentence(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    ends = throw(reader.read, placed(name, tmp_path), reader.seeds(), reader.change, reader.few)
    assert sum(ends.values()) == reader.few


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_files_of_strangers(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    print(name, throw(reader.read, placed(name, tmp_path), reader.seeds(), reader.change, 10_000))


@pytest.mark.parametrize("odd", [{"images": 5}, {"images": [5]}, {"images": None}, {"d": 1 << 31}])
def test_an_odd_manifest_is_named(odd: dict[str, Any], tmp_path: Path) -> None:
    place = placed("manifest", tmp_path)
    value = json.loads(place.read_bytes())
    value.pop("broken", None)
    place.write_text(json.dumps(value | odd))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        READERS["manifest"].read(place)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=8,
)
WHOLE = [name for name, reader in READERS.items() if reader.change in (odd_json, odd_lines)]
MADE_UP = settings(max_examples=25, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.startswith("model's")])  # each loads a model
@MADE_UP
@given(VALUES)
def test_json_of_any_form(name: str, tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    _read(name, tmp_path_factory, json.dumps(value).encode() + b"\n")


@pytest.mark.parametrize("name", [name for name in READERS if name not in WHOLE])
@MADE_UP
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_of_any_form(name: str, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    _read(name, tmp_path_factory, data)


def _read(name: str, folders: pytest.TempPathFactory, data: bytes) -> None:
    place = placed(name, folders.mktemp("made-up"))
    place.write_bytes(data)
    with contextlib.suppress(UserError, BrokenImage):
        READERS[name].read(place)
