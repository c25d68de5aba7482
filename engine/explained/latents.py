"""What is told of one latent, by the field of its filter where it has one."""

from engine.explained.explanation import PAPER, Explanation

_OF_MS = (
    "95 %, of the sampling of images: jackknife that leaves out one, with all its patches, less what it counts twice, "
    "Student's t, laid on Fisher's scale, by the variance of the values that it holds (Wilson)"
)
_OF_CROPS = "; pooling crop: over pairs of patches of two images, each judged by the crop around it"
_FIRE = "images that fire the latent; pooling crop: patches"
_TOP = "pairs of the latent's top images"
_MASKS = "top images whose objects are told"

LATENT: dict[str, Explanation] = {
    # Of one latent
    "ms": Explanation(
        title="MS, monosemanticity",
        formula="sum of a_i a_j cos(e_i, e_j) over pairs of images / sum of a_i a_j; a: activations, min-max "
        "normalised, "
        f"e: the judge's embeddings ({PAPER}){_OF_CROPS}",
        n=_FIRE,
        interval=_OF_MS,
        control="MS of the matched raw neuron, and the baseline",
        phrase="monosemanticity score",
        term="MS",
        sentence="MonoSemanticity: how alike the images are that fire a latent, weighted by how strongly; at most 1",
    ),
    "matched": Explanation(
        title="MS of the matched raw neuron",
        formula="MS of one raw coordinate of random sign, thresholded to fire on as many images as the latent: its "
        "control",
        n="as many images, or patches, as fire the latent",
        control="it is one",
        phrase="MS of the matched raw neuron",
        term="matched, raw",
        sentence="MS of the matched raw neuron: a coordinate of the encoder, thresholded to fire on as many images "
        "as a "
        "latent; its control",
    ),
    "gain": Explanation(
        title="gain",
        formula="MS - MS of the matched raw neuron: what the SAE adds to sparsity",
        n=_FIRE,
        control="0: no better than its matched neuron",
        phrase="MS above its matched raw neuron",
        term="gain",
        sentence="MS of a latent above that of its matched raw neuron",
    ),
    "low": Explanation(
        title="lower end of the 95% interval of MS",
        formula="of the sampling of images: delete-one jackknife, laid on Fisher's scale",
        n=_FIRE,
        interval=_OF_MS,
        control="MS of the matched raw neuron",
        phrase="lower end of the interval of MS",
    ),
    "high": Explanation(
        title="upper end of the 95% interval of MS",
        formula="of the sampling of images: delete-one jackknife, laid on Fisher's scale",
        n=_FIRE,
        interval=_OF_MS,
        control="MS of the matched raw neuron",
        phrase="upper end of the interval of MS",
    ),
    "half_width": Explanation(
        title="±",
        formula="half the 95% interval of MS, of the sampling of images: delete-one jackknife, laid on Fisher's scale",
        n=_FIRE,
        interval=_OF_MS,
        control="MS of the matched raw neuron",
        phrase="half the width of the interval of MS",
        term="±",
        sentence="half the 95 % interval of a latent's MS: how far it may be off, as few images fire it",
    ),
    "support": Explanation(
        title="images, support",
        formula="number of images on which the latent fires: normalised activation > 0; pooling crop: of patches",
        n="all scored images, or patches",
        phrase="images that fire it",
        term="n, support",
        sentence="number of images on which a latent fires; of groups and taxa, of latents with the score beside it",
    ),
    "effective_support": Explanation(
        title="effective support",
        formula="(sum of a)² / sum of a²",
        n=_FIRE,
        phrase="how many equal activations would carry as much",
        term="effective",
        sentence="how many equal activations would carry as much as a latent's: few where few images carry it",
    ),
    "frequency": Explanation(
        title="frequency",
        formula="images on which it fires / images; pooling crop: of whole images too, by all their patches",
        n="all scored images",
        phrase="share of images",
        term="freq, frequency",
        sentence="share of the images on which a latent fires",
    ),
    "token_frequency": Explanation(
        title="token frequency",
        formula="tokens on which it fires / scored tokens",
        n="all scored tokens",
        phrase="share of the scored tokens",
    ),
    "maximum": Explanation(
        title="maximum",
        formula="largest activation, pooled over an image's tokens",
        n="all scored images",
        phrase="largest activation",
        term="max, x max",
        sentence="the largest activation of a latent; a strength of 2x is twice that",
    ),
    "mean": Explanation(
        title="mean activation",
        formula="mean over the images on which it fires, of the pooled activation",
        n=_FIRE,
        phrase="mean activation over the images on which it fires",
    ),
    "distinct": Explanation(
        title="distinct top images",
        formula="top images whose cosine with every one above them that counts is at most .97 (Hartigan 1975: leaders)",
        n="its top images",
        control="the number of its top images",
        phrase="top images that are no copies of others",
    ),
    "depth": Explanation(
        title="depth",
        formula=f"mean length of the common taxonomy path over pairs of top images ({PAPER})",
        n=_TOP,
        control="the same of images drawn at random",
        phrase="taxonomy depth",
        term="depth",
        sentence="how many levels of the taxonomy the top images of a latent share, on average over their pairs",
    ),
    "group": Explanation(
        title="Matryoshka group",
        formula="which slice of the nested dictionary the latent is in; 0 is the coarsest",
        n="counted",
        phrase="Matryoshka group",
        term="group",
        sentence="one slice of a Matryoshka dictionary; 0 is the coarsest",
    ),
    "class_share": Explanation(
        title="class share",
        formula="top images of its commonest class / top images",
        n="its top images",
        phrase="share of its top images in their commonest class",
        term="class",
        sentence="the commonest class of a latent's top images, and its share of them",
    ),
    "peak": Explanation(
        title="peak, strongest patch on the object",
        formula="its top images whose strongest patch lies on it / all (pointing game, arXiv 1608.00507)",
        n=_MASKS,
        control="a random patch",
        phrase="share of top images whose strongest patch lies on its object",
        term="peak, rand",
        sentence="share of a latent's top images whose strongest patch lies on its object, where objects are told; "
        "that "
        "of a random patch",
    ),
    "chance_peak": Explanation(
        title="the same of a random patch",
        formula="patches of its top images that lie on the object / all",
        n=_MASKS,
        control="it is one",
        phrase="share of their patches that lie on it",
    ),
    "mass": Explanation(
        title="map on the object",
        formula="share of the map's sum that lies on the object, mean over its top images",
        n=_MASKS,
        control="an even map",
        phrase="share of its maps that lies on its object",
    ),
    "chance_mass": Explanation(
        title="the same of an even map",
        formula="share of its top images that the object covers",
        n=_MASKS,
        control="it is one",
        phrase="share of the top images that its object covers",
    ),
    "latent": Explanation(
        title="latent",
        formula="its number in the SAE's code, from 0",
        n="counted",
        phrase="number",
        term="latent, #",
        sentence="one coordinate of an SAE's code, by its number",
    ),
    "match": Explanation(
        title="match",
        formula="how well a search for text found it: 2 by its label, the share of its class, or the cosine of a "
        "near word",
        n="one latent",
    ),
    "activation": Explanation(
        title="activation",
        formula="value of the latent on this image, pooled over its tokens",
        n="one image",
        term="activation",
        sentence="how strongly a latent, or a coordinate of the encoder, fires on one token",
    ),
    "strongest": Explanation(
        title="strongest patch", formula="largest value of the latent over the patches of this image", n="one image"
    ),
    "fires": Explanation(
        title="fires",
        formula="activation of the latent here; of max: over its largest one",
        n="one image or patch",
        term="fires",
        sentence="activation of a latent on this image or patch; of max: as a share of its largest one",
    ),
    "cofiring": Explanation(
        title="co-firing",
        formula="images that fire both latents / images that fire either (Jaccard index)",
        n="all scored images",
        term="co-firing, cofire",
        sentence="share of images that fire both latents, of those that fire either (Jaccard index)",
    ),
    "cosine": Explanation(
        title="cosine",
        formula="<u, v> / |u| |v| of two decoder rows, or of a text and a latent's top images",
        n="one pair",
        term="cosine, near",
        sentence="cosine of two decoder directions, or of a text and a latent's top images",
    ),
}
