"""The fast losses against the library's own forward passes and against formulas written out."""

import itertools
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from engine.demo import world
from engine.demo.build import models, training
from engine.demo.build.scores import one_patch, probe
from engine.demo.build.training import (
    FACTS,
    Captioner,
    Codebook,
    Painter,
    contrastive_loss,
    patch_words,
    pixels,
    shares,
    shown,
    true_texts,
)
from engine.demo.talk import NOTHING, REQUESTS, plain
from engine.demo.words import COLOURS, FILLS, GROUPS, KINDS


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
    said = [request.say(one.statement()) for one in scenes for request in REQUESTS.values()]
    said += [text for one in scenes for what in (*FACTS, "thing", "full") for text in true_texts(one, what)]
    asked = [question for request in REQUESTS.values() for question in request.questions]
    for text in said + asked + [*KINDS, *COLOURS, *FILLS, *GROUPS]:
        assert models.UNK not in tokenizer(text).input_ids, text
    for text in said:
        assert plain(tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)) == plain(text)


LEAST = {"kind": (0.6, 0.8), "colour": (0.3, 0.4), "fill": (0.45, 0.6)}


def test_a_patch_is_asked_for_what_is_under_it(scenes):
    number = shown(scenes)
    for row, one in enumerate(scenes):
        covers = world.covers(one, 8)
        for fact, (share, thin) in LEAST.items():
            enough = [min(share, thin * max(cover)) for cover in covers]
            right = [
                next((i for i, cover in enumerate(covers) if cover[place] >= enough[i]), -1) for place in range(64)
            ]
            assert number[fact][row].tolist() == right
            assert set(right) >= set(range(len(covers))), "each object has a patch"
        assert torch.equal(number["background"][row], number["colour"][row])
    for more, less in (("colour", "fill"), ("fill", "kind")):
        assert ((number[less] < 0) & (number[more] >= 0)).any(), f"a rim has a {more} before it has a {less}"
    for fact, words in FACTS.items():
        wanted = patch_words(scenes, number[fact], fact)
        for one, numbers, row in zip(scenes, number[fact].tolist(), wanted.tolist(), strict=True):
            for shows, index in zip(numbers, row, strict=True):
                if fact == "background":
                    right = one.background if shows < 0 else None
                else:
                    right = getattr(one.objects[shows], fact) if shows >= 0 else None
                assert (words[index] if index >= 0 else None) == right


def test_a_whole_picture_is_asked_for_all_it_shows(scenes):
    for fact, words in FACTS.items():
        for one, row in zip(scenes, shares(scenes, fact).tolist(), strict=True):
            objects = [getattr(thing, fact, None) for thing in one.objects]
            said = [one.background] if fact == "background" else objects or [NOTHING]
            assert row == [said.count(word) / len(said) for word in words]


def test_directions_of_words_are_orthonormal_and_follow_their_seed():
    book = Codebook(3)
    words = sum(len(set(words) - {NOTHING}) for words in FACTS.values())
    assert book.directions.shape == (words, models.WIDTH)
    assert torch.allclose(book.directions @ book.directions.T, torch.eye(words), atol=1e-5)
    assert torch.equal(torch.cat([book.of(fact) for fact in FACTS]), book.directions)
    assert (book.directions @ book.across).abs().max() < 1e-5 and book.across.norm() == pytest.approx(1, abs=1e-5)
    assert torch.equal(book.directions, Codebook(3).directions) and not torch.equal(
        book.directions, Codebook(4).directions
    )


def right_tokens(book, scenes):
    """The sum of the directions of the words that are true of each patch."""
    tokens = torch.zeros(len(scenes), models.PATCHES, models.WIDTH)
    for fact in FACTS:
        for row, words in zip(tokens, patch_words(scenes, shown(scenes)[fact], fact).tolist(), strict=True):
            for place, word in enumerate(words):
                if word >= 0:
                    row[place] += book.strength * book.of(fact)[word]
    return tokens


