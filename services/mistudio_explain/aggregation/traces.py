"""Which traces a job's report is about: the one in which the job was ordered, and the newest of its features."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiokafka import ConsumerRecord

from mistudio_explain.events.topics import JOBS
from mistudio_explain.observability import tracing

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_MOST_JOBS = 1000


@dataclass(slots=True)
class _Job:
    ordered: "SpanContext | None" = None
    features: "OrderedDict[int, SpanContext]" = field(default_factory=OrderedDict)
    """By trace, the newest last."""


class JobTraces:
    """The traces of jobs of which this process has read news; it knows none of what it read before it was started."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def note(self, records: Sequence[ConsumerRecord]) -> None:
        """Take note of the traces of records whose keys begin with a job."""
        if not tracing.is_on():
            return
        for record in records:
            context = tracing.context_in(record.headers)
            if context is None:
                continue
            name = (record.key or b"").partition(b"|")[0].decode("utf-8", "replace")
            job = self._jobs.setdefault(name, _Job())
            self._jobs.move_to_end(name)
            if record.topic == JOBS:
                job.ordered = context
            else:
                job.features[context.trace_id] = context
                job.features.move_to_end(context.trace_id)
                if len(job.features) >= tracing.MOST_LINKS:
                    job.features.popitem(last=False)
        while len(self._jobs) > _MOST_JOBS:
            self._jobs.popitem(last=False)

    def of(self, job: str) -> "list[SpanContext | None]":
        """Those of a job, at most as many as a span may link to."""
        known = self._jobs.get(job)
        return [] if known is None else [known.ordered, *known.features.values()]
