"""The hook inside a model: token for token what a hook written by hand does."""

import pytest
import torch

from engine.errors import UserError
from engine.models.vlm import load_vlm
from engine.steer.generate import answer
from engine.steer.interventions import Intervention, attached
from tests.support.tiny_llava import LATENTS, LAYERS, picture, random_sae, save_llava


def prompted(vlm, image, prompt="what is it"):
    text = f"USER: <image>\n{prompt} ASSISTANT:"
    return vlm.processor(images=image, text=text, return_tensors="pt")


def by_hand(vlm, sae, image, *, layer, latents, keep_error=False, patches_only=True, prompt="what is it", n=12):
    """Greedy token ids with a hook written from the formula, on the module's path spelt out."""

    def hook(module, args, output):
        new = output.clone()
        first = 1 if patches_only else 0
        for t in range(first, output.shape[1]):
            v = output[0, t]
            z = torch.relu((v - sae.b_dec) @ sae.W_enc + sae.b_enc)
            a = z * (z > sae.threshold)
            b = a.clone()
            for k, value in latents:
                b[k] = value
            new[0, t] = b @ sae.W_dec + sae.b_dec
            if keep_error:
                new[0, t] += v - (a @ sae.W_dec + sae.b_dec)
        return new

    handle = vlm.model.model.vision_tower.encoder.layers[layer].register_forward_hook(hook, prepend=True)
    try:
        inputs = prompted(vlm, image, prompt)
        out = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=n)
    finally:
        handle.remove()
    return vlm.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("keep_error", [False, True])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("latents", [(), ((5, 30.0),), ((5, 8.0), (9, -4.0), (11, 0.0))])
def test_clamp_equals_a_hook_written_by_hand(vlm, keep_error, layer, latents):
    sae = random_sae(hook=f"layer:{layer}", seed=layer)
    said = set()
    for seed in range(3):
        expected = by_hand(vlm, sae, picture(seed), layer=layer, latents=latents, keep_error=keep_error)
        with attached(vlm, sae, Intervention(latents=latents, keep_error=keep_error)):
            assert answer(vlm, picture(seed), "what is it", 12) == expected
        said.add(expected)
    assert said != {""}


def test_the_class_token_is_left_alone(vlm):
    """At an early layer the class token reaches the patches later, so changing it would change answers."""
    sae, latents = random_sae(hook="layer:0"), ((5, 60.0),)
    differs = 0
    for seed in range(6):
        patches = by_hand(vlm, sae, picture(seed), layer=0, latents=latents)
        everything = by_hand(vlm, sae, picture(seed), layer=0, latents=latents, patches_only=False)
        differs += patches != everything
        with attached(vlm, sae, Intervention(latents=latents)):
            assert answer(vlm, picture(seed), "what is it", 12) == patches
    assert differs


def test_a_large_clamp_changes_the_answer_after_earlier_forward_passes(vlm, sae):
    """After its first forward pass transformers reads hidden states through hooks of its own on the same blocks."""
    untouched = answer(vlm, picture(), "what is it", 12)
    assert answer(vlm, picture(), "what is it", 12) == untouched
    with attached(vlm, sae, Intervention(latents=((5, 100.0),))):
        steered = answer(vlm, picture(), "what is it", 12)
    assert steered != untouched
    assert steered == by_hand(vlm, sae, picture(), layer=2, latents=((5, 100.0),))
    assert answer(vlm, picture(), "what is it", 12) == untouched


def test_attached_before_the_first_forward_pass(llava_folder, sae):
    fresh = load_vlm(str(llava_folder), "cpu")
    with attached(fresh, sae, Intervention(latents=((5, 100.0),))):
        steered = answer(fresh, picture(), "what is it", 12)
    assert steered == by_hand(fresh, sae, picture(), layer=2, latents=((5, 100.0),))


def features(vlm, image):
    """What the projector receives, as LLaVA itself selects it."""
    seen = []
    projector = vlm.model.model.multi_modal_projector
    handle = projector.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    answer(vlm, image, "what", 1)
    handle.remove()
    return seen[0]


def test_the_attached_control_shows_the_reconstruction_to_the_language_model(vlm, sae):
    plain = features(vlm, picture())
    with attached(vlm, sae, Intervention()):
        through = features(vlm, picture())
    torch.testing.assert_close(through, sae(plain), atol=1e-6, rtol=1e-6)
    with attached(vlm, sae, Intervention(keep_error=True)):
        assert torch.equal(features(vlm, picture()), plain)


def test_chosen_tokens_alone_are_changed(vlm, sae):
    plain = features(vlm, picture())
    with attached(vlm, sae, Intervention(latents=((5, 30.0),), tokens=(0, 7))):
        changed = features(vlm, picture())
    rows = (changed != plain).any(-1)[0].nonzero().flatten().tolist()
    assert rows == [0, 7]


