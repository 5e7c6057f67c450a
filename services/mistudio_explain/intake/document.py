"""A JSON file in memory, and what can be wrong with a place in it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

JsonPath = tuple[str | int, ...]
"""Keys and indexes from the root of a file."""

_LONGEST_QUOTE = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands: bytes `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file: where, what was found, what was expected."""

    file: Path
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.what}"


class Flawed(Exception):
    """A value cannot be used, for the reasons in `problems`; it never leaves intake, where BadInput takes its place."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Document:
    """A file's bytes, so that what is published is what was checked, whatever happens to the file meanwhile."""

    file: Path
    text: bytes = field(repr=False)
    first_line: int = 1
    """Number that the text's first line has in the file."""
    is_line: bool = False
    """Whether the text is one of a file's lines, so that a problem has to name the line."""

    def decode(self, span: Span, path: JsonPath) -> Any:
        """Decode one value; raises Flawed with the innermost place that can be named."""
        piece = self.text[span.start : span.end]
        try:
            return orjson.loads(piece)
        except orjson.JSONDecodeError as error:
            raise Flawed(self._unusual_value(piece, path) or self._syntax(error, span.start, path)) from error

    def breakage(self, start: int, path: JsonPath) -> Problem:
        """Say why the value that begins at `start` has no end."""
        try:
            orjson.loads(self.text[start:])
        except orjson.JSONDecodeError as error:
            return self._syntax(error, start, path)
        return self.problem(path, f"no JSON value can be told apart at {self.place(start)}")

    def problem(self, path: JsonPath, what: str) -> Problem:
        """A problem of this file."""
        return Problem(self.file, f"line {self.first_line}: {written(path)}" if self.is_line else written(path), what)

    def place(self, offset: int) -> str:
        """Line and column of a byte, both from 1, the column in bytes."""
        line = self.text.count(b"\n", 0, offset) + self.first_line
        column = offset - self.text.rfind(b"\n", 0, offset)
        return f"line {line}, column {column}"

    def _unusual_value(self, piece: bytes, path: JsonPath) -> Problem | None:
        """Find the value that Python's lenient decoder takes and JSON does not have: NaN, infinity, broken Unicode."""
        try:
            root = json.loads(piece.decode("utf-8", "surrogateescape"), strict=False)
        except (ValueError, RecursionError):
            return None
        broken_bytes = not _is_utf8(piece)
        for where, value in _leaves(root, path):
            if isinstance(value, float) and not -float("inf") < value < float("inf"):
                return self.problem(where, f"{value} is no JSON number; a finite number, or no value at all, was expected")
            if isinstance(value, str) and not is_encodable(value):
                kind = "bytes that are not UTF-8" if broken_bytes else "half of a surrogate pair (\\ud800 to \\udfff), which is no character"
                return self.problem(where, f"the text has {kind}; text in UTF-8 was expected")
        return None

    def _syntax(self, error: orjson.JSONDecodeError, start: int, path: JsonPath) -> Problem:
        offset = start + len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
        if error.msg.startswith(("unexpected end", "Input is a zero-length")) and offset >= len(self.text):
            return self.problem(path, f"the file ends in the middle of this value, at {self.place(len(self.text))}; it is truncated: write or copy it again")
        return self.problem(path, f"no valid JSON: {error.msg}, at {self.place(offset)}")


def written(path: JsonPath) -> str:
    """Write a path as JSONPath: `$.features[3].top_activations[0].text`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" if part.isidentifier() else f"[{part!r}]" for part in path)


def named(value: object) -> str:
    """Name a value for a message: its kind, and the value itself when it is short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {_shortened(value)!r}"
        case list():
            return "a list"
        case _:
            return "an object"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def _leaves(root: object, path: JsonPath) -> Iterator[tuple[JsonPath, object]]:
    """Every key and every value that is neither list nor object, in the order of the file."""
    waiting: list[tuple[JsonPath, object]] = [(path, root)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, dict):
            yield from ((where, key) for key in value)
            waiting.extend(((*where, _printable(key)), inner) for key, inner in reversed(value.items()))
        elif isinstance(value, list):
            waiting.extend(((*where, index), value[index]) for index in reversed(range(len(value))))
        else:
            yield where, value


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
