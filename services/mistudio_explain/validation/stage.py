"""Validation: turns a drafted explanation into an outcome that says how far to believe it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mistudio_explain.events.activity import active_words, promoted_words
from mistudio_explain.events.explanation import Accuracy, Category, ExplanationDrafted, FeatureOutcome, OutcomeKind, Safety, Score, Subject, Verification
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.choice import chosen, set_aside
from mistudio_explain.validation.clarity import clarity
from mistudio_explain.validation.company import GENERIC_SHARE, Company, company
from mistudio_explain.validation.confidence import confidence
from mistudio_explain.validation.consistency import consistency
from mistudio_explain.validation.contrast import Claim, Texts
from mistudio_explain.validation.excerpt import passages
from mistudio_explain.validation.gate import CLAIM_CHARACTERS, ECHO_CHARACTERS, Objection, objection_to
from mistudio_explain.validation.language import foreign_to
from mistudio_explain.validation.quality import quality_score
from mistudio_explain.validation.safety import safety
from mistudio_explain.validation.script import main_script
from mistudio_explain.validation.validator import VALIDATOR_VERSION, Comparison, Validator
from mistudio_explain.validation.verdict import KEYWORDS_PARROTED, assess, rule

TEXTS_SCORED = 100  # as many as context ever keeps
LONG_TEXT = 100_000  # characters; such a text is no window, and what is scored of it says little


@dataclass(frozen=True, slots=True)
class _Truth:
    """What could be said about the truth of a pattern, and why the rest could not."""

    verification: Verification
    accuracy: Accuracy | None = None
    consistency: Score | None = None
    confidence: float | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    review: str | None = None


def validate(draft: ExplanationDrafted, background: JobBackground | None, validator: Validator) -> FeatureOutcome:
    """Score a draft against the other features of its find job.

    Always gives an `explained` outcome: what cannot be scored is absent with a reason in `unavailable`, never an
    error, whatever the texts or the answer hold. The same arguments give the same outcome.
    """
    subject = draft.subject
    comparison = validator.comparison(subject.feature_key, background)
    if draft.candidates:
        draft = _best(draft, comparison, validator)
    category = subject.category or Category.OTHER
    kept, skipped_texts = _scored(draft)
    texts = texts_of(kept, min(len(draft.evidence.seen) + draft.evidence.chosen_on, len(kept)), subject, validator)
    assessed = safety(texts, f"{draft.answer.label or ''}. {draft.answer.pattern[:CLAIM_CHARACTERS]}", validator.hazards, validator.embedding)
    relevance = validator.relevance.of(subject, category, assessed.assessment)

    objection = objection_of(draft.answer.pattern, draft)
    silence = silence_of(texts)
    if objection is not None:
        truth = _unverifiable(objection, "clarity")
    else:
        truth = _unverifiable(silence) if silence is not None else _truth(draft, texts, comparison, category, validator)
    clear = None if objection is not None else clarity(draft.answer, category)
    quality = quality_score(truth.accuracy, clear, truth.consistency, relevance)
    unavailable = dict(truth.unavailable)
    if quality is None:
        missing = ", ".join(name for name, part in (("accuracy", truth.accuracy), ("clarity", clear), ("consistency", truth.consistency)) if part is None)
        unavailable["quality_score"] = f"missing: {missing}"

    contrast_flags = _contrast_flags(comparison, background)
    text_flags = ["long_text"] * any(len(activation.text) > LONG_TEXT for activation in kept) + ["peak_unknown"] * (len(texts.text_of) > texts.count)
    text_flags += ["texts_left_out"] * skipped_texts
    return FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=subject,
        pass_number=draft.pass_number,
        evidence=draft.evidence,
        answer=draft.answer,
        explanation=draft.answer.explanation,
        quality_score=quality,
        accuracy=truth.accuracy,
        clarity=clear,
        consistency=truth.consistency,
        relevance=relevance,
        business_relevance=validator.relevance.level(relevance),
        pattern_verification=truth.verification,
        confidence=truth.confidence,
        safety=assessed,
        unavailable=unavailable,
        caveats=draft.caveats,
        flags=list(dict.fromkeys([*draft.flags, *contrast_flags, *text_flags, *truth.flags])),
        draft_flags=draft.flags,
        review_reason="; ".join(filter(None, (truth.review, _safety_review(assessed)))) or None,
        generation=draft.generation,
        prompt_template=f"{draft.prompt.template}@{draft.prompt.version}",
        prompt_sha256=draft.prompt.sha256,
        complexity=draft.complexity,
        validator_version=VALIDATOR_VERSION,
        background_version=comparison.version,
        background_features=comparison.others,
        earlier=draft.earlier,
    )


def texts_of(kept: Sequence[Activation], seen: int, subject: Subject, validator: Validator) -> Texts:
    """What is scored of a feature: passages of its texts, the first `seen` of which the explainer saw, active words, promoted tokens."""
    return Texts.with_views(
        [passages(activation) for activation in kept],
        seen,
        [active_words(activation) for activation in kept],
        promoted_words(subject.logits),
        validator.embedding,
        validator.minilm,
    )


def objection_of(pattern: str, draft: ExplanationDrafted) -> Objection | None:
    """What the gate has against `pattern` as the answer to the draft's prompt; None when it can be checked."""
    kept, _ = _scored(draft)
    return objection_to(pattern, draft.prompt, draft.subject.keywords, [activation.text[:ECHO_CHARACTERS] for activation in kept])