def test_the_loss_of_the_words_is_its_formula(scenes):
    book, few = Codebook(3), scenes[:4]
    tokens = right_tokens(book, few)
    noisy = tokens + torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for fact in ("kind", "background"):
        at, wanted = book.of(fact).double(), patch_words(few, shown(few)[fact], fact)
        for row, words in zip(noisy.double(), wanted.tolist(), strict=True):
            for token, word in zip(row, words, strict=True):
                place = [float(token @ one) / book.strength for one in at]
                logits = torch.tensor([book.gain * p for p in place] + [book.gain / 2], dtype=torch.float64)
                total -= float(logits.log_softmax(0)[word if word >= 0 else len(place)])
                total += sum((p - (i == word)) ** 2 for i, p in enumerate(place))
    spanned = noisy @ book.directions.T @ book.directions
    for row in ((noisy - spanned) / book.strength).double():
        for number, token in enumerate(row):
            place, column = float(token @ book.across.double()), number % 8
            total += (place - 0.2 * (2 * column / 7 - 1)) ** 2
            total += book.rest * (float(token.square().sum()) - place**2)
    assert book.loss(noisy, few, ["kind", "background"]).item() == pytest.approx(total / (4 * models.PATCHES), rel=1e-4)
    assert book.loss(tokens, few, list(FACTS)) < 0.5 < book.loss(noisy, few, list(FACTS))


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
        texts = sorted({text for one in scenes for text in true_texts(one, what)})
        vectors = {text: training.text_embedding(clip, tokenizer, [text])[0] for text in texts}
        scale = clip.logit_scale.exp()
        table = {(i, t): (scale * images[i] @ vectors[t]).item() for i, t in itertools.product(range(24), texts)}
    by_image = by_text = 0.0
    for i, one in enumerate(scenes):
        true = set(true_texts(one, what))
        total = sum(torch.tensor(table[i, t], dtype=torch.float64).exp().item() for t in texts)
        by_image -= sum(torch.log(torch.tensor(table[i, t]).double().exp() / total).item() for t in true) / len(true)
    for t in texts:
        true = [i for i, one in enumerate(scenes) if t in true_texts(one, what)]
        total = sum(torch.tensor(table[i, t], dtype=torch.float64).exp().item() for i in range(24))
        by_text -= sum(torch.log(torch.tensor(table[i, t]).double().exp() / total).item() for i in true) / len(true)
    assert loss == pytest.approx((by_image / 24 + by_text / len(texts)) / 2, rel=1e-4)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_loss_of_answers_is_that_of_the_whole_llava(llava, scenes, name, monkeypatch):
    """Processor, chat template, vision tower, projector and language model in one ordinary forward pass."""
    captioner, processor, scenes = Captioner(llava, seed=0), models.llava_processor(), scenes[:6]
    request = REQUESTS[name]
    prompt = request.questions[0]
    monkeypatch.setattr(captioner.rng, "choices", lambda *_, **__: [name])
    monkeypatch.setattr(captioner.rng, "choice", lambda prompts: prompts[0])
    with torch.no_grad():
        tokens = training.patch_tokens(llava.model.vision_tower, pixels(scenes))[:, 1:]
        mine = captioner.loss(tokens, [one.statement() for one in scenes]).item()
        total, count = 0.0, 0
        for one in scenes:
            asked = processor.apply_chat_template(training.conversation(prompt), add_generation_prompt=True)
            picture = world.draw(one)
            start = processor(text=asked, images=picture, return_tensors="pt")["input_ids"].shape[1]
            inputs = processor(text=f"{asked} {request.say(one.statement())}</s>", images=picture, return_tensors="pt")
            labels = inputs["input_ids"].clone()
            labels[:, :start] = -100
            loss = llava(**inputs, labels=labels).loss.item()
            length = labels.shape[1] - start
            total, count = total + loss * length, count + length
    assert mine == pytest.approx(total / count, rel=1e-4)


def test_blurring_is_bounded_by_its_strength():
    """Noise of each token, and noise that all tokens of a picture share, each of a share that differs by picture."""
    torch.manual_seed(0)
    tokens = torch.randn(64, 400, 8) * torch.arange(1, 9)
    assert torch.equal(training.blurred(tokens, 0.0), tokens)
    moved = (training.blurred(tokens, 0.5) - tokens) / tokens.flatten(0, 1).std(0)
    common = moved.mean(1)
    own = (moved - common[:, None]).std((1, 2))
    assert 0.4 < own.max() < 0.51 and own.min() < 0.05
    assert 0.4 < common.std(1).max() < 0.9 and common.std(1).min() < 0.05
    assert common.square().mean().item() == pytest.approx(0.5**2 / 3, rel=0.3)  # of a uniform share


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


def test_the_patch_of_a_fact_shows_the_object_or_the_background(scenes):
    single = [one for one in scenes if len(one.objects) == 1]
    tokens = torch.arange(len(single) * models.PATCHES).view(len(single), models.PATCHES, 1).float()
    number = shown(single)
    for fact in ("kind", "colour", "fill"):
        assert (number[fact].flatten() >= 0)[one_patch(tokens, single, fact).long()].all()
    assert (number["colour"].flatten() < 0)[one_patch(tokens, single, "background").long()].all()


def places(book, tokens, fact):
    """Coordinates along the directions of a fact, in units of a true word."""
    return tokens @ book.of(fact).T / book.strength


def test_what_is_changed_is_what_is_said():
    """What is taken out of a picture's tokens is left out, and what is painted on them is named, at its side."""
    book, scenes = Codebook(3), [world.scene(8, index, two_share=0.2) for index in range(300)]
    tokens = right_tokens(book, scenes)
    after, said = Painter(book, seed=1)(tokens, scenes)
    assert torch.equal(tokens, right_tokens(book, scenes)), "the tokens given stay"
    seen = Counter()
    for change, one, number, statement in zip(after - tokens, scenes, shown(scenes)["colour"], said, strict=True):
        own = one.statement()
        moved = {fact: places(book, change, fact) for fact in FACTS}
        assert moved["background"].abs().max() < 1e-4
        kept, new = list(statement.objects), []
        if len(kept) > len(own.objects):
            painted = torch.stack([(moved[fact] > 0.5).any(1) for fact in FACTS]).any(0)
            new.append(kept.pop(0 if not own.objects or columns(painted)[1] < columns(number >= 0)[0] else -1))
        for fact in ("kind", "colour", "fill"):
            added, gone = (
                {FACTS[fact][i] for i in range(len(book.of(fact))) if (sign * moved[fact][:, i] > 0.5).any()}
                for sign in (1, -1)
            )
            lost = {getattr(a, fact) for a, b in zip(own.objects, kept, strict=True) if getattr(b, fact) is None}
            assert added == {getattr(mention, fact) for mention in new} - {None}
            assert gone == lost
            seen["lost"] += bool(lost)
        seen["painted"] += bool(new)
        seen["beside"] += bool(new and own.objects)
        if statement == own:
            seen["same"] += 1
            assert not change.any()
    assert min(seen[name] for name in ("lost", "painted", "beside", "same")) > 10, seen


def columns(patches):
    """The first and the last column of the patches that are chosen."""
    found = patches.view(8, 8).any(0).nonzero().flatten().tolist()
    return found[0], found[-1]
