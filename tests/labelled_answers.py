"""The labelled answers (tests/data/answers.jsonl), and how well the reader of answers tells them apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Message, Prompt
from mistudio_explain.generation.stage import by_rule, parse
from mistudio_explain.generation.unusable import Malformed

DATA = Path(__file__).parent / "data"
CLASSES = ("good", "truncated", "refusal", "echo", "wrong language", "empty")
Half = Literal["tuned on", "held out"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer as a person labelled it, and what the reader takes it for."""

    label: str
    taken_for: str
    half: Half
    text: str


@dataclass(frozen=True, slots=True)
class Rates:
    """How one class fares; `precision` is None when nothing was taken for it."""

    name: str
    labelled: int
    precision: float | None
    recall: float


def labelled_answers() -> list[Labelled]:
    """All of them, read as generation reads the last answer of a record: strictly, else by rule."""
    prompts = {}
    for line in (DATA / "answer_prompts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        messages = [Message(**message) for message in row["messages"]]
        prompts[row["id"]] = Prompt(template=row["template"], version="1", sha256="", messages=messages, answer=row["answer"])
    rows = map(json.loads, (DATA / "answers.jsonl").read_text(encoding="utf-8").splitlines())
    return [Labelled(row["class"], _taken_for(prompts[row["prompt"]], row["text"], row["finish_reason"]), row["half"], row["text"]) for row in rows]


def rates(answers: Sequence[Labelled]) -> list[Rates]:
    """Precision and recall of each class."""
    return [_rates(name, answers) for name in CLASSES]


def _rates(name: str, answers: Sequence[Labelled]) -> Rates:
    labelled = [answer for answer in answers if answer.label == name]
    taken = [answer for answer in answers if answer.taken_for == name]
    right = sum(answer.taken_for == name for answer in labelled)
    return Rates(name, len(labelled), right / len(taken) if taken else None, right / len(labelled))


def _taken_for(prompt: Prompt, text: str, finish_reason: str) -> str:
    try:
        try:
            parse(prompt, text, finish_reason)
        except Malformed:
            by_rule(prompt, text, finish_reason)
    except UnusableAnswer as error:
        return error.kind
    return "good"
