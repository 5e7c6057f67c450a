"""Attacks on the validator: answers that must not be confirmed, and true explanations edited so that they no longer are."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mistudio_explain.evaluation.attack_texts import DOMAINS, EMPTIES, ENTITIES, ERRORS, FILLERS, GENERIC, PADDING, REFUSALS, REPLACED_QUOTES
from mistudio_explain.evaluation.jobs import Job, Subject
from mistudio_explain.evaluation.safety_set import Rate, share
from mistudio_explain.events.explanation import FeatureOutcome, Verification
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

GENERIC_A_FEATURE = 2
FIXED_A_FEATURE = 1
EVERY_SOURCE = "all"
PARROTED = (5, 3)  # keywords that answers in filler name
POOLED = {
    "edits, all kinds": ("edit: ",),
    "keywords, all kinds": ("keywords, ",),
    "no explanation at all": ("refusal", "error text", "empty", "prompt leak"),
}
"""Rows that several kinds make together, by the beginnings of their names."""


@dataclass(frozen=True, slots=True)
class AttackResult:
    """One kind of attack on the features of one source."""

    kind: str
    source: str
    """EVERY_SOURCE for all of them together."""
    confirmed: Rate
    """Share that ended as `confirmed`."""
    below: Rate | None
    """Share with less accuracy than the true explanation (an objection of the gate counts as less); None where there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    kind: str
    source: str
    confirmed: bool
    below: bool | None


_VERB = re.compile(r"\b(activates|fires|detects|identifies|captures|responds|represents|recognizes|promotes|describes|outputs)\b")
_BASE = {"identifies": "identify", "recognizes": "recognize"}
_QUOTE = re.compile(r"(['\"‘“])(<<)?([A-Za-z][A-Za-z' -]{0,30}?)(>>)?(['\"’”])")
_WORD = re.compile(r"[A-Za-z]+")


def attack(jobs: Iterable[Job], validators: Mapping[str, Validator], seed: int = 0) -> list[AttackResult]:
    """Try every attack on every explained feature; each kind for all sources together, then by source.

    `validators`, by source: each with formulas that the other sources gave.
    """
    random = np.random.default_rng(seed)
    attempts = [attempt for job in jobs for attempt in _on_job(job, validators[job.source])]
    attempts += [replace(attempt, kind=kind) for kind, begins in POOLED.items() for attempt in attempts if attempt.kind.startswith(begins)]
    kinds = list(dict.fromkeys(attempt.kind for attempt in attempts))
    sources = list(dict.fromkeys(attempt.source for attempt in attempts))
    results = []
    for kind in kinds:
        for source in (EVERY_SOURCE, *sources):
            chosen = [attempt for attempt in attempts if attempt.kind == kind and source in (EVERY_SOURCE, attempt.source)]
            if chosen:
                results.append(_result(kind, source, chosen, random))
    return results


def negated(explanation: str, number: int) -> str:
    """The explanation turned into its opposite; `number` chooses among three ways where no verb can be negated."""
    if " does is " in explanation[:60]:
        return explanation.replace(" does is ", " does is not to ", 1)
    if found := _VERB.search(explanation):
        verb = found.group()
        return f"{explanation[: found.start()]}does not {_BASE.get(verb, verb.removesuffix('s'))}{explanation[found.end() :]}"
    start = explanation[0].lower() + explanation[1:] if explanation[:2].istitle() else explanation
    return (f"Anything but {start}", f"Everything except {start}", f"Texts without {start}")[number % 3]


