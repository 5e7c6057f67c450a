"""Carries the rows of release 0.1.0's store, a SQLite file, over into a store of this version.

That release kept outcomes, admissions and parts of jobs as this one does, in other columns, and a job's first and last
moment instead of each record's. So records are applied anew, with those moments, and reading goes on where it stood.
"""

from collections.abc import Iterator
from itertools import islice

from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Admission, Coordinates, JobEvent
from mistudio_explain.events.topics import EXPLANATIONS, JOBS
from mistudio_explain.store.database import Database
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.rows import Change
from mistudio_explain.store.tables import OUTBOX, POSITION

_AT_ONCE = 1000


def carry_over(former: Database, database: Database) -> None:
    """Write the rows of a former store into empty tables of this version; the former one is only read."""
    store = JobStore(database)
    changes = _changes(former)
    while batch := list(islice(changes, _AT_ONCE)):
        store.apply(batch, {})
    with database.transaction():
        database.put(POSITION, former.all("select topic, part, next from position"))
        database.put(OUTBOX, [(EXPLANATIONS, key, 1) for (key,) in former.all("select key from outbox")])
        database.run_many("update job set status = ? where job = ?", former.all("select status, job from job"))


def _changes(former: Database) -> Iterator[Change]:
    for body, heard_ms in former.stream("select p.body, j.heard_ms from part p join job j on j.job = p.job"):
        event = decode(JobEvent, body)
        yield Change(event, body, event.key, heard_ms or event.at_ms, JOBS)
    admitted = (
        "select a.job, a.feature, a.topic, a.part, a.offs, j.tenant, j.find_job, j.model, j.revision, j.first_ms from admission a join job j on j.job = a.job"
    )
    for job, feature, topic, partition, offset, tenant, find_job, model, revision, first_ms in former.stream(admitted):
        source = None if topic is None else Coordinates(topic=topic, partition=partition, offset=offset)
        admission = Admission(
            explain_job_id=job, feature_key=feature, revision=revision, tenant=tenant, find_job_id=find_job, target_model=model, source=source
        )
        yield Change(admission, None, "", first_ms)
    for body, last_ms in former.stream("select o.body, j.last_ms from outcome o join job j on j.job = o.job"):
        yield Change(decode(FeatureOutcome, body), body, "", last_ms)
