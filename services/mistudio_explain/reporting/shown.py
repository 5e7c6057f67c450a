"""A feature as the text and the PDF report show it: short texts that cannot break out of their place."""

from collections.abc import Iterator
from dataclasses import dataclass

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.feature import Activation
from mistudio_explain.reporting.actions import suggested_action
from mistudio_explain.reporting.evidence import Excerpt, excerpt, max_activation, texts, visible
from mistudio_explain.reporting.records import explanation_text
from mistudio_explain.reporting.wording import coherence_status, coherence_told

LONGEST = 2_000
"""Characters of one text at most."""
_SHORT = 200
"""The same of a score or a fact."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An explained feature. All texts are made visible (evidence.visible) and at most `LONGEST` characters long."""

    key: str
    label: str
    verdict: str
    safety: str | None
    """Absent when it was assessed as safe."""
    paragraphs: tuple[str, ...]
    scores: str
    facts: str
    notes: tuple[str, ...]
    seen: tuple[Excerpt, ...]
    held_out: tuple[Excerpt, ...]
    more_texts: int
    """Texts that are kept and not shown."""


def shown(outcome: FeatureOutcome, *, most_texts: int, characters: int) -> Shown:
    """Take from an explained outcome what is shown of it, with at most so many texts, each cut to so many characters."""
    answer, evidence, subject = outcome.answer, outcome.evidence, outcome.subject
    whole = explanation_text(outcome) or "no text"
    label = (answer.label or answer.pattern) if answer else whole
    paragraphs = (answer.pattern if answer.label else None, answer.significance, answer.implications) if answer else ()
    seen, held_out = _first_texts(outcome, most_texts)
    return Shown(
        key=subject.feature_key,
        label=short(label, 300),
        verdict=outcome.pattern_verification or "no verdict",
        safety=_safety(outcome),
        paragraphs=tuple(short(part) for part in paragraphs if part),
        scores=" · ".join(short(each, _SHORT) for each in _scores(outcome)),
        facts=" · ".join(short(each, _SHORT) for each in _facts(outcome)),
        notes=tuple(short(note) for note in _notes(outcome)),
        seen=tuple(excerpt(text, characters) for text in seen),
        held_out=tuple(excerpt(text, characters) for text in held_out),
        more_texts=len(texts(evidence)) - len(seen) - len(held_out),
    )


def short(text: str, longest: int = LONGEST) -> str:
    """A text as a reader sees it, cut where it is too long."""
    seen = visible(text)
    return seen if len(seen) <= longest else seen[:longest] + " …"


def _first_texts(outcome: FeatureOutcome, most: int) -> tuple[list[Activation], list[Activation]]:
    """The strongest seen texts and, where some were held out, a third as many of those."""
    if outcome.evidence is None:
        return [], []
    held_out = outcome.evidence.held_out[: most // 3]
    return outcome.evidence.seen[: most - len(held_out)], held_out


def _safety(outcome: FeatureOutcome) -> str | None:
    safety = outcome.safety
    if safety is None:
        return "safety not assessed"
    if safety.assessment == "safe":
        return None
    return short(f"{safety.assessment.replace('_', ' ')}: {', '.join(safety.categories)}" if safety.categories else safety.assessment.replace("_", " "), 300)


def _scores(outcome: FeatureOutcome) -> Iterator[str]:
    accuracy = outcome.accuracy
    if accuracy is not None:
        within = f" ({accuracy.low:.2f}–{accuracy.high:.2f})" if accuracy.low is not None and accuracy.high is not None else ""
        yield f"accuracy {accuracy.p:.2f}{within} on {accuracy.n} texts"
    components = (
        ("quality", outcome.quality_score),
        ("confidence", outcome.confidence),
        ("clarity", outcome.clarity.value if outcome.clarity else None),
        ("consistency", outcome.consistency.value if outcome.consistency else None),
        ("relevance", outcome.relevance.value if outcome.relevance else None),
    )
    yield from (f"{name} {value:.2f}" for name, value in components if value is not None)
    absent = [name for name, value in (("accuracy", accuracy), *components) if value is None]
    yield from (f"{name} not computed{f': {outcome.unavailable[name]}' if name in outcome.unavailable else ''}" for name in absent)
    if outcome.judge is not None:
        yield from (f"judge's {kind.kind} {kind.balanced_accuracy:.2f}" for kind in outcome.judge.kinds if kind.balanced_accuracy is not None)
        yield f"factual and logical coherence {coherence_status(outcome.judge)}"


def _facts(outcome: FeatureOutcome) -> Iterator[str]:
    subject, strongest = outcome.subject, max_activation(outcome)
    yield f"coherence {coherence_told(subject)}"
    if strongest is not None:
        yield f"greatest activation {strongest:.4g}"
    if subject.statistics is not None and subject.statistics.frequency is not None:
        yield f"fires on {100 * subject.statistics.frequency:.3g}% of tokens"
    yield f"suggested: {suggested_action(outcome)}"
    if outcome.generation is not None:
        yield f"by {outcome.generation.model}"
    if subject.keywords:
        yield f"keywords {', '.join(subject.keywords[:12])}"
    if outcome.flags:
        yield f"flags {', '.join(outcome.flags)}"


def _notes(outcome: FeatureOutcome) -> Iterator[str]:
    if outcome.review_reason:
        yield f"A person should look: {outcome.review_reason}"
    if outcome.review is not None:
        why = f" {outcome.review.why}" if outcome.review.why else ""
        corrected = f" It should say: {outcome.review.corrected}" if outcome.review.corrected else ""
        yield f"Reviewed by {outcome.review.who}: {outcome.review.verdict}.{why}{corrected}"
    yield from outcome.caveats
