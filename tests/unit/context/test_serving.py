"""What routing is told of the endpoints."""

import random
from pathlib import Path

import pytest

from mistudio_explain.context.explainers import DEMONSTRATION, Listed, Server
from mistudio_explain.context.serving import CHAT_TOKENS, SURE, routing_by
from mistudio_explain.errors import BadSettings
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import ModelListed
from mistudio_explain.settings import ContextSettings, EndpointSettings, LlmSettings, Settings
from unit.generation.scripted import Model


def opened(*endpoints: Endpoint) -> Endpoints:
    return Endpoints(list(endpoints), rng=random.Random(1))


def endpoint(name: str, kind: str, *models: ModelListed) -> Endpoint:
    return Endpoint(name, kind, f"http://{name}", 1, Model("x"), models=models)


def settings(*endpoints: EndpointSettings, routing: Path | None = None) -> Settings:
    return Settings(llm=LlmSettings(endpoints=endpoints, context_tokens=4000, max_tokens=200), context=ContextSettings(routing=routing))


def left(tokens: int) -> int:
    return int(SURE * (tokens - 200 - CHAT_TOKENS))


def test_an_open_endpoint_has_the_models_that_it_lists_with_the_room_for_a_prompt_and_the_memory_of_the_settings() -> None:
    configured = settings(EndpointSettings(name="gpu0", provider="ollama", url="http://gpu0", memory_gb=24))
    gpu0, v = endpoint("gpu0", "ollama", ModelListed("llama3.1:8b")), endpoint("v", "openai", ModelListed("m", context_tokens=8192), ModelListed("n"))
    servers = routing_by(configured, opened(gpu0, v))().servers
    assert servers[0] == Server("gpu0", (Listed("llama3.1:8b", prompt_tokens=left(4000)),), 24)
    assert servers[1] == Server("v", (Listed("m", prompt_tokens=left(8192)), Listed("n")))


def test_the_demonstration_model_has_its_own_context() -> None:
    (server,) = routing_by(settings(), opened(endpoint("d", DEMONSTRATION, ModelListed("smollm2"))))().servers
    assert (server.is_demonstration, server.models) == (True, (Listed("smollm2", prompt_tokens=left(2048)),))


def test_an_endpoint_in_a_cloud_answers_no_first_pass() -> None:
    away = endpoint("c", "openai", ModelListed("gpt"))
    away.reach = "cloud"
    assert routing_by(settings(), opened(away))().servers == ()
    assert routing_by(settings(EndpointSettings(name="c", provider="openai", url="https://api.example.com/v1", models=("gpt",))), None)().servers == ()


def test_models_that_join_later_are_seen_by_the_next_batch() -> None:
    gpu0 = endpoint("gpu0", "ollama", ModelListed("llama3.1:8b"))
    routing = routing_by(settings(), opened(gpu0))
    gpu0.models = (*gpu0.models, ModelListed("codellama:13b"))
    assert [model.name for model in routing().servers[0].models or ()] == ["llama3.1:8b", "codellama:13b"]


def test_a_discovery_leaves_room_for_servers_that_other_workers_drive() -> None:
    found = EndpointSettings(name="fleet", provider="ollama", url="http://ollama:11434", discover="dns", memory_gb=12)
    servers = routing_by(settings(found), opened(endpoint("fleet@10.0.0.1", "ollama", ModelListed("llama3.1:8b"))))().servers
    assert [(server.name, server.memory_gb) for server in servers] == [("fleet@10.0.0.1", 12), ("fleet", None)]
    assert servers[1].models is None


def test_without_endpoints_the_settings_tell_what_there_is() -> None:
    named = EndpointSettings(name="gpu0", provider="ollama", url="http://gpu0", models=("llama3.1:8b",), memory_gb=12)
    unnamed = EndpointSettings(name="gpu1", provider="ollama", url="http://gpu1")
    servers = routing_by(settings(named, unnamed), None)().servers
    assert servers == (Server("gpu0", (Listed("llama3.1:8b", prompt_tokens=left(4000)),), 12), Server("gpu1", None))


def test_a_wrong_policy_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[[rules]]\nmodels = []\n")
    with pytest.raises(BadSettings, match=r"r\.toml, line 2, rules\.1\.models"):
        routing_by(settings(routing=tmp_path / "r.toml"), None)
