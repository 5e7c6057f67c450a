"""Prompt templates: text files with a front matter, read and checked before the first feature comes."""

import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2 import Template as Compiled
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mistudio_explain.context.passages import PASSAGE_CHARACTERS, TEXTS_READ
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Category, Message

SUFFIX = ".prompt"
VARIABLES: Mapping[str, str] = {
    "audience": "for whom to write: the setting context.audience, else the front matter's, or none",
    "feature_id": "the feature's id, one line",
    "coherence": "Find's coherence from 0 to 1, or none",
    "category": "technical, conversational, behavioral, temporal or other",
    "fence": "a code that no text contains",
    "keywords": "Find's keywords, a list of one-line texts",
    "examples": "the seen texts, strongest first: each has number, text (further lines indented), line (the text on one line), context, "
    "strengths (a list of token and strength from 0 to 10, none where unknown), strength (0-10 or none), quarter (1-4 or none)",
    "has_marks": "whether tokens that fire are marked << >> in the texts",
    "has_quarters": "whether the texts reach into the lower bins of the activation, so that `quarter` says something",
    "promoted": "tokens that the feature makes more likely",
    "suppressed": "tokens that it makes less likely",
}
"""What a template may use."""

_ROLES = ("system", "user", "assistant")
_HEADER = re.compile(r"^([a-z_]+):\s*(.*?)\s*$")
_ROLE = re.compile(r"^@(\w+)\s*$")
_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,60}$")
_KEYS = {"name", "version", "answer", "families", "categories", "only_when_asked", "audience", "texts", "text_characters"}

# plain text, not HTML: nothing is escaped; templates are written by operators, but a template is a text file, not code to trust
_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A template, ready to render."""

    name: str
    version: str
    answer: Literal["fields", "sentence"]
    families: tuple[str, ...]
    """Patterns of model families, `*` for any."""
    categories: frozenset[Category]
    """Categories that it is for; empty: all."""
    only_when_asked: bool
    """Whether it is used only where a setting or a job names it."""
    audience: str | None
    """For whom the explanation is written."""
    texts: int
    """Most texts that it shows."""
    text_characters: int
    """Most characters of each."""
    turns: tuple[tuple[Literal["system", "user", "assistant"], Compiled], ...]
    origin: str
    """The file that it comes from."""

    @property
    def full_name(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    def suits(self, family: str, category: Category) -> bool:
        """Whether it is for this family of models and this category."""
        return any(fnmatchcase(family.lower(), pattern) for pattern in self.families) and (not self.categories or category in self.categories)

    def messages(self, variables: Mapping[str, object]) -> list[Message]:
        """Render all turns. Raises BadSettings when the template fails on these variables, naming file and line."""
        return [Message(role=role, content=self._rendered(turn, variables)) for role, turn in self.turns]

    def _rendered(self, turn: Compiled, variables: Mapping[str, object]) -> str:
        try:
            return turn.render(variables).strip("\n")
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise BadSettings(f"{self.origin}, line {_line_of(error, self.origin)}: the template cannot be rendered: {error}") from error


def read_template(text: str, origin: str) -> Template:
    """Read a template's text. Raises BadSettings, naming `origin` and the line."""
    lines = text.splitlines()
    header, body = _front_matter(lines, origin)
    unknown = sorted(set(header) - _KEYS)
    if unknown:
        raise _wrong(origin, header[unknown[0]][0], f"{unknown[0]!r} is no field of a template; there are {', '.join(sorted(_KEYS))}")
    return Template(
        name=_matching(header, "name", _NAME, "a lower-case name such as general", origin),
        version=_matching(header, "version", re.compile(r"^[0-9][0-9.]{0,20}$"), "a number such as 1", origin),
        answer=cast('Literal["fields", "sentence"]', _matching(header, "answer", re.compile("^(fields|sentence)$"), "fields or sentence", origin)),
        families=tuple(_listed(header, "families", origin) or ("*",)),
        categories=frozenset(_category(header, name, origin) for name in _listed(header, "categories", origin)),
        only_when_asked="only_when_asked" in header and _matching(header, "only_when_asked", re.compile("^(yes|no)$"), "yes or no", origin) == "yes",
        audience=header["audience"][1] if "audience" in header else None,
        texts=_whole(header, "texts", 12, TEXTS_READ, origin),
        text_characters=_whole(header, "text_characters", PASSAGE_CHARACTERS, PASSAGE_CHARACTERS, origin),
        turns=tuple(_turns(lines, body, origin)),
        origin=origin,
    )


@cache
def shipped() -> tuple[Template, ...]:
    """The templates that come along."""
    folder = resources.files("mistudio_explain.context") / "templates"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(SUFFIX)), key=lambda file: file.name)
    return tuple(read_template(file.read_text(encoding="utf-8"), f"templates/{file.name}") for file in files)


