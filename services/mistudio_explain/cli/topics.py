"""`topics create|check|gc`: the topics of the configured Kafka."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.admin import Difference, compare_topics, create_topics, wanted_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.idle_lanes import Lane, find_lanes, remove_lanes
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings


def run_topics(action: str, *, idle_days: float, yes: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Make or check topics, or remove idle lanes; a check that finds a difference ends with 1."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if action == "create":
        made = asyncio.run(_create(settings))
        if as_json:
            print_json({"created": made})
        else:
            console().print("\n".join(f"created {name}" for name in made) or "all topics exist already")
        return 0
    if action == "check":
        count, differences = asyncio.run(_check(settings))
        if as_json:
            print_json({"differences": [asdict(difference) for difference in differences]})
        elif differences:
            console().print(
                table(
                    "topics that are not as they should be", ("topic", "what", "wanted", "found"), ((d.topic, d.what, d.wanted, d.found) for d in differences)
                )
            )
        else:
            console().print(f"{count} topics are as they should be")
        return 1 if differences else 0
    if action == "gc":
        lanes, removed = asyncio.run(_gc(settings, idle_days=idle_days, yes=yes))
        if as_json:
            print_json({"lanes": [asdict(lane) for lane in lanes], "removed": removed})
        else:
            _print_lanes(lanes, removed, yes=yes)
        return 0
    raise BadSettings(f"topics {action}: there are `topics create`, `topics check` and `topics gc`")


async def _create(settings: Settings) -> list[str]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        return await create_topics(admin, topic_specs(settings), settings.kafka.replication)


async def _check(settings: Settings) -> tuple[int, list[Difference]]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        wanted = await wanted_topics(admin, settings)
        return len(wanted), await compare_topics(admin, wanted)


async def _gc(settings: Settings, *, idle_days: float, yes: bool) -> tuple[list[Lane], list[str]]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        reader = LagReader(admin)
        lanes, reading = await find_lanes(reader, idle_days=idle_days)
        idle = [lane.topic for lane in lanes if lane.kept is None]
        return lanes, await remove_lanes(admin, reader, idle, reading) if yes else []


def _print_lanes(lanes: list[Lane], removed: list[str], *, yes: bool) -> None:
    if not lanes:
        console().print("there are no lanes of target models")
        return
    rows = ((lane.topic, lane.target_model or "-", _day(lane.newest_ms), _fate(lane, removed, yes=yes)) for lane in lanes)
    console().print(table(None, ("lane", "target model", "newest record", "what becomes of it"), rows))
    idle = sum(1 for lane in lanes if lane.kept is None)
    if idle and not yes:
        console().print(f"{idle} of {len(lanes)} lanes can go; remove them by adding --yes")


def _fate(lane: Lane, removed: list[str], *, yes: bool) -> str:
    expired = f"; {lane.expired} records expired unread" if lane.expired else ""
    if lane.kept is not None:
        return f"stays: {lane.kept}{expired}"
    if not yes:
        return f"can go{expired}"
    return f"removed{expired}" if lane.topic in removed else "stays: a record came in meanwhile"


def _day(at_ms: int | None) -> str:
    return "-" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
