import pytest
import torch

from engine.errors import Stopped, UserError
from engine.models.vlm import load_vlm
from engine.steer.generate import TextStream, answer, answers, next_token_kl, next_token_logits
from engine.steer.interventions import Intervention, attached
from tests.support.tiny_llava import LATENTS, byte_tokenizer, picture, random_sae, save_llava, word_tokenizer

IMAGES = [picture(seed) for seed in range(7)]


def test_an_answer_is_what_generate_says(vlm):
    for image in IMAGES:
        inputs = vlm.processor(images=image, text="USER: <image>\nwhat is it ASSISTANT:", return_tensors="pt")
        out = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=9)
        text = vlm.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer(vlm, image, "what is it", 9) == text


def test_an_answer_does_not_depend_on_chance(llava_folder, vlm):
    """Sampling settings that come with a model are overruled."""
    daring = load_vlm(str(llava_folder), "cpu")
    daring.model.generation_config.update(do_sample=True, temperature=9.0, top_p=0.5)
    said = {answer(daring, IMAGES[0], "what is it", 12) for _ in range(4)}
    assert said == {answer(vlm, IMAGES[0], "what is it", 12)}


@pytest.mark.parametrize("tokenizer", [word_tokenizer, byte_tokenizer])
def test_pieces_together_are_the_answer(tmp_path, tokenizer):
    vlm = load_vlm(str(save_llava(tmp_path / "llava", tokenizer=tokenizer(), seed=4)), "cpu")
    counts = []
    for image in IMAGES:
        pieces = []
        said = answer(vlm, image, "what", 24, pieces.append)
        assert said == "".join(pieces) == answer(vlm, image, "what", 24)
        assert "" not in pieces
        counts.append(len(pieces))
    assert max(counts) > 3


def streamed(tokenizer, ids):
    pieces = []
    stream = TextStream(tokenizer, pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for token in ids:
        stream.put(torch.tensor([token]))
    stream.end()
    return pieces


def test_characters_of_several_tokens_are_held_back_until_complete():
    tokenizer = byte_tokenizer()
    text = "naïve 🙂日本 ok"
    pieces = streamed(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    assert pieces == list(text)


def test_bytes_that_never_become_a_character_still_come_out():
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("a🙂b", add_special_tokens=False)
    broken = [*ids[:3], *ids[5:]]
    pieces = streamed(tokenizer, broken)
    assert "".join(pieces) == tokenizer.decode(broken) != ""
    cut = ids[:3]
    assert "".join(streamed(tokenizer, cut)) == tokenizer.decode(cut)


def test_a_tokenizer_that_takes_spaces_back():
    tokenizer = word_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer.convert_tokens_to_ids(["a", "fish", ".", "it", "is", "red", "."])
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) == "a fish. it is red."
    assert len(pieces) > 3


def test_special_tokens_are_not_shown():
    tokenizer = word_tokenizer()
    assert (
        "".join(streamed(tokenizer, [*tokenizer.convert_tokens_to_ids(["a", "fish"]), tokenizer.eos_token_id]))
        == "a fish"
    )


def test_what_the_listener_raises_ends_the_generation(vlm, sae):
    heard = []

    def listener(text):
        heard.append(text)
        if len(heard) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError), attached(vlm, sae, Intervention()):
        answer(vlm, IMAGES[0], "what is it", 20, listener)
    assert len(heard) == 2


EACH = [
    None,
    Intervention(),
    Intervention(latents=((5, 30.0),)),
    Intervention(latents=((6, -9.0), (7, 4.0)), keep_error=True),
    Intervention(latents=((5, 3.0),), mode="scale", tokens=(0, 1, 2)),
    None,
    Intervention(latents=((9, 0.0),), mode="ablate"),
]


def one_by_one(vlm, sae, prompts, each, n=12):
    said = []
    for image, prompt, one in zip(IMAGES, prompts, each, strict=True):
        if one is None:
            said.append(answer(vlm, image, prompt, n))
        else:
            with attached(vlm, sae, one):
                said.append(answer(vlm, image, prompt, n))
    return said


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_say_the_same_as_single_answers(vlm, sae, batch_size):
    expected = one_by_one(vlm, sae, ["what is it"] * 7, EACH)
    said = answers(vlm, IMAGES, "what is it", 12, sae=sae, interventions=EACH, batch_size=batch_size)
    assert said == expected
    assert len(set(said)) > 2


