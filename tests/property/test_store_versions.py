"""Stores and the databases beside them over upgrades and downgrades: rows are kept, or left alone by a version that is too old for them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Answer, Category, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.job import Admission
from mistudio_explain.events.topics import ADMISSIONS, EXPLANATIONS, JOBS
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import beside, tables, takeover
from mistudio_explain.store.audit import Deed, StoredAudit
from mistudio_explain.store.database import Database
from mistudio_explain.store.deliveries import StoredDeliveries
from mistudio_explain.store.jobs import Change, JobStore, open_store, read_outcomes, reading
from mistudio_explain.store.keys import StoredKeys, made
from mistudio_explain.store.seat import Seat
from mistudio_explain.store.versions import NewerStore, Steps

OF_0_1_0 = Path(__file__).parents[1] / "data" / "stores" / "0.1.0.sql"
JOB = "explain_1"
ALL_TABLES = ("outcome", "body", "card", "tally", "admission", "part", "job", "review", "note", "position", "source", "outbox")


def explained(feature: str) -> Change:
    subject = Subject(
        explain_job_id=JOB,
        find_job_id="find_1",
        target_model="m",
        feature_id=feature,
        feature_key=feature,
        category=Category.TECHNICAL,
        category_source="given",
    )
    event = FeatureOutcome(outcome=OutcomeKind.EXPLAINED, subject=subject, answer=Answer(pattern=f"words of {feature}"), explanation=f"words of {feature}")
    return Change(event, encode(event), "", 1000)


def fill(store: JobStore) -> None:
    admitted = Admission(explain_job_id=JOB, feature_key="1", find_job_id="find_1", target_model="m")
    store.apply([Change(admitted, None, "", 900), *(explained(str(n)) for n in range(20))], {(EXPLANATIONS, 0): 20})


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a store, by table."""
    return {table: sorted(database.all(f"select {', '.join(sorted(database.columns_of(table)))} from {table}"), key=repr) for table in ALL_TABLES}


def add_a_column(database: Database) -> None:
    database.run("alter table job add column mood text not null default 'calm'")


@contextmanager
def a_later_version(step: Callable[[Database], None] = add_a_column) -> Iterator[None]:
    """A later version of this program, which made its tables out of these by a step."""
    with pytest.MonkeyPatch.context() as later:
        later.setattr(takeover, "VERSION", tables.VERSION + 1)
        later.setattr(takeover, "STEPS", {**takeover.STEPS, tables.VERSION: step})
        yield


@contextmanager
def a_later_version_beside() -> Iterator[None]:
    """A later version of this program, whose audit log and receivers of messages have a note."""

    def with_note(name: str, table: str) -> Steps:
        steps = beside.FORWARD.get(name, {})
        return {**steps, 1 + len(steps): lambda database: database.run(f"alter table {table} add column note text")}

    with pytest.MonkeyPatch.context() as later:
        later.setattr(beside, "FORWARD", {"access": with_note("access", "audit"), "webhooks": with_note("webhooks", "receiver")})
        yield


@pytest.fixture
def of_0_1_0(tmp_path: Path) -> StoreSettings:
    with sqlite3.connect(tmp_path / "explain.db") as connection:
        connection.executescript(OF_0_1_0.read_text(encoding="utf-8"))
    connection.close()
    return StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")


def test_a_store_of_release_0_1_0_opens_with_all_its_rows_and_where_it_stood(of_0_1_0: StoreSettings) -> None:
    with open_store(of_0_1_0) as store:
        state = store.state(JOB)
        assert state is not None
        assert (state.tenant, state.find_job_id, state.target_model, state.revision, state.expected, state.admitted) == ("default", "find_1", "gpt2", 1, 4, 4)
        assert (state.first_ms, state.last_ms) == (1001, 2005)
        counters = state.counters
        assert (counters.explained, counters.skipped, counters.failed, counters.confirmed, counters.tokens_in) == (2, 1, 1, 2, 200)
        assert [store.positions(topic) for topic in (EXPLANATIONS, ADMISSIONS, JOBS)] == [{0: 5, 1: 1}, {0: 11, 1: 1}, {0: 2}]
        assert store.missing("explain_2", 9) == ["layer 3/7"]
        (rewrite,) = store.outbox()
        assert (rewrite.key, rewrite.times, rewrite.body is None) == ("explain_1|11", 1, False)
        assert {(job, status) for job, _, status in store.due()} == {(JOB, "completed"), ("explain_2", None)}
        assert [card.feature_key for card in store.explanations("default", job=JOB).cards] == ["1", "2", "10", "11"]
    assert [outcome.subject.feature_key for outcome in read_outcomes(of_0_1_0, JOB)] == ["1", "2", "10", "11"]


