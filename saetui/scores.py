"""The scores of one SAE as the interface holds them: the neurons file, what a person wrote, small pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.files import Stamp, stamp
from engine.images.opening import placed
from engine.images.thumbnails import Thumbnails
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.quantities import KEPT
from engine.workspace import Workspace
from saetui.formatting import fit, literal

SHOWN = ("top_images", "top_activations", "histogram")  # beside one latent, with all that rows have


@dataclass(eq=False)
class Scores:
    """One neurons file, open."""

    path: Path
    neurons: Neurons
    labels: Labels
    thumbnails: Thumbnails
    stamp: Stamp | None

    @classmethod
    def open(cls, path: Path, workspace: Workspace) -> Scores:
        """Open ``path`` and read what a table needs, so that nothing waits for the disk later. Slow: for a thread.

        UserError: the file or the labels are damaged, or gone.
        """
        seen, neurons = stamp(path), Neurons.open(path)
        with refusing_damage(path):
            for quantity in KEPT.values():
                if quantity.field or quantity.name in SHOWN:
                    getattr(neurons, quantity.name)
            neurons.order()  # the words' index and the ranking by MS
            _ = neurons.images, neurons.w and neurons.names_of(0)
        labels = Labels.open(workspace.labels(neurons.summary.sae))
        pictures = Thumbnails(placed(neurons.summary.settings.images, workspace.root))
        return cls(path, neurons, labels, pictures, seen)

    @property
    def sae(self) -> str:
        return self.neurons.summary.sae

    @property
    def groups(self) -> int:
        """Number of Matryoshka groups."""
        return int(self.neurons.group.max()) + 1 if self.neurons.w else 0

    def name(self, latent: int, words: int = 3) -> str:
        """What a person calls the latent, else its nearest words."""
        return self.labels.text(latent) or " · ".join(self.neurons.names_of(latent)[:words])

    def listed(self, pairs: list[tuple[int, float]], room: int) -> str:
        """``1011 pencil (.43)  77 pen (.31)``: as many as fit into ``room`` characters."""
        shown = ""
        for latent, score in pairs:
            entry = f"{latent} {fit(literal(self.name(latent, 1)), 14)} ({score:.2f})".replace("0.", ".").replace(
                "  ", " "
            )
            if len(shown) + len(entry) + 2 > room:
                break
            shown += ("  " if shown else "") + entry
        return shown or "–"


def scored(workspace: Workspace) -> list[Path]:
    """Every neurons file of the workspace, the newest first."""
    folder = workspace.root / "neurons"
    try:
        found = [(path.stat().st_mtime, path) for path in folder.glob("*.h5")]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]
