"""What a number in the report is: its formula, how much it was measured on, and which file says it."""

from dataclasses import dataclass, replace

from engine.errors import counted
from engine.neurons.quantities import FIELDS


@dataclass(frozen=True)
class Explained:
    """What is told of a number on hover and focus."""

    title: str
    formula: str
    n: str = ""
    """What it was measured on; ``{support}`` stands for the images that fire the latent."""
    source: str = ""
    """File of the workspace, and the place in it."""


@dataclass(frozen=True)
class Number:
    """A number as it is shown. ``about``: which of the explanations is its own."""

    text: str
    about: str
    n: str = ""
    """Its own sample size, where that differs from the one explained."""


INTERVAL = "of the sampling of images: delete-one jackknife, laid on Fisher's scale"

FORMULAS = {
    "ms": Explained(
        "MS, monosemanticity",
        "sum of a_i a_j cos(e_i, e_j) over pairs of images / sum of a_i a_j; a: activations, min-max normalised, "
        "e: the judge's embeddings (arXiv 2504.02821)",
    ),
    "matched": Explained(
        "MS of the matched raw neuron",
        "MS of one raw coordinate of random sign, thresholded to fire on as many images as the latent: its control",
    ),
    "gain": Explained("gain", "MS - MS of the matched raw neuron: what the SAE adds to sparsity"),
    "low": Explained("lower end of the 95% interval of MS", INTERVAL),
    "high": Explained("upper end of the 95% interval of MS", INTERVAL),
    "half_width": Explained("±", f"half the 95% interval of MS, {INTERVAL}"),
    "support": Explained("images, support", "number of images on which the latent fires: normalised activation > 0"),
    "effective_support": Explained("effective support", "(sum of a)² / sum of a²"),
    "frequency": Explained("frequency", "images on which it fires / images"),
    "token_frequency": Explained("token frequency", "tokens on which it fires / scored tokens"),
    "maximum": Explained("maximum", "largest activation, pooled over an image's tokens"),
    "mean": Explained("mean activation", "mean over the images on which it fires, of the pooled activation"),
    "depth": Explained("depth", "mean length of the common taxonomy path over pairs of top images (arXiv 2504.02821)"),
    "group": Explained("Matryoshka group", "which slice of the nested dictionary the latent is in; 0 is the coarsest"),
    "class_share": Explained("class share", "top images of its commonest class / top images"),
    "activation": Explained("activation", "value of the latent on this image, pooled over its tokens"),
    "strongest": Explained("strongest patch", "largest value of the latent over the patches of this image"),
    "baseline": Explained("baseline", "mean cosine of the judge's embeddings over all pairs of images"),
    "beaten": Explained("share beaten", "latents with MS > MS of their matched raw neuron / latents with both"),
    "lift": Explained("lift", "mean MS of the latents - baseline"),
    "ms_mean": Explained("mean MS", "mean over the latents that have an MS"),
    "matched_mean": Explained("mean MS of the matched raw neurons", "mean over the latents that have both"),
    "raw_mean": Explained("mean MS of raw neurons", "mean over the coordinates of the activations as they are"),
    "alive": Explained("alive", "latents that fire on at least one scored image"),
    "score_l0": Explained("L0 on the scored tokens", "mean number of latents that fire on a token"),
    "fve": Explained("FVE, fraction of variance explained", "1 - sum of squared errors / sum of squared deviations"),
    "l0": Explained("L0", "mean number of latents that fire on a token"),
    "k_asked": Explained("k", "latents that the architecture keeps of each token, as it was asked"),
    "dead_scored": Explained("dead on the scored images", "latents that fire on none of them"),
    "dead": Explained("dead", "latents that fire on no held-out token / latents"),
    "dense": Explained("dense", "latents that fire on more than a tenth of the held-out tokens / latents"),
    "loss": Explained("loss", "training loss of the step, as its architecture defines it"),
    "count": Explained("number of latents", "counted"),
    "images": Explained("number of images", "counted"),
    "group_ms": Explained("mean MS of these latents", "mean over those that have an MS"),
    "group_matched": Explained("mean MS of their matched raw neurons", "mean over those that have one: the control"),
    "group_depth": Explained(
        "mean depth", "mean over its latents of the mean common taxonomy path of pairs of top images"
    ),
    "expected_depth": Explained("depth by chance", "expected common taxonomy path of two images drawn at random"),
    "rho": Explained("Spearman's rank correlation", "of group and depth over the latents; p: two-sided"),
    "auroc": Explained("AUROC", "probability that an image with the concept fires the latent more than one without"),
    "inserted": Explained(
        "inserted", "blank images whose whole answer is grammatical and names the concept / blank images"
    ),
    "suppressed": Explained(
        "suppressed", "images whose answer loses the word at 0 / images whose untouched answer has it"
    ),
    "peak": Explained("peak, strongest patch on the object", "its top images whose strongest patch lies on it / all"),
    "chance_peak": Explained("the same of a random patch", "patches of its top images that lie on the object / all"),
    "mass": Explained("map on the object", "share of the map's sum that lies on the object, mean over its top images"),
    "chance_mass": Explained("the same of an even map", "share of its top images that the object covers"),
    "mean_peak": Explained("strongest patch on the object", "mean over the latents of peak"),
    "mean_chance_peak": Explained("the same of a random patch", "mean over the latents: the control"),
    "mean_mass": Explained("map on the object", "mean over the latents of mass"),
    "mean_chance_mass": Explained("the same of an even map", "mean over the latents: the control"),
    "demo_peak": Explained("strongest patch on the object", "top images whose strongest patch lies on it / all"),
    "demo_mass": Explained("map on the object", "share of the map's sum that lies on the object, mean over top images"),
}
"""Of whatever the report shows, without where it comes from."""


def explanations(where: dict[str, tuple[str, str]]) -> dict[str, Explained]:
    """Those that are asked for in ``where``: sample size and source of each, by its key."""
    return {key: replace(_formula(key), n=n, source=source) for key, (n, source) in where.items()}


def _formula(key: str) -> Explained:
    if key in FORMULAS:
        return FORMULAS[key]
    return Explained(key.replace("_", " "), FIELDS[key].about if key in FIELDS else "as its name says")


def of_fields(images: int, source: str) -> dict[str, tuple[str, str]]:
    """Sample size and source of every field that a latent has. ``source``: the neurons file."""
    n = f"{counted(images, 'image')}, of which {{support}} fire it"
    return {field: (n, f"{source}: {_kept(quantity.name, bool(quantity.dtype))}") for field, quantity in FIELDS.items()}


def _kept(name: str, kept: bool) -> str:
    return f"latents/{name}" if kept else f"{name}, from others there"
