"""The language of `--where`: conditions on the outcomes of a job, such as `category=technical and quality<0.6`.

    condition   := all ("or" all)*
    all         := one ("and" one)*
    one         := "not" one | "(" condition ")" | comparison
    comparison  := field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
    value       := a number, a word, or a text in double or single quotes

What an outcome lacks matches no comparison, `!=` included: a feature without a quality is neither `quality<0.6` nor
`quality>=0.6`; `not quality>=0.6` has it.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import Category, FeatureOutcome, OutcomeKind, Tier, Verification

LONGEST = 2000
"""Characters of a condition."""

DEEPEST = 50
"""Parentheses and `not` inside each other."""

_TOKEN = re.compile(r"""\s*(?:(?P<mark><=|>=|!=|[=<>()])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s=<>!()"']+))""")
_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_KEYWORDS = frozenset({"and", "or", "not"})
_PLAIN = re.compile(r"""[^\s=<>!()"']+""")


@dataclass(frozen=True, slots=True)
class _Text:
    """A field that holds names; `known` are all there are, empty when they are free."""

    values: Callable[[FeatureOutcome], Sequence[str] | None]
    known: tuple[str, ...] = ()


def _one(value: Callable[[FeatureOutcome], str | None]) -> Callable[[FeatureOutcome], Sequence[str] | None]:
    def values(outcome: FeatureOutcome) -> Sequence[str] | None:
        found = value(outcome)
        return None if found is None else (found,)

    return values


