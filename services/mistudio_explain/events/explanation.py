"""Events on a feature's way from evidence to outcome."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field

from mistudio_explain.events.feature import Activation, ActivationStatistics, FeatureFound, JobRequest, Logit
from mistudio_explain.events.job import Coordinates
from mistudio_explain.events.model import Event, FeatureKey, Id, Record, Tenant

Complexity = Literal["low", "medium", "high"]
Reach = Literal["machine", "network", "cloud"]
"""How far a prompt travels to its endpoint: not off the worker's machine, within the operator's own network, or to somebody else."""


class Tier(StrEnum):
    """The specification's quality tiers of coherence, and `unknown` where the input has none."""

    EXCELLENT = "excellent"
    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """What kind of pattern a feature detects."""

    TECHNICAL = "technical"
    CONVERSATIONAL = "conversational"
    BEHAVIORAL = "behavioral"
    TEMPORAL = "temporal"
    OTHER = "other"


class Message(Record):
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"] = Field(description="Who speaks; a final assistant turn is a prefill that the answer continues.")
    content: str = Field(description="What is said.")


class Prompt(Record):
    """A rendered prompt and what it was rendered from."""

    template: str = Field(description="The template's name.")
    version: str = Field(description="The template's version.")
    sha256: str = Field(description="Hash of the messages and the answer's form, hex.")
    messages: list[Message] = Field(description="The turns, in order.")
    answer: Literal["fields", "sentence"] = Field(description="`fields`: label, pattern, significance, implications as JSON; `sentence`: the pattern alone.")


class Subject(Record):
    """What an outcome must know of its feature; it travels from context to the report unchanged."""

    explain_job_id: Id = Field(description="The job.")
    tenant: Tenant = Field(default="default", description="The organisation that the job belongs to.")
    revision: int = Field(default=0, ge=0, description="Revision of the request, retry, re-score or second pass.")
    job_revision: int | None = Field(default=None, ge=0, description="Revision of the job that it was sent for, below `revision` in a retry; absent: the same.")
    find_job_id: Id | None = Field(default=None, description="The find job; absent only when a record failed that could not be read.")
    target_model: str | None = Field(default=None, description="The target model; absent only when a record failed that could not be read.")
    feature_id: Id | None = Field(default=None, description="The feature's id in its source; absent only when a record failed that could not be read.")
    feature_key: FeatureKey = Field(description="The feature's name in its job.")
    source_id: str | None = Field(default=None, description="Layer, hook or SAE.")
    source_training_job: str | None = Field(default=None, description="The training job behind the find job.")
    tier: Tier = Field(default=Tier.UNKNOWN, description="Tier of the coherence score.")
    coherence_score: float | None = Field(default=None, description="Find's coherence, 0 to 1.")
    quality_level: str | None = Field(default=None, description="Find's own quality level.")
    category: Category | None = Field(default=None, description="Category, given or inferred; absent only when a record failed that could not be read.")
    category_source: Literal["given", "inferred"] | None = Field(default=None, description="Where the category comes from.")
    keywords: list[str] = Field(default=[], description="Find's keywords.")
    statistics: ActivationStatistics | None = Field(default=None, description="How the activation is distributed.")
    logits: list[Logit] | None = Field(default=None, description="Tokens that the feature promotes or suppresses.")
    source: Coordinates | None = Field(default=None, description="Where the feature's record stands.")
    published_ms: int | None = Field(
        default=None,
        description="When the feature was sent to be explained, milliseconds since 1970 UTC, as Kafka dates its record (of a replay, the copy's); absent in "
        "older events and where an explanation is scored again.",
    )
    computed: list[str] = Field(default=[], description="Fields that the source does not give and that were computed from the texts; see FeatureFound.")

    @property
    def ordered_as(self) -> int:
        """The job's revision: orders to cancel or delete the job go by it, so that a retry on its way does not escape them."""
        return self.revision if self.job_revision is None else self.job_revision

    def retried_as(self, revision: int) -> Self:
        """The same subject in another try, whose outcome has another revision."""
        return self.model_copy(update={"revision": revision, "job_revision": self.ordered_as})

    @classmethod
    def of(cls, feature: FeatureFound, source: Coordinates | None, job_revision: int | None = None, published_ms: int | None = None) -> Self:
        """What a feature says of itself; tier and category are for context to judge."""
        request = feature.effective_request
        return cls(
            explain_job_id=request.explain_job_id,
            tenant=request.tenant,
            revision=request.revision,
            job_revision=job_revision,
            find_job_id=feature.find_job_id,
            target_model=feature.target_model,
            feature_id=feature.feature_id,
            feature_key=feature.feature_key,
            source_id=feature.source_id,
            source_training_job=feature.source_training_job,
            coherence_score=feature.coherence_score,
            quality_level=feature.quality_level,
            keywords=feature.pattern_keywords,
            statistics=feature.activation_statistics,
            logits=feature.top_logits,
            source=source,
            published_ms=published_ms,
            computed=feature.computed,
        )


