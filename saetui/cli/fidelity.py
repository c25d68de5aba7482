"""How a fidelity is told on a terminal: what is left of each quantity, beside the untouched model and the mean."""

from collections.abc import Callable, Sequence

from engine.errors import counted
from engine.metrics.results import Interval, Recovery
from engine.steer.fidelity.results import AnswerFidelity, EncoderFidelity, Fidelity, FidelityMeasured, Retrieval
from saetui.cli.work import columns
from saetui.formatting import number, percent

Quantity = tuple[str, Recovery, Callable[[float | None], str]]
ROWS = {
    "untouched": "untouched",
    "spliced": "SAE in place",
    "ablated": "mean in place",
    "lost": "lost by the SAE",
    "gained": "ahead of the mean",
    "recovered": "recovered",
}
_TOKENS = {"cls": "CLS", "all": "all tokens", "pooled": "its output"}


def lines(result: FidelityMeasured) -> list[str]:
    told = [line for one in result.saes for line in ["", *_of(one)]][1:]
    return [
        *told,
        "in brackets intervals of 95 %, by bootstrap-t over n: wide where n is small",
        "recovered: 100 % loses nothing, 0 % as much as the mean in place",
    ]


def headline(result: FidelityMeasured) -> str:
    """In one line: what each SAE leaves of the first quantity, beside the mean in its place."""
    more = f" and {len(result.saes) - 3:,} more" if len(result.saes) > 3 else ""
    return "; ".join(map(_first, result.saes[:3])) + more


def _first(one: Fidelity) -> str:
    name, found = "cosine", one.encoder.cosine if one.encoder else None
    if found is None and one.answers:
        name, found = "KL", one.answers.kl
    if found is None:
        return f"{one.sae} nothing"
    beside = f"mean in place {_score(found.ablated.mean)}"
    return f"{one.sae} {name} {_interval(found.spliced, _score)}, n {found.spliced.n:,}, {beside}"


def _of(one: Fidelity) -> list[str]:
    again = "; it was measured already" * (not one.made)
    return [
        one.path,
        f"{one.sae} at {one.hook}{again}",
        *(_encoder(one.encoder) if one.encoder else []),
        *(_answers(one.answers, one) if one.answers else []),
        *one.notes,
    ]


def _encoder(part: EncoderFidelity) -> list[str]:
    quantities: list[Quantity] = [("cosine", part.cosine, _score)]
    if part.zero_shot:
        quantities += [
            ("right class", part.zero_shot.accuracy, _share),
            ("same class", part.zero_shot.agreement, _share),
        ]
    broken = f", {part.broken:,} broken left out" if part.broken else ""
    of = _TOKENS.get(part.tokens, part.tokens)
    head = f"{part.spec}, {of}: {counted(part.images, 'image')}{broken}"
    return [head, *_table(quantities), *(_retrieval(part.retrieval) if part.retrieval else [])]


def _retrieval(found: Retrieval) -> list[str]:
    """Whole percents: there are four columns."""
    heads = {"text_at_1": "text at 1", "text_at_5": "at 5", "image_at_1": "image at 1", "image_at_5": "at 5"}
    return [
        f"found among {counted(found.captions, 'caption')} of {counted(found.images, 'image')}",
        *_table([(head, getattr(found, name), percent) for name, head in heads.items()]),
    ]


def _answers(part: AnswerFidelity, one: Fidelity) -> list[str]:
    asked = f"{part.spec}, patches: {counted(part.images, 'answer')} of {counted(part.tokens, 'token')} in all"
    return [
        f"{asked} to {one.settings.prompt!r}",
        *_table([("KL, nats", part.kl, _score), ("same token", part.same_token, _share)]),
    ]


def _table(quantities: Sequence[Quantity]) -> list[str]:
    rows = [["n", *(f"{found.spliced.n:,}" for _, found, _ in quantities)]]
    for name, title in ROWS.items():
        shown = [
            (getattr(found, name), _share if name == "recovered" and form is _score else form)
            for _, found, form in quantities
        ]
        rows.append([title, *(_interval(value, form) for value, form in shown)])
    return columns(["", *(head for head, _, _ in quantities)], rows)


def _interval(found: Interval, form: Callable[[float | None], str]) -> str:
    known = found.low is not None and found.high is not None and found.low < found.high
    ends = [form(end).removesuffix("%") for end in (found.low, found.high)]
    return form(found.mean) + (f" ({' '.join(ends)})" if known else "")


def _score(value: float | None) -> str:
    return number(value, 3)


def _share(value: float | None) -> str:
    return percent(value, 1)
