"""`models` with a real Ollama and a real llama.cpp: what there is, what is loaded, what it takes; and orders."""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from integration.local_server import free_ports
from integration.real_ollama import RealOllama
from integration.test_whole_way import EXAMPLE
from mistudio_explain.cli.main import main
from mistudio_explain.llm.demonstration import Demonstration
from mistudio_explain.llm.inspection import inspecting
from mistudio_explain.llm.opening import configured
from mistudio_explain.llm.usage import Use
from mistudio_explain.settings import EndpointSettings, StoreSettings
from mistudio_explain.store.usage import StoredUsage

pytestmark = pytest.mark.ollama
CONTEXT_TOKENS = 1024


@dataclass
class Program:
    """The command line in this process: what it prints, and the code that it ends with."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def at(self, *endpoints: Mapping[str, Any]) -> None:
        """Set the endpoints."""
        self.monkeypatch.setenv("MISTUDIO_EXPLAIN_LLM__ENDPOINTS", json.dumps(endpoints))
        self.monkeypatch.setenv("MISTUDIO_EXPLAIN_LLM__CONTEXT_TOKENS", str(CONTEXT_TOKENS))
        self.monkeypatch.setenv("MISTUDIO_EXPLAIN_STORE__URL", f"sqlite:///{self.folder}/explain.db")

    def run(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        """What it prints to both streams; errors on one line."""
        self.monkeypatch.setattr(sys, "argv", ["mistudio-explain", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capsys.readouterr()
        assert ended.value.code == expect, f"{out}\n{err}"
        return out, " ".join(err.split())


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.chdir(tmp_path)
    return Program(tmp_path, capsys, monkeypatch)


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


def test_a_model_is_warmed_shown_with_what_it_takes_and_unloaded(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama))
    program.run("models", "unload", ollama.model)
    listed = only_model(program.run("models", "--json")[0])
    assert (listed["model"], listed["state"], listed["memory_bytes"], listed["expires_at"], listed["uses"]) == (ollama.model, "listed", None, None, None)
    warmed, _ = program.run("models", "warm", ollama.model)
    assert warmed.startswith(f"gpu0: loading {ollama.model}\ngpu0: {ollama.model} is loaded and takes 0.")
    loaded = only_model(program.run("models", "--json")[0])
    assert (loaded["state"], loaded["context_tokens"]) == ("loaded", CONTEXT_TOKENS)
    assert datetime.fromisoformat(loaded["expires_at"]) > datetime.now(UTC)
    assert loaded["memory_bytes"] == pytest.approx(listed["needed_bytes"], rel=0.05)
    assert f"{ollama.model} is unloaded and leaves 0." in program.run("models", "unload", ollama.model)[0]
    assert "was not loaded" in program.run("models", "unload", ollama.model)[0]


async def until_loaded(ollama: RealOllama) -> None:
    async with inspecting("ollama", ollama.url) as server:
        await server.load(ollama.model, context_tokens=CONTEXT_TOKENS, timeout_s=60)


def test_the_table_shows_uses_and_since_when_a_model_is_loaded(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama))
    asyncio.run(until_loaded(ollama))
    with closing(StoredUsage(StoreSettings(url=f"sqlite:///{program.folder}/explain.db"))) as usage:
        asyncio.run(usage.note([Use("gpu0", ollama.model, 1234, is_loaded=True)]))
    row = next(line for line in program.run("models")[0].splitlines() if "gpu0" in line).split()
    assert row[:3] == ["gpu0", ollama.model, "loaded"]
    assert datetime.now(UTC) - datetime.fromisoformat(f"{row[3]}T{row[4]}Z") < timedelta(minutes=1)
    assert row[-2:] == ["1234", "healthy"]


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama, memory_gb=0.1))
    program.run("models", "unload", ollama.model)
    _, refused = program.run("models", "warm", ollama.model, expect=2)
    assert (
        f"{ollama.model} does not fit at gpu0: it needs 0.15 GB (weights 0.10 GB + KV cache 0.05 GB), and of 0.10 GB (memory_gb) 0.10 GB are left; "
        "choose a smaller model or quantization, or correct memory_gb"
    ) in refused
    shown, _ = program.run("models", "--json", expect=3)
    (endpoint,) = json.loads(shown)["endpoints"]
    assert endpoint["models"][0]["state"] == "listed"
    assert "smollm2:135m does not fit at gpu0" in endpoint["why"]


def test_a_pull_that_cannot_reach_the_registry_says_what_ollama_says(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama))
    shown, error = program.run("models", "pull", "no-such-model:1b", expect=1)
    assert shown == "gpu0: pulling manifest\n"
    assert "server error: pull model manifest:" in error
    told = json.loads(program.run("models", "pull", "no-such-model:1b", "--json", expect=1)[0])
    assert (told["endpoint"], told["done"]) == ("gpu0", None)
    assert "pull model manifest" in told["error"]


def test_an_unknown_model_or_endpoint_names_what_there_is(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama), {"name": "vllm", "provider": "openai", "url": f"{ollama.url}/v1"})
    assert f"has no model llama3.1:8b; it has {ollama.model}" in program.run("models", "warm", "llama3.1:8b", expect=2)[1]
    assert "there are gpu0, vllm" in program.run("models", "warm", ollama.model, "--endpoint", "gpu7", expect=2)[1]
    assert "of the kind openai" in program.run("models", "pull", ollama.model, "--endpoint", "vllm", expect=2)[1]


def test_an_endpoint_that_is_away_is_shown_beside_one_that_serves(program: Program, ollama: RealOllama) -> None:
    gone = away()
    program.at(gpu0(ollama), gone)
    found = {each["endpoint"]: each for each in json.loads(program.run("models", "--json", expect=3)[0])["endpoints"]}
    assert [model["model"] for model in found["gpu0"]["models"]] == [ollama.model]
    assert found["gpu1"]["status"] == "down"
    assert "unreachable: no connection" in found["gpu1"]["why"]
    assert "down: unreachable: no connection" in " ".join(program.run("models", expect=3)[0].split())
    unloaded, error = program.run("models", "unload", ollama.model, expect=1)  # one of two is done
    assert unloaded.startswith("gpu0: ")
    assert error == f"mistudio-explain: gpu1: {gone['url']}, unreachable: no connection: All connection attempts failed"
    program.at(gone)
    assert program.run("models", "warm", "m", expect=3) == ("", error)


def test_a_configured_model_that_is_not_there_is_said_with_those_that_are(program: Program, ollama: RealOllama) -> None:
    program.at(gpu0(ollama, models=["llama3.1:8b"]))
    (endpoint,) = json.loads(program.run("models", "--json", expect=3)[0])["endpoints"]
    assert f"none of the models wanted (llama3.1:8b); it lists {ollama.model}" in endpoint["why"]
    assert [model["model"] for model in endpoint["models"]] == [ollama.model]


def test_tls_spoken_to_a_plain_server_is_said_in_one_line(program: Program, ollama: RealOllama) -> None:
    url = ollama.url.replace("http:", "https:")
    for kind, at in (("ollama", url), ("openai", f"{url}/v1")):
        program.at({"name": "gpu0", "provider": kind, "url": at})
        _, error = program.run("run", str(EXAMPLE), "--explain-poor", "--dry-run", expect=3)
        assert error.startswith(f"mistudio-explain: LLM endpoint 'gpu0' does not serve: tried {at}/")
        assert "tls: TLS fails: [SSL: WRONG_VERSION_NUMBER] wrong version number" in error
        assert program.run("models", "warm", "m", expect=3 if kind == "ollama" else 2)[0] == ""


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
            endpoint, _ = await configured(settings.model_copy(update={"slots": named}), 2048)
            await endpoint.provider.close()
            assert endpoint.slots == slots
    finally:
        await model.close()


async def test_ollama_does_not_tell_its_slots_and_gets_the_default(ollama: RealOllama) -> None:
    for kind, url in (("ollama", ollama.url), ("openai", f"{ollama.url}/v1")):
        endpoint, _ = await configured(EndpointSettings(name="x", provider=kind, url=url), 2048)
        await endpoint.provider.close()
        assert endpoint.slots == 2
