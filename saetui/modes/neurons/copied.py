"""What is copied of latents, to be pasted somewhere else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from saetui.formatting import number

if TYPE_CHECKING:
    from saetui.scores import Scores


def steering_command(sae: str, latent: int, root: Path) -> str:
    """What steers ``latent`` at twice its largest activation, from the shell that the workbench was started in."""
    here = [] if root.resolve() == Path.cwd() else ["--workspace", str(root.resolve())]
    return shlex.join(["saetui", "steer", sae, "--latent", f"{latent}=2x", *here])


def in_one_line(scores: Scores, latent: int) -> str:
    """A latent with its scores and top images."""
    neurons = scores.neurons
    support = neurons.summary.in_units(int(neurons.support[latent]))
    top = ", ".join(image.path for image in neurons.top(latent))
    return (
        f"{scores.sae} latent {latent}: {scores.name(latent)}; MS {number(float(neurons.ms[latent]))}, "
        f"matched raw {number(float(neurons.matched[latent]))}, {support}; "
        f"top images {top}"
    )
