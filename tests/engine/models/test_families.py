"""Family by family, from checkpoints that their libraries saved: what extraction keeps is what the library computes,
steering is what a hook written by hand does, one directory serves both, and the table in the README says so."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import transformers as t
from torch import Tensor

from engine.activations.estimate import estimate
from engine.activations.extract import extract
from engine.activations.store import Store
from engine.errors import Refused, UserError
from engine.files import file_sha256, read_json, write_json
from engine.images import open_images
from engine.models import HookPoint, load_encoder
from engine.models.encoder import VisionEncoder
from engine.models.vlm import load_vlm
from engine.steer.generate import answer, answers, next_token_logits
from engine.steer.interventions import Intervention, attached, check
from engine.workspace import Workspace
from tests.support.checkpoints import perturbed, save
from tests.support.extractions import ask
from tests.support.families import ENCODERS, Seen, save_encoder
from tests.support.tiny_llava import picture, random_sae
from tests.support.vlms import SQUARE, VISION, VLMS, save_vlm

README = Path(__file__).parents[3] / "README.md"
LAYER, MLP, LAST = HookPoint("layer", 1), HookPoint("mlp", 1), HookPoint("last")
POLICIES = ("cls", "mean", "patches", "all", "random:3")
SHAPES = ((40, 56), (90, 30), (30, 90), (64, 64), (33, 31))
REFUSED = ("Mllama",)
PATHS = {  # where the library keeps block 1 and its MLP
    "LLaVA": ("model.vision_tower.encoder.layers.1", "mlp"),
    "VipLLaVA": ("model.vision_tower.encoder.layers.1", "mlp"),
    "LLaVA-NeXT": ("model.vision_tower.encoder.layers.1", "mlp"),
    "LLaVA-OneVision": ("model.vision_tower.encoder.layers.1", "mlp"),
    "Pixtral": ("model.vision_tower.transformer.layers.1", "feed_forward"),
    "Mistral 3": ("model.vision_tower.transformer.layers.1", "feed_forward"),
    "PaliGemma": ("model.vision_tower.encoder.layers.1", "mlp"),
    "Gemma 3": ("model.vision_tower.encoder.layers.1", "mlp"),
    "Qwen2-VL": ("model.visual.blocks.1", "mlp"),
    "Qwen2.5-VL": ("model.visual.blocks.1", "mlp"),
    "Qwen3-VL": ("model.visual.blocks.1", "mlp"),
    "Idefics2": ("model.vision_model.encoder.layers.1", "mlp"),
    "Idefics3": ("model.vision_model.encoder.layers.1", "mlp"),
    "InternVL": ("model.vision_tower.encoder.layer.1", "mlp"),
    "Aya Vision": ("model.vision_tower.encoder.layers.1", "mlp"),
    "BLIP-2": ("vision_model.encoder.layers.1", "mlp"),
}
PREFIXED = ("LLaVA", "VipLLaVA", "LLaVA-NeXT", "InternVL", "BLIP-2")  # their towers put CLS before the patches


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a family, saved when it is first asked for."""
    home, made = tmp_path_factory.mktemp("families"), set()

    def folder(family: str) -> Path:
        path = home / family.replace(" ", "-")
        if family not in made:
            save_vlm(family, path) if family in VLMS else save_encoder(family, path)
            made.add(family)
        return path

    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several shapes, so that tiles and native sizes differ from one to the next."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate(SHAPES):
        picture(number).resize(size).save(folder / f"{number}.png")
    return folder


# The table


def row(family: str, folder: Path) -> str:
    """What the README says of a family."""
    try:
        encoder = load_encoder(str(folder))
        encoder.check(LAYER)
    except UserError as error:
        seen = "only `last`" if "only hook point is last" in str(error) else "not yet"
        return f"| {family} | {seen} | | | {_steered(family, folder)} |"
    seen = "in tiles" if _tiles(encoder, folder) else "at its own size" if encoder.alone else "whole"
    if encoder.token_mask(encoder.preprocess([picture(0).resize((90, 30))])) is not None:
        seen = "at its own shape"
    tokens = [kind for kind in ("cls", "mean", "patches", "all") if not _refusal(encoder.check_tokens, kind)]
    last = "" if _refusal(encoder.check, LAST) or _refusal(encoder.width, LAST) else "yes"
    return f"| {family} | {seen} | {', '.join(tokens)} | {last} | {_steered(family, folder)} |"


