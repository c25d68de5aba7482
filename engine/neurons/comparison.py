"""The latents of two SAEs beside each other, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.neurons.file import Neurons


def counterparts(
    ours: Neurons,
    theirs: Neurons,
    latents: Sequence[int],
    labels: Mapping[int, str],
    their_labels: Mapping[int, str],
) -> list[dict[str, Any]]:
    """A record for each of the ``latents`` of ``ours``: what is known of it, and of the latent of ``theirs`` with the
    most similar top images (:meth:`Neurons.match`) under ``jaccard`` and names that begin with ``counterpart``, which
    are missing where no latent there has any of them. Labels: what a person calls latents, by their numbers."""
    found = []
    for latent in latents:
        record = {"sae": ours.summary.sae} | ours.row(latent, labels).to_json()
        record |= {"counterpart_sae": theirs.summary.sae, "jaccard": None, "counterpart": None}
        for other, jaccard in ours.match(theirs, latent, 1):
            known = theirs.row(other, their_labels).to_json()
            record |= {"jaccard": jaccard, "counterpart": known.pop("latent")}
            record |= {f"counterpart_{name}": value for name, value in known.items()}
        found.append(record)
    return found
