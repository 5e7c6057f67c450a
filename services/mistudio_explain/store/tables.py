"""The tables of the aggregator's rows."""

from mistudio_explain.aggregation.stage import COUNTER_NAMES
from mistudio_explain.store.database import Database, Table
from mistudio_explain.store.versions import marked_version

OUTCOME = Table(
    "outcome",
    key=("job", "place"),
    texts=("job", "place", "sha", "counters", "cell"),
    numbers=("strength", "revision", "pass", "validator", "background", "at_ms", "body"),
)
"""Which outcome of a feature counts, and what it adds to its job; `place` is the feature's key such that places sort as features do."""
BODY = Table("body", key=("id",), numbers=("id",), bytes=("body",))
"""The bytes of outcomes, apart, so that rows are found and counted without them."""
CARD = Table(
    "card",
    key=("id",),
    texts=("tenant", "cell", "job", "place", "words"),
    numbers=("id", "at_ms"),
    reals=("quality", "accuracy", "confidence"),
    optional_texts=("target_model", "explainer", "layer", "label", "said", "review"),
    indexes=tuple(("tenant", "cell", *order, "job", "place") for order in ((), ("quality",), ("accuracy",), ("confidence",), ("at_ms",))),
    searched="words",
)
"""What lists of explanations show of an outcome, and what it is found by (store/cards.py); its id is that of the outcome's bytes."""
TALLY = Table("tally", key=("job", "cell"), texts=("job", "cell", "tenant"), numbers=("n",), indexes=(("tenant",),))
"""How many cards there are of a job and cell."""
ADD_TALLY = "insert into tally(job, cell, tenant, n) values(?, ?, ?, ?) on conflict(job, cell) do update set n = tally.n + excluded.n"
ADMISSION = Table(
    "admission", key=("job", "place"), texts=("job", "place"), numbers=("revision", "at_ms"), optional_texts=("topic",), optional_numbers=("part", "offs")
)
"""The first admission of each feature."""
PART = Table("part", key=("job", "part"), texts=("job", "part"), numbers=("revision", "at_ms"), bytes=("body",))
"""The newest record of each part of a job."""
JOB = Table(
    "job",
    key=("job",),
    texts=("job", "tenant"),
    numbers=("revision", "admitted", "dirty", "buried", *COUNTER_NAMES),
    optional_texts=("find_job", "model", "status"),
    optional_numbers=("first_ms", "last_ms"),
)
"""A job's numbers, which are those of its rows."""
REVIEW = Table("review", key=("job", "place"), texts=("job", "place", "verdict"), numbers=("at_ms",), bytes=("body",))
"""The newest review of each feature, whether or not anything else is known of it."""
NOTE = Table("note", key=("job", "said"), texts=("job", "said"))
"""What a job's numbers cannot know."""
POSITION = Table("position", key=("topic", "part"), texts=("topic",), numbers=("part", "next"))
"""The next offset to read."""
SOURCE = Table("source", key=("topic",), texts=("topic", "cluster", "id"))
"""Which topics the rows come from."""
OUTBOX = Table("outbox", key=("topic", "key"), texts=("topic", "key"), numbers=("times",))
"""Keys whose record in the topic is not what the store says, and how often that was noticed."""

VERSION = 3
"""Of these tables as a whole. Version 1 is that of release 0.1.0, a SQLite file alone; version 2 has no cards."""

_ALL = (OUTCOME, BODY, CARD, TALLY, ADMISSION, PART, JOB, REVIEW, NOTE, POSITION, SOURCE, OUTBOX)


def make_tables(database: Database) -> None:
    """Make the tables that are not there yet. The database's own error says that another version made them."""
    for table in _ALL:
        database.make(table)
        database.all(f"select {', '.join(table.columns)} from {table.name} limit 0")  # noqa: S608


def version_of(database: Database) -> int | None:
    """The version of the store's tables; None where there are none. Those from before versions were written down are told by their columns."""
    marked, columns = marked_version(database), database.columns_of("outcome")
    if marked is not None or not columns:
        return marked
    return 1 if "feature" in columns else 3 if "cell" in columns else 2


def place_of(feature_key: str) -> str:
    """Name a feature such that numbers sort before names and in their own order."""
    return f"0{len(feature_key):03d}{feature_key}" if feature_key.isascii() and feature_key.isdigit() else f"1{feature_key}"


def feature_at(place: str) -> str:
    """The feature key that a place was made of."""
    return place[4:] if place[0] == "0" else place[1:]
