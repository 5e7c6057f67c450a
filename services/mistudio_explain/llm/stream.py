"""An answer's pieces as they arrive: how long to wait for each, and their sum."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from mistudio_explain.llm.failures import ConnectionDropped, GarbledReply, TimedOut
from mistudio_explain.llm.provider import Call, Completion, Patience

MAX_ANSWER_CHARACTERS = 65_536  # a server that ignores max_tokens would otherwise fill the memory

_OUTWEIGH_STOP = frozenset({"refusal", "tool_calls"})  # told in the middle of a stream that then ends with `stop`


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer; the last ones bring the finish reason and the counts."""

    text: str = ""
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cached_tokens: int | None = None


async def collect(call: Call, pieces: AsyncGenerator[Piece, None]) -> Completion:
    """Join the pieces to a completion and pass their text on to `call.on_text`.

    `pieces` is always closed, also when this is cancelled. Raises TimedOut, GarbledReply for an answer without bound,
    ConnectionDropped for a stream that ends without a finish reason.
    """
    started = time.monotonic()
    texts: list[str] = []
    length = 0
    finish_reason: str | None = None
    first_text_s: float | None = None
    tokens_in = tokens_out = cached = None
    async with aclosing(_paced(pieces, call.patience)) as paced:
        async for piece in paced:
            finish_reason = finish_reason if finish_reason in _OUTWEIGH_STOP else piece.finish_reason or finish_reason
            tokens_in = piece.tokens_in if piece.tokens_in is not None else tokens_in
            tokens_out = piece.tokens_out if piece.tokens_out is not None else tokens_out
            cached = piece.cached_tokens if piece.cached_tokens is not None else cached
            if not piece.text:
                continue
            if first_text_s is None:
                first_text_s = time.monotonic() - started
            texts.append(piece.text)
            length += len(piece.text)
            if length > MAX_ANSWER_CHARACTERS:
                raise GarbledReply(f"the answer is longer than {MAX_ANSWER_CHARACTERS} characters, although {call.max_tokens} tokens were asked for")
            if call.on_text is not None:
                await call.on_text(piece.text)
    if finish_reason is None:
        raise ConnectionDropped(f"the answer ends after {length} characters without a finish reason")
    return Completion("".join(texts), finish_reason, tokens_in, tokens_out, time.monotonic() - started, first_text_s, cached)


async def _paced(pieces: AsyncGenerator[Piece, None], patience: Patience) -> AsyncGenerator[Piece, None]:
    ends = time.monotonic() + patience.deadline_s
    wait, what = patience.first_token_s, "first"
    async with aclosing(pieces):
        while True:
            left = ends - time.monotonic()
            try:
                async with asyncio.timeout(min(wait, left)):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if left <= wait:
                    raise TimedOut(f"the answer was not complete after {patience.deadline_s:g} s") from None
                raise TimedOut(f"no {what} token within {wait:g} s") from None
            yield piece
            if piece.text:
                wait, what = patience.token_s, "further"
