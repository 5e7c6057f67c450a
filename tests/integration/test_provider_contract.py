"""What every provider's server does with a call: the same tests for real servers and for the wire-format server that stands in for them.

A fault that no real server can be brought to show is tested on the wire format alone (tests/unit/llm/test_providers.py).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from integration.llm_servers import CONTEXT_TOKENS, live_endpoint
from integration.real_ollama import RealOllama
from mistudio_explain.events.explanation import Message
from mistudio_explain.generation.stage import parse, repair_messages
from mistudio_explain.llm.failures import BadRequest, ContextTooLong, ModelUnknown
from mistudio_explain.llm.provider import Call, Patience, Provider
from unit.generation.asking import prompt
from unit.llm.fake_llm import AnthropicWire, FakeLlm, OllamaWire, OpenAiWire, Reply, Wire

PATIENT = Patience(first_token_s=60, token_s=60, deadline_s=120)
ANSWER = json.dumps({"label": "dogs", "pattern": "Texts that name dogs.", "significance": "Animals.", "implications": "None."})
REAL = ("ollama", "openai", "demonstration")  # Ollama natively, Ollama by the OpenAI API, llama.cpp
WIRES: dict[str, Wire] = {f"{wire.provider} wire": wire for wire in (OllamaWire(), OpenAiWire(), AnthropicWire())}


@dataclass(frozen=True)
class Served:
    """A server of one kind, and the model that it has."""

    kind: str
    provider: Provider
    model: str

    def call(self, content: str = "Say hello.", **changes: object) -> Call:
        messages = (Message(role="user", content=content),)
        return replace(Call(messages, "sentence", self.model, 0.0, 1, 24, CONTEXT_TOKENS, PATIENT), **changes)


def behaving(wire: Wire) -> FakeLlm:
    """A server of this wire format that does as a real one: a token is a word."""

    async def answer(reply: Reply) -> None:
        if not reply.body:
            await reply.whole(200, wire.models("m"))
            return
        options = reply.body.get("options", reply.body)
        said = " ".join(message["content"] for message in reply.body["messages"])
        if reply.body["model"] != "m":
            await reply.whole(404, wire.error(f"model '{reply.body['model']}' not found", 404))
        elif len(said.split()) > CONTEXT_TOKENS:
            await reply.whole(400, wire.error("the prompt exceeds the context length"))
        else:
            words = ANSWER.split() if {"format", "response_format", "output_config"} & set(reply.body) else ["word"] * (10_000 if "story" in said else 3)
            limit = options.get("num_predict", options.get("max_tokens"))
            await reply.start()
            for word in words[:limit]:
                await reply.send(wire.piece(word + " "))
                await asyncio.sleep(0)
            await reply.send(wire.last("length" if len(words) > limit else "stop", (len(said.split()), min(len(words), limit))))
            await reply.end()

    return FakeLlm(answer)


@asynccontextmanager
async def served_by(kind: str, ollama: RealOllama) -> AsyncIterator[Served]:
    if kind in REAL:
        async with live_endpoint(kind, ollama) as endpoint:
            yield Served(kind, endpoint.provider, endpoint.models[0].name)
        return
    async with behaving(WIRES[kind]) as server:
        provider = WIRES[kind].client(server.url)
        try:
            yield Served(kind, provider, "m")
        finally:
            await provider.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*REAL, *WIRES])
async def served(request: pytest.FixtureRequest, ollama: RealOllama) -> AsyncIterator[Served]:
    async with served_by(request.param, ollama) as one:
        yield one


pytestmark = [pytest.mark.ollama, pytest.mark.asyncio(loop_scope="module")]


async def test_its_model_is_listed(served: Served) -> None:
    assert served.model in [model.name for model in await served.provider.models()]


async def test_the_pieces_are_the_answer_and_the_tokens_are_counted(served: Served) -> None:
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)

    completion = await served.provider.complete(served.call(on_text=hear))
    assert "".join(heard) == completion.text
    assert completion.text.strip()
    assert completion.tokens_in is not None
    assert completion.tokens_in > 1
    assert completion.tokens_out is not None
    assert 1 <= completion.tokens_out <= 24
    assert completion.first_text_s is not None
    assert 0 < completion.first_text_s <= completion.latency_s


async def test_an_answer_that_its_limit_cuts_says_so(served: Served) -> None:
    completion = await served.provider.complete(served.call("Write a long story about a dog.", max_tokens=6))
    assert completion.finish_reason == "length"
    assert completion.tokens_out == 6


async def test_the_form_of_fields_gives_the_four_fields(served: Served) -> None:
    asked = prompt("fields")
    completion = await served.provider.complete(served.call(messages=tuple(asked.messages), form="fields", max_tokens=80))
    if completion.finish_reason == "stop":  # a small model may not come to an end
        assert set(json.loads(completion.text)) == {"label", "pattern", "significance", "implications"}
    else:
        assert completion.finish_reason == "length"
        assert completion.text.lstrip().startswith("{")


async def test_a_malformed_answer_can_be_sent_back(served: Served) -> None:
    asked = prompt("fields")
    sent_back = repair_messages(asked, "Dogs, I think.", "the answer is not a JSON object")
    completion = await served.provider.complete(served.call(messages=sent_back, form="fields", max_tokens=80))
    assert completion.text.lstrip().startswith("{")
    if served.kind in WIRES:
        assert parse(asked, completion.text, completion.finish_reason).answer.label == "dogs"


@pytest.mark.parametrize("served", ["ollama", "openai", *WIRES], indirect=True)  # llama.cpp's server answers with its one model, whatever the name
async def test_a_model_that_it_does_not_have_is_unknown(served: Served) -> None:
    with pytest.raises(ModelUnknown, match=r"llama3\.1:8b"):
        await served.provider.complete(served.call(model="llama3.1:8b"))


@pytest.mark.parametrize("served", ["ollama", "demonstration", *WIRES], indirect=True)  # Ollama cuts silently under the OpenAI API, which cannot forbid it
async def test_a_prompt_that_does_not_fit_is_refused(served: Served) -> None:
    with pytest.raises(ContextTooLong) as caught:
        await served.provider.complete(served.call("word " * (2 * CONTEXT_TOKENS)))
    assert isinstance(caught.value, BadRequest)
    assert not caught.value.repeatable


async def test_a_cancelled_call_lets_the_next_one_through(served: Served) -> None:
    heard = asyncio.Event()

    async def hear(_: str) -> None:
        heard.set()

    endless = asyncio.create_task(served.provider.complete(served.call("Write a very long story about a dog.", max_tokens=1500, on_text=hear)))
    await asyncio.wait_for(heard.wait(), 60)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    assert (await asyncio.wait_for(served.provider.complete(served.call(max_tokens=4)), 20)).text
