"""Reads a group's committed offsets with their metadata, or says that it cannot.

aiokafka 0.14 looks only at the errors of single partitions: a coordinator that is still loading, or a missing
permission, would read as "never committed", and a whole partition would be repeated or never read.
"""

from collections import defaultdict
from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest


async def committed_offsets(admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """Offset and metadata of each partition that has a commit; raises KafkaError when the answer is not to be trusted."""
    by_topic: dict[str, list[int]] = defaultdict(list)
    for tp in partitions:
        by_topic[tp.topic].append(tp.partition)
    coordinator = await admin.find_coordinator(group)
    answer = await admin._send_request(OffsetFetchRequest(group, list(by_topic.items())), coordinator)  # noqa: SLF001  (the public call drops the metadata and the error)
    rows = [(TopicPartition(topic, partition), offset, metadata, error) for topic, entries in answer.topics for partition, offset, metadata, error in entries]
    if code := next((code for code in (getattr(answer, "error_code", 0), *(row[3] for row in rows)) if code), 0):
        raise for_code(code)(f"offsets of group {group}")
    if len(rows) != sum(map(len, by_topic.values())):
        raise KafkaError(f"offsets of group {group}: {len(rows)} partitions answered of {sum(map(len, by_topic.values()))}")
    return {tp: (offset, metadata or "") for tp, offset, metadata, _ in rows if offset >= 0}
