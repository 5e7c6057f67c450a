"""Where a stream of events stands, as the id of an event: the next offset of every partition that streams are made of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Self

from mistudio_explain.errors import BadInput
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS

_LONGEST = 4_000  # characters; 100 partitions with offsets of 12 digits have 1,300
_FORM = re.compile(r"([0-9a-f]{8})\.([0-9]{1,19}(?:-[0-9]{1,19})*)\.([0-9]{1,19}(?:-[0-9]{1,19})*)")


@dataclass(frozen=True, slots=True)
class Position:
    """Everything before these offsets was seen; `log` names the log that they count in, 8 hex digits.

    A partition that is missing at the end was added since, so that nothing of it was seen.
    """

    log: str
    reports: tuple[int, ...]
    explanations: tuple[int, ...]

    @classmethod
    def of(cls, log: str, offsets: Mapping[str, Sequence[int]]) -> Self:
        """A position out of the next offsets of each topic, by partition."""
        return cls(log, tuple(offsets[REPORTS]), tuple(offsets[EXPLANATIONS]))

    @classmethod
    def read(cls, text: str) -> Self:
        """A position as a client sends it back; raises BadInput for anything that is none."""
        found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise BadInput("Last-Event-ID is no id of this gateway's events; leave it out to begin anew")
        log, reports, explanations = found.groups()
        return cls(log, tuple(map(int, reports.split("-"))), tuple(map(int, explanations.split("-"))))

    def __str__(self) -> str:
        return f"{self.log}.{'-'.join(map(str, self.reports))}.{'-'.join(map(str, self.explanations))}"

    def offsets(self, topic: str) -> tuple[int, ...]:
        """The next offsets of a topic, by partition."""
        return self.reports if topic == REPORTS else self.explanations

    def next_of(self, topic: str, partition: int) -> int:
        """The next offset of a partition."""
        offsets = self.offsets(topic)
        return offsets[partition] if partition < len(offsets) else 0

    def after(self, topic: str, partition: int, offset: int) -> Self:
        """The position once a record was seen too."""
        offsets = [*self.offsets(topic)]
        offsets += [0] * (partition + 1 - len(offsets))
        offsets[partition] = max(offsets[partition], offset + 1)
        return replace(self, reports=tuple(offsets)) if topic == REPORTS else replace(self, explanations=tuple(offsets))

    def joined(self, other: Self) -> Self:
        """The position of whoever has seen what either has seen; both count in one log."""
        return replace(self, reports=_greater(self.reports, other.reports), explanations=_greater(self.explanations, other.explanations))

    def has_seen(self, other: Self, topics: Sequence[str]) -> bool:
        """Whether everything of these topics that `other` has seen was seen."""
        return all(ours >= theirs for topic in topics for ours, theirs in zip_longest(self.offsets(topic), other.offsets(topic), fillvalue=0))

    def beyond(self, other: Self, topics: Sequence[str]) -> int:
        """How many offsets of these topics lie between `other` and here."""
        return sum(max(0, ours - theirs) for topic in topics for ours, theirs in zip_longest(self.offsets(topic), other.offsets(topic), fillvalue=0))


def _greater(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(pair) for pair in zip_longest(ours, theirs, fillvalue=0))
