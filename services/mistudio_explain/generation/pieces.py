"""An answer's pieces on their way to a person who waits for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter

from mistudio_explain.events.explanation import TokenChunk
from mistudio_explain.generation.explainer import OnPiece

Send = Callable[[Sequence[TokenChunk]], Awaitable[None]]


@asynccontextmanager
async def chunks_of(event_id: str, send: Send) -> AsyncIterator[OnPiece]:
    """Inside, give pieces of an answer; they are sent in order as chunks, and at the end the last one, which is empty.

    The model is never held up by the sending: what comes while a chunk is on its way goes with the next one. When the
    answer is cut off, what waits is dropped and no last chunk is sent.
    """
    waiting: list[tuple[int, str]] = []
    changed = asyncio.Event()
    ended = False

    async def give(attempt: int, text: str) -> None:
        waiting.append((attempt, text.encode(errors="replace").decode()))  # half of a surrogate pair is no text that could be sent
        changed.set()

    async def send_all() -> None:
        index = attempt = 0
        while not ended or waiting:
            await changed.wait()
            changed.clear()
            taken = waiting.copy()
            waiting.clear()
            chunks = []
            for attempt, pieces in groupby(taken, key=itemgetter(0)):
                chunks.append(TokenChunk(event_id=event_id, index=index, text="".join(text for _, text in pieces), attempt=attempt))
                index += 1
            if chunks:
                await send(chunks)
        await send([TokenChunk(event_id=event_id, index=index, text="", last=True, attempt=attempt)])

    sending = asyncio.create_task(send_all(), name=f"pieces of {event_id}")
    try:
        yield give
    except BaseException:
        sending.cancel()
        raise
    ended = True
    changed.set()
    await sending
