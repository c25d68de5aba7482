"""The whole stage on a tiny LLaVA: every number again from what was answered, and work that ends is gone on with."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.config import ScoreSettings, SteerabilitySettings, SteerSettings
from engine.errors import Stopped, UserError
from engine.files import file_sha256
from engine.models import load_encoder
from engine.models.vlm import load_vlm
from engine.neurons.results import ScoredImage
from engine.records import from_json, to_json
from engine.reporter import Progress, Reporter, StageBegan
from engine.sae.model import SAE
from engine.steer.compare import steer
from engine.steer.controls import mean_patches
from engine.steer.generate import answers, next_token_kl
from engine.steer.interventions import Intervention
from engine.steer.results import CONDITIONS, Condition, DosePoint, Steerability
from engine.steer.steerability.dose import recommended
from engine.steer.steerability.file import read_steerability
from engine.steer.steerability.prompts import ONE_WORD, first_word
from engine.steer.steerability.space import LAST
from engine.steer.steerability.stage import steerability
from tests.support.scores import SUMMARY, made_from, write_scores
from tests.support.tiny_llava import LATENTS, picture, random_sae

N, CONCEPTS = 8, ("red", "fish", "tree")
PROMPTS = ("what is it", "describe the red fish")


class Listener(Reporter):
    def __init__(self, stop_at=0):
        self.events, self.checks, self.stop_at = [], 0, stop_at

    def event(self, event):
        self.events.append(event)

    def check(self):
        self.checks += 1
        if self.checks == self.stop_at:
            raise Stopped

    @property
    def progressed(self):
        return [event for event in self.events if isinstance(event, Progress)]


@pytest.fixture
def study(workspace, llava_folder, tmp_path):
    """An SAE with scores on eight pictures; returns how to measure it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    sae = random_sae()
    sae.config = replace(sae.config, groups=(16, LATENTS))
    sae.save(workspace.sae("s"))
    for number in range(N):
        picture(number).save(folder / f"{number}.png")
    images = [ScoredImage(f"{n}.png", CONCEPTS[n % 3], (), file_sha256(folder / f"{n}.png")) for n in range(N)]
    tops = np.stack([np.random.default_rng(k).permutation(N)[:3] for k in range(LATENTS)])
    settings = ScoreSettings(sae="s", images=str(folder), embed_with="demo:encoder")
    write_scores(
        workspace.neurons("s", "val"),
        LATENTS,
        said=replace(SUMMARY, settings=settings),
        origin=made_from("s", file_sha256(workspace.sae("s") / "sae.safetensors")),
        images=images,
        words=CONCEPTS,
        word_latents=np.zeros((3, 1)),
        word_scores=np.zeros((3, 1)),
        support=np.full(LATENTS, 20),
        maximum=np.linspace(4, 9, LATENTS),
        names=np.arange(LATENTS)[:, None] % 3,
        name_scores=np.full((LATENTS, 1), 0.5),
        top_images=tops,
        top_activations=np.ones((LATENTS, 3)),
        distinct=np.full(LATENTS, 3),
    )
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))

    def asked(**changes):
        given = {
            "sae": "s", "vlm": str(llava_folder), "compare_with": "demo", "prompts": str(tmp_path / "prompts.txt"),
            "count": 4, "draw": "group", "few": 2, "pictures": 3, "max_new_tokens": 4, "doses": (0.5, 3.0),
            "most_damage": 50.0, "judge": ("text",), "batch_size": 16, "device": "cpu",
        }  # fmt: skip
        return SteerabilitySettings(**{**given, **changes})

    return asked


