"""Files that appear whole, or not at all."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mistudio_explain.events.job import Artefact


class PendingFiles:
    """A set of files that replace their predecessors only once all of them are written.

    Each is written under a temporary name in the same directory, so that a reader never sees half a file and a
    failure leaves the earlier ones as they were.
    """

    def __init__(self, directory: Path, begun: Callable[[str], None] = lambda _: None) -> None:
        self._directory = directory
        self._begun = begun
        self._open: dict[str, BinaryIO] = {}
        self._suffix = f"{os.getpid()}-{threading.get_ident()}.part"

    def create(self, name: str) -> BinaryIO:
        """Begin the file that will be called `name`, and say so."""
        self._begun(name)
        self._open[name] = self._temporary(name).open("wb")
        return self._open[name]

    def commit(self) -> list[Artefact]:
        """Put all files in place and say what they are, in the order in which they were begun."""
        artefacts = [self._settle(name, file) for name, file in self._open.items()]
        for name in list(self._open):
            self._temporary(name).replace(self._directory / name)
            del self._open[name]
        return artefacts

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name, file in self._open.items():
            file.close()
            self._temporary(name).unlink(missing_ok=True)

    def _temporary(self, name: str) -> Path:
        return self._directory / f".{name}.{self._suffix}"

    def _settle(self, name: str, file: BinaryIO) -> Artefact:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        with self._temporary(name).open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        return Artefact(uri=(self._directory / name).resolve().as_uri(), sha256=digest, size=self._temporary(name).stat().st_size)
