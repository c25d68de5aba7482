"""``saetui neurons``: what --search finds."""

import contextlib
import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from engine.errors import UserError
from engine.neurons import latents
from engine.neurons.labels import Labels
from engine.neurons.seal import unsealed
from engine.workspace import Workspace
from saetui.cli import pictures
from saetui.cli.app import app
from tests.support.scores import as_crops, write_scores


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """A workspace with scores of four latents, of which two are labelled and one is marked; one stands elsewhere."""
    place = Workspace(tmp_path / "study")
    path = write_scores(place.neurons("s", "val"), 4, ms=np.array([0.1, 0.4, 0.3, 0.2]))
    labels = Labels.open(place.labels("s"))
    labels.set(1, text="my pens")
    labels.set(2, text="a pen", marked=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return place, path


def found(*words):
    done = CliRunner().invoke(app, ["neurons", *map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return [row["latent"] for row in json.loads(done.stdout)["latents"]]


@pytest.mark.parametrize(
    ("search", "expected"), [("marked", [2]), ("labelled", [1, 2]), ("pens", [1]), ("marked=0 labelled", [1])]
)
def test_marks_and_labels_are_found_by_name_and_by_path(scored, search, expected):
    place, path = scored
    assert found("s", "--workspace", place.root, "--search", search) == expected
    assert found(path, "--search", search) == expected, "the labels lie beside the file, not where one stands"
    assert [known.latent for known in latents.search(str(path), search)] == expected, "the rack asks so"


def test_an_sae_that_is_not_there_is_not_to_be_scored(scored):
    place, _ = scored

    def refusal(*words):
        return str(CliRunner().invoke(app, ["neurons", *words, "--workspace", str(place.root)]).exception)

    assert "No SAE named 'nosuch'" in refusal("nosuch") and "score" not in refusal("nosuch")
    place.sae("there").mkdir(parents=True)
    assert "it has there; give one of these" in refusal("nosuch", "--on", "val")
    assert "run saetui score there" in refusal("there")


def test_where_patches_were_scored_their_numbers_are_called_so(scored):
    place, path = scored

    def printed():
        return CliRunner().invoke(app, ["neurons", "s", "--workspace", str(place.root)]).stdout

    assert "  images  " in printed() and "patches" not in printed()
    as_crops(path, crops=4)
    assert "  patches  " in printed() and "  images  " not in printed()
    assert "MS, support, matched: of 12 patches, by their crops; else: of images" in printed()


def test_a_line_stands_around_a_part_of_a_printed_picture(monkeypatch):
    printed = []
    monkeypatch.setattr(pictures, "_print", lambda image, columns, rows: printed.append(np.asarray(image)))
    thumbnails = SimpleNamespace(load=lambda path: np.full((64, 64, 3), 200 if path == "light" else 50, np.uint8))
    pictures.print_strip(thumbnails, ["light", "dark", "dark"], [(0.25, 0.5, 0.5, 0.75), (0.0, 0.0, 0.5, 0.5), None])
    light, dark, plain = (printed[0][:, start : start + 64, 0] for start in (0, 68, 136))
    inside = np.zeros((64, 64), bool)
    inside[32:48, 16:32] = True
    line = np.zeros((64, 64), bool)
    line[29:51, 13:35] = True
    assert (light[inside] == 200).all() and (light[line & ~inside] == 0).all() and (light[~line] == 200).all()
    assert (dark[:32, :32] == 50).all() and (dark[:35, 32:35] == 255).all() and (plain == 50).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images/taxonomy", lambda old: np.full(len(old), "no JSON", object)),
        ("images/taxonomy", lambda old: np.full(len(old), "5", object)),
        ("images/label", lambda old: old[:-1]),
        ("images/path", lambda old: old[:0]),
        ("words/word", lambda old: old[:0]),
        ("latents/names", lambda old: np.full_like(old, 99)),
        ("latents/matched", lambda old: old[:-1]),
        ("latents/maximum", lambda old: old[:-1]),
        ("latents/top_images", lambda old: np.full_like(old, 10**6)),
        ("latents/top_images", lambda old: old[:, :1]),
        ("latents/top_activations", lambda old: old[:1]),
    ],
)
def test_parts_that_do_not_fit_are_damage_to_every_reader(scored, name, change):
    """Files of older versions have no hash, and one from a stranger has whichever hash."""
    _, path = scored
    path.write_bytes(unsealed(path))
    with h5py.File(path, "r+") as file:
        old, kind = file[name][()], file[name].dtype
        del file[name]
        file.create_dataset(name, data=change(old), dtype=kind)
    for words in (["--json"], ["--images"], ["--search", "pen"], ["--sort", "maximum"]):
        done = CliRunner().invoke(app, ["neurons", str(path), *words])
        assert done.exit_code == 0 or isinstance(done.exception, UserError), done.exception
    asks = (
        lambda: latents.describe(str(path), [1]),
        lambda: latents.search(str(path), "pen"),
        lambda: latents.top_images(str(path), 1),
    )
    for ask in asks:
        with contextlib.suppress(UserError):
            ask()
