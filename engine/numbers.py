"""Numbers as people read and write them, both ways: what is printed never says another number than there is.

Whatever is printed parses back to its value within half a unit of its last digit: of a number too long for its column
fewer digits are printed, never a part of them. What is typed is taken as it stands or refused: nothing is repaired.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal

UNDEFINED = "–"
_LETTERS = "kMGT"  # thousands, millions ...
_PLAIN = 10**15  # from here on in powers of ten: a float has no more digits
_TYPED = {
    int: re.compile(r"[-+]?\d+(?:_\d+)*", re.ASCII),
    float: re.compile(r"[-+]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE | re.ASCII),
}
EXPECTED: dict[type, str] = {
    int: "it must be a whole number, as 1000",
    float: "it must be a number, its decimals after a point, as 0.5 or 2e-3",
}
"""What to say of a text that is none."""


def typed(text: str, kind: type[int] | type[float]) -> int | float | None:
    """The number that a person wrote, None for what is none: the one rule of forms, commands, filters and prompts.

    Digits 0 to 9 (``_`` may stand between them, as in TOML), a sign, and in a float a point and an exponent; blanks
    around it do not count. No comma, no ``0x10``, ``1k``, ``inf`` or ``nan``.
    """
    text = text.strip()
    if not _TYPED[kind].fullmatch(text) or len(text) > 400:  # no float has more digits before its point
        return None
    found = kind(text)
    return found if isinstance(found, int) or math.isfinite(found) else None


def number(value: float | None, digits: int = 2, width: int = 0) -> str:
    """``value`` to ``digits`` decimals, without the zero before the point: ``.61``, ``-.61``, ``10.10``.

    In ``width`` characters, unless that is 0 or even three digits and an exponent are longer. A dash for None and NaN.
    """
    return _fitting(_decimal(value), digits, width, "{}")


def percent(share: float | None, digits: int = 0, width: int = 0) -> str:
    """``share`` in per cent: ``4%``, ``12.3%``; else as :func:`number`."""
    found = _decimal(share)
    return _fitting(found * 100 if found.is_finite() else found, digits, width, "{}%", zero="0")


def count(value: float, width: int = 0) -> str:
    """A whole number: ``1,234,567``, or ``1.23M`` where ``width`` is less."""
    if not _decimal(value).is_finite():
        return number(value)
    grouped = f"{value:,.0f}" if abs(value) < _PLAIN else ""
    return grouped if grouped and (not width or len(grouped) <= width) else short(value, width)


def short(value: float, width: int = 0) -> str:
    """Three digits: ``950``, ``43.1k``, ``1.31M``, ``2.50e18``; fewer where ``width`` is less."""
    found = _decimal(value)
    if not found.is_finite():
        return number(value)
    texts = [_lettered(found, digits) for digits in (3, 2, 1)]
    return next((text for text in texts if not width or len(text) <= width), min(texts, key=len))


def significant(value: float, digits: int = 3) -> str:
    """At least ``digits`` digits, and all of those before the point: ``0.123``, ``9.81``, ``12345``, ``1.5e-7``."""
    found = _decimal(value)
    if not found.is_finite():
        return number(value)
    if found and not 1e-4 <= abs(found) < _PLAIN:
        return _power(found, digits - 1)
    text = _signed(f"{found:.{max(digits - 1 - _exponent(found, digits), 0)}f}")
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(value: float, width: int = 0) -> str:
    """A difference or a strength: ``+4.79``, ``-38.0``, ``-0.25``; else as :func:`number`."""
    digits = max(2 - _exponent(_decimal(value), 3), 0)
    text = significant(value) if abs(value) < 1 else number(value, digits, width - 1 if width else 0)
    return text if value < 0 else f"+{text}"


def alike(values: Sequence[float], digits: int = 3) -> list[str]:
    """Each as :func:`number`, all to the decimals that the largest has at ``digits`` digits: ``5.10``, ``4.79``."""
    largest = max((abs(found) for found in map(_decimal, values) if found.is_finite()), default=Decimal(0))
    places = max(digits - 1 - _exponent(largest, digits), 0)
    return [number(value, places) for value in values]


def times(value: float, width: int = 0) -> str:
    """A multiple: ``1.5x``; else as :func:`number`."""
    return _fitting(_decimal(value), 1, width, "{}x", zero="0")


def exact(value: float) -> str:
    """The shortest text that :func:`typed` reads as ``value``, which is finite."""
    if isinstance(value, int):
        return str(value)
    return repr(value).removesuffix(".0").replace("e-0", "e-").replace("e+", "e")


def size(count: float) -> str:
    """Bytes in decimal units: ``61.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 999.5 else f"{count:,.0f} TB"


def rate(value: float, unit: str = "") -> str:
    """Units per second: two digits below ten, whole numbers above."""
    return f"{count(value) if value >= 10 else significant(value, 2)} {unit}".rstrip() + "/s"


def duration(seconds: float) -> str:
    """``m:ss``, ``h:mm:ss``, from a hundred hours on ``4 d 7 h``; a dash where it is not known."""
    if not math.isfinite(seconds):
        return UNDEFINED
    minutes, seconds = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        days, hours = divmod(hours + (minutes >= 30), 24)
        return f"{days:,} d {hours} h"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _decimal(value: float | None) -> Decimal:
    """Exactly ``value``, whatever its size; NaN for None."""
    return Decimal("nan") if value is None else Decimal(value if isinstance(value, int) else float(value))


def _fitting(value: Decimal, digits: int, width: int, form: str, zero: str = "") -> str:
    """``value`` in ``form``: to ``digits`` decimals, or to fewer, or with a letter, or with an exponent."""
    if value.is_nan():
        return UNDEFINED
    if not value.is_finite():
        return form.format("inf" if value > 0 else "-inf")
    texts = [form.format(_fixed(value, digits, zero))] if abs(value) < _PLAIN else []
    if texts and (not width or len(texts[0]) <= width):  # as almost always: tables ask a thousand times a key
        return texts[0]
    fixed = [_fixed(value, places, zero) for places in range(digits - 1, -1, -1)] if texts else []
    texts += [form.format(text) for text in (*fixed, *(_lettered(value, places) for places in (3, 2, 1)))]
    return next((text for text in texts if not width or len(text) <= width), min(texts, key=len))


def _fixed(value: Decimal, places: int, zero: str) -> str:
    text = _signed(f"{value:.{places}f}")
    sign, unsigned = ("-", text[1:]) if text.startswith("-") else ("", text)
    return sign + (zero + unsigned[1:] if unsigned.startswith("0.") else unsigned)


def _signed(text: str) -> str:
    """``text`` without the sign of a zero."""
    return text if text.strip("-0.") else text.removeprefix("-")


def _lettered(value: Decimal, digits: int) -> str:
    """``value`` to ``digits`` digits, and a letter or an exponent from a thousand on."""
    power = _exponent(value, digits)
    if power < 3:
        whole = value == value.to_integral_value()
        return _signed(f"{value:.{0 if whole else max(digits - 1 - max(power, 0), 0)}f}")
    letter, before = divmod(power, 3)
    if letter > len(_LETTERS):
        return _power(value, digits - 1)
    places = max(digits - 1 - before, 0)
    return f"{value.scaleb(-3 * letter):.{places}f}{_LETTERS[letter - 1]}"


def _power(value: Decimal, places: int) -> str:
    mantissa, _, exponent = f"{value:.{places}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _exponent(value: Decimal, digits: int) -> int:
    """The power of ten of the first digit, once ``value`` is rounded to ``digits``."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2]) if value else 0
