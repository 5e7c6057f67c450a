"""Several features in one call: their prompts as one, and each one's own answer out of what the model says."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Evidence, Message, Prompt
from mistudio_explain.generation.stage import FIELDS, Parsed, parse
from mistudio_explain.validation.words import claim_stems, text_stems

SWAP_MARGIN = 0.5
"""An answer is another's when it fits that one's texts by so much more (BM25) than its own, and better than the answer given there.

`python -m benchmarks swap_check`, 2026-11-25, explanations of 411 real features of 4 sources in calls of 5, 10 and 20: of two exchanged
answers 76%, 80% and 90% are found; of answers in their places 2%, 5% and 17% are taken for another's, which costs a further call each.
"""
_TEXTS = 8
_TEXT_CHARACTERS = 300
_LIST = re.compile(r"\[\s*(?=\{)")
_BETWEEN = re.compile(r"\s*,?\s*")
_DECODER = json.JSONDecoder()


class Missing(UnusableAnswer):
    """A shared call has no answer for this feature."""

    kind = "missing"


class Swapped(UnusableAnswer):
    """The answer for this feature is another feature's of the same call."""

    kind = "swapped"


Shown = tuple[Prompt, Evidence]
"""What one of the features is asked with."""


def is_shareable(prompt: Prompt) -> bool:
    """Whether other features can be asked for with this one: its answer is an object, and its last turn alone is about the feature."""
    return prompt.answer == "fields" and prompt.messages[-1].role == "user"


def common(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """The turns that prompts must have in common to share a call."""
    return tuple((message.role, message.content) for message in prompt.messages[:-1])


def joined(prompts: Sequence[Prompt]) -> tuple[Message, ...]:
    """One prompt for several features: the turns that all have in common, so that a prefix cache knows them, then each feature under its number."""
    *first, _ = prompts[0].messages
    numbered = "\n\n".join(f"Feature {number}\n\n{prompt.messages[-1].content}" for number, prompt in enumerate(prompts, 1))
    form = ", ".join(['"number": 1', *(f'"{name}": "..."' for name in FIELDS)])
    asked = (
        f"These are {len(prompts)} features. They have nothing to do with each other: explain each by its own texts alone. Answer with one JSON object "
        f'that holds one entry for each feature, under its number and in this order, each with the fields as described above:\n{{"answers": [{{{form}}}, ...]}}'
    )
    return (*first, Message(role="user", content=f"{numbered}\n\n{asked}"))


def parted(text: str, finish_reason: str, asked: Sequence[Shown]) -> list[tuple[str, Parsed | UnusableAnswer]]:
    """Each feature's answer as the model would have given it alone, and how it reads or why it cannot be used.

    `asked` are the features in the order of their numbers. An answer that was cut off gives what was complete. An answer
    under a number that is not its own, or that fits another feature's texts better, is nobody's.
    """
    entries = _by_number(_entries(text), len(asked))
    texts = [_own_text(entries.get(number)) for number in range(1, len(asked) + 1)]
    found = [_read(text, prompt, number, finish_reason) for number, (text, (prompt, _)) in enumerate(zip(texts, asked, strict=True), 1)]
    for place, other in _swapped(found, [evidence for _, evidence in asked]).items():
        found[place] = Swapped(f"the answer for feature {place + 1} of {len(asked)} and that for feature {other + 1} fit each other's texts better")
    return list(zip(texts, found, strict=True))


def _read(text: str, prompt: Prompt, number: int, finish_reason: str) -> Parsed | UnusableAnswer:
    if not text:
        return Missing(f"there is no single entry for number {number} in the answer, which ended for the reason {finish_reason!r}")
    try:
        return parse(prompt, text, "stop")
    except UnusableAnswer as error:
        return error


def _own_text(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    return json.dumps({name: value for name, value in entry.items() if name != "number"}, ensure_ascii=False)


def _entries(text: str) -> list[Any]:
    """The objects of the first list, as far as they are complete."""
    begin = _LIST.search(text)
    at = begin.end() if begin else len(text)
    entries = []
    while text[at : at + 1] == "{":
        try:
            entry, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        entries.append(entry)
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
    return entries


def _by_number(entries: Sequence[Any], count: int) -> dict[int, dict[str, Any]]:
    """Entries under their numbers; a number that stands twice, or that no feature has, is nobody's."""
    numbers = [number if type(number := entry.get("number")) is int else 0 for entry in entries]
    return {number: entry for number, entry in zip(numbers, entries, strict=True) if 1 <= number <= count and numbers.count(number) == 1}


def _swapped(found: Sequence[Parsed | UnusableAnswer], evidence: Sequence[Evidence]) -> dict[int, int]:
    """Features whose answer is another's, or whose own answer stands elsewhere, with that other one."""
    there = [place for place, answer in enumerate(found) if isinstance(answer, Parsed)]
    if len(there) < 2:
        return {}
    import numpy as np  # here, with what needs it: a worker that shares no calls does without its 10 MB

    from mistudio_explain.validation.lexical import LexicalIndex

    index = LexicalIndex.of([[text_stems(activation.text[:_TEXT_CHARACTERS]) for activation in one.seen[:_TEXTS]] or [[]] for one in evidence])
    fits = np.array([index.scores(claim_stems(answer.answer.pattern), []).others[there] for answer in found if isinstance(answer, Parsed)])
    own = np.diag(fits)
    elsewhere = (fits > own[:, None] + SWAP_MARGIN) & (fits > own[None, :])
    return {there[place]: there[other] for said, about in np.argwhere(elsewhere) for place, other in ((said, about), (about, said))}
