"""An explained feature as people read it: everything worded, nothing left to compute for a page, a PDF or a text."""

from collections.abc import Iterator
from dataclasses import dataclass

from mistudio_explain.events.explanation import Accuracy, FeatureOutcome, JudgedKind, Judgement
from mistudio_explain.events.feature import Logit
from mistudio_explain.reporting.actions import suggested_action
from mistudio_explain.reporting.detours import SECOND_PASS_FAILED
from mistudio_explain.reporting.evidence import EXCERPT_CHARACTERS, Excerpt, excerpt, max_activation, texts, visible
from mistudio_explain.reporting.named import name_of
from mistudio_explain.reporting.origin import is_demonstration
from mistudio_explain.reporting.survey import category_of
from mistudio_explain.reporting.wording import coherence_status, coherence_told, counted

_KEYWORDS = 12
_LOGITS = 12
_SAFETY_TEXTS = 3
_HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """A score between 0 and 1 with its interval if it has one; `basis` says what it rests on, or why there is none."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """A named fact about a feature."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Card:
    """An explained feature; every text has its invisible characters made visible."""

    position: int
    """Its place in the stream of all outcomes, from 1; `f<position>` is its anchor."""
    key: str
    category: str
    title: str
    verdict: str | None
    safety: str | None
    is_demonstration: bool
    pattern: str | None
    """The sentence that was scored for truth, where the title is not the same."""
    meanings: tuple[str, ...]
    """Significance and implications, which nobody scored."""
    review_reason: str | None
    review: tuple[str, ...]
    """What a person said: who and the verdict, then why, then what it should say."""
    caveats: tuple[str, ...]
    details: tuple[Detail, ...]
    flags: tuple[str, ...]
    scores: tuple[ScoreLine, ...]
    seen: tuple[Excerpt, ...]
    held_out: tuple[Excerpt, ...]
    trimmed: int
    logits: str | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A place that speaks for a safety concern: the words found, and the text they stand in; None for the explanation."""

    category: str
    words: tuple[str, ...]
    excerpt: Excerpt | None


def card_of(position: int, outcome: FeatureOutcome, characters: int = EXCERPT_CHARACTERS) -> Card:
    """Word an explained outcome, with so many characters of each of its texts at most."""
    answer, evidence, safety = outcome.answer, outcome.evidence, outcome.safety
    logits = outcome.subject.logits
    return Card(
        position=position,
        key=outcome.subject.feature_key,
        category=category_of(outcome),
        title=visible(name_of(outcome)),
        verdict=outcome.pattern_verification,
        safety=safety.assessment if safety else None,
        is_demonstration=is_demonstration(outcome.generation),
        pattern=visible(answer.pattern) if answer and answer.label else None,
        meanings=tuple(visible(text) for text in (answer.significance, answer.implications) if text) if answer else (),
        review_reason=visible(outcome.review_reason) if outcome.review_reason else None,
        review=tuple(_review(outcome)),
        caveats=tuple(visible(caveat) for caveat in outcome.caveats),
        details=tuple(_details(outcome)),
        flags=tuple(visible(flag) for flag in outcome.flags),
        scores=tuple(_scores(outcome)),
        seen=tuple(excerpt(a, characters) for a in evidence.seen) if evidence else (),
        held_out=tuple(excerpt(a, characters) for a in evidence.held_out) if evidence else (),
        trimmed=evidence.trimmed if evidence else 0,
        logits=_moved(logits) if logits else None,
    )


def passages(outcome: FeatureOutcome, most: int = _SAFETY_TEXTS) -> list[Passage]:
    """The places that speak for a safety concern: those in the explanation, then at most `most` texts."""
    kept = texts(outcome.evidence)
    found = outcome.safety.evidence if outcome.safety else []
    in_texts = [e for e in found if e.where == "text" and e.index is not None and 0 <= e.index < len(kept)]
    in_explanation = [e for e in found if e.where == "explanation"]
    return [
        *(Passage(e.category, tuple(e.words), None) for e in in_explanation),
        *(Passage(e.category, tuple(e.words), excerpt(kept[e.index])) for e in in_texts[:most] if e.index is not None),
    ]


def _review(outcome: FeatureOutcome) -> Iterator[str]:
    review = outcome.review
    if review is not None:
        yield visible(f"Reviewed by {review.who}: {review.verdict}.")
        if review.why:
            yield visible(review.why)
        if review.corrected:
            yield visible(f"It should say: {review.corrected}")


def _details(outcome: FeatureOutcome) -> Iterator[Detail]:
    subject, made = outcome.subject, outcome.generation
    if subject.keywords:
        yield Detail("keywords", visible(", ".join(subject.keywords[:_KEYWORDS])))
    yield Detail("coherence", coherence_told(subject))
    strongest = max_activation(outcome)
    if strongest is not None:
        yield Detail("greatest activation", f"{strongest:.4g}")
    if subject.statistics is not None and subject.statistics.frequency is not None:
        yield Detail("fires on", f"{100 * subject.statistics.frequency:.3g}% of tokens")
    yield Detail("suggested", suggested_action(outcome))
    if made is not None:
        yield Detail("by", visible(f"{made.model} at {made.endpoint}{', from the cache' if made.cached else ''}"))
    if outcome.prompt_template is not None:
        digest = f" {outcome.prompt_sha256[:_HASH_CHARACTERS]}" if outcome.prompt_sha256 else ""
        yield Detail("prompt", visible(f"{outcome.prompt_template}{digest}"))
    if outcome.pass_number == 2:
        failed = "it failed, and " if any(flag.startswith(SECOND_PASS_FAILED) for flag in outcome.flags) else ""
        yield Detail("second pass", "this explanation is of it" if outcome.earlier is not None else f"{failed}the first explanation stood")


def _scores(outcome: FeatureOutcome) -> Iterator[ScoreLine]:
    yield _accuracy(outcome.accuracy, outcome.unavailable.get("accuracy"))
    relevance = f"relevance, {outcome.business_relevance}" if outcome.business_relevance else "relevance"
    for name, label, value in (
        ("quality", "quality", outcome.quality_score),
        ("confidence", "confidence", outcome.confidence),
        ("clarity", "clarity", outcome.clarity.value if outcome.clarity else None),
        ("consistency", "consistency", outcome.consistency.value if outcome.consistency else None),
        ("relevance", relevance, outcome.relevance.value if outcome.relevance else None),
    ):
        yield ScoreLine(label, value, basis="" if value is not None else _absent(outcome.unavailable.get(name)))
    yield from _judged(outcome.judge)


def _accuracy(accuracy: Accuracy | None, why_not: str | None) -> ScoreLine:
    if accuracy is None:
        return ScoreLine("accuracy", None, basis=_absent(why_not))
    interval = f"95% interval {accuracy.low:.2f}–{accuracy.high:.2f}, " if accuracy.low is not None and accuracy.high is not None else ""
    kind = {"held_out": "held-out ", "seen": "seen "}.get(accuracy.basis, "")
    return ScoreLine("accuracy", accuracy.p, accuracy.low, accuracy.high, f"{interval}{counted(accuracy.n, f'{kind}text')}")


def _judged(judge: Judgement | None) -> Iterator[ScoreLine]:
    for each in judge.kinds if judge else ():
        if each.balanced_accuracy is None:
            why = judge.unavailable.get(each.kind) if judge else None
            yield ScoreLine(f"judge: {each.kind}", None, basis="could not be judged" + (f": {visible(why)}" if why else ""))
        else:
            yield ScoreLine(f"judge: {each.kind}", each.balanced_accuracy, basis=_answers(each))
    grades = (("factual", judge.factual_coherence), ("logical", judge.logical_coherence)) if judge else ()
    for name, grade in grades:
        if grade is not None:
            yield ScoreLine(f"judge: {name} coherence", grade)
    if judge is None or judge.factual_coherence is None:
        yield ScoreLine("factual, logical coherence", None, basis=visible(coherence_status(judge)))


def _answers(each: JudgedKind) -> str:
    own = f"accepts {_percent(each.tpr)} of its own {each.positives}"
    others = f"turns down {_percent(each.tnr)} of {each.negatives} others"
    left_out = f"; {each.unparsed + each.unasked} not judged" if each.unparsed + each.unasked else ""
    return f"{own}, {others}{left_out}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}%"


def _absent(why: str | None) -> str:
    return "not computed" + (f": {visible(why)}" if why else "")


def _moved(logits: list[Logit]) -> str:
    return ", ".join(f"{visible(logit.token)} {logit.value:+.2g}" for logit in logits[:_LOGITS])
