"""What one batch of records changes: the rows that it touches, folded in memory before they are written together.

A job's numbers are always those of its rows: of the outcomes that count, the first admission of each feature, and the
newest parts and reviews. So a store that is rebuilt from compacted topics comes to the same numbers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from mistudio_explain.aggregation.stage import COUNTER_NAMES, counters_of
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Admission, Coordinates, JobEvent, JobPart
from mistudio_explain.events.topics import EXPLANATIONS, JOBS, REVIEWS
from mistudio_explain.events.winner import Rank, rank
from mistudio_explain.store.cards import Details, with_review, without_nul
from mistudio_explain.store.tables import place_of

_ENDS = frozenset({"delete", "deleted"})

_BY_FEATURE = {EXPLANATIONS: "outcome", REVIEWS: "review"}
"""Tables of compacted topics that are keyed by job and feature."""

Key = tuple[str, str]
"""A job, and a feature's place or a part's name in it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the rows need of an outcome, a hundredth of its size."""

    job: str
    feature: str
    tenant: str
    find_job: str | None
    model: str | None
    revision: int
    ordered_as: int
    rank: Rank
    amounts: tuple[int, ...]
    details: Details

    @classmethod
    def of(cls, outcome: FeatureOutcome, body: bytes) -> Self:
        """What an outcome and its bytes come to."""
        subject = outcome.subject
        model = without_nul(subject.target_model)
        place, amounts = rank(outcome, sha256(body).hexdigest()), counters_of(outcome)
        revisions = subject.revision, subject.ordered_as
        names = subject.explain_job_id, subject.feature_key, subject.tenant, subject.find_job_id, model
        return cls(*names, *revisions, place, amounts, Details.of(outcome))


@dataclass(frozen=True, slots=True)
class Foreign:
    """In the place of an event: what cannot be read, or tells of something else than its key. Compaction would keep it under that key."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record to apply: its event (none: a tombstone) and bytes, its key, when it was written (ms since 1970 UTC), its topic where no event tells it."""

    event: FeatureOutcome | Counted | Admission | JobEvent | FeatureReviewed | Foreign | None
    body: bytes | None
    key: str
    timestamp_ms: int
    topic: str = EXPLANATIONS


@dataclass(slots=True)
class OutcomeRow:
    """The outcome of a feature that counts; `id` names its bytes and its card, which are absent here while they are unchanged."""

    rank: Rank
    at_ms: int
    amounts: tuple[int, ...]
    id: int
    cell: str
    body: bytes | None = None
    details: Details | None = None


@dataclass(slots=True)
class AdmissionRow:
    """A feature's first admission."""

    source: Coordinates | None
    revision: int
    at_ms: int


@dataclass(slots=True)
class PartRow:
    """The newest record of a job's part."""

    revision: int
    at_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """The newest review of a feature: the one that was written last, whatever its writer's clock said."""

    verdict: str
    at_ms: int
    body: bytes


@dataclass(slots=True)
class JobRow:
    """A job's numbers. `buried` is the revision at which it was deleted, -1 when it was not; nothing of that revision or below is kept."""

    tenant: str
    find_job: str | None = None
    model: str | None = None
    revision: int = 0
    admitted: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    dirty: int = 0
    buried: int = -1
    sums: list[int] = field(default_factory=lambda: [0] * len(COUNTER_NAMES))

    def spans(self, at_ms: int) -> None:
        """Take a moment into the job's time."""
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)


