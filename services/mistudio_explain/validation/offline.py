"""Offline scoring: gives an explanation the outcome that the stream would give it, without Kafka and without a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mistudio_explain.context.background import empty, freeze, include
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.errors import EvidenceError
from mistudio_explain.events.explanation import Answer, Evidence, ExplanationDrafted, ExplanationRequested, FeatureOutcome, Generation, Prompt, Subject
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.identity import DEFAULT_TENANT
from mistudio_explain.events.job import JobBackground
from mistudio_explain.settings import Settings
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

_GIVEN = "given"
_NOBODY = Generation(model=_GIVEN, endpoint=_GIVEN, provider=_GIVEN, latency_s=0.0, finish_reason="stop")
"""What a draft must say of its origin; no outcome that leaves here repeats it."""
_UNASKED = Prompt(template=_GIVEN, version="0", sha256="", messages=[], answer="sentence")


@dataclass(frozen=True, slots=True)
class Scorer:
    """What offline scoring rests on: the validator, and context's choice of evidence."""

    validator: Validator
    policy: ContextPolicy
    templates: Templates

    @classmethod
    def of(cls, validator: Validator, settings: Settings) -> "Scorer":
        """Choose evidence as the settings have it for a configured explainer; poor features are scored too.

        Raises BadSettings for a template that cannot be used.
        """
        policy = ContextPolicy.of(settings.context, settings.quality, Routing())
        return cls(validator, replace(policy, explain_poor=True), Templates.load(settings.context.templates, default=settings.context.template))

    def with_room_for(self, jobs: int) -> "Scorer":
        """The same with room for so many prepared backgrounds (1.3 MB each at 64 features)."""
        return replace(self, validator=replace(self.validator, contrasts=self.validator.contrasts.with_capacity(jobs)))


def background_of(find_job_id: str, features: Iterable[FeatureFound]) -> JobBackground:
    """The frozen background of a job that has these features and no others, in this order, as production draws it."""
    there = list(features)
    model = there[0].target_model if there else _GIVEN
    return frozen(include(empty(find_job_id, DEFAULT_TENANT, model), there))


def frozen(background: JobBackground) -> JobBackground:
    """The background as it is once its job has no more features."""
    return freeze(background, background.distinct)


def draft_of(feature: FeatureFound, explanation: str, scorer: Scorer) -> ExplanationDrafted:
    """The draft that generation would hand on if the explainer had answered with this explanation.

    The texts are parted into seen and held-out ones as context parts them for an explainer, whoever wrote the
    explanation and whatever that person saw. A feature without any text, which the stream refuses, gives a draft
    without evidence.
    """
    feature = feature.model_copy(update={"request": feature.effective_request.model_copy(update={"explain_poor": True})})
    try:
        request = build(feature, scorer.policy, scorer.templates, None)
    except EvidenceError:
        request = None
    answer = Answer(pattern=explanation)
    if not isinstance(request, ExplanationRequested):
        return ExplanationDrafted(
            subject=Subject.of(feature, None), evidence=Evidence(seen=[]), answer=answer, generation=_NOBODY, prompt=_UNASKED, complexity="low"
        )
    return ExplanationDrafted(
        subject=request.subject,
        evidence=request.evidence,
        answer=answer,
        generation=_NOBODY,
        prompt=request.prompt,
        complexity=request.complexity,
        flags=request.flags,
        caveats=request.caveats,
    )


def score(feature: FeatureFound, explanation: str, background: JobBackground | None, scorer: Scorer) -> FeatureOutcome:
    """Score one explanation against the background of its feature's job.

    The outcome says nothing of how the explanation came about, for nobody knows.
    """
    return _unsigned(validate(draft_of(feature, explanation, scorer), background, scorer.validator))


def score_features(features: Sequence[FeatureFound], explanations: Sequence[str], scorer: Scorer) -> list[FeatureOutcome]:
    """Score `explanations[i]` on `features[i]`; features of one find job are each other's background.

    A feature may stand there several times, with different explanations; it counts once.
    """
    jobs: dict[str, list[FeatureFound]] = {}
    for feature in features:
        jobs.setdefault(feature.find_job_id, []).append(feature)
    backgrounds = {job: background_of(job, there) for job, there in jobs.items()}
    return [score(feature, said, backgrounds[feature.find_job_id], scorer) for feature, said in zip(features, explanations, strict=True)]


def _unsigned(outcome: FeatureOutcome) -> FeatureOutcome:
    unknown = {"generation": None, "prompt_template": None, "prompt_sha256": None}
    return outcome.model_copy(update=unknown if outcome.evidence and outcome.evidence.seen else {**unknown, "complexity": None})
