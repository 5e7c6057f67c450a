"""The escalation service: ends of first passes in; second prompts, refused outcomes, and what became of the candidates, out."""

from collections.abc import AsyncIterator, Sequence

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.context.lane import lane_for
from mistudio_explain.errors import MalformedEvent
from mistudio_explain.escalation.budget import Decision, Refused, Stronger, decided
from mistudio_explain.escalation.stage import Weighed, evidence_of, nearest, refused, second_request, weighed
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import EscalationCandidate
from mistudio_explain.events.job import JobEvent, SecondPassPart
from mistudio_explain.events.topics import ESCALATIONS, JOBS
from mistudio_explain.kafka.app import StreamApp, working_on
from mistudio_explain.kafka.backgrounds import Backgrounds
from mistudio_explain.kafka.controls import JobControls, job_part
from mistudio_explain.kafka.records import Outgoing, Received, outgoing
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.observability.metrics import ESCALATIONS as ESCALATED
from mistudio_explain.store.ledger import Ledger

log = structlog.get_logger(__name__)

_SERVICE = "escalation"
_AT_ONCE = 50  # records that are confirmed together; of a large job most candidates are refused, and each refusal is a record


def register(app: StreamApp, controls: JobControls, ledger: Ledger) -> None:
    """Make the second pass of every job whose first pass is over, once for each of the job's revisions.

    A job is handled as a whole before its record is committed; begun again after a kill, it comes to the same.
    """
    escalation = Escalation(app, Backgrounds(app, _SERVICE), ledger)

    @app.whole(JOBS, service=_SERVICE)
    async def made(records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            event = job_part(record)
            if event is not None and event.event.second_pass is not None:
                escalation.note_made(event.event)

    @app.batches(JOBS, service=_SERVICE, read=job_part)
    async def second_passes(parts: list[Received[JobEvent]]) -> None:
        await controls.complete()
        await made.caught_up.wait()
        for part in parts:
            event = part.event
            if event.first_pass is not None and not controls.is_stopped(event.explain_job_id, event.revision):
                await escalation.run(event, features=event.first_pass.outcomes)


class Escalation:
    """Makes second passes, one job after the other."""

    def __init__(self, app: StreamApp, backgrounds: Backgrounds, ledger: Ledger) -> None:
        self._app = app
        self._backgrounds = backgrounds
        self._ledger = ledger
        self._stronger = Stronger.of(app.settings)
        self._made: dict[str, int] = {}
        """The revision of the newest second pass of each job."""

    def note_made(self, event: JobEvent) -> None:
        """Take note of a second pass that was decided."""
        self._made[event.explain_job_id] = max(event.revision, self._made.get(event.explain_job_id, -1))

    async def run(self, event: JobEvent, *, features: int) -> None:
        """Decide about a job's candidates, send or refuse each, and say how many."""
        job = event.explain_job_id
        if self._made.get(job, -1) >= event.revision:
            return
        await self._backgrounds.complete()
        settings = self._app.settings
        newest: dict[str, Weighed] = {}
        async for place, candidate in self._candidates(event):
            newest[candidate.event.outcome.subject.feature_key] = weighed(candidate.event, place, settings.escalation.siblings)
        decisions = await decided(job, features, list(newest.values()), settings, self._ledger)
        await self._app.look_for_lanes()
        waiting: list[tuple[Outgoing, Decision]] = []
        async for place, candidate in self._candidates(event):
            if (decision := decisions.get(place)) is not None:
                with working_on(candidate, service=_SERVICE):
                    waiting.append((self._record(candidate.event, decision), decision))
            if len(waiting) == _AT_ONCE:
                await self._publish(waiting)
        await self._publish(waiting)
        kept_back = sum(isinstance(decision, Refused) for decision in decisions.values())
        part = SecondPassPart(sent=len(decisions) - kept_back, refused=kept_back)
        done = JobEvent(explain_job_id=job, revision=event.revision, tenant=event.tenant, at_ms=self._app.now_ms(), second_pass=part)
        await self._app.publish([outgoing(done)])
        self.note_made(done)
        log.info("second_pass.sent", job=job, candidates=len(decisions), sent=part.sent, refused=part.refused)

    async def _publish(self, waiting: list[tuple[Outgoing, Decision]]) -> None:
        for topic in {record.topic for record, _ in waiting}:
            await self._app.ensure_lane(topic)
        await self._app.publish([record for record, _ in waiting])
        for _, decision in waiting:
            ESCALATED.labels(result=f"refused:{decision.why}" if isinstance(decision, Refused) else "sent").inc()
        waiting.clear()

    def _record(self, candidate: EscalationCandidate, decision: Decision) -> Outgoing:
        if isinstance(decision, Refused):
            return outgoing(refused(candidate.outcome, decision.why))
        settings, subject, evidence = self._app.settings, candidate.outcome.subject, evidence_of(candidate)
        background = self._backgrounds.of(subject.tenant, subject.find_job_id) if subject.find_job_id else None
        siblings = nearest(evidence, subject.keywords, subject.feature_key, background.sample if background else (), settings.escalation.siblings)
        request = second_request(candidate, siblings, self._stronger.route(cloud=decision.cloud), cloud=decision.cloud)
        limits = settings.limits
        lane = lane_for(request, self._app.known_lanes, express_features=limits.express_features, max_lanes=limits.max_lanes)
        return outgoing(request, topic=lane)

    async def _candidates(self, event: JobEvent) -> AsyncIterator[tuple[tuple[int, int], Received[EscalationCandidate]]]:
        """The candidates of a job's revision as they stand in the topic; one that cannot be read is passed over."""
        prefix = f"{event.explain_job_id}|".encode()
        async with standing(self._app.clients, ESCALATIONS) as snapshot:
            async for record in snapshot:
                if record.value is None or not (record.key or b"").startswith(prefix):
                    continue
                try:
                    candidate = decode(EscalationCandidate, record.value)
                except MalformedEvent as error:
                    log.error("candidate.unreadable", job=event.explain_job_id, key=record.key, offset=record.offset, error=str(error))
                    continue
                if candidate.outcome.subject.ordered_as == event.revision and (candidate.draft or candidate.request):
                    yield (record.partition, record.offset), Received(candidate, record)