def lines(workspace):
    path = next((workspace.root / "steerability").glob("*/answers.jsonl"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def score_of(measured, name):
    return next(one for one in measured if one.condition == name).score


def test_every_number_is_what_the_answers_say(workspace, study, vlm):
    found = steerability(study(), workspace)
    said = lines(workspace)
    assert found.made and [one.group for one in found.latents] == [0, 1, 0, 1]
    assert found.drawn_from == LATENTS and [one.concept_from for one in found.latents] == ["name"] * 4
    assert found == read_steerability(workspace.root / "steerability" / "s--llava" / "scores.json")
    assert from_json(Steerability, json.loads(json.dumps(to_json(found))), "it") == found

    clip = load_encoder("demo")

    def unit(row):
        return row / np.linalg.norm(row)

    def text(word):
        return unit(clip.embed_text([word])[0].numpy())

    def seen(name):
        image = Image.open(f"{workspace.root.parent}/pictures/{name}").convert("RGB")
        return unit(clip.activations(clip.preprocess([image]), [LAST])[LAST][0, 0].numpy())

    answered = {
        (one["condition"], one["latent"], one["image"], one["prompt"]): one["text"]
        for one in said
        if one["kind"] == "answer"
    }
    tops = {one.latent: np.random.default_rng(one.latent).permutation(N)[:3] for one in found.latents}
    for condition in CONDITIONS:
        scores = []
        for one in found.latents:
            direction = unit(np.mean([seen(f"{n}.png") for n in tops[one.latent]], axis=0))
            latent = None if condition in ("untouched", "attached") else one.latent
            word = first_word(answered[condition, latent, "blank", ONE_WORD])
            scores.append(text(word) @ direction if word else 0.0)
        assert score_of(found.word.conditions, condition).mean == pytest.approx(np.mean(scores), abs=1e-4)
        assert score_of(found.word.conditions, condition).n == 4
        few = score_of(found.word_on_pictures.conditions, condition)
        assert few.n == 2
    labels = []
    for one in found.latents:
        direction = unit(np.mean([seen(f"{n}.png") for n in tops[one.latent]], axis=0))
        labels.append(np.mean([text(CONCEPTS[n % 3]) @ direction for n in tops[one.latent]]))
    assert found.word.true_label.mean == pytest.approx(np.mean(labels), abs=1e-4)

    verdicts = {
        (one["question"], one["concept"], one["prompt"], one["answer"]): one["yes"]
        for one in said
        if one["kind"] == "verdict"
    }
    insertion, suppression = found.texts
    for condition in CONDITIONS:
        both, removed = [], []
        for one in found.latents:
            latent = None if condition in ("untouched", "attached") else one.latent
            texts = [answered[condition, latent, "blank", prompt] for prompt in PROMPTS]
            both.append(
                np.mean(
                    [
                        verdicts["appeared", one.concept, prompt, said] and verdicts["followed", "", prompt, said]
                        for prompt, said in zip(PROMPTS, texts, strict=True)
                    ]
                )
            )
            own = []
            for number, prompt in enumerate(PROMPTS):
                image = f"{tops[one.latent][number]}.png"
                before, after = (
                    answered[name, which, image, prompt] for name, which in (("untouched", None), (condition, latent))
                )
                if verdicts["appeared", one.concept, prompt, before]:
                    own.append(not verdicts["appeared", one.concept, prompt, after])
            removed += [np.mean(own)] if own else []
        assert score_of(insertion.both, condition).mean == pytest.approx(np.mean(both))
        gone = score_of(suppression.done, condition)
        assert gone.n == len(removed) and (not removed or gone.mean == pytest.approx(np.mean(removed)))
    untouched = score_of(insertion.both, "untouched").mean
    ahead = next(one for one in insertion.both if one.condition == "untouched").ahead
    assert ahead.mean == pytest.approx(score_of(insertion.both, "steered").mean - untouched)

    sae, blank = SAE.load(workspace.sae("s")), Image.new("RGB", vlm.image_size, "white")
    for dose in found.doses:
        for point in dose.points:
            one = {
                "untouched": None,
                "attached": Intervention(),
                "steered": Intervention(latents=((dose.latent, point.value),)) if point.value else None,
            }[point.condition]
            costs = [next_token_kl(vlm, blank, prompt, sae, [one]).item() if one else 0.0 for prompt in PROMPTS]
            assert point.damage == pytest.approx(np.mean(costs), rel=1e-3, abs=1e-5)
    maxima = {one.latent: one.maximum for one in found.latents}
    assert [[p.value for p in dose.points[2:]] for dose in found.doses] == [
        [pytest.approx(times * maxima[dose.latent]) for times in (0.5, 3.0)] for dose in found.doses
    ]
    assert [one.group for one in found.groups] == [0, 1] and found.groups[0].inserted.n == 2


def test_conditions_are_what_they_are_called(workspace, study, llava_folder):
    """The answers to one prompt, again by what steers in the other commands, and by vectors added by hand."""
    found = steerability(study(part=("insertion",)), workspace)
    said = [one for one in lines(workspace) if one["kind"] == "answer" and one["prompt"] == PROMPTS[0]]
    one = found.latents[0]
    own = {line["condition"]: line["text"] for line in said if line["latent"] in (one.latent, None)}
    again = steer(
        SteerSettings(
            sae="s",
            vlm=str(llava_folder),
            prompt=PROMPTS[0],
            latent=(f"{one.latent}={2 * one.maximum!r}",),
            max_new_tokens=4,
            device="cpu",
        ),
        workspace,
    )
    assert (again.untouched, again.attached, again.steered) == tuple(
        own[name] for name in ("untouched", "attached", "steered")
    )
    vlm = load_vlm(str(llava_folder), "cpu")
    pictures = [picture(n) for n in range(N)]
    means = dict(enumerate(mean_patches(vlm, "layer:2", pictures)))
    top = np.random.default_rng(one.latent).permutation(N)[:3]
    vector = sum(means[n] for n in top) / 3 - sum(means.values()) / N
    moved = 2 * one.maximum * SAE.load(workspace.sae("s")).W_dec[one.latent].norm()  # as the latent moves a token
    for name, added in (("diffmean", vector), ("diffmean_equal", vector * moved / vector.norm())):

        def add(module, args, output, added=added):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, vlm.n_prefix :] += added
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = vlm.site("layer:2").register_forward_hook(add, prepend=True)
        try:
            assert answers(vlm, [Image.new("RGB", vlm.image_size, "white")], PROMPTS[0], 4) == [own[name]]
        finally:
            handle.remove()


def test_work_that_was_stopped_goes_on_without_asking_again(workspace, study):
    whole = steerability(study(), workspace)
    kept = lines(workspace)
    folder = workspace.root / "steerability" / "s--llava"
    for name in ("scores.json", "answers.jsonl"):
        (folder / name).unlink()
    ends = 0
    for stop_at in (12, 40):
        try:
            steerability(study(), workspace, Listener(stop_at))
        except Stopped as stopped:
            ends += 1
            assert stopped.kept == "what was answered is kept" and not (folder / "scores.json").exists()
        with open(folder / "answers.jsonl", "ab") as file:
            file.write(b'{"kind": "answer", "key"')  # torn by a kill
    assert ends == 2
    again = steerability(study(), workspace)
    assert again == whole
    text = (folder / "answers.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in text if line.endswith("}")]
    keys = [(one["kind"], one["key"]) for one in found]
    assert len(keys) == len(set(keys)) == len(kept), "nothing was asked twice"
    assert {(one["kind"], one["key"]) for one in kept} == set(keys)


def test_what_is_there_is_not_measured_again_and_other_settings_ask_for_the_rest(workspace, study):
    first = steerability(study(), workspace)
    listener = Listener()
    again = steerability(study(), workspace, listener)
    assert again == replace(first, made=False) and not listener.progressed
    assert listener.events[-1] == StageBegan("nothing to do: it is measured")
    before = len(lines(workspace))
    more = steerability(study(count=5), workspace)
    assert [one.latent for one in more.latents[:4]] == [one.latent for one in first.latents] and more.made
    added = [one for one in lines(workspace)[before:] if one["kind"] == "answer"]
    assert {one["latent"] for one in added} - {None} == {more.latents[4].latent}
    shared = {one["image"] for one in added if one["latent"] is None}
    assert "blank" not in shared, "what the untouched model says of the plain image is known"


def test_two_judges_are_compared(workspace, study, tmp_path):
    from tests.support.language_models import save_chat_model

    folder = save_chat_model(tmp_path / "chat")
    found = steerability(study(part=("insertion",), judge=("text", "chat"), chat_model=str(folder)), workspace)
    assert [one.judge for one in found.texts] == ["text", "chat"]
    assert [one.name for one in found.judges] == ["text", "chat"] and found.judges[1].model == str(folder)
    assert "{answer}" in found.judges[1].asks["appeared"]
    verdicts = {}
    for one in lines(workspace):
        if one["kind"] == "verdict" and one["question"] == "appeared":
            asked = (one["concept"], one["prompt"], one["answer"])
            verdicts.setdefault(asked, {})[one["judge"]] = one["yes"]
    pairs = [(one["text"], one["chat"]) for one in verdicts.values() if None not in (one["text"], one["chat"])]
    told = [one.found for one in found.agreement if one.question == "appeared"]
    assert [one.n for one in told] == ([len(pairs)] if pairs else [])
    assert not pairs or told[0].share == pytest.approx(np.mean([one == other for one, other in pairs]))


def test_recommended_strengths_are_kept_as_recipes(workspace, study):
    found = steerability(
        study(part=("dose",), save_recipes="best", count=12, doses=(0.5, 1.0, 2.0, 4.0, 8.0)), workspace
    )
    gaining = [one for one in found.doses if one.recommended is not None]
    assert [one.recipe for one in found.doses] == [
        f"best-{one.latent}" if one.recommended is not None else "" for one in found.doses
    ]
    assert gaining, "some strength gains"
    for one in gaining:
        assert steer(SteerSettings(recipe=one.recipe), workspace).steered is not None


def test_the_recommended_strength_gains_most_for_what_it_may_cost():
    def point(condition: Condition, value, concept, damage):
        return DosePoint(condition, value, concept, damage)

    controls = [point("untouched", None, 0.5, 0), point("attached", None, 0.1, 0.2)]
    doses = [("steered", 1.0, 0.15, 0.3), ("steered", 2.0, 0.3, 0.9), ("steered", 4.0, 0.4, 3.0)]
    points = [*controls, *(point(*one) for one in doses)]
    assert recommended(points, 1.0) == (2.0, pytest.approx(0.2))
    assert recommended(points, 5.0) == (4.0, pytest.approx(0.3))
    assert recommended(points, 0.1) == (None, None)
    assert recommended([*controls, point("steered", 1.0, 0.1, 0.3)], 9.0) == (None, None), "it gains nothing"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sae": "t"}, "No SAE named 't'"),
        ({"vlm": "nowhere"}, "There is no directory nowhere"),
        ({"on": "train"}, "was not scored as 'train': choose one of val with --on"),
        ({"part": ("poem",)}, "part is poem: choose one or more of word"),
        ({"part": ()}, "part is none"),
        ({"latent": ("64",)}, "no latent 64"),
        ({"strength": "much"}, "'much' is no strength"),
        ({"doses": (0.0, 1.0)}, "at least one, all above 0"),
        ({"prompts": "nowhere.txt"}, "Cannot read the prompts nowhere.txt"),
        ({"image": "nowhere.png"}, "There is no image nowhere.png"),
        ({"judge": ("demo",)}, "parses what the demo's model says"),
        ({"judge": ("chat",)}, "needs a model: give --chat-model"),
        ({"judge": ("chat",), "chat_model": "nowhere"}, "There is no model at nowhere"),
        ({"judge": ("endpoint",)}, "set SAETUI_JUDGE_URL and SAETUI_JUDGE_MODEL"),
        ({"compare_with": "demo:encoder"}, "has no text tower"),
        ({"save_recipes": "a/b"}, "cannot name a recipe"),
        ({"min_support": 21}, "no latent with a name that 21 images fire"),
    ],
)
def test_mistakes(workspace, study, monkeypatch, changes, says):
    monkeypatch.delenv("SAETUI_JUDGE_URL", raising=False)
    with pytest.raises(UserError, match=says) as error:
        steerability(study(**changes), workspace)
    assert "\n" not in str(error.value)


def test_scores_of_other_weights_do_not_say_what_latents_are(workspace, study):
    random_sae(seed=9).save(workspace.sae("s"))
    with pytest.raises(UserError, match=r"are of other weights .* run saetui score s .* --name OTHER"):
        steerability(study(), workspace)
