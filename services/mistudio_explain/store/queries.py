"""What can be asked of the aggregator's rows, by their writer and by whoever opens the store to read it."""

from collections.abc import Iterator

from mistudio_explain.aggregation.stage import COUNTER_NAMES, Counters, JobState, agrees
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.events.job import JobEvent, JobPart
from mistudio_explain.store.explanations import ExplanationQueries
from mistudio_explain.store.tables import feature_at, place_of

_EXPLAINED = 2  # the strength of an explained outcome (events/winner.py)


class JobQueries(ExplanationQueries):
    """Questions to the rows behind one connection."""

    def jobs(self, limit: int, *, tenant: str | None = None) -> list[str]:
        """Names of jobs, a tenant's or all, those that changed last first."""
        whose, values = ("", ()) if tenant is None else ("where tenant = ? ", (tenant,))
        query = f"select job from job {whose}order by coalesce(last_ms, 0) desc, job limit ?"  # noqa: S608
        return [job for (job,) in self._db.all(query, (*values, limit))]

    def jobs_of(self, find_job_id: str, *, tenant: str | None = None) -> list[str]:
        """Names of the jobs, a tenant's or all, that explain a find job's features."""
        whose, values = ("", ()) if tenant is None else ("and tenant = ? ", (tenant,))
        query = f"select job from job where find_job = ? {whose}order by job"  # noqa: S608
        return [job for (job,) in self._db.all(query, (find_job_id, *values))]

    def is_of(self, job: str, tenant: str) -> bool:
        """Whether a job is there and is a tenant's: one look, so that another tenant's takes no longer than none."""
        return self._db.one("select 1 from job where job = ? and tenant = ?", (job, tenant)) is not None

    def state(self, job: str) -> JobState | None:
        """A job's numbers; None for a job of which nothing is known."""
        columns = ", ".join(("tenant, find_job, model, revision, admitted, first_ms, last_ms", *COUNTER_NAMES))
        row = self._db.one(f"select {columns} from job where job = ?", (job,))  # noqa: S608
        if row is None:
            return None
        tenant, find_job, model, revision, admitted, first_ms, last_ms, *sums = row
        stored = self._db.all("select part, at_ms, body from part where job = ?", (job,))
        parts = {name: decode(JobEvent, body) for name, _, body in stored}
        request = parts[JobPart.REQUEST].request if JobPart.REQUEST in parts else None
        control = parts.get(JobPart.CONTROL)
        action = control.control.action if control is not None and control.control is not None else None
        since = control.revision if control is not None and action == "reopen" else 0
        now = {name: part for name, part in parts.items() if part.revision >= since}  # a seal counted the features of the job before it was reopened
        sealed = now[JobPart.SEALED].sealed if JobPart.SEALED in now else None
        promise = now[JobPart.REQUEST].request if JobPart.REQUEST in now else None
        reviewed, agreed = self._reviewed(job)
        second = now[JobPart.SECOND_PASS].second_pass if JobPart.SECOND_PASS in now else None
        return JobState(
            explain_job_id=job,
            tenant=tenant,
            find_job_id=find_job,
            target_model=model,
            revision=revision,
            expected=sealed.expected if sealed else None,
            cancelled=action == "cancel",
            control=action,
            promised=promise.expected if promise else None,
            is_replaying=JobPart.REPLAY in now and sealed is None,
            admitted=admitted,
            counters=Counters(*sums),
            settled=self._settled(job, control.revision) if control is not None and action == "reopen" else None,
            first_ms=first_ms,
            last_ms=last_ms,
            heard_ms=max((at for at in (last_ms, *(at_ms for _, at_ms, _ in stored)) if at is not None), default=None),
            estimated_seconds=request.estimated_seconds if request else None,
            estimated_cost_usd=request.estimated_cost_usd if request else None,
            notes=(*(sealed.notes if sealed else ()), *(said for (said,) in self._db.all("select said from note where job = ? order by said", (job,)))),
            reviewed=reviewed,
            agreed=agreed,
            reopened_as=since,
            is_first_pass_over=JobPart.FIRST_PASS in now,
            second_pass=second,
            second_settled=self._second_settled(job, since) if second else 0,
        )

    def reported_status(self, job: str) -> str | None:
        """The status of a job's last report that was published; None before the first one."""
        row = self._db.one("select status from job where job = ?", (job,))
        return None if row is None else row[0]

    def _reviewed(self, job: str) -> tuple[int, int]:
        """How many explained features have a review, and how many of these agree with the verification."""
        query = (  # a cross join keeps SQLite to this order: there are few reviews, and it would go through all outcomes
            "select r.verdict, o.counters from review r cross join outcome o where r.job = ? and o.job = r.job and o.place = r.place and o.strength = ?"
        )
        rows = self._db.all(query, (job, _EXPLAINED))
        return len(rows), sum(agrees(verdict, Counters(*map(int, counters.split(",")))) for verdict, counters in rows)

    def _second_settled(self, job: str, since: int) -> int:
        """Second passes that ended since the job was reopened: each has a greater revision than its first pass."""
        row = self._db.one("select count(*) from outcome where job = ? and pass = 2 and revision > ?", (job, since))
        return row[0] if row else 0

    def _settled(self, job: str, revision: int) -> int:
        query = "select count(*) from outcome where job = ? and (revision >= ? or strength = ?)"
        row = self._db.one(query, (job, revision, _EXPLAINED))
        return row[0] if row else 0

    def sources(self, job: str) -> Iterator[tuple[str, str, int, int]]:
        """Where each feature of a job stands: feature key, topic, partition, offset, in the order of the last three."""
        query = "select place, topic, part, offs from admission where job = ? and topic is not null order by topic, part, offs"
        for place, topic, part, offset in self._db.stream(query, (job,)):
            yield feature_at(place), topic, part, offset

    def parts(self, job: str) -> dict[JobPart, JobEvent]:
        """What a job's state is merged from."""
        return {JobPart(name): decode(JobEvent, body) for name, body in self._db.all("select part, body from part where job = ?", (job,))}

    def outcomes(self, job: str) -> Iterator[FeatureOutcome]:
        """The outcomes of a job as they count, each with its newest review, numbers before names, then by feature key; read as they are wanted."""
        query = (
            "select b.body, r.body from outcome o join body b on b.id = o.body "
            "left join review r on r.job = o.job and r.place = o.place where o.job = ? order by o.place"
        )
        for body, review in self._db.stream(query, (job,)):
            outcome = decode(FeatureOutcome, body)
            yield outcome if review is None else outcome.model_copy(update={"review": decode(FeatureReviewed, review)})

    def reviews(self, job: str) -> Iterator[FeatureReviewed]:
        """The newest review of each feature of a job, whether or not anything else is known of the feature."""
        for (body,) in self._db.stream("select body from review where job = ? order by place", (job,)):
            yield decode(FeatureReviewed, body)

    def has_outcome(self, job: str, feature_key: str) -> bool:
        """Whether a feature of a job has an outcome."""
        return self._db.one("select 1 from outcome where job = ? and place = ?", (job, place_of(feature_key))) is not None

    def has_scored_before(self, job: str, background: int) -> bool:
        """Whether an explained outcome of a job was scored against a background before that version."""
        query = "select 1 from outcome where job = ? and strength = ? and background < ? limit 1"
        return self._db.one(query, (job, _EXPLAINED, background)) is not None

    def features(self, job: str) -> Iterator[str]:
        """All features of a job that entered, have an outcome or a review; read as they are wanted."""
        query = " union ".join(f"select place from {table} where job = ?" for table in ("outcome", "admission", "review"))  # noqa: S608
        for (place,) in self._db.stream(query, (job, job, job)):
            yield feature_at(place)

    def missing(self, job: str, limit: int) -> list[str]:
        """Features that entered the job and have no outcome."""
        query = (
            "select a.place from admission a where a.job = ? and not exists "
            "(select 1 from outcome o where o.job = a.job and o.place = a.place) order by a.place limit ?"
        )
        return [feature_at(place) for (place,) in self._db.all(query, (job, limit))]

    def positions(self, topic: str) -> dict[int, int]:
        """Next offset to read of each partition of a topic that was read before."""
        return {part: after for part, after in self._db.all("select part, next from position where topic = ?", (topic,))}  # noqa: C416
