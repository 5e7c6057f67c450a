"""Opens the aggregator's rows: once to write them, and any number of times to read them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.rows import Change

__all__ = ["Change", "JobStore", "open_store", "read_outcomes", "reading", "store_exists"]


@contextmanager
def open_store(settings: StoreSettings) -> Iterator[JobStore]:
    """Open the store for its one writer; one that is not there yet is made.

    Raises Elsewhere when another process has it open, BadSettings for another kind of store or a damaged one,
    Unreachable for a server that does not answer.
    """
    if files.is_file(settings):
        path = files.file_of(settings)
        with files.locked(path), closing(files.writable(path)) as file:
            yield JobStore(file)
        return
    from mistudio_explain.store import postgres  # here, because a file needs no client of a server

    with postgres.elected(settings) as server:
        yield JobStore(server)


def store_exists(settings: StoreSettings) -> bool:
    """Whether an aggregator has made this store already."""
    if files.is_file(settings):
        return files.file_of(settings).is_file()
    from mistudio_explain.store import postgres

    return postgres.exists(settings)


@contextmanager
def reading(settings: StoreSettings) -> Iterator[JobStore]:
    """Open a store only to read it, beside its writer. Raises BadInput when there is none."""
    if files.is_file(settings):
        with files.read_only(files.file_of(settings)) as file:
            yield JobStore(file)
        return
    from mistudio_explain.store import postgres

    with postgres.reading(settings) as server:
        yield JobStore(server)


def read_outcomes(settings: StoreSettings, job: str) -> Iterator[FeatureOutcome]:
    """The outcomes of a job as they count, each with its newest review, numbers before names, then by feature key; read as they are wanted.

    Uses a connection of its own, so that it may run in another thread or process than the writer.
    """
    with reading(settings) as store:
        yield from store.outcomes(job)