def test_batches_of_prompts_of_different_lengths(vlm, sae):
    prompts = ["what", "describe this image .", "is it a fish on a tree", "what", "a", "the red car", "what is it"]
    expected = one_by_one(vlm, sae, prompts, EACH)
    assert answers(vlm, IMAGES, prompts, 12, sae=sae, interventions=EACH) == expected


def test_one_intervention_for_all(vlm, sae):
    steered = Intervention(latents=((5, 30.0),))
    expected = one_by_one(vlm, sae, ["what"] * 7, [steered] * 7)
    assert answers(vlm, IMAGES, "what", 12, sae=sae, interventions=steered) == expected
    with attached(vlm, sae, steered):
        assert answers(vlm, IMAGES, "what", 12, batch_size=4) == expected


def test_answers_that_end_early_in_a_batch(tmp_path):
    """Here some rows end before others, and no padding token is declared."""
    vlm = load_vlm(str(save_llava(tmp_path / "llava", seed=7)), "cpu")
    vlm.model.generation_config.pad_token_id = None
    counts = torch.stack([next_token_logits(vlm, image, "what")[0] for image in IMAGES]).argmax(-1)
    vlm.model.generation_config.eos_token_id = [2, int(counts[0])]
    single = [answer(vlm, image, "what", 12) for image in IMAGES]
    assert answers(vlm, IMAGES, "what", 12) == single
    assert len({len(text.split()) for text in single}) > 1


def test_no_images(vlm):
    assert answers(vlm, [], "what") == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"prompt": ["what"]}, "prompts are 1 for 7 images"),
        ({"interventions": [Intervention()]}, "interventions are 1 for 7 images"),
        ({"sae": None, "interventions": Intervention()}, "need the SAE"),
        ({"max_new_tokens": 0}, "--max-new-tokens 1 or more"),
        ({"prompt": "what <image>"}, "prompt contains <image>"),
    ],
)
def test_answers_refuses(vlm, sae, more, says):
    with pytest.raises(UserError, match=says):
        answers(vlm, IMAGES, **{"prompt": "what", "sae": sae, **more})


def kl_by_hand(vlm, sae, image, prompt, intervention):
    inputs = vlm.processor(images=image, text=f"USER: <image>\n{prompt} ASSISTANT:", return_tensors="pt")
    with torch.no_grad():
        p = vlm.model(**inputs).logits[0, -1].double().softmax(-1)
        with attached(vlm, sae, intervention):
            q = vlm.model(**inputs).logits[0, -1].double().softmax(-1)
    return sum(float(a) * (float(a.log()) - float(b.log())) for a, b in zip(p, q, strict=True))


def test_next_token_kl(vlm, sae):
    dose = [Intervention(latents=((5, value),)) for value in (0.0, 2.0, 50.0)]
    each = [*dose, Intervention(), Intervention(keep_error=True)]
    damage = next_token_kl(vlm, IMAGES[1], "what is it", sae, each)
    expected = [kl_by_hand(vlm, sae, IMAGES[1], "what is it", one) for one in each]
    assert damage.tolist() == pytest.approx(expected, abs=1e-6)
    assert float(damage[-1]) == pytest.approx(0, abs=1e-12)
    assert damage[2] > 0.01


def test_next_token_kl_of_nothing(vlm, sae):
    assert next_token_kl(vlm, IMAGES[0], "what", sae, []).shape == (0,)


def test_next_token_logits_are_the_models_own(vlm):
    inputs = vlm.processor(images=IMAGES[0], text="USER: <image>\nwhat ASSISTANT:", return_tensors="pt")
    with torch.no_grad():
        expected = vlm.model(**inputs).logits[:, -1]
    torch.testing.assert_close(next_token_logits(vlm, IMAGES[0], "what"), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", ["relu", "topk", "batchtopk", "matryoshka-batchtopk", "jumprelu"])
def test_every_architecture_of_sae_steers(vlm, arch):
    untouched = answer(vlm, IMAGES[0], "what is it", 12)
    with attached(vlm, random_sae(arch=arch), Intervention(latents=((LATENTS - 1, 80.0),))):
        assert answer(vlm, IMAGES[0], "what is it", 12) != untouched


def test_a_batch_stops_between_tokens(vlm):
    checks = []

    def check():
        checks.append(1)
        if len(checks) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        answers(vlm, IMAGES[:3], "what is it", 12, check=check)
    assert len(checks) == 3
