"""The exact judge of what is said of the drawn world: every answer that does what was asked can be parsed. No torch."""

from collections import Counter
from collections.abc import Sequence

from engine.demo.talk import REQUESTS, Request, Statement, plain
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS
from engine.files import value_sha256
from engine.steer.judges import Case, Given, Verdict

WORDS = frozenset((*KINDS, *COLOURS, *FILLS, *BACKGROUNDS))
PROMPTS = tuple(request.questions[0] for name, request in REQUESTS.items() if name not in ("describe", "short", "word"))
"""The ten kinds of text that the demo's model writes about a picture."""
_ASKED: dict[str, Request] = {question: one for one in REQUESTS.values() for question in one.questions}


def mentions(answer: str, word: str) -> bool:
    return word in plain(answer).split()


def facts(statement: Statement) -> Counter[str]:
    """The words that say what is there, each as often as it is said."""
    return Counter([*statement.kinds, *statement.colours, *statement.fills])


class ParserJudge:
    """Whether a word stands in an answer, the whole answer is of the kind that was asked for, and it states all other
    words that the untouched answer states."""

    name = "demo"
    model = "the parser of the drawn world"
    asks = {
        "appeared": "the concept, a word of the drawn world, stands in the answer",
        "followed": "the whole answer can be parsed as the kind of text that was asked for",
        "kept": "it can, and states all that the untouched answer states, but for the concept",
    }
    identity = value_sha256(asks)

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        return [Verdict(self._says(case)) for case in cases]

    def _says(self, case: Case) -> bool | None:
        request, concept = _ASKED.get(case.prompt), case.concept.lower()
        match case.kind:
            case "appeared":
                return mentions(case.answer, concept) if concept in WORDS else None
            case "followed":
                return None if request is None else request.read(case.answer) is not None
        before = None if request is None else request.read(case.untouched)
        if request is None or before is None or concept not in WORDS:
            return None
        after = request.read(case.answer)
        wanted = facts(before)
        del wanted[concept]
        return after is not None and wanted <= facts(after)


def load(given: Given) -> ParserJudge:
    return ParserJudge()
