"""A database of its own beside the store: a file next to its file, or a schema on its server; it outlives stores that are replaced."""

import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.database import Database, Sqlite, Table

_BUSY_S = 5.0


def opened_beside(settings: StoreSettings, name: str, tables: Iterable[Table], held: ExitStack) -> Database:
    """Open it, its tables made; `held` closes the connection. Raises an ExplainError, OSError or sqlite3.Error when it cannot be used."""
    if files.is_file(settings):
        path = file_beside(settings, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        held.callback(connection.close)
        connection.executescript("pragma journal_mode=wal; pragma synchronous=normal; pragma secure_delete=on")
        database: Database = Sqlite(connection)
    else:
        from mistudio_explain.store import postgres  # here, because a file needs no client of a server

        database = postgres.Postgres(held.enter_context(postgres.session(settings)))
        database.run(f"set idle_in_transaction_session_timeout = '{postgres.LEASE_S}s'")  # one that is frozen must not hold the others up
        database.run(f'set search_path to "{schema_beside(name)}"')
    with database.undisturbed():
        if not files.is_file(settings):
            database.run(f'create schema if not exists "{schema_beside(name)}"')
        for table in tables:
            database.make(table)
    return database


def file_beside(settings: StoreSettings, name: str) -> Path:
    """Its file beside a SQLite store."""
    path = files.file_of(settings)
    return path.with_name(f"{path.stem}-{name}.db")


def schema_beside(name: str) -> str:
    """Its schema beside a PostgreSQL store."""
    return f"mistudio_explain_{name}"