class Evidence(Record):
    """The feature's texts, split into those that the explainer sees and those kept from it."""

    seen: list[Activation] = Field(description="Texts that the prompt shows, strongest first.")
    held_out: list[Activation] = Field(default=[], description="Texts that no prompt shows, to test the explanation on.")
    trimmed: int = Field(default=0, ge=0, description="Texts left out: near-duplicates or over the budget.")
    chosen_on: int = Field(
        default=0, ge=0, description="How many of the first held-out texts an answer was chosen on among several; they count as seen in the accuracy."
    )


class Generation(Record):
    """How an answer came about."""

    model: str = Field(description="Explainer model that answered.")
    model_digest: str | None = Field(default=None, description="The model's digest, where the server tells.")
    endpoint: str = Field(description="Name of the endpoint.")
    provider: str = Field(description="ollama, openai or anthropic.")
    tokens_in: int | None = Field(default=None, ge=0, le=10**12, description="Prompt tokens, as the server counted them.")
    tokens_out: int | None = Field(default=None, ge=0, le=10**12, description="Answer tokens, as the server counted them.")
    cost_usd: float | None = Field(default=None, ge=0, le=1e6, description="What the provider charges for the call; absent when the price is unknown.")
    reach: Reach | None = Field(
        default=None, description="Where the endpoint is: on the worker's own machine, in the operator's network, or in a cloud; absent in older answers."
    )
    latency_s: float = Field(ge=0, le=1e6, description="Seconds from sending to the end of the answer; of the first call when cached.")
    cached: bool = Field(default=False, description="Whether the answer came from the cache.")
    finish_reason: str = Field(description="Why the model stopped: stop or length.")
    attempt: int = Field(default=0, ge=0, description="Which try gave the answer, from 0.")
    features: int = Field(
        default=1, ge=1, description="How many features the call explained; tokens and cost are this feature's share of it, the latency is the whole call's."
    )


class Answer(Record):
    """What the explainer said."""

    label: str | None = Field(default=None, description="3 to 8 words; absent when the prompt asked for one sentence.")
    pattern: str = Field(description="One sentence: what the feature detects. Only this is scored for truth.")
    significance: str | None = Field(default=None, description="Why it matters.")
    implications: str | None = Field(default=None, description="What follows for safety or capability.")

    @property
    def explanation(self) -> str:
        """The sentences joined, as reports print them."""
        return " ".join(part for part in (self.pattern, self.significance, self.implications) if part)


class Candidate(Record):
    """One of several answers to the same prompt."""

    answer: Answer = Field(description="The answer.")
    generation: Generation = Field(description="How it came about.")
    flags: list[str] = Field(default=[], description="What asking and reading add for it.")


