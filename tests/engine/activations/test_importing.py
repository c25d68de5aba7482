"""Activations of other tools: the same rows whatever file they lay in, the same bytes however often it was stopped."""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.activations import importing
from engine.activations.convert import FORMATS, WritableFormat
from engine.activations.extract import extract
from engine.activations.manifest import read_manifest
from engine.activations.store import Store
from engine.artefacts.verify import verify
from engine.config import EncodeSettings, ExportSettings, ImportSettings, TrainSettings, VerifySettings
from engine.errors import Stopped, UserError
from engine.exchange import bring_in, send_out
from engine.reporter import Reporter
from engine.runs.tasks import TASKS
from engine.sae.encode import encode_store
from engine.sae.results import BroughtIn
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.extractions import ask, contents, saved_model, write_pictures

ROOT = Path(__file__).parents[3]
D = 6
SAID: dict[str, Any] = {"model": "hf:openai/clip-vit-base-patch32", "hook": "layer:3", "tokens": "random:2"}


class Stopping(Reporter):
    """Asks to stop after so many pieces."""

    def __init__(self, after: int):
        self.after = after

    def check(self) -> None:
        self.after -= 1
        if self.after < 0:
            raise Stopped


def rows(n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def bring(source: Path | str, workspace: Path, **more: Any) -> Store:
    asked = ImportSettings(source=str(source), **({"name": "a"} | SAID | more))
    return Store.open(bring_in(asked, Workspace(workspace)).path)


def save_npy(part: torch.Tensor, path: Path) -> None:
    np.save(path.with_suffix(".npy"), part.numpy())


def save_npz(part: torch.Tensor, path: Path) -> None:
    np.savez(path.with_suffix(".npz"), activations=part.numpy(), labels=np.arange(len(part)))


def save_packed(part: torch.Tensor, path: Path) -> None:
    np.savez_compressed(path.with_suffix(".npz"), part.numpy())


def save_pt(part: torch.Tensor, path: Path) -> None:
    torch.save(part, path.with_suffix(".pt"))


def save_dict(part: torch.Tensor, path: Path) -> None:
    torch.save({"states": part, "input_ids": torch.zeros(len(part), dtype=torch.int64)}, path.with_suffix(".pt"))


def save_old_pt(part: torch.Tensor, path: Path) -> None:
    torch.save(part, path.with_suffix(".pt"), _use_new_zipfile_serialization=False)


def save_safetensors(part: torch.Tensor, path: Path) -> None:
    save_file({"layer": part.contiguous()}, path.with_suffix(".safetensors"))


def save_arrow(part: torch.Tensor, path: Path) -> None:
    """One row an image, (2 tokens, D), as SAELens has them."""
    pa = pytest.importorskip("pyarrow")
    values = pa.array(part.reshape(-1).numpy())
    inner = (
        pa.FixedSizeListArray.from_arrays(values, D)
        if D % 2
        else pa.ListArray.from_arrays(pa.array(range(0, part.numel() + 1, D), pa.int32()), values)
    )
    outer = pa.ListArray.from_arrays(pa.array(range(0, len(part) + 1, 2), pa.int32()), inner)
    tokens = pa.array([[1, 2]] * (len(part) // 2), pa.list_(pa.int32()))
    table = pa.table({"blocks.3.hook_resid_post": outer, "token_ids": tokens})
    with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=3):
            writer.write_batch(batch)


SAVERS: dict[str, Callable[[torch.Tensor, Path], None]] = {
    "npy": save_npy,
    "npz": save_npz,
    "npz, packed": save_packed,
    "pt": save_pt,
    "pt, a dict": save_dict,
    "pt, old": save_old_pt,
    "safetensors": save_safetensors,
    "arrow": save_arrow,
}
BFLOAT16 = ("pt", "pt, a dict", "pt, old", "safetensors")


def save_parts(name: str, parts: Sequence[torch.Tensor], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, part in enumerate(parts):
        SAVERS[name](part, folder / f"acts_part{number}")
    return folder


# The rows


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HELD = [(name, dtype) for name in SAVERS for dtype in DTYPES if dtype != torch.bfloat16 or name in BFLOAT16]


@pytest.mark.parametrize(("name", "dtype"), HELD)
def test_the_rows_are_those_of_the_files(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    x = rows(60).to(dtype)
    parts = [*x[:48].split(4), x[48:]]  # 13: part 10 comes after part 9
    store = bring(save_parts(name, parts, tmp_path / "parts"), tmp_path / "w")
    assert store.rows == 60 and store.d == D
    np.testing.assert_array_equal(store.read(0, 60), x.float().numpy())
    assert store.dtype == str(torch.float32 if dtype == torch.float64 else dtype).removeprefix("torch.")
    np.testing.assert_array_equal(store.image, np.arange(60) // 2)
    assert not verify(VerifySettings(store="a"), Workspace(tmp_path / "w")).problems


@settings(max_examples=15)
@given(
    cuts=st.lists(st.integers(0, 40).map(lambda n: 2 * n), max_size=6),
    a_shard=st.integers(1, 90),
    name=st.sampled_from(["npy", "npz, packed", "pt", "safetensors"]),
)
def test_the_bytes_do_not_depend_on_the_parts(
    cuts: list[int], a_shard: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    x, place = rows(80), tmp_path_factory.mktemp("cut")
    ends = sorted({0, 80, *cuts})
    parts = [x[start:stop] for start, stop in itertools.pairwise(ends)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "SHARD_BYTES", a_shard * 2 * D * 4)
        one = bring(save_parts("npy", [x], place / "one"), place / "w1")
        many = bring(save_parts(name, parts, place / "many"), place / "w2")
    assert len(one.shards) == -(-40 // a_shard)
    assert [shard.sha256 for shard in many.shards] == [shard.sha256 for shard in one.shards]
    np.testing.assert_array_equal(many.read(0, 80), x.numpy())


def test_three_axes_are_images_of_tokens(tmp_path: Path) -> None:
    x = torch.randn(5, 3, D)
    np.save(tmp_path / "x.npy", x.numpy())
    store = bring(tmp_path / "x.npy", tmp_path / "w", tokens="all")
    np.testing.assert_array_equal(store.read(0, 15), x.reshape(15, D).numpy())
    np.testing.assert_array_equal(store.image, np.arange(15) // 3)
    np.testing.assert_array_equal(store.token, np.arange(15) % 3)


def test_rows_column_by_column(tmp_path: Path) -> None:
    x = rows()
    np.save(tmp_path / "x.npy", np.asfortranarray(x.numpy()))
    np.testing.assert_array_equal(bring(tmp_path / "x.npy", tmp_path / "w").read(0, 40), x.numpy())


def test_a_glob_chooses_among_parts(tmp_path: Path) -> None:
    folder = save_parts("pt", rows().split(10), tmp_path / "parts")
    save_pt(rows(4, seed=1), folder / "other_part0")
    with pytest.raises(UserError, match=r"parts of 2 kinds: give those of one, in quotes: .*acts_part\*\.pt"):
        bring(folder, tmp_path / "w")
    assert bring(f"{folder}/acts_part*.pt", tmp_path / "w").rows == 40


# saev's shards: its names for things have changed


def save_saev(x: torch.Tensor, folder: Path, layers: list[int], names: str, shard: int, cls: bool) -> None:
    """``x``: (images, layers, tokens, D), as saev's own writer leaves them: each file as long as the first."""
    folder.mkdir(parents=True)
    images, _, tokens, d = x.shape
    files = -(-images // shard)
    whole = np.zeros((files * shard, *x.shape[1:]), np.float32)
    whole[:images] = x.numpy()
    for number in range(files):
        whole[number * shard : (number + 1) * shard].tofile(folder / f"acts{number:06}.bin")
    keys = {
        "0.1": ("vit_ckpt", "n_patches_per_img", "d_vit", "n_imgs", "n_patches_per_shard", ""),
        "2.0": ("ckpt", "patches_per_ex", "d_model", "n_ex", "patches_per_shard", "n_ex"),
        "2.1": ("ckpt", "content_tokens_per_example", "d_model", "n_examples", "max_tokens_per_shard", "n_examples"),
    }[names]
    values = ("ViT-B-32/openai", tokens - cls, d, images, shard * tokens * len(layers))
    said = dict(zip(keys, values, strict=False)) | {"layers": layers, "cls_token": cls}
    (folder / "metadata.json").write_text(json.dumps(said))
    if keys[-1]:
        counts = [min(shard, images - number * shard) for number in range(files)]
        listed = [{"name": f"acts{n:06}.bin", keys[-1]: count} for n, count in enumerate(counts)]
        (folder / "shards.json").write_text(json.dumps(listed))


@pytest.mark.parametrize("names", ["0.1", "2.0", "2.1"])
@pytest.mark.parametrize("cls", [True, False])
def test_shards_of_saev(cls: bool, names: str, tmp_path: Path) -> None:
    x = torch.randn(7, 2, 5, D, generator=torch.Generator().manual_seed(3))
    save_saev(x, tmp_path / "s", [3, 11], names, 3, cls)
    model = {"name": "a", "model": "openclip:ViT-B-32/openai"}
    with pytest.raises(UserError, match="2 layers: give --hook layer:3 or --hook layer:11"):
        bring_in(ImportSettings(source=str(tmp_path / "s"), **model), Workspace(tmp_path / "w"))
    asked = ImportSettings(source=str(tmp_path / "s"), hook="layer:11", **model)
    store = Store.open(bring_in(asked, Workspace(tmp_path / "w")).path)
    np.testing.assert_array_equal(store.read(0, 35), x[:, 1].reshape(35, D).numpy())
    assert store.manifest.tokens == ("all" if cls else "patches")
    np.testing.assert_array_equal(store.image, np.arange(35) // 5)


# Images


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace with a store ``s`` of 12 images and their folder."""
    place = tmp_path_factory.mktemp("extracted")
    images = write_pictures(place / "images", 12, broken=())
    extract(ask(saved_model(place / "clip"), images, name="s", at=("layer:1",)), Workspace(place / "w"))
    return place / "w", images


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if isinstance(form, WritableFormat)])
def test_a_store_comes_back(to: str, extracted: tuple[Path, Path], tmp_path: Path) -> None:
    workspace, _ = extracted
    sent = send_out(ExportSettings(sae="s", to=to, out=str(tmp_path / "out")), Workspace(workspace))
    (place,) = {(tmp_path / "out" / file).parent for file in sent.files}
    model = {"model": "hf:x/y"} if to == "saev" else {}
    asked = ImportSettings(source=str(place), name="back", **model)
    back = Store.open(bring_in(asked, Workspace(tmp_path / "w")).path)
    store = Store.open(workspace / "activations" / "s")
    np.testing.assert_array_equal(back.read(0, back.rows), store.read(0, store.rows))
    np.testing.assert_array_equal(back.image, store.image)
    np.testing.assert_array_equal(back.token, store.token)
    assert list(back.images) == list(store.images)
    assert (back.manifest.hook, back.manifest.tokens) == (store.manifest.hook, store.manifest.tokens)
    assert back.manifest.source == store.manifest.source


def test_what_a_store_loses_is_said(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", 12, broken=(8,))
    extract(ask(saved_model(tmp_path / "clip"), images, name="s", at=("layer:1",)), Workspace(tmp_path / "w"))
    sent = send_out(ExportSettings(sae="s", to="npy", out=str(tmp_path / "out")), Workspace(tmp_path / "w"))
    assert sent.lost == ("its images: 1 image of them could not be read",)
    back = Store.open(bring_in(ImportSettings(source=sent.out, name="t"), Workspace(tmp_path / "w")).path)
    assert back.rows == 11 * 17 and not len(back.images)


def test_images_are_attached_in_order(extracted: tuple[Path, Path], tmp_path: Path) -> None:
    _, images = extracted
    np.save(tmp_path / "x.npy", rows(24).numpy())
    store = bring(tmp_path / "x.npy", tmp_path / "w", images=str(images))
    assert len(store.images) == 12 and store.images[3].sha256 and store.manifest.source.sha256
    np.testing.assert_array_equal(store.image, np.arange(24) // 2)
    np.save(tmp_path / "y.npy", rows(26).numpy())
    with pytest.raises(UserError, match=r"26 rows, and .* lists 12 images: 2 rows of each is needed"):
        bring(tmp_path / "y.npy", tmp_path / "w", name="y", images=str(images))
    assert not (tmp_path / "w" / "activations" / "y").exists()


def test_without_images_all_that_needs_none_works(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(400).numpy())
    store = bring(tmp_path / "x.npy", tmp_path / "w")
    assert store.manifest.source.images is None and not len(store.images)
    place = Workspace(tmp_path / "w")
    found = train(TrainSettings(activations="a", name="s", arch="topk", k=2, steps=60, batch_size=64), place)
    assert found.fve is not None and found.fve > 0.3
    encoded = encode_store(EncodeSettings(sae="s", activations="a", out=str(tmp_path / "codes.npz")), place)
    assert encoded.rows == 400 and encoded.l0 is not None


# Interrupted


def parts_of(folder: Path) -> Path:
    return save_parts("pt", rows(400).split(30), folder)


@pytest.mark.parametrize("stop_after", [0, 1, 3, 8, 15])
def test_stopped_and_continued(stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SHARD_BYTES", 50 * D * 4)
    parts = parts_of(tmp_path / "parts")
    asked = ImportSettings(source=str(parts), name="a", **SAID)
    bring_in(asked, Workspace(tmp_path / "once"))
    with pytest.raises(Stopped):
        bring_in(asked, Workspace(tmp_path / "twice"), Stopping(stop_after))
    found = bring_in(asked, Workspace(tmp_path / "twice"))
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    assert found.imported_now <= 400
    assert bring_in(asked, Workspace(tmp_path / "twice")).imported_now == 0


_KILLED = """
import sys, time
from engine.activations import importing, imported_rows, shards
from engine.config import ImportSettings
from engine.exchange import bring_in
from engine.workspace import Workspace
importing.SHARD_BYTES = 50 * 6 * 4
append = shards.ShardWriter.append
def slowly(*given):
    time.sleep(.02)
    append(*given)
shards.ShardWriter.append = slowly
print("begun", flush=True)
bring_in(ImportSettings(source=sys.argv[1], name="a", model="hf:openai/clip-vit-base-patch32", hook="layer:3",
                        tokens="random:2"), Workspace.find(sys.argv[2]))
"""


def test_killed_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SHARD_BYTES", 50 * D * 4)
    parts = parts_of(tmp_path / "parts")
    asked = ImportSettings(source=str(parts), name="a", **SAID)
    bring_in(asked, Workspace(tmp_path / "once"))
    for turn in range(5):
        command = [sys.executable, "-c", _KILLED, str(parts), str(tmp_path / "often")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        time.sleep(0.05 + 0.08 * turn)
        child.send_signal(signal.SIGKILL)
        child.wait()
    bring_in(asked, Workspace(tmp_path / "often"))
    assert contents(tmp_path / "often") == contents(tmp_path / "once")


def test_parts_that_changed_meanwhile_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SHARD_BYTES", 50 * D * 4)
    parts = parts_of(tmp_path / "parts")
    asked = ImportSettings(source=str(parts), name="a", **SAID)
    with pytest.raises(Stopped):
        bring_in(asked, Workspace(tmp_path / "w"), Stopping(6))
    kept = contents(tmp_path / "w")
    first, content = parts / "acts_part0.pt", (parts / "acts_part0.pt").read_bytes()
    save_pt(rows(30, seed=9), first)
    with pytest.raises(UserError, match=r"other activations \(acts_part0.pt has changed since\)"):
        bring_in(asked, Workspace(tmp_path / "w"))
    assert contents(tmp_path / "w") == kept
    first.write_bytes(content)  # written again, but the same
    assert bring_in(asked, Workspace(tmp_path / "w")).rows == 400


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hook": "layer:4"}, "hook layer:3, not layer:4"),
        ({"tokens": "cls"}, "tokens random:2, not cls"),
        ({"model": "hf:other/one"}, "model hf:openai/clip-vit-base-patch32, not hf:other/one"),
    ],
)
def test_a_name_is_not_taken_twice(change: dict[str, str], why: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows().numpy())
    bring(tmp_path / "x.npy", tmp_path / "w")
    with pytest.raises(UserError, match=f"{why}.*give another --name"):
        bring(tmp_path / "x.npy", tmp_path / "w", **change)


def test_a_damaged_shard_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SHARD_BYTES", 50 * D * 4)
    bring(parts_of(tmp_path / "parts"), tmp_path / "w")
    before = contents(tmp_path / "w")
    shard = tmp_path / "w/activations/a/shard-00003.h5"
    data = bytearray(shard.read_bytes())
    data[-200] ^= 1
    shard.write_bytes(data)
    assert verify(VerifySettings(store="a"), Workspace(tmp_path / "w")).problems
    done = verify(VerifySettings(store="a", repair=True), Workspace(tmp_path / "w"))
    assert done.repaired == ("shard-00003.h5",) and not done.problems
    assert contents(tmp_path / "w") == before


# What is wrong


def test_what_the_files_do_not_say_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "random_k_2"
    folder.mkdir()
    stem = "imagenet_train_activations_clip-vit-large-patch14-336_22_post_mlp_residual_part"
    for number in range(2):
        save_pt(rows(10), folder / f"{stem}{number}")
    with pytest.raises(UserError) as refused:
        bring_in(ImportSettings(source=str(folder), name="a"), Workspace(tmp_path / "w"))
    for flag in ("--model hf:openai/clip-vit-large-patch14-336", "--hook layer:22", "--tokens random:2"):
        assert flag in str(refused.value)
    assert not (tmp_path / "w").exists()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def _truncated(at: Path) -> None:
    save_pt(rows(), at / "a_part0")
    save_pt(rows(400), at / "a_part1")
    data = (at / "a_part1.pt").read_bytes()
    (at / "a_part1.pt").write_bytes(data[: len(data) // 2])


def _cut_npz(at: Path) -> None:
    """Its directory says more rows than it has."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (1000, D)})
    with zipfile.ZipFile(at / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", buffer.getvalue() + bytes(4 * D * 10))


def _two_widths(at: Path) -> None:
    save_npy(rows(), at / "a0")
    save_npy(rows()[:, :3], at / "a1")


def _two_types(at: Path) -> None:
    save_npy(rows(), at / "a0")
    save_npy(rows().half(), at / "a1")


def _pickled(at: Path) -> None:
    torch.save([Evil()], at / "a_part0.pt")
    torch.save([Evil()], at / "a_part1.pt")


def _objects(at: Path) -> None:
    np.save(at / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)


def _two_formats(at: Path) -> None:
    save_npy(rows(), at / "a")
    save_pt(rows(), at / "a")


def _not_finite(at: Path) -> None:
    x = rows()
    x[7, 2] = torch.nan
    save_npy(x, at / "a")


def _too_large(at: Path) -> None:
    save_npy(rows().double() * 1e300, at / "a")


def _whole_numbers(at: Path) -> None:
    np.save(at / "a.npy", np.arange(24).reshape(4, 6))


def _one_axis(at: Path) -> None:
    np.save(at / "a.npy", np.arange(24.0))


def _no_rows(at: Path) -> None:
    save_npy(rows(0), at / "a")


def _odd_rows(at: Path) -> None:
    save_npy(rows(41), at / "a")


def _sparse(at: Path) -> None:
    from scipy import sparse

    sparse.save_npz(at / "a.npz", sparse.eye(8, format="csr"))


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (_truncated, "a_part1.pt is damaged or not a .pt file"),
    (_cut_npz, "a.npz cannot be read to its end"),
    (_two_widths, "a1.npy is 3 wide and a0.npy 6"),
    (_two_types, "a1.npy holds float16 and a0.npy float32"),
    (_pickled, "a_part0.pt is damaged, or holds Python objects, of which none is made here"),
    (_objects, "a.npy is damaged or not a .npy file .*Python objects"),
    (_two_formats, "holds npy and pt: say which is meant by --format"),
    (_not_finite, "a.npy has values that are not finite"),
    (_too_large, "a.npy has values that are not finite"),
    (_whole_numbers, "a.npy holds int64: save activations as"),
    (_one_axis, r"a.npy has shape \(24,\)"),
    (_no_rows, "has no rows"),
    (_odd_rows, "41 rows, which is no multiple of 2 an image"),
    (_sparse, "sparse matrix"),
]


@pytest.mark.parametrize(("make", "sentence"), WRONG, ids=[make.__name__ for make, _ in WRONG])
def test_a_wrong_folder_is_one_sentence(
    make: Callable[[Path], None], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    make(tmp_path / "given")
    with pytest.raises(UserError, match=sentence) as refused:
        bring(tmp_path / "given", tmp_path / "w")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()
    assert not list((tmp_path / "w").rglob("*.h5")) and not list((tmp_path / "w").rglob("*.json"))


def test_settings_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows().numpy())
    with pytest.raises(UserError, match="holds activations: --k is of SAEs"):
        bring(tmp_path / "x.npy", tmp_path / "w", k=3)
    with pytest.raises(UserError, match="'nonsense' is no format"):
        bring(tmp_path / "x.npy", tmp_path / "w", format="nonsense")


def test_a_result_travels_as_json(tmp_path: Path) -> None:
    from engine.records import to_json

    np.save(tmp_path / "x.npy", rows().numpy())
    found: BroughtIn = bring_in(ImportSettings(source=str(tmp_path / "x.npy"), name="a", **SAID), Workspace(tmp_path))
    assert TASKS["import"].read(json.loads(json.dumps(to_json(found)))) == found
    sent = send_out(ExportSettings(sae="a", to="npy", out=str(tmp_path / "out")), Workspace(tmp_path))
    assert TASKS["export"].read(json.loads(json.dumps(to_json(sent)))) == sent


def test_a_manifest_tells_where_it_came_from(tmp_path: Path) -> None:
    store = bring(save_parts("npy", rows().split(10), tmp_path / "parts"), tmp_path / "w")
    origin = read_manifest(store.path).origin
    assert origin is not None and origin.format == "npy" and origin.place == str(tmp_path / "parts")
    assert [(part.file, part.rows) for part in origin.parts] == [(f"acts_part{n}.npy", 10) for n in range(4)]
    shutil.rmtree(tmp_path / "parts")
    assert Store.open(store.path).rows == 40  # it needs them no longer


def test_fewer_tokens_than_one_an_image_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows().numpy())
    with pytest.raises(UserError, match="--tokens-per-image is -1: give the rows of each image, above 0"):
        bring(tmp_path / "a.npy", tmp_path / "w", tokens="patches", tokens_per_image=-1)
    assert not (tmp_path / "w").exists() or not [*(tmp_path / "w").rglob("*.*")]


def test_a_part_that_is_missing_is_noticed_where_rows_have_images(extracted: tuple[Path, Path], tmp_path: Path) -> None:
    parts = save_parts("npy", rows(32).split(8), tmp_path / "parts")
    (parts / "acts_part2.npy").unlink()
    with pytest.raises(UserError, match=r"missing between acts_part1.npy and acts_part3.npy"):
        bring(parts, tmp_path / "w", images=str(extracted[1]))
    assert not (tmp_path / "w").exists()
    assert bring(parts, tmp_path / "w").rows == 24


def test_a_glob_below_a_folder_with_brackets(tmp_path: Path) -> None:
    folder = save_parts("pt", rows().split(10), tmp_path / "of [x]")
    assert bring(f"{folder}/acts_part*.pt", tmp_path / "w").rows == 40


def test_one_damaged_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    save_pt(rows(400), tmp_path / "a")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: len(data) // 2])
    save_file({"a": rows(), "b": rows()}, tmp_path / "two.safetensors")
    for name, why in (("a.pt", "a.pt is damaged"), ("two.safetensors", r"two.safetensors holds 2 arrays \(a, b\)")):
        for more in ({}, {"format": name.rpartition(".")[2]}):
            with pytest.raises(UserError, match=why):
                bring(tmp_path / name, tmp_path / "w", **more)


def test_a_model_needs_a_notation(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows().numpy())
    with pytest.raises(UserError, match="no model at openai/clip: give --model hf:openai/clip"):
        bring(tmp_path / "x.npy", tmp_path / "w", model="openai/clip")


def test_a_store_has_no_folder_for_the_hub(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows().numpy())
    bring(tmp_path / "x.npy", tmp_path / "w")
    asked = ExportSettings(sae="a", hub_folder=True, out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="is an activation store, and --hub-folder is of SAEs"):
        send_out(asked, Workspace(tmp_path / "w"))


def test_nothing_goes_out_into_the_workspaces_own_folders(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows().numpy())
    store = bring(tmp_path / "x.npy", tmp_path / "w")
    for out in (store.path / "out", store.path.parent / "b", tmp_path / "w" / "saes" / "new"):
        with pytest.raises(UserError, match="is among the artefacts of the workspace"):
            send_out(ExportSettings(sae="a", to="npy", out=str(out)), Workspace(tmp_path / "w"))
    assert [one.name for one in store.path.parent.iterdir()] == ["a"]
