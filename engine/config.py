"""The settings of each stage, for the command line, TOML files and the interface: one frozen dataclass each."""

from dataclasses import dataclass
from typing import Literal

from engine.settings import (
    DEVICE,
    NOT_NEGATIVE,
    POSITIVE,
    THREADS,
    Place,
    Rule,
    at_least,
    none_or,
    places_of,
    setting,
    share,
)

Dtype = Literal["float16", "bfloat16", "float32"]
ArchitectureName = Literal["relu", "topk", "batchtopk", "matryoshka-batchtopk", "jumprelu", "gated", "archetypal"]
Frozen = Literal["none", "decoder", "soft-decoder", "encoder"]
Directions = Literal["pca", "kmeans", "random"]
InterventionMode = Literal["clamp", "add", "scale", "ablate"]
Pooling = Literal["max", "mean", "cls"]
Units = Literal["max", "mean", "cls", "crop"]
"""What scores are of: images, their tokens pooled, or patches with what is around them."""
Transparency = Literal["white", "uncovered"]
STEERED_PARTS = ("word", "insertion", "suppression", "dose")
JUDGES = ("auto", "text", "demo", "chat", "endpoint")

IMAGE_SOURCES = "a folder, a text or CSV list, .tar shards or .zip archives"
"""Each kind of engine.images.sources in words, for help and for questions."""


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """Run images through a vision encoder and keep activations as an HDF5 store."""

    model: str = setting("Encoder: hf:REPO, openclip:ARCH/TAG, a local directory or file, or demo.", place="model")
    images: str = setting(f"Images: {IMAGE_SOURCES}; globs and {{000..127}} work.", place="path")
    name: str = setting("Name of the store in the workspace.")
    at: tuple[str, ...] = setting(
        "Hook points: layer:N, mlp:N, attn:N (0-based) or last, which cannot steer; repeatable.", ("last",)
    )
    for_steering: str = setting(
        "Vision-language model to steer later: takes the hook point that its language half reads, instead of --at.",
        "",
        place="model",
    )
    tokens: str = setting("Which tokens to keep: cls, mean, all, patches or random:K.", "all")
    transparency: Transparency = setting(
        "What shows through transparent images: white, or the colour stored below, uncovered as by convert('RGB') of "
        "Pillow and open_clip. Scoring and steering keep to it.",
        "white",
    )
    dtype: Dtype = setting("How activations are stored.", "float16")
    precision: Dtype = setting("Precision of the model's weights and forward pass.", "float32")
    batch_size: int = setting("Images per forward pass.", 64, must=at_least(1))
    shard_rows: int = setting("Maximum rows of a shard file.", 262_144, must=at_least(1))
    limit: int = setting("Use only the first this many images (0: all).", 0, must=none_or(1, "for all images"))
    workers: int = setting("Threads that read and decode images.", 4, must=THREADS)
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of the token choice random:K.", 0, must=NOT_NEGATIVE)
    embeddings: bool = setting("Keep the store under embeddings/ (one row per image, what the judge sees).", False)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Train a sparse autoencoder on an activation store."""

    activations: str = setting("Name or path of the activation store.", positional=True, place="artefact")
    name: str = setting("Name of the SAE in the workspace.")
    arch: ArchitectureName = setting("Sparsifier and loss.", "matryoshka-batchtopk")
    expansion: float = setting("Expansion factor: latents per dimension of the activations.", 8.0, must=POSITIVE)
    k: int = setting("Active latents per token (topk family).", 20, must=at_least(1))
    groups: tuple[float, ...] = setting(
        "Matryoshka prefixes, cumulative: shares of the dictionary, or counts of latents.",
        (0.0625, 0.1875, 0.4375, 1.0),
    )
    matryoshka_loss: Literal["sum", "reference"] = setting(
        "Sum over prefixes as the paper prints it, or divided by the squared number of groups as its code does.",
        "sum",
    )
    points: int = setting(
        "Centroids that latents are mixtures of (archetypal; 0: one a latent, 4,096 at most).", 0, must=NOT_NEGATIVE
    )
    delta: float = setting(
        "How far latents may be from mixtures, in typical activations (archetypal).", 0.1, must=NOT_NEGATIVE
    )
    frozen: Frozen = setting(
        "Control: leave decoder or encoder at its random start, or decoder rows near it (soft-decoder).", "none"
    )
    steps: int = setting(
        "Training steps (0: 20 passes over the rows, but 1,000 steps at least and 100,000 at most).",
        0,
        must=none_or(1, "for as many as the rows are worth"),
    )
    batch_size: int = setting("Tokens per step.", 4096, must=at_least(1))
    lr: float = setting("Learning rate (0: 2e-4 / sqrt(latents / 2^14)).", 0.0, must=NOT_NEGATIVE)
    warmup: int = setting(
        "Steps over which the learning rate rises; at most a tenth of all steps.", 1000, must=NOT_NEGATIVE
    )
    decay: float = setting(
        "Share of the steps, at the end, over which the learning rate falls to 0.", 0.0, must=share(below=False)
    )
    l1: float = setting("Weight of the L1 penalty (relu, gated).", 1e-3, must=NOT_NEGATIVE)
    l0: float = setting("Weight of the L0 penalty (jumprelu).", 1e-3, must=NOT_NEGATIVE)
    bandwidth: float = setting("Width of the kernel that gives thresholds a gradient (jumprelu).", 1e-3, must=POSITIVE)
    aux: float = setting(
        "Weight of the auxiliary loss that revives dead latents (topk family).", 0.03, must=NOT_NEGATIVE
    )
    mono: float = setting(
        "Weight of MonoLoss, 1 - mean MS of latents on the images of a batch (0: none).", 0.0, must=NOT_NEGATIVE
    )
    mono_embeddings: str = setting("Embedding store for MonoLoss; judge by another one.", "", place="artefact")
    dead_after: int = setting(
        "A latent that has not fired for this many tokens is dead; at most a fortieth of all tokens.",
        10_000_000,
        must=at_least(1),
    )
    holdout: float = setting(
        "Share of images held out for FVE, L0, dead and dense share.", 0.05, must=share(below=True)
    )
    max_norm: float = setting(
        "Train without rows longer than this many median norms of the store (0: with all).",
        0.0,
        must=none_or(1, "to leave no row out"),
    )
    eval_every: int = setting("Steps between measurements on held-out rows.", 500, must=at_least(1))
    checkpoint_every: int = setting("Steps between checkpoints.", 1000, must=at_least(1))
    keep_state: bool = setting(
        "Keep what a longer training (more --steps) goes on from, three times the size of the SAE; or drop it.",
        True,
        flag="--keep-state/--drop-state",
    )
    embeddings: str = setting(
        "Embedding store for the MS of held-out images while training (empty: none).", "", place="artefact"
    )
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of initialisation and order.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Score every latent of an SAE on a set of images."""

    sae: str = setting("Name or path of the SAE.", positional=True, place="artefact")
    images: str = setting(f"Images to score on: {IMAGE_SOURCES}.", place="path")
    embed_with: str = setting("Independent encoder that judges similarity (its last hook point).", place="model")
    encoder: str = setting("Encoder the SAE reads (empty: the one it was trained on).", "", place="model")
    name: str = setting("Name of the image set in the result's file name (empty: from --images).", "")
    pooling: Units = setting(
        "How a latent's tokens become one value per image; crop: MS is of patches, and the judge sees the crop around "
        "each.",
        "max",
    )
    crops: int = setting("Patches of each image that crop scores, drawn at random by --seed.", 4, must=at_least(1))
    crop_side: float = setting(
        "Side of a crop, as a share of the shorter side of the picture.", 0.25, must=share(below=False)
    )
    vocabulary: str = setting(
        "File of words to name latents with, one per line (empty: the built-in list and the images' classes).",
        "",
        place="path",
    )
    objects: str = setting(
        "Where objects are, to tell whether maps lie on them: masks under the images' names (0: none, each other value "
        "a kind of object), or a .csv of path,left,top,width,height and perhaps name (empty: not told).",
        "",
        place="path",
    )
    taxonomy: str = setting(
        "Taxonomy of the classes: .csv of child,parent (empty: what folder names spell).", "", place="path"
    )
    wordnet: bool = setting("Take the taxonomy of the classes from WordNet, where nltk has it.", False)
    min_support: int = setting("Latents that fire on fewer images have no MS.", 2, must=at_least(2))
    top: int = setting("Top images per latent.", 16, must=at_least(2))
    batch_size: int = setting("Images per forward pass.", 64, must=at_least(1))
    workers: int = setting("Threads that read and decode images.", 4, must=THREADS)
    limit: int = setting("Use only the first this many images (0: all).", 0, must=none_or(1, "for all images"))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of the matched control, of random image sets and of crops.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class ScoresSettings(ScoreSettings):
    """Score every latent of one SAE, or of several in one pass, on a set of images, by one judge or several."""

    sae: tuple[str, ...] = setting(  # type: ignore[assignment]  # several where the single form has one; see asked.apart
        "Names or paths of SAEs: those of one encoder share its pass over the images.",
        positional=True,
        place="artefact",
    )
    embed_with: tuple[str, ...] = setting(  # type: ignore[assignment]  # as sae
        "Independent encoder that judges similarity (its last hook point); repeatable: each of several judges has a "
        "file of its own, with its name.",
        place="model",
    )


