"""What the dispatch takes for loaded, and what it loads, beside what a real Ollama says."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from integration.real_ollama import MODEL, RealOllama
from mistudio_explain.llm.capacity import InsufficientMemory
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import PATIENT, call

pytestmark = pytest.mark.ollama

CONTEXT_TOKENS = 2048
OTHER = "other:135m"


@pytest.fixture
def other(ollama: RealOllama, tmp_path: Path) -> Iterator[str]:
    """A second model: the same weights in another file, for Ollama shares what is loaded by file."""
    ollama.create_other(OTHER, tmp_path)
    yield OTHER
    ollama.delete(OTHER)


async def opened(ollama: RealOllama, *models: str, memory_gb: float) -> Endpoints:
    settings = EndpointSettings(name="x", provider="ollama", url=ollama.url, models=models, slots=2, memory_gb=memory_gb)
    return await Endpoints.open(LlmSettings(endpoints=(settings,), context_tokens=CONTEXT_TOKENS), rng=random.Random(1))


async def ask(endpoints: Endpoints, model: str) -> None:
    patience = replace(PATIENT, first_token_s=120, deadline_s=240)
    async with endpoints.slot([model]) as choice:
        await endpoints.complete(choice, replace(call(patience=patience), model=model, max_tokens=4, context_tokens=CONTEXT_TOKENS))


def only(endpoints: Endpoints) -> Endpoint:
    (endpoint,) = endpoints.all
    return endpoint


def loaded(ollama: RealOllama) -> list[str]:
    return sorted(model["model"] for model in httpx.get(f"{ollama.url}/api/ps").json()["models"])


async def test_a_models_memory_is_estimated_with_its_context_until_the_server_has_loaded_it(ollama: RealOllama) -> None:
    endpoints = await opened(ollama, MODEL, memory_gb=4)
    endpoint = only(endpoints)
    try:
        (listed,) = endpoint.models
        assert 5e7 < (listed.file_bytes or 0) < 5e8
        estimated = endpoint.memory_of(MODEL) or 0
        assert estimated > (listed.file_bytes or 0)  # keys and values come on top of the weights
        await ask(endpoints, MODEL)
        assert list(endpoint.residency.resident) == [MODEL]
        assert endpoint.is_measured(MODEL)
        assert endpoint.memory_of(MODEL) == pytest.approx(estimated, rel=0.1)
    finally:
        await endpoints.close()


async def test_a_server_with_room_for_both_never_holds_two_models_where_memory_gb_holds_one(ollama: RealOllama, other: str) -> None:
    endpoints = await opened(ollama, MODEL, other, memory_gb=0.3)  # one takes 0.2 GB
    try:
        for model in (MODEL, other, MODEL):
            await ask(endpoints, model)
            assert loaded(ollama) == [model]
        assert only(endpoints).residency.switches == 2
    finally:
        await endpoints.close()


async def test_memory_that_holds_the_file_but_not_the_context_ends_the_start_with_the_arithmetic(ollama: RealOllama) -> None:
    with pytest.raises(InsufficientMemory, match=rf"{MODEL} does not fit at x: it needs 0\.19 GB \(weights 0\.10 GB \+ KV cache 0\.09 GB\), and of 0\.15 GB"):
        await opened(ollama, MODEL, memory_gb=0.15)
