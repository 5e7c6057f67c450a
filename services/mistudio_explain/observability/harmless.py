"""Texts on terminals: what others wrote moves no cursor, hides nothing and forges no line."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The same text, its lines kept, without control characters, terminal escapes or direction overrides."""
    return _CONTROL.sub("\ufffd", text)


def plain(text: str) -> str:
    """One line of it, without any of these: texts of features are hostile input."""
    return " ".join(harmless(text).split())