class EarlierDraft(Record):
    """What the first pass had of a feature that is sent again: all that its own validation needs beside the evidence, which is the same."""

    answer: Answer = Field(description="The explainer's answer.")
    generation: Generation = Field(description="How it came about.")
    prompt: Prompt = Field(description="The prompt.")
    flags: list[str] = Field(default=[], description="The flags of the draft.")


class ExplanationRequested(Event):
    """A feature that is to be explained, with its prompt (topic explain.prompts.<lane>, key event id)."""

    event_id: str = Field(description="Id of this request; derived from job, feature, revision and pass.")
    subject: Subject = Field(description="The feature.")
    request: JobRequest = Field(description="The job's request block.")
    complexity: Complexity = Field(description="How hard the feature looks: low, medium or high.")
    evidence: Evidence = Field(description="The texts.")
    prompt: Prompt = Field(description="The prompt.")
    route: list[str] = Field(description="Explainer models in order of preference; empty: any that an endpoint has.")
    wanted: str | None = Field(default=None, description="Model that the routing policy would ask first, when no endpoint has it or can hold it.")
    pass_number: int = Field(default=1, ge=1, le=2, description="1, or 2 for a second pass.")
    attempt: int = Field(default=0, ge=0, description="How often this request was tried before.")
    cloud: bool = Field(default=False, description="Whether an endpoint in a cloud may answer: its cost is reserved in the ledger.")
    first_pass: EarlierDraft | None = Field(default=None, description="What the first pass had, in a second pass; absent when it failed.")
    flags: list[str] = Field(default=[], description="What happened so far that a reader should know.")
    caveats: list[str] = Field(default=[], description="Sentences for people about the limits of the evidence.")


class JudgedAgainst(Record):
    """How a judge told the feature's own examples from one kind of wrong ones."""

    source: Literal["random", "siblings", "moved"] = Field(
        description="random: texts of other features of the find job; siblings: texts of the nearest ones; moved: own texts with other words marked."
    )
    n: int = Field(ge=0, description="Wrong examples that were answered.")
    unparsed: int = Field(default=0, ge=0, description="Wrong examples whose answer could not be read or was never given.")
    tnr: float | None = Field(default=None, ge=0, le=1, description="Share of them that the judge turned down; absent when none was answered.")
    balanced_accuracy: float | None = Field(default=None, ge=0, le=1, description="Mean of the kind's tpr and this tnr; absent when one of them is.")


class JudgedKind(Record):
    """What a judge's answers of one kind come to; examples without a readable answer count neither as right nor as wrong."""

    kind: Literal["detection", "fuzzing"] = Field(description="detection: which texts fit the explanation; fuzzing: which marked words do.")
    basis: Literal["held_out", "seen"] = Field(description="Which of the feature's texts were shown.")
    n: int = Field(ge=0, description="Examples that were answered.")
    positives: int = Field(ge=0, description="Of these, the feature's own.")
    negatives: int = Field(ge=0, description="Of these, the wrong ones.")
    unparsed: int = Field(default=0, ge=0, description="Examples whose answer could not be read, or whose call failed.")
    unasked: int = Field(default=0, ge=0, description="Examples left out because the feature's calls were used up.")
    tpr: float | None = Field(default=None, ge=0, le=1, description="Share of the answered own examples that the judge accepted.")
    tnr: float | None = Field(default=None, ge=0, le=1, description="Share of the answered wrong examples that it turned down.")
    balanced_accuracy: float | None = Field(default=None, ge=0, le=1, description="Mean of tpr and tnr; absent when one of them is.")
    against: list[JudgedAgainst] = Field(default=[], description="The same against each kind of wrong examples.")


