"""fidelity from images to the file, on small encoders, held against one image after the other through torch's hooks."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from engine.artefacts import describe, inventory
from engine.artefacts.entries import Figure
from engine.artefacts.verify import verify
from engine.config import FidelitySettings, VerifySettings
from engine.errors import Stopped, UserError
from engine.files import read_json
from engine.models import HookPoint, load_encoder
from engine.models.kept import models_kept
from engine.reporter import Reporter
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.steer.fidelity.results import Fidelity
from engine.steer.fidelity.stage import fidelity, read_fidelity
from engine.workspace import Workspace
from tests.support.checkpoints import build, discerning, save

COLOURS = {"warm/red": (210, 40, 40), "warm/orange": (220, 130, 30), "cold/blue": (30, 60, 210)}
EACH, D = 5, 32


def plant(place: Path, name: str, hook: str, tokens: str, *, exact: bool = False, model: str = "clip") -> None:
    """An SAE that gives back much of any activations, or all."""
    torch.manual_seed(len(name))
    d = 16 if hook == "last" else D
    sae = SAE(SAEConfig(arch="relu", d=d, w=2 * d, model=str(place / model), hook=hook, tokens=tokens))
    with torch.no_grad():
        turned = torch.linalg.qr(torch.randn(d, d))[0]
        sae.W_enc.copy_(torch.cat([turned, -turned], 1))
        sae.W_dec.copy_(sae.W_enc.T)
        if not exact:
            sae.b_enc.fill_(-0.5)
        sae.save(place / "work/saes" / name)


@pytest.fixture(scope="module", autouse=True)
def _loaded_once() -> Iterator[None]:
    with models_kept():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("fidelity")
    rng = np.random.default_rng(0)
    for kind, colour in COLOURS.items():
        (root / "images" / kind).mkdir(parents=True)
        for i in range(EACH):
            picture = np.clip(np.array(colour) + rng.integers(-60, 60, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(root / "images" / kind / f"{i:02d}.png")
    (root / "images/cold/blue/broken.png").write_bytes(b"no picture")
    save(discerning(build("clip")), root / "clip", words=("a", "red", "orange", "blue", "picture"))
    options: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    save(discerning(build("dinov2-registers")), root / "dino", transformers.BitImageProcessor(**options))
    for name, hook, tokens in (
        ("patches", "layer:1", "patches"),
        ("all", "layer:1", "all"),
        ("cls", "layer:2", "cls"),
        ("late", "layer:2", "patches"),
        ("last", "last", "all"),
    ):
        plant(root, name, hook, tokens)
    plant(root, "exact", "layer:1", "all", exact=True)
    plant(root, "registers", "layer:0", "all", model="dino")
    return root


def ask(place: Path, *sae: str, **more: Any) -> FidelitySettings:
    given: dict[str, Any] = {"images": str(place / "images"), "device": "cpu", "workers": 2, "batch_size": 7}
    return FidelitySettings(sae=sae, **{**given, "template": "a {} picture", **more})


def measured(place: Path, *sae: str, **more: Any) -> tuple[Fidelity, ...]:
    return fidelity(ask(place, *sae, **more), Workspace(place / "work")).saes


@pytest.fixture(scope="module")
def together(place: Path) -> dict[str, Fidelity]:
    names = ("patches", "all", "cls", "late", "last", "exact")
    return dict(zip(names, measured(place, *names), strict=True))


TOKENS = {"patches": slice(1, None), "all": slice(None), "cls": slice(0, 1)}


def naive(place: Path, name: str) -> dict[str, list[Any]]:
    """Embeddings, cosines and classes, image by image, from the library's model and a hook of torch's."""
    encoder = load_encoder(str(place / "clip"))
    sae = SAE.load(place / "work/saes" / name)
    block = None if sae.config.hook == "last" else encoder.blocks[HookPoint.parse(sae.config.hook).index]
    paths = sorted(path for path in (place / "images").rglob("*.png") if path.stem != "broken")
    inputs = [encoder.preprocess([Image.open(path).convert("RGB")]) for path in paths]
    chosen = TOKENS[sae.config.tokens]
    model: Any = encoder.model

    def run(one: dict[str, torch.Tensor], change: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The embedding, and what the hook point put out before the change."""
        seen = []

        def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            seen.append(output.clone())
            out = output.clone()
            for token in range(out.shape[1])[chosen]:
                out[0, token] = change(out[0, token], token)
            return out

        with torch.no_grad():
            if block is None:
                embedded = model.get_image_features(**one).pooler_output[0]
                return change(embedded, 0), embedded[None, None]
            handle = block.register_forward_hook(hook)
            embedded = model.get_image_features(**one).pooler_output[0]
            handle.remove()
        return embedded, seen[0]

    before = [run(one, lambda x, _: x) for one in inputs]
    rows = torch.cat([seen for _, seen in before])
    cls, patches = rows[:, 0].mean(0), rows[:, 1:].flatten(0, 1).mean(0)
    said = ["a blue picture", "a orange picture", "a red picture"]
    texts = [encoder.embed_text([one])[0] for one in said]

    def kind(embedded: torch.Tensor) -> int:
        return int(np.argmax([float(torch.cosine_similarity(embedded, text, 0)) for text in texts]))

    found: dict[str, list[Any]] = {"untouched": [float(kind(e)) for e, _ in before]}
    found["embedded untouched"] = [embedded for embedded, _ in before]
    changes = {"spliced": lambda x, _: sae(x), "ablated": lambda _, token: patches if token else cls}
    for condition, change in changes.items():
        embedded = [run(one, change)[0] for one in inputs]
        found[condition] = [float(kind(e)) for e in embedded]
        found[f"embedded {condition}"] = embedded
        found[f"{condition} cosine"] = [
            float(torch.cosine_similarity(e, u, 0)) for e, (u, _) in zip(embedded, before, strict=True)
        ]
    return found


