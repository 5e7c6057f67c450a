"""Events about whole jobs."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from mistudio_explain.events.model import Event, FeatureKey, Id, Record, Tenant


class Coordinates(Record):
    """Where a record stands in Kafka."""

    topic: str = Field(description="Topic name.")
    partition: int = Field(ge=0, description="Partition number.")
    offset: int = Field(ge=0, description="Offset in the partition.")


class JobPart(StrEnum):
    """The parts that a job's state is merged from; each has one writer, so that none overwrites another."""

    REQUEST = "request"
    SEALED = "sealed"
    CONTROL = "control"
    FIRST_PASS = "first_pass"
    SECOND_PASS = "second_pass"
    REPLAY = "replay"


class RequestPart(Record):
    """What was asked for."""

    find_job_id: Id = Field(description="The find job whose features are explained.")
    target_model: str | None = Field(default=None, description="The find job's target model.")
    source_training_job: str | None = Field(default=None, description="The training job behind the find job.")
    input_processing_time: str | None = Field(default=None, description="How long Find took, as Find wrote it.")
    filters: list[str] = Field(default=[], description="Conditions on features, in the words of the command line.")
    route: str | None = Field(default=None, description="Explainer model asked for.")
    prompt_version: str | None = Field(default=None, description="Prompt template asked for.")
    explain_poor: bool | None = Field(default=None, description="Whether features below the threshold are explained.")
    priority: Literal["batch", "interactive"] = Field(default="batch", description="batch or interactive.")
    candidates: int | None = Field(default=None, ge=1, le=10, description="Answers asked for each feature; absent: as the service is set.")
    expected: int | None = Field(default=None, ge=0, description="How many features the job will have, if known.")
    estimated_seconds: float | None = Field(default=None, ge=0, description="Wall time estimated before the start, in seconds.")
    estimated_cost_usd: float | None = Field(default=None, ge=0, description="Cost estimated before the start, in US dollars.")


class SealedPart(Record):
    """That the last feature was sent."""

    expected: int = Field(ge=0, description="How many features the job has; never lowered at the same revision.")
    notes: list[str] = Field(default=[], description="Sentences for people about what was asked for and not sent, such as features that retention took.")


class ControlPart(Record):
    """What a person ordered."""

    action: Literal["cancel", "reopen", "delete", "deleted"] = Field(description="cancel, reopen, delete, or deleted (what remains of a deleted job).")
    who: str | None = Field(default=None, description="Who ordered it.")
    why: str | None = Field(default=None, description="Why.")


class FirstPassPart(Record):
    """That all features have an outcome, so that the worst can be looked at."""

    outcomes: int = Field(ge=0, description="Outcomes at that moment.")


class SecondPassPart(Record):
    """What the second pass does."""

    sent: int = Field(ge=0, description="Features sent out again.")
    refused: int = Field(default=0, ge=0, description="Candidates that a cap or a missing price kept back.")


class ReplayPart(Record):
    """What to explain again."""

    from_job: Id = Field(description="The find job whose features are replayed.")
    of: Id | None = Field(default=None, description="The explain job whose outcomes the filter reads.")
    where: str | None = Field(default=None, description="The filter's text.")
    features: list[FeatureKey] = Field(default=[], description="Features to replay; empty: all that the other conditions let through.")
    since_ms: int | None = Field(default=None, description="Only features published at or after this moment, milliseconds since 1970 UTC.")
    until_ms: int | None = Field(default=None, description="Only features published before this moment, milliseconds since 1970 UTC.")
    failed_only: bool = Field(default=False, description="Only features whose outcome in `of` is failed.")
    from_file: bool = Field(default=False, description="Whether the features come out of a file, sent by whoever ordered the replay, and not out of Kafka.")