def templates_in(directory: Path) -> tuple[Template, ...]:
    """The templates of a directory. Raises BadSettings when it, or one of its `*.prompt` files, cannot be read."""
    if not directory.is_dir():
        raise BadSettings(f"context.templates: {directory} is no directory; it must hold templates named *{SUFFIX}")
    found = []
    for file in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            found.append(read_template(file.read_text(encoding="utf-8"), str(file)))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{file}: the template cannot be read: {error}") from error
    return tuple(found)


def _front_matter(lines: list[str], origin: str) -> tuple[dict[str, tuple[int, str]], int]:
    """The fields with their line numbers, and the index of the first line after them."""
    if not lines or lines[0].strip() != "---":
        raise _wrong(origin, 1, "a template begins with a line --- and its fields name, version, answer")
    fields: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if line.strip() == "---":
            return fields, number
        match = _HEADER.match(line)
        if match is None:
            raise _wrong(origin, number, f"{line[:60]!r} is not of the form `field: value`")
        if match[1] in fields:
            raise _wrong(origin, number, f"{match[1]!r} stands twice")
        fields[match[1]] = number, match[2]
    raise _wrong(origin, len(lines), "the front matter has no closing line ---")


def _turns(lines: list[str], start: int, origin: str) -> Iterator[tuple[Literal["system", "user", "assistant"], Compiled]]:
    """Each turn from its line `@role` to the next, compiled so that line numbers are the file's."""
    heads = [(index, match[1]) for index, line in enumerate(lines) if index >= start and (match := _ROLE.match(line))]
    roles = [role for _, role in heads]
    stray = next((index for index in range(start, heads[0][0] if heads else len(lines)) if lines[index].strip()), None)
    if stray is not None:
        raise _wrong(origin, stray + 1, "text stands before the first turn; a turn begins with a line @system, @user or @assistant")
    for (index, role), before in zip(heads, [None, *roles], strict=False):
        if role not in _ROLES or (role == "assistant" and before != "user") or (role == "system" and before is not None) or role == before:
            raise _wrong(
                origin, index + 1, f"@{role} cannot stand here; the turns are @system (optional), @user, then perhaps @assistant with how the answer begins"
            )
    if "user" not in roles:
        raise _wrong(origin, len(lines), "there is no turn @user")
    ends = [index for index, _ in heads[1:]] + [len(lines)]
    for (index, role), end in zip(heads, ends, strict=True):
        yield cast('Literal["system", "user", "assistant"]', role), _compiled("\n" * (index + 1) + "\n".join(lines[index + 1 : end]), origin)


def _compiled(source: str, origin: str) -> Compiled:
    try:
        tree = _environment.parse(source, filename=origin)
        for name in tree.find_all(nodes.Name):
            if name.ctx == "load" and name.name not in VARIABLES and name.name not in _assigned(tree):
                raise _wrong(origin, name.lineno, f"{name.name!r} is nothing a template can use; there are {', '.join(VARIABLES)}")
        return Compiled.from_code(_environment, _environment.compile(source, filename=origin), _environment.make_globals(None))
    except TemplateSyntaxError as error:
        raise _wrong(origin, error.lineno, error.message or "syntax error") from error


def _assigned(tree: nodes.Template) -> set[str]:
    return {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")} | {"loop", "range"}


def _line_of(error: BaseException, origin: str) -> int | str:
    """The template's line in which an error was raised."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == origin]
    return lines[-1] if lines else "?"


def _matching(header: dict[str, tuple[int, str]], field: str, pattern: re.Pattern[str], expected: str, origin: str) -> str:
    number, value = header.get(field, (1, ""))
    if not pattern.match(value):
        raise _wrong(origin, number, f"{field} is {value!r}, expected {expected}" if field in header else f"the field {field} is missing")
    return value


def _whole(header: dict[str, tuple[int, str]], field: str, default: int, greatest: int, origin: str) -> int:
    number, value = header.get(field, (1, str(default)))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= greatest:
        raise _wrong(origin, number, f"{field} is {value!r}, expected a whole number from 1 to {greatest}")
    return int(value)


def _listed(header: dict[str, tuple[int, str]], field: str, origin: str) -> list[str]:
    if field not in header:
        return []
    number, value = header[field]
    parts = [part.strip().lower() for part in value.split(",")]
    if not all(parts):
        raise _wrong(origin, number, f"{field} is {value!r}, expected names separated by commas")
    return parts


def _category(header: dict[str, tuple[int, str]], name: str, origin: str) -> Category:
    if name not in {category.value for category in Category}:
        raise _wrong(origin, header["categories"][0], f"{name!r} is no category; there are {', '.join(Category)}")
    return Category(name)


def _wrong(origin: str, line: int, problem: str) -> BadSettings:
    return BadSettings(f"{origin}, line {line}: {problem}")