def _tiles(encoder: VisionEncoder, folder: Path) -> bool:
    """Whether the tower sees an image as several sequences."""
    if not encoder.alone:
        return False
    return any(len(encoder._embedded([picture(0).resize(size)])) > 1 for size in SHAPES)


def _refusal(ask: Callable[[Any], object], of: Any) -> str:
    try:
        ask(of)
    except UserError as error:
        assert_one_sentence(str(error))
        return str(error)
    return ""


def assert_one_sentence(text: str) -> None:
    assert "\n" not in text and text.endswith(".") and (":" in text or ";" in text)


def _steered(family: str, folder: Path) -> str:
    if family not in VLMS:
        return ""
    return "not yet" if _refusal(lambda spec: load_vlm(spec, "cpu"), str(folder)) else "yes"


FAMILIES = (*ENCODERS, *VLMS)


def test_the_readme_lists_these_families_and_no_others() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in _table()] == list(FAMILIES)
    assert len(FAMILIES) >= 30


def _table() -> list[str]:
    block = re.search(r"<!-- families: .*?-->\n(.*?)<!-- end of families -->", README.read_text(), re.DOTALL)
    assert block is not None
    return block[1].strip().splitlines()[2:]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_says_what_holds_of(family: str, folders: Callable[[str], Path]) -> None:
    assert row(family, folders(family)) in _table()


# What the library computes


def by_library(family: str, folder: Path, images: Path) -> list[Seen]:
    pictures = [open_images(images).load(i) for i in range(len(SHAPES))]
    if family in ENCODERS:
        return [ENCODERS[family].seen(folder, one) for one in pictures]
    model: Any = t.AutoModelForImageTextToText.from_pretrained(folder).eval()
    question = load_vlm(str(folder), "cpu")
    block, mlp = PATHS[family]
    seen = []
    for one in pictures:
        inputs = question.inputs([one], ["what is it"])
        caught: dict[str, Tensor] = {}
        modules = {"layer": model.get_submodule(block), "mlp": model.get_submodule(f"{block}.{mlp}")}
        modules["tower"] = model.get_submodule(re.sub(r"\.(encoder|transformer|blocks)\..*", "", block))
        handles = [m.register_forward_hook(_catch(caught, name), prepend=True) for name, m in modules.items()]
        with torch.no_grad():
            model.generate(**inputs, max_new_tokens=1)
        for handle in handles:
            handle.remove()
        last = caught.pop("tower")
        layer, inside = (h if h.ndim == 3 else h[None] for h in (caught["layer"], caught["mlp"]))
        pooled = last if isinstance(last, Tensor) and last.ndim == 2 and len(last) == 1 else None
        seen.append(Seen(layer, inside, pooled, int(family in PREFIXED)))
    return seen


def _catch(caught: dict[str, Any], name: str) -> Callable[[Any, Any, Any], None]:
    def catch(module: Any, args: Any, output: Any) -> None:
        if name == "tower":  # at once: some models put something else in its place later
            output = output.get("pooler_output")
        caught.setdefault(name, output[0] if type(output) is tuple else output)

    return catch


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in REFUSED])
def test_activations_are_the_librarys(family: str, folders: Callable[[str], Path], images: Path) -> None:
    """The short form: one hook point, image by image."""
    encoder, source = load_encoder(str(folders(family))), open_images(images)
    hook = LAYER if encoder.blocks else LAST
    for number, seen in enumerate(by_library(family, folders(family), images)[:3]):
        inputs = encoder.preprocess([source.load(number)])
        taken, shown = encoder.activations(inputs, [hook], 1)[hook][0], encoder.token_mask(inputs)
        taken = taken if shown is None else taken[shown[0]]
        expected = seen.last if seen.layer is None else seen.layer.flatten(0, 1)
        torch.testing.assert_close(taken, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", POLICIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_stores_hold_what_the_library_computes(
    family: str, tokens: str, folders: Callable[[str], Path], images: Path, tmp_path: Path
) -> None:
    """The long form: every hook point and choice of tokens, through ``extract``, in batches; or one sentence."""
    _stores_hold(family, tokens, folders(family), images, tmp_path)