class JobEvent(Event):
    """One part of a job's state (topic explain.jobs, key job|part); the state is the merge of the parts."""

    explain_job_id: Id = Field(description="The job.")
    revision: int = Field(default=0, ge=0, description="Revision that this part speaks of.")
    tenant: Tenant = Field(default="default", description="The organisation that the job belongs to.")
    at_ms: int = Field(ge=0, description="When it was written, milliseconds since 1970 UTC.")
    request: RequestPart | None = Field(default=None, description="Set in the request part.")
    sealed: SealedPart | None = Field(default=None, description="Set in the sealed part.")
    control: ControlPart | None = Field(default=None, description="Set in the control part.")
    first_pass: FirstPassPart | None = Field(default=None, description="Set in the first_pass part.")
    second_pass: SecondPassPart | None = Field(default=None, description="Set in the second_pass part.")
    replay: ReplayPart | None = Field(default=None, description="Set in the replay part.")

    @model_validator(mode="after")
    def _exactly_one_part(self) -> Self:
        parts = [part.value for part in JobPart if getattr(self, part.value) is not None]
        if len(parts) != 1:
            raise ValueError(f"a job event has exactly one part, not {' and '.join(parts) or 'none'}")
        return self

    @property
    def part(self) -> JobPart:
        """Which part this is."""
        return next(part for part in JobPart if getattr(self, part.value) is not None)

    @property
    def key(self) -> str:
        """The record's key: `job|part`."""
        return f"{self.explain_job_id}|{self.part.value}"


class Admission(Event):
    """A feature entered a job (topic explain.admissions, key job|feature)."""

    explain_job_id: Id = Field(description="The job.")
    feature_key: FeatureKey = Field(description="The feature.")
    revision: int = Field(default=0, ge=0, description="The request's revision.")
    tenant: Tenant = Field(default="default", description="The organisation that the job belongs to.")
    find_job_id: Id = Field(description="The find job.")
    target_model: str = Field(description="The target model.")
    source: Coordinates | None = Field(default=None, description="Where the feature's bytes stand, so that a replay reads only those.")


class BackgroundFeature(Record):
    """One feature of the contrast sample."""

    feature_key: FeatureKey = Field(description="The feature.")
    keywords: list[str] = Field(default=[], description="Its keywords.")
    texts: list[str] = Field(default=[], description="Up to 5 texts, evenly over the ranks, at most 200 characters round the peak.")
    active_words: list[str] = Field(
        default=[], description="The words of these texts that the feature fires on, at most 40; empty when the source does not tell."
    )
    promoted: list[str] = Field(default=[], description="Up to 10 tokens whose logits the feature raises most; empty when the source does not tell.")


class JobBackground(Event):
    """The contrast sample of a find job (topic explain.backgrounds, key tenant|find_job_id)."""

    find_job_id: Id = Field(description="The find job.")
    tenant: Tenant = Field(default="default", description="The organisation that the find job belongs to.")
    target_model: str = Field(description="The target model.")
    sample: list[BackgroundFeature] = Field(description="The 64 features with the smallest sha256(find_job_id|feature_key) among the first 512 distinct ones.")
    distinct: int = Field(ge=0, description="How many distinct features were seen, up to 512.")
    frozen: bool = Field(description="Whether the sample changes no more.")
    seen: bytes = Field(default=b"", description="The first 8 bytes of the sha256 of every feature counted so far; empty once frozen.")

    @property
    def version(self) -> int:
        """A number that grows as the background does; frozen over open, then the greater count."""
        return 2 * self.distinct + (1 << 20 if self.frozen else 0)


class PartitionPaused(Event):
    """A source partition that a service reads no further (topic explain.pauses, key service|topic/partition); a tombstone lets it go on."""

    service: str = Field(description="The service that paused it.")
    topic: str = Field(description="Topic name.")
    partition: int = Field(ge=0, description="Partition number.")
    letters: int = Field(ge=0, description="Dead letters that this partition gave within the window.")
    window_s: float = Field(ge=0, description="The window, seconds.")
    error: str = Field(description="Class and text of the last error.")
    at_ms: int = Field(ge=0, description="When it was paused, milliseconds since 1970 UTC.")

    @property
    def key(self) -> str:
        """The record's key: `service|topic/partition`."""
        return f"{self.service}|{self.topic}/{self.partition}"


