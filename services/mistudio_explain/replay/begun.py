"""Which orders may have been begun by somebody: what the group's commit says beside its offset."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from mistudio_explain.events.job import JobEvent

_UNKNOWN = "?"
_LONGEST = 4000  # Kafka refuses a commit that says more than offset.metadata.max.bytes, 4096


@dataclass(frozen=True, slots=True)
class Begun:
    """The marks of orders of which copies may stand in the topic of replays; None: of any order, since nothing tells."""

    marks: frozenset[str] | None = None

    @classmethod
    def read(cls, metadata: str | None) -> Self:
        """What a commit says; None where there is no commit."""
        if metadata is None or metadata == _UNKNOWN:
            return cls()
        return cls(frozenset(metadata.split("\n")) - {""})

    def may_hold(self, order: JobEvent) -> bool:
        """Whether copies of an order are to be looked for."""
        return self.marks is None or _mark(order) in self.marks

    def and_now(self, order: JobEvent, others: Iterable[JobEvent]) -> Self:
        """What is known once an order is begun; of the others only those that are open still matter."""
        open_marks = frozenset(map(_mark, others))
        return type(self)((open_marks if self.marks is None else self.marks & open_marks) | {_mark(order)})

    @property
    def metadata(self) -> str:
        """As a commit says it."""
        if self.marks is None:
            return _UNKNOWN
        said = "\n".join(sorted(self.marks))
        return said if len(said) <= _LONGEST else _UNKNOWN


def _mark(order: JobEvent) -> str:
    return f"{order.explain_job_id}|{order.revision}"
