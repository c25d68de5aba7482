"""Activations that other tools' own code saved are read as that code reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.activations.store import Store
from engine.config import ExportSettings, ImportSettings
from engine.exchange import bring_in, send_out
from engine.workspace import Workspace

IMAGES, TOKENS, D = 11, 5, 8
X = torch.randn(IMAGES, TOKENS, D, generator=torch.Generator().manual_seed(4))
READS = {"model": "hf:openai/clip-vit-base-patch32", "hook": "layer:3", "tokens": "all"}


def brought(source: Path, place: Path, **more: str) -> Store:
    asked = ImportSettings(source=str(source), name="a", **(READS | more))
    return Store.open(bring_in(asked, Workspace(place / "w")).path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_data_set_as_saelens_caches_activations(dtype: str, tmp_path: Path) -> None:
    """``CacheActivationsRunner`` saves one row an image, (context_size, d_in), with these features."""
    pytest.importorskip("sae_lens")
    from datasets import Array2D, Dataset, Features, Sequence, Value, load_from_disk

    hook = "blocks.3.hook_resid_post"
    features = Features({hook: Array2D(shape=(TOKENS, D), dtype=dtype), "token_ids": Sequence(Value("int32"))})
    rows = {hook: list(X.to(getattr(torch, dtype)).numpy()), "token_ids": [[0] * TOKENS] * IMAGES}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"), num_shards=3)
    store = brought(tmp_path / "d", tmp_path)
    theirs = np.asarray(load_from_disk(str(tmp_path / "d")).with_format("numpy")[hook]).reshape(-1, D)
    np.testing.assert_array_equal(store.read(0, store.rows), theirs.astype(np.float32))
    np.testing.assert_array_equal(store.image, np.arange(IMAGES * TOKENS) // TOKENS)
    assert store.dtype == dtype


def test_shards_that_saev_wrote(tmp_path: Path) -> None:
    """Of the version on the package index; later protocols are written out in ``test_importing``."""
    activations = pytest.importorskip("saev.activations")
    from saev import config

    data = config.ImageFolderDataset(root=str(tmp_path))
    asked = config.Activations(
        dump_to=str(tmp_path / "shards"),
        vit_family="clip",
        vit_ckpt="ViT-B-32/openai",
        d_vit=D,
        vit_layers=[3, 7],
        n_patches_per_img=TOKENS - 1,
        n_patches_per_shard=2 * TOKENS * 4,
        data=data,
    )
    both = torch.stack([X, X + 1], 1)
    metadata = activations.Metadata("clip", "ViT-B-32/openai", (3, 7), TOKENS - 1, True, D, 0, IMAGES, 40, str(data))
    writer = activations.ShardWriter(asked)
    written = Path(writer.root)
    writer[0:6], writer[6:IMAGES] = both[:6], both[6:]
    writer.flush()
    metadata.dump(written / "metadata.json")
    store = brought(written, tmp_path, hook="layer:7")
    np.testing.assert_array_equal(store.read(0, store.rows), (X + 1).reshape(-1, D).numpy())


def test_safetensors_and_npy_that_we_wrote(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    np.save(tmp_path / "x.npy", X.numpy())
    store = brought(tmp_path / "x.npy", tmp_path)
    for to in ("npy", "safetensors"):
        asked = ExportSettings(sae="a", to=to, out=str(tmp_path / to))
        sent = send_out(asked, Workspace(tmp_path / "w"))
        file = Path(sent.out) / sent.files[0]
        found = np.load(file) if to == "npy" else load_file(file)["activations"]
        np.testing.assert_array_equal(found, store.read(0, store.rows))
        assert json.loads((Path(sent.out) / "saetui.json").read_text())["tokens_per_image"] == TOKENS
