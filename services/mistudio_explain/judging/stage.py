"""Judging: from an outcome to questions for a second model, and from its answers to figures."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from mistudio_explain.events.explanation import FeatureOutcome, JudgedAgainst, JudgedKind, Message, OutcomeKind, Verification
from mistudio_explain.events.job import JobBackground
from mistudio_explain.judging.examples import Example, Source, detection_examples, fuzzing_examples
from mistudio_explain.judging.prompt import GRADES, messages
from mistudio_explain.settings import JudgeSettings

Kind = Literal["detection", "fuzzing"]
COHERENCE_TEXTS = 5  # own texts shown with the question about coherence


@dataclass(frozen=True, slots=True)
class Question:
    """One call's worth: examples and what is asked of each; coherence asks for two grades of the explanation instead."""

    kind: Literal["detection", "fuzzing", "coherence"]
    messages: tuple[Message, ...]
    examples: tuple[Example, ...]
    count: int
    """Numbers in the answer."""
    greatest: int
    """The greatest number; the least is 0."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An example and the judge's answer; `accepted` is None where the answer could not be read, `asked` false where none was asked for."""

    example: Example
    accepted: bool | None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask about an explanation, and what cannot be asked, with the reason."""

    questions: tuple[Question, ...]
    unavailable: dict[str, str]


def plan(outcome: FeatureOutcome, background: JobBackground | None, settings: JudgeSettings) -> Plan:
    """Choose the examples and put the questions: coherence first, then each kind's examples in batches.

    The choice depends on find job, feature and settings alone, so that two explanations of a feature face the same
    examples.
    """
    if outcome.outcome is not OutcomeKind.EXPLAINED or outcome.answer is None or outcome.evidence is None or not _has_text(outcome):
        why = "there is no explanation to judge" if outcome.answer is None else "the feature has no text"
        return Plan((), dict.fromkeys(("coherence", *settings.kinds), why))
    if outcome.pattern_verification is Verification.UNVERIFIABLE:
        return Plan((), dict.fromkeys(("coherence", *settings.kinds), "the explanation says nothing that texts could bear out"))
    unavailable: dict[str, str] = {}
    shown: list[Question] = []
    for kind in settings.kinds:
        batches = _batches(kind, outcome, background, settings)
        if (reason := _cannot(kind, batches)) is not None:
            unavailable[kind] = reason
            continue
        shown += [_question(kind, outcome.answer.pattern, batch) for batch in batches]
    return Plan((_coherence(outcome), *shown), unavailable)


def figures(kind: Kind, answered: Sequence[Answered], basis: Literal["held_out", "seen"]) -> JudgedKind:
    """What the answers of one kind come to. An answer that could not be read is neither right nor wrong."""
    own = [each for each in answered if each.example.activating]
    wrong = [each for each in answered if not each.example.activating]
    tpr, tnr = _share(own), _share(wrong)
    readable = [each for each in answered if each.accepted is not None]
    sources: list[Literal["random", "siblings", "moved"]] = ["random", "siblings", "moved"]
    return JudgedKind(
        kind=kind,
        basis=basis,
        n=len(readable),
        positives=sum(each.example.activating for each in readable),
        negatives=sum(not each.example.activating for each in readable),
        unparsed=sum(each.asked and each.accepted is None for each in answered),
        unasked=sum(not each.asked for each in answered),
        tpr=tpr,
        tnr=tnr,
        balanced_accuracy=_mean(tpr, tnr),
        against=[_against(source, of, tpr) for source in sources if (of := _of(wrong, source))],
    )


def examples_of(questions: Iterable[Question], kind: Kind) -> list[Example]:
    """All examples that the questions of a kind are about."""
    return [example for question in questions if question.kind == kind for example in question.examples]


def seed(*parts: str) -> int:
    """A number that depends on texts alone, in every process."""
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:8], "big")


def _has_text(outcome: FeatureOutcome) -> bool:
    evidence = outcome.evidence
    return evidence is not None and any(text.text.strip() for text in (*evidence.seen, *evidence.held_out))


def _batches(kind: Kind, outcome: FeatureOutcome, background: JobBackground | None, settings: JudgeSettings) -> list[list[Example]]:
    subject, evidence = outcome.subject, outcome.evidence
    assert evidence is not None
    rng = random.Random(seed("judge", kind, subject.find_job_id or subject.explain_job_id, subject.feature_key))  # noqa: S311  (a choice, no secret)
    if kind == "fuzzing":
        lists = fuzzing_examples(evidence, positives=settings.positives, rng=rng)
    else:
        sample = background.sample if background is not None else []
        lists = [
            detection_examples(
                evidence, subject.feature_key, sample, positives=settings.positives, randoms=settings.randoms, siblings=settings.siblings, rng=rng
            )
        ]
    return [each[at : at + settings.examples] for each in lists for at in range(0, len(each), settings.examples)]


def _cannot(kind: Kind, batches: Sequence[Sequence[Example]]) -> str | None:
    examples = [example for batch in batches for example in batch]
    if kind == "fuzzing" and not examples:
        return "no text tells which of its words the feature fires on"
    if not any(example.activating for example in examples):
        return "the feature has no text to be shown"
    if all(example.activating for example in examples):
        return "no other feature of the find job is known"
    return None


def _question(kind: Kind, explanation: str, batch: Sequence[Example]) -> Question:
    return Question(kind, messages(kind, explanation, [example.text for example in batch]), tuple(batch), len(batch), 1)


def _coherence(outcome: FeatureOutcome) -> Question:
    assert outcome.evidence is not None
    assert outcome.answer is not None
    own = detection_examples(outcome.evidence, outcome.subject.feature_key, [], positives=COHERENCE_TEXTS, randoms=0, siblings=0, rng=random.Random(0))  # noqa: S311
    return Question("coherence", messages("coherence", outcome.answer.explanation, [example.text for example in own]), (), 2, GRADES)


def _against(source: Literal["random", "siblings", "moved"], answered: Sequence[Answered], tpr: float | None) -> JudgedAgainst:
    tnr = _share(answered)
    unread = sum(each.accepted is None for each in answered)
    return JudgedAgainst(source=source, n=len(answered) - unread, unparsed=unread, tnr=tnr, balanced_accuracy=_mean(tpr, tnr))


def _of(answered: Sequence[Answered], source: Source) -> list[Answered]:
    return [each for each in answered if each.example.source == source]


def _share(answered: Iterable[Answered]) -> float | None:
    """The share answered rightly, of those with a readable answer."""
    right = [each.accepted == each.example.activating for each in answered if each.accepted is not None]
    return fmean(right) if right else None


def _mean(tpr: float | None, tnr: float | None) -> float | None:
    return None if tpr is None or tnr is None else (tpr + tnr) / 2