@pytest.mark.parametrize("tokens", POLICIES)
@pytest.mark.parametrize("family", ["Mistral 3", "InternVL"])
def test_packed_and_tiled_images_keep_their_rows(
    family: str, tokens: str, folders: Callable[[str], Path], images: Path, tmp_path: Path
) -> None:
    _stores_hold(family, tokens, folders(family), images, tmp_path)


def test_what_is_no_sequence_an_image_is_refused(folders: Callable[[str], Path]) -> None:
    """The net under it all: were images not run alone, no row would be given to another image."""
    for family in ("Mistral 3", "InternVL", "Qwen2-VL"):
        encoder = load_encoder(str(folders(family)))
        encoder.alone = False
        inputs = encoder.preprocess([picture(0), picture(1).resize((90, 30)), picture(2)])
        with pytest.raises(UserError, match=r"cannot tell whose they are|is no sequence of tokens"):
            encoder.activations(inputs, [LAYER], 3)


def test_rows_of_other_images_are_found_by_verify(folders: Callable[[str], Path], images: Path, tmp_path: Path) -> None:
    """Stores of older versions had 108 rows for 24 images in tiles, and ``verify`` was content."""
    place = Workspace(tmp_path)
    settings = ask(folders("InternVL"), images, tokens="mean", name="A")
    extract(settings, place)
    shard = next(place.activations("A").glob("*.h5"))
    with h5py.File(shard, "r+") as file:
        file["image"][0] = 1
    manifest = place.activations("A") / "manifest.json"
    value = read_json(manifest)
    value["shards"][0]["sha256"] = file_sha256(shard)
    write_json(manifest, value)
    assert "rows that are not their images'" in Store.open(place.activations("A")).verify()[0]
    with pytest.raises(UserError, match="under another --name"):
        extract(settings, place)


def test_a_tower_with_its_class_token_at_the_end_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """Llama 4's tower: the last token would be taken for a patch, and the first patch for CLS."""
    config = t.Llama4VisionConfig(**VISION, vision_output_dim=32, projector_input_dim=32, projector_output_dim=32)
    torch.manual_seed(0)
    save(perturbed(t.Llama4VisionModel(config)), tmp_path, t.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE))
    encoder = load_encoder(str(tmp_path))
    encoder.check_tokens("all")
    for kind in ("cls", "mean", "patches"):
        with pytest.raises(UserError, match="elsewhere than before the patches"):
            encoder.check_tokens(kind)
    vlm = load_vlm(str(folders("LLaVA")), "cpu")
    vlm.n_prefix = 0
    with pytest.raises(UserError, match="elsewhere than before the patches"):
        check(vlm, random_sae(hook="layer:1"), Intervention())


def test_the_estimate_is_an_upper_bound(folders: Callable[[str], Path], images: Path, tmp_path: Path) -> None:
    settings = ask(folders("Qwen2-VL"), images, tokens="patches", shard_rows=4096)
    told, made = estimate(settings, Workspace(tmp_path)), extract(settings, Workspace(tmp_path))
    assert made.rows <= told.rows <= 2 * made.rows


