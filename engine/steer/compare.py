"""``saetui steer``: the same question to a model untouched, with the SAE attached, and steered."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor

from engine.config import SteerSettings
from engine.errors import UserError
from engine.events import Reporter
from engine.images import BrokenImage, decode
from engine.models.device import pick_device
from engine.sae.config import WEIGHTS
from engine.sae.model import SAE
from engine.steer.generate import answer, check_length
from engine.steer.interventions import Intervention, LatentValue, attached, check, parse_latents, parse_tokens, resolve
from engine.steer.recipes import load_recipe, save_recipe, with_recipe
from engine.steer.vlm import is_local, load_vlm
from engine.workspace import Workspace, file_sha256


def steer(settings: SteerSettings, workspace: Workspace, reporter: Reporter | None = None) -> dict[str, str]:
    """Three greedy answers: ``untouched``, ``attached`` (through the SAE, no latent changed), ``steered``.

    Their text is reported as it is generated, in events ``token`` (answer, text).
    """
    reporter = reporter or Reporter()
    recipe, settings = settings.recipe, with_recipe(workspace, settings)
    _check_complete(settings)
    wanted = parse_latents(settings.latent, settings.mode)
    tokens = parse_tokens(settings.tokens)
    picture = open_image(settings.image)
    folder = workspace.existing("saes", settings.sae)

    reporter.event("stage", name="load")
    device = pick_device(settings.device)
    sae = SAE.load(folder, device=device).eval()
    sha256 = file_sha256(folder / WEIGHTS)
    if recipe:
        _warn_if_changed(load_recipe(workspace, recipe), sha256, reporter)
    intervention = Intervention(
        latents=resolve(wanted, _maxima(wanted, folder.name, sha256, workspace)),
        mode=settings.mode,
        keep_error=settings.keep_error,
        tokens=tokens,
    )
    vlm = load_vlm(settings.vlm, device, settings.dtype)
    for note in vlm.notes:
        reporter.event("warning", message=note)
    check(vlm, sae, intervention)
    image = picture if isinstance(picture, Image.Image) else Image.new("RGB", vlm.image_size, picture)
    reporter.event("intervention", **dataclasses.asdict(intervention))
    if settings.save_recipe:
        path = folder.relative_to(workspace.root) if folder.is_relative_to(workspace.root) else folder
        source = {"kind": "sae", "name": folder.name, "path": str(path), "sha256": sha256}
        save_recipe(workspace, _anywhere(settings, folder, workspace), [source])

    said = {}
    for name, through in (
        ("untouched", nullcontext()),
        ("attached", attached(vlm, sae, intervention.control())),
        ("steered", attached(vlm, sae, intervention)),
    ):
        reporter.event("stage", name=name)

        def on_text(text: str, name: str = name) -> None:
            reporter.event("token", answer=name, text=text)
            reporter.check()

        with through:
            said[name] = answer(vlm, image, settings.prompt, settings.max_new_tokens, on_text)
    return said


def open_image(spec: str) -> Image.Image | tuple[int, ...]:
    """The image in a file, or for ``blank`` and ``blank:COLOUR`` the colour of a plain one. UserError for a bad one."""
    if _is_plain(spec):
        colour = spec.partition(":")[2] or "white"
        try:
            return ImageColor.getrgb(colour)[:3]
        except ValueError as error:
            raise UserError(f"There is no colour {colour!r}: write blank:red or blank:#ff8000.") from error
    path = Path(spec).expanduser()
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"Cannot read the image {spec} ({error.strerror}): give a file, blank, or blank:COLOUR."
        ) from error
    except BrokenImage as error:
        raise UserError(f"{spec} is not an image that can be read ({error.reason}): give another file.") from error


def _check_complete(settings: SteerSettings) -> None:
    for name, example in (("sae", "an SAE"), ("vlm", "--vlm MODEL")):
        if not getattr(settings, name):
            raise UserError(f"There is nothing to steer: give {example}, or a --recipe that names one.")
    if not settings.latent:
        raise UserError("No latent is changed: give at least one --latent LATENT=VALUE.")
    check_length(settings.max_new_tokens)


def _maxima(wanted: Sequence[LatentValue], sae: str, sha256: str, workspace: Workspace) -> dict[int, float]:
    """The largest activation of each latent whose value is relative, over all image sets that the SAE was scored on."""
    latents = [value.latent for value in wanted if value.relative]
    if not latents:
        return {}
    from engine.evaluate.neurons import Neurons

    way_out = f"run saetui score {sae}, or give an absolute number"
    scores = []
    for path in sorted((workspace.root / "neurons").glob(f"{sae}--*.h5")):
        with Neurons.open(path) as neurons:
            if sha256 in [s["sha256"] for s in neurons.provenance["made_from"] if s["kind"] == "sae"]:
                scores.append(neurons.maximum)
    if not scores:
        raise UserError(f"The maximum of latent {latents[0]} is not known, as {sae} has no scores: {way_out}.")
    maxima = {}
    for latent in latents:
        if latent >= len(scores[0]):
            raise UserError(f"There is no latent {latent}: this SAE has latents 0 to {len(scores[0]) - 1}.")
        maxima[latent] = max(float(maximum[latent]) for maximum in scores)
        if not maxima[latent] > 0:
            raise UserError(f"Latent {latent} fired on none of the images that {sae} was scored on: {way_out}.")
    return maxima


def _warn_if_changed(recipe: dict[str, Any], sha256: str, reporter: Reporter) -> None:
    for source in recipe.get("made_from", []):
        if source.get("kind") == "sae" and source.get("sha256") != sha256:
            message = f"The SAE {source.get('name')} is not the one that the recipe was saved with: answers may differ."
            reporter.event("warning", message=message)


def _anywhere(settings: SteerSettings, folder: Path, workspace: Workspace) -> SteerSettings:
    """Local files by their full paths, so that a recipe can be replayed from another directory."""
    full: dict[str, Any] = {"sae": folder.name if folder.parent == workspace.root / "saes" else str(folder)}
    if not _is_plain(settings.image):
        full["image"] = str(Path(settings.image).expanduser().resolve())
    if is_local(settings.vlm):
        full["vlm"] = str(Path(settings.vlm).expanduser().resolve())
    return dataclasses.replace(settings, **full)


def _is_plain(image: str) -> bool:
    return image == "blank" or image.startswith("blank:")
