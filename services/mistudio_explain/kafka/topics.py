"""Which topics there are, and how each is configured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mistudio_explain.events import topics as names
from mistudio_explain.settings import Settings

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
ENVELOPE_BYTES = 64 << 10  # what key, headers and the batch add to a value that is at its limit

Cleanup = Literal["delete", "compact", "compact,delete"]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `retention_ms` is absent for compacted topics; `max_bytes` bounds one value."""

    name: str
    partitions: int
    cleanup: Cleanup
    max_bytes: int
    retention_ms: int | None = None
    broker_time: bool = False
    """Whether records carry the broker's time instead of their writer's."""

    @property
    def config(self) -> Mapping[str, str]:
        """The topic's configuration in Kafka's words."""
        config = {"cleanup.policy": self.cleanup, "max.message.bytes": str(self.max_bytes + ENVELOPE_BYTES)}
        if self.broker_time:
            config["message.timestamp.type"] = "LogAppendTime"
        return config if self.retention_ms is None else {**config, "retention.ms": str(self.retention_ms)}


def topic_specs(settings: Settings) -> tuple[TopicSpec, ...]:
    """All topics but the lanes of single target models."""
    n, limits = settings.kafka.partitions, settings.limits
    public, internal, dead = limits.event_bytes, limits.internal_bytes, limits.dead_letter_bytes
    return (
        TopicSpec(names.FEATURES, n, "delete", public, 30 * _DAY_MS),  # its key is no identity: compaction would lose features
        TopicSpec(names.REQUESTS, n, "delete", public, 7 * _DAY_MS),
        TopicSpec(names.REPLAYS, n, "delete", public, 30 * _DAY_MS),
        TopicSpec(names.JOBS, 1, "compact", internal),
        TopicSpec(names.ADMISSIONS, n, "delete", internal, 30 * _DAY_MS),
        TopicSpec(names.BACKGROUNDS, 1, "compact", internal),
        lane_spec(names.EXPRESS, settings),
        lane_spec(names.SHARED, settings),
        TopicSpec(names.TOKENS, 1, "delete", internal, _HOUR_MS),
        TopicSpec(names.DRAFTS, n, "delete", internal, 30 * _DAY_MS),
        TopicSpec(names.ESCALATIONS, 1, "delete", internal, 30 * _DAY_MS),
        TopicSpec(names.EXPLANATIONS, n, "compact", internal),
        TopicSpec(names.REVIEWS, 1, "compact", internal),
        TopicSpec(names.REPORTS, 1, "compact", internal),
        TopicSpec(names.RETRY_SHORT, 1, "delete", dead, 14 * _DAY_MS, broker_time=True),
        TopicSpec(names.RETRY_LONG, 1, "delete", dead, 14 * _DAY_MS, broker_time=True),
        TopicSpec(names.DEAD_LETTERS, 1, "compact,delete", dead, 30 * _DAY_MS),
        TopicSpec(names.PAUSES, 1, "compact", internal),
    )


def lane_spec(topic: str, settings: Settings) -> TopicSpec:
    """The topic of one lane."""
    return TopicSpec(topic, settings.kafka.lane_partitions, "delete", settings.limits.internal_bytes, 30 * _DAY_MS)
