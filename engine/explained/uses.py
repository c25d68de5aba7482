"""What is told of what latents do: of concepts, people and steering, and beside the paper."""

from engine.explained.explanation import PAPER, Explanation

_STUDENTISED = "bootstrap-t (Efron 1982), no wider than Hoeffding's"
_BOOTSTRAP = f"95 %, over latents: {_STUDENTISED}"
_CONCEPTS = "95 %, percentiles of a bootstrap over the images of the second half and, of means, over the concepts"
_RANDOM = "matched raw neurons, random directions, and the same latents with shuffled labels"
_STEERED = (
    "the model untouched, the SAE attached, a random latent, a random direction of equal norm, and DiffMean, by itself "
    "and as far as the latent"
)
_RECOVERED = "recovered: (spliced - ablated) / (untouched - ablated)"
_SPLICED = (
    f"95 %, over the units of n: {_STUDENTISED}; of what is lost and gained unit by unit, of what is recovered that of "
    "the linearised ratio; wide where units are few and one is unlike the others"
)
_SPLICED_KL = f"{_SPLICED}, as no value is too large for a KL"
_IN_PLACE = "the model untouched, and the mean activation in place (ablated)"
_PEOPLE = "pairs of latents of which people chose one"

TESTED: dict[str, Explanation] = {
    # Of concepts
    "auroc": Explanation(
        title="AUROC",
        formula="probability that an image with the concept fires the latent more than one without",
        n="images of the half on which the latent was not chosen; means over concepts",
        interval=_CONCEPTS,
        control=_RANDOM,
    ),
    "found_auroc": Explanation(
        title="AUROC of the best latent",
        formula="probability that an image with the concept fires the latent more than one without",
        n="test images",
        control="one half: a latent that says nothing of it",
    ),
    "ap": Explanation(
        title="AP, average precision",
        formula="mean precision over the recall that each threshold adds",
        n="images of the half on which the latent was not chosen",
        interval=_CONCEPTS,
        control=_RANDOM,
    ),
    "f1": Explanation(
        title="F1",
        formula="2 precision recall / (precision + recall), at the threshold that is best on the other half",
        n="images of the half on which the latent was not chosen",
        interval=_CONCEPTS,
        control=_RANDOM,
    ),
    "probes": Explanation(
        title="probes",
        formula="AUROC of a logistic regression on the k latents whose means differ most (arXiv 2305.01610)",
        n="images of the half on which it was not fitted",
        control=_RANDOM,
    ),
    "covered": Explanation(
        title="covered",
        formula="concepts whose best latent has an AUROC of the threshold or more / concepts",
        n="concepts",
        control=_RANDOM,
    ),
    "above": Explanation(
        title="split",
        formula="latents a concept with an AUROC of the threshold or more, on the second half",
        n="concepts",
        control=_RANDOM,
    ),
    "precise": Explanation(
        title="precise",
        formula="latents that fire on 3 images or more of which four in five have the concept",
        n="images of the second half",
        control=_RANDOM,
    ),
    "missed": Explanation(
        title="missed",
        formula="images with the concept on which the best latent does not fire / images with it",
        n="images of the second half with the concept",
        control=_RANDOM,
    ),
    "absorbed": Explanation(
        title="absorbed",
        formula="images with the concept that fire a more specific, precise latent in place of the best one / images "
        "with "
        "it (after arXiv 2409.14507)",
        n="images of the second half with the concept",
        control=_RANDOM,
    ),
    "concept_control": Explanation(
        title="AUROC of a control",
        formula="AUROC of the best of as many matched raw neurons, of random directions, or of the latents with "
        "shuffled "
        "labels",
        n="images of the half on which it was not chosen",
        control="it is one",
    ),
    "concepts": Explanation(
        title="concepts", formula="counted; left out: with too few images, or without others, in a half", n="counted"
    ),
    # Of people
    "agreement": Explanation(
        title="agreement",
        formula="pairs in which the latent with the larger score is people's choice, equal ones half / pairs: "
        "weighted over "
        f"pairs, or the mean over bins of distance ({PAPER})",
        n=_PEOPLE,
        interval="95 %, over pairs: Wilson's of a share (1927), percentiles of a bootstrap of the mean over bins",
        control="one half: a coin; published: MS by DINOv2",
    ),
    "judges_agree": Explanation(
        title="agree, kappa",
        formula="share p of cases in which two judges say the same; kappa = (p - e) / (1 - e), e: by chance (Cohen "
        "1960)",
        n="cases that both have judged",
        control="kappa 0: as two that judge on their own",
    ),
    # Of steering
    "one_word": Explanation(
        title="one word",
        formula="cosine of the text embedding of the answer's first word and the mean image embedding of the "
        "latent's top "
        f"images ({PAPER}); ahead: the steered less that, latent by latent",
        n="latents",
        interval=_BOOTSTRAP,
        control=f"{_STEERED}; true and random label as bounds",
    ),
    "texts": Explanation(
        title="insertion, suppression",
        formula="answers in which the concept appeared (or is gone), the prompt was followed (or all else was kept), "
        "and "
        f"both / answers, mean over latents ({PAPER}); ahead: the steered less that, latent by latent",
        n="latents, each with the mean of its answers",
        interval=_BOOTSTRAP,
        control=_STEERED,
    ),
    "steered_groups": Explanation(
        title="groups",
        formula="gain in one word, and shares of answers with both, over the latents of one Matryoshka group",
        n="latents of the group",
        interval=_BOOTSTRAP,
        control="the other groups",
    ),
    "steered_latents": Explanation(
        title="latents",
        formula="of each latent: gain of the one word above the untouched model, shares of its answers with both",
        n="its answers",
        control="the untouched model",
    ),
    "doses": Explanation(
        title="recommended strength",
        formula="the largest gain in the one word, above the SAE attached, of those that cost at most so many nats; "
        "maxima: over the latent's largest activation",
        n="the prompts of one latent",
        control="the SAE attached",
    ),
    "drawn_from": Explanation(
        title="drawn from", formula="latents with a concept, and enough images that fire them", n="counted"
    ),
    "kl": Explanation(
        title="KL, damage",
        formula="KL divergence of the next token from the untouched model, in nats, mean over the prompts",
        n="prompts",
        control="the SAE attached",
        term="KL",
        sentence="damage: how far the steered model's next words are from the untouched one's, in nats; 0 is none",
    ),
    "concept_cosine": Explanation(
        title="concept",
        formula="cosine of an answer and the latent's top images, in the space of their text tower",
        n="one answer",
        control="the SAE attached",
        term="concept",
        sentence="cosine of an answer and the latent's top images in the space of their text tower",
    ),
    "inserted": Explanation(
        title="inserted",
        formula="blank images whose whole answer is grammatical and names the concept / blank images",
        n="blank images",
        control="the untouched model",
    ),
    "named_by_control": Explanation(
        title="the same of a control",
        formula="of random live latents at the same multiple of their maximum, or of the SAE attached, none changed",
        n="as of what is steered",
        control="it is one",
    ),
    "two_named": Explanation(
        title="beside",
        formula="answers that name an object, the kind inserted in patches beside it, and nothing else / answers",
        n="images of an object, over the kinds",
        control="the same with random live latents (random)",
    ),
    "suppressed": Explanation(
        title="suppressed",
        formula="images whose answer loses the word at 0 / images whose untouched answer has it",
        n="images whose untouched answer has the word",
        control="the untouched model",
    ),
    # Of a model with the SAE in place
    "spliced_cosine": Explanation(
        title="cosine of the embedding",
        formula=f"mean cosine of an image's embedding and that of the untouched encoder; {_RECOVERED}",
        n="images that could be read",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    "right_class": Explanation(
        title="right class",
        formula="images whose class is the text with the largest cosine (zero-shot, arXiv 2103.00020) / images; "
        f"{_RECOVERED}",
        n="images with a class",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    "same_class": Explanation(
        title="same class",
        formula=f"images whose predicted class is that of the untouched encoder / images; {_RECOVERED}",
        n="images with a class",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    "text_found": Explanation(
        title="text at 1, at 5",
        formula=f"images of which one of the nearest 1 or 5 captions is theirs / images; {_RECOVERED}",
        n="images with a caption",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    "image_found": Explanation(
        title="image at 1, at 5",
        formula=f"captions of which one of the nearest 1 or 5 images is theirs / captions; {_RECOVERED}",
        n="images, each with the mean of its captions",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    "spliced_kl": Explanation(
        title="KL of answers",
        formula="KL divergence of the next token from the untouched model, in nats, mean over its own greedy answer; "
        f"{_RECOVERED}",
        n="answers, one an image",
        interval=_SPLICED_KL,
        control=_IN_PLACE,
    ),
    "same_token": Explanation(
        title="same token",
        formula=f"tokens of the untouched answer that stay the likeliest / tokens, by answer; {_RECOVERED}",
        n="answers, one an image",
        interval=_SPLICED,
        control=_IN_PLACE,
    ),
    # Of the paper
    "published": Explanation(title="published", formula=f"as {PAPER} prints it", n="as published there"),
    "ours": Explanation(
        title="ours",
        formula="mean over the latents of the SAEs of this workspace that are of the cell, as the table's title says",
        n="in the row n",
        interval="95 %, over latents, the SAEs as they are: of MS, mean ± Student's t x standard error; of steering, "
        "bootstrap-t; of several SAEs root of the sum of the squares of theirs / their number",
        control="of MS, raw neurons that fire on as many images; of depth, random images; of steering, the SAE "
        "attached",
    ),
    "difference": Explanation(title="difference", formula="ours - published", n="in the row n", control="0"),
    "control": Explanation(
        title="control",
        formula="of MS, raw neurons that fire on as many images; of depth, random images; of steering, the SAE "
        "attached "
        "and no latent changed",
        n="as ours",
        control="it is one",
    ),
    "paper_twin": Explanation(
        title="twin",
        formula="FVE or MS of the best frozen twin: the same training but for a decoder or encoder left at its random "
        "start (arXiv 2602.14111), on the same rows, or the same images by the same judge",
        n="as ours",
        control="it is one",
    ),
}
