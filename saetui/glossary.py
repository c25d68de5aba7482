"""The terms that the screens use, each in a sentence: what help shows below the keys, and what it searches."""

from engine.explained import EXPLAINED

_WORDS = {
    "attached": "the SAE is in the model's path and no latent is changed: the control of steering",
    "dose": "the strength of one latent, turned up step by step while the rest stays",
    "encoder": "a vision model that turns an image into activations",
    "expansion": "latents of an SAE per dimension of the activations",
    "frozen": "of an SAE: its decoder or encoder stayed at its random start; a control, trained on the same batches",
    "here": "of a node of the taxonomy: latents that belong to this node itself, not to one below it",
    "hook point": "where in an encoder activations are taken: layer:22, mlp:22, last",
    "judge": "the independent encoder whose embeddings say whether images are alike",
    "left": "time until it is done, at the pace of now",
    "marked ★": "latents that a person keeps an eye on",
    "names": "what a person calls a latent, else the words nearest to its top images",
    "preview": "top images of a few latents while a training goes on",
    "rack": "the latents that Steer turns, with their strengths",
    "recipe": "the settings of a steered answer, kept under a name",
    "run": "a directory under runs/ and the work that fills it; J lists them",
    "SAE": "sparse autoencoder: a dictionary of latents of which few fire on each token",
    "state": "of a run: starting, running, paused, done, stopped, failed, died; of a store: ready, writing, how far",
    "store": "activations on disk: rows are tokens (or images), with the size in bytes",
    "strength": "what a latent is set to, or by how much it is changed, in its own units",
    "taxonomy": "the tree of the images' classes, as kingdom ... genus, species",
    "token": "one position of an encoder's sequence: a patch, CLS or a register; of an answer: a piece of text",
    "tok/s": "tokens that a training sees in a second",
    "top images": "the images on which a latent fires most",
    "workspace": "the directory that holds all of this",
}
QUANTITIES = {one.term: one for one in EXPLAINED.values() if one.term}
"""Terms of what is measured, of which more is told."""


def _letters(term: str) -> tuple[bool, str]:
    first = term.partition(",")[0].casefold()
    return first[0].isalpha(), "".join(filter(str.isalnum, first))


TERMS = dict(
    sorted(
        {**_WORDS, **{term: one.sentence for term, one in QUANTITIES.items()}}.items(),
        key=lambda item: _letters(item[0]),
    )
)
"""By the term as it stands on the screens; of several names the first is the usual one."""
