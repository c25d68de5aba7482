"""Scores that are there already: whether they are those that are asked for, and if not, in what they differ."""

from collections.abc import Sequence
from pathlib import Path

from engine.config import ScoreSettings
from engine.errors import UserError
from engine.images import Images
from engine.models import same_model
from engine.neurons.file import Neurons
from engine.neurons.results import Summary
from engine.places import recorded_text, workspace_of
from engine.workspace import Source


def scored_already(path: Path, settings: ScoreSettings, sources: Sequence[Source], images: Images) -> Summary | None:
    """The summary in ``path`` if it was made from the very same sources with the same settings.

    UserError for other scores: a name is no identity, and they are not replaced. A file that lacks what scoring
    computes now, or is damaged, is made anew; so is one of these images when some could not be read and now are others.
    """
    if not path.is_file():
        return None
    try:
        found = Neurons.open(path)
    except UserError:  # damaged
        return None
    with found:
        mended = _mended(found, images)
        older = "objects" not in {one.kind for one in found.provenance.made_from}  # they are told for the first time
        passed = (*(("images", "embeddings") if mended else ()), *(("objects",) if older else ()))
        compared = [one for one in sources if one.kind not in passed]
        if differing := _differences(found, settings, compared, images):
            raise UserError(f"{path} holds scores of {'; '.join(differing)}: give another --name.")
        told = not (older and settings.objects)
        return found.summary if found.complete and told and not mended else None


def _mended(found: Neurons, images: Images) -> bool:
    """Whether all images that were scored are the same now, and some that could not be read then are not."""
    if not found.summary.broken or len(images) != found.summary.images + found.summary.broken:
        return False
    before = next((one.sha256 for one in found.provenance.made_from if one.kind == "images"), "")
    now = {entry.path: images.content(number) for number, entry in enumerate(images.entries)}
    return before != images.sha256 and all(now.get(one.path) == one.sha256 for one in found.images)


_SAID = {
    "sae": "the SAE",
    "model": "the encoder",
    "images": "the images",
    "vocabulary": "the words",
    "objects": "the objects",
    "taxonomy": "the taxonomy",
}
_COMPARED = ("pooling", "min_support", "top", "batch_size", "seed")  # settings that no source tells


def _differences(found: Neurons, settings: ScoreSettings, sources: Sequence[Source], images: Images) -> list[str]:
    """In what the scores that are there differ from those that are asked for, in words."""
    before, kept = found.summary.settings, dict[str, Source]()
    for one in found.provenance.made_from:
        kept.setdefault(one.kind, one)  # crops are judged as well as images, and told by how they are cut
    changed = [one for one in sources if one.kind not in kept or not _same(kept[one.kind], one, images)]
    differing = [
        _other(_SAID[one.kind], _called(kept.get(one.kind), before), _called(one, settings))
        for one in changed
        if one.kind in _SAID
    ]
    if "taxonomy" in kept and "taxonomy" not in {one.kind for one in sources}:
        differing.append(_other(_SAID["taxonomy"], _called(kept["taxonomy"], before), _called(None, settings)))
    names = (*_COMPARED, *(("crops", "crop_side") if before.pooling == settings.pooling == "crop" else ()))
    pairs = [(name, getattr(before, name), getattr(settings, name)) for name in names]
    differing += [_other(name.replace("_", " "), was, now) for name, was, now in pairs if was != now]
    was, now = (recorded_text(one.embed_with, "model", workspace_of(found.path)) for one in (before, settings))
    if was != now or (changed and not differing):
        differing.append(_other("the judge", before.embed_with, settings.embed_with))
    return differing


def _same(before: Source, now: Source, images: Images) -> bool:
    match now.kind:
        case "model":
            return same_model(before.sha256, now.sha256)
        case "images":  # the identity of their list once was of paths and sizes; the embeddings tell the rest
            return before.sha256 in (images.sha256, images.listed_sha256)
        case "vocabulary" if before.name == now.name == "built-in":
            return True  # it grows from version to version: names by older ones still hold
        case _:
            return before.sha256 == now.sha256


def _called(source: Source | None, settings: ScoreSettings) -> str:
    if source is None:
        return "none"
    limit = settings.limit if source.kind == "images" else 0
    return (source.path or source.name) + (f" (the first {limit:,})" if limit else "")


def _other(what: str, before: object, now: object) -> str:
    return f"{what} {before}, not {now}" if before != now else f"{what} {now} as it was then"
