"""Takes over a store that has no cards yet, from before there were any: they are made of the outcomes that it has."""

from collections import Counter

from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.store.cards import Details, values_of, with_review
from mistudio_explain.store.database import Database
from mistudio_explain.store.tables import ADD_TALLY, CARD, TALLY

_AT_ONCE = 1000


def take_over(database: Database) -> None:
    """Give an older store what is missing of this version's, all or nothing; a store of this version, or none, is left as it is.

    About three minutes for a million outcomes, during which the store can be read as it was.
    """
    columns = database.columns_of("outcome")
    if "body" not in columns or "cell" in columns:
        return
    with database.transaction():
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