class Judgement(Record):
    """What a second model, the judge, made of an explanation; no part of any other score."""

    model: str | None = Field(default=None, description="The judge's model; absent when no call gave an answer.")
    endpoint: str | None = Field(default=None, description="Name of its endpoint.")
    is_explainer: bool = Field(default=False, description="Whether the judge is the model that wrote the explanation: it may favour its own words.")
    kinds: list[JudgedKind] = Field(default=[], description="Detection and fuzzing, as far as they were asked for and possible.")
    factual_coherence: float | None = Field(default=None, ge=0, le=1, description="The judge's grade: what the explanation states is true of the texts.")
    logical_coherence: float | None = Field(default=None, ge=0, le=1, description="The judge's grade: the explanation is consistent in itself.")
    unavailable: dict[str, str] = Field(default={}, description="What could not be judged (detection, fuzzing, coherence), and why.")
    calls: int = Field(default=0, ge=0, description="Calls that gave an answer, readable or not.")
    tokens_in: int = Field(default=0, ge=0, description="Prompt tokens of these calls, as far as servers counted them.")
    tokens_out: int = Field(default=0, ge=0, description="Answer tokens of these calls, as far as servers counted them.")
    cost_usd: float | None = Field(default=None, ge=0, description="What the calls cost; absent when the price is unknown.")
    prompts_version: int = Field(ge=0, description="Version of the judge's prompts.")


class ExplanationDrafted(Event):
    """An explanation that nobody has checked yet (topic explain.drafts, key job|feature)."""

    subject: Subject = Field(description="The feature.")
    evidence: Evidence = Field(description="The texts, as in the request.")
    answer: Answer = Field(description="The explainer's answer.")
    generation: Generation = Field(description="How it came about.")
    prompt: Prompt = Field(description="The prompt.")
    complexity: Complexity = Field(description="As in the request.")
    pass_number: int = Field(default=1, ge=1, le=2, description="As in the request.")
    earlier: Answer | None = Field(default=None, description="The first pass's answer, when this is the second.")
    candidates: list[Candidate] = Field(
        default=[], description="When several answers were asked for: all that were usable, the draft's own first. Validation takes the best."
    )
    first_pass: EarlierDraft | None = Field(default=None, description="The first pass's draft, to be scored beside this one; in a second pass only.")
    other: Generation | None = Field(default=None, description="As in the outcome, when it is re-scored.")
    flags: list[str] = Field(default=[], description="As in the request, and what generation adds.")
    caveats: list[str] = Field(default=[], description="As in the request.")
    judge: Judgement | None = Field(default=None, description="What a judge made of this explanation before, when it is re-scored: no model is asked then.")


class OutcomeKind(StrEnum):
    """How a feature leaves its job."""

    EXPLAINED = "explained"
    SKIPPED = "skipped"
    FAILED = "failed"


class Verification(StrEnum):
    """Whether the texts bear the explanation out."""

    CONFIRMED = "confirmed"
    PARTIAL = "partial"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


class Accuracy(Record):
    """The probability that this explanation belongs to this feature rather than to another of its find job."""

    p: float = Field(ge=0, le=1, description="The probability, from all texts.")
    low: float | None = Field(default=None, ge=0, le=1, description="Lower end of the 95% interval over the texts; absent with fewer than 2 texts.")
    high: float | None = Field(default=None, ge=0, le=1, description="Upper end of the 95% interval.")
    n: int = Field(ge=0, description="Texts that it rests on.")
    basis: Literal["all", "held_out", "seen"] = Field(
        description="Which texts `p` rests on: `all`; `seen` when none were held out; `held_out` in outcomes of validator version 1."
    )
    seen: float | None = Field(default=None, ge=0, le=1, description="The same from the seen texts.")
    held_out: float | None = Field(default=None, ge=0, le=1, description="The same from the held-out texts.")
    masked: float | None = Field(default=None, ge=0, le=1, description="The same without the feature's own keywords, so that parroting them earns nothing.")
    coverage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Expected share of the texts that the pattern fits, each taken by itself, by words and static meaning alone; absent in older outcomes.",
    )
    keywords_listed: int = Field(default=0, ge=0, description="How many of the feature's first 10 keywords the pattern names.")
    kind: Literal["input", "output", "both", "unclear"] | None = Field(
        default=None, description="Whether the pattern fits the texts, the tokens that the feature promotes, both, or neither clearly; absent without logits."
    )
    signals: dict[str, float] = Field(
        default={}, description="The standardised signals, by name; those of parts as `seen.`, `held_out.` and `masked.` and the name."
    )


