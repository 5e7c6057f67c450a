"""What kind of pattern a feature detects, by its input or by rules on its texts."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.context.passages import Passage, evenly
from mistudio_explain.events.explanation import Category

LEAST_SCORE = 0.25  # half of the texts, or a quarter and a quarter of the focus: less is chance (see the tests on labelled snippets)
FOCUS_WEIGHT = 0.5
TEXTS_JUDGED = 12  # evenly over the ranks
KEYWORDS_READ = 10
UNKNOWN_CATEGORY = "unknown_category"


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes a text one of a category: enough of its words, one of its phrases, or its shape."""

    words: frozenset[str]
    enough: int
    """How many different ones of the words a text must have."""
    phrases: tuple[str, ...]
    """Lower-case pieces of text, one of which is enough."""
    has_shape: Callable[[str], bool]
    """Whether a lower-case text has the structure that by itself is enough."""

    def fits(self, passage: Passage) -> bool:
        """Whether a text is of the category."""
        if len(self.words & passage.vocabulary) >= self.enough:
            return True
        folded = passage.folded
        for phrase in self.phrases:  # `any` of a generator takes twice as long here
            if phrase in folded:
                return True
        return self.has_shape(folded)


_TECHNICAL = """
    api apis json xml html css yaml toml csv sql http https url urls endpoint endpoints schema schemas param params boolean bool int str const def var func
    enum null nullptr none nil void async await lambda tuple dict array arrays integer compiler compile runtime debug debugging code coding programming
    programmer python javascript java typescript golang linux unix windows android ios server servers database databases query queries cpu gpu ram usb wifi
    ethernet router kernel docker git github repository repo algorithm algorithms regex syntax stdout stderr println printf foreach elif malloc config
    software hardware firmware browser login password upload download pdf app apps script scripts
"""
_CONVERSATIONAL = """
    you your i me my hi hello hey thanks thank please sorry okay ok yes yeah yep haha lol bye welcome ask asked asking answer tell chat replied reply user
    assistant customer help
"""
_BEHAVIORAL = """
    tool tools invoke invoked invoking capability capabilities capable ability abilities able unable cannot skill skills decide decides decided decision
    refuse refused refuses refusal comply complied permitted permission limitation limitations attempt attempted agent agents task tasks assess assessment
    evaluate evaluation competence
"""
_TEMPORAL = """
    today tomorrow yesterday tonight monday tuesday wednesday thursday friday saturday sunday january february april june july august september october
    november december year years month months week weeks day days hour hours minute minutes morning afternoon evening midnight noon daily weekly monthly
    yearly annual annually schedule scheduled schedules scheduling calendar deadline deadlines appointment appointments duration decade decades century
    centuries ago weekend date dates
"""

_BEHAVIORAL_PHRASES = (
    *("tool call", "tool_call", "tool use", "tool_use", "function call", "function_call", "call the tool", "use the calculator", "search tool"),
    *("as an ai", "i can't help with", "i cannot help", "i'm not able to", "i am not able to", "i'm unable to", "i am unable to"),
    *("i don't have access", "don't have the ability", "the model can", "the model cannot", "the model refuses", "the model is able", "the model decides"),
)
_CONVERSATIONAL_PHRASES = (
    *("how can i help", "how may i help", "how can i assist", "can you help", "can you please", "can you tell", "can you explain", "could you please"),
    *("thank you for contacting", "thank you for reaching", "i'd be happy to", "happy to help", "i have a question", "let me know if"),
)
_TECHNICAL_PHRASES = (
    *('": ', "():", "();", "() {", "=>", "::", "->", "</", "```", "http://", "https://", "#include", "def __", "\nimport "),
    *("get /", "post /", "select * from", "insert into"),
)

_CODE_MARKS = "{}[];=<>\\_^#"
_CODE_SHARE = 0.04  # of a text's characters; prose has less than 0.01
_ROLE = re.compile(
    r"(?:^|\n)[ \t]*(?:user|human|assistant|system|bot|customer|agent|support|interviewer|moderator|q|a|me|you)[ \t]*:"
    r"|<\|(?:im_start|user|assistant|system|start_header_id)\b|\[inst\]"
)
# 14:30, 2024-05-01, 5/12/2024, 3 weeks, 9 pm: each begins with a digit, which the search skips to
_CLOCK = re.compile(r"\d(?::[0-5]\d(?!\d)|-[01]\d-[0-3]\d\b|/\d{1,2}/\d\d| (?:second|minute|hour|day|week|month|year)s?\b| ?[ap]\.?m\b)")


def _is_code(folded: str) -> bool:
    return sum(map(folded.count, _CODE_MARKS)) >= max(3, _CODE_SHARE * len(folded))


def _has_roles(folded: str) -> bool:
    return (":" in folded or "[inst]" in folded or "<|" in folded) and _ROLE.search(folded) is not None


def _has_clock(folded: str) -> bool:
    return _CLOCK.search(folded) is not None


def _no_shape(folded: str) -> bool:  # noqa: ARG001  (some categories have none)
    return False


RULES: Mapping[Category, Rule] = {
    Category.BEHAVIORAL: Rule(frozenset(_BEHAVIORAL.split()), 3, _BEHAVIORAL_PHRASES, _no_shape),
    Category.CONVERSATIONAL: Rule(frozenset(_CONVERSATIONAL.split()), 4, _CONVERSATIONAL_PHRASES, _has_roles),
    Category.TECHNICAL: Rule(frozenset(_TECHNICAL.split()), 2, _TECHNICAL_PHRASES, _is_code),
    Category.TEMPORAL: Rule(frozenset(_TEMPORAL.split()), 2, (), _has_clock),
}
"""In the order in which they win a tie: the rarer and the more telling first."""


def category_of(given: str | None, keywords: Sequence[str], passages: Sequence[Passage]) -> tuple[Category, bool, list[str]]:
    """The category, whether it was given, and flags.

    A given name counts, whatever its case; one that is not ours makes the category `other`, flagged. Without one it
    is inferred.
    """
    if given is None or not given.strip():
        return inferred(keywords, passages), False, []
    name = given.strip().lower()
    known = {category.value: category for category in Category}.get(name)
    return known or Category.OTHER, True, [] if known else [UNKNOWN_CATEGORY]


def inferred(keywords: Sequence[str], passages: Sequence[Passage]) -> Category:
    """The category that the rules give.

    A category's score is half the share of texts that fit its rule and half the share of the focus (the keywords,
    and each text's peak where it is known) among its words; without a focus the share of texts alone. The greatest
    score from LEAST_SCORE on wins, else the category is `other`: most features of a language model are of none of
    the four kinds. The rules are transparent and not validated on people beyond the labelled snippets of the tests.
    """
    if not passages:
        return Category.OTHER
    passages = [passages[rank] for rank in evenly(len(passages), TEXTS_JUDGED)]
    focus = list(_focus(keywords, passages))
    scores = {category: _score(rule, focus, passages) for category, rule in RULES.items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] >= LEAST_SCORE else Category.OTHER


def _focus(keywords: Sequence[str], passages: Sequence[Passage]) -> Iterable[str]:
    for keyword in keywords[:KEYWORDS_READ]:
        yield from keyword.lower().split()
    yield from (passage.peak for passage in passages if passage.peak)


def _score(rule: Rule, focus: Sequence[str], passages: Sequence[Passage]) -> float:
    texts = sum(map(rule.fits, passages)) / len(passages)
    if not focus:
        return texts
    return (1 - FOCUS_WEIGHT) * texts + FOCUS_WEIGHT * sum(word in rule.words for word in focus) / len(focus)
