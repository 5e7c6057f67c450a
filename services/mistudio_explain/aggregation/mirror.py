"""Whether the store still mirrors its topics, and from where to read on."""

from collections.abc import Mapping
from dataclasses import dataclass

Place = tuple[str, int]
"""A topic and a partition."""

Ids = Mapping[str, tuple[str, str]]
"""Cluster id and topic id of topics."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`broken` says why the store is no mirror of the topics any more, None when it is; `expired` counts the records that were gone before they were read."""

    broken: str | None
    expired: Mapping[Place, int]
    is_blank: bool
    """Whether nothing was read yet of topics that hold something: until it is, the store knows a part of every job."""
    start: Mapping[Place, int]
    """The next offset to read of each partition, when the store is kept."""


def judge(stored: Mapping[Place, int], stored_ids: Ids, ids: Ids, begin: Mapping[Place, int], end: Mapping[Place, int]) -> Judgement:
    """Compare what the store has read with what the log has.

    A topic that was made again, or whose end lies before what was read of it, has lost records that the store still
    counts: only a store that is built anew tells the truth. Records that expired unread are lost to both. `ids` may
    lack topics, on a broker that does not tell.
    """
    made_again = [topic for topic, each in ids.items() if topic in stored_ids and stored_ids[topic] != each]
    cut = [place for place, offset in stored.items() if place in end and offset > end[place]]
    gone = [place for place in stored if place not in end]
    reasons = [
        *(f"{topic} was made again: it was {'/'.join(stored_ids[topic])} and is {'/'.join(ids[topic])}" for topic in made_again),
        *(f"{topic}/{partition} was cut: {stored[topic, partition]} was read and it ends at {end[topic, partition]}" for topic, partition in cut),
        *(f"{topic}/{partition} is gone" for topic, partition in gone),
    ]
    expired = {place: begin[place] - offset for place, offset in stored.items() if place in begin and offset < begin[place]}
    start = {place: max(first, stored.get(place, first)) for place, first in begin.items()}
    is_blank = not stored and any(first < end[place] for place, first in begin.items())
    return Judgement("; ".join(reasons) or None, expired, is_blank, start)
