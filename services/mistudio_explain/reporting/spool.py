"""Pieces of a page in the order they came, on disk once they are many; and the data that a page renders on demand."""

import base64
import tempfile
import zlib
from collections.abc import Iterator

import orjson
from markupsafe import Markup

from mistudio_explain.reporting.cards import Card

CARDS_PER_CHUNK = 100
"""So many features are unpacked when one of them is opened: about 10 ms in Chromium."""

_SPOOL_BYTES = 1 << 20
_CHUNK_CHARACTERS = 1 << 16


class Spool:
    """Rendered pieces."""

    def __init__(self) -> None:
        self._text = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8", newline="")  # noqa: SIM115 - see close
        self.pieces = 0

    def add(self, piece: str) -> None:
        """Append a rendered piece."""
        self._text.write(piece)
        self.pieces += 1

    def chunks(self) -> Iterator[Markup]:
        """Everything that was added, already safe HTML."""
        self._text.seek(0)
        while chunk := self._text.read(_CHUNK_CHARACTERS):
            yield Markup(chunk)  # noqa: S704 - rendered by the autoescaping templates, or base64

    def close(self) -> None:
        """Give up the pieces."""
        self._text.close()


class Packed:
    """Cards as JSON, `CARDS_PER_CHUNK` in each chunk, deflated and in base64, so that no text of theirs is text of the page."""

    def __init__(self) -> None:
        self._cards: list[Card] = []
        self._chunks = Spool()

    def add(self, card: Card) -> int:
        """Take a card, and say which chunk it will be in."""
        if len(self._cards) == CARDS_PER_CHUNK:
            self._pack()
        self._cards.append(card)
        return self._chunks.pieces

    def chunks(self) -> Iterator[Markup]:
        """The chunks as data blocks of the page, with the ids `d0`, `d1` and so on."""
        if self._cards:
            self._pack()
        return self._chunks.chunks()

    def close(self) -> None:
        """Give up the chunks."""
        self._chunks.close()

    def _pack(self) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = deflate.compress(orjson.dumps(self._cards)) + deflate.flush()
        self._chunks.add(f'<script type="text/plain" id="d{self._chunks.pieces}">{base64.b64encode(packed).decode()}</script>\n')
        self._cards = []