@dataclass(frozen=True, kw_only=True)
class ConceptsSettings:
    """Test how well the latents of an SAE tell labelled concepts, beside controls."""

    sae: str = setting("Name or path of the SAE.", positional=True, place="artefact")
    images: str = setting(f"Labelled images: {IMAGE_SOURCES}.", place="path")
    labels: str = setting(
        "Table with more labels: .csv or .jsonl with a column path; each other column with words, lists of words or "
        "yes and no gives concepts (empty: classes and taxonomy alone).",
        "",
        place="path",
    )
    taxonomy: str = setting(
        "Taxonomy of the classes: .csv of child,parent (empty: what folder names spell).", "", place="path"
    )
    wordnet: bool = setting("Take the taxonomy of the classes from WordNet, where nltk has it.", False)
    encoder: str = setting("Encoder the SAE reads (empty: the one it was trained on).", "", place="model")
    name: str = setting("Name of the image set in the result's file name (empty: from --images).", "")
    pooling: Pooling = setting("How a latent's tokens become one value per image.", "max")
    min_images: int = setting("Concepts with fewer images in a half are left out.", 5, must=at_least(2))
    threshold: float = setting("AUROC from which a latent counts as one for the concept.", 0.9, must=share(below=False))
    batch_size: int = setting("Images per forward pass.", 64, must=at_least(1))
    workers: int = setting("Threads that read and decode images.", 4, must=THREADS)
    limit: int = setting("Use only the first this many images (0: all).", 0, must=none_or(1, "for all images"))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of the halves of the images and of the controls.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class FidelitySettings:
    """Measure what a model still does when the SAE's reconstruction stands in place of the activations."""

    sae: tuple[str, ...] = setting(
        "Names or paths of SAEs; one of saetui baseline --of random is a second control.",
        positional=True,
        place="artefact",
    )
    images: str = setting(f"Images, in folders of classes to tell these: {IMAGE_SOURCES}.", place="path")
    vlm: str = setting(
        "LLaVA-class model that is asked about them with the SAE attached: hf:REPO, a local directory, or demo (empty: "
        "none).",
        "",
        place="model",
    )
    encoder: str = setting("Encoder the SAE reads (empty: the one it was trained on).", "", place="model")
    name: str = setting("Name of the image set in the result's file name (empty: from --images).", "")
    splice: Literal["own", "cls", "patches", "all"] = setting(
        "Tokens whose activations are replaced: own means those that the SAE was trained on.", "own"
    )
    template: str = setting(
        "What is said of a class, {} its name.",
        "a photo of a {}",
        must=Rule(lambda text: text.count("{}") == 1, "put {} once, where the name of the class comes"),
    )
    captions: str = setting(
        "Captions of the images, to find one by the other: .csv, .tsv or .jsonl with columns path and caption.",
        "",
        place="path",
    )
    prompt: str = setting("What to ask the model.", "Describe this image.")
    asked: int = setting(
        "Images that it is asked about, evenly spread over all (0: all).", 64, must=none_or(1, "for all images")
    )
    max_new_tokens: int = setting("Maximum length of an answer.", 24, must=at_least(1))
    batch_size: int = setting("Images per forward pass.", 64, must=at_least(1))
    workers: int = setting("Threads that read and decode images.", 4, must=THREADS)
    limit: int = setting("Use only the first this many images (0: all).", 0, must=none_or(1, "for all images"))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = setting("Precision of the model.", "auto")
    seed: int = setting("Seed of the intervals.", 0, must=NOT_NEGATIVE)
    replace: bool = setting("Replace a result of other settings that is there.", False, flag="--replace")


