"""Finds where the members of a JSON object, and the elements of its long lists, stand, without decoding them.

A list of 512 features is 22 MB of text and several times that as Python objects; with its elements' places, each
feature can be decoded alone. One regular expression steps from bracket to bracket, over strings and whatever else
lies between, so that Python's own loop runs once a bracket, not once a character or string.
"""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from mistudio_explain.intake.document import Document, Flawed, JsonPath, Problem, Span

DEEPEST = 64
"""Levels of lists and objects within one value; Find's features have 4."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^ \t\r\n,:"{}\[\]]++', re.DOTALL)
_NAME = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENING = frozenset(b"[{")


@dataclass(frozen=True, slots=True)
class Elements:
    """Where each element of a list stands."""

    starts: "array[int]"
    ends: "array[int]"
    too_deep: frozenset[int]
    """Indexes of the elements with more than DEEPEST levels."""

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, index: int) -> Span:
        """Where one element stands."""
        return Span(self.starts[index], self.ends[index])


@dataclass(frozen=True, slots=True)
class Outline:
    """The members of the object that a file holds."""

    members: Mapping[str, Span]
    lists: Mapping[str, Elements]
    """The members that were asked for by name and are lists."""
    breakage: Problem | None
    """Why reading stopped before the end; `members` and `lists` have what stands before."""


def outline(document: Document, long_lists: frozenset[str]) -> Outline:
    """Outline a file; `long_lists` are the members whose elements are wanted.

    The syntax inside a value is not checked: decoding it does.
    """
    scan = _Scan(document, long_lists)
    try:
        scan.root()
    except Flawed as flawed:
        return Outline(scan.members, scan.lists, flawed.problems[0])
    return Outline(scan.members, scan.lists, None)


class _Scan:
    """One pass over a file; what was found so far stays when it stops at a flaw."""

    def __init__(self, document: Document, long_lists: frozenset[str]) -> None:
        self.document = document
        self.text = document.text
        self.long_lists = long_lists
        self.members: dict[str, Span] = {}
        self.lists: dict[str, Elements] = {}

    def root(self) -> None:
        """Read the object that the file must hold, to the file's end."""
        position = self._blank(len(_BYTE_ORDER_MARK) if self.text.startswith(_BYTE_ORDER_MARK) else 0)
        if position == len(self.text):
            raise self._flawed((), "the file is empty; a JSON object was expected")
        if self.text[position] != ord("{"):
            raise self._flawed((), f"{_beginning(self.text)}, where one JSON object was expected")
        position = self._members(self._blank(position + 1))
        if self._blank(position) != len(self.text):
            raise self._flawed((), f"something follows the end of the object, at {self.document.place(self._blank(position))}; a file holds one find job")

    def _members(self, position: int) -> int:
        if self.text[position : position + 1] == b"}":
            return position + 1
        while True:
            name, position = self._name(position)
            end = self._member(name, position)
            closing, position = self._separator(Span(position, end), b"}", (name,))
            if closing:
                return position

    def _name(self, position: int) -> tuple[str, int]:
        found = _NAME.match(self.text, position)
        if found is None:
            raise self._broken(position, (), "a name in double quotes and a colon")
        name = self.document.decode(Span(*found.span(1)), ())
        if name in self.members or name in self.lists:
            raise self._flawed((name,), f"the name stands twice, again at {self.document.place(position)}; once was expected")
        return name, found.end()

    def _member(self, name: str, position: int) -> int:
        if name in self.long_lists and self.text[position : position + 1] == b"[":
            return self._list(name, position + 1)
        end, levels = self._value_end(position, (name,))
        if levels > DEEPEST:
            raise self._flawed((name,), f"lists and objects are nested {levels} levels deep; at most {DEEPEST} were expected")
        self.members[name] = Span(position, end)
        return end

    def _list(self, name: str, position: int) -> int:
        starts, ends, too_deep = array("Q"), array("Q"), set[int]()
        position = self._blank(position)
        if closing := self.text[position : position + 1] == b"]":
            position += 1
        try:
            while not closing:
                end, levels = self._value_end(position, (name, len(ends)))
                starts.append(position)
                ends.append(end)
                if levels > DEEPEST:
                    too_deep.add(len(ends) - 1)
                closing, position = self._separator(Span(position, end), b"]", (name, len(ends) - 1))
        finally:
            self.lists[name] = Elements(starts, ends, frozenset(too_deep))
        return position

    def _value_end(self, position: int, path: JsonPath) -> tuple[int, int]:
        """Where the value at `position` ends, and how many levels of brackets it has."""
        if position < len(self.text) and self.text[position] in _OPENING:
            return self._bracketed_end(position, path)
        found = _SCALAR.match(self.text, position)
        if found is None:
            raise Flawed(self.document.breakage(position, path))
        return found.end(), 0

    def _bracketed_end(self, position: int, path: JsonPath) -> tuple[int, int]:
        start, level, deepest = position, 0, 0
        match = _TO_BRACKET.match
        while found := match(self.text, position):
            position = found.end()
            if self.text[position - 1] in _OPENING:
                level += 1
                deepest = max(level, deepest)
            else:
                level -= 1
                if level == 0:
                    return position, deepest
        raise Flawed(self.document.breakage(start, path))

    def _separator(self, value: Span, closing: bytes, path: JsonPath) -> tuple[bool, int]:
        """Whether a value is the last one of its list or object, and where the next thing begins."""
        position = self._blank(value.end)
        following = self.text[position : position + 1]
        if following not in (b",", closing):
            self.document.decode(value, path)  # a bracket too few or too many in the value itself is the better reason
            raise self._broken(position, path, f"a comma or {closing.decode()} after this value")
        last = following == closing
        return last, position + 1 if last else self._blank(position + 1)

    def _blank(self, position: int) -> int:
        found = _BLANK.match(self.text, position)
        assert found is not None
        return found.end()

    def _broken(self, position: int, path: JsonPath, expected: str) -> Flawed:
        if position >= len(self.text):
            return self._flawed(
                path, f"the file ends at {self.document.place(position)}, where {expected} was expected; it is truncated: write or copy it again"
            )
        return self._flawed(path, f"no valid JSON at {self.document.place(position)}: {expected} was expected")

    def _flawed(self, path: JsonPath, what: str) -> Flawed:
        return Flawed(self.document.problem(path, what))


def _beginning(text: bytes) -> str:
    """Name what a file without an object begins with."""
    if text.startswith(b"\x1f\x8b"):
        return "the file is gzip-compressed"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:4]:
        return "the file is UTF-16 or UTF-32, not UTF-8"
    if text.lstrip(b" \t\r\n").startswith(b"["):
        return "the file holds a list"
    try:
        text[:4096].decode()
    except UnicodeDecodeError as error:
        if error.end < len(text[:4096]) or len(text) <= 4096:
            return "the file is not UTF-8 text"
    return f"the file begins with {orjson.dumps(text[:20].decode(errors='replace')).decode()}"
