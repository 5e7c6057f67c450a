"""What is counted of an outcome: its kind, and how long its feature took."""

from prometheus_client import REGISTRY

from golden_events import EXAMPLES
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.observability.outcomes import count

PUBLISHED_MS = 1_000_000


def outcome(kind: OutcomeKind, **changed: object) -> FeatureOutcome:
    example = EXAMPLES["FeatureOutcome"]
    assert isinstance(example, FeatureOutcome)
    subject = example.subject.model_copy(update={"published_ms": changed.pop("published_ms", PUBLISHED_MS)})
    return example.model_copy(update={"outcome": kind, "subject": subject, "pass_number": 1, **changed})


def timed(kind: OutcomeKind, le: str = "+Inf") -> float:
    return REGISTRY.get_sample_value("mistudio_explain_feature_seconds_bucket", {"outcome": kind.value, "le": le}) or 0.0


def counted(kind: OutcomeKind) -> float:
    samples = (sample for metric in REGISTRY.collect() if metric.name == "mistudio_explain_outcomes" for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total") and sample.labels["outcome"] == kind.value)


def test_a_feature_that_was_explained_after_the_target_time_is_late() -> None:
    before = timed(OutcomeKind.EXPLAINED), timed(OutcomeKind.EXPLAINED, "900.0")
    count(outcome(OutcomeKind.EXPLAINED), PUBLISHED_MS + 899_000)
    count(outcome(OutcomeKind.EXPLAINED), PUBLISHED_MS + 901_000)
    assert (timed(OutcomeKind.EXPLAINED), timed(OutcomeKind.EXPLAINED, "900.0")) == (before[0] + 2, before[1] + 1)


def test_a_clock_that_is_behind_the_brokers_makes_no_negative_time() -> None:
    before = timed(OutcomeKind.FAILED, "1.0")
    count(outcome(OutcomeKind.FAILED), PUBLISHED_MS - 5_000)
    assert timed(OutcomeKind.FAILED, "1.0") == before + 1


def test_second_passes_scores_made_again_and_events_of_older_versions_are_counted_and_not_timed() -> None:
    before = timed(OutcomeKind.EXPLAINED), counted(OutcomeKind.EXPLAINED)
    count(outcome(OutcomeKind.EXPLAINED, pass_number=2), PUBLISHED_MS + 1_000)
    count(outcome(OutcomeKind.EXPLAINED, published_ms=None), PUBLISHED_MS + 1_000)
    assert (timed(OutcomeKind.EXPLAINED), counted(OutcomeKind.EXPLAINED)) == (before[0], before[1] + 2)


def test_a_skipped_feature_is_counted_and_not_timed() -> None:
    before = counted(OutcomeKind.SKIPPED)
    count(outcome(OutcomeKind.SKIPPED, pattern_verification=None), PUBLISHED_MS + 1_000)
    assert counted(OutcomeKind.SKIPPED) == before + 1
    assert REGISTRY.get_sample_value("mistudio_explain_feature_seconds_count", {"outcome": "skipped"}) is None
