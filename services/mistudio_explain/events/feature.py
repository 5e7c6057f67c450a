"""Features as miStudioFind publishes them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from mistudio_explain.events.identity import default_explain_job_id, feature_key
from mistudio_explain.events.model import Event, FeatureKey, Id, Record, Tenant

Priority = Literal["batch", "interactive"]


class ActiveToken(Record):
    """One token on which the feature fired, where the source names tokens but not all positions."""

    token: str = Field(description="The token's text, with its leading space if it has one.")
    strength: float = Field(description="The feature's activation on this token, in the source's unit.")


def _one_for_each_token(values: list[float], info: ValidationInfo) -> list[float]:
    tokens = info.data.get("tokens") or ()
    if len(values) != len(tokens):
        raise ValueError(f"{len(values)} values for {len(tokens)} tokens")
    return values


class Activation(Record):
    """One text on which the feature fires; the list of them is in rank order, strongest first."""

    text: str = Field(description="The text window as the target model read it.")
    activation_strength: float | None = Field(
        default=None, description="The feature's greatest activation in this text, in the source's unit; absent when the source gives none."
    )
    context: str | None = Field(default=None, description="Where the text comes from, in the source's words.")
    tokens: list[str] | None = Field(default=None, description="The target model's tokens of the text, in order.")
    token_activations: Annotated[list[float], AfterValidator(_one_for_each_token)] | None = Field(
        default=None, description="The feature's activation on each of `tokens`."
    )
    active_tokens: list[ActiveToken] | None = Field(default=None, description="The tokens that fire, when the source gives no activation for each token.")
    peak: str | None = Field(default=None, description="The token with the greatest activation.")


class ActivationStatistics(Record):
    """How the feature's activation is distributed over the source's whole corpus."""

    mean: float | None = Field(default=None, description="Mean activation, in the source's unit.")
    std: float | None = Field(default=None, description="Standard deviation of the activation.")
    max: float | None = Field(default=None, description="Greatest activation seen.")
    frequency: float | None = Field(default=None, ge=0, le=1, description="Share of tokens on which the feature fires, 0 to 1.")


class Logit(Record):
    """A token whose probability the feature raises or lowers when it is active."""

    token: str = Field(description="The token's text.")
    value: float = Field(description="The feature's direct effect on the token's logit; negative lowers it.")


class Classification(Record):
    """What miStudioFind's filter step adds beyond the primary category."""

    secondary_categories: list[str] = Field(default=[], description="Further categories, strongest first.")
    semantic_tags: list[str] = Field(default=[], description="Find's free tags.")
    behavioral_indicators: list[str] = Field(default=[], description="Find's names of behaviours seen in the texts.")
    quality_tier: str | None = Field(default=None, description="Find's own quality tier; kept, never mapped to ours.")
    complexity_score: float | None = Field(default=None, description="Find's complexity estimate, 0 to 1.")
    confidence_score: float | None = Field(default=None, description="Find's confidence in its classification, 0 to 1.")


class JobRequest(Record):
    """What each stage must know of the explain job; it travels with the feature, so that no stage has to look it up."""

    explain_job_id: Id = Field(description="The job that the outcome belongs to.")
    revision: int = Field(default=0, ge=0, description="The job's revision: 0 at first; +1 by each reopening. A retry raises that of the outcome alone.")
    tenant: Tenant = Field(default="default", description="The organisation that the job belongs to.")
    route: str | None = Field(default=None, description="Explainer model to use instead of what the routing policy says.")
    prompt_version: str | None = Field(default=None, description="Prompt template to use, `name@version`; absent: the service's default.")
    explain_poor: bool | None = Field(default=None, description="Explain features below the coherence threshold too; absent: as the service is set.")
    priority: Priority = Field(default="batch", description="`interactive` goes through the express lane; else `batch`.")
    candidates: int | None = Field(
        default=None, ge=1, le=10, description="Answers asked for each feature, the best of which is taken; absent: as the service is set."
    )
    expected: int | None = Field(default=None, ge=0, description="How many features the job will have, when that is known before the first one is sent.")


class FeatureFound(Event):
    """A feature of a target model, with the texts that activate it (topic find.features; explain.replays and explain.requests carry the same)."""

    target_model: str = Field(min_length=1, max_length=400, description="The model that the feature belongs to, such as `microsoft/phi-4`.")
    find_job_id: Id = Field(description="The miStudioFind job that found the feature; one find job has one target model.")
    feature_id: Id = Field(description="The feature's id in its source; a string on the wire also when the source counts in integers.")
    source_id: Id | None = Field(default=None, description="Layer, hook or SAE, when the job covers several: feature 5 of two layers are two features.")
    source_training_job: str | None = Field(default=None, description="The miStudioTrain job that made the dictionary.")
    coherence_score: float | None = Field(
        default=None, description="Find's coherence: mean pairwise Jaccard similarity of the texts' lower-cased, whitespace-separated words, 0 to 1."
    )
    quality_level: str | None = Field(default=None, description="Find's own high, medium or low; kept beside our tier, never mapped to it.")
    pattern_category: str | None = Field(
        default=None, description="technical, conversational, behavioral, temporal or other, as Find or a side file says; absent: inferred."
    )
    pattern_keywords: list[str] = Field(default=[], description="Words that are frequent in the feature's texts, strongest first.")
    top_activations: list[Activation] = Field(default=[], description="The texts on which the feature fires most, strongest first.")
    activation_statistics: ActivationStatistics | None = Field(default=None, description="How the activation is distributed.")
    top_logits: list[Logit] | None = Field(default=None, description="Tokens that the feature promotes or suppresses most.")
    classification: Classification | None = Field(default=None, description="What Find's filter step adds.")
    modality: str | None = Field(default=None, description="What the activations are of; absent means text.")
    computed: list[str] = Field(
        default=[],
        description="Fields that the source lacks and that were computed from the texts by miStudioFind's formulas: coherence_score, pattern_keywords.",
    )
    request: JobRequest | None = Field(default=None, description="The explain job's request; absent: the default job of this find job.")

    @model_validator(mode="after")
    def _has_a_job(self) -> Self:
        if self.request is None and len(default_explain_job_id(self.find_job_id)) > 200:
            raise ValueError("find_job_id is too long for the name of its default explain job; give a request with explain_job_id")
        return self

    @property
    def stated_coherence(self) -> float | None:
        """The coherence that the source states, which alone decides the tier; None where it was computed or there is none."""
        return None if "coherence_score" in self.computed else self.coherence_score

    @property
    def feature_key(self) -> FeatureKey:
        """The feature's name within its job."""
        return feature_key(self.feature_id, self.source_id)

    @property
    def effective_request(self) -> JobRequest:
        """The request block, or the default job of the find job."""
        return self.request or JobRequest(explain_job_id=default_explain_job_id(self.find_job_id))
