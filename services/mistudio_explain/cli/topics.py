"""`topics create|check`: the topics of the configured Kafka."""

import asyncio
from dataclasses import asdict
from pathlib import Path

from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.admin import Difference, compare_topics, create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings


def run_topics(action: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Make or check topics; a check that finds a difference ends with 1."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if action == "create":
        made = asyncio.run(_create(settings))
        if as_json:
            print_json({"created": made})
        else:
            console().print("\n".join(f"created {name}" for name in made) or "all topics exist already")
        return 0
    if action == "check":
        differences = asyncio.run(_check(settings))
        if as_json:
            print_json({"differences": [asdict(difference) for difference in differences]})
        elif differences:
            console().print(
                table(
                    "topics that are not as they should be", ("topic", "what", "wanted", "found"), ((d.topic, d.what, d.wanted, d.found) for d in differences)
                )
            )
        else:
            console().print(f"{len(topic_specs(settings))} topics are as they should be")
        return 1 if differences else 0
    raise BadSettings(f"topics {action}: there are `topics create` and `topics check`")


async def _create(settings: Settings) -> list[str]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        return await create_topics(admin, topic_specs(settings), settings.kafka.replication)


async def _check(settings: Settings) -> list[Difference]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        return await compare_topics(admin, topic_specs(settings))
