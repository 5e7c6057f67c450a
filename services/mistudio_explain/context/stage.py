"""Context: turns a found feature into a request for an explanation, or says why not."""

import hashlib

from mistudio_explain.context.categories import category_of
from mistudio_explain.context.complexity import complexity_of
from mistudio_explain.context.evidence import NEAR_DUPLICATES, NO_HELDOUT, NO_HELDOUT_CAVEAT, split
from mistudio_explain.context.explainers import Route
from mistudio_explain.context.passages import TEXT_CHARACTERS, TEXT_CUT, TEXTS_READ, Passage, distinct, passages_of
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates, render
from mistudio_explain.context.routing import Case
from mistudio_explain.context.tiers import coherence_caveats, tier_flags, tier_of
from mistudio_explain.errors import EvidenceError
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome, OutcomeKind, Subject, Tier
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Admission, Coordinates


def build(feature: FeatureFound, policy: ContextPolicy, templates: Templates, source: Coordinates | None) -> ExplanationRequested | FeatureOutcome:
    """Decide the tier, pick the evidence, render the prompt.

    Returns a `skipped` outcome when the coherence is below the threshold and neither the policy nor the feature's
    request wants such features explained. Raises EvidenceError when no text is left after cleaning, BadInput when
    the request asks for a template that does not exist. The same arguments give the same event.
    """
    request = feature.effective_request
    tier = tier_of(feature.stated_coherence, policy.threshold)
    read = passages_of(feature.top_activations)
    category, given, flags = category_of(feature.pattern_category, feature.pattern_keywords, read)
    judged = {"tier": tier, "category": category, "category_source": "given" if given else "inferred"}
    subject = Subject.of(feature, source).model_copy(update=judged)
    if tier is Tier.POOR and not (policy.explain_poor if request.explain_poor is None else request.explain_poor):
        return _skipped(subject, policy)
    if not read:
        raise EvidenceError(_no_text(feature))

    different = distinct(read)
    complexity = complexity_of(feature.classification.complexity_score if feature.classification else None, category, different)
    route = policy.routing.route(Case(category, complexity, tier)) if request.route is None else Route((request.route,))
    template = templates.chosen(request.prompt_version or policy.template, policy.routing.family(route.models), category)
    parted = split(different, template.texts, policy, trimmed=len(feature.top_activations) - len(different))
    rendered = render(feature, category, parted, template, policy.budget(route), audience=policy.audience)
    unheld = [] if parted.held_out else [NO_HELDOUT]
    return ExplanationRequested(
        event_id=event_id(subject, pass_number=1),
        subject=subject,
        request=request,
        complexity=complexity,
        evidence=rendered.split.evidence(),
        prompt=rendered.prompt,
        route=list(route.models),
        wanted=route.wanted,
        flags=[*tier_flags(tier), *flags, *unheld, *_alike(read, different), *_cut(feature), *rendered.flags],
        caveats=[*coherence_caveats(feature.stated_coherence, tier), *([NO_HELDOUT_CAVEAT] if unheld else [])],
    )


def admission(feature: FeatureFound, source: Coordinates | None) -> Admission:
    """That the feature entered its job, and where its bytes stand."""
    request = feature.effective_request
    return Admission(
        explain_job_id=request.explain_job_id,
        feature_key=feature.feature_key,
        revision=request.revision,
        tenant=request.tenant,
        find_job_id=feature.find_job_id,
        target_model=feature.target_model,
        source=source,
    )


def event_id(subject: Subject, pass_number: int) -> str:
    """Name a request: the same job, feature, revision and pass always give the same 32 hex digits."""
    named = f"{outcome_key(subject.explain_job_id, subject.feature_key)}|{subject.revision}|{pass_number}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _skipped(subject: Subject, policy: ContextPolicy) -> FeatureOutcome:
    return FeatureOutcome(
        outcome=OutcomeKind.SKIPPED,
        reason=f"poor: coherence {subject.coherence_score:.4g} is below the threshold {policy.threshold:.4g}; explain_poor explains such features too",
        subject=subject,
        flags=tier_flags(subject.tier),
    )


def _no_text(feature: FeatureFound) -> str:
    count = len(feature.top_activations)
    found = "has no texts" if count == 0 else f"has {count} texts, all without a visible character"
    return f"feature {feature.feature_key} of {feature.find_job_id} {found}, so there is nothing to explain; publish it with the texts that activate it"


def _alike(read: list[Passage], different: list[Passage]) -> list[str]:
    return [NEAR_DUPLICATES] if len(different) < len(read) else []


def _cut(feature: FeatureFound) -> list[str]:
    return [TEXT_CUT] if any(len(activation.text) > TEXT_CHARACTERS for activation in feature.top_activations[:TEXTS_READ]) else []
