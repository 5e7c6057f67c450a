"""A list of cards that somebody asks for, in SQL: what is in it, in which order, and where in it a cursor stands."""

import base64
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import orjson

from mistudio_explain.errors import BadInput
from mistudio_explain.store.cards import Between, Filters, Order

Condition = tuple[str, tuple[Any, ...]]
"""A condition in SQL and its values."""
Key = tuple[Any, ...]
"""A place in the order: what the list is ordered by, then job and place."""

_COLUMN = {Order.QUALITY: "quality", Order.ACCURACY: "accuracy", Order.CONFIDENCE: "confidence", Order.CHANGED: "at_ms"}
_CHARACTERS = 2000
"""Of a cursor; job and feature may have 601 together."""


class BadCursor(BadInput):
    """A cursor is none, or belongs to another list."""


@dataclass(frozen=True)
class Listing:
    """The cards of a tenant, or of one of its jobs, that meet filters, in an order."""

    tenant: str
    job: str | None
    filters: Filters
    order: Order
    descending: bool
    contains: str
    """The condition that the words of a card contain a text."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What it is ordered by; no two cards are equal in all of it."""
        return (*((_COLUMN[self.order],) if self.order in _COLUMN else ()), "job", "place")

    @cached_property
    def ordering(self) -> str:
        """The order."""
        return ", ".join(f"{column} desc" if self.descending else column for column in self.columns)

    @cached_property
    def along(self) -> list[Condition]:
        """Conditions that an index in this order meets by where one starts and stops in it."""
        return [each for column, each in self._ranges if column == self.columns[0]] + ([self._of_job] if self.job and self.order is Order.FEATURE else [])

    @cached_property
    def across(self) -> list[Condition]:
        """Conditions beyond those and the cells', which are looked up card by card."""
        filters = self.filters
        named = [(column, getattr(filters, column)) for column in ("target_model", "explainer", "layer")]
        return [
            *([self._of_job] if self.job and self.order is not Order.FEATURE else []),
            *(each for column, each in self._ranges if column != self.columns[0]),
            *((f"{column} = ?", (stored(value),)) for column, value in named if value is not None),
            *((self.contains, (f" {term}",)) for term in filters.terms),
        ]

    @property
    def is_of_cells(self) -> bool:
        """Whether tenant, job and cells alone say what is in it."""
        return not self._ranges and not [each for each in self.across if each != self._of_job]

    def after(self, key: Key | None) -> list[Condition]:
        """The condition that a card stands behind a place in the order."""
        if key is None:
            return []
        return [(f"({', '.join(self.columns)}) {'<' if self.descending else '>'} ({', '.join('?' for _ in key)})", key)]

    def cursor_at(self, key: Key) -> str:
        """A place in this order, for whoever asks on."""
        return base64.urlsafe_b64encode(orjson.dumps([self._digest, *key])).decode().rstrip("=")

    def key_of(self, cursor: str) -> Key:
        """The place that a cursor names. Raises BadCursor for one that this list has not given."""
        try:
            digest, *key = orjson.loads(base64.urlsafe_b64decode(cursor[:_CHARACTERS] + "=" * (-len(cursor) % 4)))
            if digest != self._digest or [type(each) for each in key] != self._types:
                raise ValueError("it belongs to another list")
            return (*(stored(each) if isinstance(each, str) else min(each, 1 << 62) for each in key),)
        except (ValueError, TypeError) as error:
            raise BadCursor("the cursor is not one of this list; a list with other filters or in another order begins without a cursor") from error

    @cached_property
    def _of_job(self) -> Condition:
        return "job = ?", (stored(self.job or ""),)

    @cached_property
    def _ranges(self) -> list[tuple[str, Condition]]:
        ranges: list[tuple[str, Between | None]] = [(column, getattr(self.filters, column)) for column in ("quality", "accuracy", "confidence")]
        return [(column, (f"{column} between ? and ?", (max(0.0, each.least), each.most))) for column, each in ranges if each is not None]

    @property
    def _types(self) -> list[type]:
        return [*({"at_ms": [int]}.get(self.columns[0], [float]) if self.order in _COLUMN else []), str, str]

    @cached_property
    def _digest(self) -> str:
        filters = [sorted(each) if isinstance(each, frozenset) else each for each in astuple(self.filters)]
        asked = (self.tenant, self.job, filters, self.order.value, self.descending)
        return sha256(repr(asked).encode(errors="surrogatepass")).hexdigest()[:16]


def stored(text: str) -> str:
    """A text as it would stand in a store, which has neither NUL nor halves of characters."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def joined(conditions: Sequence[Condition]) -> Condition:
    """All of several conditions."""
    return " and ".join(text for text, _ in conditions) or "1 = 1", tuple(value for _, values in conditions for value in values)
