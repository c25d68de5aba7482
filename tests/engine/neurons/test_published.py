"""Folders for the hub: nothing private in them, no MS without its control, and they come back."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.config import ExportSettings, ImportSettings
from engine.neurons.published import export
from engine.sae.config import read_config
from engine.sae.convert import FORMATS
from engine.sae.exchange import import_sae
from engine.sae.model import SAE
from engine.workspace import Origin, Provenance, Source, Workspace
from tests.engine.sae.test_convert import ours

OLD = Path(__file__).parents[2] / "old_workspace"
HOME = "/srv/somebody"
READS = {"model": "demo:encoder", "hook": "layer:4", "tokens": "patches"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    shutil.copytree(OLD, tmp_path / "w")
    return Workspace(tmp_path / "w")


def published(workspace: Workspace, sae: str, to: str = "saetui") -> Path:
    out = workspace.root.parent / "hub"
    return Path(export(ExportSettings(sae=sae, to=to, out=str(out), hub_folder=True), workspace).out)


def in_a_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As the cache of the hub lays a repository out; its name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place, commit = cache / "models--me--mine", "0" * 40
    for part in ("refs", "blobs", f"snapshots/{commit}"):
        (place / part).mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, place / "blobs" / str(number))
        (place / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / str(number))
    return "hf:me/mine"


def test_a_folder_of_ours_comes_back_from_the_hub(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = in_a_cache(published(workspace, "matryoshka"), tmp_path / "cache", monkeypatch)
    found = import_sae(ImportSettings(source=spec, name="back"), workspace)
    before, after = SAE.load(workspace.sae("matryoshka")), SAE.load(found.path)
    x = torch.randn(20, before.config.d, generator=torch.Generator().manual_seed(1)) * 50
    assert torch.equal(before.encode(x), after.encode(x)) and torch.equal(before(x), after(x))
    assert replace(after.config, origin=None, provenance=before.config.provenance) == before.config
    assert after.config.origin and after.config.origin.format == "saetui"
    (was,) = after.config.origin.said["made_from"]
    assert was["sha256"] == before.config.provenance.made_from[0].sha256 and was["name"] == "patches"


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_for_the_hub_says_nothing_of_this_machine(to: str, workspace: Workspace) -> None:
    folder = workspace.sae("topk")
    sae = ours("topk", workspace.root / "x")
    said = {"save_dir": f"{HOME}/runs", "nested": [{"at": "~/x", "lr": 0.1}], "command": f"train --out {HOME}"}
    sources = (
        Source("activations", "acts", f"{HOME}/acts", "ab"),
        Source("model", f"{HOME}/clip", f"{HOME}/clip", "cd"),
        Source("images", f"{HOME}/photos", f"{HOME}/photos", "ef"),
    )
    config = replace(sae.config, model=f"{HOME}/clip", model_sha256="cd", origin=Origin(to, said))
    folder.mkdir(parents=True, exist_ok=True)
    SAE.of(replace(config, provenance=Provenance(sources)), dict(sae.named_parameters())).save(folder)
    out = published(workspace, "topk", to)
    for file in out.iterdir():
        content = file.read_bytes()
        for private in ("somebody", str(workspace.root), str(Path.home()), os.uname().nodename, f"-{os.getpid()}"):
            assert private.encode() not in content, (file.name, private)
    card = (out / "README.md").read_text()
    assert "base_model" not in card and "saetui import hf:REPO --name S --model ..." in card
    back = import_sae(ImportSettings(source=str(out), name="back", **READS), workspace)
    assert read_config(Path(back.path)).model == "demo:encoder"


def test_the_card_shows_no_ms_without_its_control(workspace: Workspace, tmp_path: Path) -> None:
    card = (published(workspace, "matryoshka") / "README.md").read_text()
    assert "| 43 latents | 0.124 |\n| raw neurons of matched support | 0.034 |" in card
    assert "| on 16 held-out rows | |" in card and "| FVE | -0.6683 |" in card
    assert "# license: put yours here" in card and "library_name: saetui" in card
    shutil.rmtree(workspace.root / "neurons")
    shutil.rmtree(tmp_path / "hub")
    assert "MS" not in (published(workspace, "matryoshka") / "README.md").read_text()


def test_the_card_names_the_base_model(workspace: Workspace) -> None:
    config = read_config(workspace.sae("jump"))
    weights = dict(SAE.load(workspace.sae("jump")).named_parameters())
    SAE.of(replace(config, model="hf:openai/clip-vit@main"), weights).save(workspace.sae("jump"))
    out = published(workspace, "jump", "saelens")
    assert 'base_model: "openai/clip-vit"' in (out / "README.md").read_text()
    metadata = json.loads((out / "cfg.json").read_text())["metadata"]
    assert metadata["model_name"] == "hf:openai/clip-vit@main"