@dataclass(slots=True)
class Rows:
    """The rows of a batch as they stood, and what is to be written of them. None for a row that is not there, or no longer."""

    outcomes: dict[Key, OutcomeRow | None]
    admissions: dict[Key, AdmissionRow | None]
    parts: dict[Key, PartRow | None]
    reviews: dict[Key, ReviewRow | None]
    jobs: dict[str, JobRow]
    next_id: int
    cells: dict[Key, str]
    """The cells of the outcomes as they stood."""
    changed_outcomes: set[Key] = field(default_factory=set)
    changed_admissions: set[Key] = field(default_factory=set)
    changed_parts: set[Key] = field(default_factory=set)
    changed_reviews: set[Key] = field(default_factory=set)
    changed_jobs: set[str] = field(default_factory=set)
    shrunk: set[str] = field(default_factory=set)
    """Jobs that may have lost the row with their first or last moment or greatest revision: these must be looked up."""
    outbox: dict[Key, int] = field(default_factory=dict)
    """Topic and key of records that must be written again, and how often that was noticed."""

    def tallied(self) -> Counter[tuple[str, str]]:
        """What the batch adds to the number of cards of each job and cell."""
        added: Counter[tuple[str, str]] = Counter()
        for key in self.changed_outcomes:
            before, row = self.cells.get(key), self.outcomes[key]
            if before is not None:
                added[key[0], before] -= 1
            if row is not None:
                added[key[0], row.cell] += 1
        return added

    def apply(self, change: Change) -> None:
        """Fold one record in."""
        match change.event:
            case FeatureOutcome():
                body = change.body or b""
                self._outcome(Counted.of(change.event, body), body, change.timestamp_ms)
            case Counted():
                self._outcome(change.event, change.body or b"", change.timestamp_ms)
            case Admission():
                self._admission(change.event, change.timestamp_ms)
            case JobEvent():
                self._part(change.event, change.body or b"", change.timestamp_ms)
            case FeatureReviewed():
                self._review(change.event, change.body or b"", change.timestamp_ms)
            case Foreign():
                self._covered(change.topic, change.key)
            case None if change.topic == EXPLANATIONS:
                self._outcome_gone(change.key)
            case None if change.topic == REVIEWS:
                self._review_gone(change.key)
            case None:
                self._part_gone(change.key)

    def _outcome(self, outcome: Counted, body: bytes, at_ms: int) -> None:
        job = self._job(outcome.job, outcome.tenant)
        key = (outcome.job, place_of(outcome.feature))
        if outcome.ordered_as <= job.buried:
            return self._again(EXPLANATIONS, outcome_key(outcome.job, outcome.feature))
        place, amounts, old = outcome.rank, outcome.amounts, self.outcomes.get(key)
        if old is not None and place == old.rank:
            if at_ms != old.at_ms:  # the copy that lands last is the one that compaction keeps
                self._replaced(key[0], job, old)
                old.at_ms = at_ms
                self.changed_outcomes.add(key)
                self._touched(key[0], job, at_ms)
            return None
        if old is not None and place < old.rank:  # a loser landed last: compaction would keep it, so the winner is written again
            return self._again(EXPLANATIONS, outcome_key(outcome.job, outcome.feature))
        job.sums = [a + b for a, b in zip(job.sums, amounts, strict=True)]
        if old is not None:
            job.sums = [a - b for a, b in zip(job.sums, old.amounts, strict=True)]
            self._replaced(key[0], job, old)
        self.outcomes[key] = OutcomeRow(place, at_ms, amounts, self._id() if old is None else old.id, outcome.details.cell, body, outcome.details)
        self._card_changed(key)
        self._named(job, outcome.find_job, outcome.model, outcome.revision)
        self._touched(key[0], job, at_ms)
        return None

    def _admission(self, admission: Admission, at_ms: int) -> None:
        job = self._job(admission.explain_job_id, admission.tenant)
        key = (admission.explain_job_id, place_of(admission.feature_key))
        if admission.revision <= job.buried or self.admissions.get(key) is not None:
            return
        self.admissions[key] = AdmissionRow(admission.source, admission.revision, at_ms)
        self.changed_admissions.add(key)
        job.admitted += 1
        self._named(job, admission.find_job_id, without_nul(admission.target_model), admission.revision)
        self._touched(key[0], job, at_ms)

    def _part(self, event: JobEvent, body: bytes, at_ms: int) -> None:
        job, key = self._job(event.explain_job_id, event.tenant), (event.explain_job_id, event.part.value)
        stored = self.parts.get(key)
        is_buried = event.part is not JobPart.CONTROL and event.revision <= job.buried
        if is_buried or (stored is not None and _outdated(event, stored)):
            return self._again(JOBS, event.key)
        if stored is not None and (stored.body, stored.at_ms) == (body, at_ms):
            return None  # written again by this aggregator
        self.parts[key] = PartRow(event.revision, at_ms, body)
        self.changed_parts.add(key)
        if event.control is not None and event.control.action in _ENDS:
            job.buried = max(job.buried, event.revision)
        request = event.request
        find_job, model = (request.find_job_id, request.target_model) if request else (None, None)
        self._named(job, find_job, without_nul(model), event.revision)
        self._touched(key[0], job, None)
        return None

    def _review(self, review: FeatureReviewed, body: bytes, at_ms: int) -> None:
        name = review.explain_job_id
        key, job = (name, place_of(review.feature_key)), self.jobs.get(name)
        if job is not None and job.buried >= job.revision:  # nothing of a deleted job is kept
            return self._again(REVIEWS, outcome_key(name, review.feature_key))
        row = ReviewRow(review.verdict, at_ms, body)
        if self.reviews.get(key) == row:
            return None  # written again by this aggregator
        self.reviews[key] = row
        self.changed_reviews.add(key)
        self._card_changed(key)
        if job is not None:
            self._touched(name, job, None)
        return None

    def _review_gone(self, key: str) -> None:
        name, _, feature = key.partition("|")
        row_key = (name, place_of(feature))
        if self.reviews.get(row_key) is None:
            return
        self.reviews[row_key] = None
        self.changed_reviews.add(row_key)
        self._card_changed(row_key)
        if (job := self.jobs.get(name)) is not None:
            self._touched(name, job, None)

    def _outcome_gone(self, key: str) -> None:
        name, _, feature = key.partition("|")
        row_key = (name, place_of(feature))
        old, job = self.outcomes.get(row_key), self.jobs.get(name)
        if old is None or job is None:
            return
        self.outcomes[row_key] = None
        self.changed_outcomes.add(row_key)
        job.sums = [a - b for a, b in zip(job.sums, old.amounts, strict=True)]
        self._replaced(name, job, old)
        self._touched(name, job, None)

    def _part_gone(self, key: str) -> None:
        name, _, part = key.partition("|")
        job = self.jobs.get(name)
        if job is not None and self.parts.get((name, part)) is not None:
            self.parts[name, part] = None
            self.changed_parts.add((name, part))
            self.shrunk.add(name)
            self._touched(name, job, None)

    def _covered(self, topic: str, key: str) -> None:
        job, _, name = key.partition("|")
        places: dict[str, Mapping[Key, object]] = {EXPLANATIONS: self.outcomes, REVIEWS: self.reviews}
        row = places[topic].get((job, place_of(name))) if topic in places else self.parts.get((job, name))
        if row is not None:
            self._again(topic, key)

    def _job(self, name: str, tenant: str) -> JobRow:
        return self.jobs.setdefault(name, JobRow(tenant))

    def _card_changed(self, key: Key) -> None:
        """The outcome's cell says whether there is a review, and its card what that says."""
        row = self.outcomes.get(key)
        if row is not None:
            row.cell = with_review(row.cell, is_reviewed=self.reviews.get(key) is not None)
            self.changed_outcomes.add(key)

    def _named(self, job: JobRow, find_job: str | None, model: str | None, revision: int) -> None:
        job.find_job = job.find_job or find_job
        job.model = job.model or model
        job.revision = max(job.revision, revision)

    def _touched(self, name: str, job: JobRow, at_ms: int | None) -> None:
        if at_ms is not None:
            job.spans(at_ms)
        job.dirty += 1
        self.changed_jobs.add(name)

    def _replaced(self, name: str, job: JobRow, old: OutcomeRow) -> None:
        if old.at_ms in (job.first_ms, job.last_ms) or old.rank[1] == job.revision:
            self.shrunk.add(name)

    def _again(self, topic: str, key: str) -> None:
        self.outbox[topic, key] = self.outbox.get((topic, key), 0) + 1

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id - 1


