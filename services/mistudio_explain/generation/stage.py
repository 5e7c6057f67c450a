"""Generation's core: from a model's text to an answer, and from an answer to a draft."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Answer, ExplanationDrafted, ExplanationRequested, Generation, Message, Prompt
from mistudio_explain.generation.unusable import (
    Empty,
    Filtered,
    Malformed,
    Refused,
    ToolCalled,
    Truncated,
    excerpt,
    is_cut_object,
    refuse_echo,
    refuse_loose_end,
    refuse_nothing,
    refuse_other_language,
    refuse_placeholder,
    refuse_refusal,
)

FIELDS = ("label", "pattern", "significance", "implications")
MAIN_FIELDS = FIELDS[:2]
LONGEST_FIELD = 2_000  # characters; three sentences have 600
LONGEST_RETURNED = 2_000  # characters of a malformed answer that its model gets to see again
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9]|\s*\n|\s*$)")
_UNFINISHED: Mapping[str, type[UnusableAnswer]] = {"refusal": Refused, "content_filter": Filtered, "tool_calls": ToolCalled}
"""What an answer is that ended for this reason; for any other but `stop` it is truncated."""
_FORMS: Mapping[str, str] = {
    "fields": "one JSON object with the texts label, pattern, significance and implications, and nothing before or after it",
    "sentence": "one complete sentence, and nothing before or after it",
}

_Read = Callable[[str], tuple[dict[str, str], list[str]]]


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer, and by which rules it was read."""

    answer: Answer
    flags: list[str]


def parse(prompt: Prompt, text: str, finish_reason: str) -> Parsed:
    """Read a model's text as the answer that the prompt asked for, strictly.

    `text` is what followed the prefill. A truncated, refused, echoed, empty, foreign or malformed answer is never an
    answer: raises the UnusableAnswer of that name.
    """
    return _read(prompt, text, finish_reason, _strict_fields)


def by_rule(prompt: Prompt, text: str, finish_reason: str) -> Parsed:
    """Read a malformed answer by rule, with a flag that names the rule. Raises UnusableAnswer like `parse`."""
    return _read(prompt, text, finish_reason, _lenient_fields)


def repair_messages(prompt: Prompt, text: str, problem: str) -> tuple[Message, ...]:
    """The prompt once more, then the malformed answer and what is wrong with it."""
    asked = [message for message in prompt.messages if message.role != "assistant"]
    said = Message(role="assistant", content=(_prefill(prompt) + text)[:LONGEST_RETURNED])
    wanted = f"This cannot be used: {problem}. Give the same answer again, as {_FORMS[prompt.answer]}."
    return (*asked, said, Message(role="user", content=wanted))


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
        earlier=request.first_pass.answer if request.first_pass else None,
        first_pass=request.first_pass,
        flags=list(dict.fromkeys([*request.flags, *flags, *parsed.flags])),
        caveats=request.caveats,
    )


def _read(prompt: Prompt, text: str, finish_reason: str, read_fields: _Read) -> Parsed:
    if finish_reason != "stop":
        raise _UNFINISHED.get(finish_reason, Truncated)(f"the model stopped for the reason {finish_reason!r} after {len(text)} characters: {excerpt(text)}")
    if "\ufffd" in text:
        raise Malformed("the answer is not UTF-8", text)
    refuse_nothing("answer", text)
    whole, flags = _joined(prompt, text)
    texts, repairs = read_fields(whole) if prompt.answer == "fields" else _sentence(whole, _prefill(prompt))
    for name in MAIN_FIELDS:
        if name in texts:
            refuse_nothing(name, texts[name])
    for said in texts.values():
        refuse_refusal(said)
    refuse_placeholder(texts["pattern"])
    own = {name: said.removeprefix(_prefill(prompt)) for name, said in texts.items()}
    for name in FIELDS[1:]:  # a label may be the very word that the feature is about
        refuse_other_language(name, own.get(name, ""))
    refuse_echo(own, prompt)
    refuse_loose_end(texts["pattern"])
    empty = [f"empty:{name}" for name in FIELDS if name in texts and not texts[name]]
    return Parsed(Answer(**{name: said or None for name, said in texts.items()}), [*flags, *repairs, *empty])


