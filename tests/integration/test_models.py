"""`models` with a real Ollama and a real llama.cpp: what there is, what is loaded, what it takes; and orders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from integration.local_server import free_ports
from integration.real_ollama import RealOllama
from integration.test_whole_way import Command
from mistudio_explain.llm.demonstration import Demonstration
from mistudio_explain.llm.inspection import inspecting
from mistudio_explain.llm.opening import configured
from mistudio_explain.settings import EndpointSettings

pytestmark = pytest.mark.ollama
CONTEXT_TOKENS = 1024


def command(folder: Path, *endpoints: Mapping[str, Any]) -> Command:
    return Command(
        folder,
        {
            "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps(endpoints),
            "MISTUDIO_EXPLAIN_LLM__CONTEXT_TOKENS": str(CONTEXT_TOKENS),
            "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{folder}/explain.db",
        },
    )


def gpu0(ollama: RealOllama, **more: object) -> dict[str, Any]:
    return {"name": "gpu0", "provider": "ollama", "url": ollama.url, **more}


def away() -> dict[str, Any]:
    (port,) = free_ports(1)
    return {"name": "gpu1", "provider": "ollama", "url": f"http://127.0.0.1:{port}"}


def only_model(listed: str) -> dict[str, Any]:
    (endpoint,) = json.loads(listed)["endpoints"]
    assert endpoint["status"] == "healthy"
    (model,) = endpoint["models"]
    return dict(model)


def test_a_model_is_warmed_shown_with_what_it_takes_and_unloaded(tmp_path: Path, ollama: RealOllama) -> None:
    run = command(tmp_path, gpu0(ollama)).run
    run("models", "unload", ollama.model)
    listed = only_model(run("models", "--json").stdout)
    assert (listed["model"], listed["state"], listed["memory_bytes"], listed["expires_at"]) == (ollama.model, "listed", None, None)
    warmed = run("models", "warm", ollama.model).stdout
    assert f"gpu0: loading {ollama.model}\n" in warmed
    assert f"gpu0: {ollama.model} is loaded and takes 0." in warmed
    loaded = only_model(run("models", "--json").stdout)
    assert (loaded["state"], loaded["context_tokens"]) == ("loaded", CONTEXT_TOKENS)
    assert loaded["expires_at"] > "2026"
    assert loaded["memory_bytes"] == pytest.approx(listed["needed_bytes"], rel=0.05)
    assert f"{ollama.model}" in run("models").stdout
    assert f"{ollama.model} is unloaded and leaves 0." in run("models", "unload", ollama.model).stdout
    assert "was not loaded" in run("models", "unload", ollama.model).stdout


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(tmp_path: Path, ollama: RealOllama) -> None:
    small = command(tmp_path, gpu0(ollama, memory_gb=0.1))
    small.run("models", "unload", ollama.model)
    refused = small.run("models", "warm", ollama.model, expect=2)
    assert (
        f"{ollama.model} does not fit at gpu0: it needs 0.15 GB (weights 0.10 GB + KV cache 0.05 GB), and of 0.10 GB (memory_gb) 0.10 GB are left; "
        "choose a smaller model or quantization, or correct memory_gb"
    ) in " ".join(refused.stderr.split())
    assert only_model(small.run("models", "--json").stdout)["state"] == "listed"


def test_a_pull_that_cannot_reach_the_registry_says_what_ollama_says(tmp_path: Path, ollama: RealOllama) -> None:
    run = command(tmp_path, gpu0(ollama)).run
    failed = run("models", "pull", "no-such-model:1b", expect=1)
    assert failed.stdout == "gpu0: pulling manifest\n"
    assert "server error: pull model manifest:" in " ".join(failed.stderr.split())
    told = json.loads(run("models", "pull", "no-such-model:1b", "--json", expect=1).stdout)
    assert (told["endpoint"], told["done"]) == ("gpu0", None)
    assert "pull model manifest" in told["error"]


def test_an_unknown_model_or_endpoint_names_what_there_is(tmp_path: Path, ollama: RealOllama) -> None:
    run = command(tmp_path, gpu0(ollama), {"name": "vllm", "provider": "openai", "url": f"{ollama.url}/v1"}).run
    assert f"has no model llama3.1:8b; it has {ollama.model}" in " ".join(run("models", "warm", "llama3.1:8b", expect=2).stderr.split())
    assert "there are gpu0, vllm" in " ".join(run("models", "warm", ollama.model, "--endpoint", "gpu7", expect=2).stderr.split())
    assert "of the kind openai" in " ".join(run("models", "pull", ollama.model, "--endpoint", "vllm", expect=2).stderr.split())


def test_an_endpoint_that_is_away_is_shown_beside_one_that_serves(tmp_path: Path, ollama: RealOllama) -> None:
    gone = away()
    run = command(tmp_path, gpu0(ollama), gone).run
    found = {each["endpoint"]: each for each in json.loads(run("models", "--json", expect=3).stdout)["endpoints"]}
    assert [model["model"] for model in found["gpu0"]["models"]] == [ollama.model]
    assert found["gpu1"]["status"] == "down"
    assert "unreachable: no connection" in found["gpu1"]["why"]
    assert "gpu1" in run("models", expect=3).stdout
    unloaded = run("models", "unload", ollama.model, expect=1)  # one of two is done
    assert f"gpu1: {gone['url']}, unreachable: no connection" in " ".join(unloaded.stderr.split())
    alone = command(tmp_path, gone).run("models", "warm", "m", expect=3)
    assert " ".join(alone.stderr.split()) == f"mistudio-explain: gpu1: {gone['url']}, unreachable: no connection: All connection attempts failed"


def test_a_configured_model_that_is_not_there_is_said_with_those_that_are(tmp_path: Path, ollama: RealOllama) -> None:
    (endpoint,) = json.loads(command(tmp_path, gpu0(ollama, models=["llama3.1:8b"])).run("models", "--json", expect=3).stdout)["endpoints"]
    assert f"none of the models wanted (llama3.1:8b); it lists {ollama.model}" in endpoint["why"]
    assert [model["model"] for model in endpoint["models"]] == [ollama.model]


async def test_llama_cpp_tells_its_slots_which_are_taken_where_the_settings_name_none() -> None:
    model = await Demonstration.start(1)
    try:
        url = str(model._servers[0].client._client.base_url)
        async with inspecting("openai", url) as server:
            assert await server.slots() == 1
            (listed,) = await server.models()
            assert (listed.context_tokens, listed.is_loaded) == (2048, None)
        settings = EndpointSettings(name="x", provider="openai", url=url)
        for named, slots in ((None, 1), (4, 4)):
            endpoint, _ = await configured(settings.model_copy(update={"slots": named}))
            await endpoint.provider.close()
            assert endpoint.slots == slots
    finally:
        await model.close()


async def test_ollama_does_not_tell_its_slots_and_gets_the_default(ollama: RealOllama) -> None:
    for kind, url in (("ollama", ollama.url), ("openai", f"{ollama.url}/v1")):
        endpoint, _ = await configured(EndpointSettings(name="x", provider=kind, url=url))
        await endpoint.provider.close()
        assert endpoint.slots == 2
