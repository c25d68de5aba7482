"""How a steerability is told on a terminal: scores with intervals, beside controls and what was published."""

from collections.abc import Sequence

from engine.errors import counted
from engine.metrics.results import Interval
from engine.steer.results import HEADS, TITLES, Condition, Dose, Measured, OneWord, Steerability, Texts
from saetui.cli.work import columns
from saetui.formatting import number, percent, signed, significant

_DOSES = 12  # latents whose recommended strength is told


def headline(result: Steerability) -> str:
    """In one line: what the first of its parts found."""
    parts = []
    if result.word is not None:
        before, after = (_score(result.word.conditions, name) for name in ("untouched", "steered"))
        parts.append(
            f"one word {number(before.mean if before else None, 3)} -> {_number(after)}, n {after.n if after else 0:,}"
        )
    for one in result.texts[:2]:
        beside, after = (_score(one.both, name) for name in ("attached", "steered"))
        told = f"{one.task} {_share(after)}, n {after.n if after else 0:,}"
        parts.append(told + (f", SAE attached {_share(beside)}" if beside else ""))
    recommended = [one for one in result.doses if one.recommended is not None]
    if result.doses:
        parts.append(f"{len(recommended):,} of {counted(len(result.doses), 'latent')} with a recommended strength")
    return "; ".join(parts)


def lines(result: Steerability) -> list[str]:
    asked = result.settings
    how = "as many of each group" if asked.draw == "group" else "at random"
    drawn = "given" if asked.latent else f"drawn {how} (seed {asked.seed}) from {result.drawn_from:,}"
    again = "" if result.made else "; it was measured already"
    return [
        result.path,
        f"{counted(len(result.latents), 'latent')} of {result.sae}, {drawn}, in {result.vlm}{again}",
        "in brackets intervals of 95 % over the n latents; ahead: steered above this row",
        "published: arXiv 2504.02821, of CLIP ViT-L/14-336 in LLaVA-1.5",
        *(_word(result.word, f"One word, {asked.image}, clamped to {asked.strength}") if result.word else []),
        *(_word(result.word_on_pictures, _pictures(result)) if result.word_on_pictures else []),
        *(line for one in result.texts for line in _texts(one, result)),
        *_agreement(result),
        *_groups(result),
        *_doses(result),
    ]


def _pictures(result: Steerability) -> str:
    assert result.word_on_pictures is not None
    return f"One word, {counted(result.word_on_pictures.pictures, 'image')} drawn at random"


def _word(found: OneWord, title: str) -> list[str]:
    rows = [
        [TITLES[one.condition], str(one.score.n), _number(one.score), _number(one.ahead), _published(one.published)]
        for one in found.conditions
    ]
    for name, value, published in (
        ("true label", found.true_label, found.published_true),
        ("random label", found.random_label, found.published_random),
    ):
        if value is not None:
            rows.append([name, str(value.n), _number(value), "", _published(published)])
    return [
        "",
        f"{title}: cosine with the top images",
        *columns(["", "n", "cosine", "ahead", "published"], rows, {1, 4}),
    ]


def _texts(found: Texts, result: Steerability) -> list[str]:
    asked, rows = result.settings, []
    for measured in zip(found.done, found.followed, found.both, strict=True):
        both, title = measured[2], TITLES[measured[2].condition]
        rows.append([title, str(both.score.n), *(_share(one.score, "") for one in measured), _share(both.ahead, "")])
        published = [percent(one.published, 1)[:-1] for one in measured if one.published is not None]
        if published:
            rows.append(["  published", "", *published, ""])
    value = asked.strength if found.task == "insertion" else asked.suppress_to
    what = f"{found.task.capitalize()}, {counted(len(result.prompts), 'prompt')}, clamped to {value}"
    told = [f"{counted(found.undecided, 'answer')} that the judge did not decide do not count"] * bool(found.undecided)
    return [
        "",
        f"{what}, judge {found.judge}, in %",
        *columns(["", "n", *HEADS[found.task], "ahead"], rows, right={1}),
        *told,
    ]


def _agreement(result: Steerability) -> list[str]:
    rows = [
        [
            " and ".join(one.judges),
            one.question,
            f"{one.found.n:,}",
            percent(one.found.share),
            number(one.found.kappa),
        ]
        for one in result.agreement
    ]
    return ["", *columns(["Judges", "question", "n", "agree", "kappa"], rows, right={2, 3, 4}, cut=0)] if rows else []


def _groups(result: Steerability) -> list[str]:
    rows = [
        [
            f"group {group.group}",
            str(group.word.n),
            _number(group.word),
            str(group.inserted.n),
            _share(group.inserted),
            str(group.suppressed.n),
            _share(group.suppressed),
        ]
        for group in result.groups
    ]
    heads = ["Steered", "n", "gain in one word", "n", "inserted", "n", "suppressed"]
    return ["", *columns(heads, rows, right={1, 3, 5}, cut=0)] if rows else []


def _doses(result: Steerability) -> list[str]:
    if not result.doses:
        return []
    known = {one.latent: one for one in result.latents}
    gaining = sorted((one for one in result.doses if one.gain is not None), key=lambda one: -(one.gain or 0))
    rows = [
        [
            str(one.latent),
            known[one.latent].concept,
            significant(one.recommended or 0),
            f"{significant((one.recommended or 0) / known[one.latent].maximum)}x",
            signed(one.gain or 0),
            number(_damage(one)),
            one.recipe,
        ]
        for one in gaining[:_DOSES]
    ]
    attached = next(one.damage for one in result.doses[0].points if one.condition == "attached")
    heads = ["Latent", "concept", "clamp to", "maxima", "gain", "KL", "recipe"]
    return [
        "",
        f"Recommended strengths: the largest gain in the one word for at most {result.settings.most_damage:g} nats",
        f"{len(gaining):,} of {counted(len(result.doses), 'latent')} gain; the SAE attached costs {number(attached)}",
        *(columns(heads, rows, right={0, 2, 3, 4, 5}, cut=1) if rows else []),
        *([f"and {len(gaining) - _DOSES:,} more: see the file"] if len(gaining) > _DOSES else []),
    ]


def _damage(found: Dose) -> float | None:
    return next((one.damage for one in found.points if one.value == found.recommended), None)


def _score(measured: Sequence[Measured], name: Condition) -> Interval | None:
    return next((one.score for one in measured if one.condition == name), None)


def _number(found: Interval | None) -> str:
    if found is None or found.mean is None:
        return ""
    between = f" ({number(found.low, 3)} to {number(found.high, 3)})" if found.low is not None else ""
    return f"{number(found.mean, 3)}{between}"


def _share(found: Interval | None, sign: str = "%") -> str:
    """In per cent, which ``sign`` says."""
    if found is None or found.mean is None:
        return ""
    between = f" ({percent(found.low)[:-1]} {percent(found.high)[:-1]})" if found.low is not None else ""
    return f"{percent(found.mean)[:-1]}{sign}{between}"


def _published(value: float | None) -> str:
    return "" if value is None else number(value, 3)
