"""How a setting is declared, checked and read: one field of a frozen dataclass (engine.config).

The metadata of a field holds its help text and its rule, so that a setting is typed and explained once.
``from_mapping`` checks values that come from outside.
"""

import dataclasses
import difflib
import math
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from engine.errors import UserError
from engine.numbers import EXPECTED, typed
from engine.records import PLAIN, brief, plain

Place = Literal["path", "model", "image", "artefact", "file", "command", "input", "source", "name"]
"""What a text that says where something is may be besides a path: ``model``, a name of a hub or the demo; ``image``,
a colour, or one of a source; ``artefact``, a name in the workspace, as is ``file`` where there is no such file;
``command``, one that has places among its options; ``input``, what stands behind the = of NAME=VALUE; ``source`` and
``name``, path and name of an engine.workspace.Source, which depend on its kind."""


S = TypeVar("S")
_TOLD = 80  # characters of a wrong text that its refusal shows


@dataclass(frozen=True)
class Rule:
    """What the value of a setting must be, whatever the others are."""

    holds: Callable[[Any], bool]
    way: str
    """What to do where it does not."""


def at_least(least: int) -> Rule:
    return Rule(lambda value: value >= least, f"give at least {least}")


def none_or(least: int, means: str) -> Rule:
    """0 has a meaning of its own, and so have values from ``least`` on."""
    return Rule(lambda value: value == 0 or value >= least, f"give {least} or more, or 0 {means}")


def share(below: bool) -> Rule:
    """``below``: the whole is none."""
    way = f"give a share from 0 to {'below ' * below}1"
    return Rule(lambda value: 0 <= value < 1 if below else 0 <= value <= 1, way)


NOT_NEGATIVE = Rule(lambda value: value >= 0, "give 0 or more")
POSITIVE = Rule(lambda value: value > 0, "give more than 0")
THREADS = Rule(lambda value: 1 <= value <= 1024, "give 1 to 1024")
DEVICE = Rule(
    lambda value: re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", value) is not None,
    "choose auto, cpu, cuda, cuda:1 or mps",
)


def setting(help: str, default: Any = MISSING, **extra: Any) -> Any:
    """A dataclass field with its help text. ``extra``: ``must`` (its Rule), ``flag`` (its name on the command line),
    ``positional`` (an argument instead of an option), ``place`` (see :func:`place`), ``own`` (no default of the
    workspace is meant)."""
    return field(default=default, metadata={"help": help, **extra})


def place(sort: Place, default: str) -> Any:
    """A field of a record that says where something is: see engine.places. A setting has ``place=SORT``, a field
    without a default that metadata."""
    return field(default=default, metadata={"place": sort})


def place_of(field: dataclasses.Field[Any]) -> Place | None:
    return field.metadata.get("place")


def places_of(cls: type) -> dict[str, Place]:
    """The fields of a record that say where something is."""
    return {one.name: sort for one in dataclasses.fields(cls) if (sort := place_of(one)) is not None}


class WrongValue(UserError):
    """The value of a setting cannot be."""

    def __init__(self, setting: str, sentence: str, source: str = ""):
        """``sentence``: says it of the setting by its name, and of others as options. ``source``: where it comes
        from."""
        super().__init__(f"{source}: {sentence}" if source else sentence)
        self.setting, self.sentence = setting, sentence

    def told(self, called: Mapping[str, str], root: Path | None = None) -> str:
        """The sentence where settings are ``called`` otherwise, and places in ``root`` are told relative to it."""
        text = re.sub(
            r"--([a-z][a-z0-9-]*)", lambda found: called.get(found[1].replace("-", "_"), found[0]), self.sentence
        )
        if root is not None:
            text = re.sub(rf"(?<![\w/.]){re.escape(str(root))}/(?=[^\s'])", "", text)
        own = re.match(rf"{self.setting}\b", text)
        return f"{called.get(self.setting, self.setting)}{text[own.end() :]}" if own else text

    def told_of_line(self, file: Path, root: Path | None = None) -> str:
        """The sentence where the setting stands in a line of ``file``; ``root`` as of :meth:`told`."""
        said = self.told({self.setting: self.setting}, root)
        return f"{file}: {said}" if self.sentence.startswith(f"{self.setting} ") else f"{file}: {self.setting}: {said}"


@contextmanager
def about(setting: str) -> Iterator[None]:
    """Whatever is wrong in here is wrong with the ``setting``."""
    try:
        yield
    except WrongValue:
        raise
    except UserError as error:
        raise WrongValue(setting, str(error)) from error


