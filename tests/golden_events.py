"""Rich examples of every event, and the script that writes them down: `.venv/bin/python tests/golden_events.py`.

In tests/data/golden, `<name>.avro` is what was on the wire and `<name>.json` what it must be read as for ever (bytes as
hex). A file whose schema was released is never written again; when the schema has changed since, the example gets a
further file, `<name>.<fingerprint>.avro`. A name begins with its event's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistudio_explain.events import codec
from mistudio_explain.events.explanation import (
    Accuracy,
    Answer,
    Candidate,
    Category,
    DeadLetter,
    EarlierDraft,
    EscalationCandidate,
    Evidence,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    FeatureReviewed,
    Generation,
    Header,
    JudgedAgainst,
    JudgedKind,
    Judgement,
    Message,
    OutcomeKind,
    Prompt,
    Safety,
    SafetyEvidence,
    Score,
    Subject,
    Tier,
    TokenChunk,
    Verification,
)
from mistudio_explain.events.feature import Activation, ActivationStatistics, ActiveToken, Classification, FeatureFound, JobRequest, Logit
from mistudio_explain.events.job import (
    Admission,
    Artefact,
    Averages,
    BackgroundFeature,
    CloudPrice,
    ControlPart,
    Coordinates,
    CostAnalysis,
    FirstPassPart,
    JobBackground,
    JobEvent,
    JobReport,
    JobStatus,
    PartitionPaused,
    ReplayPart,
    RequestPart,
    SealedPart,
    SecondPass,
    SecondPassPart,
    SentToCloud,
    SummaryInsights,
)
from mistudio_explain.events.model import Record

TESTS = Path(__file__).parent
GOLDEN = TESTS / "data" / "golden"
HISTORY = TESTS.parent / "schemas" / "history"
COMMAND = ".venv/bin/python tests/golden_events.py"
MOMENT_MS = 1_700_000_000_000

SOURCE = Coordinates(topic="mistudio.find.features", partition=3, offset=1 << 40)
STATISTICS = ActivationStatistics(mean=0.25, std=1.5, max=12.75, frequency=0.0625)
LOGITS = [Logit(token=" JSON", value=2.5), Logit(token="\n", value=-1.25)]
TEXTS = [
    Activation(text="ein Häuschen, 文字, 🙂 and \u2028", activation_strength=12.75, context="wiki:7", peak=" 文字"),
    Activation(text="a b", tokens=["a", " b"], token_activations=[0.0, 11.5]),
    Activation(text="a b c", active_tokens=[ActiveToken(token=" c", strength=3.5)]),
]
REQUEST = JobRequest(
    explain_job_id="explain_7",
    revision=2,
    tenant="acme",
    route="llama3.1:8b",
    prompt_version="plain@1",
    explain_poor=True,
    priority="interactive",
    expected=40,
    candidates=3,
)
PROMPT = Prompt(
    template="plain",
    version="1",
    sha256="ab" * 32,
    messages=[Message(role="system", content="Be brief."), Message(role="user", content="…"), Message(role="assistant", content="{")],
    answer="fields",
)
SUBJECT = Subject(
    explain_job_id="explain_7",
    tenant="acme",
    revision=2,
    job_revision=1,
    find_job_id="find_7",
    target_model="microsoft/phi-4",
    feature_id="5",
    feature_key="layer 12/5",
    source_id="layer 12",
    source_training_job="train_3",
    tier=Tier.POOR,
    coherence_score=0.125,
    quality_level="low",
    category=Category.TECHNICAL,
    category_source="inferred",
    keywords=["json", "schema"],
    statistics=STATISTICS,
    logits=LOGITS,
    source=SOURCE,
    published_ms=1_700_000_000_000,
)
EVIDENCE = Evidence(seen=TEXTS[:2], held_out=TEXTS[2:], trimmed=4, chosen_on=1)
ANSWER = Answer(label="JSON keys", pattern="Detects keys of JSON objects.", significance="It reads structure.", implications="None known.")
GENERATION = Generation(
    model="llama3.1:8b",
    model_digest="sha256:01",
    endpoint="gpu0",
    reach="network",
    provider="ollama",
    tokens_in=812,
    tokens_out=64,
    cost_usd=0.0,
    latency_s=1.75,
    cached=True,
    finish_reason="stop",
    attempt=1,
    features=5,
)
JUDGEMENT = Judgement(
    model="qwen3:14b",
    endpoint="gpu1",
    is_explainer=True,
    kinds=[
        JudgedKind(
            kind="detection",
            basis="held_out",
            n=17,
            positives=8,
            negatives=9,
            unparsed=1,
            unasked=2,
            tpr=0.875,
            tnr=0.75,
            balanced_accuracy=0.8125,
            against=[JudgedAgainst(source="siblings", n=5, unparsed=1, tnr=0.5, balanced_accuracy=0.6875)],
        )
    ],
    factual_coherence=0.75,
    logical_coherence=1.0,
    unavailable={"fuzzing": "no text tells which of its words the feature fires on"},
    calls=5,
    tokens_in=2_000,
    tokens_out=60,
    cost_usd=0.001953125,
    prompts_version=1,
)
EARLIER = EarlierDraft(answer=Answer(pattern="Detects code."), generation=GENERATION, prompt=PROMPT, flags=["poor_coherence"])
DRAFT = ExplanationDrafted(
    subject=SUBJECT,
    evidence=EVIDENCE,
    answer=ANSWER,
    generation=GENERATION,
    prompt=PROMPT,
    complexity="high",
    pass_number=2,
    earlier=Answer(pattern="Detects code."),
    flags=["poor_coherence"],
    caveats=["Three texts only."],
    judge=JUDGEMENT,
    candidates=[Candidate(answer=ANSWER, generation=GENERATION), Candidate(answer=Answer(pattern="Detects code."), generation=GENERATION, flags=["resampled"])],
    first_pass=EARLIER,
    other=GENERATION,
)
REVIEW = FeatureReviewed(
    explain_job_id="explain_7", feature_key="layer 12/5", verdict="partly", corrected="Keys and values.", who="ada", why="values too", at_ms=MOMENT_MS
)
OUTCOME = FeatureOutcome(
    outcome=OutcomeKind.EXPLAINED,
    reason="second pass",
    subject=SUBJECT,
    pass_number=2,
    evidence=EVIDENCE,
    answer=ANSWER,
    explanation=ANSWER.explanation,
    quality_score=0.75,
    accuracy=Accuracy(
        p=0.875, low=0.5, high=0.9375, n=3, basis="held_out", seen=0.75, held_out=0.875, masked=0.625, coverage=0.5, signals={"bm25": 1.5, "static": -0.25}
    ),
    clarity=Score(value=0.5, parts={"readability": 0.25}),
    consistency=Score(value=0.25),
    relevance=Score(value=1.0),
    business_relevance="high",
    pattern_verification=Verification.PARTIAL,
    confidence=0.5,
    safety=Safety(
        assessment="requires_review",
        categories=["weapons"],
        evidence=[
            SafetyEvidence(category="weapons", where="text", index=1, words=["gun"]),
            SafetyEvidence(category="weapons", where="explanation", words=["gun"]),
        ],
    ),
    unavailable={"minilm": "not installed"},
    caveats=["Three texts only."],
    flags=["poor_coherence", "provisional"],
    review_reason="safety",
    generation=GENERATION,
    prompt_template="plain@1",
    prompt_sha256="ab" * 32,
    complexity="high",
    validator_version=1,
    background_version=1 << 21,
    background_features=63,
    earlier=Answer(pattern="Detects code."),
    draft_flags=["poor_coherence"],
    other=GENERATION,
    judge=JUDGEMENT,
    review=REVIEW,
)
PRICE = CloudPrice(model="gpt-4.1", input=2.0, output=8.0, as_of="2026-06-21", source="its pricing page")
REQUESTED = ExplanationRequested(
    event_id="5f0c",
    subject=SUBJECT,
    request=REQUEST,
    complexity="high",
    evidence=EVIDENCE,
    prompt=PROMPT,
    route=["llama3.1:8b", "mistral:7b"],
    wanted="llama3.1:70b",
    pass_number=2,
    attempt=1,
    flags=["poor_coherence"],
    caveats=["Three texts only."],
    cloud=True,
    first_pass=EARLIER,
)
_RICH: tuple[Record, ...] = (
    FeatureFound(
        target_model="microsoft/phi-4",
        find_job_id="find_7",
        feature_id="5",
        source_id="layer 12",
        source_training_job="train_3",
        coherence_score=0.125,
        quality_level="low",
        pattern_category="technical",
        pattern_keywords=["json", "schema"],
        top_activations=TEXTS,
        activation_statistics=STATISTICS,
        top_logits=LOGITS,
        classification=Classification(
            secondary_categories=["behavioral"],
            semantic_tags=["code"],
            behavioral_indicators=["tool use"],
            quality_tier="low",
            complexity_score=0.5,
            confidence_score=0.25,
        ),
        modality="text",
        computed=["pattern_keywords"],
        request=REQUEST,
    ),
    REQUEST,
    JobEvent(
        explain_job_id="explain_7",
        revision=2,
        tenant="acme",
        at_ms=MOMENT_MS,
        request=RequestPart(
            find_job_id="find_7",
            target_model="microsoft/phi-4",
            source_training_job="train_3",
            input_processing_time="24.3 minutes",
            filters=["category=technical"],
            route="llama3.1:8b",
            prompt_version="plain@1",
            explain_poor=True,
            priority="interactive",
            expected=40,
            candidates=3,
            estimated_seconds=90.5,
            estimated_cost_usd=0.25,
        ),
    ),
    Admission(
        explain_job_id="explain_7", feature_key="layer 12/5", revision=2, tenant="acme", find_job_id="find_7", target_model="microsoft/phi-4", source=SOURCE
    ),
    JobBackground(
        find_job_id="find_7",
        tenant="acme",
        target_model="microsoft/phi-4",
        sample=[BackgroundFeature(feature_key="layer 12/5", keywords=["json"], texts=["a b", "文字"]), BackgroundFeature(feature_key="6")],
        distinct=2,
        frozen=False,
        seen=bytes(range(256))[-16:],
    ),
    REQUESTED,
    DRAFT,
    OUTCOME,
    EscalationCandidate(outcome=OUTCOME, draft=DRAFT, request=REQUESTED, why="low accuracy"),
    REVIEW,
    TokenChunk(event_id="5f0c", index=3, text=" Häuschen", last=True, attempt=1),
    JobReport(
        explain_job_id="explain_7",
        tenant="acme",
        find_job_id="find_7",
        target_model="microsoft/phi-4",
        revision=2,
        status=JobStatus.INCOMPLETE,
        expected=40,
        expected_source="sealed",
        admitted=40,
        explained=30,
        skipped=5,
        failed=4,
        flagged=3,
        confirmed=20,
        partial=6,
        contradicted=4,
        reviewed=5,
        agreed=3,
        judged=30,
        judge_calls=150,
        judge_tokens_in=60_000,
        judge_tokens_out=1_800,
        judge_cost_usd=0.0625,
        missing=["layer 12/9"],
        second_pass=SecondPass(sent=2, refused=3, settled=1),
        sent_to_cloud=[SentToCloud(endpoint="openai", url="https://example.org/v1", model="gpt-4.1-mini", features=2, calls=3, usd=0.0125)],
        beyond_machine=["Kafka at broker:9092"],
        cost_analysis=CostAnalysis(
            local_cost=0.25,
            openai_cost=1.5,
            anthropic_cost=2.0,
            savings_vs_openai=1.25,
            savings_vs_anthropic=1.75,
            roi_break_even_features=64_000,
            payback_months=6.4,
            unavailable={"payback_months": "an example has everything"},
            seconds=90.5,
            watts=350.0,
            watts_source="settings",
            electricity_usd_per_kwh=0.25,
            hardware_usd=2000.0,
            features_per_month=10_000.0,
            openai=PRICE,
            anthropic=PRICE,
        ),
        averages=Averages(quality=0.75, accuracy=0.5, confidence=0.25, latency_s=1.5),
        tokens_in=32_480,
        tokens_out=2_560,
        cost_usd=0.125,
        wall_s=90.5,
        eta_s=2.25,
        estimated_seconds=80.0,
        estimated_cost_usd=0.25,
        unreadable=["mistudio.find.features/3/7"],
        notes=["12 records of mistudio.explain.admissions expired unread"],
        artefacts=[Artefact(uri="reports/explain_7/feature_explanations.json", sha256="cd" * 32, size=4096)],
        as_of={"0": 12, "1": 1 << 33},
        insights=SummaryInsights(
            high_quality_explanations=10,
            safety_concerns_identified=1,
            business_critical_features=2,
            technical_pattern_count=20,
            behavioral_pattern_count=3,
        ),
        at_ms=MOMENT_MS,
    ),
    DeadLetter(
        source=SOURCE,
        service="context",
        raw=b"\x00not avro\xff",
        raw_key=b"phi-4",
        headers={"mse-job": b"explain_7", "other": b"\xff"},
        truncated=True,
        error="MalformedEvent",
        message="FeatureFound: the value is not Avro",
        attempts=1,
        explain_job_id="explain_7",
        feature_key="layer 12/5",
        at_ms=MOMENT_MS,
        further_headers=[Header(name="other", value=b"\x00")],
    ),
    PartitionPaused(
        service="context", topic="mistudio.find.features", partition=3, letters=101, window_s=60.0, error="MalformedEvent: not Avro", at_ms=MOMENT_MS
    ),
)


EXAMPLES: Mapping[str, Record] = {
    **{type(event).__name__: event for event in _RICH},
    "FeatureFound.bare": FeatureFound(target_model="gpt2", find_job_id="7", feature_id="-1"),
    "FeatureOutcome.skipped": FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="coherence 0.13 is below 0.40", subject=SUBJECT),
    "JobEvent.sealed": JobEvent(explain_job_id="explain_7", at_ms=MOMENT_MS, sealed=SealedPart(expected=40, notes=["3 features were taken by retention"])),
    "JobEvent.control": JobEvent(explain_job_id="explain_7", at_ms=MOMENT_MS, control=ControlPart(action="cancel", who="ada", why="wrong model")),
    "JobEvent.first_pass": JobEvent(explain_job_id="explain_7", at_ms=MOMENT_MS, first_pass=FirstPassPart(outcomes=40)),
    "JobEvent.second_pass": JobEvent(explain_job_id="explain_7", at_ms=MOMENT_MS, second_pass=SecondPassPart(sent=3, refused=2)),
    "JobEvent.replay": JobEvent(explain_job_id="explain_8", at_ms=MOMENT_MS, replay=ReplayPart(from_job="find_7", of="explain_7", where="quality<0.6")),
    "JobEvent.replay_of_some": JobEvent(
        explain_job_id="explain_8",
        at_ms=MOMENT_MS,
        replay=ReplayPart(from_job="find_7", features=["5", "layer 12/5"], since_ms=MOMENT_MS, until_ms=MOMENT_MS + 1, failed_only=True, from_file=True),
    ),
}


def as_json(event: Record) -> Any:
    """An event as JSON would hold it, bytes as hex."""
    return json.loads(json.dumps(event.model_dump(), default=bytes.hex))


def released_fingerprints() -> frozenset[bytes]:
    """Fingerprints of all schemas in schemas/history."""
    return frozenset(codec.fingerprint_bytes(json.loads(schema.read_bytes())) for schema in HISTORY.glob("*/*.avsc"))


def write() -> None:
    """Write every example that has no file of its schema yet, or one of a schema that was never released; remove those of schemas that never will be."""
    released = released_fingerprints()
    current = {schema.fingerprint for schema in codec.current_schemas().values()}
    for path in sorted(GOLDEN.glob("*.avro")):
        if _fingerprint(path) not in released | current:
            path.unlink()
            path.with_suffix(".json").unlink()
    for name, event in EXAMPLES.items():
        value = codec.encode(event)
        path = GOLDEN / f"{name}.avro"
        if _fingerprint(path) in released and _fingerprint(path) != value[2:10]:
            path = GOLDEN / f"{name}.{value[2:10].hex()}.avro"
        if _fingerprint(path) not in released:
            path.write_bytes(value)
            path.with_suffix(".json").write_text(json.dumps(as_json(event), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fingerprint(path: Path) -> bytes | None:
    return path.read_bytes()[2:10] if path.is_file() else None


if __name__ == "__main__":
    write()