def _best(draft: ExplanationDrafted, comparison: Comparison, validator: Validator) -> ExplanationDrafted:
    """The draft with the candidate that best fits the texts that are set aside for the choice."""
    evidence, basis = set_aside(draft.evidence)
    draft = draft.model_copy(update={"evidence": evidence})
    texts = texts_of(basis, len(basis), draft.subject, validator)

    def fit(pattern: str) -> float | None:
        if silence_of(texts) is not None or objection_of(pattern, draft) is not None:
            return None
        claim = Claim.of(pattern[:CLAIM_CHARACTERS], validator.embedding, validator.minilm)
        return rule(assess(claim, texts, comparison.contrast, comparison.place, draft.subject.keywords, validator), validator).accuracy.p

    return chosen(draft, fit, validator.confirmed_from)


def silence_of(texts: Texts) -> Objection | None:
    """Why nothing can be checked on these texts; None when they have words."""
    if not texts.wordless:
        return None
    return Objection("no_words", "the feature has no text" if texts.count == 0 else "no text of the feature has a word")


def _scored(draft: ExplanationDrafted) -> tuple[list[Activation], bool]:
    """The texts that are scored, seen first, and whether some had to be left out."""
    every = [*draft.evidence.seen, *draft.evidence.held_out]
    return every[:TEXTS_SCORED], len(every) > TEXTS_SCORED


def _unverifiable(objection: Objection, *more: str) -> _Truth:
    """No statement about truth, nor about the components `more`, for the reason that the objection gives."""
    return _Truth(
        verification=Verification.UNVERIFIABLE,
        unavailable=dict.fromkeys(("accuracy", "consistency", "confidence", *more), objection.reason),
        flags=(objection.kind,),
        review=objection.reason if objection.needs_review else None,
    )


def _truth(draft: ExplanationDrafted, texts: Texts, comparison: Comparison, category: Category, validator: Validator) -> _Truth:
    claim = Claim.of(draft.answer.pattern[:CLAIM_CHARACTERS], validator.embedding, validator.minilm)
    assessed = assess(claim, texts, comparison.contrast, comparison.place, draft.subject.keywords, validator)
    ruling = rule(assessed, validator)
    accuracy, verification = ruling.accuracy, ruling.verification
    sure = confidence(verification, accuracy)
    is_among_its_own = comparison.version > 0  # features of the general background are nobody's siblings
    is_doubted = is_among_its_own and accuracy.p < validator.confirmed_from
    others = company(claim, assessed.measured["all"], comparison.contrast, comparison.place) if is_doubted else None
    return _Truth(
        verification=verification,
        accuracy=accuracy,
        consistency=consistency(claim, texts, comparison.contrast, comparison.place, category),
        confidence=sure,
        unavailable={} if sure is not None else {"confidence": "a partial verdict takes no side that could be right or wrong"},
        flags=(*_truth_flags(claim, texts, accuracy, verification, others), *["negated"] * ruling.negated, *["one_text"] * ruling.one_text),
        review="one text alone bears the explanation out, the others share no telling word with it"
        if ruling.one_text
        else _truth_review(verification, accuracy, others, validator),
    )


def _truth_flags(claim: Claim, texts: Texts, accuracy: Accuracy, verification: Verification, others: Company | None) -> Iterator[str]:
    if accuracy.masked is None:
        yield "keywords_only"
    elif accuracy.keywords_listed >= KEYWORDS_PARROTED:
        yield "keywords_listed"
    if accuracy.kind == "output" and verification is not Verification.CONFIRMED:
        yield "output_feature"
    if others and others.fits_better is not None:
        yield f"fits_better: {others.fits_better}"
    if others and others.as_well >= GENERIC_SHARE and verification is not Verification.CONTRADICTED:
        yield "generic"
    said, read = main_script([claim.sentence]), main_script(" ".join(spoken) for spoken in texts.words)
    if said and read and said != read:
        yield "foreign_script"
    elif foreign_to(claim.sentence, texts.words) is not None:
        yield "foreign_language"


def _truth_review(verification: Verification, accuracy: Accuracy, others: Company | None, validator: Validator) -> str | None:
    if verification is Verification.CONTRADICTED:
        fits_seen = accuracy.held_out is not None and accuracy.seen is not None and accuracy.seen >= validator.confirmed_from
        though = ", though those that the explainer saw fit it" if fits_seen else ""
        decisive = accuracy.p if accuracy.held_out is None else accuracy.held_out
        return f"the texts contradict the explanation (accuracy {decisive:.2f}){though}"
    if others and others.fits_better is not None:
        return f"the explanation fits feature {others.fits_better} better than its own"
    if accuracy.p >= validator.confirmed_from and (accuracy.masked is None or accuracy.keywords_listed >= KEYWORDS_PARROTED):
        return "the explanation only lists the feature's keywords"
    return None


def _safety_review(assessed: Safety) -> str | None:
    return None if assessed.assessment == "safe" else f"safety is {assessed.assessment}: {', '.join(assessed.categories)}"


def _contrast_flags(comparison: Comparison, background: JobBackground | None) -> list[str]:
    return ["no_contrast"] * (comparison.version == 0) + ["provisional"] * (background is None or not background.frozen)
