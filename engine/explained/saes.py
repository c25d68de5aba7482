"""What is told of an SAE: of all its latents together, of its training, and of dictionaries beside one another."""

from engine.explained.explanation import PAPER, Explanation

_LATENTS = "latents with an MS"
_HELD_OUT = "the rows that it is measured on: held out of training, or those of the store that is named"
_OF_MEANS = "95 %, over latents: mean ± Student's t x standard error"
_COSINES = _OF_MEANS

SAE: dict[str, Explanation] = {
    # Of all latents together
    "baseline": Explanation(
        title="baseline",
        formula="mean cosine of the judge's embeddings over all pairs of images; pooling crop: of crops of two images",
        n="all pairs of images",
        control="it is one: MS of what fires on all images alike",
    ),
    "beaten": Explanation(
        title="share beaten",
        formula="latents with MS > MS of their matched raw neuron / latents with both",
        n="latents for which both have an MS",
        interval="95 %, over latents: Wilson's of a share (1927)",
        control="one half: no better than sparsity alone",
        term="beaten",
        sentence="share of the latents whose MS is higher than that of their matched raw neuron; half: sparsity alone",
    ),
    "lift": Explanation(
        title="lift",
        formula="mean MS of the latents - baseline",
        n=_LATENTS,
        interval=f"{_OF_MEANS}, the baseline as it is",
        control="0: as alike as any images",
    ),
    "lift_ratio": Explanation(
        title="lift of a latent",
        formula="MS / baseline",
        n="images that fire the latent",
        control="1: as alike as any images",
        term="lift",
        sentence="MS of a latent over the mean cosine of all pairs of images: how many times more alike its images are",
    ),
    "ms_mean": Explanation(
        title="mean MS",
        formula="mean over the latents that have an MS; best, worst: the largest and smallest of them; std: their "
        "standard deviation (n - 1)",
        n=_LATENTS,
        interval=f"{_OF_MEANS}; of each latent, in the neurons file (low, high)",
        control="matched raw neurons, raw neurons, and the baseline",
    ),
    "matched_mean": Explanation(
        title="mean MS of the matched raw neurons",
        formula="mean over the latents that have both, std: their standard deviation (n - 1); share beaten: latents "
        "with MS > MS of theirs / latents with both",
        n="latents for which both have an MS",
        interval=f"{_OF_MEANS}; of the share Wilson's (1927)",
        control="it is one",
    ),
    "raw_mean": Explanation(
        title="mean MS of raw neurons",
        formula="mean over the coordinates of the activations as they are",
        n="coordinates with an MS",
        interval="95 %, over neurons: mean ± Student's t x standard error",
        control="it is one",
    ),
    "raw_relu": Explanation(
        title="mean MS of rectified raw neurons",
        formula="mean over relu(v) and relu(-v) of every coordinate v of the activations",
        n="coordinates of either sign with an MS",
        interval="95 %, over neurons: mean ± Student's t x standard error",
        control="it is one",
    ),
    "median_support": Explanation(
        title="median support", formula="median of the support over the latents that fire", n="latents that fire"
    ),
    "alive": Explanation(title="alive", formula="latents that fire on at least one scored image", n="all latents"),
    "dead_scored": Explanation(
        title="dead on the scored images", formula="latents that fire on none of them", n="all latents"
    ),
    "score_l0": Explanation(
        title="L0 on the scored tokens", formula="mean number of latents that fire on a token", n="the scored tokens"
    ),
    "score_dense": Explanation(
        title="dense on the scored tokens",
        formula="latents that fire on more than a tenth of them / latents",
        n="all latents",
    ),
    "median_frequency": Explanation(
        title="median frequency",
        formula="median of the share of tokens on which a latent fires",
        n="latents that fire",
    ),
    "copies": Explanation(
        title="copies",
        formula="latents of whose top images, two or more, at least half are copies of others (distinct)",
        n="latents with top images",
    ),
    "named": Explanation(title="named", formula="latents with a nearest word", n="latents with top images"),
    "uniqueness": Explanation(
        title="uniqueness",
        formula="Jaccard index |A ∩ B| / |A ∪ B| of the top images of two latents: pairs with one above 0, above one "
        "half "
        f"({PAPER})",
        n="pairs of latents with top images",
    ),
    "undefined": Explanation(title="undefined", formula="columns that fire on too few rows for an MS", n="all columns"),
    "column_mean": Explanation(
        title="mean MS",
        formula="mean over the columns that have an MS; best, worst: the largest and smallest of them; std: their "
        "standard deviation (n - 1)",
        n="columns with an MS",
        interval="95 %, over columns: mean ± Student's t x standard error",
        control="the baseline",
    ),
    # Of Matryoshka groups
    "group_ms": Explanation(
        title="mean MS of these latents",
        formula="mean over those that have an MS",
        n="latents of the group with an MS",
        interval=_OF_MEANS,
        control="the mean MS of their matched raw neurons",
    ),
    "group_std": Explanation(
        title="standard deviation of MS",
        formula="root of the sum of squared deviations from their mean / (n - 1)",
        n="latents of the group with an MS",
        control="the same of their matched raw neurons",
        term="std",
        sentence="standard deviation of MS over the latents of a group",
    ),
    "group_matched": Explanation(
        title="mean MS of their matched raw neurons",
        formula="mean over those of the latents with an MS that have one: the control",
        n="latents of the group for which both have an MS",
        interval=_OF_MEANS,
        control="it is one",
    ),
    "group_depth": Explanation(
        title="mean depth",
        formula="mean over its latents of the mean common taxonomy path of pairs of top images",
        n="latents of the group with all top images",
        interval="95 %, over latents: mean ± Student's t x standard error",
        control="as many sets of images drawn at random",
    ),
    "group_rounded": Explanation(
        title="mean rounded depth",
        formula=f"mean of the depths, each rounded half to even ({PAPER}); mode: the most frequent of these",
        n="latents of the group with all top images",
        control="as many sets of images drawn at random",
    ),
    "group_latents": Explanation(
        title="latents of the group",
        formula="counted; left out: with fewer than all top images; ms_latents: with an MS",
        n="counted",
    ),
    "expected_depth": Explanation(
        title="depth by chance",
        formula="expected common taxonomy path of two images drawn at random",
        n="all pairs of images",
        interval="quantiles .025 and .975 of sets of images drawn at random",
        control="it is one",
    ),
    "random_depth": Explanation(
        title="depths by chance",
        formula="quantiles .025 and .975 of the mean depth of as many sets of images drawn at random",
        n="sets of images drawn at random",
        control="it is one",
    ),
    "rho": Explanation(
        title="Spearman's rank correlation",
        formula="of group and depth over the latents; p: two-sided",
        n="latents with all top images",
        interval="p, two-sided, of no correlation",
        control="0: depth does not rise from group to group",
    ),
    # Of a training
    "fve": Explanation(
        title="FVE, fraction of variance explained",
        formula="1 - sum of squared errors / sum of squared deviations",
        n=_HELD_OUT,
        control="0: the mean of all rows; a frozen twin, or saetui baseline",
        term="FVE",
        sentence="fraction of variance explained: 1 - squared error / variance of the activations; 1 is perfect",
    ),
    "fve_batch": Explanation(
        title="FVE by batch",
        formula="FVE of each batch about its own mean, averaged over batches (R² of other code)",
        n=_HELD_OUT,
        control="0: the mean of the batch",
    ),
    "fve_without_outliers": Explanation(
        title="FVE without outliers",
        formula="FVE of the rows that are no longer than ten median ones, about their own mean",
        n="held-out rows that are no outliers",
        control="FVE of all rows",
    ),
    "fve_scaled": Explanation(
        title="FVE with that factor",
        formula="FVE where the inputs are divided by the factor by which they seem to have been in training",
        n="rows of the store",
        control="FVE as it is",
    ),
    "scale": Explanation(
        title="scale", formula="factor by which its inputs seem to have been divided in training", n="rows of the store"
    ),
    "outliers": Explanation(title="outliers", formula="rows longer than ten median ones / rows", n=_HELD_OUT),
    "outlier_variance": Explanation(
        title="variance of outliers",
        formula="their squared deviations from the mean of all rows / those of all rows",
        n=_HELD_OUT,
    ),
    "l0": Explanation(
        title="L0",
        formula="mean number of latents that fire on a token",
        n=_HELD_OUT,
        control="k, where the architecture keeps so many",
        term="L0",
        sentence="mean number of latents that fire on a token",
    ),
    "reconstruction_cosine": Explanation(
        title="cosine of reconstruction",
        formula="mean cosine of an activation and what the SAE makes of it",
        n=_HELD_OUT,
    ),
    "k_asked": Explanation(
        title="k", formula="latents that the architecture keeps of each token, as it was asked", n="as asked"
    ),
    "theta": Explanation(
        title="threshold",
        formula="value that a latent must exceed to fire, in raw units, mean over latents",
        n="latents",
    ),
    "dead": Explanation(
        title="dead",
        formula="latents that fire on no held-out token / latents",
        n=_HELD_OUT,
        term="dead",
        sentence="of a latent: has not fired for long in training, or fires on no scored image",
    ),
    "dense": Explanation(
        title="dense",
        formula="latents that fire on more than a tenth of the held-out tokens / latents",
        n=_HELD_OUT,
        term="dense",
        sentence="of a latent: fires on more than a tenth of the tokens",
    ),
    "loss": Explanation(
        title="loss", formula="training loss of the step, as its architecture defines it", n="the batch of the step"
    ),
    "ms_held_out": Explanation(
        title="mean MS on held-out images",
        formula="mean MS of the latents, of the largest activation over an image's tokens",
        n="latents with an MS on the held-out images",
        interval=_OF_MEANS,
        control="matched raw neurons (ms_matched)",
    ),
    "ms_matched": Explanation(
        title="mean MS of the matched raw neurons on held-out images",
        formula="mean over raw neurons, thresholded to fire on as many images as the latents",
        n="latents for which both have an MS on the held-out images; of many only some are looked at",
        interval=_OF_MEANS,
        control="it is one",
    ),
    "ms_beaten": Explanation(
        title="share beaten on held-out images",
        formula="latents with MS > MS of their matched raw neuron / latents with both",
        n="latents for which both have an MS on the held-out images; of many only some are looked at",
        control="one half: no better than sparsity alone",
    ),
    "count": Explanation(title="number of latents", formula="counted", n="counted"),
    "images": Explanation(title="number of images", formula="counted", n="counted"),
    "nonzero": Explanation(title="nonzero", formula="values above 0", n="all rows and latents"),
    # Of an SAE beside what it is held against
    "twin_ms": Explanation(
        title="mean MS beside that of twins and directions",
        formula="frozen twin: the same training but for a decoder or encoder left at its random start "
        "(arXiv 2602.14111); directions: PCA, k-means or random ones of the same store, as many and as sparse; ahead: "
        "mean MS of the SAE - theirs, of raw neurons latent by latent",
        n="latents with an MS; ahead: the fewer of both",
        interval="95 %, over latents: mean ± Student's t x standard error; ahead: Welch's (1947), since latents of "
        "twins are no pairs",
        control="ahead 0: the SAE has learned nothing that MS tells",
    ),
    "twin_auroc": Explanation(
        title="AUROC beside that of twins and directions",
        formula="mean over concepts of the AUROC of the best latent, in the same tests; ahead: that of the SAE - "
        "theirs, concept by concept",
        n="concepts; ahead: those that both have",
        interval="95 %, percentiles of a bootstrap over images and concepts; ahead: over concepts, mean ± Student's t "
        "x standard error",
        control="ahead 0: the SAE has learned nothing that these concepts tell",
    ),
    "twin_fve": Explanation(
        title="FVE of its best frozen twin",
        formula="the largest FVE of those that were trained as it was, but for a decoder or encoder left at its random "
        "start (arXiv 2602.14111)",
        n=_HELD_OUT,
        control="it is one",
        term="twin",
        sentence="FVE of its best frozen twin: trained the same, but for a decoder or encoder left at its random start",
    ),
    # Of dictionaries
    "max_cosine": Explanation(
        title="max cosine",
        formula="mean over latents i of the largest <u_i, v_j>, of decoder rows as unit vectors (arXiv 2502.12892)",
        n="latents that are compared",
        interval=_COSINES,
        control="as many directions drawn at random",
    ),
    "matched_cosine": Explanation(
        title="matched",
        formula="mean of <u_i, v_m(i)> under the one-to-one matching m with the largest sum (Hungarian method); >= "
        "where it "
        "is a lower bound",
        n="matched pairs of latents",
        interval=_COSINES,
        control="as many directions drawn at random",
    ),
    "random_cosine": Explanation(
        title="random",
        formula="the same of directions drawn at random, as many",
        n="as many directions",
        interval=_COSINES,
        control="it is one",
    ),
    # Of maps
    "mean_peak": Explanation(
        title="strongest patch on the object",
        formula="mean over the latents of peak",
        n="latents on whose top images objects are told",
        control="a random patch",
    ),
    "mean_chance_peak": Explanation(
        title="the same of a random patch",
        formula="mean over the latents: the control",
        n="the same",
        control="it is one",
    ),
    "mean_mass": Explanation(
        title="map on the object",
        formula="mean over the latents of mass",
        n="latents on whose top images objects are told",
        control="an even map",
    ),
    "mean_chance_mass": Explanation(
        title="the same of an even map", formula="mean over the latents: the control", n="the same", control="it is one"
    ),
    "demo_peak": Explanation(
        title="strongest patch on the object",
        formula="top images whose strongest patch lies on it / all",
        n="top images",
        control="a random patch",
    ),
    "demo_mass": Explanation(
        title="map on the object",
        formula="share of the map's sum that lies on the object, mean over top images",
        n="top images",
        control="an even map",
    ),
}
