"""Real Ollama and real llama.cpp do what generation relies on."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from integration.llm_servers import CONTEXT_TOKENS, KINDS, live_endpoint
from integration.real_ollama import RealOllama
from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, Message
from mistudio_explain.generation.explainer import Explainer, call_for
from mistudio_explain.generation.several import joined
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.demonstration import MODEL_NAME, Demonstration
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call
from mistudio_explain.settings import GenerationSettings, LlmSettings
from unit.generation.asking import requested

SETTINGS = LlmSettings(context_tokens=CONTEXT_TOKENS)
LONG = 1500  # tokens of a story: 20 to 40 s of one slot


@pytest.fixture(params=KINDS)
async def endpoint(request: pytest.FixtureRequest, ollama: RealOllama) -> AsyncIterator[Endpoint]:
    async with live_endpoint(request.param, ollama) as live:
        yield live


async def drafted(endpoints: Endpoints, request: ExplanationRequested) -> ExplanationDrafted:
    return await Explainer(endpoints, MemoryAnswers(), SETTINGS, GenerationSettings(attempts=4, retry_wait_s=0), random.Random(1)).draft(request)


def asked(endpoint: Endpoint, text: str = "Say hello.", **changes: object) -> Call:
    made = call_for(requested().prompt, endpoint.models[0], SETTINGS)
    return replace(made, messages=(Message(role="user", content=text),), **changes)


def demonstration_servers() -> list[psutil.Process]:
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "mistudio_explain.llm.demonstration_server" in child.cmdline()]


@pytest.mark.ollama
async def test_a_feature_is_explained_in_one_sentence(endpoint: Endpoint) -> None:
    draft = await drafted(Endpoints([endpoint], rng=random.Random(1)), requested(prefill="These texts are all about"))
    assert draft.answer.pattern.endswith(".")
    assert len(draft.answer.pattern.split()) > 3
    assert draft.generation.tokens_in > 50
    assert draft.generation.tokens_out > 2
    assert draft.generation.finish_reason == "stop"
    if endpoint.kind == "demonstration":
        assert draft.answer.pattern.startswith("These texts are all about ")


@pytest.mark.ollama
async def test_a_feature_is_explained_in_four_fields(endpoint: Endpoint) -> None:
    draft = await drafted(Endpoints([endpoint], rng=random.Random(1)), requested("fields"))
    assert draft.answer.label
    assert draft.answer.pattern
    assert draft.flags[0] == "poor_coherence"


@pytest.mark.ollama
async def test_the_same_call_at_temperature_0_gives_the_same_text(endpoint: Endpoint) -> None:
    texts = [(await endpoint.provider.complete(asked(endpoint, max_tokens=24))).text for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.ollama
async def test_a_cancelled_call_frees_its_slot_on_the_server(endpoint: Endpoint) -> None:
    started = asyncio.Semaphore(0)

    async def heard(_: str) -> None:
        started.release()

    long = asked(endpoint, "Write a very long story about a dog, with many chapters.", form="sentence", max_tokens=LONG, on_text=heard)
    endless = [asyncio.create_task(endpoint.provider.complete(long)) for _ in range(endpoint.slots)]
    for _ in endless:
        await asyncio.wait_for(started.acquire(), 60)
    assert not any(task.done() for task in endless)
    for task in endless:
        task.cancel()
    await asyncio.gather(*endless, return_exceptions=True)
    began = time.monotonic()
    await endpoint.provider.complete(asked(endpoint, max_tokens=4))
    assert time.monotonic() - began < 8


@pytest.mark.ollama
async def test_a_record_is_held_while_ollama_is_away_and_explained_when_it_is_back(ollama: RealOllama) -> None:
    async with live_endpoint("ollama", ollama) as endpoint:
        endpoints = Endpoints([endpoint], rng=random.Random(1))
        await asyncio.to_thread(ollama.stop)
        explaining = asyncio.create_task(drafted(endpoints, requested(prefill="These texts are all about")))
        try:
            async with asyncio.timeout(30):
                while not endpoints.held:
                    await asyncio.sleep(0.01)
            assert list(endpoints.outages) == ["ollama"]
        finally:
            await asyncio.to_thread(ollama.start)
        draft = await asyncio.wait_for(explaining, 60)
        assert draft.answer.pattern
        assert endpoints.outages == {}


async def test_without_settings_and_without_ollama_the_demonstration_model_explains() -> None:
    endpoints = await Endpoints.open(LlmSettings(), rng=random.Random(1), local_ollama="http://127.0.0.1:1")
    try:
        assert endpoints.is_demonstration
        draft = await drafted(endpoints, requested(prefill="These texts are all about"))
        assert (draft.generation.model, draft.generation.provider) == (MODEL_NAME, "demonstration")
    finally:
        await endpoints.close()


async def test_a_demonstration_model_that_dies_is_started_again_and_no_try_is_counted() -> None:
    model = await Demonstration.start(1)
    endpoint = Endpoint("demonstration", "demonstration", "", 1, model)
    await endpoint.refresh()
    endpoints = Endpoints([endpoint], rng=random.Random(1))
    (child,) = demonstration_servers()
    child.kill()
    child.wait()
    draft = await drafted(endpoints, requested(prefill="These texts are all about"))
    assert draft.generation.attempt == 0
    await endpoints.close()
    assert demonstration_servers() == []


def test_the_demonstration_model_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, psutil\n"
        "from mistudio_explain.llm.demonstration import Demonstration\n"
        "async def main():\n"
        "    model = await Demonstration.start(1)\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path, env=dict(os.environ))
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(10)


@pytest.mark.ollama
async def test_a_server_keeps_to_the_form_of_several_answers(endpoint: Endpoint) -> None:
    prompts = [requested("fields", feature=str(number)).prompt for number in range(3)]
    call = replace(call_for(prompts[0], endpoint.models[0], SETTINGS), messages=joined(prompts), features=3, max_tokens=900)
    completion = await endpoint.provider.complete(call)
    if completion.finish_reason == "stop":  # so small a model may also run on within a text
        answers = json.loads(completion.text)["answers"]
        assert [set(answer) for answer in answers] == [{"number", "label", "pattern", "significance", "implications"}] * 3
    assert completion.text.lstrip().startswith("{")


async def test_llama_cpp_reads_what_prompts_have_in_common_from_its_cache_without_being_told_to() -> None:
    provider = await Demonstration.start()
    try:
        endpoint = Endpoint("demonstration", "demonstration", "", 1, provider)
        await endpoint.refresh()
        system = Message(role="system", content="You explain what a feature of a language model detects. " * 20)
        completions = []
        for feature in ("dogs", "a number of violins", "volcanoes"):
            call = replace(asked(endpoint, max_tokens=2), messages=(system, Message(role="user", content=f"The texts are about {feature}.")))
            completions.append(await provider.complete(call))
        assert completions[0].tokens_in > 200
        assert all(completion.cached_tokens > 200 for completion in completions[1:])
    finally:
        await provider.close()
