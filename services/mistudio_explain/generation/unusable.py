"""What makes a model's answer no answer: each reason, and how it is noticed."""

import re
from collections.abc import Mapping, Sequence

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Prompt
from mistudio_explain.generation.language import foreign_language, unquoted

ECHO_WORDS = 10
"""So many words in a row of the prompt's texts are an echo when such runs are most of the answer; a quoted phrase is shorter."""
ECHO_RUN = 6  # words in a row that count as copied once there is a run of ECHO_WORDS
ECHO_SHARE = 0.7
LOOKED_AT = 4_000  # characters of a text of any length; the patterns take a time that grows with its square
INSTRUCTION_WORDS = 4  # a whole part of an answer of so many words that stands in the instructions is copied from there
DANGLING_FROM = 5  # words; a shorter text that ends in a function word names that word

_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[^\W_]")

_PLACEHOLDER = re.compile(
    r"n a|na|none|null|nil|undefined|tbd|todo|string|text|label|pattern|explanation|one sentence|not applicable|not available|no pattern|your answer(?: here)?"
)

_TASKS = (
    "help|assist|provide|explain|answer|comply|fulfil|fulfill|discuss|analy[sz]e|interpret|describe|do|engage|continue|process|comment|tell|give|say|offer|"
    "respond|create|generate|write|complete|perform|proceed|identify|summari[sz]e|talk|share|support|participate|go|accept|access|determine|be"
)
_UNABLE = "|".join(
    [
        r"(?:can ?not|can['’]?t|won['’]?t|will not|could not|couldn['’]t)(?: and (?:will not|won['’]t|cannot))?(?: (?:really|currently|in good conscience))?"
        rf" (?:{_TASKS})\b",
        rf"(?:am|['’]?m)(?: just| simply)? (?:unable|not (?:able|allowed|permitted|authori[sz]ed|programmed|designed|trained)) to (?:{_TASKS})\b",
        r"(?:am|['’]?m) not comfortable\b",
        r"(?:do not|don['’]t) (?:feel comfortable|think i (?:should|can)|have (?:access|the ability))\b",
        r"(?:must|have to|need to|will|['’]ll|(?:am|['’]?m) going to have to) (?:respectfully |politely )?(?:decline|refuse)\b",
        r"(?:would|['’]d) rather not\b",
        r"(?:am|['’]?m) (?:just|only) an? (?:ai|llm|language model|assistant)\b",
    ]
)
_REFUSAL = re.compile(
    "|".join(
        [
            r"^\W*(?:i['’]?m|i am|we are|we['’]re) (?:so |very |really |truly |deeply )?(?:sorry|afraid)(?:[,.;]| but\b| i\b| that i\b)",
            r"^\W*sorry,? (?:but|i|that is|that['’]s|this|we|no)\b",
            r"^\W*i apologi[sz]e\b(?:,| but| for| that)",
            r"^\W*as an? (?:[\w-]+ ){0,3}?(?:ai|llm|language model|assistant|chatbot)\b",
            r"^\W*(?:the |this |your )?request (?:was |is |has been )?(?:denied|flagged|refused|declined|blocked|rejected)\b",
            rf"\bi(?:['’]| )?(?:{_UNABLE})",
            r"\bi(?:['’]?m| am) (?:afraid|sorry)(?: that)? i can",
            r"\bmy (?:\w+ )?(?:guidelines|programming|polic(?:y|ies)|instructions|training) (?:do|don|does|prevent|prohibit|forbid|wo|will)",
            r"\b(?:against|violates?|violating) (?:my|our) (?:\w+ )?(?:guidelines|polic)",
            r"\b(?:inappropriate|not (?:appropriate|possible|ethical|right)) for me to\b",
        ]
    ),
    re.IGNORECASE,
)
"""Ways in which a model speaks of itself as unable or unwilling: at the beginning, or in the first person anywhere."""

_DANGLING = re.compile(
    r"the|an?|and|or|of|in|to|for|with|as|by|on|at|from|that|which|who|whose|is|are|been?|has|have|into|than|when|where|but|its|their|this|these|between|"
    r"because|like|including|while",
    re.IGNORECASE,
)
_NAMES_A_WORD = re.compile(r"(?:word|token|verb)s?|conjunction|preposition|article|particle|pronoun|infinitive|prefix|suffix|contraction", re.IGNORECASE)
_END = 120  # characters
_LAST_WORDS = re.compile(r"(?:^|([\w'’]+)([,;:]?)\s+)([\w'’]+)\s*([,(]?)\s*$")


class Truncated(UnusableAnswer):
    """The answer stops before its end."""

    kind = "truncated"


class Refused(UnusableAnswer):
    """The model declined."""

    kind = "refusal"


class Filtered(UnusableAnswer):
    """The provider's content filter stopped the answer."""

    kind = "content filter"
    repeatable = False


