"""The work behind ``saetui steer``, on a tiny LLaVA in a workspace."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.config import SteerSettings
from engine.errors import Stopped, UserError
from engine.files import file_sha256
from engine.records import to_json
from engine.reporter import Reporter, event_to_json
from engine.steer.compare import steer
from engine.steer.firing import given_back
from engine.steer.generate import answer
from engine.steer.interventions import Intervention, attached
from engine.steer.results import Steered
from tests.support.scores import made_from, write_scores
from tests.support.tiny_llava import LATENTS, exact_sae, picture, random_sae


class Listener(Reporter):
    def __init__(self, stop_at=0):
        self.events, self.checks, self.stop_at = [], 0, stop_at

    def event(self, event):
        fields = event_to_json(event)
        self.events.append((fields.pop("kind"), fields))

    def check(self):
        self.checks += 1
        if self.checks == self.stop_at:
            raise Stopped

    def of(self, kind):
        return [fields for found, fields in self.events if found == kind]


@pytest.fixture
def settings(workspace, llava_folder, tmp_path):
    """A steering of latent 5 that works, to vary."""
    random_sae().save(workspace.sae("s"))
    picture().save(tmp_path / "image.png")

    def make(**changes):
        given = {"sae": "s", "vlm": str(llava_folder), "image": str(tmp_path / "image.png"), "prompt": "what is it",
                 "latent": ("5=30",), "max_new_tokens": 12, "device": "cpu"}  # fmt: skip
        return SteerSettings(**{**given, **changes})

    return make


def expected(vlm, sae, intervention, image=None):
    image = image or picture()
    said = {"untouched": answer(vlm, image, "what is it", 12)}
    for name, one in (("attached", intervention.control()), ("steered", intervention)):
        with attached(vlm, sae, one):
            said[name] = answer(vlm, image, "what is it", 12)
    return Steered(**said)


@pytest.mark.parametrize(
    ("changes", "intervention"),
    [
        ({}, Intervention(latents=((5, 30.0),))),
        ({"keep_error": True}, Intervention(latents=((5, 30.0),), keep_error=True)),
        ({"latent": ("5=9", "7=-20"), "mode": "add"}, Intervention(latents=((5, 9.0), (7, -20.0)), mode="add")),
        ({"latent": ("5=40",), "mode": "scale"}, Intervention(latents=((5, 40.0),), mode="scale")),
        ({"latent": ("5", "9"), "mode": "ablate"}, Intervention(latents=((5, 0.0), (9, 0.0)), mode="ablate")),
        ({"tokens": "0,3-9"}, Intervention(latents=((5, 30.0),), tokens=(0, 3, 4, 5, 6, 7, 8, 9))),
    ],
)
def test_three_answers_streamed_in_order(workspace, settings, vlm, sae, changes, intervention):
    listener = Listener()
    result = steer(settings(**changes), workspace, listener)
    assert result == expected(vlm, sae, intervention)
    said = to_json(result)
    assert list(said) == ["untouched", "attached", "steered"]
    assert json.loads(json.dumps(said)) == said
    tokens = listener.of("token")
    for name, text in said.items():
        assert "".join(token["text"] for token in tokens if token["answer"] == name) == text
    order = [token["answer"] for token in tokens]
    assert order == sorted(order, key=list(said).index)
    assert [stage["name"] for stage in listener.of("stage")] == ["load", *said]


def test_an_sae_of_another_model_is_told(workspace, settings, vlm):
    """Its name may be that of the model, and its width; what it gives back tells."""
    told = Listener()
    steer(settings(), workspace, told)
    (warning,) = told.of("warning")
    share = given_back(vlm, random_sae(), picture())
    assert warning["message"].startswith(f"The SAE gives back {share:.0%} of what ")
    assert "other weights" in warning["message"]
    exact_sae().save(workspace.sae("exact"))
    quiet = Listener()
    steer(settings(sae="exact"), workspace, quiet)
    assert quiet.of("warning") == []


def test_the_settings_make_a_difference(workspace, settings):
    result = steer(settings(), workspace)
    assert result.untouched != result.steered != result.attached


def test_blank_images(workspace, settings, vlm, sae):
    for spec, colour in (("blank", "white"), ("blank:red", "red"), ("blank:#0080ff", (0, 128, 255))):
        image = Image.new("RGB", (32, 32), colour)
        result = steer(settings(image=spec), workspace)
        assert result == expected(vlm, sae, Intervention(latents=((5, 30.0),)), image)


@pytest.mark.parametrize("shown", ["white", "uncovered"])
def test_an_image_is_seen_through_as_the_images_of_the_sae_were(workspace, settings, vlm, sae, tmp_path, shown):
    seen = {"white": Image.new("RGB", (32, 32), "white"), "uncovered": picture()}
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    other = random_sae()
    other.config = replace(other.config, transparency=shown)
    other.save(workspace.sae("s"))
    for image in (tmp_path / "clear.png", f"{tmp_path}::clear.png"):
        result = steer(settings(image=str(image)), workspace)
        assert result == expected(vlm, sae, Intervention(latents=((5, 30.0),)), seen[shown])
    assert (
        expected(vlm, sae, Intervention(latents=((5, 30.0),)), seen["white"]).steered
        != expected(vlm, sae, Intervention(latents=((5, 30.0),)), seen["uncovered"]).steered
    )


def score(workspace, name, maximum, sha256=None):
    """Scores of the SAE ``s`` with these largest activations."""
    sha256 = sha256 or file_sha256(workspace.sae("s") / "sae.safetensors")
    path = workspace.neurons("s", name)
    write_scores(path, len(maximum), origin=made_from("s", sha256), maximum=maximum)


def test_multiples_of_the_maximum(workspace, settings, vlm, sae):
    with pytest.raises(UserError, match="maximum of latent 5 is not known, as s has no scores: run saetui score s"):
        steer(settings(latent=("5=2x",)), workspace)
    maximum = np.zeros(LATENTS)
    maximum[5] = 7.5
    score(workspace, "val", maximum)
    score(workspace, "train", maximum * 2)
    score(workspace, "of-another-sae", maximum * 9, sha256="0" * 64)
    listener = Listener()
    result = steer(settings(latent=("5=2x", "6=1")), workspace, listener)
    assert result == expected(vlm, sae, Intervention(latents=((5, 30.0), (6, 1.0))))
    assert listener.of("intervention")[0]["latents"] == [(5, 30.0), (6, 1.0)]
    with pytest.raises(UserError, match="Latent 6 fired on none of the images"):
        steer(settings(latent=("6=2x",)), workspace)
    with pytest.raises(UserError, match=f"no latent {LATENTS}"):
        steer(settings(latent=(f"{LATENTS}=2x",)), workspace)


def test_scores_of_other_weights_are_no_maxima_and_others_are_made_beside_them(workspace, settings):
    score(workspace, "val", np.ones(LATENTS), sha256="0" * 64)
    with pytest.raises(UserError, match=r"s are of other weights .*: run saetui score s .* --name OTHER, or"):
        steer(settings(latent=("5=2x",)), workspace)


def test_a_recipe_is_replayed_from_anywhere(workspace, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = steer(settings(image="image.png", mode="add", save_recipe="fish"), workspace)
    monkeypatch.chdir(workspace.root)
    assert steer(SteerSettings(recipe="fish"), workspace) == first
    changed = steer(SteerSettings(recipe="fish", latent=("9=80",)), workspace)
    assert changed == steer(settings(mode="add", latent=("9=80",)), workspace)
    assert changed.steered != first.steered


def test_a_recipe_of_an_sae_that_was_trained_anew(workspace, settings):
    steer(settings(save_recipe="fish"), workspace)
    listener = Listener()
    steer(SteerSettings(recipe="fish"), workspace, listener)
    saved_with = "not the one that the recipe was saved with"
    assert not any(saved_with in one["message"] for one in listener.of("warning"))
    random_sae(seed=9).save(workspace.sae("s"))
    steer(SteerSettings(recipe="fish"), workspace, listener)
    assert any(saved_with in one["message"] for one in listener.of("warning"))


def test_it_stops_between_tokens(workspace, settings):
    listener = Listener(stop_at=3)
    with pytest.raises(Stopped):
        steer(settings(), workspace, listener)
    assert len(listener.of("token")) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sae": ""}, "give an SAE, or a --recipe"),
        ({"vlm": ""}, "give --vlm MODEL, or a --recipe"),
        ({"sae": "t"}, "No SAE named 't'"),
        ({"vlm": "nowhere"}, "There is no directory nowhere"),
        ({"latent": ()}, "No latent is changed: give at least one --latent"),
        ({"latent": ("pencil",)}, "is not LATENT=VALUE"),
        ({"latent": ("64=1",)}, "There is no latent 64"),
        ({"tokens": "16"}, "no patch token 16"),
        ({"tokens": "some"}, "does not name patch tokens"),
        ({"image": "nowhere.png"}, "There is no image nowhere.png"),
        ({"image": "blank:octarine"}, "no colour 'octarine'"),
        ({"max_new_tokens": 0}, "--max-new-tokens"),
        ({"device": "tpu"}, "not a device"),
        ({"recipe": "none"}, "There is no recipe none"),
    ],
)
def test_mistakes(workspace, settings, changes, says):
    with pytest.raises(UserError, match=says) as error:
        steer(settings(**changes, save_recipe="kept"), workspace)
    assert "\n" not in str(error.value)
    assert not workspace.recipe("kept").exists()


def test_a_corrupt_image_is_named(workspace, settings, tmp_path):
    whole = (tmp_path / "image.png").read_bytes()
    (tmp_path / "image.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"image\.png is not an image that can be read"):
        steer(settings(), workspace)


def test_an_sae_of_another_width_names_both(workspace, settings):
    random_sae(d=24).save(workspace.sae("s"))
    with pytest.raises(UserError, match=r"width 24, the vision tower of .* is 32 wide"):
        steer(settings(), workspace)


def test_a_damaged_sae(workspace, settings):
    (workspace.sae("s") / "sae.safetensors").unlink()
    with pytest.raises(UserError, match=r"sae\.safetensors"):
        steer(settings(), workspace)
