"""Text from files and models, made safe to show."""

import unicodedata


def literal(text: str) -> str:
    """``text`` without control, format or escape characters: each becomes U+FFFD, so that none acts on the terminal."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else "�" for c in text)


def fit(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"
