"""Pieces of an answer on their way to whoever waits."""

import asyncio
from collections.abc import Sequence

import pytest

from mistudio_explain.events.explanation import TokenChunk
from mistudio_explain.generation.pieces import chunks_of


class Sent:
    """Notes chunks; sending takes until it is let."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.chunks: list[TokenChunk] = []
        self.let = asyncio.Event()
        self.begun = asyncio.Event()
        if at_once:
            self.let.set()

    async def __call__(self, chunks: Sequence[TokenChunk]) -> None:
        self.begun.set()
        await self.let.wait()
        self.chunks += chunks

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


async def test_pieces_are_sent_before_the_answer_is_complete() -> None:
    sent = Sent()
    async with chunks_of("e", sent) as give:
        await give(0, "Dogs")
        await sent.begun.wait()
        assert sent.text == "Dogs"
        await give(0, " bark.")
    assert sent.text == "Dogs bark."
    assert [chunk.index for chunk in sent.chunks] == list(range(len(sent.chunks)))
    assert [chunk.last for chunk in sent.chunks] == [*[False] * (len(sent.chunks) - 1), True]
    assert {chunk.event_id for chunk in sent.chunks} == {"e"}


async def test_the_model_is_not_held_up_and_what_came_meanwhile_goes_together() -> None:
    sent = Sent(at_once=False)
    async with chunks_of("e", sent) as give:
        await give(0, "a")
        await sent.begun.wait()
        for letter in "bcdef":
            await give(0, letter)
        sent.let.set()
    assert [chunk.text for chunk in sent.chunks] == ["a", "bcdef", ""]


async def test_pieces_of_another_try_never_share_a_chunk() -> None:
    sent = Sent(at_once=False)
    async with chunks_of("e", sent) as give:
        for attempt, text in ((0, "a"), (0, "b"), (1, "c")):
            await give(attempt, text)
        sent.let.set()
    assert [(chunk.attempt, chunk.text) for chunk in sent.chunks] == [(0, "ab"), (1, "c"), (1, "")]


async def test_an_answer_that_is_cut_off_sends_no_last_chunk() -> None:
    sent = Sent(at_once=False)

    async def cut_off() -> None:
        async with chunks_of("e", sent) as give:
            await give(0, "a")
            await sent.begun.wait()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await cut_off()
    sent.let.set()
    await asyncio.sleep(0)
    assert sent.chunks == []


async def test_half_a_character_is_replaced_because_no_text_can_hold_it() -> None:
    sent = Sent()
    async with chunks_of("e", sent) as give:
        await give(0, "a\ud83d")
    assert sent.text == "a?"
