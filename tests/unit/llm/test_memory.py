"""What an endpoint's memory holds: by what its server says, then by what was seen; and that what has to go is gone before the next model comes."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mistudio_explain.llm.capacity import InsufficientMemory, MemoryNeed
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.failures import ModelUnknown, Overloaded
from mistudio_explain.llm.opening import opened
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import FakeLlm, Reply, call
from unit.llm.test_endpoints import Scripted, settled


class Holding(Scripted):
    """A server that holds models, and notes what happens to them in order."""

    def __init__(self, needs: dict[str, MemoryNeed], takes: dict[str, int] | None = None) -> None:
        super().__init__(*needs)
        self.listed = [ModelListed(model, file_bytes=need.weights_bytes) for model, need in needs.items()]
        self.needs = needs
        self.takes = takes or {model: need.total_bytes for model, need in needs.items()}
        self.held: dict[str, int] = {}
        self.happened: list[str] = []
        self.unloads: list[Exception] = []
        self.may_unload = asyncio.Event()
        self.may_unload.set()

    async def complete(self, call: Call) -> Completion:
        self.held[call.model] = self.takes[call.model]
        self.happened.append(f"call {call.model}")
        return await super().complete(call)

    async def loaded(self) -> dict[str, int]:
        return dict(self.held)

    async def need(self, model: ModelListed, tokens: int) -> MemoryNeed | None:
        return self.needs[model.name]

    async def unload(self, model: str) -> None:
        self.happened.append(f"unload {model}")
        if self.unloads:
            raise self.unloads.pop(0)
        await self.may_unload.wait()
        self.held.pop(model, None)
        self.happened.append(f"gone {model}")


async def holding(server: Holding, memory: int, pinned: frozenset[str] = frozenset()) -> Endpoints:
    endpoint = Endpoint("gpu0", "ollama", "http://gpu0", 2, server)
    endpoint.residency.memory, endpoint.residency.pinned = memory, pinned
    await endpoint.refresh()
    return Endpoints([endpoint], rng=random.Random(1))


async def ask(endpoints: Endpoints, model: str) -> None:
    async with asyncio.timeout(10), endpoints.slot([model]) as choice:
        await endpoints.complete(choice, to(choice.model.name))


def to(model: str) -> Call:
    return replace(call(), model=model)


TWO = {"a": MemoryNeed(4, 2), "b": MemoryNeed(4, 1)}


async def test_files_that_fit_together_do_not_with_the_keys_and_values_of_their_contexts() -> None:
    endpoints = await holding(Holding(TWO), 10)
    (endpoint,) = endpoints.all
    assert (endpoint.memory_of("a"), endpoint.memory_of("b")) == (6, 5)
    await ask(endpoints, "a")
    assert endpoint.residency.evicted_for("b") == ["a"]


async def test_what_has_to_go_is_gone_before_the_first_call_of_the_next_model_and_before_every_other() -> None:
    server = Holding(TWO)
    endpoints = await holding(server, 10)
    await ask(endpoints, "a")
    server.may_unload.clear()
    asking = [asyncio.create_task(ask(endpoints, "b")) for _ in range(2)]
    async with asyncio.timeout(10):
        while "unload a" not in server.happened:
            await asyncio.sleep(0)
    await settled()
    assert server.happened == ["call a", "unload a"]
    server.may_unload.set()
    await asyncio.gather(*asking)
    assert server.happened == ["call a", "unload a", "gone a", "call b", "call b"]
    assert set(server.held) == {"b"}


async def test_a_model_that_cannot_be_unloaded_keeps_the_next_one_out_and_is_the_endpoint_s_fault() -> None:
    server = Holding(TWO)
    endpoints = await holding(server, 10)
    await ask(endpoints, "a")
    server.unloads = [Overloaded("it was told to unload a, which is in its memory 30 s later")]
    async with asyncio.timeout(10), endpoints.slot(["b"]) as choice:
        with pytest.raises(Overloaded) as refused:
            await endpoints.complete(choice, to("b"))
        assert await endpoints.blames_endpoint(choice, to("b"), refused.value)
    assert set(server.held) == {"a"}
    await endpoints.close()


async def test_a_model_that_was_removed_meanwhile_need_not_be_unloaded() -> None:
    server = Holding(TWO)
    endpoints = await holding(server, 10)
    await ask(endpoints, "a")
    server.unloads = [ModelUnknown("there is no a")]
    await ask(endpoints, "b")
    assert server.happened[-1] == "call b"


async def test_what_was_seen_for_our_own_calls_counts_and_for_others_only_when_it_is_more() -> None:
    server = Holding({"a": MemoryNeed(4, 2), "b": MemoryNeed(4, 1)}, takes={"a": 5, "b": 5})
    server.held = {"a": 3, "b": 9}  # others' calls: with less context, and with more
    endpoints = await holding(server, 10)
    (endpoint,) = endpoints.all
    assert (endpoint.memory_of("a"), endpoint.memory_of("b")) == (6, 9)
    server.held.clear()
    await ask(endpoints, "a")
    assert endpoint.memory_of("a") == 5
    endpoint.seen({"a": 7})
    assert endpoint.memory_of("a") == 7


async def test_an_endpoint_whose_last_model_turns_out_not_to_fit_is_out_of_use_and_says_the_arithmetic() -> None:
    endpoints = await holding(Holding({"a": MemoryNeed(4 * 10**9, 10**9)}, takes={"a": 11 * 10**9}), 10 * 10**9)
    await ask(endpoints, "a")
    assert endpoints.outages == {
        "gpu0": "memory: a does not fit at gpu0: it needs 11.0 GB (measured), and of 10.0 GB (memory_gb) 10.0 GB are left; "
        "choose a smaller model or quantization, or correct memory_gb"
    }
    assert endpoints.unready_because() is not None
    await endpoints.close()


def ollama(**shapes: tuple[int, dict[str, Any]]) -> FakeLlm:
    """A server whose models have files of so many bytes, and shapes."""

    async def answer(reply: Reply) -> None:
        if reply.path == "/api/show":
            await reply.whole(200, json.dumps({"model_info": shapes[reply.body["model"]][1]}).encode())
            return
        listed = [{"model": name, "size": size, "digest": name} for name, (size, _) in shapes.items()]
        await reply.whole(200, json.dumps({"models": [] if reply.path == "/api/ps" else listed}).encode())

    return FakeLlm(answer)


LLAMA_70B = {
    "general.architecture": "llama",
    "llama.block_count": 80,
    "llama.attention.head_count": 64,
    "llama.attention.head_count_kv": 8,
    "llama.embedding_length": 8192,
}
LLAMA_8B = LLAMA_70B | {"llama.block_count": 32, "llama.attention.head_count": 32, "llama.embedding_length": 4096}
GB = 10**9


async def start(server: FakeLlm, **settings: Any) -> Endpoint:
    (endpoint,) = await opened(LlmSettings(endpoints=(EndpointSettings(name="gpu0", provider="ollama", url=server.url, **settings),), context_tokens=8192))
    await endpoint.provider.close()
    return endpoint


async def test_an_endpoint_that_can_hold_none_of_its_models_ends_the_start_with_the_arithmetic() -> None:
    async with ollama(llama70b=(40 * GB, LLAMA_70B)) as server:
        with pytest.raises(InsufficientMemory) as refused:
            await start(server, memory_gb=24, slots=2)
    assert refused.value.exit_code == 2
    assert str(refused.value) == (  # 80 layers x 8 heads x (128 + 128) x 2 bytes x 2 slots of 8,192 tokens
        "llama70b does not fit at gpu0: it needs 45.4 GB (weights 40.0 GB + KV cache 5.4 GB), and of 24.0 GB (memory_gb) 24.0 GB are left; "
        "choose a smaller model or quantization, or correct memory_gb"
    )


async def test_a_model_that_the_settings_name_and_that_does_not_fit_is_warned_of_and_not_asked() -> None:
    async with ollama(llama70b=(40 * GB, LLAMA_70B), llama8b=(5 * GB, LLAMA_8B)) as server:
        with capture_logs() as logged:
            endpoint = await start(server, memory_gb=24, slots=2, models=("llama70b", "llama8b"))
    assert [model.name for model in endpoint.usable] == ["llama8b"]
    (warned,) = [line for line in logged if line["event"] == "llm.does_not_fit"]
    assert (warned["log_level"], warned["model"]) == ("warning", "llama70b")
    assert "it needs 45.4 GB" in warned["why"]


async def test_pinned_models_that_do_not_fit_together_end_the_start_with_the_arithmetic() -> None:
    async with ollama(big=(9 * GB, {}), small=(5 * GB, LLAMA_8B)) as server:
        with pytest.raises(InsufficientMemory) as refused:
            await start(server, memory_gb=12, slots=1, pinned=("big", "small"))
    assert str(refused.value) == (
        "big does not fit at gpu0: it needs 9.0 GB (weights 9.0 GB + its KV cache, of which the server tells nothing), and of 12.0 GB (memory_gb) 5.9 GB are "
        "left; taken are 6.1 GB by small (pinned); pin fewer models, or correct memory_gb"
    )


async def test_a_model_that_fits_only_without_the_pinned_ones_is_not_asked() -> None:
    async with ollama(big=(9 * GB, LLAMA_8B), small=(5 * GB, LLAMA_8B)) as server:
        endpoint = await start(server, memory_gb=12, slots=1, pinned=("small",))
    assert [model.name for model in endpoint.usable] == ["small"]
    assert "pin fewer models" in str(endpoint.insufficient("big"))


async def test_nothing_is_refused_or_asked_about_where_the_memory_is_not_known() -> None:
    async with ollama(llama70b=(40 * GB, LLAMA_70B)) as server:
        endpoint = await start(server)
        assert {reply.path for reply in server.requests} == {"/api/tags"}
    assert [model.name for model in endpoint.usable] == ["llama70b"]
