"""How much of its dictionary an SAE has in common with others, as those trained with other seeds.

Latent by latent in ``stability/<name>.json``, from which figures can be drawn; in sum as the result of the command.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.activations.store import Store
from engine.config import StabilitySettings
from engine.errors import UserError
from engine.files import check_target
from engine.links import check_own
from engine.metrics.results import Interval
from engine.metrics.stability import Compared, Nearest, compared, random_directions
from engine.models.device import pick_device
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.asked import check_alike, check_several, check_width
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.sae.results import ComparedPair, ComparedSAE, StabilityMeasured
from engine.sae.stability_file import read_stability, write_stability
from engine.sae.state import read_training
from engine.settings import check
from engine.workspace import Provenance, Source, Workspace, stability_path, versions

SAMPLE = 131_072  # rows on which a latent must fire to count as alive
_MOST_VALUES = 1 << 26  # latents that are dense in memory at a time: 256 MB
_DIGITS = 6  # of a cosine in the file


@dataclass(frozen=True)
class _Dictionary:
    """The latents of an SAE that are compared."""

    about: ComparedSAE
    latents: Int[np.ndarray, " n"]
    """Their numbers."""
    decoder: Float[Tensor, "n d"]


def stability(settings: StabilitySettings, workspace: Workspace, reporter: Reporter | None = None) -> StabilityMeasured:
    """Compare the decoders of all pairs of SAEs (engine.metrics.stability), with directions drawn at random beside.

    With ``alive_on``, latents that fire on none of up to ``SAMPLE`` of its rows, evenly spaced, are left out: what
    never learned anything is near its start, and nowhere in the others. What is there of the same is returned.

    UserError: fewer than two SAEs, or of activations that are not the same; one without such latents.
    """
    reporter = reporter or Reporter()
    check(settings)
    device = pick_device(settings.device)
    folders = [workspace.existing("saes", one) for one in settings.saes]
    check_several(folders)
    check_alike(folders)
    path = stability_path(settings, workspace)
    check_own(path)
    check_target(path)
    store = Store.open(workspace.existing("activations", settings.alive_on)) if settings.alive_on else None
    sources = [Source("sae", folder.name, str(folder), weights_sha256(folder)) for folder in folders]
    if store is not None:
        sources.append(Source("activations", store.path.name, str(store.path), store.sha256))
    if before := _measured_already(path, settings, sources):
        reporter.event(StageBegan("nothing to do: they are compared"))
        return before
    reporter.event(StageBegan("read the SAEs"))
    found = [_read(folder, store, device, reporter) for folder in folders]
    _warn_of_seeds(folders, [one.about for one in found], reporter)
    reporter.event(StageBegan("compare"))
    pairs = list(itertools.combinations(found, 2))
    summaries, files = [], []
    for number, (first, second) in enumerate(pairs):
        result = compared(first.decoder, second.decoder)
        control = compared(
            _random(first.decoder, settings.seed, number, 0), _random(second.decoder, settings.seed, number, 1)
        )
        names = {"first": first.about.name, "second": second.about.name}
        found_here: dict[str, Any] = names | vars(result.summary(control))
        summaries.append(ComparedPair(**found_here))
        files.append(names | _arrays(result, control, first.latents, second.latents))
        reporter.progress(number + 1, len(pairs), "pairs")
        reporter.check()
    measured = StabilityMeasured(
        path=str(path),
        saes=tuple(one.about for one in found),
        pairs=tuple(summaries),
        max_cosine=_over_pairs(mean for one in summaries for mean in (one.there, one.back)),
        matched=_over_pairs(one.matched for one in summaries),
        settings=settings,
        provenance=Provenance(tuple(sources), versions()),
    )
    write_stability(measured, files, workspace)
    return measured


def _measured_already(path: Path, settings: StabilitySettings, sources: list[Source]) -> StabilityMeasured | None:
    """What is in ``path``, if it was made from the same SAEs with the same seed."""
    try:
        found = read_stability(path)
    except (UserError, OSError):  # it is written anew
        return None
    if found.settings is None or found.provenance is None or found.settings.seed != settings.seed:
        return None
    same = [one.content[::2] for one in found.provenance.made_from] == [one.content[::2] for one in sources]
    return replace(found, made=False) if same else None


def _over_pairs(means: Iterable[Interval]) -> float:
    return float(np.mean([one.mean for one in means if one.mean is not None]))


def _read(folder: Path, store: Store | None, device: torch.device, reporter: Reporter) -> _Dictionary:
    sae = SAE.load(folder, device)
    latents = np.arange(sae.config.w)
    if store is not None:
        check_width(store.path, store.d, folder.name, sae.config.d)
        latents = np.flatnonzero(_alive(sae, store, reporter))
        if not len(latents):
            raise UserError(
                f"No latent of {folder.name} fires on {store.path}: leave --alive-on out, or train it longer."
            )
    training = read_training(folder)
    about = ComparedSAE(
        name=folder.name,
        sha256=weights_sha256(folder),
        w=sae.config.w,
        compared=len(latents),
        seed=training.settings.seed if training else None,
    )
    return _Dictionary(about, latents, sae.W_dec.detach()[torch.from_numpy(latents).to(device)])


@torch.no_grad()
def _alive(sae: SAE, store: Store, reporter: Reporter) -> np.ndarray:
    """Which latents fire on the rows of ``store`` that are looked at."""
    rows = np.unique(np.linspace(0, store.rows - 1, min(SAMPLE, store.rows)).astype(np.int64))
    alive = torch.zeros(sae.config.w, dtype=torch.bool, device=sae.W_enc.device)
    step = max(1, min(4096, _MOST_VALUES // sae.config.w))
    for start in range(0, len(rows), step):
        x = torch.from_numpy(store.take(rows[start : start + step])).to(alive.device)
        alive |= (sae.encode(x) > 0).any(0)
        reporter.progress(min(start + step, len(rows)), len(rows), "rows")
        reporter.check()
    return alive.cpu().numpy()


def _random(decoder: Float[Tensor, "n d"], *seed: int) -> Float[Tensor, "n d"]:
    return random_directions(*decoder.shape, *seed).to(decoder.device)


def _warn_of_seeds(folders: list[Path], saes: list[ComparedSAE], reporter: Reporter) -> None:
    known = [one for one in saes if one.seed is not None]
    for first, second in itertools.combinations(known, 2):
        if (first.seed, first.w) == (second.seed, second.w) and first.sha256 != second.sha256:
            reporter.event(
                Warned(
                    f"{first.name} and {second.name} began alike, with seed {first.seed}: what has not moved since is "
                    "in both."
                )
            )


def _arrays(result: Compared, control: Compared, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Latents by their numbers in their SAEs."""
    pairs = result.matching
    return {
        "there": _nearest(result.there, first, second),
        "back": _nearest(result.back, second, first),
        "matched": {
            "first": first[pairs.first].tolist(),
            "second": second[pairs.second].tolist(),
            "cosine": _rounded(pairs.cosine),
        },
        "random": {
            "there": _rounded(control.there.cosine),
            "back": _rounded(control.back.cosine),
            "matched": _rounded(control.matching.cosine),
        },
    }


def _nearest(found: Nearest, own: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    return {"latent": own.tolist(), "nearest": others[found.latent].tolist(), "cosine": _rounded(found.cosine)}


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