@dataclass(frozen=True, kw_only=True)
class SteerSettings:
    """Ask a vision-language model the same question untouched, with the SAE attached, and steered."""

    sae: str = setting("Name or path of the SAE (empty: the recipe's).", "", positional=True, place="artefact")
    vlm: str = setting(
        "LLaVA-class model: hf:REPO, a local directory, or demo (empty: the recipe's).", "", place="model"
    )
    prompt: str = setting("What to ask.", "Describe this image.")
    image: str = setting(
        "Image file; SOURCE::PATH for one of an image source; blank or blank:COLOUR.", "blank", place="image"
    )
    latent: tuple[str, ...] = setting(
        "LATENT=VALUE, repeatable; a value like 2x is a multiple of the latent's largest activation.", ()
    )
    mode: InterventionMode = setting("What VALUE does: set (clamp), add, scale, or ablate to 0.", "clamp")
    keep_error: bool = setting(
        "Add the SAE's reconstruction error back (v + decode(a') - decode(a)) instead of dropping it.",
        False,
        flag="--keep-error/--drop-error",
    )
    tokens: str = setting("Visual tokens to steer: all, or indices like 0,3,5-9.", "all")
    max_new_tokens: int = setting("Maximum length of an answer.", 24, must=at_least(1))
    recipe: str = setting("Recipe to replay (its settings first, flags over them).", "", place="artefact")
    save_recipe: str = setting("Save these settings as a recipe of this name.", "")
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = setting("Precision of the model.", "auto")