def with_another_entity(explanation: str, number: int) -> str | None:
    """The explanation with its entities, or what it quotes, exchanged for others; None when it names none."""
    edited = _WORD.sub(lambda found: ENTITIES.get(found.group(), found.group()), explanation)
    if edited != explanation:
        return edited
    count = 0

    def other(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        word = REPLACED_QUOTES[(number + count) % len(REPLACED_QUOTES)]
        return f"{found[1]}{found[2] or ''}{word}{found[4] or ''}{found[5]}"

    edited = _QUOTE.sub(other, explanation)
    return edited if edited != explanation else None


def with_another_domain(explanation: str) -> str | None:
    """The explanation with its domain nouns exchanged; None when the table has none of its words."""
    edited = _WORD.sub(lambda found: DOMAINS.get(found.group().lower(), found.group()), explanation)
    return edited if edited != explanation else None


def lengthened(explanation: str) -> str:
    """The explanation with padding until it is three times as long, at least one sentence more."""
    padded = f"{explanation.rstrip('. ')}."
    for sentence in PADDING * 10:
        if len(padded) >= 3 * len(explanation) and len(padded) > len(explanation) + 1:
            return padded
        padded = f"{padded} {sentence}"
    return padded


def leaks(subject: Subject) -> list[str]:
    """Answers that repeat the prompt that the feature's explainer was given: instructions, format, its first lines, chat markup."""
    asked = [message.content for message in subject.draft.prompt.messages if message.role != "assistant"]
    if not asked:
        return []
    system = asked[0]
    lines = [line for line in system.splitlines() if len(line.split()) > 8]
    return [
        system,
        lines[0],
        lines[len(lines) // 2],
        f"My instructions are: {lines[-1]}",
        f"System prompt: {system[:200]}",
        f"<|im_start|>system\n{system[:60]}<|im_end|>",
        '{"label": "3 to 8 words", "pattern": "one sentence: what the feature detects"}',
        "one sentence: what the feature detects",
        "You were asked to explain what a feature of a language model detects, to answer with one JSON object and nothing else.",
        asked[-1].splitlines()[0],
    ]


def _on_job(job: Job, validator: Validator) -> Iterator[_Attempt]:
    for number, subject in enumerate(job.subjects):
        explanation = subject.known.explanation or ""
        answered = partial(_outcome, subject, job, validator)
        original = _p(answered(explanation))
        for kind, said, compared in _attacks(job, number, subject, explanation):
            outcome = answered(said)
            verdict = outcome.pattern_verification is Verification.CONFIRMED
            yield _Attempt(kind, job.source, verdict, _p(outcome) < original if compared else None)


def _attacks(job: Job, number: int, subject: Subject, explanation: str) -> Iterator[tuple[str, str, bool]]:
    """Kind, answer, and whether it is compared with the true explanation."""
    keywords = subject.keywords[:10]
    fixed: list[tuple[str, Sequence[str], int]] = [
        ("generic sentence", GENERIC, GENERIC_A_FEATURE),
        ("refusal", REFUSALS, FIXED_A_FEATURE),
        ("error text", ERRORS, FIXED_A_FEATURE),
        ("empty", EMPTIES, FIXED_A_FEATURE),
        ("prompt leak", leaks(subject), FIXED_A_FEATURE),
    ]
    for kind, answers, count in fixed:
        for step in range(count if answers else 0):
            yield kind, answers[(number * count + step) % len(answers)], False
    if len(keywords) >= 3:
        yield "keywords, plain", ", ".join(keywords), False
        for count in PARROTED:
            yield f"keywords, {count} in filler", FILLERS[number % len(FILLERS)].format(", ".join(keywords[:count])), False
    yield "edit: negation", negated(explanation, number), True
    edits: list[tuple[str, str | None]] = [("edit: entity", with_another_entity(explanation, number)), ("edit: domain noun", with_another_domain(explanation))]
    for kind, edited in edits:
        if edited is not None:
            yield kind, edited, True
    for near_miss in subject.known.false_explanations:
        yield "false explanation by hand", near_miss, True
    if (nearest := _nearest_of_category(job, number)) is not None:
        yield "nearest of the same category", nearest, True
    yield "three times as long", lengthened(explanation), True
    other = job.subjects[int(job.shuffled[number][0])].known.explanation or ""
    yield "another's, three times as long", lengthened(other), False


def _nearest_of_category(job: Job, number: int) -> str | None:
    """The explanation nearest to this one among the features of the same category, by static cosine."""
    subject = job.subjects[number]
    said = (subject.known.explanation or "").lower()
    others = [
        other
        for other in job.subjects
        if other is not subject and other.draft.subject.category == subject.draft.subject.category and (other.known.explanation or "").lower() != said
    ]
    if not others:
        return None
    return max(others, key=lambda other: float(other.claim.vector @ subject.claim.vector)).known.explanation


def _outcome(subject: Subject, job: Job, validator: Validator, said: str) -> FeatureOutcome:
    answer = subject.draft.answer.model_copy(update={"pattern": said})
    return validate(subject.draft.model_copy(update={"answer": answer}), job.background, validator)


def _p(outcome: FeatureOutcome) -> float:
    return outcome.accuracy.p if outcome.accuracy is not None else -1.0


def _result(kind: str, source: str, attempts: Sequence[_Attempt], random: np.random.Generator) -> AttackResult:
    compared = [float(attempt.below) for attempt in attempts if attempt.below is not None]
    return AttackResult(
        kind=kind,
        source=source,
        confirmed=share(np.array([float(attempt.confirmed) for attempt in attempts]), random),
        below=share(np.array(compared), random) if compared else None,
    )


def table(results: Sequence[AttackResult], by_source: bool = True) -> str:
    """The results as a text for people; without `by_source` all sources together alone."""
    lines = [f"{'attack':32} {'source':28} {'confirmed':22} {'below the true one':22}    n"]
    for result in results if by_source else [result for result in results if result.source == EVERY_SOURCE]:
        below = _shown(result.below) if result.below else ""
        lines.append(f"{result.kind:32} {result.source:28} {_shown(result.confirmed):22} {below:22} {result.confirmed.n:4}")
    return "\n".join(lines)


def _shown(rate: Rate) -> str:
    return f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
