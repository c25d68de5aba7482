"""What lands on disk is what the model says, whatever the policy, type and number of hook points."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from engine.activations.extract import SHARD_IMAGES, extract
from engine.activations.forward import drawn, select
from engine.activations.manifest import Model
from engine.activations.store import Store
from engine.errors import UserError
from engine.files import read_json
from engine.images import open_images
from engine.models import HookPoint, TokenPolicy, load_encoder
from engine.models.vlm import load_vlm
from engine.workspace import Workspace
from tests.support.checkpoints import build, save
from tests.support.extractions import Recorder, ask, contents, saved_model, write_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), 30)


def expected(model: Path, images: Path, hook: str) -> dict[int, np.ndarray]:
    """Image index -> (token, d): one image at a time, no threads, no store."""
    encoder, source = load_encoder(str(model)), open_images(images)
    point = HookPoint.parse(hook)
    good = [i for i in range(len(source)) if source.read_bytes(i) != b"broken"]
    return {i: encoder.activations(encoder.preprocess([source.load(i)]), [point])[point][0].numpy() for i in good}


def test_rows_read_with_plain_h5py_are_the_models_hidden_states(
    model: Path, images: Path, workspace: Workspace
) -> None:
    """By hand: library classes only, one batch of all images, float16 rounding."""
    said = Recorder()
    result = extract(ask(model, images), workspace, said)
    files = sorted(workspace.activations("A").glob("shard-*.h5"))
    rows, index, token = [], [], []
    for path in files:
        with h5py.File(path) as file:
            rows.append(file["activations"][:])
            index.append(file["image"][:])
            token.append(file["token"][:])
    theirs: Any = transformers.CLIPModel.from_pretrained(model).eval()
    paths = sorted(p for p in images.rglob("*.png") if p.read_bytes() != b"broken")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = processor(images=[Image.open(p).convert("RGB") for p in paths], return_tensors="pt")
    with torch.no_grad():
        states = theirs.vision_model(**pixels, output_hidden_states=True).hidden_states[2].numpy()
    np.testing.assert_allclose(np.concatenate(rows), states.reshape(-1, 32), rtol=2e-3, atol=2e-3)
    everything = [p.relative_to(images).as_posix() for p in sorted(images.rglob("*.png"))]
    listed = Store.open(workspace.activations("A")).images
    assert [i.path for i in listed] == everything
    readable = [everything.index(p.relative_to(images).as_posix()) for p in paths]
    assert np.array_equal(np.concatenate(index), np.repeat(readable, 17))
    assert np.array_equal(np.concatenate(token), np.tile(np.arange(17), 29))
    assert len(files) == 4 and result.rows == 29 * 17 and result.images == 29
    assert said.steps[-1][:2] == (30, 30) and said.steps[-1][2] == {"rows": 29 * 17, "broken": 1}


def test_a_broken_image_is_skipped_counted_and_named(model: Path, images: Path, workspace: Workspace) -> None:
    said = Recorder()
    result = extract(ask(model, images), workspace, said)
    name = "bee/0005.png"
    assert list(result.broken) == [name]
    assert any(kind == "warning" and name in text for kind, text in said.events)
    (record,) = [i for i in Store.open(workspace.activations("A")).images if i.broken is not None]
    assert record.path == name and "format" in str(record.broken) and record.label == "bee"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_types(dtype: str, model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images, dtype=dtype), workspace)
    store = Store.open(workspace.activations("A"))
    wanted = np.concatenate(list(expected(model, images, "layer:1").values()))
    bits = {"float16": 10, "bfloat16": 7, "float32": 19}[dtype]
    np.testing.assert_allclose(store.read(0, store.rows), wanted, rtol=2.0**-bits, atol=2e-6)


@pytest.mark.parametrize("tokens", ["cls", "mean", "all", "patches", "random:3"])
def test_policies(tokens: str, model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images, tokens=tokens, dtype="float32", seed=4), workspace)
    store = Store.open(workspace.activations("A"))
    rows, image, token = [], [], []
    for i, hidden in expected(model, images, "layer:1").items():
        if tokens == "mean":
            rows.append(hidden[1:].mean(0, keepdims=True))
            positions = np.array([-1])
        else:
            at = {
                "cls": np.arange(1),
                "all": np.arange(17),
                "patches": np.arange(1, 17),
                "random:3": drawn(17, 3, 4, i),
            }
            positions = at[tokens]
            rows.append(hidden[positions])
        image.append(np.full(len(positions), i))
        token.append(positions)
    np.testing.assert_allclose(store.read(0, store.rows), np.concatenate(rows), atol=1e-5)
    assert np.array_equal(store.image, np.concatenate(image)) and np.array_equal(store.token, np.concatenate(token))


def test_several_hook_points_are_several_stores(model: Path, images: Path, workspace: Workspace) -> None:
    hooks = ("layer:2", "mlp:0", "last")
    result = extract(ask(model, images, at=hooks, dtype="float32"), workspace)
    assert [s.name for s in result.stores] == ["A-layer2", "A-mlp0", "A-last"]
    for hook, one in zip(hooks, result.stores, strict=True):
        store = Store.open(Path(one.path))
        wanted = np.concatenate(list(expected(model, images, hook).values()))
        np.testing.assert_allclose(store.read(0, store.rows), wanted, atol=1e-5)
        assert store.manifest.hook == one.hook == hook and one.rows == store.rows and one.d == store.d
        assert store.verify() == []
    assert set(store.token) == {-1} and len(store.shards) == 4


@pytest.mark.parametrize("family", ["siglip", "dinov2", "dinov2-registers", "siglip2"])
def test_other_families(family: str, images: Path, workspace: Workspace, tmp_path: Path) -> None:
    folder = save(build(family), tmp_path / "m")
    result = extract(ask(folder, images, dtype="float32", at=("layer:0",), tokens="patches"), workspace)
    store = Store.open(workspace.activations("A"))
    encoder, source = load_encoder(str(folder)), open_images(images)
    hook = HookPoint("layer", 0)
    rows = []
    for i in range(len(source)):
        if store.images[i].broken is None:
            inputs = encoder.preprocess([source.load(i)])
            mask = encoder.token_mask(inputs)
            hidden = encoder.activations(inputs, [hook])[hook][0]
            rows.append((hidden if mask is None else hidden[mask[0]]).numpy()[encoder.n_prefix :])
    np.testing.assert_allclose(store.read(0, store.rows), np.concatenate(rows), atol=1e-5)
    assert store.manifest.grid == (None if family == "siglip2" else (4, 4))
    if family == "siglip2":  # grids differ from image to image
        assert result.rows == sum(i.grid[0] * i.grid[1] for i in store.images if i.grid is not None)


def test_padding_is_never_selected() -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    everything = select(hidden, TokenPolicy("all"), 0, 0, [7, 9], mask)
    assert everything[0].tolist() == [*hidden[0, :2].tolist(), *hidden[1].tolist()]
    assert everything[1].tolist() == [7, 7, 9, 9, 9, 9] and everything[2].tolist() == [0, 1, 0, 1, 2, 3]
    mean = select(hidden, TokenPolicy("mean"), 0, 0, [7, 9], mask)[0]
    torch.testing.assert_close(mean, torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]))
    values, image, token = select(hidden, TokenPolicy("random", 2), 0, 0, [7, 9], mask)
    assert token[:2].tolist() == [0, 1] and image.tolist() == [7, 7, 9, 9] and len(values) == 4
    with pytest.raises(UserError, match="fewer than"):
        select(hidden, TokenPolicy("random", 3), 0, 0, [7, 9], mask)


def test_threads_change_nothing(model: Path, images: Path, tmp_path: Path) -> None:
    made = []
    for workers in (1, 7):
        place = Workspace(tmp_path / str(workers))
        extract(ask(model, images, workers=workers), place)
        made.append({name: data for name, data in contents(place.root).items() if name.endswith(".h5")})
    assert made[0] == made[1] and len(made[0]) == 4


def test_the_manifest_tells_everything(model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images, tokens="random:2", seed=9, limit=10), workspace)
    manifest = Store.open(workspace.activations("A")).manifest
    written = read_json(workspace.activations("A") / "manifest.json")
    encoder = load_encoder(str(model))
    assert manifest.model == Model(str(model), "clip", None, encoder.sha256)
    assert (manifest.tokens, manifest.seed, manifest.n_prefix, manifest.grid) == ("random:2", 9, 1, (4, 4))
    assert manifest.preprocessing == encoder.preprocessing
    assert written["version"] == 2 and "images" not in written, "the shards list them"
    shards = manifest.shards
    assert [s.first_row for s in shards] == np.cumsum([0] + [s.rows for s in shards])[:-1].tolist()
    assert shards[0].first_image == 0 and shards[-1].next_image == 10
    assert manifest.command.startswith("saetui extract --model ") and "--tokens random:2" in manifest.command
    assert [source.kind for source in manifest.provenance.made_from] == ["model", "images"]


def test_shards_are_bounded_by_images_too(model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images, tokens="cls", shard_rows=10**9), workspace)
    assert Store.open(workspace.activations("A")).manifest.shard_images == SHARD_IMAGES


def test_embeddings_are_one_row_an_image(model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images, at=("last",), embeddings=True), workspace)
    store = Store.open(workspace.embeddings("A"))
    assert store.rows == 29 and store.d == 16
    with pytest.raises(UserError, match="one row an image"):
        extract(ask(model, images, name="B", embeddings=True), workspace)
    assert not workspace.embeddings("B").exists()


# What goes wrong


def changed(model: Path, folder: Path, name: str, value: float) -> Path:
    """A copy of the model with one entry of one weight set to ``value``."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    next(tensor for key, tensor in state.items() if name in key).view(-1)[0] = value
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        (1e5, r"reach 1000\d\d.* more than float16 holds"),
        (-1e5, r"reach (1000|999)\d\d.* more than float16 holds"),
    ],
)
def test_values_that_cannot_be_stored(
    value: float, words: str, model: Path, images: Path, workspace: Workspace, tmp_path: Path
) -> None:
    name = "vision_model.encoder.layers.1.mlp.fc2.bias"
    sick = changed(model, tmp_path / "sick", name, value)
    with pytest.raises(UserError, match=rf"ape/0000.png at layer:1 .*{words}"):
        extract(ask(sick, images), workspace)
    assert not workspace.activations("A").exists()
    if abs(value) == 1e5:
        extract(ask(sick, images, dtype="bfloat16"), workspace)
        store = Store.open(workspace.activations("A"))
        assert store.read(0, store.rows)[:, 0].mean() == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": ("layer:3",)}, "no layer:3: its blocks are layer:0 to layer:2"),
        ({"at": ("head",)}, "no hook point"),
        ({"tokens": "some"}, "no choice of tokens"),
        ({"tokens": "random:18"}, "has 17 tokens an image, fewer than"),
        ({"shard_rows": 60}, "--shard-rows"),
        ({"batch_size": 0}, "--batch-size"),
        ({"workers": 0}, "--workers"),
        ({"limit": -1}, "--limit"),
        ({"name": "../x"}, "cannot name"),
        ({"images": "/nowhere"}, "No images at /nowhere"),
        ({"model": "/nowhere"}, "No model at /nowhere"),
        ({"device": "cuda:77"}, "no cuda:77"),
    ],
)
def test_mistakes_leave_nothing_behind(
    change: dict[str, Any], words: str, model: Path, images: Path, workspace: Workspace
) -> None:
    settings = ask(model, images, **{k: v for k, v in change.items() if k not in ("images", "model")})
    if "images" in change:
        settings = ask(model, Path(change["images"]))
    if "model" in change:
        settings = ask(Path(change["model"]), images)
    with pytest.raises(UserError, match=words):
        extract(settings, workspace)
    assert not list(workspace.root.rglob("*"))


