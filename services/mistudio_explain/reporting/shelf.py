"""Where the files of jobs stand: in a directory, or in a bucket of an S3-compatible store."""

import hashlib
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mistudio_explain.errors import BadInput, Unreachable
from mistudio_explain.events.job import Artefact
from mistudio_explain.reporting.stage import report_directory, volumes_of_before
from mistudio_explain.settings import ReportSettings, read_secret

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

Writing = Callable[[Path], list[Artefact]]
"""Writes a job's files into a folder and says what they are."""

_SAID_CHARACTERS = 300
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of a job: its name, bytes, and when it was written, milliseconds since 1970 UTC; `tag` is another one whenever it was written anew."""

    name: str
    size: int
    modified_ms: int
    tag: str


class Shelf(ABC):
    """A place for the files of jobs, a folder each."""

    @abstractmethod
    def write(self, job: str, writing: Writing) -> list[Artefact]:
        """Put the files of a job there, each whole or not at all, in place of those of before."""

    @abstractmethod
    def remove(self, job: str) -> None:
        """Remove all files of a job."""

    @abstractmethod
    def files(self, job: str) -> list[File]:
        """A job's files, by name."""

    @abstractmethod
    def pieces(self, job: str, name: str, first: int, last: int) -> Iterator[bytes]:
        """The bytes of one of the job's `files` from `first` to `last`, in pieces."""

    def hash(self, job: str, file: File) -> str:
        """The sha256 of a file as it is now, hex."""
        digest = hashlib.sha256()
        for piece in self.pieces(job, file.name, 0, file.size - 1):
            digest.update(piece)
        return digest.hexdigest()

    @abstractmethod
    def check(self) -> None:
        """Raise BadInput or Unreachable when nothing can be written there; nothing stays behind."""

    @abstractmethod
    def objects(self) -> "ObjectStore":
        """The whole place, for what stands beside the jobs."""


class Folder(Shelf):
    """A directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, job: str, writing: Writing) -> list[Artefact]:  # noqa: D102
        return writing(report_directory(self._root, job))

    def remove(self, job: str) -> None:  # noqa: D102
        shutil.rmtree(report_directory(self._root, job), ignore_errors=True)

    def files(self, job: str) -> list[File]:  # noqa: D102
        folder = report_directory(self._root, job)
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return [_file(path) for path in paths if not path.name.startswith(".") and path.is_file() and not path.is_symlink()]

    def pieces(self, job: str, name: str, first: int, last: int) -> Iterator[bytes]:  # noqa: D102
        with (report_directory(self._root, job) / name).open("rb") as file:
            file.seek(first)
            left = last - first + 1
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece

    def check(self) -> None:  # noqa: D102
        place = self._root.resolve()
        while not place.exists():
            place = place.parent
        try:
            with tempfile.TemporaryFile(dir=place):
                return
        except OSError as error:
            raise BadInput(
                f"{self._root}: reports cannot be written there ({place}: {error.strerror}); choose another folder with --out or reports.directory"
            ) from error

    def objects(self) -> "ObjectStore":  # noqa: D102
        from obstore.store import LocalStore  # here, because most commands need no such store

        return LocalStore(self._root, mkdir=True)


class Bucket(Shelf):
    """A bucket, `s3://bucket/prefix`. Every method raises Unreachable when the store does not answer or refuses."""

    def __init__(self, url: str, store: "ObjectStore") -> None:
        self._url = url
        self._store = store

    def write(self, job: str, writing: Writing) -> list[Artefact]:
        """Write the files on this machine, then put them there one after another: a reader sees each whole, though for seconds not all of one time."""
        import obstore

        with tempfile.TemporaryDirectory(prefix="mistudio-explain-report-") as folder:
            written = writing(Path(folder))
            with self._reached():
                for artefact in written:
                    name = artefact.uri.rpartition("/")[2]
                    obstore.put(self._store, f"{folder_of(job)}/{name}", Path(folder) / name)
                there = [each["path"].rpartition("/")[2] for each in self._there(job)]
                obstore.delete(self._store, [f"{folder_of(job)}/{name}" for name in volumes_of_before(there, written)])
        return [artefact.model_copy(update={"uri": f"{self._url}/{folder_of(job)}/{artefact.uri.rpartition('/')[2]}"}) for artefact in written]

    def remove(self, job: str) -> None:  # noqa: D102
        import obstore

        with self._reached():
            obstore.delete(self._store, [each["path"] for each in self._there(job)])

    def files(self, job: str) -> list[File]:  # noqa: D102
        with self._reached():
            return sorted(map(_object, self._there(job)))

    def pieces(self, job: str, name: str, first: int, last: int) -> Iterator[bytes]:  # noqa: D102
        import obstore

        with self._reached():
            if last >= first:
                yield from map(bytes, obstore.get(self._store, f"{folder_of(job)}/{name}", options={"range": (first, last + 1)}).stream(_PIECE))

    def check(self) -> None:  # noqa: D102
        import obstore

        probe = f".check-{uuid4().hex}"
        with self._reached():
            obstore.put(self._store, probe, b"")
            obstore.delete(self._store, probe)

    def objects(self) -> "ObjectStore":  # noqa: D102
        return self._store

    def _there(self, job: str) -> "list[ObjectMeta]":
        import obstore

        return [each for some in obstore.list(self._store, prefix=folder_of(job)) for each in some]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        with reached(self._url):
            yield


def _file(path: Path) -> File:
    found = path.stat()
    return File(path.name, found.st_size, found.st_mtime_ns // 1_000_000, f"{found.st_mtime_ns:x}-{found.st_size:x}")


def _object(found: "ObjectMeta") -> File:
    modified_ms = int(found["last_modified"].timestamp() * 1000)
    return File(found["path"].rpartition("/")[2], found["size"], modified_ms, (found["e_tag"] or f"{modified_ms:x}").strip('"'))


@contextmanager
def reached(where: str) -> Iterator[None]:
    """Turn what the client of the store raises into Unreachable."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, PermissionError) as error:
        said = " ".join(str(error).split())[:_SAID_CHARACTERS]
        raise Unreachable(
            f"{where}: the files of reports cannot be put or read there ({type(error).__name__}: {said}); look at reports.directory, reports.s3_endpoint and "
            "the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or reports.s3_access_key_id and reports.s3_secret_key_file)"
        ) from error


def shelf_of(reports: ReportSettings) -> Shelf:
    """The place that the settings name. Raises BadSettings for a secret's file that cannot be read."""
    return Folder(reports.directory) if reports.bucket_url is None else Bucket(reports.bucket_url, _bucket(reports, reports.bucket_url))


def _bucket(reports: ReportSettings, url: str) -> "ObjectStore":
    from obstore.store import S3Store

    given = {
        "endpoint": reports.s3_endpoint,
        "region": reports.s3_region,
        "access_key_id": reports.s3_access_key_id,
        "secret_access_key": read_secret(reports.s3_secret_key_file).get_secret_value() if reports.s3_secret_key_file is not None else None,
    }
    config: Any = {"checksum_algorithm": "SHA256"} | {name: value for name, value in given.items() if value is not None}
    return S3Store.from_url(
        url,
        config=config,
        client_options={"allow_http": True, "connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def folder_of(job: str) -> str:
    """The name of a job's folder."""
    return report_directory(Path(), job).name
