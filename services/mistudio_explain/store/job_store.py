"""The aggregator's rows: outcomes, admissions, job parts, reviews, counters, and the offsets they came from.

Everything that one batch of records changes is one transaction, offsets included, so that a kill at any moment
leaves counters exact: either the batch happened, or it will be read again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mistudio_explain.aggregation.stage import COUNTER_NAMES
from mistudio_explain.events.topics import EXPLANATIONS, REVIEWS
from mistudio_explain.store.cards import values_of
from mistudio_explain.store.database import Database
from mistudio_explain.store.queries import JobQueries
from mistudio_explain.store.rows import AdmissionRow, Change, JobRow, Key, OutcomeRow, PartRow, ReviewRow, Rows, keys_of
from mistudio_explain.store.tables import ADD_TALLY, ADMISSION, BODY, CARD, JOB, NOTE, OUTCOME, PART, POSITION, REVIEW, SOURCE, place_of

_SUMS = ", ".join(COUNTER_NAMES)
_JOB_COLUMNS = f"tenant, find_job, model, revision, admitted, first_ms, last_ms, dirty, buried, {_SUMS}"
_PUT_OUTBOX = "insert into outbox(topic, key, times) values(?, ?, ?) on conflict(topic, key) do update set times = outbox.times + excluded.times"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A key whose record must be written again, as the store has it: its bytes and the timestamp they first had, neither for a tombstone.

    `times` says how often that was noticed so far.
    """

    topic: str
    key: str
    times: int
    body: bytes | None
    at_ms: int | None