@pytest.mark.parametrize("name", ["patches", "all", "cls", "last"])
def test_it_is_what_one_image_after_the_other_gives(together, place, name):
    expected, part = naive(place, name), together[name].encoder
    cosine, zero = part.cosine, part.zero_shot
    for condition in ("spliced", "ablated"):
        found = [getattr(one, condition).mean for one in (cosine, zero.accuracy, zero.agreement)]
        true = np.repeat([0, 1, 2], EACH)
        assert found[0] == pytest.approx(np.mean(expected[f"{condition} cosine"]), abs=1e-5)
        assert found[1] == np.mean(np.array(expected[condition]) == true)
        assert found[2] == np.mean(np.array(expected[condition]) == expected["untouched"])
    assert zero.accuracy.untouched.mean == np.mean(np.array(expected["untouched"]) == np.repeat([0, 1, 2], EACH))
    assert len(set(expected["untouched"])) > 1, "its text tower tells classes apart"
    assert cosine.spliced.n == part.images == 3 * EACH and part.broken == 1
    share = (cosine.spliced.mean - cosine.ablated.mean) / (1 - cosine.ablated.mean)
    assert cosine.recovered.mean == pytest.approx(share) and 0.1 < share < 1
    assert cosine.recovered.low < share < cosine.recovered.high
    assert zero.texts == ("a blue picture", "a orange picture", "a red picture")


CAPTIONS = {  # two images share a text, one has two, and the third of each colour has none
    "cold/blue/00.png": ["a blue picture"],
    "cold/blue/01.png": ["blue blue", "a picture blue"],
    "warm/orange/00.png": ["a orange orange picture"],
    "warm/orange/03.png": ["orange picture"],
    "warm/red/00.png": ["a red picture"],
    "warm/red/01.png": ["a red picture", "red"],
}


