"""The seat of the store's one writer: taken when it is free, lost or left, and moved to a store that is built beside the old one."""

import threading
from contextlib import ExitStack
from pathlib import Path

import structlog

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.database import Database
from mistudio_explain.store.job_store import JobStore

log = structlog.get_logger(__name__)


class Seat:
    """At most one process has it. Its methods block and may be called from any thread."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.store: JobStore | None = None
        """The rows to write: absent while another process has the seat."""
        self.is_building = False
        """Whether these rows are still built beside the old ones, so that nothing may be said of them."""
        self._is_first = False
        """Whether nothing was ever read into the store that stands, so that it need not be kept."""
        self._held = ExitStack()
        self._database: Database | None = None
        self._turn = threading.RLock()

    @property
    def is_shared(self) -> bool:
        """Whether several processes may wait for it."""
        return not files.is_file(self.settings)

    def take(self) -> JobStore:
        """Take the seat, or keep it. Raises Elsewhere when another process has it, Unreachable when the server is away, BadSettings."""
        with self._turn:
            if self.store is not None:
                return self.store
            if self.is_shared:
                from mistudio_explain.store import postgres  # here, because a file needs no client of a server

                self._open(self._held.enter_context(postgres.elected(self.settings)))
            else:
                path = files.file_of(self.settings)
                with ExitStack() as unless_opened:
                    unless_opened.enter_context(files.locked(path))
                    self._open(files.writable(path))
                    self._held = unless_opened.pop_all()
            assert self.store is not None
            return self.store

    def leave(self) -> None:
        """Give the seat up; a session that is gone already is none to be closed."""
        with self._turn:
            self.is_building = False
            self._close()
            self._held.close()

    def confirm(self) -> None:
        """Make sure that the seat is still this process's. Raises StoreLost when it is not."""
        with self._turn:
            if self._database is not None:
                self._database.one("select 1")

    def begin_anew(self) -> JobStore:
        """Go on with an empty store beside the one that stands, which others go on to read."""
        with self._turn:
            assert self._database is not None, "the seat is not taken"
            assert self.store is not None
            if not self.is_building:
                self.is_building, self._is_first = True, self.store.is_unread()
            if self.is_shared:
                from mistudio_explain.store import postgres

                self._open(postgres.handed_over(self._database))
                postgres.begin_anew(self._database)
            else:
                self._close()
                self._open(files.writable(files.beside(files.file_of(self.settings))))
            assert self.store is not None
            return self.store

    def finish(self) -> None:
        """Put the store that was built beside in the place of the old one, which is kept."""
        with self._turn:
            assert self._database is not None, "the seat is not taken"
            if self.is_shared:
                from mistudio_explain.store import postgres

                kept = postgres.swap(self._database)
            else:
                path = files.file_of(self.settings)
                self._database.run("pragma wal_checkpoint(truncate)")
                self._close()
                kept = str(files.swap(path))
                self._open(files.writable(path))
            self.is_building = False
            if self._is_first:
                self._remove(kept)
            else:
                log.warning("store.replaced", old=kept)

    def remove_old(self) -> None:
        """Remove the stores that were replaced."""
        with self._turn:
            assert self._database is not None, "the seat is not taken"
            if self.is_shared:
                from mistudio_explain.store import postgres

                postgres.remove_old(self._database)
            else:
                files.remove_old(files.file_of(self.settings))

    def _remove(self, kept: str) -> None:
        assert self._database is not None
        if self.is_shared:
            from mistudio_explain.store import postgres

            postgres.remove(self._database, kept)
        else:
            files.remove(Path(kept))

    def _close(self) -> None:
        self.store = None  # first: who asks it and fails must see that it was replaced, not that the seat is lost
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self, database: Database) -> None:
        self._database = database
        self.store = JobStore(database)
