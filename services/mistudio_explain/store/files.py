"""The files of a SQLite store: the lock of its one writer, and a store that is built beside it and takes its place."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import structlog

from mistudio_explain.errors import BadInput, BadSettings, Unreachable, either
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.database import Elsewhere, Sqlite, is_outage, out_of_reach
from mistudio_explain.store.from_0_1_0 import carry_over
from mistudio_explain.store.tables import version_of
from mistudio_explain.store.takeover import must_be_of_this_version, take_over

log = structlog.get_logger(__name__)

_SCHEME = "sqlite:///"
_WAL = ("-wal", "-shm")


def is_file(settings: StoreSettings) -> bool:
    """Whether the store is a SQLite file, and not on a PostgreSQL server."""
    return not settings.url.startswith(("postgresql://", "postgres://"))


def file_of(settings: StoreSettings) -> Path:
    """The file of a SQLite store; raises BadSettings for another kind of address."""
    if not settings.url.startswith(_SCHEME):
        raise BadSettings(f"store.url is {settings.url!r}; it is sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database")
    return Path(settings.url.removeprefix(_SCHEME))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the one writer of a store's file; raises Elsewhere when another process is."""
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
    """Open a store's file, made when it is not there, to write it; deleted rows leave no bytes in it. An older one is brought forward.

    Raises BadSettings for a file that is something else, NewerStore for one of a newer version, Unreachable while its disk is full or fails.
    """
    with ExitStack() as unless_opened:
        try:
            database = _opened(path)
            unless_opened.callback(database.close)
            if version_of(database) == 1:
                database.close()
                _carry_over(path)
                database = _opened(path)
                unless_opened.callback(database.close)
            take_over(database, where=path)
        except sqlite3.DatabaseError as error:
            if is_outage(error):
                raise Unreachable(out_of_reach(path, error)) from error
            raise BadSettings(
                f"{path}: is not a store of this version, or is damaged ({error}); check store.url, or move the file away: the aggregator then builds a new one"
            ) from error
        unless_opened.pop_all()
        return database


def _opened(path: Path) -> Sqlite:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript("pragma journal_mode=wal; pragma synchronous=normal; pragma busy_timeout=5000; pragma secure_delete=on")
    except BaseException:
        connection.close()
        raise
    return Sqlite(connection)


def _carry_over(path: Path) -> None:
    """Put a store of this version in the place of one of release 0.1.0, which is kept beside."""
    anew = beside(path)
    with closing(_opened(path)) as former, closing(_opened(anew)) as database:
        take_over(database, where=anew)
        carry_over(former, database)
        database.run("pragma wal_checkpoint(truncate)")
    log.warning("store.carried_over", release="0.1.0", old=str(swap(path)))


@contextmanager
def read_only(path: Path) -> Iterator[Sqlite]:
    """Open a store's file to read it. Raises BadInput when there is none, NewerStore for one of a newer version, Unreachable while its disk fails."""
    if not path.is_file():
        raise BadInput(f"{either(f'{path}: ', '')}there is no store; an aggregator makes it (store.url)")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)) as connection:
            database = Sqlite(connection)
            must_be_of_this_version(database, where=path)
            yield database
    except sqlite3.DatabaseError as error:
        if is_outage(error):
            raise Unreachable(out_of_reach(path, error)) from error
        raise BadSettings(f"{path}: is not a store of this version, or is damaged ({error}); check store.url") from error


def beside(path: Path) -> Path:
    """Where a store is built that will take the place of the one at `path`; what an earlier attempt left is removed."""
    anew = path.with_name(path.name + ".anew")
    remove(anew)
    return anew


def swap(path: Path) -> Path:
    """Put the store built beside in place, at once; nobody writes either. Returns where the old one is kept."""
    kept = _free(path)
    for ours, theirs in zip(_with_wal(path), _with_wal(kept), strict=True):  # there are some while a reader has the old one open
        if ours.exists():
            ours.rename(theirs)
    if path.exists():
        kept.hardlink_to(path)
    path.with_name(path.name + ".anew").replace(path)
    return kept


def remove_old(path: Path) -> None:
    """Remove the stores that were replaced."""
    for old in path.parent.glob(f"{path.name}.before-*"):
        old.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a store; whoever reads it has it until the end."""
    for name in (path, *_with_wal(path)):
        name.unlink(missing_ok=True)


def _free(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.before-{number}")).exists():
        number += 1
    return kept


def _with_wal(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _WAL]
