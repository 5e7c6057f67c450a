"""The PostgreSQL store: who of several aggregators may write it, and sessions to read it.

The right to write is an advisory lock of the session that writes, so it ends when the session ends, and a session that
is silent for longer than `LEASE_S` is ended by the server. An aggregator that was frozen for so long finds its next
statement refused, and another one in its place.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg import sql

from mistudio_explain.errors import BadInput, BadSettings, Unreachable, either
from mistudio_explain.settings import StoreSettings, read_secret
from mistudio_explain.store.database import Database, Elsewhere, StoreLost, Table, Values
from mistudio_explain.store.takeover import must_be_of_this_version, take_over

SCHEMA = "mistudio_explain"
_ANEW = f"{SCHEMA}_anew"
_BEFORE = f"{SCHEMA}_before_"
LEASE_S = 10
_LOCK = 7_304_118_956_230_415_871  # any number that no other program takes for a lock in the same database
_MAKING = _LOCK + 1
_CONNECT_TIMEOUT_S = 5
_ALL_IDS = (1 << 63) - 1


class Postgres(Database):
    """A session with a PostgreSQL server. Every method raises StoreLost when the session is gone, or the server refuses what is asked."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        super().__init__()
        self.connection = connection
        self.is_retired = False

    def all(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:  # noqa: D102
        with self.turn, self._session(), self.connection.cursor(binary=True) as cursor:
            return cursor.execute(_with_percent(query), values).fetchall()

    def stream(self, query: str, values: Values = ()) -> Generator[tuple[Any, ...], None, None]:  # noqa: D102
        with self._session(), self.connection.transaction(), self.connection.cursor("rows", binary=True) as cursor:
            yield from cursor.execute(_with_percent(query), values)

    def run(self, statement: str, values: Values = ()) -> None:  # noqa: D102
        with self.turn, self._session():
            self.connection.execute(_with_percent(statement), values)

    def run_many(self, statement: str, rows: Iterable[Values]) -> None:  # noqa: D102
        with self.turn, self._session(), self.connection.cursor() as cursor:
            cursor.executemany(_with_percent(statement), rows)

    def make(self, table: Table) -> None:  # noqa: D102
        columns = ", ".join(table.definitions).replace(" text", ' text collate "C"')
        self.run(f"create table if not exists {table.name}({columns}, primary key({', '.join(table.key)}))")
        for statement in table.indexing:
            self.run(statement)
        if table.searched is not None:
            self.run(f"create index if not exists {table.name}_search on {table.name} using gin (({_words_of(table)}))")

    def columns_of(self, table: str) -> set[str]:  # noqa: D102
        query = "select column_name::text from information_schema.columns where table_schema = current_schema() and table_name = ?"
        return {name for (name,) in self.all(query, (table,))}

    def put(self, table: Table, rows: Sequence[Values], *, kept: Sequence[str] = ()) -> None:  # noqa: D102
        if not rows:
            return
        arrays = ", ".join(f"%b::{table.type_of(column)}[]" for column in table.columns)  # one statement for all, its values as they are
        statement = f"insert into {table.name}({', '.join(table.columns)}) select * from unnest({arrays}) {table.on_conflict(kept)}"  # noqa: S608
        self.run(statement, [list(column) for column in zip(*rows, strict=True)])

    @contextmanager
    def transaction(self) -> Iterator[None]:  # noqa: D102
        with self.turn, self._session(), self.connection.transaction():
            yield

    @contextmanager
    def undisturbed(self) -> Iterator[None]:  # noqa: D102
        with self.transaction():
            self.run("select pg_advisory_xact_lock(?)", (_MAKING,))  # `if not exists` alone does not keep two processes apart
            yield

    def among(self, column: str) -> str:  # noqa: D102
        return f"{column} = any(?)"

    def listed(self, values: Iterable[str] | Iterable[int]) -> Any:  # noqa: D102
        return list(values)

    def searched(self, table: Table, beginnings: Iterable[str], limit: int) -> tuple[list[int], int]:  # noqa: D102
        query = f"select id from {table.name} where {_words_of(table)} @@ ?::tsquery limit ?"  # noqa: S608
        with self.transaction():
            self.run("set local enable_seqscan = off")  # a word that is thought to be common is not looked for in every row
            return [found for (found,) in self.all(query, (" & ".join(f"'{each}':*" for each in beginnings), limit))], _ALL_IDS

    def unindexed(self, table: Table) -> int:  # noqa: ARG002, D102
        return 0

    def index(self, table: Table, limit: int) -> None:  # noqa: D102
        pass

    def merged(self, query: str, bounds: str) -> str:  # noqa: D102
        part = f"({query} {bounds})"  # by itself it is in order; as a part of the union the server does not see that, reads all and sorts
        return f"select * from {part} as part"  # noqa: S608  (a union of one part would have its order twice)

    def contains(self, column: str) -> str:  # noqa: D102
        return f"strpos({column}, ?) > 0"

    def tidy(self, *tables: str) -> None:  # noqa: D102
        self.run(f"vacuum {', '.join(tables)}")

    def now_ms(self) -> int:  # noqa: D102
        ((now_ms,),) = self.all("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        return int(now_ms)

    def close(self) -> None:  # noqa: D102
        with self.turn:
            self.connection.close()

    @contextmanager
    def _session(self) -> Iterator[None]:
        if self.is_retired:
            raise StoreLost("the store was replaced")
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise StoreLost(f"the PostgreSQL session of store.url is gone: {str(error).strip()}") from error
        except psycopg.Error as error:  # read-only, full, or without a right: as good as gone until a person changes that
            raise StoreLost(f"the PostgreSQL of store.url refuses: {str(error).strip()}") from error


def _words_of(table: Table) -> str:
    return f"array_to_tsvector(string_to_array(ltrim({table.searched}), ' '))"


@cache
def _with_percent(query: str) -> Any:
    return query.replace("?", "%s")


@contextmanager
def elected(settings: StoreSettings) -> Iterator[Postgres]:
    """A session that alone may write the store, its tables made. Raises Elsewhere while another session may."""
    with session(settings) as connection:
        connection.execute(f"set idle_session_timeout = '{LEASE_S}s'")
        connection.execute(f"set idle_in_transaction_session_timeout = '{LEASE_S}s'")
        (is_ours,) = connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() or (False,)
        if not is_ours:
            raise Elsewhere(f"{settings.url}: another aggregator writes this store; it stands by")
        database = Postgres(connection)
        prepare_schema(database, SCHEMA)
        yield database


def prepare_schema(database: Database, schema: str) -> None:
    """Let the session speak of the tables of a schema, which are made when they are not there."""
    database.run(f'create schema if not exists "{schema}"')
    database.run(f'set search_path to "{schema}"')
    take_over(database, where=f"the schema {schema} of store.url")
    database.run("alter table body alter column body set storage external")  # compressing a body costs more than writing it


def handed_over(database: Database) -> Postgres:
    """The same session for whoever speaks of other tables; `database` is of no use any more."""
    assert isinstance(database, Postgres)
    with database.turn:
        database.is_retired = True
        return Postgres(database.connection)


def begin_anew(database: Database) -> None:
    """Let the session speak of empty tables in a schema beside, which is made anew."""
    database.run(f'drop schema if exists "{_ANEW}" cascade')
    prepare_schema(database, _ANEW)


def swap(database: Database) -> str:
    """Put the schema built beside in the place of the other, at once; returns the name under which the old one is kept."""
    taken = {name for (name,) in database.all("select nspname from pg_namespace where nspname like ?", (_BEFORE + "%",))}
    number = next(number for number in range(1, len(taken) + 2) if f"{_BEFORE}{number}" not in taken)
    with database.transaction():
        database.run(f'alter schema "{SCHEMA}" rename to "{_BEFORE}{number}"')
        database.run(f'alter schema "{_ANEW}" rename to "{SCHEMA}"')
    database.run(f'set search_path to "{SCHEMA}"')
    return f"{_BEFORE}{number}"


def remove_old(database: Database) -> None:
    """Remove the schemas that were replaced."""
    for (name,) in database.all("select nspname from pg_namespace where nspname like ?", (_BEFORE + "%",)):
        remove(database, name)


def remove(database: Database, schema: str) -> None:
    """Remove a schema with its tables."""
    database.run(f'drop schema "{schema}" cascade')


@contextmanager
def reading(settings: StoreSettings) -> Iterator[Postgres]:
    """A session that only reads. Raises BadInput when there is no store, NewerStore for one of a newer version."""
    if not exists(settings):
        raise BadInput(f"{either(f'{settings.url}: ', '')}there is no store; an aggregator makes it (store.url)")
    with session(settings) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(SCHEMA)))
        connection.execute("set default_transaction_read_only = on")
        connection.execute("set jit = off")  # a question of many parts takes milliseconds, and seconds to compile
        database = Postgres(connection)
        must_be_of_this_version(database, where=f"the schema {SCHEMA} of store.url")
        yield database


def exists(settings: StoreSettings) -> bool:
    """Whether an aggregator has made the store already."""
    with session(settings) as connection:
        return connection.execute("select to_regclass(%s)", (f"{SCHEMA}.job",)).fetchone() != (None,)


@contextmanager
def session(settings: StoreSettings) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """A session with the server. Raises Unreachable when it does not answer or refuses the user."""
    password = read_secret(settings.password_file).get_secret_value() if settings.password_file else None
    try:
        connection = psycopg.connect(
            settings.url,
            password=password,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="mistudio-explain",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=LEASE_S * 1000,
        )
    except psycopg.ProgrammingError as error:
        raise BadSettings(f"store.url is not an address of PostgreSQL: {error}; it is postgresql://user@host:port/database") from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"the PostgreSQL of store.url does not answer: {str(error).strip()}; check store.url and store.password_file") from error
    try:
        yield connection
    finally:
        connection.close()
