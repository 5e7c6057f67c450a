"""Generation's core: from a model's text to an answer, and from an answer to a draft."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Answer, ExplanationDrafted, ExplanationRequested, Generation, Prompt

FIELDS = ("label", "pattern", "significance", "implications")
LONGEST_FIELD = 2_000  # characters; three sentences have 600
ECHO_WORDS = 10
"""So many words in a row of the prompt's texts are an echo when they are most of the answer; a quoted phrase is shorter."""
ECHO_SHARE = 0.7
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]?m|i am) sorry\b|sorry,|i apologi[sz]e\b|as an ai\b"
    r"|(?:unfortunately,? )?i (?:can(?:no|['’])t|won['’]t) |(?:unfortunately,? )?(?:i am|i['’]m) (?:unable|not able) )",
    re.IGNORECASE,
)
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9]|\s*\n|\s*$)")
_WORD = re.compile(r"\w+")


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
    """There is no word in a part that must have one."""

    kind = "empty"


class Malformed(UnusableAnswer):
    """The answer has not the form that was asked for."""

    kind = "malformed"


_UNFINISHED: Mapping[str, type[UnusableAnswer]] = {"refusal": Refused, "content_filter": Filtered, "tool_calls": ToolCalled}
"""What an answer is that ended for this reason; for any other but `stop` it is truncated."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer, and by which rules it was read."""

    answer: Answer
    flags: list[str]


def parse(prompt: Prompt, text: str, finish_reason: str) -> Parsed:
    """Read a model's text as the answer that the prompt asked for.

    `text` is what followed the prefill. First strictly; then by rule, with a flag that names the rule. A truncated,
    refused, echoed, empty or malformed answer is never an answer: raises the UnusableAnswer of that name.
    """
    if finish_reason != "stop":
        raise _UNFINISHED.get(finish_reason, Truncated)(f"the model stopped for the reason {finish_reason!r} after {len(text)} characters: {_excerpt(text)}")
    if "\ufffd" in text:
        raise Malformed(f"the answer is not UTF-8: {_excerpt(text)}")
    if not _WORD.search(text):
        raise Empty(f"the answer has no word: {text[:40]!r}")
    whole, flags = _joined(prompt, text)
    if _REFUSAL.match(whole):
        raise Refused(f"the model declined: {_excerpt(whole)}")
    parsed = _fields(whole, flags) if prompt.answer == "fields" else _sentence(whole, flags)
    _refuse_echo(parsed.answer, prompt)
    _refuse_leak(parsed.answer, prompt)
    return parsed


def drafted(request: ExplanationRequested, parsed: Parsed, generation: Generation, flags: Sequence[str] = ()) -> ExplanationDrafted:
    """The draft of an answer; `flags` are what the asking adds to the request's and the parser's."""
    return ExplanationDrafted(
        subject=request.subject,
        evidence=request.evidence,
        answer=parsed.answer,
        generation=generation,
        prompt=request.prompt,
        complexity=request.complexity,
        pass_number=request.pass_number,
        flags=list(dict.fromkeys([*request.flags, *flags, *parsed.flags])),
        caveats=request.caveats,
    )


def _joined(prompt: Prompt, text: str) -> tuple[str, list[str]]:
    """Prefill and continuation as one text.

    A server whose chat template closes the prefilled turn begins a new one: it repeats the prefill, or starts a
    sentence of its own, which then stands alone.
    """
    last = prompt.messages[-1]
    prefill = last.content if last.role == "assistant" else ""
    if not prefill or text.lstrip().startswith(prefill):
        return text.strip(), []
    begins_anew = text[0].isupper() if prompt.answer == "sentence" else text.lstrip().startswith(("{", "```"))
    return (text.strip(), ["prefill_ignored"]) if begins_anew else ((prefill + text).strip(), [])


def _sentence(whole: str, flags: list[str]) -> Parsed:
    end = _END_OF_SENTENCE.search(whole)
    if end is None:
        raise Malformed(f"the answer is no complete sentence: {_excerpt(whole)}")
    sentence = " ".join(whole[: end.end()].split())
    if whole[end.end() :].strip():
        flags = [*flags, "first_sentence"]
    return Parsed(Answer(pattern=_bounded("answer", sentence)), flags)


def _fields(whole: str, flags: list[str]) -> Parsed:
    fields = _json_object(whole)
    if fields is None:
        fields = _json_object(_unwrapped(whole))
        flags = [*flags, "repaired:json"]
    if fields is None:
        raise Malformed(f"the answer is not a JSON object: {_excerpt(whole)}")
    texts = {name: _text_of(fields, name) for name in FIELDS}
    for name in ("label", "pattern"):
        if not _WORD.search(texts[name]):
            raise Empty(f"{name!r} has no word: {_excerpt(whole)}")
    flags = [*flags, *(f"empty:{name}" for name in FIELDS if not texts[name])]
    return Parsed(Answer(**{name: text or None for name, text in texts.items()}), flags)


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _unwrapped(text: str) -> str:
    """What stands in a code fence, else from the first brace to the last."""
    if fence := _FENCE.search(text):
        return fence.group(1)
    return text[text.find("{") : text.rfind("}") + 1]


def _text_of(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise Malformed(f"the field {name!r} is missing; there are {', '.join(sorted(fields)) or 'none'}")
    value = fields[name]
    if not isinstance(value, str):
        raise Malformed(f"the field {name!r} is {type(value).__name__}, not text")
    return _bounded(name, " ".join(value.split()))


def _bounded(name: str, text: str) -> str:
    if len(text) > LONGEST_FIELD:
        raise Malformed(f"{name!r} has {len(text)} characters; at most {LONGEST_FIELD} are an explanation")
    return text


def _refuse_echo(answer: Answer, prompt: Prompt) -> None:
    said = _words(answer.pattern)
    shown = _run_of_words(" ".join(message.content for message in prompt.messages if message.role != "assistant"))
    longest = _longest_run(said, shown)
    if longest >= ECHO_WORDS and longest >= ECHO_SHARE * len(said):
        raise Echoed(f"{longest} of {len(said)} words stand in the prompt in this order: {_excerpt(answer.pattern)}")


def _refuse_leak(answer: Answer, prompt: Prompt) -> None:
    """No part of an answer may hold ECHO_WORDS words in a row of the instructions: a text may have asked for them."""
    instructions = _run_of_words(" ".join(message.content for message in prompt.messages if message.role == "system"))
    for name in FIELDS:
        said = _words(getattr(answer, name) or "")
        if _longest_run(said, instructions) >= ECHO_WORDS:
            raise Echoed(f"{name!r} repeats the instructions of the prompt: {_excerpt(' '.join(said))}")


def _longest_run(said: Sequence[str], shown: str) -> int:
    longest = 0
    for start in range(len(said)):
        while start + longest < len(said) and f" {' '.join(said[start : start + longest + 1])} " in shown:
            longest += 1
    return longest


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _run_of_words(text: str) -> str:
    return f" {' '.join(_words(text))} "


def _excerpt(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 120 else plain[:117] + "...")
