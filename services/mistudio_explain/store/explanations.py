"""What people ask of explanations: pages of a filtered and ordered list, how many cards each filter would leave, a feature's history.

    with reading(settings.store) as store:  # one connection for each thread
        filters = Filters(verdicts=frozenset({"confirmed"}), text="python imp")
        page = store.explanations("default", job="explain_1", filters=filters, order=Order.QUALITY, descending=True, limit=50)
        page.cards, page.next  # pass `next` as `cursor`, all else the same, until it is absent
        store.counts("default", job="explain_1", filters=filters)
        store.feature("default", "explain_1", "5")
        store.history("default", "5", find_job="find_1")

All is one tenant's: what belongs to another is as if it were not there. A cursor names a place in the order, not a card, so that
cards which come or go meanwhile neither repeat others nor hide them.

No question looks at many more than `LOOKED_AT` cards. A longer list is walked along an index in its order; where filters leave
hardly any of it, a page may come with fewer cards than asked for, even none, and with a cursor to look on from.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from mistudio_explain.errors import BadInput
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.store.cards import FACETS, READ, Card, Filters, Order, card_at, facets_of
from mistudio_explain.store.database import Database
from mistudio_explain.store.listing import BadCursor, Condition, Key, Listing, joined, stored
from mistudio_explain.store.tables import CARD, place_of

__all__ = ["LOOKED_AT", "MOST", "BadCursor", "Card", "Counts", "ExplanationQueries", "Filters", "Order", "Page"]

MOST = 500
"""Cards in a page."""
LOOKED_AT = 10_000
_FEW = 5_000
"""So many cards are put in order faster than they are found along an index."""
_INDEXED = 3
"""Bytes of a beginning from which on the index of words is asked: shorter ones begin a word of almost every card."""
_MOST_BRANCHES = 400  # SQLite takes 500


@dataclass(frozen=True, slots=True)
class Page:
    """Cards in their order; `next` is the cursor of those after them, absent at the end."""

    cards: list[Card]
    next: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cards meet all filters, and by facet and value, how many would with that value alone chosen in the facet."""

    total: int
    by: dict[str, dict[str, int]]
    """outcome, category, verdict, safety, flagged (yes, no), reviewed (yes, no); `none` for cards that have no such value."""
    is_whole: bool
    """Whether all were counted; otherwise there are at least so many."""


