"""Makes topics and compares them with what they should be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.topics import PROMPTS_PREFIX
from mistudio_explain.kafka.topics import TopicSpec, lane_spec, topic_specs
from mistudio_explain.settings import Settings

_WANTED_REPLICAS = 3
_IN_SYNC_OF_THREE = "2"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a topic is not as it should be."""

    topic: str
    what: str
    wanted: str
    found: str


async def create_topics(admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec], replication: int | None) -> list[str]:
    """Make the topics that are missing; returns the names of those made.

    `replication` None: 3, or as many as there are brokers. Raises Unreachable when the broker refuses one,
    KafkaError when it is away or not ready yet.
    """
    existing = set(await admin.list_topics())
    missing = [spec for spec in specs if spec.name not in existing]
    if not missing:
        return []
    replicas = replication or min(_WANTED_REPLICAS, len((await admin.describe_cluster())["brokers"]))
    durable = {"min.insync.replicas": _IN_SYNC_OF_THREE} if replicas >= _WANTED_REPLICAS else {}
    made = [NewTopic(spec.name, spec.partitions, replicas, topic_configs={**spec.config, **durable}) for spec in missing]
    answer = await admin.create_topics(made)
    refused = [
        (name, for_code(code), message)
        for name, code, message in (row[:3] for row in answer.topic_errors)
        if code and for_code(code) is not TopicAlreadyExistsError
    ]
    if passing := [error(f"making {name}: {message or ''}") for name, error, message in refused if error.retriable]:
        raise passing[0]
    if refused:
        raise Unreachable(
            "the broker refuses to make topics: " + "; ".join(f"{name}: {error.__name__} {message or ''}".strip() for name, error, message in refused)
        )
    return [spec.name for spec in missing]


async def wanted_topics(admin: AIOKafkaAdminClient, settings: Settings) -> list[TopicSpec]:
    """All topics as they should be; of the lanes of target models those that there are."""
    fixed = topic_specs(settings)
    lanes = {topic for topic in await admin.list_topics() if topic.startswith(PROMPTS_PREFIX)} - {spec.name for spec in fixed}
    return [*fixed, *(lane_spec(lane, settings) for lane in sorted(lanes))]


async def compare_topics(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> list[Difference]:
    """Compare partitions and configuration of every topic with its spec; an empty list means all is well."""
    existing = set(await admin.list_topics())
    differences = [Difference(spec.name, "topic", "exists", "missing") for spec in specs if spec.name not in existing]
    present = [spec for spec in specs if spec.name in existing]
    if not present:
        return differences
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics([spec.name for spec in present])}
    configs = await _configs(admin, [spec.name for spec in present])
    for spec in present:
        if partitions[spec.name] != spec.partitions:
            differences.append(Difference(spec.name, "partitions", str(spec.partitions), str(partitions[spec.name])))
        for key, wanted in spec.config.items():
            found = configs.get(spec.name, {}).get(key, "not told")
            if _normal(found) != _normal(wanted):
                differences.append(Difference(spec.name, key, wanted, found))
    return differences


async def _configs(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    return {resource[3]: {entry[0]: entry[1] for entry in resource[4]} for answer in answers for resource in answer.resources}


def _normal(value: str) -> tuple[str, ...]:
    return tuple(sorted(value.split(",")))
