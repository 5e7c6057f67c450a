"""Renders a feature's prompt from a template, within its budget of tokens."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from mistudio_explain.context.cleaning import cleaned, neutral, one_line
from mistudio_explain.context.evidence import OVER_BUDGET, Split, has_lower_bins
from mistudio_explain.context.marks import shown, strongest
from mistudio_explain.context.passages import Passage
from mistudio_explain.context.template import Template, shipped, templates_in
from mistudio_explain.errors import BadInput, BadSettings
from mistudio_explain.events.explanation import Category, Message, Prompt
from mistudio_explain.events.feature import FeatureFound, Logit

CHARACTERS_PER_TOKEN = 3.5  # English under the tokenizers of Llama 3 and GPT-2 has 4 and more, code and names fewer
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
        if default is not None and default not in known:
            raise BadSettings(f"context.template: there is no template {default!r}; there are {', '.join(sorted(known))}")
        return cls(known)

    def chosen(self, asked: str | None, family: str, category: Category) -> Template:
        """The template asked for, else the most special one for the family and category: a family's own before
        another's, a category's own before a general one, the latest version, the last name.

        Raises BadInput when the one that was asked for does not exist.
        """
        if asked is not None:
            if asked not in self.known:
                raise BadInput(f"the job asks for the prompt template {asked!r}, which does not exist; there are {', '.join(sorted(self.known))}")
            return self.known[asked]
        suitable = [template for template in self.known.values() if template.suits(family, category)]
        return max(suitable, key=lambda t: ("*" not in t.families, bool(t.categories), _version(t.version), t.name))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, the split that it really shows, and what had to be done to make it fit."""

    prompt: Prompt
    split: Split
    flags: list[str]


def render(feature: FeatureFound, split: Split, template: Template, prompt_tokens: int) -> Rendered:
    """Render the prompt within `prompt_tokens`: first the texts get shorter, then the weakest are left out.

    One text always stays; when even that is over the budget, the flag says so too.
    """
    budget = prompt_tokens * CHARACTERS_PER_TOKEN
    longest = template.text_characters
    trimmed = False
    while True:
        examples = _examples(split.seen, longest)
        messages = template.messages(_variables(feature, examples, split.seen, template))
        over = sum(len(message.content) for message in messages) - budget
        if over <= 0 or (len(examples) == 1 and longest <= SHORTEST_TEXT):
            return Rendered(_prompt(template, messages), split, [OVER_BUDGET] if trimmed or over > 0 else [])
        shorter = _longest_that_fits([len(passage.text) for passage in split.seen], examples, over, longest)
        if shorter >= SHORTEST_TEXT or len(examples) == 1:
            longest = max(SHORTEST_TEXT, shorter)
        else:
            split, trimmed = split.without_weakest(), True


def _longest_that_fits(lengths: Sequence[int], examples: Sequence[Example], over: float, longest: int) -> int:
    """The greatest limit below `longest` at which the texts are by `over` characters shorter, if marks and indents shrink alike."""
    printed = sum(len(example.text) for example in examples)
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


def _variables(feature: FeatureFound, examples: Sequence[Example], seen: Sequence[Passage], template: Template) -> dict[str, object]:
    keywords = [word for keyword in feature.pattern_keywords[:KEYWORDS_SHOWN] if (word := one_line(keyword, KEYWORD_CHARACTERS))]
    logits = sorted(feature.top_logits or (), key=lambda logit: -abs(logit.value))
    promoted, suppressed = _tokens(logit for logit in logits if logit.value > 0), _tokens(logit for logit in logits if logit.value < 0)
    return {
        "audience": template.audience,
        "fence": _fence((*keywords, *promoted, *suppressed, *(example.text for example in examples), *(example.context or "" for example in examples))),
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


def _fence(untrusted: Sequence[str]) -> str:
    """A code that stands in none of the texts: it is made of their hash, so nobody can write it into one of them."""
    joined = "\x1f".join(untrusted)
    digest = hashlib.sha256(joined.encode("utf-8", "replace")).hexdigest()
    while digest[:_FENCE_DIGITS] in joined:
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:_FENCE_DIGITS]


def _prompt(template: Template, messages: list[Message]) -> Prompt:
    said = orjson.dumps([template.answer, [[message.role, message.content] for message in messages]])
    return Prompt(template=template.name, version=template.version, sha256=hashlib.sha256(said).hexdigest(), messages=messages, answer=template.answer)


def _version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


_TRIAL: Mapping[str, object] = {
    "audience": None,
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
