"""Renders a feature's prompt from a template, within its budget of tokens."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

from mistudio_explain.context.cleaning import cleaned, neutral, one_line
from mistudio_explain.context.evidence import OVER_BUDGET, TRIMMED, Split, has_lower_bins
from mistudio_explain.context.marks import shown, strongest
from mistudio_explain.context.passages import Passage
from mistudio_explain.context.template import Template, shipped, templates_in
from mistudio_explain.context.tokens import estimated_tokens
from mistudio_explain.errors import BadInput, BadSettings
from mistudio_explain.events.explanation import Category, Evidence, Message, Prompt, Subject
from mistudio_explain.events.feature import FeatureFound, Logit

SHORTEST_TEXT = 120  # characters; a text is dropped rather than cut shorter
KEYWORDS_SHOWN = 10
KEYWORD_CHARACTERS = 40
CONTEXT_CHARACTERS = 80
LOGITS_SHOWN = 10
TOKEN_CHARACTERS = 30
_FENCE_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Example:
    """A text as a template sees it; every part comes from the input and is to be believed nothing."""

    number: int
    text: str
    """Lines after the first are indented, so that no line of a text can pass for a line of the prompt."""
    line: str
    """The same on one line."""
    strengths: list[tuple[str, int | None]]
    strength: int | None
    quarter: int | None
    context: str | None


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates of a service, by name@version."""

    known: Mapping[str, Template]

    @classmethod
    def load(cls, directory: Path | None = None, *, default: str | None = None) -> "Templates":
        """The shipped templates and those of a directory; each is tried on an example.

        Raises BadSettings, naming file and line, for one that cannot be used, and when `default` is none of them.
        """
        known: dict[str, Template] = {}
        for template in (*shipped(), *(templates_in(directory) if directory else ())):
            if template.full_name in known:
                raise BadSettings(f"{template.origin}, line 1: {template.full_name} is also in {known[template.full_name].origin}; give it another version")
            template.messages(_TRIAL)
            known[template.full_name] = template
        templates = cls(known)
        if default is not None and not all(templates._suitable(default, "", category) for category in Category):
            raise BadSettings(f"context.template: there is no template {default!r} that fits every feature; there are {', '.join(sorted(known))}")
        return templates

    def chosen(self, asked: str | None, family: str, category: Category) -> Template:
        """The template asked for, by its name@version or, for the most special one of several, a pattern such as `spec-*`.

        Without one the most special one of those that need not be asked for. More special is: a family's own before
        another's, a category's own before a general one, the latest version, the last name.
        Raises BadInput when there is none such.
        """
        suitable = self._suitable(asked, family, category)
        if not suitable:
            raise BadInput(f"the job asks for the prompt template {asked!r}, which does not exist; there are {', '.join(sorted(self.known))}")
        return max(suitable, key=lambda t: ("*" not in t.families, bool(t.categories), _version(t.version), t.name))

    def _suitable(self, asked: str | None, family: str, category: Category) -> list[Template]:
        if asked is not None and asked in self.known:
            return [self.known[asked]]
        suitable = (template for template in self.known.values() if template.suits(family, category))
        return [template for template in suitable if (not template.only_when_asked if asked is None else fnmatchcase(template.full_name, asked))]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, the split that it really shows, and what had to be done to make it fit."""

    prompt: Prompt
    split: Split
    flags: list[str]


def render(feature: FeatureFound, category: Category, split: Split, template: Template, prompt_tokens: int, *, audience: str | None = None) -> Rendered:
    """Render the prompt within `prompt_tokens`: first the texts get shorter, then the weakest are left out.

    Flags say how many were left out, and that the one text which always stays is over the budget. `audience` takes the
    place of the template's own.
    """
    longest = template.text_characters
    left_out = 0
    while True:
        examples = _examples(split.seen, longest)
        messages = template.messages(_variables(feature, category, examples, split.seen) | {"audience": audience or template.audience})
        over = sum(estimated_tokens(message.content) for message in messages) - prompt_tokens
        if over <= 0 or (len(examples) == 1 and longest <= SHORTEST_TEXT):
            flags = [*([f"{TRIMMED}{left_out}"] if left_out else []), *([OVER_BUDGET] if over > 0 else [])]
            return Rendered(_prompt(template, messages), split, flags)
        shorter = _longest_that_fits([len(passage.text) for passage in split.seen], examples, over, longest)
        if shorter >= SHORTEST_TEXT or len(examples) == 1:
            longest = max(SHORTEST_TEXT, shorter)
        else:
            split, left_out = split.without_weakest(), left_out + 1


def rendered_again(subject: Subject, evidence: Evidence, template: Template, prompt_tokens: int, *, audience: str | None = None) -> Rendered:
    """The prompt of a feature whose evidence was chosen before, from what a request or an outcome tells of it."""
    feature = FeatureFound(
        target_model=subject.target_model or "-",
        find_job_id=subject.find_job_id or "-",
        feature_id=subject.feature_id or subject.feature_key,
        coherence_score=subject.coherence_score,
        pattern_keywords=subject.keywords,
        top_logits=subject.logits,
    )
    split = Split(tuple(map(Passage.of, evidence.seen)), tuple(map(Passage.of, evidence.held_out)), evidence.trimmed)
    return render(feature, subject.category or Category.OTHER, split, template, prompt_tokens, audience=audience)


def _longest_that_fits(lengths: Sequence[int], examples: Sequence[Example], over: float, longest: int) -> int:
    """The greatest limit below `longest` at which the texts are by `over` tokens shorter, if every part of them shrinks alike."""
    printed = sum(estimated_tokens(example.text) for example in examples)
    taken = sum(min(length, longest) for length in lengths)
    room = taken * (1 - over / printed) if printed else 0.0
    return bisect_right(range(longest), room, key=lambda limit: sum(min(length, limit) for length in lengths)) - 1


def _examples(passages: Sequence[Passage], longest: int) -> list[Example]:
    ten = strongest(passages)
    greatest = max((passage.activation.activation_strength or 0.0 for passage in passages), default=0.0)
    binned = has_lower_bins(passages)
    return [_example(number, passage, longest, ten, greatest if binned else None) for number, passage in enumerate(passages, 1)]


def _example(number: int, passage: Passage, longest: int, ten: float | None, greatest: float | None) -> Example:
    """`greatest` is the strength that counts as 10; None when all texts are of the top tail, where strengths say nothing."""
    text, strengths = shown(passage, longest, ten)
    lines = text.strip("\n").splitlines()
    share = None if greatest is None else max(0.0, (passage.activation.activation_strength or 0.0) / greatest)
    context = one_line(passage.activation.context or "", CONTEXT_CHARACTERS)
    return Example(
        number=number,
        text="\n    ".join(lines),
        line=" ".join(text.split()),
        strengths=[(one_line(token, TOKEN_CHARACTERS), strength) for token, strength in strengths],
        strength=None if share is None else round(10 * share),
        quarter=None if share is None else min(4, 1 + int(4 * (1 - share))),
        context=context or None,
    )


def _variables(feature: FeatureFound, category: Category, examples: Sequence[Example], seen: Sequence[Passage]) -> dict[str, object]:
    keywords = [word for keyword in feature.pattern_keywords[:KEYWORDS_SHOWN] if (word := one_line(keyword, KEYWORD_CHARACTERS))]
    logits = sorted(feature.top_logits or (), key=lambda logit: -abs(logit.value))
    promoted, suppressed = _tokens(logit for logit in logits if logit.value > 0), _tokens(logit for logit in logits if logit.value < 0)
    return {
        "feature_id": one_line(feature.feature_id, TOKEN_CHARACTERS),
        "coherence": feature.coherence_score,
        "category": category.value,
        "fence": fence_of((*keywords, *promoted, *suppressed, *(example.text for example in examples), *(example.context or "" for example in examples))),
        "keywords": keywords,
        "examples": examples,
        "has_marks": any("<<" in example.text for example in examples),
        "has_quarters": has_lower_bins(seen),
        "promoted": promoted,
        "suppressed": suppressed,
    }


def _tokens(logits: Iterable[Logit]) -> list[str]:
    """The first tokens in quotation marks, which show a leading space."""
    return [orjson.dumps(neutral(cleaned(logit.token))[:TOKEN_CHARACTERS]).decode() for logit, _ in zip(logits, range(LOGITS_SHOWN), strict=False)]


def fence_of(untrusted: Sequence[str]) -> str:
    """A code that stands in none of the texts: it is made of their hash, so nobody can write it into one of them."""
    joined = "\x1f".join(untrusted)
    digest = hashlib.sha256(joined.encode("utf-8", "replace")).hexdigest()
    while digest[:_FENCE_DIGITS] in joined:
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:_FENCE_DIGITS]


def _prompt(template: Template, messages: list[Message]) -> Prompt:
    return Prompt(template=template.name, version=template.version, sha256=sha256_of(template.answer, messages), messages=messages, answer=template.answer)


def sha256_of(answer: str, messages: Sequence[Message]) -> str:
    """The prompt's identity: hash of the messages and the answer's form, hex."""
    return hashlib.sha256(orjson.dumps([answer, [[message.role, message.content] for message in messages]])).hexdigest()


def _version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


_TRIAL: Mapping[str, object] = {
    "audience": None,
    "feature_id": "5",
    "coherence": None,
    "category": "other",
    "fence": "0" * _FENCE_DIGITS,
    "keywords": ["one", "two"],
    "examples": [
        Example(1, "a <<text>>", "a <<text>>", [("text", 10), ("a", None)], 10, 1, "a source"),
        Example(2, "another", "another", [], None, None, None),
    ],
    "has_marks": True,
    "has_quarters": True,
    "promoted": ['" more"'],
    "suppressed": ['" less"'],
}
