"""Train the demo's models, measure them and write complete checkpoints and their card.

    python -m engine.demo.build                    everything, into assets/
    python -m engine.demo.build --only encoder     one model; the others stay (llava uses the clip that is there)
    python -m engine.demo.build --smoke --out DIR  a few steps of everything, to see that it runs

Each model replaces its folder as a whole, once it is ready; then scores and card are written.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from transformers import AutoModel

from engine.demo.build import scores, training
from engine.demo.build.card import Results, card
from engine.demo.build.models import (
    clip_processor,
    encoder_processor,
    llava_processor,
    new_clip,
    new_encoder,
    new_llava,
    save,
)
from engine.demo.build.training import Recipe, Report
from engine.errors import UserError
from engine.files import file_sha256, write_text
from engine.models.shipped import MODELS, SCORES

SMOKE_SHARE, SMOKE_IMAGES = 0.001, 12
HELD_OUT_IMAGES = 1000
"""Held-out scenes that each score is measured on."""


def build_clip(out: Path, recipe: Recipe, report: Report) -> None:
    torch.manual_seed(recipe.clip_seed)
    clip = new_clip()
    training.train_clip(clip, recipe, report)
    save(clip, clip_processor(), out / "clip")


def build_llava(out: Path, recipe: Recipe, report: Report) -> None:
    """Its vision tower is the clip as shipped, with weights rounded to float16."""
    if not (out / "clip" / "config.json").is_file():
        raise UserError(f"There is no clip in {out}, whose vision tower llava needs: build it first.")
    torch.manual_seed(recipe.llava_seed)
    clip = AutoModel.from_pretrained(out / "clip", dtype=torch.float32)
    llava = new_llava()
    training.train_llava(clip, llava, recipe, report)
    save(llava, llava_processor(), out / "llava")


def build_encoder(out: Path, recipe: Recipe, report: Report) -> None:
    torch.manual_seed(recipe.encoder_seed)
    encoder = new_encoder()
    training.train_encoder(encoder, recipe, report)
    save(encoder, encoder_processor(), out / "encoder")


BUILDERS: dict[str, Callable[[Path, Recipe, Report], None]] = {
    "clip": build_clip,
    "llava": build_llava,
    "encoder": build_encoder,
}


def build(
    out: Path,
    names: Sequence[str] = MODELS,
    recipe: Recipe | None = None,
    images: int = HELD_OUT_IMAGES,
    report: Report = print,
) -> Results:
    """Build the named models in ``out`` and return the scores of all models there; about half an hour on two cores."""
    recipe = recipe or Recipe()
    out.mkdir(parents=True, exist_ok=True)
    path = out / SCORES
    results: Results = json.loads(path.read_text()) if path.is_file() else {}
    for name in (name for name in MODELS if name in names):
        began = time.monotonic()
        BUILDERS[name](out, recipe, report)
        took = time.monotonic() - began
        report(f"{name}: trained in {took:.0f} s; measuring on {images} held-out scenes")
        results[name] = {
            "scores": scores.measure(name, out / name, images),
            "files": {file.name: file_sha256(file) for file in sorted((out / name).iterdir())},
            "training_seconds": round(took),
            "recipe": asdict(recipe),
            "held_out_images": images,
            "cores": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }
        write_text(path, json.dumps(results, indent=1) + "\n")
        write_text(out / "README.md", card(out, results))
        report(f"{name}: {json.dumps(results[name]['scores'])}")
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.demo.build", description=__doc__.split("\n")[0])
    here = Path(__file__).resolve().parents[3] / "assets"
    parser.add_argument("--out", type=Path, default=here, help="folder of the models (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS, help="build these and keep the others")
    parser.add_argument("--share", type=float, default=1.0, help="train this many times as long (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything, to see that it runs")
    chosen = parser.parse_args(arguments)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    share = SMOKE_SHARE if chosen.smoke else chosen.share
    images = SMOKE_IMAGES if chosen.smoke else HELD_OUT_IMAGES
    began = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    try:
        build(chosen.out, chosen.only, Recipe().scaled(share), images, report)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