class JobStore(JobQueries):
    """The rows behind one connection, for their one writer; opened read-only, its questions alone are of use."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._next_id: int | None = None

    def apply(self, changes: Iterable[Change], ends: Mapping[tuple[str, int], int]) -> None:
        """Apply a batch and note the next offset of each (topic, partition) that it came from, in one transaction."""
        batch = list(changes)
        with self._db.transaction():
            rows = self._load(batch)
            for change in batch:
                rows.apply(change)
            self._write(rows)
            self._db.put(POSITION, [(topic, part, end) for (topic, part), end in ends.items()])
        self._next_id = rows.next_id

    def _load(self, changes: list[Change]) -> Rows:
        keys = keys_of(changes)
        outcomes: dict[Key, OutcomeRow | None] = {}
        columns = "place, strength, revision, pass, validator, background, sha, at_ms, counters, body, cell"
        for (job, place, *ranked), at_ms, counters, body, cell in ((row[:8], *row[8:]) for row in self._rows_of("outcome", columns, keys["outcome"], "place")):
            outcomes[job, place] = OutcomeRow(tuple(ranked), at_ms, tuple(map(int, counters.split(","))), body, cell)
        admissions: dict[Key, AdmissionRow | None] = {
            (job, place): AdmissionRow(None, revision, at_ms)
            for job, place, revision, at_ms in self._rows_of("admission", "place, revision, at_ms", keys["admission"], "place")
        }
        parts: dict[Key, PartRow | None] = {
            (job, part): PartRow(revision, at_ms, body)
            for job, part, revision, at_ms, body in self._rows_of("part", "part, revision, at_ms, body", keys["part"], "part")
        }
        reviews: dict[Key, ReviewRow | None] = {
            (job, place): ReviewRow(verdict, at_ms, body)
            for job, place, verdict, at_ms, body in self._rows_of("review", "place, verdict, at_ms, body", keys["review"], "place")
        }
        names = {job for touched in keys.values() for job, _ in touched}
        query = f"select job, {_JOB_COLUMNS} from job where {self._db.among('job')}"  # noqa: S608
        jobs = {job: JobRow(*(*columns[:9], list(columns[9:]))) for job, *columns in self._db.all(query, (self._db.listed(names),))}
        cells = {key: row.cell for key, row in outcomes.items() if row is not None}
        return Rows(outcomes, admissions, parts, reviews, jobs, self._free_id(), cells)

    def _rows_of(self, table: str, columns: str, keys: Iterable[Key], name: str) -> Iterator[tuple]:  # type: ignore[type-arg]
        by_job: dict[str, list[str]] = defaultdict(list)
        for job, key in keys:
            by_job[job].append(key)
        query = f"select job, {columns} from {table} where job = ? and {self._db.among(name)}"  # noqa: S608
        for job, wanted in by_job.items():
            yield from self._db.all(query, (job, self._db.listed(wanted)))

    def _free_id(self) -> int:
        if self._next_id is None:
            row = self._db.one("select coalesce(max(id), 0) + 1 from body")
            self._next_id = row[0] if row else 1
        return self._next_id

    def _write(self, rows: Rows) -> None:
        kept = [(key, row) for key in rows.changed_outcomes if (row := rows.outcomes[key]) is not None]
        gone = [key for key in rows.changed_outcomes if rows.outcomes[key] is None]
        if gone:
            for table, key in ((table, key) for table in (BODY, CARD) for key in gone):
                self._db.delete(table, "id in (select body from outcome where job = ? and place = ?)", key)
            self._db.run_many("delete from outcome where job = ? and place = ?", gone)
        if kept:
            self._db.put(BODY, [(row.id, row.body) for _, row in kept if row.body is not None])
            sums = ((key, row, ",".join(map(str, row.amounts))) for key, row in kept)
            self._db.put(OUTCOME, [(*key, row.rank[-1], amounts, row.cell, *row.rank[:-1], row.at_ms, row.id) for key, row, amounts in sums])
            self._write_cards(rows, kept)
        self._db.run_many(ADD_TALLY, [(job, cell, rows.jobs[job].tenant, n) for (job, cell), n in rows.tallied().items() if n])
        if rows.changed_admissions:
            self._db.put(ADMISSION, list(_admission_values(rows)))
        if rows.changed_parts:
            parts = [(key, rows.parts[key]) for key in rows.changed_parts]
            self._db.run_many("delete from part where job = ? and part = ?", [key for key, row in parts if row is None])
            self._db.put(PART, [(*key, row.revision, row.at_ms, row.body) for key, row in parts if row is not None])
        if rows.changed_reviews:
            reviews = [(key, rows.reviews[key]) for key in rows.changed_reviews]
            self._db.run_many("delete from review where job = ? and place = ?", [key for key, row in reviews if row is None])
            self._db.put(REVIEW, [(*key, row.verdict, row.at_ms, row.body) for key, row in reviews if row is not None])
        for job in rows.shrunk:
            self._look_up(job, rows.jobs[job])
        if rows.changed_jobs:
            self._db.put(JOB, [_job_values(name, rows.jobs[name]) for name in rows.changed_jobs], kept=["status"])
        if rows.outbox:
            self._db.run_many(_PUT_OUTBOX, [(*key, times) for key, times in rows.outbox.items()])

    def _write_cards(self, rows: Rows, kept: list[tuple[Key, OutcomeRow]]) -> None:
        reviews = {key: review.verdict for key, review in rows.reviews.items() if review is not None}
        new = [
            values_of(
                row.details, tenant=rows.jobs[job].tenant, cell=row.cell, job=job, place=place, number=row.id, at_ms=row.at_ms, review=reviews.get((job, place))
            )
            for (job, place), row in kept
            if row.details is not None
        ]
        self._db.put(CARD, new)
        restated = [(row.cell, row.at_ms, reviews.get(key), row.id) for key, row in kept if row.details is None]
        self._db.run_many("update card set cell = ?, at_ms = ?, review = ? where id = ?", restated)

    def _look_up(self, job: str, row: JobRow) -> None:
        """Find a job's first and last moment and its greatest revision in its rows."""
        found = [
            self._db.one(f"select min(at_ms), max(at_ms), max(revision) from {table} where job = ?", (job,)) or (None, None, None)  # noqa: S608
            for table in ("outcome", "admission")
        ]
        of_parts = self._db.one("select max(revision) from part where job = ?", (job,)) or (None,)
        row.first_ms = min((first for first, _, _ in found if first is not None), default=None)
        row.last_ms = max((last for _, last, _ in found if last is not None), default=None)
        row.revision = max((revision for revision in (*(each[2] for each in found), of_parts[0]) if revision is not None), default=0)

    def unindexed(self) -> int:
        """How many of the newest explanations are not yet found by the index of words, but by looking at each."""
        return self._db.unindexed(CARD)

    def index(self, limit: int) -> None:
        """Take the next of them, at most `limit`, into the index."""
        self._db.index(CARD, limit)

    def due(self) -> list[tuple[str, int, str | None]]:
        """Jobs that changed since their last report or are not at their end: name, a number that grows with every change, last status."""
        rows = self._db.all("select job, dirty, status from job where dirty > 0 or status is null or status = 'running'")
        return [(job, dirty, status) for job, dirty, status in rows]

    def reported(self, job: str, dirty: int, status: str) -> None:
        """Note that a report was confirmed; a job that changed meanwhile stays dirty."""
        self._db.run("update job set status = ?, dirty = case dirty when ? then 0 else dirty end where job = ?", (status, dirty, job))

    def outbox(self, limit: int = 1000) -> list[Rewrite]:
        """Records that must be written again."""
        return [self._rewrite(*row) for row in self._db.all("select topic, key, times from outbox limit ?", (limit,))]

    def _rewrite(self, topic: str, key: str, times: int) -> Rewrite:
        job, _, name = key.partition("|")
        if topic == EXPLANATIONS:
            query = "select b.body, o.at_ms from outcome o join body b on b.id = o.body where o.job = ? and o.place = ?"
            row = self._db.one(query, (job, place_of(name)))
        elif topic == REVIEWS:
            row = self._db.one("select body, at_ms from review where job = ? and place = ?", (job, place_of(name)))
        else:
            row = self._db.one("select body, at_ms from part where job = ? and part = ?", (job, name))
        return Rewrite(topic, key, times, *(row or (None, None)))

    def sent(self, rewrites: Iterable[Rewrite]) -> None:
        """Note that records were written again; those that were noticed once more meanwhile stay due."""
        self._db.run_many("delete from outbox where topic = ? and key = ? and times = ?", [(each.topic, each.key, each.times) for each in rewrites])

    def is_unread(self) -> bool:
        """Whether nothing was read into these rows yet."""
        return self._db.one("select 1 from position limit 1") is None

    def topics(self) -> dict[str, tuple[str, str]]:
        """Cluster id and topic id of each topic that the rows come from, as far as they were known."""
        return {topic: (cluster, topic_id) for topic, cluster, topic_id in self._db.all("select topic, cluster, id from source")}

    def note_topics(self, ids: Mapping[str, tuple[str, str]]) -> None:
        """Note which topics the rows come from."""
        self._db.put(SOURCE, [(topic, *each) for topic, each in ids.items()])

    def note_on_running_jobs(self, said: str) -> None:
        """Let the reports of all jobs that are not at their end say something."""
        with self._db.transaction():
            jobs = self._db.all("select job from job where status is null or status = 'running'")
            self._db.put(NOTE, [(job, said) for (job,) in jobs])
            self._db.run_many("update job set dirty = dirty + 1 where job = ?", jobs)

    def forget(self, job: str) -> None:
        """Remove everything of a job but its newest order, and remember that it was deleted."""
        with self._db.transaction():
            for kept_by_id in (BODY, CARD):
                self._db.delete(kept_by_id, "id in (select body from outcome where job = ?)", (job,))
            for table in ("outcome", "tally", "admission", "review", "note"):
                self._db.run(f"delete from {table} where job = ?", (job,))  # noqa: S608
            self._db.run("delete from part where job = ? and part <> 'control'", (job,))
            sums = ", ".join(f"{name} = 0" for name in COUNTER_NAMES)
            self._db.run(f"update job set find_job = null, model = null, admitted = 0, first_ms = null, last_ms = null, {sums} where job = ?", (job,))  # noqa: S608
        self._db.tidy("outcome", "body", "card", "tally", "admission", "part", "review", "note", "job")

    def drop(self, job: str) -> None:
        """Remove the last that is left of a deleted job."""
        with self._db.transaction():
            self._db.run("delete from part where job = ?", (job,))
            self._db.run("delete from job where job = ?", (job,))

    def has_rows(self, job: str) -> bool:
        """Whether anything but its newest order is kept of a job."""
        query = (
            "select 1 where exists (select 1 from outcome where job = ?) or exists (select 1 from admission where job = ?) "
            "or exists (select 1 from part where job = ? and part <> 'control') or exists (select 1 from review where job = ?)"
        )
        return self._db.one(query, (job, job, job, job)) is not None

    def silent_since(self, at_ms: int) -> list[tuple[str, int, str]]:
        """Jobs, with revision and tenant, of which nothing was heard since a moment, and that nobody ordered to be deleted."""
        query = (
            "select j.job, j.revision, j.tenant from job j where j.buried < j.revision and coalesce(j.last_ms, 0) < ? "
            "and not exists (select 1 from part p where p.job = j.job and p.at_ms >= ?) "
            "and not exists (select 1 from review r where r.job = j.job and r.at_ms >= ?)"
        )
        return [(job, revision, tenant) for job, revision, tenant in self._db.all(query, (at_ms, at_ms, at_ms))]

    def deleted_before(self, at_ms: int) -> list[str]:
        """Jobs whose deletion was done before a moment."""
        query = "select j.job from job j join part p on p.job = j.job and p.part = 'control' where j.status = 'deleted' and p.at_ms < ?"
        return [job for (job,) in self._db.all(query, (at_ms,))]


def _admission_values(rows: Rows) -> Iterator[tuple[object, ...]]:
    for key in rows.changed_admissions:
        row = rows.admissions[key]
        if row is not None:
            source = row.source
            coordinates = (source.topic, source.partition, source.offset) if source else (None, None, None)
            yield (*key, row.revision, row.at_ms, *coordinates)


def _job_values(name: str, row: JobRow) -> tuple[object, ...]:
    return name, row.tenant, row.revision, row.admitted, row.dirty, row.buried, *row.sums, row.find_job, row.model, None, row.first_ms, row.last_ms
