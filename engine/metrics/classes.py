"""How a latent's activation is spread over the classes of the images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import sparse


def class_entropy(activations: sparse.csc_array, labels: Sequence[str | None]) -> Float[np.ndarray, " w"]:
    """``H = -sum_c p_c log2 p_c`` in bits, where ``p_c`` is the share of class c in a latent's sum of activations.

    0: it fires on one class; H: as if on ``2^H`` classes equally. Images without a class are left out; NaN where it
    fires on no other. The label entropy of Lim et al. (arXiv 2412.05276), who take the top images alone.

    ``activations`` (N images, w latents), sparse, none below 0; ``labels``: the class of each image.
    """
    known = np.flatnonzero([label is not None for label in labels])
    classes = np.unique([label for label in labels if label is not None], return_inverse=True)[1]
    ones = np.ones(len(known))
    members = sparse.csr_array((ones, (classes, known)), shape=(classes.max(initial=-1) + 1, len(labels)))
    mass = sparse.csc_array(members @ activations.astype(np.float64))
    latent = np.repeat(np.arange(mass.shape[1]), np.diff(mass.indptr))
    total = np.bincount(latent, mass.data, mass.shape[1])
    share = mass.data / total[latent]
    entropy = np.bincount(latent, -share * np.log2(share), mass.shape[1])
    return np.where(total > 0, entropy + 0.0, np.nan)
