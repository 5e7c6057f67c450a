"""The redelivery service: letters of the retry topics in, the records that they hold out, each when it is due."""

import time
from functools import partial

from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.events.topics import RETRY_LONG, RETRY_SHORT
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.dead_letters import attempt_of
from mistudio_explain.kafka.letters import redelivered
from mistudio_explain.kafka.records import HEADER_NOT_BEFORE, Outgoing, Received, number_in, received
from mistudio_explain.redelivery.stage import Waits

_SERVICE = "redelivery"


def register(app: StreamApp) -> None:
    """Hold each partition of the retry topics at its first record that is not due, and send the due ones back."""
    waits = Waits({RETRY_SHORT: app.settings.retry.short_s, RETRY_LONG: app.settings.retry.long_s}, app.now_ms, time.monotonic)

    def wait(record: ConsumerRecord) -> float:
        try:
            not_before = number_in(record, HEADER_NOT_BEFORE)
        except MalformedEvent:
            not_before = None
        return waits.seconds(record.topic, record.partition, not_before, record.timestamp)

    def again(letter: Received[DeadLetter]) -> list[Outgoing]:
        return [redelivered(letter.event, attempt=attempt_of(letter.record), revision=None)]

    @app.batches(RETRY_SHORT, RETRY_LONG, service=_SERVICE, read=partial(received, DeadLetter), wait=wait)
    async def redelivery(letters: list[Received[DeadLetter]]) -> None:
        await app.publish(await app.each(letters, again, service=_SERVICE))