def from_mapping(cls: type[S], values: Mapping[str, Any], source: str) -> S:
    """A settings object from ``values``. Raises UserError for an unknown key, a wrong type or a missing value.

    ``source`` says in the message where the values come from.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    checked = {}
    for key, value in values.items():
        key = key.replace("-", "_")
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}."
            raise UserError(f"{source} has no setting {key!r}: {hint}")
        checked[key] = _setting(value, hints[key], fields[key].metadata, key, source)
        with _of(key, source):
            _check_told(checked[key], fields[key], key)
    missing = [
        n for n, f in fields.items() if f.default is MISSING and f.default_factory is MISSING and n not in checked
    ]
    if missing:
        raise UserError(f"{source} lacks {', '.join(missing)}: set it and try again.")
    return cls(**checked)


def from_words(cls: type[S], words: Sequence[str], source: str) -> S:
    """A settings object from command-line options, ``--name value`` each, and arguments; see :func:`from_mapping`."""
    hints, values = typing.get_type_hints(cls), dict[str, Any]()
    arguments = iter([one.name for one in dataclasses.fields(cls) if one.metadata.get("positional")])  # type: ignore[arg-type]  # S is a dataclass
    rest = iter(words)
    for word in rest:
        if not word.startswith("--") and (argument := next(arguments, None)):
            values[argument] = word
            continue
        name = word.removeprefix("--").replace("-", "_")
        kind = hints.get(name)
        if kind is bool:
            values[name] = True
        elif typing.get_origin(kind) is tuple:
            values.setdefault(name, []).append(next(rest, ""))
        else:
            values[name] = written(next(rest, ""), kind)
    return from_mapping(cls, values, source)


def written(text: str, kind: Any) -> Any:
    """``text`` as a number if ``kind`` is int or float and it is one; else as it is, and from_mapping refuses it."""
    if kind is float and text.strip().lstrip("+-").lower() in ("inf", "nan"):  # as TOML has them
        return float(text)
    number = typed(text, kind) if kind in (int, float) else None
    return text if number is None else number


def setting_of(text: str, kind: Any, name: str, source: str, must: Rule | None = None) -> Any:
    """The value of the setting ``name`` in ``text``. UserError as :func:`from_mapping`."""
    return _setting(written(text, kind), kind, {"must": must} if must else {}, name, source)


def check(settings: Any) -> None:
    """WrongValue unless every value is one that its setting may have: what a program has made is not checked yet.

    It calls settings by their options, as all does that is said while something is done.
    """
    for one in dataclasses.fields(settings):
        with about(one.name):
            _ruled(getattr(settings, one.name), one.metadata, f"--{one.name.replace('_', '-')}")


def numbers_written(text: str) -> list[Any]:
    """The numbers of a list with commas, each as :func:`written`."""
    return [written(part, float) for part in text.split(",")]


def each(value: Any) -> list[Any]:
    """The values of a setting that may have one or, as a list, several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def to_mapping(settings: Any) -> dict[str, Any]:
    """The settings as values that JSON and TOML can hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}


def command_line(verb: str, settings: Any) -> str:
    """The command that does ``verb`` with these settings, of which it names those that are not as they are anyway."""
    words = ["saetui", verb]
    for one in dataclasses.fields(settings):
        value, flag = getattr(settings, one.name), "--" + one.name.replace("_", "-")
        if one.default is MISSING or value != one.default:
            items = [str(item) for item in (value if isinstance(value, tuple) else (value,))]
            if one.metadata.get("positional"):
                words += items
            elif isinstance(value, bool):
                words.append(flag)
            else:
                words += [word for item in items for word in (flag, item)]
    return shlex.join(words)


def _setting(value: Any, kind: Any, metadata: Mapping[str, Any], name: str, source: str) -> Any:
    with _of(name, source):
        return _ruled(_checked(value, kind, name), metadata, name)


@contextmanager
def _of(name: str, source: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise WrongValue(name, str(error), source) from None


def _check_told(value: Any, field: dataclasses.Field[Any], name: str) -> None:
    """UserError for an empty text where something must be named: as a path it would be the folder where one stands."""
    sort = place_of(field)
    meant = field.default is MISSING or (sort not in (None, "input") and field.default != "")
    if meant and any(isinstance(one, str) and not one.strip() for one in each(value)):
        way = "a value" if sort is None else "a path" if sort == "path" else "a name or a path"
        raise UserError(f"{name} is empty: give {way}.")


def _ruled(value: Any, metadata: Mapping[str, Any], name: str) -> Any:
    rule = metadata.get("must")
    if rule is not None and not rule.holds(value):
        raise UserError(f"{name} is {_told(value)}: {rule.way}.")
    return value


def _checked(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{where} holds a zero byte: correct it.")
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _checked(value, next(o for o in options if o is not type(None)), where)
    if origin is Literal:
        if value not in options:
            raise UserError(f"{where} is {_told(value)}: choose one of {', '.join(map(str, options))}.")
        return value
    if origin is tuple:
        if not isinstance(value, (str, list, tuple)) and options[0] in PLAIN and plain(value, options[0]) is None:
            raise UserError(f"{where} is {_told(value)}: it must be {PLAIN[options[0]]}, or a list of that.")
        items = value if isinstance(value, (list, tuple)) else [value]
        if options[0] is float and (wrong := next((item for item in items if isinstance(item, str)), None)) is not None:
            raise UserError(
                f"{where} is {_told(wrong)}: give numbers with commas between them, decimals after a point."
            )
        return tuple(_checked(item, options[0], where) for item in items)
    found = plain(value, kind)
    if found is None:
        expected = EXPECTED.get(kind) or f"it must be {PLAIN[kind]}"
        raise UserError(f"{where} is {_told(value)}: {expected}.")
    if isinstance(found, float) and not math.isfinite(found):
        raise UserError(f"{where} is {found}: give a finite number.")
    if isinstance(found, int) and abs(found) >= 1 << 63:
        raise UserError(f"{where} is {brief(found)}: give a number below 2^63.")
    return found


def _told(value: Any) -> str:
    return repr(value if len(value) <= _TOLD else f"{value[:_TOLD]}...") if isinstance(value, str) else brief(value)
