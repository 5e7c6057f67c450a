"""Re-scoring in Kafka: drafts made out of stored outcomes go to explain.drafts again, and validation scores them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.context.prompt import Templates
from mistudio_explain.errors import BadInput, MalformedEvent, Unreachable
from mistudio_explain.events.codec import decode
from mistudio_explain.events.identity import background_key
from mistudio_explain.events.job import JobBackground
from mistudio_explain.events.topics import BACKGROUNDS, DRAFTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.observability.metrics import EVENTS_OUT
from mistudio_explain.replay.rescoring import Tally, Wanted, drafts_of, is_provisional
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes, reading

log = structlog.get_logger(__name__)

LOOKED_AGAIN_S = (2.0, 30.0, 300.0)
"""How long after a background was frozen the provisional outcomes of its jobs are looked for: what validation scored just
before it read the frozen one reaches the store a little later."""
_TURN_S = 0.5
_BATCH = 50

Publish = Callable[[Iterable[Outgoing]], Awaitable[None]]


async def rescore(settings: Settings, job: str, wanted: Wanted, publish: Publish) -> Tally:
    """Send the drafts of a job's wanted outcomes again, under the next revision; returns once all are confirmed.

    Sent twice, they change nothing: the same draft gets the same outcome. So whoever was interrupted begins again.
    """
    templates = Templates.load(settings.context.templates)
    tally = Tally()
    drafts = drafts_of(read_outcomes(settings.store, job), wanted, templates, settings.context, tally)
    while batch := await asyncio.to_thread(lambda: list(islice(drafts, _BATCH))):
        await publish(map(outgoing, batch))
    return tally


def register(app: StreamApp, *, looked_again_s: Sequence[float] = LOOKED_AGAIN_S) -> None:
    """Re-score provisional outcomes once the background of their find job is frozen.

    Several replayers may do so at once; each makes the same drafts.
    """
    due: dict[str, tuple[JobBackground, list[float]]] = {}

    @app.whole(BACKGROUNDS, service="replayer")
    async def frozen(records: Sequence[ConsumerRecord]) -> None:
        for background in _readable(records):
            key = background_key(background.tenant, background.find_job_id)
            if background.frozen and key not in due:
                kept = background.model_copy(update={"sample": []})
                due[key] = kept, [time.monotonic() + wait for wait in looked_again_s]

    async def look() -> None:
        while True:
            await asyncio.sleep(_TURN_S)
            for background, moments in list(due.values()):
                if moments and moments[0] <= time.monotonic():
                    moments.pop(0)
                    await _rescore_provisional(app, background)

    app.task("rescoring", look)


def _readable(records: Sequence[ConsumerRecord]) -> Iterator[JobBackground]:
    for record in records:
        try:
            if record.value is not None:
                yield decode(JobBackground, record.value)
        except MalformedEvent:
            continue  # validation says so; it scores without it


async def _rescore_provisional(app: StreamApp, background: JobBackground) -> None:
    try:
        for job in await asyncio.to_thread(_scored_early, app.settings, background):
            tally = await rescore(app.settings, job, is_provisional, app.publish)
            if tally.sent or tally.left:
                EVENTS_OUT.labels(topic=DRAFTS).inc(tally.sent)
                log.info("rescoring.sent", job=job, drafts=tally.sent, left=dict(tally.left))
    except (BadInput, Unreachable) as error:  # no store yet, or it is away: what is provisional stays so until it is looked for again
        log.warning("rescoring.waits", find_job=background.find_job_id, error=str(error))


def _scored_early(settings: Settings, background: JobBackground) -> list[str]:
    """The explain jobs that have outcomes scored before the find job's background was as it is now."""
    with reading(settings.store) as store:
        jobs = [job for job in store.jobs_of(background.find_job_id) if store.has_scored_before(job, background.version)]
        states = [store.state(job) for job in jobs]
    return [state.explain_job_id for state in states if state is not None and state.tenant == background.tenant]
