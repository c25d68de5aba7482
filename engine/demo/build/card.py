"""The card of the shipped models. All its figures are from scores.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, GROUPS, KINDS

Scores = Mapping[str, Any]
"""Of one model: numbers, or mappings of numbers, by name."""
Results = dict[str, Mapping[str, Any]]
"""scores.json: by model, its scores and how it was made."""

TITLES = {"clip": "CLIP", "llava": "LLaVA", "encoder": "Encoder E"}

ABOUT = {
    "clip": (
        "`CLIPModel`: vision 192 wide, 6 layers, patches of 8 pixels (64 tokens and CLS); text 128 wide, 2 layers. A "
        "patch token of the last layer but one is taught to be a sum of fixed directions, one for each word: the "
        "colour of the object that is under the patch (it covers at least 30 % of it), its fill (45 %) and its kind "
        "(60 %), else the background; and a little of one more, that says how far right the patch is. So what an SAE "
        "should find here is known. First phase: only the kinds. "
        "Second phase, together: all words, and contrastive losses of the whole picture against full captions and "
        "against single words. Muon for hidden matrices, AdamW for the rest."
    ),
    "llava": (
        "`LlavaForConditionalGeneration`: the vision tower is the CLIP above with its weights frozen, read at "
        "`vision_feature_layer=-2` without CLS; Llama 192 wide, 3 layers. Projector and language model learn to answer "
        "from patch tokens with a little noise. In six pictures of ten, words are taken out of the tokens or painted "
        "on them along the same directions, and answers then leave them out or name them: it is made to be steered, "
        "as a large model is not. It knows thirteen requests (`engine.demo.talk`): the caption, the objects, one "
        "word, and ten kinds of text (a title, a line of a poem, a shopping list, a song, a sum, an article, a "
        "holiday, a dialogue, a headline, a question), each of which a parser tells from all others."
    ),
    "encoder": (
        "`Dinov2Model`: 192 wide, 4 layers; its embedding is the pooled output. It shares no weights, no seed and no "
        "text with the CLIP: it learned the drawn labels (kind, colour, fill, background) through linear heads, as a "
        "stand-in for the perception that a large self-supervised encoder has. So on this world an MS score measures "
        "agreement with these labels; it is not evidence about natural images."
    ),
}


def card(folder: Path, results: Results) -> str:
    """The card of the models in ``folder`` as Markdown; ``results`` is the content of its scores.json."""
    lines = [
        "# The demo's models",
        "",
        "Three small models of the ordinary classes of `transformers`, trained on drawn pictures by",
        "`python -m engine.demo.build`, stored in float16. With them, all of saetui runs without a download and",
        "against exact labels. They know only the drawn world; no outside data was used.",
        "",
        f"**Data.** Pictures of 64 x 64 pixels drawn from a seed by `engine.demo.world`: {len(KINDS)} kinds in",
        f"{len(GROUPS)} groups ({', '.join(KINDS)}),",
        f"{len(COLOURS)} colours ({', '.join(COLOURS)}),",
        f"{len(FILLS)} fills ({', '.join(FILLS)}), {len(BACKGROUNDS)} backgrounds ({', '.join(BACKGROUNDS)});",
        "no, one or two objects. Training draws new pictures at every step. All scores are on worlds of other seeds,",
        "measured by the build through `from_pretrained` and written to `scores.json`, from which this page is made.",
        "Training times are those of a busy machine.",
        "",
    ]
    for name, title in TITLES.items():
        if name in results:
            lines += _section(folder / name, name, title, results[name])
    return "\n".join(lines)


def _section(folder: Path, name: str, title: str, result: Mapping[str, Any]) -> list[str]:
    recipe = result["recipe"]
    steps = {
        "clip": f"{recipe['kind_steps']} + {recipe['joint_steps']} steps",
        "llava": f"{recipe['speak_steps']} steps",
        "encoder": f"{recipe['encoder_steps']} steps",
    }[name]
    megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    return [
        f"## {title} (`{name}/`, {megabytes:.1f} MB)",
        "",
        ABOUT[name],
        "",
        f"Budget: {steps} of {recipe['batch']} pictures, {result['training_seconds'] / 60:.0f} minutes on "
        f"{result['cores']} CPU cores; seed {recipe[f'{name}_seed']}; {versions}.",
        "",
        f"| score ({result['held_out_images']} held-out scenes each) | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in flat(result["scores"])),
        "",
    ]


def flat(scores: Scores, prefix: str = "") -> list[tuple[str, float]]:
    """Nested scores as (path, value) rows."""
    rows: list[tuple[str, float]] = []
    for key, value in scores.items():
        path = f"{prefix} / {key}" if prefix else key
        rows += flat(value, path) if isinstance(value, dict) else [(path, value)]
    return rows
