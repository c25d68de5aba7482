"""What is asked of a scoring, checked before anything is loaded. Costs no torch."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from engine.activations.asked import Made
from engine.config import AgreementSettings, ConceptsSettings, MsSettings, ScoreSettings, ScoresSettings
from engine.errors import UserError, reason
from engine.files import path_of, read_text
from engine.images.objects import check_objects
from engine.images.sources import check_images
from engine.images.taxonomies import open_taxonomy
from engine.links import check_own
from engine.models import HookPoint
from engine.models.asked import blocks_of, check_device, check_encoder, check_hook
from engine.numbers import typed
from engine.sae.config import SAEConfig, read_config
from engine.settings import WrongValue, about, check
from engine.workspace import Workspace, concepts_path, names_by_judge, neurons_path


def check_score(settings: ScoreSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    _check_shared(settings, made)
    _check_sae(settings, workspace, made)


def apart(settings: ScoresSettings) -> list[ScoreSettings]:
    """Those of each SAE by each judge."""
    values = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}
    names = names_by_judge(settings.name, settings.images, settings.embed_with)
    return [
        ScoreSettings(**{**values, "sae": sae, "embed_with": judge, "name": name})
        for sae in settings.sae
        for judge, name in names.items()
    ]


def task_of(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What does that which is asked of SAEs by judges (``ScoresSettings``), and its settings: of one SAE by one judge
    it is ``score``, which has a result of its own, else ``scores``. What is not a list is left to be refused."""
    named = {name: values[name] for name in ("sae", "embed_with") if isinstance(values.get(name), (list, tuple))}
    if any(len(names) != 1 for names in named.values()):
        return "scores", dict(values)
    return "score", {**values, **{name: names[0] for name, names in named.items()}}


def passes(asked: Iterable[ScoreSettings], configs: Iterable[SAEConfig]) -> list[list[int]]:
    """Numbers of the scorings that share images and encoder, which then sees the images once for all of them.

    ``configs``: of the SAE of each."""
    together: dict[Any, list[int]] = {}
    for number, (one, config) in enumerate(zip(asked, configs, strict=True)):
        seen = one.images, config.transparency, one.taxonomy, one.wordnet
        how = one.limit, one.batch_size, one.workers, one.device
        together.setdefault((*seen, one.encoder or config.model, *how), []).append(number)
    return list(together.values())


