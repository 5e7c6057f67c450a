"""The PostgreSQL store: who of several aggregators may write it, and sessions to read it.

The right to write is an advisory lock of the session that writes, so it ends when the session ends, and a session that
is silent for longer than `LEASE_S` is ended by the server. An aggregator that was frozen for so long finds its next
statement refused, and another one in its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from mistudio_explain.errors import BadInput, BadSettings, Unreachable
from mistudio_explain.settings import StoreSettings, read_secret
from mistudio_explain.store.database import Elsewhere, Postgres
from mistudio_explain.store.tables import make_tables

SCHEMA = "mistudio_explain"
_ANEW = f"{SCHEMA}_anew"
_BEFORE = f"{SCHEMA}_before_"
LEASE_S = 10
_LOCK = 7_304_118_956_230_415_871  # any number that no other program takes for a lock in the same database
_CONNECT_TIMEOUT_S = 5


def is_postgres(settings: StoreSettings) -> bool:
    """Whether the settings name a PostgreSQL server."""
    return settings.url.startswith(("postgresql://", "postgres://"))


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


def prepare_schema(database: Postgres, schema: str) -> None:
    """Let the session speak of the tables of a schema, which are made when they are not there."""
    database.run(f'create schema if not exists "{schema}"')
    database.run(f'set search_path to "{schema}"')
    make_tables(database)
    database.run("alter table body alter column body set storage external")  # compressing a body costs more than writing it


def begin_anew(database: Postgres) -> None:
    """Let the session speak of empty tables in a schema beside, which is made anew."""
    database.run(f'drop schema if exists "{_ANEW}" cascade')
    prepare_schema(database, _ANEW)


def swap(database: Postgres) -> str:
    """Put the schema built beside in the place of the other, at once; returns the name under which the old one is kept."""
    taken = {name for (name,) in database.all("select nspname from pg_namespace where nspname like ?", (_BEFORE + "%",))}
    number = next(number for number in range(1, len(taken) + 2) if f"{_BEFORE}{number}" not in taken)
    with database.transaction():
        database.run(f'alter schema "{SCHEMA}" rename to "{_BEFORE}{number}"')
        database.run(f'alter schema "{_ANEW}" rename to "{SCHEMA}"')
    database.run(f'set search_path to "{SCHEMA}"')
    return f"{_BEFORE}{number}"


def remove_old(database: Postgres) -> None:
    """Remove the schemas that were replaced."""
    for (name,) in database.all("select nspname from pg_namespace where nspname like ?", (_BEFORE + "%",)):
        database.run(f'drop schema "{name}" cascade')


@contextmanager
def reading(settings: StoreSettings) -> Iterator[Postgres]:
    """A session that only reads. Raises BadInput when there is no store."""
    if not exists(settings):
        raise BadInput(f"{settings.url}: there is no store; an aggregator makes it (store.url)")
    with session(settings) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(SCHEMA)))
        connection.execute("set default_transaction_read_only = on")
        yield Postgres(connection)


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