def test_the_file_of_release_0_1_0_is_kept_as_it_was_for_a_downgrade(of_0_1_0: StoreSettings, tmp_path: Path) -> None:
    with open_store(of_0_1_0) as store:
        before = rows(store._db)
    with open_store(of_0_1_0) as store:
        assert rows(store._db) == before
    with sqlite3.connect(tmp_path / "explain.db.before-1") as kept, sqlite3.connect(":memory:") as original:
        original.executescript(OF_0_1_0.read_text(encoding="utf-8"))
        assert list(kept.iterdump()) == list(original.iterdump())
    assert not list(tmp_path.glob("*.anew*"))


def test_carrying_over_that_is_cut_off_leaves_the_old_file_and_is_done_the_next_time(of_0_1_0: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(JobStore, "apply", cut_off)
        with pytest.raises(KeyboardInterrupt), open_store(of_0_1_0):
            pass
    with open_store(of_0_1_0) as store:
        state = store.state(JOB)
        assert state is not None
        assert state.counters.explained == 2


def test_a_store_is_brought_forward_and_refused_by_the_version_before_with_all_rows_kept(at: StoreSettings) -> None:
    with open_store(at) as store:
        fill(store)
        before = rows(store._db)
    with a_later_version(), open_store(at) as store:
        assert store._db.all("select job, mood from job") == [(JOB, "calm")]
        store.apply([explained("new")], {(EXPLANATIONS, 0): 21})
        newer = rows(store._db)
    for use in (open_store, reading):
        with (
            pytest.raises(NewerStore, match=r"are of version 4, and this one knows up to 3\); nothing in them was changed\. Run that version or a newer one"),
            use(at),
        ):
            pass
    seat = Seat(at)
    with pytest.raises(Unreachable, match="a newer version of mistudio-explain"):
        seat.take()
    assert seat.store is None
    with a_later_version(), open_store(at) as store:  # also: nobody has kept the seat
        assert rows(store._db) == newer
    assert len(newer["outcome"]) == len(before["outcome"]) + 1


def test_a_step_that_fails_leaves_an_older_store_as_it_was(at: StoreSettings) -> None:
    with open_store(at) as store:
        fill(store)
        before = rows(store._db)

    def half(database: Database) -> None:
        add_a_column(database)
        database.run("delete from outcome")
        raise KeyboardInterrupt

    with a_later_version(half), pytest.raises(KeyboardInterrupt), open_store(at):
        pass
    with open_store(at) as store:
        assert rows(store._db) == before


def test_tables_from_before_versions_were_written_down_are_known_by_their_columns(at: StoreSettings) -> None:
    with open_store(at) as store:
        fill(store)
        store._db.run("drop table format")
        before = rows(store._db)
    with reading(at) as store:
        assert store.jobs(9) == [JOB]
    with open_store(at) as store:
        assert rows(store._db) == before
        assert store._db.all("select name, version from format") == [("tables", tables.VERSION)]


def test_keys_audit_and_webhooks_are_brought_forward_and_left_alone_by_the_version_before(at: StoreSettings) -> None:
    keys, audit, deliveries = StoredKeys(at), StoredAudit(at, kept_ms=1_000, most=1_000), StoredDeliveries(at)
    key, _ = made("ours", "read", "ada", now_ms=1, random_bytes=lambda n: bytes(range(n)))
    keys.add(key)
    audit.add(Deed(1, "ours", "shell", "", "keys create", "x"))
    deliveries.since("ops", 5)

    def all_closed() -> None:
        for each in (keys, audit, deliveries):
            each.close()

    all_closed()
    with a_later_version_beside():
        assert [entry.deed.action for entry in audit.newest(9)] == ["keys create"]
        audit.add(Deed(2, "ours", "shell", "", "keys revoke", "x"))
        assert keys.all() == [key]
        assert deliveries.since("ops", 9) == 5
    all_closed()
    for name, use in (("access", keys.all), ("access", lambda: audit.newest(9)), ("webhooks", lambda: deliveries.since("ops", 9))):
        known = 1 + len(beside.FORWARD.get(name, {}))
        with pytest.raises(NewerStore, match=f"are of version {known + 1}, and this one knows up to {known}"):
            use()
    with a_later_version_beside():
        assert [entry.deed.action for entry in audit.newest(9)] == ["keys revoke", "keys create"]
        assert keys.all() == [key]
        assert deliveries.since("ops", 9) == 5
    all_closed()