def test_cls_of_a_model_without_one(images: Path, workspace: Workspace, tmp_path: Path) -> None:
    folder = save(build("siglip"), tmp_path / "m")
    with pytest.raises(UserError, match="no CLS token: use --tokens mean"):
        extract(ask(folder, images, tokens="cls"), workspace)


def test_only_broken_images(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "i", 10, broken=tuple(range(10)))
    with pytest.raises(UserError, match=r"Of 10 images in .* none can be read \(ape/0000.png: "):
        extract(ask(model, folder), workspace)
    assert not workspace.activations("A").exists()


def test_a_shard_of_broken_images_only(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "i", 30, broken=tuple(range(0, 20, 2)))
    result = extract(ask(model, folder), workspace)
    store = Store.open(workspace.activations("A"))
    assert store.shards[0].rows == 0 and result.images == 20 and store.verify() == []
    assert store.take([0, store.rows - 1]).shape == (2, 32) and store.image.min() == 10
    assert extract(ask(model, folder), workspace).extracted_now == 0


def test_for_steering_takes_the_hook_point_that_the_model_reads(images: Path, workspace: Workspace) -> None:
    said = Recorder()
    result = extract(
        ask(Path("demo"), images, at=("last",), for_steering="demo", limit=4, shard_rows=300), workspace, said
    )
    assert [store.hook for store in result.stores] == [f"layer:{load_vlm('demo', 'cpu').seen}"]
    assert not any("cannot steer" in words for words in [words for _, words in said.events])
    again = extract(ask(Path("demo"), images, at=(result.stores[0].hook,), limit=4, shard_rows=300), workspace)
    assert not again.extracted_now, "it is the same store as with its hook point"
    with pytest.raises(UserError, match="give it alone, or --at alone"):
        extract(ask(Path("demo"), images, at=("layer:1",), for_steering="demo", name="B"), workspace)


def test_last_says_that_it_cannot_steer_before_anything_is_done(images: Path, workspace: Workspace) -> None:
    said = Recorder()
    extract(ask(Path("demo"), images, at=("last",), limit=4), workspace, said)
    assert any(
        "cannot steer" in words and "--for-steering MODEL" in words for words in [words for _, words in said.events]
    )
    said = Recorder()
    extract(ask(Path("demo"), images, at=("last",), limit=4, embeddings=True), workspace, said)
    assert not any("cannot steer" in words for words in [words for _, words in said.events]), "a judge steers nothing"