class SentToCloud(Record):
    """What of a job went to one model in a cloud, by the ledger: counted before each call, so never too low."""

    endpoint: str = Field(description="Name of the endpoint.")
    url: str = Field(description="Its address; empty where its provider has but one.")
    model: str = Field(description="The model.")
    features: int = Field(ge=0, description="Features whose prompt was sent.")
    calls: int = Field(ge=0, description="Calls that were begun.")
    usd: float = Field(ge=0, description="US dollars: what finished calls cost, and the most that the others can have cost.")


class CloudPrice(Record):
    """What a provider charges for one of its models."""

    model: str = Field(description="The model.")
    input: float = Field(ge=0, description="US dollars per million prompt tokens.")
    output: float = Field(ge=0, description="US dollars per million answer tokens.")
    as_of: str = Field(description="The day on which this was the price, YYYY-MM-DD.")
    source: str = Field(description="Who says so.")


class CostAnalysis(Record):
    """What the job cost on its own machine, and what the same tokens would cost in clouds; a figure that cannot be known is absent."""

    local_cost: float | None = Field(default=None, description="Electricity of the job's time, US dollars.")
    openai_cost: float | None = Field(default=None, description="What OpenAI would charge for the same tokens, US dollars.")
    anthropic_cost: float | None = Field(default=None, description="What Anthropic would charge for the same tokens, US dollars.")
    savings_vs_openai: float | None = Field(default=None, description="openai_cost less local_cost.")
    savings_vs_anthropic: float | None = Field(default=None, description="anthropic_cost less local_cost.")
    roi_break_even_features: int | None = Field(default=None, description="Features after which the hardware has paid for itself against OpenAI.")
    payback_months: float | None = Field(default=None, description="Months until then.")
    unavailable: dict[str, str] = Field(default={}, description="Why a figure is absent.")
    seconds: float | None = Field(default=None, description="First admission to last outcome, seconds.")
    watts: float | None = Field(default=None, description="Power, watts.")
    watts_source: str | None = Field(default=None, description="Where the power comes from: GPUs (measured) or settings.")
    electricity_usd_per_kwh: float | None = Field(default=None, description="Price of electricity, US dollars per kilowatt-hour.")
    hardware_usd: float | None = Field(default=None, description="Price of the hardware, US dollars.")
    features_per_month: float | None = Field(default=None, description="Features that are explained in a month.")
    openai: CloudPrice | None = Field(default=None, description="The price compared with.")
    anthropic: CloudPrice | None = Field(default=None, description="The price compared with.")


class SecondPass(Record):
    """What became of the second pass."""

    sent: int = Field(ge=0, description="Features that were sent out again.")
    refused: int = Field(ge=0, description="Candidates that a cap, or what is not configured, kept back.")
    settled: int = Field(ge=0, description="Of those sent, the ones with an outcome of the second pass.")


class Averages(Record):
    """Means over the explained features; absent where no feature has the component."""

    quality: float | None = Field(default=None, description="Mean quality score, 0 to 1.")
    accuracy: float | None = Field(default=None, description="Mean accuracy, 0 to 1.")
    confidence: float | None = Field(default=None, description="Mean confidence, 0 to 1.")
    latency_s: float | None = Field(default=None, description="Mean latency of a model call, seconds; cached answers left out.")


class SummaryInsights(Record):
    """The specification's five counts."""

    high_quality_explanations: int = Field(default=0, description="Explained features with a quality score of at least 0.8.")
    safety_concerns_identified: int = Field(default=0, description="Explained features assessed as concerning.")
    business_critical_features: int = Field(default=0, description="Explained features of high business relevance.")
    technical_pattern_count: int = Field(default=0, description="Explained features of the technical category.")
    behavioral_pattern_count: int = Field(default=0, description="Explained features of the behavioral category.")


class Artefact(Record):
    """A file that was written for the job."""

    uri: str = Field(description="Where it is.")
    sha256: str = Field(description="Hash of its bytes, hex.")
    size: int = Field(ge=0, description="Bytes.")


