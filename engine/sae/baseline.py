"""SAEs of directions that need no training, which every command reads: what a trained one must be better than.

With the rows v_j of a decoder of unit directions (engine.sae.directions) and the mean m of a sample of activations:

    z = relu((x - m) @ W_dec^T),  a = g * z where z is kept, else 0,  x_hat = a @ W_dec + m

Kept are the k largest of a row (``topk``), or what exceeds the one threshold above which the sample has k latents a row
(``batchtopk``): as sparse as an SAE with that k. One gain g, the least-squares one of the sample,
``sum <x - m, x_hat> / sum |x_hat|^2`` with g = 1, keeps directions that overlap from adding up to too much; no score of
a latent depends on it.
"""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from engine.activations.loader import SAMPLE, Loader
from engine.activations.store import Store
from engine.config import BaselineSettings, Directions
from engine.errors import UserError
from engine.files import check_target, lock
from engine.links import check_own
from engine.metrics.stability import random_directions
from engine.models.device import pick_device
from engine.reporter import Reporter, StageBegan
from engine.sae.architectures.topk import keep_largest
from engine.sae.asked import check_baseline_free, latents_of
from engine.sae.config import WEIGHTS, DirectionsMeasured, SAEConfig, fitting, read_config, weights_sha256
from engine.sae.directions import centroids, principal, unit
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from engine.sae.results import BaselineMade, HeldOutMeasurement
from engine.settings import check
from engine.workspace import Provenance, Source, Workspace, versions

_BATCH = 4096  # rows that are encoded together
_MOST_VALUES = 1 << 26  # latents of rows of the sample that are held together: 256 MB


def baseline(settings: BaselineSettings, workspace: Workspace, reporter: Reporter | None = None) -> BaselineMade:
    """Write the SAE ``settings.name``, and measure it on the images that a training of this seed and holdout holds out.

    What is there of the same settings is returned. UserError: more latents than there are principal components, or
    another SAE of that name.
    """
    reporter = reporter or Reporter()
    check(settings)
    store = Store.open(workspace.existing("activations", settings.activations))
    check_own(folder := workspace.sae(settings.name))
    w = latents_of(settings, store.d)
    fitting(settings.k, w)
    device = pick_device(settings.device)
    source = Source("activations", store.path.name, str(store.path), store.sha256)
    config = SAEConfig(
        arch=settings.arch,
        d=store.d,
        w=w,
        k=settings.k,
        directions=settings.of,
        model=store.manifest.model.spec,
        model_sha256=store.manifest.model.sha256,
        hook=store.manifest.hook,
        tokens=store.manifest.tokens,
        transparency=store.manifest.transparency,
        provenance=Provenance((source,), versions()),
    )
    check_baseline_free(folder, config, settings)
    if (before := _measured_already(folder)) is not None:
        reporter.event(StageBegan("nothing to do: it is there"))
        return _made(folder, settings, config, before, made=False)
    store.check(reporter)
    loader = Loader(store, _BATCH, settings.seed, settings.holdout)
    reporter.event(StageBegan("find directions"))
    sae = made_of(loader.sample(SAMPLE), config, settings.seed).to(device)
    reporter.check()
    reporter.event(StageBegan("measure"))
    measured = HeldOut.of(loader, "", workspace).measure(sae)
    with lock(folder):
        check_baseline_free(folder, config, settings)
        check_target(folder / WEIGHTS)
        sae.config = replace(
            config, measured=DirectionsMeasured(seed=settings.seed, holdout=settings.holdout, held_out=measured)
        )
        sae.save(folder)
    return _made(folder, settings, config, measured, made=True)


def _measured_already(folder: Path) -> HeldOutMeasurement | None:
    """What the SAE in ``folder`` was measured to be; None where there is none that is whole."""
    try:
        measured = read_config(folder).measured
        weights_sha256(folder)
    except UserError:  # it is made anew
        return None
    return measured.held_out if measured else None


def _made(
    folder: Path, settings: BaselineSettings, config: SAEConfig, measured: HeldOutMeasurement, made: bool
) -> BaselineMade:
    return BaselineMade(
        name=folder.name, path=str(folder), directions=settings.of, arch=settings.arch, d=config.d, w=config.w,
        k=settings.k, made=made, **vars(measured),
    )  # fmt: skip


@torch.no_grad()
def made_of(x: Float[Tensor, "n d"], config: SAEConfig, seed: int) -> SAE:
    """The SAE that ``config`` describes, of the directions of the sample ``x``."""
    mean = x.double().mean(0).float()
    rows = x - mean
    W_dec = _directions(rows, config.directions, config.w, seed)
    some = rows[:: max(1, -(-len(rows) * config.w // _MOST_VALUES))]
    z = torch.relu(some @ W_dec.T)
    if config.arch == "topk":
        threshold, a = None, keep_largest(z, config.k)
    else:
        threshold = _threshold(z, config.k)
        a = z * (z > threshold)
    x_hat = (a @ W_dec).double()
    square = float(x_hat.pow(2).sum())
    gain = float((some.double() * x_hat).sum()) / square if square else 1.0
    weights = {"W_enc": gain * W_dec.T, "b_enc": torch.zeros(config.w), "W_dec": W_dec, "b_dec": mean}
    return SAE.of(config, weights | ({} if threshold is None else {"threshold": (gain * threshold).expand(config.w)}))


def _directions(rows: Float[Tensor, "n d"], of: Directions | None, w: int, seed: int) -> Float[Tensor, "w d"]:
    match of:
        case "pca":
            return torch.from_numpy(principal(rows.numpy(), w))
        case "kmeans":
            return torch.from_numpy(unit(centroids(rows.numpy(), w, seed)))
    return random_directions(w, rows.shape[1], seed)


def _threshold(z: Float[Tensor, "n w"], k: int) -> Float[Tensor, ""]:
    """Halfway between the (k n)-th largest value and the next: k latents a row exceed it, or all that are positive."""
    above = k * len(z) + 1
    return z.flatten().topk(above).values[-2:].mean() if above <= z.numel() else z.new_zeros(())