def _stores_hold(family: str, tokens: str, folder: Path, images: Path, tmp_path: Path) -> None:
    place, library = Workspace(tmp_path), None
    for hook in (LAYER, MLP, LAST):
        try:
            extract(
                ask(folder, images, at=(str(hook),), tokens=tokens, name=hook.kind, dtype="float32", shard_rows=4096),
                place,
            )
        except UserError as error:
            assert_one_sentence(str(error))
            continue
        library = library or by_library(family, folder, images)
        store = Store.open(place.activations(hook.kind))
        assert store.verify() == [] and np.unique(store.image).tolist() == list(range(len(SHAPES)))
        for number, seen in enumerate(library):
            mine = store.image == number
            expected = seen.last if hook == LAST else seen.rows(hook.kind, tokens, store.token[mine])
            assert expected is not None
            rows = torch.from_numpy(store.take(np.flatnonzero(mine)))
            torch.testing.assert_close(rows, expected, atol=5e-5, rtol=5e-5)
            assert len(set(store.token[mine])) == len(rows)
    if tokens == "all" and family not in REFUSED:
        assert library is not None


# What steering does


def by_hand(family: str, folder: Path, image: Any, sae: Any, latent: int, value: float) -> tuple[str, Tensor]:
    """The greedy answer, and the logits of its first token, with a hook written from the formula, patch by patch."""
    model: Any = t.AutoModelForImageTextToText.from_pretrained(folder).eval()
    vlm = load_vlm(str(folder), "cpu")
    prefix = int(family in PREFIXED)

    def hook(module: Any, args: Any, output: Any) -> Any:
        hidden = output[0] if type(output) is tuple else output
        new = hidden.clone()
        sequences = new if new.ndim == 3 else new[None]
        for sequence in sequences:
            for position in range(prefix, len(sequence)):
                z = torch.relu((sequence[position] - sae.b_dec) @ sae.W_enc + sae.b_enc)
                a = z * (z > sae.threshold)
                a[latent] = value
                sequence[position] = a @ sae.W_dec + sae.b_dec
        return (new, *output[1:]) if type(output) is tuple else new

    handle = model.get_submodule(PATHS[family][0]).register_forward_hook(hook, prepend=True)
    inputs = vlm.inputs([image], ["what is it"])
    out = model.generate(**inputs, do_sample=False, max_new_tokens=8, output_logits=True, return_dict_in_generate=True)
    handle.remove()
    ids = out.sequences[0, inputs["input_ids"].shape[1] :]
    return vlm.processor.tokenizer.decode(ids, skip_special_tokens=True), out.logits[0]


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in ("Mistral 3", "InternVL", "BLIP-2") else pytest.mark.slow) for f in PATHS],
)
def test_steering_is_a_hook_written_by_hand(family: str, folders: Callable[[str], Path]) -> None:
    vlm, sae = load_vlm(str(folders(family)), "cpu"), random_sae(hook="layer:1")
    pictures = [picture(0), picture(1).resize((90, 30))]
    steered = Intervention(latents=((3, 60.0),))
    expected, logits = zip(*(by_hand(family, folders(family), one, sae, 3, 60.0) for one in pictures), strict=True)
    untouched = [answer(vlm, one, "what is it", 8) for one in pictures]
    with attached(vlm, sae, steered):
        assert [answer(vlm, one, "what is it", 8) for one in pictures] == list(expected)
    assert answers(vlm, pictures, "what is it", 8, sae=sae, interventions=[steered, None]) == [
        expected[0],
        untouched[1],
    ]
    for one, by_library in zip(pictures, logits, strict=True):
        plain, turned = next_token_logits(vlm, one, "what is it", sae=sae, interventions=[None, steered])
        torch.testing.assert_close(turned[None], by_library, atol=1e-3, rtol=1e-3)
        assert not torch.allclose(plain, turned, atol=0.1)


@pytest.mark.parametrize(("content", "says"), [(None, "symbolic link that leads to itself"), (b"{", "is damaged")])
def test_weights_of_a_tower_that_cannot_be_read(
    content: bytes | None, says: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("LLaVA"), tmp_path / "copy"))
    weights = folder / "model.safetensors"
    weights.unlink()
    if content is None:
        weights.symlink_to(weights)
    else:
        weights.write_bytes(content)
    with pytest.raises(UserError, match=says) as refusal:
        load_encoder(str(folder))
    assert isinstance(refusal.value, Refused) == (content is None)
