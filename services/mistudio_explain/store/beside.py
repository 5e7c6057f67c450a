"""Databases beside the store: each a file next to its file, or a schema on its server; they outlive a store that is replaced."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import stamina

from mistudio_explain.errors import Unreachable
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.database import Database, Sqlite, StoreLost, Table
from mistudio_explain.store.versions import Steps, bring_forward, marked_version

FORWARD: Mapping[str, Steps] = {"webhooks": {1: lambda database: database.run("alter table delivery add column due_ms bigint not null default 0")}}
"""What brings each database's tables from version 1 on; their version is one more than there are steps."""

T = TypeVar("T")

_OWNERS = 0o600


class Beside:
    """One such database: opened when it is first used, and anew after it failed. Its methods block and may be called from any thread.

    `indexes` are columns that rows are sought by, of each table. `busy_s` is how long a writer of a file waits for others; what is
    `durable` survives a power cut, at the cost of a sync for each step. A file that is `private` is read by its owner alone, whatever
    the umask.
    """

    def __init__(
        self,
        settings: StoreSettings,
        name: str,
        tables: Sequence[Table],
        *,
        indexes: Mapping[Table, Sequence[str]] | None = None,
        busy_s: float = 5.0,
        durable: bool = False,
        private: bool = False,
    ) -> None:
        self._settings = settings
        self._name = name
        self._tables = tables
        self._indexes = indexes or {}
        self._busy_s = busy_s
        self._synchronous = "full" if durable else "normal"
        self._private = private
        self._held = ExitStack()
        self._open: Database | None = None
        self._turn = threading.RLock()

    def call(self, use: Callable[[Database], T]) -> T:
        """Use the connection, one caller after the other. Raises Unreachable (NewerStore too) or StoreLost when that cannot be, for whatever reason."""
        with self._turn:
            try:
                if self._open is None:
                    self._open = self._connected()
                return use(self._open)
            except (Unreachable, StoreLost):
                self.close()
                raise
            except (OSError, sqlite3.Error) as error:
                self.close()
                where = file_beside(self._settings, self._name) if files.is_file(self._settings) else self._settings.url
                raise Unreachable(f"{where}: cannot be used ({error}); check store.url, its disk and its permissions, or move a damaged file away") from error

    def exists(self) -> bool:
        """Whether it was ever made; asking does not make it. Raises as `call` does."""
        if self._open is not None:
            return True
        if files.is_file(self._settings):
            return file_beside(self._settings, self._name).is_file()
        from mistudio_explain.store import postgres  # here, because a file needs no client of a server

        with postgres.session(self._settings) as connection:
            found = postgres.Postgres(connection).one("select to_regnamespace(?)", (schema_beside(self._name),))
        return found is not None and found[0] is not None

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        with self._turn:
            self._open = None
            self._held.close()

    def _connected(self) -> Database:
        schema = schema_beside(self._name)
        if files.is_file(self._settings):
            path = file_beside(self._settings, self._name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._private:
                _keep_private(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=self._busy_s)
            self._held.callback(connection.close)
            for attempt in stamina.retry_context(on=sqlite3.OperationalError, attempts=None, timeout=self._busy_s, wait_initial=0.01, wait_max=0.1):
                with attempt:  # of several that make the file at once all but one are refused without the wait for a writer
                    connection.execute("pragma journal_mode=wal")
            connection.executescript(f"pragma synchronous={self._synchronous}; pragma secure_delete=on")
            database: Database = Sqlite(connection)
        else:
            from mistudio_explain.store import postgres  # here, because a file needs no client of a server

            database = postgres.Postgres(self._held.enter_context(postgres.session(self._settings)))
            database.run(f"set idle_in_transaction_session_timeout = '{postgres.LEASE_S}s'")  # one that is frozen must not hold the others up
            database.run(f'set search_path to "{schema}"')
        with database.undisturbed():
            if not files.is_file(self._settings):
                database.run(f'create schema if not exists "{schema}"')
            steps = FORWARD.get(self._name, {})
            is_there = any(database.columns_of(table.name) for table in self._tables)
            found = marked_version(database) or (1 if is_there else None)  # tables from before versions were written down are of the first
            where = file_beside(self._settings, self._name) if files.is_file(self._settings) else f"the schema {schema} of store.url"
            bring_forward(database, found, 1 + len(steps), steps, where=where)
            for table in self._tables:
                database.make(table)
                for column in self._indexes.get(table, ()):
                    database.run(f"create index if not exists {table.name}_{column} on {table.name}({column})")
        return database


def _keep_private(path: Path) -> None:
    """Let nobody but its owner read a database's file, made when it is not there; what SQLite puts beside it gets the same permissions."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNERS))
    for each in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if each.stat().st_mode & 0o077:  # of an earlier version; whoever is not its owner cannot change that
                each.chmod(_OWNERS)


def file_beside(settings: StoreSettings, name: str) -> Path:
    """The database's file, beside a SQLite store."""
    path = files.file_of(settings)
    return path.with_name(f"{path.stem}-{name}.db")


def schema_beside(name: str) -> str:
    """The database's schema, beside a PostgreSQL store."""
    return f"mistudio_explain_{name}"
