"""Connections to read the store, kept open between questions: to open one costs more than most questions."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mistudio_explain.errors import Unreachable
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.jobs import JobStore, reading, store_exists

_File = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Open:
    store: JobStore
    file: _File | None
    """Which file it reads, where the store is one: an aggregator may put another in its place."""
    held: ExitStack


class Readers:
    """As many connections as are used at once. Its methods block and may be called from any thread."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._idle: list[_Open] = []
        self._turn = threading.Lock()
        self._watch: tuple[_File, sqlite3.Connection] | None = None
        self._watches = 0  # each connection counts from anew
        self._watching = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[JobStore | None]:
        """The rows, to be used by one thread until the end; None while no aggregator has made them. Raises Unreachable and StoreLost."""
        open_ = self._taken()
        if open_ is None:
            yield None
            return
        try:
            yield open_.store
        except (Unreachable, StoreLost, sqlite3.Error):
            open_.held.close()
            self._close_idle()  # what ended this session ended the others too
            raise
        except BaseException:
            self._put_back(open_)
            raise
        self._put_back(open_)

    def version(self) -> object | None:
        """What differs whenever the rows do, at the cost of microseconds; None where nobody can say so cheaply: without a store, and on a server.

        SQLite counts for each connection what others have committed (`pragma data_version`).
        """
        file = self._file()
        if file is None:
            return None
        with self._watching:
            try:
                if self._watch is None or self._watch[0] != file:
                    self._stop_watching()
                    place = f"{files.file_of(self._settings).resolve().as_uri()}?mode=ro"
                    self._watch = file, sqlite3.connect(place, uri=True, timeout=0, check_same_thread=False)
                    self._watches += 1
                return file, self._watches, self._watch[1].execute("pragma data_version").fetchone()
            except sqlite3.Error:
                self._stop_watching()
                return None

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch[1].close()
            self._watch = None

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._watching:
            self._stop_watching()
        self._close_idle()

    def _close_idle(self) -> None:
        with self._turn:
            idle, self._idle = self._idle, []
        for open_ in idle:
            open_.held.close()

    def _taken(self) -> _Open | None:
        file = self._file()
        with self._turn:
            open_ = self._idle.pop() if self._idle else None
        if open_ is not None and open_.file == file:
            return open_
        if open_ is not None:
            self._put_back(open_)
            self._close_idle()  # the others read the store that was replaced too
        if file is None and (files.is_file(self._settings) or not store_exists(self._settings)):
            return None
        with ExitStack() as unless_opened:
            store = unless_opened.enter_context(reading(self._settings))
            return _Open(store, file, unless_opened.pop_all())

    def _put_back(self, open_: _Open) -> None:
        with self._turn:
            self._idle.append(open_)

    def _file(self) -> _File | None:
        if not files.is_file(self._settings):
            return None
        try:
            found = files.file_of(self._settings).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
