"""Lines of files, read one at a time, and a place where they can wait outside of memory."""

import gzip
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.document import Document, Flawed, Problem

LINE_BYTES = 64 << 20
"""The longest line that is read."""
UNPACKED_BYTES = 8 << 30
"""What one file of lines may hold, unpacked; a batch of Neuronpedia's 1,024 features holds 0.1 to 0.2 GB."""
WHOLE_BYTES = 1 << 30
"""What a file may hold, unpacked, that is kept in memory: as much as may be uploaded by default."""

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked where they are gzip-compressed; raises BadInput when it cannot be read, also in the middle."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]  # a reader of bytes in all but name
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def lines_of(path: Path) -> Iterator[Document]:
    """The lines of a file that hold anything, each a document that knows its number; raises Flawed for one that is too long, or too many."""
    with opened(path) as file:
        number = size = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            size += len(line)
            if len(line) > LINE_BYTES:
                raise Flawed(Problem(path, f"line {number}", f"the line has more than {LINE_BYTES} bytes, where one record a line was expected"))
            if size > UNPACKED_BYTES:
                raise Flawed(Problem(path, f"line {number}", f"the file holds more than {UNPACKED_BYTES} bytes, unpacked; cut it into several"))
            text = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
            if text:
                yield Document(path, text, first_line=number, is_line=True)


def whole(path: Path) -> Document:
    """A file's bytes, which stay in memory once; raises Flawed when they are too many."""
    content = BytesIO()  # which gives its bytes without a copy
    with opened(path) as file:
        while piece := file.read(1 << 20):
            content.write(piece)
            if content.tell() > WHOLE_BYTES:
                raise Flawed(Problem(path, "$", f"the file holds more than {WHOLE_BYTES} bytes, unpacked; cut it into several, or write one record a line"))
    return Document(path, content.getvalue())


class Lines:
    """Lines that wait in a temporary file, which nobody else can open and which is gone with the process; in memory are 24 bytes for each."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="mistudio-explain-lines-")  # noqa: SIM115 - it lives as long as this does
        self._end = 0
        self._starts, self._numbers, self._files = array("Q"), array("Q"), array("I")
        self._paths: list[Path] = []

    def keep(self, line: Document) -> int:
        """Put a line away; returns its place."""
        if not self._paths or self._paths[-1] != line.file:
            self._paths.append(line.file)
        self._file.seek(self._end)
        self._file.write(line.text)
        self._starts.append(self._end)
        self._numbers.append(line.first_line)
        self._files.append(len(self._paths) - 1)
        self._end += len(line.text)
        return len(self._starts) - 1

    def back(self, place: int) -> Document:
        """The line that was put there."""
        start = self._starts[place]
        end = self._starts[place + 1] if place + 1 < len(self._starts) else self._end
        self._file.seek(start)
        return Document(self._paths[self._files[place]], self._file.read(end - start), first_line=self._numbers[place], is_line=True)
