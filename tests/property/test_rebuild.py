"""A store that is built anew from what compaction left says the same as the one that read everything as it came."""

from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import outcome

from mistudio_explain.aggregation.stage import JobState
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed, OutcomeKind
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Admission, ControlPart, JobEvent, RequestPart, SealedPart
from mistudio_explain.events.topics import ADMISSIONS, EXPLANATIONS, JOBS, REVIEWS
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, JobStore, open_store

JOB = "explain_1"
Event = FeatureOutcome | Admission | JobEvent | FeatureReviewed | None


@dataclass(frozen=True)
class Stored:
    """A record of the log."""

    topic: str
    key: str
    event: Event
    at_ms: int

    @property
    def change(self) -> Change:
        return Change(self.event, None if self.event is None else encode(self.event), self.key, self.at_ms, self.topic)


@dataclass
class Log:
    records: list[Stored] = field(default_factory=list)

    def compacted(self) -> list[Stored]:
        """The last record of each key, without tombstones; admissions are not compacted."""
        last = {(record.topic, record.key): number for number, record in enumerate(self.records)}
        return [
            record
            for number, record in enumerate(self.records)
            if record.topic == ADMISSIONS or (number == last[record.topic, record.key] and record.event is not None)
        ]


def _outcome(feature: int, kind: OutcomeKind, revision: int, p: float, at_ms: int) -> Stored:
    return Stored(EXPLANATIONS, outcome_key(JOB, str(feature)), outcome(feature, kind, revision, p), at_ms)


def _admission(feature: int, revision: int, at_ms: int) -> Stored:
    event = Admission(explain_job_id=JOB, feature_key=str(feature), revision=revision, find_job_id="find_1", target_model="m")
    return Stored(ADMISSIONS, outcome_key(JOB, str(feature)), event, at_ms)


def _review(feature: int, verdict: str, at_ms: int) -> Stored:
    event = FeatureReviewed.model_validate({"explain_job_id": JOB, "feature_key": str(feature), "verdict": verdict, "who": "ada", "at_ms": 60 - at_ms})
    return Stored(REVIEWS, outcome_key(JOB, str(feature)), event, at_ms)


def _part(part: RequestPart | SealedPart | ControlPart, revision: int, at_ms: int) -> Stored:
    name = {RequestPart: "request", SealedPart: "sealed", ControlPart: "control"}[type(part)]
    event = JobEvent.model_validate({"explain_job_id": JOB, "revision": revision, "at_ms": 0, name: part})
    return Stored(JOBS, event.key, event, at_ms)


_TIMES, _FEATURES, _REVISIONS = st.integers(1, 50), st.integers(0, 3), st.integers(0, 2)
_PARTS = st.one_of(
    st.builds(RequestPart, find_job_id=st.just("find_1"), target_model=st.just("m"), estimated_seconds=st.sampled_from([None, 1.0, 2.0])),
    st.builds(SealedPart, expected=st.integers(0, 4)),
    st.builds(ControlPart, action=st.sampled_from(["cancel", "reopen"])),
)
_RECORDS = st.one_of(
    st.builds(_outcome, _FEATURES, st.sampled_from(list(OutcomeKind)), _REVISIONS, st.sampled_from([0.0, 0.4, 0.9]), _TIMES),
    st.builds(_outcome, _FEATURES, st.sampled_from(list(OutcomeKind)), _REVISIONS, st.sampled_from([0.0, 0.4, 0.9]), _TIMES),
    st.builds(_admission, _FEATURES, _REVISIONS, _TIMES),
    st.builds(_part, _PARTS, _REVISIONS, _TIMES),
    st.builds(_review, _FEATURES, st.sampled_from(["right", "partly", "wrong", "unclear"]), _TIMES),
    st.builds(lambda feature, at_ms: Stored(REVIEWS, outcome_key(JOB, str(feature)), None, at_ms), _FEATURES, _TIMES),
    st.builds(lambda feature, at_ms: Stored(EXPLANATIONS, outcome_key(JOB, str(feature)), None, at_ms), _FEATURES, _TIMES),
)


def _read(store: JobStore, records: list[Stored], sizes: list[int]) -> None:
    start = 0
    for size in [*sizes, len(records)]:
        store.apply([record.change for record in records[start : start + size]], {})
        start += size


def _emptied(store: JobStore, log: Log) -> None:
    """Write the winners again, as the aggregator does, and read them back."""
    events: dict[tuple[str, str, bytes | None], Event] = {(record.topic, record.key, record.change.body): record.event for record in log.records}
    while rewrites := store.outbox():
        again = [Stored(each.topic, each.key, events.get((each.topic, each.key, each.body)), each.at_ms or 0) for each in rewrites]
        log.records += again
        store.sent(rewrites)
        store.apply([record.change for record in again], {})


def _told(store: JobStore) -> tuple[JobState | None, list[bytes]]:
    state = store.state(JOB)
    if state is not None and state.admitted == state.outcomes == 0 and state.heard_ms is None:
        state = None  # a job of which everything was taken back
    return state, [encode(each) for each in (*store.outcomes(JOB), *store.reviews(JOB))]


@settings(max_examples=150)
@given(st.lists(_RECORDS, min_size=1, max_size=14), st.lists(st.integers(1, 4), max_size=6), st.lists(st.integers(1, 4), max_size=6), st.randoms())
def test_a_store_built_anew_from_compacted_topics_says_the_same(records: list[Stored], sizes: list[int], other_sizes: list[int], rng: object) -> None:
    with TemporaryDirectory() as folder:
        log = Log()
        with open_store(StoreSettings(url=f"sqlite:///{folder}/a.db")) as store:
            log.records += [_part(RequestPart(find_job_id="find_1", target_model="m"), 0, 1), *records]
            _read(store, list(log.records), sizes)
            _emptied(store, log)
            told = _told(store)
        left = log.compacted()
        by_topic = {topic: [record for record in left if record.topic == topic] for topic in (EXPLANATIONS, ADMISSIONS, JOBS, REVIEWS)}
        mixed: list[Stored] = []
        while any(by_topic.values()):  # topics are read side by side, each in its order
            topic = rng.choice([name for name, waiting in by_topic.items() if waiting])  # type: ignore[attr-defined]
            mixed.append(by_topic[topic].pop(0))
        with open_store(StoreSettings(url=f"sqlite:///{folder}/b.db")) as store:
            _read(store, mixed, other_sizes)
            assert store.outbox() == []
            assert _told(store) == told
