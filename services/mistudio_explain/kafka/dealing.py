"""Who reads which partitions of the lanes: each lane evenly, and as few as possible change hands.

aiokafka's round robin deals all anew whenever a worker comes or goes: of 12 partitions 9 moved when a fourth worker came to three,
and every call in flight for them was cut off and made again. Its sticky assignor evens out the sum over all topics, so that a
worker can get its share in lanes that have nothing to do.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import orjson
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

Held = Mapping[str, Sequence[int]]
"""Partitions by topic."""


def deal(topics: Held, members: Mapping[str, Held], subscribed: Mapping[str, Iterable[str]]) -> dict[str, dict[str, list[int]]]:
    """Deal the partitions of topics among members, who say what they hold now.

    Of each topic no member gets two more than another; of those that get one more, whoever holds it already comes first, then
    who has fewest of all topics, then the name. Each member keeps as much of what it holds as its share has room for.
    """
    dealt: dict[str, dict[str, list[int]]] = {member: {} for member in members}
    for topic in sorted(topics):
        there = sorted(member for member in members if topic in subscribed[member])
        if not there:
            continue
        owners = {partition: member for member in there for partition in members[member].get(topic, ())}  # of two that claim one, the last
        held = {member: [partition for partition in topics[topic] if owners.get(partition) == member] for member in there}
        share, more = divmod(len(topics[topic]), len(there))
        first = sorted(there, key=lambda member: (len(held[member]) <= share, sum(map(len, dealt[member].values())), member))
        room = {member: share + (number < more) for number, member in enumerate(first)}
        kept = {member: held[member][: room[member]] for member in there}
        free = iter(sorted(set(topics[topic]) - set(chain.from_iterable(kept.values()))))
        for member in there:
            mine = sorted([*kept[member], *(next(free) for _ in range(room[member] - len(kept[member])))])
            if mine:
                dealt[member][topic] = mine
    return dealt


class Dealing:
    """`deal` as an assignor of aiokafka, for one consumer: it tells the group what this one holds."""

    name = "mistudio-explain.dealing"
    _version = 0

    def __init__(self) -> None:
        self._held: dict[str, list[int]] = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this consumer says when it joins."""
        return ConsumerProtocolMemberMetadata(self._version, list(topics), orjson.dumps(self._held))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Take note of what this consumer holds from now on."""
        self._held = {topic: list(partitions) for topic, partitions in assignment.assignment}

    def assign(self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Deal for all members; the group's leader is asked."""
        subscribed = {member: frozenset(said.subscription) for member, said in members.items()}
        wanted = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in frozenset(chain.from_iterable(subscribed.values()))}
        held = {member: _held(said.user_data) for member, said in members.items()}
        dealt = deal(wanted, held, subscribed)
        return {member: ConsumerProtocolMemberAssignment(self._version, sorted(mine.items()), b"") for member, mine in dealt.items()}


def _held(said: bytes | None) -> Held:
    return orjson.loads(said) if said else {}