class ExplanationQueries:
    """Questions about explanations, to the rows behind one connection."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def explanations(
        self,
        tenant: str,
        *,
        job: str | None = None,
        filters: Filters = Filters(),  # noqa: B008  (frozen)
        order: Order = Order.FEATURE,
        descending: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """A page of the list of a job, or of all jobs of the tenant. Raises BadCursor, and BadInput for a limit that is not 1 to `MOST`."""
        if not 1 <= limit <= MOST:
            raise BadInput(f"a page has 1 to {MOST} explanations, not {limit}")
        listing = Listing(tenant, job, filters, order, descending, self._db.contains("words"))
        after = None if cursor is None else listing.key_of(cursor)
        cells = {cell: n for cell, n in self._cells(tenant, job).items() if filters.takes(cell)}
        few = self._few(listing, cells)
        if few is not None:
            found = self._sorted(listing, few, after, limit + 1)
            last = found[limit - 1][0] if len(found) > limit else None
        else:
            found, last = self._walked(listing, list(cells), after, limit)
        return Page(self._cards([number for _, number in found[:limit]]), None if last is None else listing.cursor_at(last))

    def counts(self, tenant: str, *, job: str | None = None, filters: Filters = Filters()) -> Counts:  # noqa: B008  (frozen)
        """How many cards of a job, or of all jobs of the tenant, meet filters, and how many each choice would leave."""
        listing = Listing(tenant, job, filters, Order.FEATURE, descending=False, contains=self._db.contains("words"))
        cells, is_whole = self._cells(tenant, job), True
        if not listing.is_of_cells:
            few = self._few(listing, cells)
            is_whole = few is not None or sum(cells.values()) <= LOOKED_AT
            cells = self._counted(listing, few or self._in_cells(listing, cells))
        by = {
            facet: _summed({cell: n for cell, n in cells.items() if replace(filters, **{field: empty}).takes(cell)}, number)
            for number, (facet, (field, empty)) in enumerate(FACETS.items())
        }
        return Counts(sum(n for cell, n in cells.items() if filters.takes(cell)), by, is_whole)

    def feature(self, tenant: str, job: str, feature_key: str) -> FeatureOutcome | None:
        """The outcome of a feature, with its newest review; None when there is none."""
        query = (
            "select b.body, r.body from outcome o join card c on c.id = o.body join body b on b.id = o.body "
            "left join review r on r.job = o.job and r.place = o.place where o.job = ? and o.place = ? and c.tenant = ?"
        )
        row = self._db.one(query, (job, place_of(feature_key), tenant))
        if row is None:
            return None
        outcome = decode(FeatureOutcome, row[0])
        return outcome if row[1] is None else outcome.model_copy(update={"review": decode(FeatureReviewed, row[1])})

    def history(self, tenant: str, feature_key: str, *, find_job: str | None = None, target_model: str | None = None) -> list[Card]:
        """A feature in all jobs that explain a find job (or, without one, a target model), the newest first; at most `MOST`."""
        column, value = ("model", target_model) if find_job is None else ("find_job", find_job)
        columns = ", ".join(f"c.{each}" for each in READ)
        query = (
            f"select {columns} from job j join outcome o on o.job = j.job and o.place = ? join card c on c.id = o.body "  # noqa: S608
            f"where j.tenant = ? and j.{column} = ? order by c.at_ms desc, c.job limit {MOST}"
        )
        return [card_at(row) for row in self._db.all(query, (place_of(feature_key), tenant, value))]

    def _cells(self, tenant: str, job: str | None) -> dict[str, int]:
        """How many cards there are in each cell."""
        where, values = joined([("tenant = ?", (tenant,)), *([] if job is None else [("job = ?", (job,))])])
        query = f"select cell, sum(n) from tally where {where} group by cell having sum(n) > 0"  # noqa: S608
        return {cell: int(n) for cell, n in self._db.all(query, values)}

    def _few(self, listing: Listing, cells: Mapping[str, int]) -> list[Condition] | None:
        """What picks few cards, among them all of the list, which go through a sort or a count; None when nothing does."""
        if sum(cells.values()) <= _FEW:
            if listing.job is None:
                return self._in_cells(listing, cells)
            of_job = "id in (select body from outcome where job = ?)", (stored(listing.job),)
            return [of_job, *self._in_cells(listing, cells, as_text=" || ''")]  # lest an index of these be taken for that of ids
        beginnings = [term for term in listing.filters.terms if len(term.encode()) >= _INDEXED]
        if not beginnings:
            return None
        found, upto = self._db.searched(CARD, beginnings, _FEW + 1)
        if len(found) > _FEW or self._db.unindexed(CARD) > LOOKED_AT:
            return None
        among = f"({self._db.among('id')} or id > ?)", (self._db.listed(found), upto)
        return [among, *self._in_cells(listing, cells, as_text=" || ''")]

    def _in_cells(self, listing: Listing, cells: Iterable[str], *, as_text: str = "") -> list[Condition]:
        job = [] if listing.job is None else [(f"job{as_text} = ?", (stored(listing.job),))]
        return [(f"tenant{as_text} = ?", (listing.tenant,)), (self._db.among(f"cell{as_text}"), (self._db.listed(cells),)), *job]

    def _sorted(self, listing: Listing, few: list[Condition], after: Key | None, limit: int) -> list[tuple[Key, int]]:
        """The next cards of the list: their keys and ids."""
        where, values = joined([*few, *listing.along, *listing.across, *listing.after(after)])
        query = f"select {', '.join(listing.columns)}, id from card where {where} order by {listing.ordering} limit {limit}"  # noqa: S608
        return [((*key,), number) for *key, number in self._db.all(query, values)]

    def _walked(self, listing: Listing, cells: list[str], after: Key | None, limit: int) -> tuple[list[tuple[Key, int]], Key | None]:
        """The same along an index, and the key to go on from: that of the last card looked at, absent at the end of the list."""
        fits, fit = joined(listing.across)
        ways = [("cell = ?", (cell,)) for cell in cells] if len(cells) <= _MOST_BRANCHES else [(self._db.among("cell"), (self._db.listed(cells),))]
        branches = [joined([("tenant = ?", (listing.tenant,)), way, *listing.along, *listing.after(after)]) for way in ways]
        chosen = f"select {', '.join(listing.columns)}, id, case when {fits} then 1 else 0 end as fits from card where"  # noqa: S608
        most = LOOKED_AT if listing.across else limit
        bounds = f"order by {listing.ordering} limit {most + 1}"
        query = " union all ".join(self._db.merged(f"{chosen} {where}", bounds) for where, _ in branches) + f" {bounds}"
        found: list[tuple[Key, int]] = []
        last, looked_at = None, 0
        with closing(self._db.stream(query, tuple(value for _, values in branches for value in (*fit, *values)))) as rows:
            for *key, number, is_fitting in rows:
                if len(found) == limit or looked_at == most:
                    return found, last
                looked_at, last = looked_at + 1, (*key,)
                if is_fitting:
                    found.append((last, number))
        return found, None

    def _counted(self, listing: Listing, within: list[Condition]) -> dict[str, int]:
        """How many of the cards that meet a condition are in the list, by cell."""
        (where, values), (fits, fit) = joined(within), joined([*listing.along, *listing.across])
        looked_at = f"select cell, case when {fits} then 1 else 0 end as fits from card where {where} limit {LOOKED_AT}"  # noqa: S608
        rows = self._db.all(f"select cell, count(*) from ({looked_at}) as looked_at where fits = 1 group by cell", (*fit, *values))  # noqa: S608
        return {cell: int(n) for cell, n in rows}

    def _cards(self, ids: list[int]) -> list[Card]:
        query = f"select id, {', '.join(READ)} from card where {self._db.among('id')}"  # noqa: S608
        cards = {number: card_at(row) for number, *row in self._db.all(query, (self._db.listed(ids),))}
        return [cards[number] for number in ids if number in cards]


def _summed(cells: Mapping[str, int], facet: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for cell, n in cells.items():
        name = facets_of(cell)[facet]
        counts[name] = counts.get(name, 0) + n
    return counts
