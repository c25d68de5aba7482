"""``saetui neurons``: what --search finds."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.neurons import latents
from engine.neurons.labels import Labels
from engine.workspace import Workspace
from saetui.cli.app import app
from tests.support.scores import write_scores


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

    assert "No saes named 'nosuch'" in refusal("nosuch") and "score" not in refusal("nosuch")
    place.sae("there").mkdir(parents=True)
    assert "it has there; give one of these" in refusal("nosuch", "--on", "val")
    assert "run saetui score there" in refusal("there")
