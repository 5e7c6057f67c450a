"""The simulated LLM server that benchmarks drive: what it promises, seen through our own clients."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from benchmarks.llm.load_model import Faults, LoadModel, Profile, profile_named
from benchmarks.llm.simulated import Simulated

from mistudio_explain.llm.failures import ConnectionDropped, EndpointUnreachable, ModelUnknown, RateLimited, ServerFailed
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.openai import OpenAi
from mistudio_explain.llm.provider import Provider
from unit.llm.fake_llm import call

FAST = 0.01


def client(url: str, wire: str) -> Provider:
    return Ollama(url) if wire == "ollama" else OpenAi(f"{url}/v1")


@pytest.fixture(scope="module")
def two_models() -> Iterator[Simulated]:
    with Simulated("two-models", scale=FAST) as server:
        yield server


@pytest.mark.parametrize("wire", ["ollama", "openai"])
@pytest.mark.parametrize("form", ["sentence", "fields"])
async def test_both_wire_formats_are_understood_by_our_clients(two_models: Simulated, wire: str, form: str) -> None:
    provider = client(two_models.url, wire)
    assert [model.name for model in await provider.models()] == ["alpha", "beta"]
    completion = await provider.complete(replace(call(form), model="alpha"))
    assert completion.finish_reason == "stop"
    assert completion.tokens_in
    assert completion.tokens_out
    assert "simulated answers." in completion.text
    with pytest.raises(ModelUnknown):
        await provider.complete(replace(call(form), model="gamma"))
    await provider.close()


@pytest.mark.parametrize("wire", ["ollama", "openai"])
async def test_faults_look_like_a_servers_own(wire: str) -> None:
    with Simulated("healthy", scale=FAST) as server:
        provider = client(server.url, wire)
        server.fail(errors=1.0)
        with pytest.raises(ServerFailed):
            await provider.complete(replace(call(), model="alpha"))
        server.fail(drops=1.0)
        with pytest.raises(ConnectionDropped):
            await provider.complete(replace(call(), model="alpha"))
        server.kill()
        with pytest.raises(EndpointUnreachable):
            await provider.complete(replace(call(), model="alpha"))
        await provider.close()


async def test_a_call_that_is_cut_off_leaves_the_server() -> None:
    with Simulated("healthy", scale=FAST) as server:
        provider = client(server.url, "ollama")
        server.fail(hangs=1.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.gather(*(provider.complete(replace(call(), model="alpha")) for _ in range(4)))
        server.fail()
        await asyncio.gather(*(provider.complete(replace(call(), model="alpha")) for _ in range(4)))  # its four slots are free again
        await provider.close()


@pytest.mark.parametrize("wire", ["ollama", "openai"])
async def test_calls_above_the_rate_are_refused_with_the_time_to_wait(wire: str) -> None:
    with Simulated("cloud", scale=0.2) as server:
        provider = client(server.url, wire)
        results = await asyncio.gather(*(provider.complete(replace(call(), model="cloud")) for _ in range(100)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, RateLimited)]
        assert refused
        assert all(0 < (failure.retry_after_s or 0) <= 0.1 * 0.2 + 1e-3 for failure in refused)
        assert server.observed()["refused"] == len(refused)
        await provider.close()


async def answered(model: LoadModel, name: str, prompt: str = "p" * 400) -> list[int]:
    return [tokens async for tokens in model.answer(name, prompt, 4096)]


async def taken(model: LoadModel, names: list[str]) -> float:
    began = model.now()
    await asyncio.gather(*(answered(model, name) for name in names))
    return model.now() - began


def steady(profile: Profile) -> Profile:
    return replace(profile, answer=(60, 0.0))


async def test_answers_share_the_rate_and_wait_for_slots() -> None:
    model = LoadModel(steady(profile_named("two-models")), seed=1, scale=0.05)
    await model.load("alpha")
    for calls, seconds in [(1, 60 / 60), (4, 4 * 60 / 200), (8, 8 * 60 / 200)]:
        assert seconds <= await taken(model, ["alpha"] * calls) < 2 * seconds + 1  # more where the machine is busy


async def test_models_that_do_not_fit_together_switch_first_come_first_served() -> None:
    model = LoadModel(steady(profile_named("two-models")), seed=1, scale=0.005)
    await taken(model, ["alpha", "beta"] * 3)
    assert model.observed.loads == 6
    assert list(model.resident) == ["beta"]


async def test_the_beginning_that_prompts_share_is_read_once() -> None:
    model = LoadModel(profile_named("ollama"), seed=1, scale=0.001)
    await answered(model, "small", "s" * 4000 + "one")
    await answered(model, "small", "s" * 4000 + "two")
    assert model.observed.cached_tokens == 1000


async def test_ten_times_the_latency_takes_ten_times_as_long() -> None:
    model = LoadModel(steady(profile_named("healthy")), seed=1, scale=0.02)
    await model.load("alpha")
    model.faults = Faults(latency_factor=10.0)
    assert 10.0 <= await taken(model, ["alpha"]) < 20.0


async def test_the_same_seed_gives_the_same_answers() -> None:
    async def tokens(seed: int) -> list[list[int]]:
        model = LoadModel(profile_named("healthy"), seed=seed, scale=0.001)
        return [await answered(model, "alpha") for _ in range(5)]

    assert await tokens(3) == await tokens(3)
    assert await tokens(3) != await tokens(4)


async def test_our_client_sees_what_it_has_loaded() -> None:
    with Simulated("two-models", scale=FAST) as server:
        provider = Ollama(server.url)
        assert await provider.loaded() == {}
        await provider.complete(replace(call(), model="beta"))
        assert await provider.loaded() == {"beta": 5_000_000_000}
        await provider.close()
