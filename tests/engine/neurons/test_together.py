"""Scoring several SAEs at once: one pass, the same bytes as alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from engine.config import ScoreSettings, ScoresSettings
from engine.errors import Stopped, UserError
from engine.files import value_sha256
from engine.models.encoder import VisionEncoder
from engine.neurons import score as module
from engine.neurons.asked import apart, check_scores
from engine.neurons.file import Neurons
from engine.neurons.score import score, score_all, score_together
from engine.reporter import Reporter, StageBegan, Warned
from engine.runs.tasks import TASKS
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.workspace import Provenance, Source, Workspace
from tests.support.checkpoints import build, discerning, save, tokenizer

N, SAES = 22, {"first": "layer:0", "second": "layer:1", "other": "layer:1", "pooled": "last"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Images, a CLIP, a DINOv2, and SAEs of three hook points of the CLIP."""
    root = tmp_path_factory.mktemp("together")
    rng = np.random.default_rng(0)
    for i in range(N):
        kind = root / "images" / ("red", "blue")[i % 2]
        kind.mkdir(parents=True, exist_ok=True)
        noisy = np.array([(200, 40, 30), (30, 60, 220)][i % 2]) + rng.integers(-60, 60, (36, 36, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(kind / f"{i:02d}.png")
    options = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    save(build("clip"), root / "clip", transformers.CLIPImageProcessor(**options))
    tokenizer(("red", "blue", "cat")).save_pretrained(root / "clip")
    save(discerning(build("dinov2")), root / "dino", transformers.BitImageProcessor(**options))
    (root / "words.txt").write_text("red\nblue\ncat")
    for seed, (name, hook) in enumerate(SAES.items()):
        random_sae(root / "work/saes" / name, str(root / "clip"), hook, seed)
    return root


@torch.no_grad()
def random_sae(folder: Path, model: str, hook: str, seed: int) -> None:
    torch.manual_seed(seed)
    w, tokens = 24 + 8 * seed, "pooled" if hook == "last" else "all"
    d = 16 if hook == "last" else 32
    sae = SAE(SAEConfig(arch="topk", d=d, w=w, k=4, model=model, hook=hook, tokens=tokens))
    sae.W_enc.normal_()
    sae.W_dec.normal_()
    sae.save(folder)


def ask(place: Path, sae: str = "first", **more) -> ScoreSettings:
    given = {"images": str(place / "images"), "embed_with": str(place / "dino"), "batch_size": 5, "device": "cpu"}
    return ScoreSettings(sae=sae, vocabulary=str(place / "words.txt"), **(given | more))


def several(place: Path, saes: tuple[str, ...], judges: tuple[str, ...]) -> ScoresSettings:
    """Of encoders in ``place``."""
    return ScoresSettings(**vars(ask(place)) | {"sae": saes, "embed_with": tuple(str(place / one) for one in judges)})


class Listener(Reporter):
    def __init__(self):
        self.stages, self.warnings = [], []

    def event(self, event):
        match event:
            case StageBegan(name):
                self.stages.append(name)
            case Warned(message):
                self.warnings.append(message)


@pytest.fixture(scope="module")
def alone(place) -> dict[str, bytes]:
    """The file of each SAE, scored by itself."""
    work = Workspace(place / "work")
    asked = [ask(place, sae) for sae in SAES] + [ask(place, "first", pooling="mean", name="mean", min_support=3)]
    files = {Path(score(one, work).path): one for one in asked}
    found = {path.name: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    return found


def files(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "work/neurons").glob("*.h5")}


@pytest.fixture
def work(place):
    yield Workspace(place / "work")
    for path in (place / "work/neurons").glob("*.h5"):
        path.unlink()


def shown(monkeypatch) -> list[int]:
    """How many images each forward pass of an encoder has seen from here on."""
    passes, before = [], VisionEncoder.activations

    def counting(self, inputs, hooks, images=None):
        passes.append(images)
        return before(self, inputs, hooks, images)

    monkeypatch.setattr(VisionEncoder, "activations", counting)
    return passes


@pytest.mark.parametrize("room", [None, 1], ids=["one pass", "as many passes as SAEs"])
def test_several_make_the_same_bytes_as_each_alone(place, alone, work, monkeypatch, room):
    if room:
        monkeypatch.setattr(module, "_room", lambda encoder: room)
    passes = shown(monkeypatch)
    asked = [ask(place, sae) for sae in SAES] + [ask(place, "first", pooling="mean", name="mean", min_support=3)]
    results = score_together(asked, work)
    assert [(one.sae, one.made) for one in results] == [(one.sae, True) for one in asked]
    assert files(place) == alone
    assert passes.count(5) == (4 if room is None else 4 * len(asked)), "of 22 images, four batches are of five"


def test_what_is_odd_in_the_images_is_told_once(place, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    (tmp_path / "images/classes.txt").write_text("red crimson, scarlet\n")
    shutil.copytree(place / "work/saes", tmp_path / "work/saes")
    listener = Listener()
    given = {"images": str(tmp_path / "images"), "limit": 13}
    (one, _) = score_together(
        [ask(place, sae, **given) for sae in ("first", "second")], Workspace(tmp_path / "work"), listener
    )
    assert sum("does not name 1 folder of images, as blue" in said for said in listener.warnings) == 1
    with Neurons.open(one.path) as neurons:
        assert {image.also for image in neurons.images if image.label == "crimson"} == {("red", "scarlet")}


def test_sae_after_sae_is_left_for_another_pass_when_latents_turn_out_to_fire_too_much(place, alone, work, monkeypatch):
    every = [ask(place, sae) for sae in SAES]
    sizes = []
    monkeypatch.setattr(module, "_room", lambda encoder: sizes.append(1) or 60_000)
    listener = Listener()
    score_together(every, work, listener)
    assert 1 < listener.stages.count("encoding") < len(every)
    assert files(place) == {name: found for name, found in alone.items() if "mean" not in name}


def test_what_is_scored_is_skipped_and_the_order_kept(place, alone, work):
    before = score(ask(place, "second"), work)
    settings = ScoresSettings(
        **vars(ask(place)) | {"sae": ("other", "second", "first"), "embed_with": (str(place / "dino"),)}
    )
    listener = Listener()
    result = score_all(settings, work, listener)
    assert [(one.sae, one.made) for one in result.scores] == [("other", True), ("second", False), ("first", True)]
    assert result.scores[1] == replace(before, made=False)
    assert [name for name in listener.stages if name.startswith("scoring")] == [
        "scoring other--images",
        "scoring first--images",
    ]
    listener = Listener()
    assert not any(one.made for one in score_all(settings, work, listener).scores)
    assert "encoding" not in listener.stages and listener.stages[-1] == "nothing to do: all are scored"


class Stopping(Listener):
    def check(self):
        if self.stages[-1] == "scoring second--images":
            raise Stopped


def test_what_was_written_before_an_interruption_is_kept(place, alone, work):
    every = [ask(place, sae) for sae in ("first", "second", "other")]
    with pytest.raises(Stopped) as stopped:
        score_together(every, work, Stopping())
    assert stopped.value.kept == "2 scores are kept"
    assert set(files(place)) == {"first--images.h5", "second--images.h5"}
    assert [one.made for one in score_together(every, work)] == [False, False, True]
    assert files(place) == {name: alone[name] for name in files(place)}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("wide", r"^wide: .*33 wide.*has 32 at layer:1"),
        ("nosuch", "No SAE named 'nosuch'"),
        ("orphan", "The SAE orphan does not say which encoder"),
        ("bent", r"bent.*damaged"),
        ("first", "would be written twice"),
    ],
)
@torch.no_grad()
def test_a_mistake_about_one_is_said_before_anything_is_begun(place, work, wrong, says, monkeypatch):
    saes = place / "work/saes"
    if wrong == "wide":
        sae = SAE(SAEConfig(arch="topk", d=33, w=8, k=2, model=str(place / "clip"), hook="layer:1", tokens="all"))
        sae.save(saes / wrong)
    if wrong == "orphan":
        random_sae(saes / wrong, "", "layer:1", 0)
    if wrong == "bent":
        random_sae(saes / wrong, str(place / "clip"), "layer:1", 0)
        weights = bytearray((saes / wrong / "sae.safetensors").read_bytes())
        weights[-1] ^= 1
        (saes / wrong / "sae.safetensors").write_bytes(weights)
    listener = Listener()
    with pytest.raises(UserError, match=says):
        score_together([ask(place, "first"), ask(place, wrong)], work, listener)
    assert not files(place) and "embedding" not in listener.stages


def test_other_scores_of_one_refuse_all(place, work):
    score(ask(place, "second"), work)
    before = files(place)
    with pytest.raises(UserError, match=r"second--images.h5 holds scores of pooling max, not mean"):
        score_together([ask(place, "first", pooling="mean"), ask(place, "second", pooling="mean")], work)
    assert files(place) == before


def test_a_warning_of_several_is_said_once(place, work):
    listener = Listener()
    score_together([ask(place, sae, embed_with=str(place / "clip"), name="own") for sae in SAES], work, listener)
    assert sum("judges its own latents" in one for one in listener.warnings) == 1
    with Neurons.open(work.root / "neurons/other--own.h5") as neurons:
        assert neurons.summary.embed_with == str(place / "clip")


def test_several_judges_share_a_pass_and_have_files_of_their_own(place, alone, work, monkeypatch):
    settings = several(place, ("first", "pooled"), ("dino", "clip"))
    judges = settings.embed_with
    passes = shown(monkeypatch)
    result = score_all(settings, work)
    names = [f"{sae}--images-{judge}.h5" for sae in ("first", "pooled") for judge in ("dino", "clip")]
    assert [Path(one.path).name for one in result.scores] == names and all(one.made for one in result.scores)
    assert [one.embed_with for one in result.scores] == [*judges, *judges]
    assert len(passes) - passes.count(1) <= 2 * 5, "five batches by a judge that has seen none, and five by the encoder"
    together = files(place)
    for one in apart(settings):
        work.neurons(one.sae, one.name).unlink()
        score(one, work)
    assert files(place) == together
    assert not any(one.made for one in score_all(settings, work).scores)
    with Neurons.open(result.scores[0].path) as dino, Neurons.open(result.scores[1].path) as clip:
        assert dino.summary.ms.baseline != clip.summary.ms.baseline
        np.testing.assert_array_equal(dino.top_images, clip.top_images)


@pytest.mark.parametrize(
    ("judges", "says"),
    [(("dino", "dino"), "names .*dino twice"), ((), "embed_with names none"), (("nobody",), "nobody")],
)
def test_judges_that_cannot_be_are_refused(place, work, judges, says):
    with pytest.raises(UserError, match=says):
        check_scores(several(place, ("first",), judges), work)


@pytest.mark.parametrize("order", [1, -1])
def test_judges_of_one_name_are_told_apart_whatever_their_order(place, order):
    judges = ("/a/vit", "/b/ViT", "hf:org/vit-large", "openclip:ViT-B-32/openai")[::order]
    asked = replace(several(place, ("s",), ()), embed_with=judges)
    names = {one.embed_with: one.name for one in apart(asked)}
    assert list(names) == list(judges) and len({name.casefold() for name in names.values()}) == 4
    assert names["/a/vit"] == f"images-vit-{value_sha256('/a/vit')[:8]}"
    assert names["hf:org/vit-large"] == "images-vit-large"
    assert names["openclip:ViT-B-32/openai"] == "images-ViT-B-32-openai"
    assert [one.name for one in apart(replace(asked, embed_with=judges[:1]))] == [""]


def test_as_a_command_it_says_what_the_sae_is_held_against(place):
    """Whose latents are the same, turned: directions of the same store, as many and as sparse."""
    workspace = Workspace(place / "work")
    origin = Provenance((Source("activations", "a", "", "a" * 64),))
    first = SAE.load(workspace.sae("first"))
    for name, directions in (("ours", None), ("random", "random")):
        first.config = replace(first.config, directions=directions, provenance=origin)
        first.save(workspace.sae(name))
        first.W_enc.data.neg_()
    asked = several(place, ("ours", "random"), ("dino",))
    ours, random = TASKS["scores"].load()(asked, workspace).scores
    assert random.twins == (), "a control has none itself"
    (beside,) = ours.twins
    assert (beside.control, beside.sae, beside.twin) == ("random", "random", False)
    assert beside.score.mean == pytest.approx(random.ms.sae.mean, abs=1e-6)
    assert beside.ahead.mean == pytest.approx(ours.ms.sae.mean - random.ms.sae.mean, abs=1e-6)
    assert beside.ahead.low < beside.ahead.mean < beside.ahead.high
    again = TASKS["score"].load()(apart(asked)[0], workspace)
    assert again.twins == ours.twins and not again.made
    of_plan = TASKS["score"].all(apart(asked), workspace, Reporter())
    assert [one.twins for one in of_plan] == [ours.twins, ()], "as the stages of a plan are done"
