"""How long a person waits: from an interactive request to its call, behind 10,000 features of the same model."""

import asyncio
import random
import tempfile
import time
from itertools import repeat
from pathlib import Path

from benchmarks.fake_llm import FakeProvider, fake_endpoints
from benchmarks.requests import request_of, take
from benchmarks.table import print_table, spread
from integration.real_kafka import RealKafka
from mistudio_explain.context import service as context
from mistudio_explain.events import topics
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.generation import service as generation
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.settings import KafkaSettings, QualitySettings, Settings

WAITING = 5000
SLOTS = 8
CALL_S = 2.0
PEOPLE = 12
SIZE = 6_000
MARK = "a person waits for this"


class Watching(FakeProvider):
    """Notes when the call of the marked feature starts."""

    def __init__(self) -> None:
        super().__init__(repeat(CALL_S))
        self.seen: dict[str, float] = {}

    async def complete(self, call: Call) -> Completion:
        for message in call.messages:
            if MARK in message.content:
                self.seen.setdefault(message.content.split(MARK)[1].split()[0], time.perf_counter())
        return await super().complete(call)


async def measure(bootstrap: str) -> list[float]:
    """Seconds from the publishing of each interactive request to the start of its call."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap), quality=QualitySettings(explain_poor=True))
    clients = KafkaClients(settings.kafka, settings.limits)
    features = take(200, SIZE)
    lane = topics.PROMPTS_PREFIX + features[0].target_model
    filler = StreamApp(settings, clients)
    async with filler.running():
        await filler.ensure_lane(lane)
        prompts = [outgoing(request_of(feature), topic=lane) for feature in features]
        bodies = [outgoing(feature.model_copy(update={"request": JobRequest(explain_job_id="explain_long", expected=10_000)})) for feature in features]
        for start in range(0, WAITING, 200):
            await filler.publish(Outgoing(lane, f"{start}-{n}", prompts[n].value, prompts[n].headers) for n in range(200))
            await filler.publish(bodies)

    provider = Watching()
    app = StreamApp(settings, clients)
    controls = JobControls(app)
    context.register(app, controls)
    generation.register(app, controls, await fake_endpoints(provider, SLOTS), MemoryAnswers(), random.Random(1))
    waited = []
    async with app.running():
        while provider.calls < SLOTS:
            await asyncio.sleep(0.05)
        for number in range(PEOPLE):
            first = features[number]
            texts = [text.model_copy(update={"text": f"{MARK}{number} {text.text}"}) for text in first.top_activations]
            asked = JobRequest(explain_job_id=f"explain_person_{number}", priority="interactive", expected=1)
            feature = first.model_copy(update={"feature_id": f"person-{number}", "top_activations": texts, "request": asked})
            sent = time.perf_counter()
            await app.publish([outgoing(feature, topic=topics.REQUESTS)])
            while str(number) not in provider.seen:
                await asyncio.sleep(0.01)
            waited.append(provider.seen[str(number)] - sent)
            await asyncio.sleep(random.Random(number).uniform(0, CALL_S))  # people do not ask in step with the calls
    return waited


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka:
        waited = asyncio.run(measure(kafka.bootstrap))
    print_table(
        f"Express: an interactive feature behind {2 * WAITING} of the same model, half in its lane, half on find.features",
        ("what", "s"),
        [
            [f"one call, {SLOTS} slots all busy", f"{CALL_S:.1f}"],
            [f"from the request to the start of its call, {PEOPLE} people (goal ≤ {CALL_S + 1:.1f})", spread(waited)],
        ],
    )


if __name__ == "__main__":
    main()