def test_images_and_captions_find_each_other_as_sorting_says(place):
    lines = [{"path": path, "caption": texts} for path, texts in CAPTIONS.items()]
    (place / "said.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = [f"{path}\t{text}" for path, texts in CAPTIONS.items() for text in texts]
    (place / "said.tsv").write_text("\n".join(["path\tcaption", *rows, "nowhere.png\telse"]))
    (found,) = measured(place, "patches", captions=str(place / "said.jsonl"), name="said")
    (all_tokens,) = measured(place, "all", captions=str(place / "said.tsv"), name="tabs")
    same = all_tokens.encoder.retrieval.image_at_1.ablated  # all images have one embedding: each is found by chance
    assert same.mean == pytest.approx((4 * 1 / 6 + 2 / 6 + (2 / 6 + 1 / 6) / 2) / 6)
    assert all_tokens.encoder.retrieval.captions == found.encoder.retrieval.captions
    assert found.provenance.made_from[-1].kind == "captions"
    part = found.encoder.retrieval
    texts = sorted({text for some in CAPTIONS.values() for text in some})
    assert (part.images, part.captions, part.text_at_1.spliced.n) == (6, len(texts), 6)
    expected = naive(place, "patches")
    paths = sorted(str(path.relative_to(place / "images")) for path in (place / "images").rglob("0*.png"))
    encoder = load_encoder(str(place / "clip"))
    said = {text: encoder.embed_text([text])[0] for text in texts}
    for condition in ("untouched", "spliced", "ablated"):
        shown = {path: e for path, e in zip(paths, expected[f"embedded {condition}"], strict=True) if path in CAPTIONS}

        def near(path: str, text: str, shown: dict[str, torch.Tensor] = shown) -> float:
            return -float(torch.cosine_similarity(shown[path], said[text], 0))

        for k, to_text, to_image in ((1, part.text_at_1, part.image_at_1), (5, part.text_at_5, part.image_at_5)):
            finds = {path: sorted(texts, key=lambda text: near(path, text))[:k] for path in CAPTIONS}
            finders = {text: sorted(CAPTIONS, key=lambda path: near(path, text))[:k] for text in texts}
            there = [float(bool(set(finds[path]) & set(own))) for path, own in CAPTIONS.items()]
            back = [
                np.mean([any(text in CAPTIONS[one] for one in finders[text]) for text in own])
                for own in CAPTIONS.values()
            ]
            assert getattr(to_text, condition).mean == pytest.approx(np.mean(there))
            assert getattr(to_image, condition).mean == pytest.approx(np.mean(back))


def test_captions_of_other_images_are_refused_and_need_words(place):
    (place / "other.csv").write_text("path,caption\nnowhere.png,a red picture\n")
    (place / "none.csv").write_text("path,said\nwarm/red/00.png,a red picture\n")
    with pytest.raises(UserError, match=r"like cold/blue/00\.png"):
        measured(place, "all", captions=str(place / "other.csv"), name="other")
    with pytest.raises(UserError, match="give it a column caption"):
        measured(place, "all", captions=str(place / "none.csv"), name="other")
    (place / "one.csv").write_text("path,caption\nwarm/red/00.png,a red picture\n")
    (found,) = measured(place, "registers", captions=str(place / "one.csv"), name="mute")
    assert found.encoder.retrieval is None and "Retrieval is left out" in found.notes[1]


def test_who_gives_all_back_loses_nothing(together):
    part = together["exact"].encoder
    assert part.cosine.spliced.mean == pytest.approx(1, abs=1e-6) and part.cosine.recovered.mean == pytest.approx(1)
    assert part.zero_shot.agreement.spliced.mean == 1 and part.zero_shot.accuracy.lost.mean == 0


def test_with_its_error_kept_an_sae_changes_nothing(place):
    encoder, sae = load_encoder(str(place / "clip")), SAE.load(place / "work/saes/all")
    inputs = encoder.preprocess([Image.new("RGB", (36, 36), colour) for colour in COLOURS.values()])
    kept = encoder.output(inputs, 3, {HookPoint("layer", 1): lambda x, _: sae(x) + (x - sae(x))})
    torch.testing.assert_close(kept, encoder.output(inputs, 3), atol=1e-5, rtol=1e-5)


def test_what_does_not_reach_the_embedding_is_told(together):
    found = together["late"]
    assert not found.encoder.reached and "does not reach the embedding" in found.notes[-1]
    cosine = found.encoder.cosine
    assert cosine.spliced.mean == cosine.ablated.mean == 1 and cosine.recovered.mean is None
    assert all(one.encoder.reached and not one.notes for name, one in together.items() if name != "late")


def test_many_at_once_are_what_each_is_alone(together, place):
    (alone,) = measured(place, "all", name="alone")
    path = Path(together["all"].path)
    assert path == place / "work/fidelity/all--images.json"
    first, second = read_json(path), read_json(Path(alone.path))
    assert first.pop("path") != second.pop("path") and first["settings"].pop("name") != second["settings"].pop("name")
    assert first == second
    assert read_fidelity(path) == together["all"]
    assert {one.kind for one in alone.provenance.made_from} == {"sae", "model", "images"}


def test_without_words_or_classes_the_cosine_stays(place):
    (found,) = measured(place, "registers")
    assert found.encoder.zero_shot is None and "no text tower" in found.notes[0]
    assert found.encoder.cosine.ablated.mean < found.encoder.cosine.spliced.mean < 1
    (one_class,) = measured(place, "all", images=str(place / "images/cold/blue"))
    assert one_class.encoder.zero_shot is None and "two classes" in one_class.notes[0]
    for code in ("n01440764", "n01443537"):
        (place / "codes" / code).mkdir(parents=True)
        Image.new("RGB", (36, 36), (len(code), 0, 0)).save(place / "codes" / code / "0.png")
    (codes,) = measured(place, "all", images=str(place / "codes"))
    assert codes.encoder.zero_shot is None and "n01440764" in codes.notes[0]


def test_classes_that_the_text_tower_does_not_tell_apart_are_told(place):
    for name in ("mauve", "puce", "red"):
        (place / "odd" / name).mkdir(parents=True)
        Image.new("RGB", (36, 36), (len(name), 0, 0)).save(place / "odd" / name / "0.png")
    (found,) = measured(place, "all", images=str(place / "odd"))
    assert found.encoder.zero_shot is not None and found.notes[0].startswith("The text tower takes 2 of 3 classes")


def test_the_same_is_there_others_are_refused_and_replaced(together, place):
    path = Path(together["all"].path)
    written = path.stat().st_mtime_ns
    (again,) = measured(place, "all", workers=1)
    assert not again.made and path.stat().st_mtime_ns == written
    for other in ({"splice": "patches"}, {"limit": 9}):
        with pytest.raises(UserError, match="--replace it"):
            measured(place, "all", **other)
    (new,) = measured(place, "all", limit=9, replace=True)
    assert new.made and new.encoder.images < 9 and read_fidelity(path).settings.limit == 9
    path.write_text(path.read_text().replace('"sae": "all"', '"sae": "other"'))
    with pytest.raises(UserError, match="run saetui fidelity again"):
        measured(place, "all", limit=9)
    (back,) = measured(place, "all", replace=True)
    assert read_fidelity(path) == back == together["all"]


class Stopping(Reporter):
    def __init__(self, after: int):
        self.left = after

    def check(self) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped


@pytest.mark.parametrize("after", [1, 4, 7])
def test_who_is_stopped_leaves_nothing_half(place, after):
    with pytest.raises(Stopped):
        fidelity(ask(place, "all", "cls", name=f"half{after}"), Workspace(place / "work"), Stopping(after))
    assert not list((place / "work/fidelity").glob(f"*half{after}*"))


def test_what_cannot_be_is_refused(place):
    plant(place, "mean", "layer:1", "mean")
    with pytest.raises(UserError, match="--splice patches"):
        measured(place, "mean")
    (found,) = measured(place, "mean", splice="patches")
    assert found.encoder.tokens == "patches"
    plant(place, "nan", "layer:1", "all")
    sae = SAE.load(place / "work/saes/nan")
    with torch.no_grad():
        sae.b_dec.fill_(math.inf)
    sae.save(place / "work/saes/nan")
    with pytest.raises(UserError, match="not finite"):
        measured(place, "nan")


def test_it_is_an_artefact_as_the_others(together, place):
    work = Workspace(place / "work")
    made = Path(together["all"].path)
    (entry,) = [one for one in inventory(work).results if one.path == made]
    kept = read_fidelity(made).encoder.zero_shot.accuracy
    beside = kept.ablated, kept.untouched
    assert entry.figure == Figure("zero-shot accuracy", kept.spliced, "mean in place", *beside, "right_class")
    assert {(one.kind, one.state) for one in describe("fidelity/all--images", work).chain} >= {("sae", "unchanged")}
    found = verify(VerifySettings(store=str(made)), work)
    assert not found.problems and not found.changed
    made.write_text(made.read_text()[:-9])
    assert verify(VerifySettings(store=str(made)), work).problems
