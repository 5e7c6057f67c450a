"""The tables of the aggregator's rows."""

from mistudio_explain.aggregation.stage import COUNTER_NAMES
from mistudio_explain.store.database import Database

_TABLES = (
    # which outcome of a feature counts, and what it adds to its job; `place` is the feature's key such that places sort as features do
    "outcome(job text not null, place text not null, strength bigint not null, revision bigint not null, pass bigint not null, validator bigint not null, "
    "background bigint not null, sha text not null, at_ms bigint not null, counters text not null, body bigint not null, primary key(job, place)) {narrow}",
    # the bytes of outcomes, apart, so that rows are found and counted without them
    "body(id {id} primary key, body bytea not null)",
    "admission(job text not null, place text not null, topic text, part bigint, offs bigint, revision bigint not null, at_ms bigint not null, "
    "primary key(job, place)) {narrow}",
    "part(job text not null, part text not null, revision bigint not null, at_ms bigint not null, body bytea not null, primary key(job, part))",
    "job(job text primary key, tenant text not null, find_job text, model text, revision bigint not null, admitted bigint not null, first_ms bigint, "
    "last_ms bigint, dirty bigint not null, buried bigint not null, status text, {counters}) {narrow}",
    "note(job text not null, said text not null, primary key(job, said)) {narrow}",
    "position(topic text not null, part bigint not null, next bigint not null, primary key(topic, part)) {narrow}",
    "source(topic text primary key, cluster text not null, id text not null) {narrow}",
    # keys whose record in the topic is not what the store says, and how often that was noticed
    "outbox(topic text not null, key text not null, times bigint not null, primary key(topic, key)) {narrow}",
)


def make_tables(database: Database) -> None:
    """Make the tables that are not there yet."""
    counters = ", ".join(f"{name} bigint not null" for name in COUNTER_NAMES)
    for table in _TABLES:
        typed = table.replace(" text", f" {database.text_type}")
        database.run("create table if not exists " + typed.format(narrow=database.narrow, id=database.id_type, counters=counters))
    database.all("select job.buried, outbox.times, source.id from job, outbox, source limit 0")  # an error where another version made the tables


def place_of(feature_key: str) -> str:
    """Name a feature such that numbers sort before names and in their own order."""
    return f"0{len(feature_key):03d}{feature_key}" if feature_key.isascii() and feature_key.isdigit() else f"1{feature_key}"


def feature_at(place: str) -> str:
    """The feature key that a place was made of."""
    return place[4:] if place[0] == "0" else place[1:]
