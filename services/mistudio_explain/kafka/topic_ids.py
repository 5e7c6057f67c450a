"""Asks Kafka for the ids of topics and of the cluster: a topic that was deleted and made again has another one.

aiokafka 0.14 speaks no version of the Metadata request that has topic ids, so version 12 is written out here.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

_TEXT = CompactString("utf-8")


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka is not typed
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _Answer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields))),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("auto_create", Boolean),
        ("operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdRequest(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, version: type[_Question]) -> _Question:
        return version([(bytes(16), topic, {}) for topic in self._topics], False, False, {})


@dataclass(frozen=True, slots=True)
class TopicId:
    """Which topic of which cluster a name means; both ids as Kafka's own tools print them."""

    cluster: str
    topic: str


async def topic_ids(client: Any, topics: Iterable[str]) -> dict[str, TopicId]:
    """The id of each topic, asked by an aiokafka client. Raises KafkaError when one does not exist or may not be seen."""
    answer = await client.send(client.get_random_node(), _TopicIdRequest(topics))
    ids = {}
    for code, name, topic_id, *_ in answer.topics:
        if code:
            raise for_code(code)(name)
        ids[name] = TopicId(answer.cluster_id, base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode())
    return ids