class JobStatus(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"


class JobReport(Event):
    """The state of a job in numbers (topic explain.reports, key job)."""

    explain_job_id: Id = Field(description="The job.")
    tenant: Tenant = Field(default="default", description="The organisation that the job belongs to.")
    find_job_id: Id | None = Field(default=None, description="The find job; absent while nothing that names it was read.")
    target_model: str | None = Field(default=None, description="The target model.")
    revision: int = Field(default=0, ge=0, description="Greatest revision seen.")
    status: JobStatus = Field(description="running, completed, incomplete or cancelled.")
    expected: int | None = Field(default=None, description="How many features the job has; absent while unknown.")
    expected_source: Literal["sealed", "inferred"] | None = Field(
        default=None, description="Whether `expected` was said by the sealer or inferred from a quiet topic."
    )
    admitted: int = Field(description="Features that entered.")
    explained: int = Field(description="Features explained.")
    skipped: int = Field(description="Features skipped.")
    failed: int = Field(description="Features failed.")
    flagged: int = Field(description="Explained features that ask for a review.")
    confirmed: int = Field(default=0, description="Explained features whose verification is confirmed.")
    partial: int = Field(default=0, description="Explained features whose verification is partial.")
    contradicted: int = Field(default=0, description="Explained features whose verification is contradicted.")
    reviewed: int = Field(default=0, description="Explained features that a person has reviewed.")
    agreed: int = Field(
        default=0, description="Of these, those whose review says what the verification does: right and confirmed, partly and partial, wrong and contradicted."
    )
    judged: int = Field(default=0, description="Explained features that a judge has tested.")
    judge_calls: int = Field(default=0, description="Calls that judges answered for them.")
    judge_tokens_in: int = Field(default=0, description="Prompt tokens of these calls; not part of tokens_in.")
    judge_tokens_out: int = Field(default=0, description="Answer tokens of these calls; not part of tokens_out.")
    judge_cost_usd: float = Field(default=0.0, description="What these calls cost, US dollars, as far as prices are known; not part of cost_usd.")
    missing: list[str] = Field(default=[], description="Feature keys without an outcome, at most 100, when the job is incomplete.")
    averages: Averages = Field(description="Means over the explained features.")
    tokens_in: int = Field(default=0, description="Prompt tokens of all counted answers.")
    tokens_out: int = Field(default=0, description="Answer tokens of all counted answers.")
    cost_usd: float = Field(default=0.0, description="What the calls cost, US dollars.")
    second_pass: SecondPass | None = Field(default=None, description="The second pass over the worst outcomes; absent when none was made.")
    sent_to_cloud: list[SentToCloud] = Field(default=[], description="Prompts of this job that went to a cloud; empty when none did.")
    cost_analysis: CostAnalysis | None = Field(default=None, description="Its own machine against clouds; absent in reports of earlier versions.")
    beyond_machine: list[str] = Field(
        default=[], description="What the aggregator is configured with on other machines, which features pass through: Kafka, the store, model endpoints."
    )
    wall_s: float | None = Field(default=None, description="First admission to last outcome, seconds.")
    eta_s: float | None = Field(default=None, description="Seconds until the last outcome at the current rate.")
    estimated_seconds: float | None = Field(default=None, description="What was estimated before the start.")
    estimated_cost_usd: float | None = Field(default=None, description="What was estimated before the start.")
    unreadable: list[str] = Field(
        default=[],
        description="Dead letters that name no job, at most 20, when the job is incomplete: topic/partition/offset; a missing feature may be one of them.",
    )
    notes: list[str] = Field(default=[], description="Sentences for people about what these numbers cannot know, such as records that expired unread.")
    artefacts: list[Artefact] = Field(default=[], description="Files written.")
    as_of: dict[str, int] = Field(default={}, description="Next offset of explain.explanations by partition: what this report has seen.")
    insights: SummaryInsights = Field(default=SummaryInsights(), description="The specification's counts.")
    at_ms: int = Field(ge=0, description="When it was made, milliseconds since 1970 UTC.")