class Score(Record):
    """A score and what it is made of."""

    value: float = Field(ge=0, le=1, description="The score, 0 to 1.")
    parts: dict[str, float] = Field(default={}, description="Named sub-scores, 0 to 1; a part that could not be computed is absent.")


class SafetyEvidence(Record):
    """One place that speaks for a safety concern."""

    category: str = Field(description="Hazard class.")
    where: Literal["text", "explanation"] = Field(description="Whether the word stands in a text or in the explanation.")
    index: int | None = Field(default=None, description="Which text (seen first, then held out), from 0.")
    words: list[str] = Field(description="The words found.")
    by: Literal["lexicon", "examples"] = Field(
        default="lexicon", description="lexicon: hazard words; examples: the words that pull the place most towards known hazards."
    )


class Safety(Record):
    """Whether the feature is a safety concern."""

    assessment: Literal["safe", "concerning", "requires_review"] = Field(description="concerning: texts and explanation agree; requires_review: one side.")
    categories: list[str] = Field(default=[], description="Hazard classes.")
    evidence: list[SafetyEvidence] = Field(default=[], description="What was found, at most 20 places.")
    concern: float | None = Field(default=None, ge=0, le=1, description="Orders features by how much speaks for a hazard; no probability of harm.")


class FeatureReviewed(Event):
    """A person's verdict on an explanation (topic explain.reviews, key job|feature)."""

    explain_job_id: Id = Field(description="The job.")
    feature_key: FeatureKey = Field(description="The feature.")
    verdict: Literal["right", "partly", "wrong", "unclear"] = Field(description="right, partly, wrong or unclear.")
    corrected: str | None = Field(default=None, description="What the explanation should have said.")
    who: str = Field(description="Who says so.")
    why: str | None = Field(default=None, description="Why.")
    at_ms: int = Field(ge=0, description="When, milliseconds since 1970 UTC.")


class FeatureOutcome(Event):
    """How a feature left its job (topic explain.explanations, key job|feature, compacted)."""

    outcome: OutcomeKind = Field(description="explained, skipped or failed.")
    reason: str | None = Field(default=None, description="Why it was skipped or failed, for people.")
    subject: Subject = Field(description="The feature.")
    pass_number: int = Field(default=1, ge=1, le=2, description="2 once a second pass was made, whichever explanation was the better one.")
    evidence: Evidence | None = Field(default=None, description="The texts.")
    answer: Answer | None = Field(default=None, description="The explanation's parts.")
    explanation: str | None = Field(default=None, description="The explanation as one text.")
    quality_score: float | None = Field(
        default=None, ge=0, le=1, description="0.4 accuracy + 0.3 clarity + 0.2 consistency + 0.1 relevance; absent when one of them is."
    )
    accuracy: Accuracy | None = Field(default=None, description="Whether the explanation belongs to the feature.")
    clarity: Score | None = Field(default=None, description="Readability, actionability, technical level; rules, not validated on people.")
    consistency: Score | None = Field(default=None, description="How much of the explanation the texts bear out.")
    relevance: Score | None = Field(default=None, description="Business relevance as a number.")
    business_relevance: Literal["high", "medium", "low"] | None = Field(default=None, description="high from 0.66, medium from 0.33.")
    pattern_verification: Verification | None = Field(default=None, description="The verdict.")
    confidence: float | None = Field(default=None, ge=0, le=1, description="Probability that the verdict is right.")
    safety: Safety | None = Field(default=None, description="The safety assessment.")
    unavailable: dict[str, str] = Field(default={}, description="Component that could not be computed, and why.")
    caveats: list[str] = Field(default=[], description="Sentences for people about the limits of this explanation.")
    flags: list[str] = Field(default=[], description="Short marks for filters.")
    draft_flags: list[str] | None = Field(
        default=None, description="Those of the flags that the draft came with; a re-score starts from them. Absent in outcomes of validator version 1."
    )
    review_reason: str | None = Field(default=None, description="Why a person should look; absent when nobody needs to.")
    generation: Generation | None = Field(default=None, description="How the answer came about.")
    prompt_template: str | None = Field(default=None, description="Template name@version.")
    prompt_sha256: str | None = Field(default=None, description="Hash of the prompt.")
    complexity: str | None = Field(default=None, description="low, medium or high.")
    validator_version: int = Field(default=0, ge=0, description="Version of the validator's rules and coefficients; 0 when it did not run.")
    background_version: int = Field(default=0, ge=0, description="Version of the background scored against; 0 when there was none.")
    background_features: int | None = Field(default=None, description="Features in the background, this one left out.")
    earlier: Answer | None = Field(default=None, description="The first pass's answer, when the second won.")
    other: Generation | None = Field(
        default=None, description="How the answer of the pass that did not win came about; its tokens and its cost count in the job's too."
    )
    judge: Judgement | None = Field(default=None, description="What a judge made of the explanation; absent when none ran.")
    review: FeatureReviewed | None = Field(default=None, description="The newest review by a person; attached in reports, absent on explain.explanations.")


