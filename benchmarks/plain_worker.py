"""A worker without us, as a process: reads prompts of a group, calls a model for each, writes the answers, commits.

`python -m benchmarks.plain_worker batch|faststream BOOTSTRAP GROUP TOPIC URL SLOTS`. `batch` is aiokafka alone: as many records as there
are slots, their calls at once, then the next. `faststream` is its subscriber with as many workers as slots, which commits
before it works: what it has in hand when it dies is lost.
"""

import asyncio
import sys
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CommitFailedError
from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from openai import AsyncOpenAI

from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import ExplanationRequested

MODEL = "fake"


async def answered(client: AsyncOpenAI, value: bytes) -> bytes:
    request = decode(ExplanationRequested, value)
    messages = [{"role": message.role, "content": message.content} for message in request.prompt.messages]
    answer = ""
    async for piece in await client.chat.completions.create(model=MODEL, messages=messages, stream=True):  # type: ignore[call-overload]
        for choice in piece.choices:
            answer += choice.delta.content or ""
    return answer.encode()


async def batch(bootstrap: str, group: str, topic: str, url: str, slots: int) -> None:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    client = AsyncOpenAI(base_url=url, api_key="none")
    await consumer.start()
    await producer.start()
    while True:
        taken = [record for records in (await consumer.getmany(timeout_ms=50, max_records=slots)).values() for record in records]
        answers = await asyncio.gather(*(answered(client, record.value) for record in taken))
        await asyncio.gather(*[await producer.send(topics.DRAFTS, answer, key=record.key) for record, answer in zip(taken, answers, strict=True)])
        if taken:
            with suppress(CommitFailedError):  # the partitions went to another worker meanwhile
                await consumer.commit()


async def faststream(bootstrap: str, group: str, topic: str, url: str, slots: int) -> None:
    broker = KafkaBroker(bootstrap, logger=None)
    client = AsyncOpenAI(base_url=url, api_key="none")

    @broker.subscriber(topic, group_id=group, max_workers=slots, auto_offset_reset="earliest")
    async def explain(message: KafkaMessage) -> None:
        record = message.raw_message
        await broker.publish(await answered(client, record.value), topics.DRAFTS, key=record.key)  # type: ignore[union-attr]

    await FastStream(broker, logger=None).run()


def main() -> None:
    kind, bootstrap, group, topic, url, slots = sys.argv[1:]
    asyncio.run({"batch": batch, "faststream": faststream}[kind](bootstrap, group, topic, url, int(slots)))


if __name__ == "__main__":
    main()
