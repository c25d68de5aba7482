"""The scores of one SAE as the workbench holds them: the neurons file, labels and thumbnails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.files import Stamp, stamp
from engine.images.thumbnails import Thumbnails
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.quantities import KEPT
from engine.workspace import Workspace
from saetui.formatting import fit, literal, number

SHOWN = ("top_images", "top_activations", "histogram")  # beside one latent, with the values that rows have


@dataclass(eq=False)
class Scores:
    """An open neurons file, with the labels of its SAE and thumbnails of its images."""

    path: Path
    neurons: Neurons
    labels: Labels
    thumbnails: Thumbnails
    stamp: Stamp | None

    @classmethod
    def open(cls, path: Path, workspace: Workspace) -> Scores:
        """Open ``path`` and read what the table needs, so that nothing reads the disk later. Slow: for a thread.

        Raises UserError when the file or the labels are missing or damaged.
        """
        seen, neurons = stamp(path), Neurons.open(path)
        with refusing_damage(path):
            for quantity in KEPT.values():
                if not quantity.shape or quantity.name in SHOWN:
                    getattr(neurons, quantity.name)
            neurons.listed()  # the words' index, the ranking by gain, the copies
            _ = neurons.images, neurons.w and neurons.names_of(0)
        labels = Labels.open(workspace.labels(neurons.summary.sae), neurons.sae_sha256)
        pictures = Thumbnails(neurons.summary.settings.images)
        return cls(path, neurons, labels, pictures, seen)

    @property
    def sae(self) -> str:
        return self.neurons.summary.sae

    @property
    def groups(self) -> int:
        """Number of Matryoshka groups."""
        return int(self.neurons.group.max()) + 1 if self.neurons.w else 0

    def name(self, latent: int, words: int = 3, first: str = "") -> str:
        """The label of the latent, else its nearest words, behind ``first`` if there is one."""
        names = dict.fromkeys([first, *self.neurons.names_of(latent)] if first else self.neurons.names_of(latent))
        return self.labels.text(latent) or " · ".join(list(names)[:words])

    def listed(self, pairs: list[tuple[int, float]], room: int) -> str:
        """Latents with scores as text, ``1011 pencil (.43)  77 pen (.31)``: as many as fit into ``room`` characters.

        ``none`` where there are none, an ellipsis where there is no room for one.
        """
        shown = ""
        for latent, score in pairs:
            called = fit(literal(self.name(latent, 1)), 14)
            entry = f"{latent} {called} ({number(score)})" if called else f"{latent} ({number(score)})"
            if len(shown) + len(entry) + 2 > room:
                break
            shown += ("  " if shown else "") + entry
        return shown or ("…" if pairs else "none")