class EscalationCandidate(Event):
    """An outcome that deserves a second pass (topic explain.escalations, key job|feature)."""

    outcome: FeatureOutcome = Field(description="The outcome of the first pass.")
    draft: ExplanationDrafted | None = Field(default=None, description="The draft it came from; absent for failures.")
    request: ExplanationRequested | None = Field(default=None, description="The request that failed; absent for explained outcomes.")
    why: str = Field(description="Why it is a candidate.")


class TokenChunk(Event):
    """A piece of an answer as it is generated (topic explain.tokens, key event id; interactive requests only)."""

    event_id: str = Field(description="The request's event id.")
    index: int = Field(ge=0, description="Number of the chunk, from 0.")
    text: str = Field(description="The piece.")
    last: bool = Field(default=False, description="Whether it is the last one.")
    attempt: int = Field(default=0, ge=0, description="Which try it is a piece of; a greater one begins the answer anew.")


class Header(Record):
    """One header of a record."""

    name: str = Field(description="Its name.")
    value: bytes = Field(description="Its value as it was.")


class DeadLetter(Event):
    """A record that could not be handled (topic explain.dlq, key source topic/partition/offset)."""

    source: Coordinates = Field(description="Where the record stands.")
    service: str = Field(description="The service that gave up.")
    raw: bytes | None = Field(default=None, description="The record's value as it was; absent when it had none.")
    raw_key: bytes | None = Field(default=None, description="The record's key as it was.")
    headers: dict[str, bytes] = Field(
        default={}, description="The record's headers as they were; of those with one name the first, which is the one that counts."
    )
    truncated: bool = Field(default=False, description="Whether `raw` was cut to fit.")
    error: str = Field(description="Class of the error.")
    message: str = Field(description="What it said.")
    attempts: int = Field(ge=0, description="How often it was tried.")
    explain_job_id: str | None = Field(default=None, description="The job, when it could be read.")
    feature_key: str | None = Field(default=None, description="The feature, when it could be read.")
    at_ms: int = Field(ge=0, description="When it was given up, milliseconds since 1970 UTC.")
    further_headers: list[Header] = Field(default=[], description="The record's headers whose name `headers` holds already, in their order.")

    @property
    def all_headers(self) -> list[tuple[str, bytes]]:
        """Names and values of all headers; those of one name in their order."""
        return [*self.headers.items(), *((header.name, header.value) for header in self.further_headers)]
