"""The two databases behind one SQL: SQLite for one machine, PostgreSQL for fleets.

The SQL is what both understand, with `?` for a value. Calls of one connection may come from several threads; each
waits for its turn, a transaction as a whole.
"""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
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
    """A table's columns by their type, its primary key and its indexes; texts sort by their code points.

    `searched` is a text of words, each after a space, that rows are found by.
    """

    name: str
    key: tuple[str, ...]
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    reals: tuple[str, ...] = ()
    bytes: tuple[str, ...] = ()
    optional_texts: tuple[str, ...] = ()
    optional_numbers: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    searched: str | None = None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order in which rows are given."""
        return (*self.texts, *self.numbers, *self.reals, *self.bytes, *self.optional_texts, *self.optional_numbers)

    def type_of(self, column: str) -> str:
        """The column's type, in PostgreSQL's words, which SQLite takes too."""
        if column in (*self.texts, *self.optional_texts):
            return "text"
        return "bytea" if column in self.bytes else "double precision" if column in self.reals else "bigint"

    @property
    def definitions(self) -> list[str]:
        """Each column as it is made."""
        optional = (*self.optional_texts, *self.optional_numbers)
        return [f"{column} {self.type_of(column)}{'' if column in optional else ' not null'}" for column in self.columns]

    @property
    def indexing(self) -> Iterator[str]:
        """How its indexes are made."""
        for number, columns in enumerate(self.indexes):
            yield f"create index if not exists {self.name}_{number} on {self.name}({', '.join(columns)})"

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
    def stream(self, query: str, values: Values = ()) -> Generator[tuple[Any, ...], None, None]:
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
    def columns_of(self, table: str) -> set[str]:
        """A table's columns as they are; none when there is no such table."""

    @abstractmethod
    def put(self, table: Table, rows: Sequence[Values], *, kept: Sequence[str] = ()) -> None:
        """Write rows of distinct keys; one that is there already is replaced, but for its columns `kept`."""

    def delete(self, table: Table, condition: str, values: Values) -> None:
        """Delete rows."""
        self.run(f"delete from {table.name} where {condition}", values)  # noqa: S608

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
    def listed(self, values: Iterable[str] | Iterable[int]) -> Any:
        """Values for `among`."""

    @abstractmethod
    def searched(self, table: Table, beginnings: Iterable[str], limit: int) -> tuple[list[int], int]:
        """Ids of rows, at most `limit`, in which each of the beginnings, of letters and digits alone, begins a searched word.

        The second number is the greatest id that the index of words knows: rows after it are not among them.
        """

    @abstractmethod
    def merged(self, query: str, bounds: str) -> str:
        """A part of a union that is read along an index, only as far as the union in the same order is; `bounds` are that order and its limit."""

    @abstractmethod
    def contains(self, column: str) -> str:
        """The condition that a text contains another."""

    @abstractmethod
    def unindexed(self, table: Table) -> int:
        """How many rows the index of words does not know yet; none where the database itself keeps it."""

    @abstractmethod
    def index(self, table: Table, limit: int) -> None:
        """Take the next rows, at most `limit`, into the index of words."""

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

    def stream(self, query: str, values: Values = ()) -> Generator[tuple[Any, ...], None, None]:  # noqa: D102
        with self._reached():
            yield from self._connection.execute(query, values)

    def run(self, statement: str, values: Values = ()) -> None:  # noqa: D102
        with self.turn, self._reached():
            self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Iterable[Values]) -> None:  # noqa: D102
        with self.turn, self._reached():
            self._connection.executemany(statement, rows)

    def make(self, table: Table) -> None:  # noqa: D102
        if table.key == ("id",) and "id" in table.numbers:  # a number that is the key: rows lie in its order, large ones too
            definition = f"{', '.join(table.definitions).replace('id bigint not null', 'id integer primary key')})"
        else:  # small rows, found by their key
            definition = f"{', '.join(table.definitions)}, primary key({', '.join(table.key)})) without rowid"
        self.run(f"create table if not exists {table.name}({definition}")
        for statement in table.indexing:
            self.run(statement)
        if table.searched is not None:  # words alone, without texts or positions; new rows wait to be indexed, which takes as long as writing all the rest
            self.run(
                f"create virtual table if not exists {table.name}_search using fts5({table.searched}, content='', detail=none, columnsize=0, tokenize='ascii')"
            )
            self.run(f"create table if not exists {table.name}_searched(upto integer not null)")

    def columns_of(self, table: str) -> set[str]:  # noqa: D102
        return {name for (name,) in self.all("select name from pragma_table_info(?)", (table,))}

    def put(self, table: Table, rows: Sequence[Values], *, kept: Sequence[str] = ()) -> None:  # noqa: D102
        marks = ", ".join("?" for _ in table.columns)
        insert = f"insert into {table.name}({', '.join(table.columns)}) values({marks}) {table.on_conflict(kept)}"
        if table.searched is None:
            self.run_many(insert, rows)
            return
        words, number = table.columns.index(table.searched), table.columns.index("id")
        upto = self._upto(table)
        known = [(row[number], row[words]) for row in rows if row[number] <= upto]
        self._unindex(table, self.among("id"), (self.listed(each for each, _ in known),))
        self.run_many(insert, rows)
        self._add(table, known)

    def delete(self, table: Table, condition: str, values: Values) -> None:  # noqa: D102
        if table.searched is not None:
            self._unindex(table, f"({condition}) and id <= {self._upto(table)}", values)
        super().delete(table, condition, values)
        if table.searched is not None:  # ids at the end may be given again
            self.run(f"update {table.name}_searched set upto = min(upto, (select coalesce(max(id), 0) from {table.name}))")  # noqa: S608

    def unindexed(self, table: Table) -> int:  # noqa: D102
        ((last,),) = self.all(f"select coalesce(max(id), 0) from {table.name}")  # noqa: S608
        return int(last) - self._upto(table)

    def index(self, table: Table, limit: int) -> None:  # noqa: D102
        with self.transaction():
            query = f"select id, {table.searched} from {table.name} where id > ? order by id limit ?"  # noqa: S608
            if rows := self.all(query, (self._upto(table), limit)):
                self._add(table, rows)
                self.run(f"delete from {table.name}_searched")  # noqa: S608
                self.run(f"insert into {table.name}_searched values(?)", (rows[-1][0],))

    def _upto(self, table: Table) -> int:
        ((upto,),) = self.all(f"select coalesce(max(upto), 0) from {table.name}_searched")  # noqa: S608
        return int(upto)

    def _add(self, table: Table, rows: Iterable[Values]) -> None:
        self.run_many(f"insert into {table.name}_search(rowid, {table.searched}) values(?, ?)", rows)

    def _unindex(self, table: Table, condition: str, values: Values) -> None:
        name = f"{table.name}_search"
        self.run(f"insert into {name}({name}, rowid, {table.searched}) select 'delete', id, {table.searched} from {table.name} where {condition}", values)  # noqa: S608

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

    def listed(self, values: Iterable[str] | Iterable[int]) -> Any:  # noqa: D102
        return orjson.dumps(list(values)).decode()

    def searched(self, table: Table, beginnings: Iterable[str], limit: int) -> tuple[list[int], int]:  # noqa: D102
        query = f"select rowid from {table.name}_search where {table.name}_search match ? limit ?"  # noqa: S608
        upto = self._upto(table)  # before: what is indexed meanwhile is found twice, not missed
        return [found for (found,) in self.all(query, (" ".join(f'"{each}"*' for each in beginnings), limit))], upto

    def merged(self, query: str, bounds: str) -> str:  # noqa: ARG002, D102
        return query

    def contains(self, column: str) -> str:  # noqa: D102
        return f"instr({column}, ?) > 0"

    def tidy(self, *tables: str) -> None:  # noqa: D102
        for (index,) in self.all(f"select name from sqlite_master where {self.among('name')}", (self.listed(f"{table}_search" for table in tables),)):  # noqa: S608
            self.run(f"insert into {index}({index}) values('optimize')")
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
