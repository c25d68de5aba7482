"""Text from files and models, made safe to show."""

import unicodedata


def literal(text: str) -> str:
    """``text`` without control, format or escape characters: each becomes U+FFFD, so that none acts on the terminal."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else "�" for c in text)
