"""The aggregator's rows in SQLite: outcomes, admissions, job parts, counters, and the offsets they came from.

Everything that one batch of records changes is one transaction, offsets included, so that a kill at any moment
leaves counters exact: either the batch happened, or it will be read again.
"""

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path

from mistudio_explain.aggregation.stage import COUNTER_NAMES, Counters, JobState, counters_of
from mistudio_explain.errors import BadInput, BadSettings
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import Admission, JobEvent, JobPart
from mistudio_explain.events.winner import rank
from mistudio_explain.settings import StoreSettings

_SCHEME = "sqlite:///"
_DDL = f"""
create table if not exists outcome(job text, feature text, strength int, revision int, pass int, validator int, background int, sha text,
  counters text, body blob, primary key(job, feature)) without rowid;
create table if not exists admission(job text, feature text, topic text, part int, offs int, primary key(job, feature)) without rowid;
create table if not exists part(job text, part text, revision int, body blob, primary key(job, part)) without rowid;
create table if not exists job(job text primary key, tenant text, find_job text, model text, revision int not null default 0,
  admitted int not null default 0, first_ms int, last_ms int, heard_ms int, dirty int not null default 0,
  status text, {", ".join(f"{name} int not null default 0" for name in COUNTER_NAMES)}) without rowid;
create table if not exists position(topic text, part int, next int, primary key(topic, part)) without rowid;
create table if not exists outbox(key text primary key, body blob) without rowid;
"""
_ADD = ", ".join(f"{name} = {name} + ?" for name in COUNTER_NAMES)


@dataclass(frozen=True, slots=True)
class Change:
    """One record to apply: its event and bytes, none for a tombstone, its key, and when the broker took it (ms since 1970 UTC)."""

    event: FeatureOutcome | Admission | JobEvent | None
    body: bytes | None
    key: str
    timestamp_ms: int


