"""Where things are, as artefacts say it: relative to the workspace inside of it, absolute outside."""

from dataclasses import dataclass, field

import pytest

from engine.config import PLACES, ExtractSettings, ScoreSettings
from engine.errors import UserError
from engine.places import changed_values, located, located_text, recorded, recorded_text, workspace_of
from engine.settings import place
from engine.workspace import Provenance, Source, Workspace


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "study/sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "study/sub")
    return tmp_path / "study"


WRITTEN = [  # what is typed in study/sub, of what sort, and what is written down
    ("../images", "path", "images"),
    ("..", "path", "."),
    ("pictures/*.tar", "path", "sub/pictures/*.tar"),
    ("../../other", "path", "{outside}/other"),
    ("~user/../x", "path", "sub/x"),
    ("demo", "path", "sub/demo"),
    ("", "path", ""),
    ("demo", "model", "demo"),
    ("demo:encoder", "model", "demo:encoder"),
    ("hf:org/name", "model", "hf:org/name"),
    ("../demo", "model", "./demo"),
    ("clip", "model", "sub/clip"),
    ("openclip:ViT-B-32/openai", "model", "openclip:ViT-B-32/openai"),
    ("openclip:ViT-B-32/../w.pt", "model", "openclip:ViT-B-32/./w.pt"),
    ("openclip:ViT-B-32/openai@../w.pt", "model", "openclip:ViT-B-32/openai@./w.pt"),
    ("openclip:ViT-B-32/openai@w", "model", "openclip:ViT-B-32/openai@sub/w"),
    ("openclip:ViT-B-32/openai@../../w@1.pt", "model", "openclip:ViT-B-32/openai@{outside}/w@1.pt"),
    ("openclip:ViT-B-32/../a@b/w.pt", "model", "openclip:ViT-B-32/a@b/w.pt"),
    ("hf-hub:org/name", "model", "hf-hub:org/name"),
    ("https://x.org/a/b.tar", "path", "https://x.org/a/b.tar"),
    ("blank:red", "image", "blank:red"),
    ("../images::a/b.png", "image", "images::a/b.png"),
    ("a.png", "image", "sub/a.png"),
    ("demo", "artefact", "demo"),
    ("../saes/demo", "artefact", "saes/demo"),
    ("../x", "artefact", "./x"),
    ("demo", "file", "demo"),
]


@pytest.mark.parametrize(("typed", "sort", "written"), WRITTEN, ids=[f"{row[1]}-{row[0]}" for row in WRITTEN])
def test_what_is_written_down_is_read_from_anywhere(root, monkeypatch, typed, sort, written):
    written = written.format(outside=root.parent)
    assert recorded_text(typed, sort, root) == written
    monkeypatch.chdir("/")
    read = located_text(written, sort, root)
    assert recorded_text(read, sort, root) == written and located_text(read, sort, root) == read
    moved = located_text(written, sort, root.parent / "moved")
    assert moved == read.replace(str(root), str(root.parent / "moved"))


def test_a_file_without_a_folder_is_told_from_a_name(root):
    (root / "sub/A.npy").write_bytes(b"")
    assert recorded_text("A.npy", "file", root) == "sub/A.npy"


def test_a_link_in_the_workspace_is_within_it(root, tmp_path):
    (tmp_path / "data").mkdir()
    (root / "images").symlink_to(tmp_path / "data")
    (tmp_path / "link").symlink_to(root)
    assert recorded_text(str(root / "images"), "path", root) == "images"
    assert recorded_text(str(tmp_path / "link/sub"), "path", root) == "sub"


@dataclass(frozen=True)
class Kept:
    settings: ScoreSettings
    origin: Provenance
    command: str = place("command", "")
    several: tuple[Source, ...] = ()
    model: str = field(default="", metadata={"place": "model"})


def test_a_record_and_all_that_is_in_it(root):
    settings = ScoreSettings(sae="../saes/s", images="../images", embed_with="demo:encoder", vocabulary="../w.txt")
    sources = (Source("images", "../images", "../images", "1"), Source("sae", "s", "../saes/s", "2"))
    command = "saetui extract --images '../my images' --model ../clip --at layer:4 --name images"
    kept = recorded(Kept(settings, Provenance(sources), command, sources, "../clip"), root)
    assert (kept.settings.sae, kept.settings.images, kept.settings.vocabulary) == ("saes/s", "images", "w.txt")
    assert [(one.name, one.path) for one in kept.several] == [("images", "images"), ("s", "saes/s")]
    assert kept.origin.made_from == kept.several and kept.model == "./clip"
    assert kept.command == "saetui extract --images 'my images' --model ./clip --at layer:4 --name images"
    assert recorded(located(kept, root), root) == kept
    assert located(kept, root).settings.images == str(root / "images")


def test_what_workspace_toml_says_is_from_the_workspace(root):
    (root / "workspace.toml").write_text('images = "pictures"\nmodel = "./clip"\nvlm = "demo"\nname = "x"\nseed = 3\n')
    assert Workspace.find().defaults() == {
        "images": str(root / "pictures"), "model": str(root / "clip"), "vlm": "demo", "name": "x", "seed": 3
    }  # fmt: skip


def test_every_setting_that_is_a_place_is_known_by_name():
    models = {"model", "embed_with", "vlm", "for_steering"}
    assert models | {"images", "image", "sae", "activations", "vocabulary"} <= PLACES.keys()
    written = changed_values(ExtractSettings(model="m", images="i", name="n").__dict__, PLACES, lambda text, sort: sort)
    assert (written["model"], written["images"], written["name"]) == ("model", "path", "n")


def test_an_artefact_lies_in_a_folder_of_its_workspace(root):
    assert workspace_of(Workspace(root).sae("s")) == root == workspace_of(Workspace(root).neurons("s", "i"))
    with pytest.raises(UserError):
        Workspace(root).sae("../s")
