"""Reads a judge's answer: a list of whole numbers, or nothing."""

import re
from typing import ClassVar

import orjson

from mistudio_explain.errors import UnusableAnswer

_LIST = re.compile(r"\[[^\[\]]*\]")


class NoList(UnusableAnswer):
    """The answer holds no list of the right length and range, or several that disagree; which answer belongs to which text is then unknown."""

    kind: ClassVar[str] = "no list"


def read_numbers(text: str, count: int, greatest: int) -> tuple[int, ...]:
    """The list of `count` whole numbers from 0 to `greatest` that a text holds, whatever stands round it.

    Nothing is filled up, cut or guessed: raises NoList for any other list, and for a text with several different ones.
    """
    found = {numbers for part in _LIST.findall(text) if (numbers := _numbers(part, count, greatest)) is not None}
    if len(found) == 1:
        return found.pop()
    what = "several lists that disagree" if found else "no list"
    raise NoList(f"the answer has {what} of {count} whole numbers from 0 to {greatest}: {text.strip()[:120]!r}")


def _numbers(part: str, count: int, greatest: int) -> tuple[int, ...] | None:
    try:
        values = orjson.loads(part)
    except orjson.JSONDecodeError:
        return None
    if len(values) != count or not all(isinstance(value, int) and 0 <= value <= greatest for value in values):
        return None
    return tuple(int(value) for value in values)