class JobStore:
    """The rows behind one connection; see `open_store` and `reading`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def positions(self, topic: str) -> dict[int, int]:
        """Next offset to read of each partition of a topic that was read before."""
        return dict(self._db.execute("select part, next from position where topic = ?", (topic,)).fetchall())

    def apply(self, changes: Iterable[Change], ends: Mapping[tuple[str, int], int]) -> None:
        """Apply a batch and note the next offset of each (topic, partition) that it came from, in one transaction."""
        with self._transaction():
            for change in changes:
                self._apply(change)
            self._db.executemany("insert or replace into position values(?, ?, ?)", [(topic, part, end) for (topic, part), end in ends.items()])

    def _apply(self, change: Change) -> None:
        match change.event:
            case FeatureOutcome():
                self._outcome(change.event, change.body or b"", change.timestamp_ms)
            case Admission():
                self._admission(change.event, change.timestamp_ms)
            case JobEvent():
                self._part(change.event, change.body or b"", change.timestamp_ms)
            case None:
                self._tombstone(change.key)

    def _outcome(self, outcome: FeatureOutcome, body: bytes, at_ms: int) -> None:
        subject = outcome.subject
        job, feature = subject.explain_job_id, subject.feature_key
        new_rank, added = rank(outcome, sha256(body).hexdigest()), counters_of(outcome)
        row = self._db.execute(
            "select strength, revision, pass, validator, background, sha, counters, body from outcome where job = ? and feature = ?", (job, feature)
        ).fetchone()
        if row is not None and new_rank == tuple(row[:6]):
            return
        self._touch(job, subject.tenant, subject.find_job_id, subject.target_model, subject.revision, at_ms)
        if row is not None:
            if new_rank < tuple(row[:6]):  # a loser landed last: compaction would keep it, so the winner is written again
                self._db.execute("insert or replace into outbox values(?, ?)", (outcome_key(job, feature), row[7]))
                return
            added -= Counters(*map(int, row[6].split(",")))
        counters = ",".join(map(str, astuple(counters_of(outcome))))
        self._db.execute("insert or replace into outcome values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (job, feature, *new_rank, counters, body))
        self._db.execute(f"update job set {_ADD} where job = ?", (*astuple(added), job))  # noqa: S608

    def _admission(self, admission: Admission, at_ms: int) -> None:
        job, source = admission.explain_job_id, admission.source
        coordinates = (source.topic, source.partition, source.offset) if source else (None, None, None)
        fresh = self._db.execute("insert or ignore into admission values(?, ?, ?, ?, ?)", (job, admission.feature_key, *coordinates)).rowcount
        if fresh:
            self._touch(job, admission.tenant, admission.find_job_id, admission.target_model, admission.revision, at_ms)
            self._db.execute("update job set admitted = admitted + 1 where job = ?", (job,))

    def _part(self, event: JobEvent, body: bytes, heard_ms: int) -> None:
        job, part = event.explain_job_id, event.part.value
        row = self._db.execute("select revision, body from part where job = ? and part = ?", (job, part)).fetchone()
        if row is not None and _outdated(event, row[0], decode(JobEvent, row[1])):
            return
        self._db.execute("insert or replace into part values(?, ?, ?, ?)", (job, part, event.revision, body))
        request = event.request
        find_job, model = (request.find_job_id, request.target_model) if request else (None, None)
        self._touch(job, event.tenant, find_job, model, event.revision, None)
        self._db.execute("update job set heard_ms = max(coalesce(heard_ms, 0), ?) where job = ?", (heard_ms, job))

    def _tombstone(self, key: str) -> None:
        job, _, feature = key.partition("|")
        row = self._db.execute("delete from outcome where job = ? and feature = ? returning counters", (job, feature)).fetchone()
        self._db.execute("delete from outbox where key = ?", (key,))
        if row is not None:
            gone = Counters() - Counters(*map(int, row[0].split(",")))
            self._db.execute(f"update job set {_ADD}, dirty = dirty + 1 where job = ?", (*astuple(gone), job))  # noqa: S608

    def _touch(self, job: str, tenant: str, find_job: str | None, model: str | None, revision: int, at_ms: int | None) -> None:
        self._db.execute(
            "insert into job(job, tenant, find_job, model, revision, first_ms, last_ms, dirty) values(?, ?, ?, ?, ?, ?, ?, 1) on conflict(job) do update set "
            "find_job = coalesce(find_job, excluded.find_job), model = coalesce(model, excluded.model), revision = max(revision, excluded.revision), "
            "first_ms = min(coalesce(first_ms, excluded.first_ms), coalesce(excluded.first_ms, first_ms)), "
            "last_ms = max(coalesce(last_ms, excluded.last_ms), coalesce(excluded.last_ms, last_ms)), dirty = dirty + 1",
            (job, tenant, find_job, model, revision, at_ms, at_ms),
        )

    def due(self) -> list[tuple[str, int, str | None]]:
        """Jobs that changed since their last report or are not at their end: name, a number that grows with every change, last status."""
        rows: list[tuple[str, int, str | None]] = self._db.execute(
            "select job, dirty, status from job where dirty > 0 or status is null or status = 'running'"
        ).fetchall()
        return rows

    def reported(self, job: str, dirty: int, status: str) -> None:
        """Note that a report was confirmed; a job that changed meanwhile stays dirty."""
        self._db.execute("update job set status = ?, dirty = case dirty when ? then 0 else dirty end where job = ?", (status, dirty, job))

    def state(self, job: str) -> JobState | None:
        """A job's numbers."""
        columns = ", ".join(("tenant, find_job, model, revision, admitted, first_ms, last_ms, heard_ms", *COUNTER_NAMES))
        row = self._db.execute(f"select {columns} from job where job = ?", (job,)).fetchone()  # noqa: S608
        if row is None:
            return None
        tenant, find_job, model, revision, admitted, first_ms, last_ms, heard_ms, *sums = row
        parts = {name: decode(JobEvent, body) for name, body in self._db.execute("select part, body from part where job = ?", (job,))}
        request = parts["request"].request if "request" in parts else None
        control = parts["control"].control if "control" in parts else None
        sealed = parts["sealed"].sealed if "sealed" in parts else None
        return JobState(
            explain_job_id=job,
            tenant=tenant,
            find_job_id=find_job,
            target_model=model,
            revision=revision,
            expected=sealed.expected if sealed else None,
            cancelled=control is not None and control.action == "cancel",
            admitted=admitted,
            counters=Counters(*sums),
            first_ms=first_ms,
            last_ms=last_ms,
            heard_ms=max((at for at in (last_ms, heard_ms) if at is not None), default=None),
            estimated_seconds=request.estimated_seconds if request else None,
            estimated_cost_usd=request.estimated_cost_usd if request else None,
        )

    def jobs(self, limit: int) -> list[str]:
        """Names of jobs, those that changed last first."""
        return [job for (job,) in self._db.execute("select job from job order by last_ms desc limit ?", (limit,))]

    def jobs_of(self, find_job_id: str) -> list[str]:
        """Names of the jobs that explain a find job's features."""
        return [job for (job,) in self._db.execute("select job from job where find_job = ? order by job", (find_job_id,))]

    def sources(self, job: str) -> Iterator[tuple[str, str, int, int]]:
        """Where each feature of a job stands: feature key, topic, partition, offset, in the order of the last three."""
        query = "select feature, topic, part, offs from admission where job = ? and topic is not null order by topic, part, offs"
        yield from self._db.execute(query, (job,))

    def parts(self, job: str) -> dict[JobPart, JobEvent]:
        """What a job's state is merged from."""
        return {JobPart(name): decode(JobEvent, body) for name, body in self._db.execute("select part, body from part where job = ?", (job,))}

    def missing(self, job: str, limit: int) -> list[str]:
        """Features that entered the job and have no outcome."""
        rows = self._db.execute(
            "select feature from admission a where job = ? and not exists (select 1 from outcome o where o.job = a.job and o.feature = a.feature) limit ?",
            (job, limit),
        )
        return [feature for (feature,) in rows]

    def outbox(self) -> list[tuple[str, bytes]]:
        """Winners that must be written again, by key."""
        return self._db.execute("select key, body from outbox").fetchall()

    def sent(self, key: str) -> None:
        """Note that a winner was written again."""
        self._db.execute("delete from outbox where key = ?", (key,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")


def _outdated(event: JobEvent, revision: int, stored: JobEvent) -> bool:
    if event.revision != revision:
        return event.revision < revision
    return event.sealed is not None and stored.sealed is not None and event.sealed.expected < stored.sealed.expected


@contextmanager
def open_store(settings: StoreSettings) -> Iterator[JobStore]:
    """Open, for its one writer, the store of `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises BadSettings for another kind of store, or when another process has the file open.
    """
    path = _path(settings.url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("w", encoding="utf-8")  # held open for as long as the store is
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadSettings(f"{path}: another aggregator has this store open; a SQLite store has exactly one") from error
    except OSError as error:
        raise BadSettings(f"{path}: the store cannot be opened ({error}); check store.url") from error
    with lock, closing(sqlite3.connect(path, isolation_level=None)) as db:
        try:
            db.executescript("pragma journal_mode=wal; pragma synchronous=normal; pragma busy_timeout=5000;" + _DDL)
        except sqlite3.DatabaseError as error:
            raise BadSettings(f"{path}: is not a store of this program or is damaged ({error}); check store.url") from error
        yield JobStore(db)


def store_exists(settings: StoreSettings) -> bool:
    """Whether an aggregator has made this store already."""
    return _path(settings.url).is_file()


@contextmanager
def reading(settings: StoreSettings) -> Iterator[JobStore]:
    """Open a store only to read it, beside its writer. Raises BadInput when there is none."""
    with _read_only(settings) as db:
        yield JobStore(db)


def read_outcomes(settings: StoreSettings, job: str) -> Iterator[FeatureOutcome]:
    """The outcomes of a job as they count, numbers before names, then by feature key; read as they are wanted.

    Uses a connection of its own, so that it may run in another thread or process than the writer.
    """
    numeric = "feature glob '[0-9]*' and not feature glob '*[^0-9]*'"
    query = f"select body from outcome where job = ? order by not ({numeric}), case when {numeric} then length(feature) end, feature"  # noqa: S608
    with _read_only(settings) as db:
        for (body,) in db.execute(query, (job,)):
            yield decode(FeatureOutcome, body)


@contextmanager
def _read_only(settings: StoreSettings) -> Iterator[sqlite3.Connection]:
    path = _path(settings.url)
    if not path.is_file():
        raise BadInput(f"{path}: there is no store; an aggregator makes it (store.url)")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("select count(*) from job").fetchone()
            yield db
    except sqlite3.DatabaseError as error:
        raise BadSettings(f"{path}: is not a store of this program or is damaged ({error}); check store.url") from error


def _path(url: str) -> Path:
    if not url.startswith(_SCHEME):
        raise BadSettings(f"store.url is {url!r}; this version knows sqlite:///relative/path and sqlite:////absolute/path")
    return Path(url.removeprefix(_SCHEME))
