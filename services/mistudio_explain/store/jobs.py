"""Opens the aggregator's rows: once to write them, and any number of times to read them."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mistudio_explain.errors import BadInput, BadSettings
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import postgres
from mistudio_explain.store.database import Elsewhere, Sqlite
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.rows import Change
from mistudio_explain.store.tables import make_tables

__all__ = ["Change", "Elsewhere", "JobStore", "open_store", "read_outcomes", "reading", "store_exists"]

_SCHEME = "sqlite:///"


@contextmanager
def open_store(settings: StoreSettings) -> Iterator[JobStore]:
    """Open the store for its one writer; a SQLite file that is not there yet is made.

    Raises Elsewhere when another process has it open, BadSettings for another kind of store or a damaged one,
    Unreachable for a server that does not answer.
    """
    if postgres.is_postgres(settings):
        with postgres.elected(settings) as database:
            yield JobStore(database)
        return
    path = file_of(settings)
    with _locked(path), closing(writable(path)) as database:
        yield JobStore(database)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("w", encoding="utf-8")  # held open for as long as the store is
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Elsewhere(f"{path}: another aggregator has this store open; a SQLite store has exactly one") from error
    except OSError as error:
        raise BadSettings(f"{path}: the store cannot be opened ({error}); check store.url") from error
    with lock:
        yield


def writable(path: Path) -> Sqlite:
    """Open a SQLite store's file to write it; deleted rows leave no bytes in it. Raises BadSettings for a file that is something else."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database = Sqlite(connection)
    try:
        connection.executescript("pragma journal_mode=wal; pragma synchronous=normal; pragma busy_timeout=5000; pragma secure_delete=on")
        make_tables(database)
    except sqlite3.DatabaseError as error:
        database.close()
        raise BadSettings(f"{path}: is not a store of this program or is damaged ({error}); check store.url") from error
    return database


def store_exists(settings: StoreSettings) -> bool:
    """Whether an aggregator has made this store already."""
    return postgres.exists(settings) if postgres.is_postgres(settings) else file_of(settings).is_file()


@contextmanager
def reading(settings: StoreSettings) -> Iterator[JobStore]:
    """Open a store only to read it, beside its writer. Raises BadInput when there is none."""
    if postgres.is_postgres(settings):
        with postgres.reading(settings) as database:
            yield JobStore(database)
        return
    path = file_of(settings)
    if not path.is_file():
        raise BadInput(f"{path}: there is no store; an aggregator makes it (store.url)")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)) as connection:
            connection.execute("select count(*) from job").fetchone()
            yield JobStore(Sqlite(connection))
    except sqlite3.DatabaseError as error:
        raise BadSettings(f"{path}: is not a store of this program or is damaged ({error}); check store.url") from error


def read_outcomes(settings: StoreSettings, job: str) -> Iterator[FeatureOutcome]:
    """The outcomes of a job as they count, numbers before names, then by feature key; read as they are wanted.

    Uses a connection of its own, so that it may run in another thread or process than the writer.
    """
    with reading(settings) as store:
        yield from store.outcomes(job)


def file_of(settings: StoreSettings) -> Path:
    """The file of a SQLite store; raises BadSettings for another kind of address."""
    if not settings.url.startswith(_SCHEME):
        raise BadSettings(f"store.url is {settings.url!r}; it is sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database")
    return Path(settings.url.removeprefix(_SCHEME))
