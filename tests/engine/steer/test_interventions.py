"""Each intervention against a loop over tokens, written from the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.steer.interventions import Intervention, LatentValue, parse_latent, parse_latents, parse_tokens, resolve
from tests.support.tiny_llava import LATENTS, WIDTH, random_sae

MODES = ["clamp", "add", "scale", "ablate"]


def by_hand(sae, patches, latents, mode, keep_error, tokens):
    """v' = decode(a') or v + decode(a') - decode(a), one token and one latent at a time."""
    out = []
    for index, v in enumerate(patches):
        if tokens is not None and index not in tokens:
            out.append(v)
            continue
        z = torch.relu((v - sae.b_dec) @ sae.W_enc + sae.b_enc)
        a = torch.stack(
            [z_j if z_j > theta else torch.tensor(0.0) for z_j, theta in zip(z, sae.threshold, strict=True)]
        )
        changed = a.clone()
        for k, value in latents:
            changed[k] = {"clamp": value, "add": a[k] + value, "scale": a[k] * value, "ablate": 0.0}[mode]
        decoded = changed @ sae.W_dec + sae.b_dec
        out.append(v + decoded - (a @ sae.W_dec + sae.b_dec) if keep_error else decoded)
    return torch.stack(out)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    mode=st.sampled_from(MODES),
    keep_error=st.booleans(),
    values=st.dictionaries(st.integers(0, LATENTS - 1), st.floats(-50, 50), max_size=4),
    tokens=st.none() | st.sets(st.integers(0, 8), min_size=1),
)
def test_equals_a_loop_over_tokens(seed, mode, keep_error, values, tokens):
    sae = random_sae(seed=seed)
    patches = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(seed))
    latents = tuple(values.items())
    chosen = None if tokens is None else tuple(sorted(tokens))
    intervention = Intervention(latents=latents, mode=mode, keep_error=keep_error, tokens=chosen)
    expected = by_hand(sae, patches, latents, mode, keep_error, tokens)
    torch.testing.assert_close(intervention.apply(sae, patches), expected, atol=2e-5, rtol=1e-5)


def test_control_is_the_reconstruction(sae):
    patches = torch.randn(5, WIDTH)
    control = Intervention(latents=((3, 9.0),), mode="add").control()
    assert control == Intervention()
    part = Intervention(latents=((3, 9.0),), keep_error=True, tokens=(1,))
    assert part.control() == Intervention(keep_error=True, tokens=(1,)), "but for the latents the same is done"
    torch.testing.assert_close(control.apply(sae, patches), sae(patches), atol=0, rtol=0)


def test_control_that_keeps_the_error_changes_no_bit(sae):
    patches = torch.randn(5, WIDTH)
    assert torch.equal(Intervention(keep_error=True).apply(sae, patches), patches)


def test_the_input_is_left_alone(sae):
    patches = torch.randn(5, WIDTH)
    before = patches.clone()
    Intervention(latents=((0, 5.0),), tokens=(1,)).apply(sae, patches)
    assert torch.equal(patches, before)


def test_half_precision_goes_through_a_float32_sae(sae):
    patches = torch.randn(5, WIDTH).bfloat16()
    intervention = Intervention(latents=((0, 5.0),))
    out = intervention.apply(sae, patches)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, intervention.apply(sae, patches.float()).bfloat16())


def test_a_token_that_does_not_exist(sae):
    with pytest.raises(UserError, match="no patch token 5: give indices from 0 to 4"):
        Intervention(tokens=(5,)).apply(sae, torch.randn(5, WIDTH))


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("1203=30", "clamp", LatentValue(1203, 30.0, False)),
        ("7=-5.5", "add", LatentValue(7, -5.5, False)),
        ("7=1e2", "clamp", LatentValue(7, 100.0, False)),
        ("7=2x", "clamp", LatentValue(7, 2.0, True)),
        (" 7=-.5x ", "add", LatentValue(7, -0.5, True)),
        ("7=0.5", "scale", LatentValue(7, 0.5, False)),
        ("7", "ablate", LatentValue(7, 0.0, False)),
        ("7=0", "ablate", LatentValue(7, 0.0, False)),
    ],
)
def test_parse_latent(text, mode, expected):
    assert parse_latent(text, mode) == expected


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("pencil=3", "clamp", "'pencil=3' is not LATENT=VALUE"),
        ("-3=3", "clamp", "is not LATENT=VALUE"),
        ("3=", "clamp", "is not LATENT=VALUE"),
        ("3=x", "clamp", "is not LATENT=VALUE"),
        ("3=nan", "clamp", "is not LATENT=VALUE"),
        ("3=inf", "clamp", "is not LATENT=VALUE"),
        ("3=4=5", "clamp", "is not LATENT=VALUE"),
        ("", "clamp", "is not LATENT=VALUE"),
        ("9" * 5000 + "=1", "clamp", "is not LATENT=VALUE"),
        ("3", "clamp", "lacks a value: write 3=30"),
        ("3=2x", "scale", "a plain factor: 3=2"),
        ("3=5", "ablate", "leave it out"),
    ],
)
def test_parse_latent_refuses(text, mode, says):
    with pytest.raises(UserError, match=says) as error:
        parse_latent(text, mode)
    assert str(error.value).count("\n") == 0


def test_parse_latents_refuses_a_latent_named_twice():
    with pytest.raises(UserError, match="Latent 3 is given twice"):
        parse_latents(["3=1", "4=1", "3=2"], "clamp")


def test_relative_values_are_multiples_of_the_maximum():
    values = parse_latents(["3=2x", "4=7"], "clamp")
    assert resolve(values, {3: 1.5}) == ((3, 3.0), (4, 7.0))


@pytest.mark.parametrize(
    ("text", "expected"), [("all", None), ("0,3,5-7", (0, 3, 5, 6, 7)), ("4", (4,)), ("7,1,1", (1, 7)), ("2-2", (2,))]
)
def test_parse_tokens(text, expected):
    assert parse_tokens(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1,,2", "5-3", "-1", "1-", "all,3", "0-99999999999", "9" * 5000])
def test_parse_tokens_refuses(text):
    with pytest.raises(UserError, match="does not name patch tokens"):
        parse_tokens(text)
