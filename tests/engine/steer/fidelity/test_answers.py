"""The next tokens of a vision-language model with an SAE attached, against one plain forward pass over its answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import FidelitySettings
from engine.errors import UserError
from engine.steer.fidelity.results import Fidelity
from engine.steer.fidelity.stage import fidelity, read_fidelity
from engine.steer.generate import forced, spoken
from engine.steer.interventions import Intervention
from engine.workspace import Workspace
from tests.support.tiny_llava import exact_sae, picture, random_sae
from tests.support.vlms import save_vlm

N, PROMPT = 5, "what is it"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, llava_folder: Path) -> Path:
    root: Path = tmp_path_factory.mktemp("answers")
    for number in range(N):
        (root / f"images/kind{number % 2}").mkdir(parents=True, exist_ok=True)
        picture(number).save(root / f"images/kind{number % 2}/{number}.png")
    (root / "images/kind1/broken.png").write_bytes(b"no picture")
    saes = {"some": random_sae(), "exact": exact_sae(), "late": exact_sae("layer:3")}
    for name, sae in saes.items():
        sae.config = sae.config.__class__(**{**vars(sae.config), "model": str(llava_folder), "tokens": "patches"})
        sae.save(root / "work/saes" / name)
    return root


def ask(place: Path, llava_folder: Path, *sae: str, **more: Any) -> FidelitySettings:
    given: dict[str, Any] = {"images": str(place / "images"), "vlm": str(llava_folder), "prompt": PROMPT}
    return FidelitySettings(sae=sae, **{**given, "device": "cpu", "workers": 1, "max_new_tokens": 7, **more})


@pytest.fixture(scope="module")
def found(place: Path, llava_folder: Path) -> dict[str, Fidelity]:
    names = ("some", "exact", "late")
    measured = fidelity(ask(place, llava_folder, *names), Workspace(place / "work")).saes
    return dict(zip(names, measured, strict=True))


def naive(vlm: Any, place: Path) -> dict[str, list[list[float]]]:
    """KL and sameness of the likeliest token, image by image, from whole sequences through the model at once."""
    sae = random_sae()
    images = [Image.open(path).convert("RGB") for path in sorted((place / "images").rglob("[0-9].png"))]
    block = vlm.blocks[2]

    def logits(inputs: Any, said: torch.Tensor, change: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen = []

        def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            seen.append(output[0, 1:].clone())
            out = output.clone()
            out[0, 1:] = torch.stack([change(token) for token in out[0, 1:]])
            return out

        ids = torch.cat([inputs["input_ids"], said[None]], 1)
        handle = block.register_forward_hook(hook, prepend=True)
        with torch.no_grad():
            out = vlm.model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=inputs["pixel_values"])
        handle.remove()
        return out.logits[0, -len(said) - 1 : -1].double(), seen[0]

    asked = [vlm.inputs([image], [PROMPT]) for image in images]
    said = [
        vlm.model.generate(**one, do_sample=False, max_new_tokens=7)[0, one["input_ids"].shape[1] :] for one in asked
    ]
    before = [logits(one, ids, lambda token: token) for one, ids in zip(asked, said, strict=True)]
    mean = torch.cat([patches for _, patches in before]).mean(0)
    result: dict[str, list[list[float]]] = {}
    for name, change in {"spliced": lambda token: sae(token), "ablated": lambda _: mean}.items():
        result[name] = []
        for one, ids, (p_logits, _) in zip(asked, said, before, strict=True):
            q_logits, _ = logits(one, ids, change)
            kls, same = [], []
            for p, q in zip(p_logits.softmax(-1), q_logits.softmax(-1), strict=True):
                kls.append(sum(float(a * torch.log(a / b)) for a, b in zip(p, q, strict=True)))
                same.append(float(p.argmax() == q.argmax()))
            result[name].append([float(np.mean(kls)), float(np.mean(same)), len(kls)])
    return result


def test_it_is_what_whole_sequences_give(found, place, vlm):
    expected, part = naive(vlm, place), found["some"].answers
    for condition, rows in expected.items():
        assert getattr(part.kl, condition).mean == pytest.approx(np.mean([row[0] for row in rows]), rel=1e-3)
        assert getattr(part.same_token, condition).mean == pytest.approx(np.mean([row[1] for row in rows]))
    assert part.tokens == sum(row[2] for row in expected["spliced"]) and part.images == part.kl.spliced.n == N
    assert part.kl.untouched.mean == 0 and part.same_token.untouched.mean == 1
    share = 1 - part.kl.spliced.mean / part.kl.ablated.mean
    assert part.kl.recovered.mean is None or part.kl.recovered.mean == pytest.approx(share)
    assert 0 < part.kl.spliced.mean != part.kl.ablated.mean > 0


def test_who_gives_all_back_changes_no_token(found):
    part = found["exact"].answers
    assert part.kl.spliced.mean == pytest.approx(0, abs=1e-6) and part.same_token.spliced.mean == 1
    assert part.kl.ablated == found["some"].answers.kl.ablated, "the control depends on no SAE"


@pytest.mark.parametrize("family", ["LLaVA-NeXT", "Qwen2.5-VL", "BLIP-2"])
def test_with_its_error_kept_an_sae_changes_nothing(family, tmp_path):
    """In a batch and one at a time, forced tokens have the logits that they had when they were said."""
    from engine.models.vlm import load_vlm

    vlm = load_vlm(str(save_vlm(family, tmp_path / "vlm")), "cpu")
    images = [picture(number) for number in range(1 if vlm.alone else 3)]
    said = spoken(vlm, images, PROMPT, 6)
    kept = forced(vlm, said, random_sae(hook="layer:0"), Intervention(keep_error=True))
    assert [len(one) for one in kept] == list(map(len, said.ids))
    for before, after, ids in zip(said.logits, kept, said.ids, strict=True):
        torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)
        assert before.argmax(-1).tolist() == ids


def test_what_the_model_does_not_read_is_left_out_with_a_sentence(found, place, llava_folder):
    late = found["late"]
    assert late.answers is None and late.notes[-1].startswith("Answers are left out: The SAE reads layer:3")
    assert late.encoder is not None and "no text tower" in late.notes[0]
    with pytest.raises(UserError, match=r"has no config\.json"):
        fidelity(ask(place, llava_folder, "some", vlm=str(place / "images"), name="x"), Workspace(place / "work"))


def test_the_file_says_it_and_other_questions_are_others(found, place, llava_folder):
    one, workspace = found["some"], Workspace(place / "work")
    assert read_fidelity(Path(one.path)) == one
    assert [source.kind for source in one.provenance.made_from] == ["sae", "model", "images", "model"]
    (again,) = fidelity(ask(place, llava_folder, "some"), workspace).saes
    assert not again.made
    for other in ({"vlm": ""}, {"prompt": "describe this"}, {"asked": 2}):
        with pytest.raises(UserError, match="--replace it"):
            fidelity(ask(place, llava_folder, "some", **other), workspace)
    (few,) = fidelity(ask(place, llava_folder, "some", name="few", asked=2), workspace).saes
    assert few.answers.images == 2