class ToolCalled(UnusableAnswer):
    """The model called a tool, although it was offered none."""

    kind = "tool call"


class Echoed(UnusableAnswer):
    """The answer repeats the prompt."""

    kind = "echo"


class Empty(UnusableAnswer):
    """A part that must say something says nothing."""

    kind = "empty"


class WrongLanguage(UnusableAnswer):
    """The answer is not in English, in which it was asked for."""

    kind = "wrong language"


class Malformed(UnusableAnswer):
    """The answer has not the form that was asked for; `problem` says so without quoting it."""

    kind = "malformed"

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(f"{problem}: {excerpt(text)}")
        self.problem = problem


def refuse_refusal(text: str) -> None:
    """Raise Refused for a text in which the model speaks of itself as unable or unwilling. A refusal that is quoted is what the answer is about."""
    if _REFUSAL.search(unquoted(text[:LOOKED_AT])):
        raise Refused(f"the model declined: {excerpt(text)}")


def refuse_nothing(name: str, text: str) -> None:
    """Raise Empty for a part without a letter or figure."""
    if not _LETTER.search(text):
        raise Empty(f"{name!r} has no word: {excerpt(text)}")


def refuse_placeholder(text: str) -> None:
    """Raise Empty for a pattern that only fills the place of one, such as `N/A` or `<one sentence>`."""
    if '"' not in text and _PLACEHOLDER.fullmatch(" ".join(_words(text))):
        raise Empty(f"the pattern says nothing: {excerpt(text)}")


def refuse_other_language(name: str, text: str) -> None:
    """Raise WrongLanguage."""
    if language := foreign_language(text[:LOOKED_AT]):
        raise WrongLanguage(f"{name!r} is not English but {language}: {excerpt(text)}")


def refuse_loose_end(text: str) -> None:
    """Raise Truncated for a text that ends within a sentence: on a function word, a comma or an open bracket."""
    text = text[-_END:]
    end = _LAST_WORDS.search(text)
    if end is None or len(_WORD.findall(text)) < DANGLING_FROM:
        return
    before, comma, last, mark = end.groups()
    is_named = (_DANGLING if comma else _NAMES_A_WORD).fullmatch(before or "")  # as in `the conjunction and`, `of, to, for`
    if mark or (_DANGLING.fullmatch(last) and not is_named):
        raise Truncated(f"the text ends within a sentence: {excerpt(text)}")


def is_cut_object(text: str) -> bool:
    """Whether a JSON object begins in the text and does not end there."""
    depth, in_string, escaped = 0, False, False
    for character in text[text.find("{") :] if "{" in text else "":
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        else:
            depth += (character == "{") - (character == "}")
    return depth > 0


def refuse_echo(parts: Mapping[str, str], prompt: Prompt) -> None:
    """Raise Echoed for an answer whose label or pattern is copied from the prompt, or any part of it from the instructions: a text may have asked for them."""
    shown = _run_of_words(" ".join(message.content for message in prompt.messages if message.role != "assistant"))
    instructions = _run_of_words(" ".join(_instructions(prompt)))
    for name, text in parts.items():
        said = _words(text)
        runs = list(_runs(said, shown)) if name in ("label", "pattern") else []
        if max(runs, default=0) >= ECHO_WORDS and sum(runs) >= ECHO_SHARE * len(said):
            raise Echoed(f"{sum(runs)} of {len(said)} words of {name!r} stand in the prompt in this order: {excerpt(text)}")
        copied = max(_runs(said, instructions), default=0)
        if copied >= ECHO_WORDS or (len(said) >= INSTRUCTION_WORDS and f" {' '.join(said)} " in instructions):
            raise Echoed(f"{name!r} repeats the instructions of the prompt: {excerpt(text)}")


def excerpt(text: str) -> str:
    """At most 120 characters on one line, quoted."""
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 120 else plain[:117] + "...")


def _instructions(prompt: Prompt) -> list[str]:
    """The system turn, and the last line of the last user turn: what stands before it was copied from documents."""
    system = [message.content for message in prompt.messages if message.role == "system"]
    user = [message.content for message in prompt.messages if message.role == "user"]
    return system + [content.strip().splitlines()[-1] for content in user[-1:] if content.strip()]


def _runs(said: Sequence[str], shown: str) -> list[int]:
    """Lengths of the runs of at least ECHO_RUN words that stand in `shown` in this order, without overlaps."""
    lengths, start = [], 0
    while start < len(said):
        length = 0
        while start + length < len(said) and f" {' '.join(said[start : start + length + 1])} " in shown:
            length += 1
        if length >= ECHO_RUN:
            lengths.append(length)
            start += length
        else:
            start += 1
    return lengths


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _run_of_words(text: str) -> str:
    return f" {' '.join(_words(text))} "