def _prefill(prompt: Prompt) -> str:
    last = prompt.messages[-1]
    return last.content if last.role == "assistant" else ""


def _joined(prompt: Prompt, text: str) -> tuple[str, list[str]]:
    """Prefill and continuation as one text.

    A server whose chat template closes the prefilled turn begins a new one: it repeats the prefill, or starts a
    sentence of its own, which then stands alone.
    """
    prefill = _prefill(prompt)
    if not prefill or text.lstrip().startswith(prefill):
        return text.strip(), []
    begins_anew = text[0].isupper() if prompt.answer == "sentence" else text.lstrip().startswith(("{", "```"))
    return (text.strip(), ["prefill_ignored"]) if begins_anew else ((prefill + text).strip(), [])


def _sentence(whole: str, prefill: str) -> tuple[dict[str, str], list[str]]:
    end = _END_OF_SENTENCE.search(whole)
    if end is None:
        refuse_refusal(whole)
        refuse_other_language("answer", whole.removeprefix(prefill))
        refuse_loose_end(whole)
        raise Malformed("the answer is no complete sentence", whole)
    sentence = " ".join(whole[: end.end()].split())
    return {"pattern": _bounded("answer", sentence)}, ["first_sentence"] if whole[end.end() :].strip() else []


def _strict_fields(whole: str) -> tuple[dict[str, str], list[str]]:
    fields = _json_object(whole)
    if missing := [name for name in FIELDS if name not in fields]:
        raise Malformed(f"the field {missing[0]!r} is missing; there are {', '.join(sorted(fields))}", whole)
    return {name: _text_of(fields, name) for name in FIELDS}, []


def _lenient_fields(whole: str) -> tuple[dict[str, str], list[str]]:
    """The object that stands in a code fence, else from the first brace to the last; minor fields may be missing."""
    repairs = []
    try:
        fields = _json_object(whole)
    except Malformed:
        fields = _json_object(_unwrapped(whole))
        repairs.append("repaired:json")
    if any(name not in fields for name in MAIN_FIELDS):
        return _strict_fields(orjson.dumps(fields).decode())
    if any(name not in fields for name in FIELDS):
        repairs.append("repaired:fields")
    return {name: _text_of(fields, name) if name in fields else "" for name in FIELDS}, repairs


def _unwrapped(text: str) -> str:
    """From the first brace to the last, in the first code fence where there is one."""
    _, _, fenced = text.partition("```")
    inside, closing, _ = fenced.partition("```")
    shown = inside if closing else text
    return shown[shown.find("{") : shown.rfind("}") + 1]


def _json_object(text: str) -> dict[str, Any]:
    """The object that the text is. Raises Malformed for a text that is none, Truncated for one that breaks off, Refused, WrongLanguage, Empty."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        if is_cut_object(text):
            raise Truncated(f"the JSON object breaks off: {excerpt(text[-120:])}") from None
        refuse_refusal(text)
        refuse_other_language("answer", text)
        raise Malformed("the answer is not a JSON object", text) from None
    if not value:
        raise Empty(f"the answer is an empty value: {excerpt(text)}")
    if not isinstance(value, dict):
        raise Malformed("the answer is not a JSON object", text)
    for said in value.values():
        if isinstance(said, str):
            refuse_refusal(said)
    return value


def _text_of(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise Malformed(f"the field {name!r} is {type(value).__name__}, not text", repr(value))
    return _bounded(name, " ".join(value.split()))


def _bounded(name: str, text: str) -> str:
    if len(text) > LONGEST_FIELD:
        raise Malformed(f"{name!r} has {len(text)} characters; at most {LONGEST_FIELD} are an explanation", text)
    return text
