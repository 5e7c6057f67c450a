"""Escalation: what is asked of a feature that is explained once more."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mistudio_explain.context.cleaning import one_line
from mistudio_explain.context.prompt import fence_of, sha256_of
from mistudio_explain.context.stage import event_id
from mistudio_explain.escalation.candidates import Badness, badness
from mistudio_explain.events.explanation import (
    EarlierDraft,
    EscalationCandidate,
    Evidence,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    Message,
    Prompt,
)
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.events.job import BackgroundFeature

CLOUD_SHARE = 0.05
"""Never more than this share of a job's features goes to clouds, whatever the settings say."""
_TEXTS_OF_SIBLING = 2
_TEXT_CHARACTERS = 120
_REPAIR_BYTES = 4096  # an answer of 300 tokens and what is wrong with it; one that is longer is not covered, and repaired by rule
_WORD = re.compile(r"\w{3,}")
_HEADING = "The feature does NOT fire on these texts, which belong to similar features. Your answer must not fit them."


def allowance(features: int, share: float) -> int:
    """How many of a job's features a share of them is, rounded down."""
    return math.floor(features * share + 1e-9)


def prompt_of(candidate: EscalationCandidate) -> Prompt:
    """The prompt of a candidate's first pass."""
    return _made(candidate).prompt


def evidence_of(candidate: EscalationCandidate) -> Evidence:
    """The texts of a candidate, split as they were."""
    return _made(candidate).evidence


def _made(candidate: EscalationCandidate) -> ExplanationDrafted | ExplanationRequested:
    made = candidate.draft or candidate.request
    assert made is not None, "a candidate has a draft or a request"
    return made


def second_request(candidate: EscalationCandidate, siblings: Sequence[BackgroundFeature], route: Sequence[str], *, cloud: bool) -> ExplanationRequested:
    """Ask again: the same evidence, split as it was, beside texts on which the feature does not fire; under the next revision."""
    draft, subject = candidate.draft, candidate.outcome.subject
    again = subject.retried_as(subject.revision + 1)
    outcome = candidate.outcome
    made = _made(candidate)
    first_pass = None
    if draft is not None and outcome.answer is not None and outcome.generation is not None:  # of several answers the one that was chosen
        flags = draft.flags if outcome.draft_flags is None else outcome.draft_flags
        first_pass = EarlierDraft(answer=outcome.answer, generation=outcome.generation, prompt=draft.prompt, flags=flags)
    request = candidate.request.request if candidate.request else JobRequest(explain_job_id=subject.explain_job_id, tenant=subject.tenant)
    return ExplanationRequested(
        event_id=event_id(again, pass_number=2),
        subject=again,
        request=request.model_copy(update={"revision": subject.ordered_as, "priority": "batch", "expected": None, "candidates": 1}),
        complexity=made.complexity,
        evidence=outcome.evidence or made.evidence,
        prompt=with_siblings(made.prompt, siblings),
        route=list(route),
        pass_number=2,
        flags=candidate.request.flags if candidate.request else [],
        caveats=made.caveats,
        cloud=cloud,
        first_pass=first_pass,
    )


def refused(outcome: FeatureOutcome, why: str) -> FeatureOutcome:
    """The same outcome under the next revision, marked as one that got no second pass."""
    flag = f"escalation_refused:{why}"
    subject = outcome.subject.retried_as(outcome.subject.revision + 1)
    draft_flags = None if outcome.draft_flags is None else [*outcome.draft_flags, flag]
    return outcome.model_copy(update={"subject": subject, "flags": [*outcome.flags, flag], "draft_flags": draft_flags})


def with_siblings(prompt: Prompt, siblings: Sequence[BackgroundFeature]) -> Prompt:
    """The prompt with texts of other features behind its last question; a prefilled answer stays the last turn. Texts are untrusted, and fenced."""
    lines = [line for sibling in siblings for text in sibling.texts[:_TEXTS_OF_SIBLING] if (line := one_line(text, _TEXT_CHARACTERS))]
    if not lines:
        return prompt
    fence = fence_of(lines)
    section = "\n".join((_HEADING, f"BEGIN {fence}", *(f"- {line}" for line in lines), f"END {fence}"))
    place = max(number for number, message in enumerate(prompt.messages) if message.role == "user")
    asked = prompt.messages[place]
    messages = [*prompt.messages]
    messages[place] = Message(role="user", content=f"{asked.content.rstrip()}\n\n{section}\n")
    return prompt.model_copy(update={"messages": messages, "sha256": sha256_of(prompt.answer, messages)})


def most_bytes(prompt: Prompt, siblings: int) -> int:
    """The most bytes that a prompt can have with so many siblings, and with a call that asks to repair its answer."""
    line = 4 * _TEXT_CHARACTERS + 4
    return _REPAIR_BYTES + sum(len(message.content.encode()) for message in prompt.messages) + len(_HEADING) + 64 + siblings * _TEXTS_OF_SIBLING * line


def nearest(evidence: Evidence, keywords: Sequence[str], feature_key: str, sample: Sequence[BackgroundFeature], count: int) -> list[BackgroundFeature]:
    """The features of the contrast sample that share the most telling words with a feature, nearest first; none that shares no word."""
    others = [feature for feature in sample if feature.feature_key != feature_key]
    words = {feature.feature_key: _words((*feature.keywords, *feature.texts)) for feature in others}
    spread = Counter(word for each in words.values() for word in each)
    own = _words((*keywords, *(activation.text for activation in evidence.seen)))

    def likeness(feature: BackgroundFeature) -> float:
        theirs = words[feature.feature_key]
        return sum(math.log(1 + len(others) / spread[word]) for word in own & theirs) / math.sqrt(1 + len(theirs))

    alike = sorted(((likeness(feature), feature) for feature in others), key=lambda pair: (-pair[0], pair[1].feature_key))
    return [feature for like, feature in alike[:count] if like > 0]


def _words(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in _WORD.findall(text[:2000].lower())}


@dataclass(frozen=True, slots=True)
class Weighed:
    """What is kept of a candidate until it is decided: how bad it is, where its record stands, and how large its prompt is."""

    badness: Badness
    feature: str
    revision: int
    place: tuple[int, int]
    """Partition and offset of its record."""
    prompt_bytes: int
    turns: int
    """Messages of its prompt."""


def weighed(candidate: EscalationCandidate, place: tuple[int, int], siblings: int) -> Weighed:
    """Weigh a candidate."""
    prompt, subject = prompt_of(candidate), candidate.outcome.subject
    return Weighed(badness(candidate.outcome), subject.feature_key, subject.revision, place, most_bytes(prompt, siblings), len(prompt.messages))
