"""The two databases behind one SQL: SQLite for one machine, PostgreSQL for fleets.

The SQL is what both understand, with `?` for a value. Calls of one connection may come from several threads; each
waits for its turn, a transaction as a whole.
"""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from mistudio_explain.errors import BadSettings, ExplainError, Unreachable

Values = Sequence[Any]


class StoreLost(ExplainError):
    """The store's server is gone, refuses, or took back the right to write; what was not confirmed did not happen."""


class Elsewhere(BadSettings):
    """Another aggregator writes the store."""


@dataclass(frozen=True)
class Table:
    """A table's columns by their type, and its primary key; texts sort by their code points."""

    name: str
    key: tuple[str, ...]
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    bytes: tuple[str, ...] = ()
    optional_texts: tuple[str, ...] = ()
    optional_numbers: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order in which rows are given."""
        return (*self.texts, *self.numbers, *self.bytes, *self.optional_texts, *self.optional_numbers)

    def type_of(self, column: str) -> str:
        """The column's type, in PostgreSQL's words, which SQLite takes too."""
        return "text" if column in (*self.texts, *self.optional_texts) else "bytea" if column in self.bytes else "bigint"

    @property
    def definitions(self) -> list[str]:
        """Each column as it is made."""
        optional = (*self.optional_texts, *self.optional_numbers)
        return [f"{column} {self.type_of(column)}{'' if column in optional else ' not null'}" for column in self.columns]

    def on_conflict(self, kept: Sequence[str]) -> str:
        """What a row does to one of the same key: it takes its place, but for the columns that are kept."""
        changed = [column for column in self.columns if column not in (*self.key, *kept)]
        update = f"update set {', '.join(f'{column} = excluded.{column}' for column in changed)}" if changed else "nothing"
        return f"on conflict({', '.join(self.key)}) do {update}"


class Database(ABC):
    """A connection, and how its kind of database says a few things."""

    def __init__(self) -> None:
        self.turn = threading.RLock()

    def one(self, query: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row."""
        return next(iter(self.all(query, values)), None)

    @abstractmethod
    def all(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows."""

    @abstractmethod
    def stream(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """The rows as they are wanted; for a connection that does nothing else meanwhile."""

    @abstractmethod
    def run(self, statement: str, values: Values = ()) -> None:
        """Run one statement."""

    @abstractmethod
    def run_many(self, statement: str, rows: Iterable[Values]) -> None:
        """Run a statement for each of many rows."""

    @abstractmethod
    def make(self, table: Table) -> None:
        """Make a table that is not there yet."""

    @abstractmethod
    def put(self, table: Table, rows: Sequence[Values], *, kept: Sequence[str] = ()) -> None:
        """Write rows of distinct keys; one that is there already is replaced, but for its columns `kept`."""

    @abstractmethod
    def transaction(self) -> Any:
        """A context in which everything happens together, or nothing."""

    @abstractmethod
    def undisturbed(self) -> Any:
        """A transaction that runs beside no other of its kind, in whatever process: for making tables."""

    @abstractmethod
    def among(self, column: str) -> str:
        """The condition that a column has one of the values given by `listed`."""

    @abstractmethod
    def listed(self, values: Iterable[str]) -> Any:
        """Values for `among`."""

    @abstractmethod
    def tidy(self, *tables: str) -> None:
        """Let nothing be left of rows deleted from tables."""

    @abstractmethod
    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC by the one clock of all who share the database."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""


class Sqlite(Database):
    """One file. Every method raises StoreLost once it is closed, and Unreachable while its disk is full or fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._where = next((file for _, _, file in connection.execute("pragma database_list")), "")

    def all(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:  # noqa: D102
        with self.turn, self._reached():
            return self._connection.execute(query, values).fetchall()

    def stream(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:  # noqa: D102
        with self._reached():
            yield from self._connection.execute(query, values)

    def run(self, statement: str, values: Values = ()) -> None:  # noqa: D102
        with self.turn, self._reached():
            self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Iterable[Values]) -> None:  # noqa: D102
        with self.turn, self._reached():
            self._connection.executemany(statement, rows)

    def make(self, table: Table) -> None:  # noqa: D102
        if table.key == ("id",) and table.numbers == ("id",):  # a number that is the key: rows lie in its order, large ones too
            definition = f"{', '.join(table.definitions).replace('id bigint not null', 'id integer primary key')})"
        else:  # small rows, found by their key
            definition = f"{', '.join(table.definitions)}, primary key({', '.join(table.key)})) without rowid"
        self.run(f"create table if not exists {table.name}({definition}")

    def put(self, table: Table, rows: Sequence[Values], *, kept: Sequence[str] = ()) -> None:  # noqa: D102
        marks = ", ".join("?" for _ in table.columns)
        self.run_many(f"insert into {table.name}({', '.join(table.columns)}) values({marks}) {table.on_conflict(kept)}", rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:  # noqa: D102
        with self.turn, self._reached():
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled it back already
                    self._connection.execute("rollback")
                raise

    def undisturbed(self) -> Any:  # noqa: D102
        return self.transaction()

    def among(self, column: str) -> str:  # noqa: D102
        return f"{column} in (select value from json_each(?))"  # noqa: S608

    def listed(self, values: Iterable[str]) -> Any:  # noqa: D102
        return orjson.dumps(list(values)).decode()

    def tidy(self, *tables: str) -> None:  # noqa: ARG002, D102
        self.all("pragma wal_checkpoint(truncate)")

    def now_ms(self) -> int:  # noqa: D102
        return time.time_ns() // 1_000_000  # all are on this machine

    def close(self) -> None:  # noqa: D102
        with self.turn, self._reached():
            self._connection.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise StoreLost(f"the store was closed or replaced: {error}") from error
        except sqlite3.OperationalError as error:
            if not is_outage(error):
                raise
            raise Unreachable(out_of_reach(self._where, error)) from error


def is_outage(error: sqlite3.DatabaseError) -> bool:
    """Whether the disk, or whoever locks the file, is what failed; not the file's bytes, nor the SQL that was meant for other tables."""
    return isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def out_of_reach(where: object, error: Exception) -> str:
    """What is said of such a failure."""
    return f"{where}: the store's file cannot be read or written now ({error}); see to its disk and its permissions, the file itself is as it was"
