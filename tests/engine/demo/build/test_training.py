"""The fast losses against the library's own forward passes and against formulas written out."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from engine.demo import world
from engine.demo.build import models, training
from engine.demo.build.scores import probe
from engine.demo.build.training import FACTS, NOTHING, Captioner, contrastive_loss, pixels, statements, targets


@pytest.fixture(scope="module")
def scenes():
    return list(world.scenes(24, 31))


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return models.new_clip().eval()


@pytest.fixture(scope="module")
def llava():
    torch.manual_seed(0)
    return models.new_llava().eval()


def test_pixels_are_what_the_processors_give(scenes):
    pictures = [world.draw(one) for one in scenes]
    mine = pixels(scenes)
    for processor in (models.clip_processor().image_processor, models.encoder_processor()):
        assert torch.allclose(mine, processor(pictures, return_tensors="pt")["pixel_values"], atol=1e-6)


def test_every_sentence_is_in_the_vocabulary(scenes):
    tokenizer = models.clip_processor().tokenizer
    said = [text for one in scenes for text in (one.caption(), one.short_caption(), one.word())]
    said += [text for one in scenes for what in (*FACTS, "thing", "full") for text in statements(one, what)]
    asked = [prompt for prompts in models.PROMPTS.values() for prompt in prompts]
    for text in said + asked + [*world.KINDS, *world.COLOURS, *world.FILLS, *world.GROUPS]:
        assert models.UNK not in tokenizer(text).input_ids, text
    for text in said:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_each_token_is_asked_for_the_object_of_its_half(scenes):
    for fact, words in FACTS.items():
        wanted = targets(scenes, fact).argmax(2).tolist()
        for one, row in zip(scenes, wanted, strict=True):
            for place, index in enumerate(row):
                if fact == "background":
                    right = one.background
                elif not one.objects:
                    right = NOTHING
                else:
                    right = getattr(one.objects[-1 if place % 4 >= 2 else 0], fact)
                assert words[index] == right


def test_patch_tokens_are_the_hidden_states_that_llava_reads(clip, scenes):
    with torch.no_grad():
        mine = training.patch_tokens(clip.vision_model, pixels(scenes))
        out = clip.vision_model(pixels(scenes), output_hidden_states=True)
        assert torch.allclose(mine, out.hidden_states[-2], atol=1e-5)
        whole = F.normalize(clip.visual_projection(out.pooler_output), dim=-1)
        assert torch.allclose(training.image_embedding(clip, mine), whole, atol=1e-5)


@pytest.mark.parametrize("what", [*FACTS, "thing", "full"])
def test_contrastive_loss_is_its_formula(clip, scenes, what):
    tokenizer = models.clip_processor().tokenizer
    with torch.no_grad():
        images = training.image_embedding(clip, training.patch_tokens(clip.vision_model, pixels(scenes)))
        loss = contrastive_loss(clip, tokenizer, images, scenes, what).item()
        texts = sorted({text for one in scenes for text in statements(one, what)})
        vectors = {text: training.text_embedding(clip, tokenizer, [text])[0] for text in texts}
        scale = clip.logit_scale.exp()
        table = {(i, t): (scale * images[i] @ vectors[t]).item() for i, t in itertools.product(range(24), texts)}
    by_image = by_text = 0.0
    for i, one in enumerate(scenes):
        true = set(statements(one, what))
        total = sum(torch.tensor(table[i, t], dtype=torch.float64).exp().item() for t in texts)
        by_image -= sum(torch.log(torch.tensor(table[i, t]).double().exp() / total).item() for t in true) / len(true)
    for t in texts:
        true = [i for i, one in enumerate(scenes) if t in statements(one, what)]
        total = sum(torch.tensor(table[i, t], dtype=torch.float64).exp().item() for i in range(24))
        by_text -= sum(torch.log(torch.tensor(table[i, t]).double().exp() / total).item() for i in true) / len(true)
    assert loss == pytest.approx((by_image / 24 + by_text / len(texts)) / 2, rel=1e-4)


@pytest.mark.parametrize("kind", models.PROMPTS)
def test_the_captioning_loss_is_that_of_the_whole_llava(llava, scenes, kind, monkeypatch):
    """Processor, chat template, vision tower, projector and language model in one ordinary forward pass."""
    captioner, processor = Captioner(llava, seed=0), models.llava_processor()
    say = {"describe": world.Scene.caption, "short": world.Scene.short_caption, "word": world.Scene.word}[kind]
    prompt = models.PROMPTS[kind][0]
    monkeypatch.setattr(captioner.rng, "choices", lambda *_, **__: [kind])
    monkeypatch.setattr(captioner.rng, "choice", lambda prompts: prompts[0])
    with torch.no_grad():
        tokens = training.patch_tokens(llava.model.vision_tower, pixels(scenes))[:, 1:]
        mine = captioner.loss(tokens, scenes).item()
        total, count = 0.0, 0
        for one in scenes:
            asked = processor.apply_chat_template(training.conversation(prompt), add_generation_prompt=True)
            picture = world.draw(one)
            start = processor(text=asked, images=picture, return_tensors="pt")["input_ids"].shape[1]
            inputs = processor(text=f"{asked} {say(one)}</s>", images=picture, return_tensors="pt")
            labels = inputs["input_ids"].clone()
            labels[:, :start] = -100
            loss = llava(**inputs, labels=labels).loss.item()
            length = labels.shape[1] - start
            total, count = total + loss * length, count + length
    assert mine == pytest.approx(total / count, rel=1e-4)


def test_blurring_is_bounded_by_its_strength():
    torch.manual_seed(0)
    tokens = torch.randn(64, 16, 8) * torch.arange(1, 9)
    moved = training.blurred(tokens, 0.5) - tokens
    assert torch.equal(training.blurred(tokens, 0.0), tokens)
    share = (moved / tokens.flatten(0, 1).std(0)).std((1, 2))
    assert share.max() < 0.65 and share.min() < 0.1


def test_a_third_of_the_batches_has_one_colour():
    batches = training.training_scenes(5, 32)
    colours = [{thing.colour for one in next(batches) for thing in one.objects} for _ in range(9)]
    assert [len(some) == 1 for some in colours] == [False, False, True] * 3
    assert colours[2] != colours[5]


def test_rate_warms_up_and_decays_to_zero():
    rates = [training._rate(step, 1000, 100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == 1 and rates[1000] == 0
    assert rates[300] == 1 and rates[700] == pytest.approx(0.5)


def test_the_probe_reads_what_is_linear_and_nothing_else():
    torch.manual_seed(0)
    features, classes = torch.randn(600, 20), torch.randint(4, (600,))
    marked = features + 4 * torch.eye(20)[classes]
    assert probe(marked[:400], classes[:400], marked[400:], classes[400:]) > 0.95
    assert probe(features[:400], classes[:400], features[400:], classes[400:]) < 0.45


@pytest.fixture(scope="module")
def dropout(clip):
    return training.FactDropout(clip.vision_model, seed=5, amount=600)


def pooled_means(tokens, scenes, fact):
    words = [getattr(one.objects[0], fact) for one in scenes]
    means = tokens.mean(1)
    return torch.stack([means[[w == word for w in words]].mean(0) for word in sorted(set(words))])


@pytest.mark.parametrize("fact", ["kind", "colour", "fill"])
def test_fact_dropout_removes_what_tells_the_words_of_a_fact_apart(clip, dropout, fact, monkeypatch):
    """On the pictures that gave the axes, the mean tokens of a fact's words become one and the same."""
    seen = [one for one in world.scenes(600, 5) if len(one.objects) == 1]
    with torch.no_grad():
        tokens = training.patch_tokens(clip.vision_model, pixels(seen))[:, 1:]
    monkeypatch.setattr(dropout, "shares", {fact: 1.0})
    monkeypatch.setattr(dropout, "rest", 0.0)
    monkeypatch.setattr(dropout, "strengths", (1.0, 1.0))
    shown, unsaid = dropout(tokens)
    lost = [bool(facts) for facts in unsaid]
    assert 0.3 < sum(lost) / len(lost) < 0.7 and all(facts in (set(), {fact}) for facts in unsaid)
    before = pooled_means(tokens, seen, fact)
    assert (before - before.mean(0)).norm() > 1e-2
    axes = dropout.axes[fact]
    assert torch.allclose(axes @ axes.T, torch.eye(len(axes)), atol=1e-5)
    gone = (shown[lost] - dropout.mean) @ axes.T
    assert gone.abs().max() < 1e-4 * tokens.abs().max()
    kept = torch.tensor(lost).logical_not()
    assert torch.allclose(shown[kept], tokens[kept], atol=1e-5)


def test_captions_leave_out_what_they_are_told_to(scenes):
    for one in scenes:
        for unsaid in ({"fill"}, {"colour", "fill"}, {"kind"}, {"kind", "colour", "fill"}):
            stated = world.parse(one.caption(unsaid))
            assert stated is not None and stated.background == one.background
            labels = one.labels()
            assert stated.colours == ([] if "colour" in unsaid else labels.colours)
            assert stated.kinds == ([] if "kind" in unsaid else labels.kinds)