def keys_of(changes: list[Change]) -> Mapping[str, set[Key]]:
    """The keys of the outcomes, admissions, parts and reviews that changes may touch, by the table's name."""
    keys: dict[str, set[Key]] = {"outcome": set(), "admission": set(), "part": set(), "review": set()}
    for change in changes:
        match change.event:
            case FeatureOutcome(subject=subject):
                keys["outcome"].add((subject.explain_job_id, place_of(subject.feature_key)))
            case Counted(job=job, feature=feature):
                keys["outcome"].add((job, place_of(feature)))
            case Admission():
                keys["admission"].add((change.event.explain_job_id, place_of(change.event.feature_key)))
            case JobEvent():
                keys["part"].add((change.event.explain_job_id, change.event.part.value))
            case FeatureReviewed():
                keys["review"].add((change.event.explain_job_id, place_of(change.event.feature_key)))
            case Foreign() | None:
                job, _, name = change.key.partition("|")
                if change.topic in _BY_FEATURE:
                    keys[_BY_FEATURE[change.topic]].add((job, place_of(name)))
                else:
                    keys["part"].add((job, name))
    keys["outcome"] = keys["review"] = keys["outcome"] | keys["review"]  # a card tells of both
    return keys


def _outdated(event: JobEvent, stored: PartRow) -> bool:
    if event.revision != stored.revision:
        return event.revision < stored.revision
    standing = decode(JobEvent, stored.body)
    if event.sealed is not None and standing.sealed is not None:
        return event.sealed.expected < standing.sealed.expected
    if event.control is not None and standing.control is not None:
        return standing.control.action in _ENDS and event.control.action not in _ENDS  # an order to delete is not taken back at its revision
    return False