def check_scores(settings: ScoresSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be, or cannot be of one of the SAEs."""
    for name in ("sae", "embed_with"):
        with about(name):
            if not getattr(settings, name):
                raise UserError(f"{name} names none: give one or more.")
    with about("embed_with"):
        if twice := next((one for one in settings.embed_with if settings.embed_with.count(one) > 1), None):
            raise UserError(f"embed_with names {twice} twice: name each judge once.")
        for judge in settings.embed_with:
            check_encoder(judge)
    _check_shared(apart(settings)[0], made)
    paths: set[Path] = set()
    for one in apart(settings):
        try:
            path = _check_sae(one, workspace, made)
        except WrongValue as error:
            raise WrongValue(error.setting, said_of(one.sae, error.sentence)) from error
        with about("sae"):
            if path in paths:
                raise UserError(f"sae names {Path(one.sae).name} twice: name each SAE once.")
        paths.add(path)


def _check_shared(settings: ScoreSettings, made: Made) -> None:
    """What does not depend on the SAE."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("images"):
        if ("images", settings.images) not in made:
            check_images(settings.images)
    with about("embed_with"):
        check_encoder(settings.embed_with)
    with about("encoder"):
        if settings.encoder:
            check_encoder(settings.encoder)
    with about("vocabulary"):
        read_vocabulary(settings.vocabulary)
    with about("objects"):
        if settings.objects:
            check_objects(settings.objects)
    with about("taxonomy"):
        open_taxonomy(settings.taxonomy, settings.wordnet)
    with about("min_support"):
        if 0 < settings.limit < settings.min_support:
            raise UserError(f"min_support is {settings.min_support}, and --limit is {settings.limit}: lower it.")


def _check_sae(settings: ScoreSettings, workspace: Workspace, made: Made) -> Path:
    """What depends on it; where its scores are written."""
    with about("sae"):
        config = None
        if ("saes", settings.sae) not in made:
            config = read_config(folder := workspace.existing("saes", settings.sae))
    with about("name"):
        check_own(path := neurons_path(settings, folder.name if config else settings.sae, workspace))
    if config is not None:
        _check_encoder(settings, config)
    return path


def check_concepts(settings: ConceptsSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("images"):
        if ("images", settings.images) not in made:
            check_images(settings.images)
    with about("labels"):
        drawn = ("images", str(Path(settings.labels).parent)) in made  # with labels.jsonl
        if settings.labels and not drawn and not path_of(settings.labels).is_file():
            raise UserError(f"{settings.labels} is no file: give a .csv or .jsonl with a column path.")
    with about("taxonomy"):
        open_taxonomy(settings.taxonomy, settings.wordnet)
    with about("sae"):
        config = None
        if ("saes", settings.sae) not in made:
            config = read_config(folder := workspace.existing("saes", settings.sae))
    with about("name"):
        check_own(concepts_path(settings, folder.name if config else settings.sae, workspace))
    if config is not None:
        _check_encoder(settings, config)


def _check_encoder(settings: ScoreSettings | ConceptsSettings, config: SAEConfig) -> None:
    """That of the images is the SAE's, as far as their configs say."""
    with about("encoder"):
        spec = settings.encoder or config.model
        if not spec:
            raise UserError(no_encoder(settings.sae))
        check_encoder(spec)
        check_hook(spec, hook := HookPoint.parse(config.hook), config.d)
    with about("pooling"):
        blocks = blocks_of(spec)
        if settings.pooling == "cls" and not hook.pooled and blocks is not None and not blocks.cls:
            raise UserError(f"{spec} has no CLS token: use --pooling max or mean.")
        if settings.pooling == "crop":
            check_patches(settings.sae, config)


def check_patches(sae: str, config: SAEConfig) -> None:
    """UserError for an SAE of one token an image."""
    if config.hook == "last" or config.tokens in ("cls", "mean"):
        raise UserError(f"The SAE {sae} has no patches, but one token an image: use --pooling max.")


def said_of(sae: str, sentence: str) -> str:
    """``sentence``, of one of several SAEs, such that it names it."""
    name = re.escape(Path(sae).name)
    return sentence if re.search(rf"SAE {name}\b|['/]{name}\b", sentence) else f"{sae}: {sentence}"


def no_encoder(sae: str) -> str:
    return f"The SAE {sae} does not say which encoder it reads: name one with --encoder."


def read_vocabulary(path: str | Path = "") -> list[str]:
    """Words, one a line, each once; the built-in list for an empty ``path``."""
    try:
        if path:
            text = read_text(path_of(path), encoding="utf-8-sig")
        else:
            text = resources.files("engine.neurons").joinpath("vocabulary.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read the vocabulary {path} ({reason(error)}): give a text file, one word a line."
        ) from error
    words: dict[str, str] = {}  # text towers do not tell Cat from cat
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            words.setdefault(line.strip().casefold(), line.strip())
    if not words:
        raise UserError(f"The vocabulary {path} has no words: give a text file, one word a line.")
    return list(words.values())


def check_ms(settings: MsSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    for name, kind in (("activations", "activations"), ("embeddings", "embeddings")):
        with about(name):
            path = matrix_source(getattr(settings, name), workspace, kind)
            if not path.exists():
                raise UserError(f"{path} does not exist: check the path.")


def check_agreement(settings: AgreementSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("folder"):
        if not (path_of(settings.folder) / "pairs.csv").is_file():
            raise UserError(f"{settings.folder} has no pairs.csv: give the folder of the benchmark.")
    with about("embeddings"):
        if settings.embeddings and ("embeddings", settings.embeddings) not in made:
            path = matrix_source(settings.embeddings, workspace, "embeddings")
            if not path.exists():
                raise UserError(f"{path} does not exist: check the path.")
    with about("scores"):
        if settings.scores and not path_of(settings.scores).is_file():
            raise UserError(f"{settings.scores} does not exist: check the path.")
    with about("first"):
        if settings.first and typed(settings.first, float) is None:
            raise UserError(f"first is {settings.first!r}: give a number, one of those in R_user.")


def matrix_source(given: str, workspace: Workspace, kind: str) -> Path:
    """A file or folder, else the name of a store in the workspace."""
    path = path_of(given)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    return workspace.existing(kind, given)