_TEXTS: Mapping[str, _Text] = {
    "category": _Text(_one(lambda o: o.subject.category), tuple(Category)),
    "verdict": _Text(_one(lambda o: o.pattern_verification), tuple(Verification)),
    "tier": _Text(_one(lambda o: o.subject.tier), tuple(Tier)),
    "model": _Text(_one(lambda o: o.generation.model if o.generation else None)),
    "prompt": _Text(_one(lambda o: o.prompt_template)),
    "safety": _Text(_one(lambda o: o.safety.assessment if o.safety else None), ("safe", "concerning", "requires_review")),
    "flag": _Text(lambda o: o.flags),
    "outcome": _Text(_one(lambda o: o.outcome), tuple(OutcomeKind)),
    "relevance": _Text(_one(lambda o: o.business_relevance), ("high", "medium", "low")),
}
_NUMBERS: Mapping[str, Callable[[FeatureOutcome], float | None]] = {
    "quality": lambda o: o.quality_score,
    "accuracy": lambda o: o.accuracy.p if o.accuracy else None,
    "confidence": lambda o: o.confidence,
    "coherence": lambda o: o.subject.coherence_score,
}
FIELDS = (*_TEXTS, *_NUMBERS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field compared with one value."""

    field: str
    relation: str
    value: str | float

    def matches(self, outcome: FeatureOutcome) -> bool:
        """Whether it holds; what is missing never does."""
        if isinstance(self.value, float):
            number = _NUMBERS[self.field](outcome)
            return number is not None and _RELATIONS[self.relation](number, self.value)
        values = _TEXTS[self.field].values(outcome)
        return values is not None and (self.value in values) is (self.relation == "=")

    def __str__(self) -> str:
        if isinstance(self.value, float):
            return f"{self.field}{self.relation}{self.value!r}"
        quote = "'" if '"' in self.value else '"'
        bare = _PLAIN.fullmatch(self.value) is not None
        return f"{self.field}{self.relation}{self.value if bare else f'{quote}{self.value}{quote}'}"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    inner: "Condition"

    def matches(self, outcome: FeatureOutcome) -> bool:
        """Whether the inner condition does not hold."""
        return not self.inner.matches(outcome)

    def __str__(self) -> str:
        return f"not {self.inner}" if isinstance(self.inner, Comparison | Not) else f"not ({self.inner})"


@dataclass(frozen=True, slots=True)
class Every:
    """All of some conditions."""

    inner: tuple["Condition", ...]

    def matches(self, outcome: FeatureOutcome) -> bool:
        """Whether each holds."""
        return all(condition.matches(outcome) for condition in self.inner)

    def __str__(self) -> str:
        return " and ".join(str(c) if isinstance(c, Comparison | Not) else f"({c})" for c in self.inner)


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of some conditions."""

    inner: tuple["Condition", ...]

    def matches(self, outcome: FeatureOutcome) -> bool:
        """Whether one holds."""
        return any(condition.matches(outcome) for condition in self.inner)

    def __str__(self) -> str:
        return " or ".join(str(c) if isinstance(c, Comparison | Not) else f"({c})" for c in self.inner)


Condition = Comparison | Not | Every | Either


def parse(text: str) -> Condition:
    """Read a condition; raises BadInput that names the character where it stops making sense, from 1."""
    if len(text) > LONGEST:
        raise BadInput(f"the condition has {len(text)} characters; at most {LONGEST} are taken")
    return _Parser(text).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    at: int
    """Index of its first character, from 0."""
    text: str
    kind: str
    """mark, word, text or end."""


class _Parser:
    """Reads one text from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        """Where the next token begins to be looked for."""
        self._next = self._token()

    def whole(self) -> Condition:
        condition = self._any(0)
        if self._next.kind != "end":
            self._wrong(self._next, "`and`, `or` or the end was expected")
        return condition

    def _any(self, depth: int) -> Condition:
        found = [self._every(depth)]
        while self._takes_keyword("or"):
            found.append(self._every(depth))
        return found[0] if len(found) == 1 else Either(tuple(found))

    def _every(self, depth: int) -> Condition:
        found = [self._one(depth)]
        while self._takes_keyword("and"):
            found.append(self._one(depth))
        return found[0] if len(found) == 1 else Every(tuple(found))

    def _one(self, depth: int) -> Condition:
        if depth > DEEPEST:
            self._wrong(self._next, f"conditions are nested more than {DEEPEST} deep")
        if self._takes_keyword("not"):
            return Not(self._one(depth + 1))
        if self._takes_mark("("):
            inner = self._any(depth + 1)
            if not self._takes_mark(")"):
                self._wrong(self._next, "`)` was expected")
            return inner
        return self._comparison()

    def _comparison(self) -> Comparison:
        field = self._take("word", f"a field was expected: {', '.join(FIELDS)}")
        name = field.text.lower()
        if name not in FIELDS:
            self._wrong(field, f"there is no field {field.text!r}; there are {', '.join(FIELDS)}")
        relation = self._take("mark", "one of = != < <= > >= was expected")
        if relation.text not in _RELATIONS:
            self._wrong(relation, "one of = != < <= > >= was expected")
        if self._next.kind not in ("word", "text"):
            self._wrong(self._next, "a value was expected")
        value = self._advance()
        if name in _NUMBERS:
            return Comparison(name, relation.text, self._number(name, value))
        if relation.text not in ("=", "!="):
            self._wrong(relation, f"{name} is a name and not a number; it takes = and !=")
        known = _TEXTS[name].known
        if known and value.text not in known:
            self._wrong(value, f"{name} is one of {', '.join(known)}")
        return Comparison(name, relation.text, str(value.text))

    def _number(self, name: str, value: _Token) -> float:
        try:
            number = float(value.text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self._wrong(value, f"{name} is compared with a number, such as 0.6")
        return number

    def _takes_keyword(self, keyword: str) -> bool:
        if self._next.kind == "word" and self._next.text.lower() == keyword:
            self._advance()
            return True
        return False

    def _takes_mark(self, mark: str) -> bool:
        if self._next.kind == "mark" and self._next.text == mark:
            self._advance()
            return True
        return False

    def _take(self, kind: str, expected: str) -> _Token:
        if self._next.kind != kind or self._next.text.lower() in _KEYWORDS:
            self._wrong(self._next, expected)
        return self._advance()

    def _advance(self) -> _Token:
        taken = self._next
        self._next = self._token()
        return taken

    def _token(self) -> _Token:
        start = self._end
        match = _TOKEN.match(self._text, start)
        if match is None:
            rest = len(self._text) - len(self._text[start:].lstrip())
            if rest < len(self._text):
                self._wrong(_Token(rest, self._text[rest], "mark"), "this is no part of a condition; a text with spaces stands in quotes, closed ones")
            return _Token(len(self._text), "", "end")
        self._end = match.end()
        if (mark := match["mark"]) is not None:
            return _Token(match.start("mark"), mark, "mark")
        if (word := match["word"]) is not None:
            return _Token(match.start("word"), word, "word")
        quoted = match["double"] if match["double"] is not None else match["single"]
        return _Token(match.end() - len(quoted) - 2, quoted, "text")

    def _wrong(self, token: _Token, expected: str) -> NoReturn:
        where = "at the end" if token.kind == "end" else f"at character {token.at + 1}, {token.text!r}"
        raise BadInput(f"the condition {self._text!r} is wrong {where}: {expected}")
