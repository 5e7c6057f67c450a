"""Brings an older store's tables to this version, step by step."""

from collections import Counter

from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.store.cards import Details, values_of, with_review
from mistudio_explain.store.database import Database
from mistudio_explain.store.tables import ADD_TALLY, CARD, TALLY, VERSION, make_tables, version_of
from mistudio_explain.store.versions import Steps, bring_forward, must_not_be_newer

_AT_ONCE = 1000


def take_over(database: Database, *, where: object) -> None:
    """Make the store's tables, or bring those of an older version forward: all or nothing. Raises NewerStore."""
    with database.transaction():
        bring_forward(database, version_of(database), VERSION, STEPS, where=where)
        make_tables(database)


def must_be_of_this_version(database: Database, *, where: object) -> None:
    """For those who only read a store. Raises NewerStore, Unreachable for an older one until it is taken over, BadSettings where there is none."""
    found = version_of(database)
    if found is None:
        raise BadSettings(f"{where}: is no store; check store.url, or start an aggregator, which makes one")
    must_not_be_newer(found, VERSION, where=where)
    if found < VERSION:
        raise Unreachable(f"{where}: an older version made its tables, and they are not taken over by an aggregator of this version yet; start one")


def _make_cards(database: Database) -> None:
    """Give tables of version 2 the cards of version 3; about three minutes for a million outcomes, during which they can be read as they were."""
    database.run("alter table outcome add column cell text not null default ''")
    for table in (CARD, TALLY):
        database.make(table)
    after = ("", "")
    while (last := _made_cards(database, after)) is not None:
        after = last


def _made_cards(database: Database, after: tuple[str, str]) -> tuple[str, str] | None:
    """Make the next cards, in the order of jobs and features; returns the last one's job and place."""
    query = (
        "select o.job, o.place, o.body, o.at_ms, j.tenant, r.verdict, b.body from outcome o join body b on b.id = o.body join job j on j.job = o.job "
        "left join review r on r.job = o.job and r.place = o.place where (o.job, o.place) > (?, ?) order by o.job, o.place limit ?"
    )
    cards, cells, tally = [], [], Counter[tuple[str, str, str]]()
    for job, place, number, at_ms, tenant, review, body in database.all(query, (*after, _AT_ONCE)):
        details = Details.of(decode(FeatureOutcome, body))
        cell = with_review(details.cell, is_reviewed=review is not None)
        cards.append(values_of(details, tenant=tenant, cell=cell, job=job, place=place, number=number, at_ms=at_ms, review=review))
        cells.append((cell, job, place))
        tally[job, cell, tenant] += 1
    if not cells:
        return None
    database.put(CARD, cards)
    database.run_many("update outcome set cell = ? where job = ? and place = ?", cells)
    database.run_many(ADD_TALLY, [(*key, n) for key, n in tally.items()])
    return cells[-1][1:]


STEPS: Steps = {2: _make_cards}
"""Version 1, a file of release 0.1.0, is carried over into a new file instead (store/from_0_1_0.py)."""
