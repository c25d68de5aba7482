"""Models that stay loaded between two uses. A command uses them once, the model server again and again."""

from pathlib import Path
from typing import NamedTuple

import torch

from engine.models import load_encoder
from engine.models.encoder import VisionEncoder
from engine.models.hub import cached_folder
from engine.models.kept import Recent, free, stamps, weights_bytes
from engine.models.vlm import VLM, load_vlm
from engine.reporter import Reporter, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE


class LoadedSAE(NamedTuple):
    name: str
    sae: SAE
    sha256: str
    """Content hash of its weights, by which other artefacts name it."""


class ModelCache:
    """At most one vision-language model, one encoder and two SAEs, each loaded when it is first asked for.

    Files that changed since are loaded again. The methods raise the UserErrors of what they load.
    """

    def __init__(self) -> None:
        self.vlms: Recent[VLM] = Recent(1, free)
        self.encoders: Recent[VisionEncoder] = Recent(1, free)
        self.saes: Recent[LoadedSAE] = Recent(2, free)

    def vlm(self, spec: str, device: torch.device, dtype: str, reporter: Reporter) -> VLM:
        def load() -> VLM:
            with reporter.loading(f"the model {spec}", weights_bytes(spec)):
                return load_vlm(spec, device, dtype)

        return self.vlms.get((spec, str(device), dtype, stamps(spec)), load)

    def encoder(self, spec: str, device: torch.device, reporter: Reporter) -> VisionEncoder:
        def load() -> VisionEncoder:
            with reporter.loading(f"the encoder {spec}", weights_bytes(spec)):
                encoder = load_encoder(spec, device)
            for message in encoder.warnings:
                reporter.event(Warned(message))
            return encoder

        return self.encoders.get((spec, str(device), stamps(spec)), load)

    def sae(self, folder: Path, device: torch.device, reporter: Reporter) -> LoadedSAE:
        def load() -> LoadedSAE:
            with reporter.loading(f"the SAE {folder.name}", weights_bytes(str(folder))):
                sae = SAE.load(folder, device).eval()
                return LoadedSAE(folder.name, sae, weights_sha256(folder))

        return self.saes.get((str(folder), str(device), stamps(str(folder))), load)

    def weights(self, spec: str) -> int:
        """Bytes of the weights of a model; UserError for one of the hub that is not on this machine."""
        folder = cached_folder(spec) if spec.startswith("hf:") else None
        return weights_bytes(spec if folder is None else str(folder))

    def clear(self) -> None:
        """Drop everything, and give its memory back."""
        for kept in (self.vlms, self.encoders, self.saes):
            kept.clear()
