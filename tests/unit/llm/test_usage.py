"""What models are used for is said in full, also when it could not be said at once."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

from mistudio_explain.errors import Unreachable
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import ModelListed
from mistudio_explain.llm.usage import Use, UseNotes
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply, call


class Notebook:
    def __init__(self) -> None:
        self.noted: list[Use] = []
        self.is_away = False

    async def note(self, uses: Sequence[Use]) -> None:
        if self.is_away:
            raise Unreachable("the store is away")
        self.noted += uses


async def answering(reply: Reply) -> None:
    wire = OllamaWire()
    if reply.path == "/api/ps":
        await reply.whole(200, wire.models("m"))
        return
    await reply.start()
    await reply.send(wire.piece("yes.") + wire.last())
    await reply.end()


async def test_calls_are_noted_once_with_what_is_loaded_and_later_when_the_store_was_away() -> None:
    async with FakeLlm(answering) as server:
        endpoint = Endpoint("gpu0", "ollama", server.url, 2, OllamaWire().client(server.url), models=(ModelListed("m"), ModelListed("n")))
        endpoints = Endpoints([endpoint], rng=random.Random(1))
        notebook = Notebook()
        notes = UseNotes(endpoints, notebook)
        for notebook.is_away in (True, False):
            async with endpoints.slot(["m"]) as choice:
                await endpoints.complete(choice, call())
            await notes.note()
        assert notebook.noted == [Use("gpu0", "m", 2, is_loaded=True), Use("gpu0", "n", 0, is_loaded=False)]
        await notes.note()
        assert [use.calls for use in notebook.noted[2:]] == [0, 0]
        await endpoints.close()


class CutOff(Notebook):
    """Writes, and never says so."""

    async def note(self, uses: Sequence[Use]) -> None:
        self.noted += uses
        if len(self.noted) == 1:
            await asyncio.Event().wait()


async def test_calls_whose_note_was_cut_off_after_it_was_written_are_not_noted_again() -> None:
    endpoint = Endpoint("gpu0", "openai", "", 2, OllamaWire().client("http://127.0.0.1:1"), models=(ModelListed("m"),))
    endpoints = Endpoints([endpoint], rng=random.Random(1))
    endpoints.answered["gpu0", "m"] = 3
    notebook = CutOff()
    notes = UseNotes(endpoints, notebook)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(notes.note(), 0.1)
    await notes.note()
    assert [use.calls for use in notebook.noted] == [3, 0]
    await endpoints.close()