def test_the_output_of_an_mlp(vlm):
    sae = random_sae(hook="mlp:1")
    mlp = vlm.model.model.vision_tower.encoder.layers[1].mlp
    seen = []
    with attached(vlm, sae, Intervention(latents=((5, 30.0),))):
        after = mlp.register_forward_hook(lambda module, args, output: seen.append(output))
        before = mlp.register_forward_hook(lambda module, args, output: seen.append(output), prepend=True)
        steered = answer(vlm, picture(), "what is it", 12)
        before.remove()
        after.remove()
    plain, changed = seen
    assert torch.equal(changed[:, 0], plain[:, 0])
    expected = Intervention(latents=((5, 30.0),)).apply(sae, plain[0, 1:])
    assert torch.equal(changed[0, 1:], expected)
    assert steered != answer(vlm, picture(), "what is it", 12)


def hook_counts(vlm):
    return [len(module._forward_hooks) for module in vlm.model.modules()]


def test_hooks_are_gone_after_the_block_even_when_it_fails(vlm, sae):
    answer(vlm, picture(), "what", 1)
    before = hook_counts(vlm)
    with pytest.raises(KeyboardInterrupt), attached(vlm, sae, Intervention()):
        assert hook_counts(vlm) != before
        raise KeyboardInterrupt
    assert hook_counts(vlm) == before


def test_an_image_each(vlm, sae):
    """One forward pass, another intervention for every row; None leaves its row as it is."""
    images = [picture(seed) for seed in range(4)]
    each = [
        None,
        Intervention(),
        Intervention(latents=((5, 30.0),)),
        Intervention(latents=((6, -9.0),), keep_error=True),
    ]
    pixels = vlm.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    tower = vlm.model.model.vision_tower
    with torch.no_grad():
        plain = tower(pixels, output_hidden_states=True).hidden_states[-2]
        with attached(vlm, sae, each):
            changed = tower(pixels, output_hidden_states=True).hidden_states[-2]
    for row, one in enumerate(each):
        expected = plain[row].clone()
        if one is not None:
            expected[1:] = one.apply(sae, plain[row, 1:])
        torch.testing.assert_close(changed[row], expected, atol=1e-6, rtol=1e-6)


def test_more_interventions_than_images(vlm, sae):
    with (
        pytest.raises(UserError, match="interventions are 2 for 1 row"),
        attached(vlm, sae, [Intervention(), Intervention(mode="add")]),
    ):
        answer(vlm, picture(), "what", 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_models(llava_folder, sae, dtype):
    vlm = load_vlm(str(llava_folder), "cpu", dtype)
    assert vlm.model.dtype == getattr(torch, dtype)
    plain = features(vlm, picture())
    intervention = Intervention(latents=((5, 30.0),))
    with attached(vlm, sae, intervention):
        changed = features(vlm, picture())
        steered = answer(vlm, picture(), "what is it", 12)
    assert changed.dtype == plain.dtype
    assert torch.equal(changed[0], intervention.apply(sae, plain[0]))
    assert steered != answer(vlm, picture(), "what is it", 12)


@pytest.mark.parametrize(
    ("sae", "intervention", "says"),
    [
        (random_sae(hook="layer:3"), Intervention(), "after layer:2, so that steering would do nothing"),
        (random_sae(hook=f"layer:{LAYERS}"), Intervention(), f"has {LAYERS} blocks"),
        (random_sae(hook="last"), Intervention(), "last cannot steer"),
        (random_sae(hook=""), Intervention(), "does not say where it reads"),
        (random_sae(d=24), Intervention(), "width 24, the vision tower of .* is 32 wide"),
        (
            random_sae(),
            Intervention(latents=((LATENTS, 1.0),)),
            f"no latent {LATENTS}: this SAE has latents 0 to {LATENTS - 1}",
        ),
        (random_sae(), Intervention(latents=((-1, 1.0),)), "no latent -1"),
        (random_sae(), Intervention(tokens=(16,)), "no patch token 16: give indices from 0 to 15"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(vlm, sae, intervention, says):
    before = hook_counts(vlm)
    with pytest.raises(UserError, match=says), attached(vlm, sae, intervention):
        pytest.fail("attached in spite of it")
    assert hook_counts(vlm) == before


@pytest.mark.parametrize(("chosen", "seen"), [(-1, 3), (-2, 2), (2, 1), ([1, 3], 2)])
def test_the_layer_that_the_language_model_sees(tmp_path, chosen, seen):
    """Hidden state i is the output of block i - 1, and negative indices count from the last block."""
    vlm = load_vlm(str(save_llava(tmp_path / "llava", vision_feature_layer=chosen)), "cpu")
    assert vlm.seen == seen
    untouched = features(vlm, picture())
    with attached(vlm, random_sae(hook=f"layer:{seen}"), Intervention(latents=((5, 30.0),))):
        assert not torch.equal(features(vlm, picture()), untouched)
    if seen + 1 < LAYERS:  # and nothing after that layer reaches it
        handle = vlm.blocks[seen + 1].register_forward_hook(lambda module, args, output: output * 0, prepend=True)
        assert torch.equal(features(vlm, picture()), untouched)
        handle.remove()
