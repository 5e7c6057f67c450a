"""The AsyncAPI 3 description of the topics, out of the events and of how topics are made; the gateway serves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mistudio_explain.events import topics as names
from mistudio_explain.events.avro import schema_of
from mistudio_explain.events.explanation import (
    DeadLetter,
    EscalationCandidate,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    FeatureReviewed,
    TokenChunk,
)
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import Admission, JobBackground, JobEvent, JobReport, PartitionPaused
from mistudio_explain.events.model import Record
from mistudio_explain.kafka.topics import TopicSpec, lane_spec, topic_specs
from mistudio_explain.settings import Settings

_LANES = names.PROMPTS_PREFIX + "{lane}"
_AVRO = "application/vnd.apache.avro+json;version=1.9.0"  # as the AsyncAPI specification 3.0.0 names it, "Multi Format Schema Object"
_BINDING = "0.5.0"  # of the Kafka bindings
_ENCODING = (
    "Avro single-object encoding: C3 01, the CRC-64-AVRO fingerprint of the writer's schema, the event in Avro binary. "
    "An empty value (a tombstone) on a compacted topic takes back what stood under its key."
)

Action = Literal["receive", "send"]


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic: its event, what its key is, and whether this product reads it, writes it or both."""

    topic: str
    event: type[Record]
    key: str
    actions: Sequence[Action]
    what: str


CHANNELS = (
    Channel(names.FEATURES, FeatureFound, "target model", ("receive",), "Features to explain, from upstream."),
    Channel(names.REQUESTS, FeatureFound, "event id", ("receive", "send"), "One feature that a person waits for."),
    Channel(names.REPLAYS, FeatureFound, "target model", ("receive", "send"), "Features to explain again."),
    Channel(names.JOBS, JobEvent, "job|part", ("receive", "send"), "What was asked and ordered of jobs, by upstream, people and services."),
    Channel(names.ADMISSIONS, Admission, "job|feature", ("receive", "send"), "Features that entered a job."),
    Channel(names.BACKGROUNDS, JobBackground, "tenant|find job", ("receive", "send"), "What a find job's features are told apart from."),
    Channel(_LANES, ExplanationRequested, "event id", ("receive", "send"), "Prompts: a topic for each target model, and the lanes express and shared."),
    Channel(names.TOKENS, TokenChunk, "event id", ("receive", "send"), "Pieces of answers that people wait for."),
    Channel(names.DRAFTS, ExplanationDrafted, "job|feature", ("receive", "send"), "Explanations that nobody has checked yet."),
    Channel(names.ESCALATIONS, EscalationCandidate, "job|feature", ("receive", "send"), "Outcomes that deserve a second pass."),
    Channel(names.EXPLANATIONS, FeatureOutcome, "job|feature", ("receive", "send"), "How each feature left its job, for downstream."),
    Channel(names.REVIEWS, FeatureReviewed, "job|feature", ("receive", "send"), "What people said of explanations."),
    Channel(names.REPORTS, JobReport, "job", ("receive", "send"), "Each job in numbers, for downstream."),
    Channel(names.RETRY_SHORT, DeadLetter, "topic/partition/offset of the source", ("receive", "send"), "Records that are tried again soon."),
    Channel(names.RETRY_LONG, DeadLetter, "topic/partition/offset of the source", ("receive", "send"), "Records that are tried again later."),
    Channel(names.DEAD_LETTERS, DeadLetter, "topic/partition/offset of the source", ("receive", "send"), "Records that were given up."),
    Channel(names.PAUSES, PartitionPaused, "service|topic/partition", ("receive", "send"), "Partitions that a service reads no further."),
)


def document(settings: Settings, version: str) -> dict[str, Any]:
    """The description for a version of the product; partitions, retention and sizes are those of the settings."""
    specs = {spec.name: spec for spec in topic_specs(settings)} | {_LANES: lane_spec(_LANES, settings)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "miStudioExplain",
            "version": version,
            "description": "The topics by which miStudioExplain gets features and gives explanations. docs/events.md says how to use them.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "avro/binary",
        "channels": {_named(channel): _channel(channel, specs[channel.topic]) for channel in CHANNELS},
        "operations": {
            f"{action}.{_named(channel)}": {"action": action, "channel": {"$ref": f"#/channels/{_named(channel)}"}, "summary": channel.what}
            for channel in CHANNELS
            for action in channel.actions
        },
        "components": {"messages": {channel.event.__name__: _message(channel.event) for channel in CHANNELS}},
    }


def _named(channel: Channel) -> str:
    return channel.topic.removeprefix("mistudio.").replace("{lane}", "lane")


def _channel(channel: Channel, spec: TopicSpec) -> dict[str, Any]:
    configured: dict[str, Any] = {"cleanup.policy": spec.cleanup.split(","), "max.message.bytes": int(spec.config["max.message.bytes"])}
    if spec.retention_ms is not None:
        configured["retention.ms"] = spec.retention_ms
    lane = {"lane": {"description": "The target model as a topic's part (identity.lane_name), express or shared."}}
    return {
        "address": channel.topic,
        "description": f"{channel.what} The key is {channel.key}, in UTF-8.",
        "messages": {channel.event.__name__: {"$ref": f"#/components/messages/{channel.event.__name__}"}},
        **({"parameters": lane} if channel.topic == _LANES else {}),
        "bindings": {"kafka": {"partitions": spec.partitions, "topicConfiguration": configured, "bindingVersion": _BINDING}},
    }


def _message(event: type[Record]) -> dict[str, Any]:
    schema = schema_of(event)
    return {
        "name": event.__name__,
        "summary": schema["doc"],
        "description": _ENCODING,
        "payload": {"schemaFormat": _AVRO, "schema": schema},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": _BINDING}},
    }