@dataclass(frozen=True, kw_only=True)
class SteerabilitySettings:
    """Measure how well the latents of an SAE steer a vision-language model, beside their controls."""

    sae: str = setting("Name or path of the SAE.", positional=True, place="artefact")
    vlm: str = setting("LLaVA-class model: hf:REPO, a local directory, or demo.", place="model")
    on: str = setting("Image set, where the SAE was scored on several.", "")
    name: str = setting("Name of the model in the result's folder (empty: from --vlm).", "")
    part: tuple[str, ...] = setting("What to measure: word, insertion, suppression, dose; repeatable.", STEERED_PARTS)
    latent: tuple[str, ...] = setting("LATENT or LATENT=CONCEPT, repeatable (empty: drawn, with label or name).", ())
    count: int = setting("Latents to draw.", 32, must=at_least(1))
    draw: Literal["random", "group"] = setting("Draw from all alike, or as many from each Matryoshka group.", "random")
    min_support: int = setting(
        "Draw no latent that fires on fewer images (scored by crops: patches).", 16, must=at_least(1)
    )
    strength: str = setting("Clamp to this for insertion: 2x is twice the latent's maximum, 100 a value.", "2x")
    suppress_to: str = setting("Clamp to this for suppression.", "0")
    keep_error: bool = setting("Keep the SAE's reconstruction error.", False, flag="--keep-error/--drop-error")
    prompts: str = setting("File of prompts, one a line (empty: the paper's ten, or the demo's).", "", place="path")
    image: str = setting("Image of word, insertion and dose; or blank, blank:COLOUR.", "blank", place="image")
    max_new_tokens: int = setting("Maximum length of an answer to one of the prompts.", 100, must=at_least(1))
    pictures: int = setting("Random images of which one word is asked as well (0: none).", 32, must=NOT_NEGATIVE)
    few: int = setting("The first latents that are tried on these.", 4, must=at_least(1))
    doses: tuple[float, ...] = setting("Strengths of the dose curve, in maxima.", (0.25, 0.5, 1.0, 2.0, 4.0, 8.0))
    most_damage: float = setting("KL of the next token, in nats, that a dose may cost.", 1.0, must=POSITIVE)
    save_recipes: str = setting("Keep each latent's recommended strength as recipe NAME-LATENT.", "")
    judge: tuple[str, ...] = setting(
        "Who judges texts: text, demo (exact, of the demo), chat or endpoint; two are compared; auto: text or demo.",
        ("auto",),
    )
    compare_with: str = setting("CLIP-like encoder of words and images (empty: the SAE's).", "", place="model")
    text_model: str = setting("Of judge text: model of texts (empty: --compare-with).", "", place="model")
    chat_model: str = setting("Of judge chat: instruction model, hf:REPO or a directory.", "", place="model")
    batch_size: int = setting("Answers at once.", 32, must=at_least(1))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = setting("Precision of the model.", "auto")
    seed: int = setting("Seed of the draws, of the controls and of the intervals.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class MsSettings:
    """Monosemanticity score of any matrix of activations against any embeddings."""

    activations: str = setting(
        "Images x latents: .npy, .npz (scipy sparse), .h5, .pt, .safetensors.", positional=True, place="file"
    )
    embeddings: str = setting("Images x D, in the same order and formats.", positional=True, place="file")
    min_support: int = setting("Columns that fire on fewer images have no MS.", 2, must=at_least(2))


@dataclass(frozen=True, kw_only=True)
class AgreementSettings:
    """Say how scores of latents agree with what people chose in the benchmark of arXiv 2504.02821."""

    folder: str = setting(
        "Folder of the benchmark: pairs.csv, and for MS activations.csv; top16_images.csv too, if it is there.",
        positional=True,
        place="path",
    )
    embeddings: str = setting(
        "Embeddings of its images, in their order, to score its latents: a store, or a matrix file as for ms (empty: "
        "only the scores in pairs.csv).",
        "",
        place="file",
    )
    scores: str = setting("Other scores of its latents: .csv with columns k and score (empty: none).", "", place="path")
    first: str = setting(
        "The number in R_user that means that people chose k_x, where it does not say x or y, or the latent.", ""
    )


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """Latents of any activations, as a sparse matrix."""

    sae: str = setting("Name or path of the SAE.", positional=True, place="artefact")
    activations: str = setting("Activation store, or a matrix file as for ms.", positional=True, place="file")
    out: str = setting("File to write: .npz (scipy CSR, rows x latents).", place="path")
    batch_size: int = setting("Rows per step.", 4096, must=at_least(1))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """Make an SAE of directions that need no training, with which trained ones are compared."""

    activations: str = setting("Name or path of the activation store.", positional=True, place="artefact")
    of: Directions = setting("Its directions: principal components and their negatives, centroids, or random ones.")
    name: str = setting("Name of the SAE in the workspace.")
    arch: Literal["batchtopk", "topk"] = setting(
        "What keeps it sparse: one threshold, k latents a token on average, or the k largest.", "batchtopk", own=True
    )
    expansion: float = setting(
        "Latents per dimension of the activations (0: 2 of pca, which has no more, else 8).",
        0.0,
        must=NOT_NEGATIVE,
        own=True,
    )
    k: int = setting("Active latents per token.", 20, must=at_least(1))
    holdout: float = setting("Share of images held out to measure it on.", 0.05, must=share(below=True))
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of split, sample, centroids and random directions.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class StabilitySettings:
    """Say how much of their dictionaries SAEs have in common, as those of several seeds."""

    saes: tuple[str, ...] = setting("Names or paths of two or more SAEs.", positional=True, place="artefact")
    name: str = setting("Name of the result in the workspace (empty: from those of the SAEs).", "", own=True)
    alive_on: str = setting("Activation store: leave out what fires on none of its rows.", "", place="artefact")
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto", must=DEVICE)
    seed: int = setting("Seed of the random directions.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class RecogniseSettings:
    """Say what is at a place: format, sizes, and what an import would still ask. Nothing is written."""

    source: str = setting(
        "Folder or file of an SAE (dictionary_learning, SAELens, sparsify, saev, overcomplete; hf:REPO[/FOLDER]), or "
        "of activations (.npy, .npz, .pt, .safetensors, Arrow, shards of saev; globs work).",
        positional=True,
        place="model",
    )
    format: str = setting("The format, where several fit.", "")
    model: str = setting("Encoder that it reads, where the files do not say.", "", place="model", own=True)
    hook: str = setting("Hook point that it reads, where the files do not say.", "")
    tokens: str = setting("Tokens that it was trained on, or that were kept, where the files do not say.", "")
    images: str = setting(f"Of activations: their images, in their order: {IMAGE_SOURCES}.", "", place="path", own=True)
    tokens_per_image: int = setting(
        "Of activations: rows of each image, where neither files nor images tell.", 0, must=NOT_NEGATIVE
    )
    transparency: Transparency = setting(
        "Of activations: what shows through transparent images, when they are scored.", "white"
    )
    scale: float = setting(
        "Factor by which its inputs were divided in training, where that is not in its weights.", 0.0, must=NOT_NEGATIVE
    )
    arch: Literal["auto", "relu", "topk", "batchtopk"] = setting(
        "What chooses its latents, where the files do not say.", "auto"
    )
    k: int = setting("Active latents per token, where the files do not say.", 0, must=NOT_NEGATIVE)
    threshold: float = setting("Threshold of a batchtopk SAE, where the files do not say.", -1.0)


@dataclass(frozen=True, kw_only=True)
class ImportSettings(RecogniseSettings):
    """Bring an SAE or activations of another tool into the workspace."""

    name: str = setting("Name of the SAE or store in the workspace.")
    check: str = setting("Of an SAE: activation store to measure it on: FVE, L0, dead latents.", "", place="artefact")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write an SAE or an activation store in the format of another tool, or an SAE as a folder for the hub."""

    sae: str = setting("Name or path of the SAE or store.", positional=True, place="artefact")
    to: str = setting(
        "Of an SAE: saetui, dictionary_learning, saelens, sparsify, saev or overcomplete; of a store: npy, safetensors "
        "or saev.",
        "",
    )
    out: str = setting("Folder to write; it must not be there, or be empty.", place="path")
    hub_folder: bool = setting(
        "With a model card, ready to upload: no paths of this machine in it.", False, flag="--hub-folder"
    )


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Run the stages of a plan, skipping those whose results exist."""

    plan: str = setting(
        "TOML file with a table of settings for each stage, as [[extract]], [[train]], [[score]], or a plan that is "
        "brought: paper, paper-demo, paper-encoders, paper-released.",
        positional=True,
        place="file",
    )
    input: tuple[str, ...] = setting("An input that the plan names, as NAME=VALUE.", (), place="input")


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """Check that every byte of an activation store, an SAE, scores or another result is as it was written."""

    store: str = setting("Name or path of the store, SAE, scores or other result.", positional=True, place="artefact")
    repair: bool = setting("Make damaged and missing shards anew, to the same bytes.", False, flag="--repair")


@dataclass(frozen=True, kw_only=True)
class RelinkSettings:
    """Tell the workspace that images, models or artefacts were moved: rewrite where its files say that they are."""

    old: str = setting("Where they were.", positional=True)
    new: str = setting("Where they are now.", positional=True)


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """Draw pictures of the demo's world into class folders, with a labels.jsonl that says what is on them."""

    images: str = setting("Folder to draw into.", positional=True, place="path")
    pictures: int = setting("How many.", 1000, must=at_least(1))
    seed: int = setting("Seed of what is drawn.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Run the whole loop on drawn images and the shipped models."""

    pictures: int = setting("Drawn images to extract from and train on.", 4000, must=at_least(1))
    steps: int = setting("Training steps of the SAE.", 1200, must=at_least(1))
    seed: int = setting("Seed of the drawn images, the SAE and the controls.", 0, must=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Write one page about an SAE, for a colleague: it opens from disk in any browser, without a network."""

    sae: str = setting("Name or path of the SAE, or path of a neurons file.", positional=True, place="artefact")
    on: str = setting("Image set, where the SAE was scored on several.", "")
    only: Literal["all", "marked", "labelled"] = setting("Which latents are in its gallery.", "all")
    filter: str = setting("Of these, those that saetui neurons --search would list: 'ms>.5 freq<1% pencil'.", "")
    sort: str = setting("Their order, as saetui neurons --sort (empty: by what they have over their control).", "")
    top: int = setting("The first this many of them (0: all).", 2000, must=none_or(1, "for all"))
    pictures: int = setting("Top images of each.", 8, must=Rule(lambda value: 0 <= value <= 64, "give 0 to 64"))
    answers: str = setting(
        "File of answers that the workbench has kept, or none (empty: those of this workspace).", "", place="path"
    )
    out: str = setting("File to write (empty: report-SAE.html in the workspace).", "", place="path")
    replace: bool = setting("Replace a report that is there.", False, flag="--replace")


@dataclass(frozen=True, kw_only=True)
class PaperSettings:
    """Tell what the SAEs of this workspace score beside the published tables of arXiv 2504.02821, cell by cell."""

    on: str = setting("Image set, where an SAE was scored on several.", "")
    plan: str = setting(
        "Plan whose [paper] table says which layers and K stand for the published ones (empty: of the plans with one "
        "that was run last in this workspace; without any, the same ones).",
        "",
        place="file",
    )


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """Draw a figure for a paper from results, as SVG, PDF or PNG."""

    kind: Literal["ms", "reconstruction", "hierarchy", "top-images", "stability", "dose"] = setting(
        "What it shows.", positional=True
    )
    sae: tuple[str, ...] = setting(
        "Names or paths of SAEs, or paths of neurons files; of stability its results (none: all of the workspace).",
        (),
        positional=True,
        place="artefact",
    )
    on: str = setting("Image set, where an SAE was scored on several.", "")
    latent: tuple[int, ...] = setting("Of top-images: these latents (none: the first --rows of them).", ())
    rows: int = setting(
        "Of top-images: latents, where none are named.", 6, must=Rule(lambda n: 1 <= n <= 64, "give 1 to 64")
    )
    pictures: int = setting("Of top-images: pictures of each.", 8, must=Rule(lambda n: 1 <= n <= 16, "give 1 to 16"))
    width: float = setting(
        "Inches: 3.25 is a column, 6.75 a page.", 6.75, must=Rule(lambda inches: 2 <= inches <= 20, "give 2 to 20")
    )
    out: str = setting("File to write, .svg, .pdf or .png (empty: figure-KIND.svg in the workspace).", "", place="path")
    replace: bool = setting("Replace a file that is there.", False, flag="--replace")


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """What this machine can do."""


_STAGES = (
    ScoreSettings,
    ExtractSettings,
    TrainSettings,
    ConceptsSettings,
    FidelitySettings,
    SteerabilitySettings,
    SteerSettings,
)
PLACES: dict[str, Place] = {name: sort for cls in _STAGES for name, sort in places_of(cls).items()}
"""Those of the stages, by name: what workspace.toml and the options of a command may say."""
