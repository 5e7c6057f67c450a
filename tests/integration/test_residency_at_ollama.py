"""What the dispatch takes for loaded, beside what a real Ollama says."""

import random
from dataclasses import replace

import pytest

from integration.real_ollama import RealOllama
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import PATIENT, call

pytestmark = pytest.mark.ollama


async def test_a_models_memory_is_its_files_until_the_server_has_loaded_it(ollama: RealOllama) -> None:
    settings = EndpointSettings(name="x", provider="ollama", url=ollama.url, models=(ollama.model,), slots=2, memory_gb=4)
    endpoints = await Endpoints.open(LlmSettings(endpoints=(settings,)), rng=random.Random(1))
    (endpoint,) = endpoints.all
    try:
        (listed,) = endpoint.models
        assert 5e7 < (listed.file_bytes or 0) < 5e8
        async with endpoints.slot([ollama.model]) as choice:
            patience = replace(PATIENT, first_token_s=120, deadline_s=240)
            await endpoints.complete(choice, replace(call(patience=patience), model=ollama.model, max_tokens=4, context_tokens=2048))
        assert list(endpoint.residency.resident) == [ollama.model]
        await endpoint.look_at_memory()
        assert list(endpoint.residency.resident) == [ollama.model]
        assert (endpoint.memory_of(ollama.model) or 0) > (listed.file_bytes or 0)  # keys and values come on top of the weights
    finally:
        await endpoints.close()
