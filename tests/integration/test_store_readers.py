"""Connections that are kept to read the store: shared by nobody at once, and never of a store that was replaced."""

from pathlib import Path

import pytest

from integration.aggregating import explained, requested
from integration.real_postgres import RealPostgres
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.jobs import Change, open_store
from mistudio_explain.store.readers import Readers

JOB = "explain_1"


def store(path: Path, *features: object) -> StoreSettings:
    """A store with such features."""
    settings = StoreSettings(url=f"sqlite:///{path}")
    fill(settings, *features)
    return settings


def fill(settings: StoreSettings, *features: object) -> None:
    with open_store(settings) as rows:
        rows.apply([Change(event, encode(event), "", 1000, topics.EXPLANATIONS) for event in (requested(), *map(explained, features))], {})


def seen(readers: Readers) -> set[str]:
    with readers.reading() as rows:
        return set() if rows is None else set(rows.features(JOB))


def test_a_connection_is_kept_and_given_to_one_at_a_time(tmp_path: Path) -> None:
    readers = Readers(store(tmp_path / "explain.db", 5))
    with readers.reading() as first, readers.reading() as second:
        assert first is not second
    with readers.reading() as again:
        assert again in (first, second)
    readers.close()


def test_without_a_store_there_are_no_rows_and_no_version_and_none_is_made(tmp_path: Path) -> None:
    readers = Readers(StoreSettings(url=f"sqlite:///{tmp_path}/none/explain.db"))
    assert (seen(readers), readers.version()) == (set(), None)
    assert not (tmp_path / "none").exists()


def test_the_version_differs_after_every_change_and_stays_while_there_is_none(tmp_path: Path) -> None:
    readers = Readers(store(tmp_path / "explain.db", 5))
    before = readers.version()
    assert before == readers.version()
    seen(readers)
    assert before == readers.version()
    store(tmp_path / "explain.db", 6)
    after = readers.version()
    assert after != before
    assert seen(readers) == {"5", "6"}
    readers.close()


def test_on_a_server_that_was_restarted_one_question_fails_and_the_next_is_answered(postgres: RealPostgres) -> None:
    settings = postgres.new_store()
    readers = Readers(settings)
    assert (seen(readers), readers.version()) == (set(), None)
    fill(settings, 5)
    with readers.reading(), readers.reading():
        pass
    postgres.stop("immediate")
    postgres.start()
    with pytest.raises(StoreLost):
        seen(readers)
    assert seen(readers) == {"5"}
    readers.close()


def test_a_store_in_the_place_of_another_is_read_and_told_apart_at_once(tmp_path: Path) -> None:
    readers = Readers(store(tmp_path / "explain.db", 5))
    before = readers.version()
    assert seen(readers) == {"5"}
    store(tmp_path / "anew.db", 6)
    (tmp_path / "anew.db").replace(tmp_path / "explain.db")
    assert readers.version() != before
    assert seen(readers) == {"6"}
    readers.close()
