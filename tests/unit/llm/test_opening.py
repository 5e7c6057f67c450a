"""What the settings come to at the start, and what is said when an endpoint is not there."""

import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from integration.local_tls import self_signed
from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.llm import opening
from mistudio_explain.llm.opening import opened, opened_though_away
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import AnthropicWire, FakeLlm, OllamaWire, OpenAiWire, Reply, Script, Wire


def lists(wire: Wire, *models: str) -> FakeLlm:
    async def models_only(reply: Reply) -> None:
        await reply.whole(200, wire.models(*models))

    return FakeLlm(models_only)


def free_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def settings(*endpoints: EndpointSettings) -> LlmSettings:
    return LlmSettings(endpoints=endpoints)


async def test_an_ollama_on_this_machine_is_used_when_nothing_is_configured() -> None:
    async with lists(OllamaWire(), "m") as server:
        (endpoint,) = await opened(LlmSettings(), local_ollama=server.url)
        await endpoint.provider.close()
    assert (endpoint.kind, [model.name for model in endpoint.models]) == ("ollama", ["m"])


async def test_configured_models_are_used_in_the_settings_order() -> None:
    async with lists(OpenAiWire(), "a", "b", "c") as server:
        (endpoint,) = await opened(settings(EndpointSettings(name="x", provider="openai", url=f"{server.url}/v1", models=("c", "a"))))
        await endpoint.provider.close()
    assert [model.name for model in endpoint.models] == ["c", "a"]


async def test_an_endpoint_that_does_not_answer_is_named_with_what_was_tried() -> None:
    url = free_url()
    with pytest.raises(Unreachable, match="'gpu0'") as caught:
        await opened(settings(EndpointSettings(name="gpu0", provider="ollama", url=url)))
    assert f"{url}/api/tags" in str(caught.value)
    assert "llm.endpoints" in str(caught.value)


async def test_a_wrong_key_is_said_at_the_start(tmp_path: Path) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(401, OpenAiWire().error("Incorrect API key provided"))

    key = tmp_path / "key"
    key.write_text("wrong\n")
    async with FakeLlm(refuse) as server:
        with pytest.raises(Unreachable, match="auth: HTTP 401: Incorrect API key provided"):
            await opened(settings(EndpointSettings(name="x", provider="openai", url=f"{server.url}/v1", api_key_file=key)))
        assert server.requests[0].headers["authorization"] == "Bearer wrong"


@pytest.mark.parametrize("wire", [OllamaWire(), OpenAiWire(), AnthropicWire()])
@pytest.mark.parametrize("opening", [opened, opened_though_away])
async def test_a_certificate_that_is_not_trusted_is_said_at_the_start_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: Wire, opening: Callable[[LlmSettings], Awaitable[object]]
) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "key")
    _, context = self_signed(tmp_path)

    async def models_only(reply: Reply) -> None:
        await reply.whole(200, wire.models("m"))

    async with FakeLlm(models_only, tls=context) as server:
        url = f"{server.url}/v1" if wire.provider == "openai" else server.url
        with pytest.raises(Unreachable, match=r"'gpu0' does not serve: .* tls: TLS fails: .*certificate verify failed: self-signed certificate.*SSL_CERT_FILE"):
            await opening(settings(EndpointSettings(name="gpu0", provider=wire.provider, url=url, api_key_env="KEY_OF_TESTS")))
        assert server.requests == []


async def refused(reply: Reply) -> None:
    await reply.whole(401, OpenAiWire().error("Incorrect API key provided"))


async def failing(reply: Reply) -> None:
    await reply.whole(500, OpenAiWire().error("out of memory"))


async def loading(reply: Reply) -> None:
    await reply.whole(503, OpenAiWire().error("Loading model"))


async def hanging_up(reply: Reply) -> None:
    reply.writer.transport.abort()


async def another_server(reply: Reply) -> None:
    await reply.whole(200, b"<html>hello</html>")


async def with_other_models(reply: Reply) -> None:
    await reply.whole(200, OpenAiWire().models("a", "b"))


def one_at(url: str) -> LlmSettings:
    return settings(EndpointSettings(name="gpu0", provider="openai", url=f"{url}/v1", models=("m", "n")))


@pytest.mark.parametrize("script", [failing, loading, hanging_up])
async def test_an_endpoint_that_fails_at_the_start_can_be_waited_for(script: Script) -> None:
    async with FakeLlm(script) as server:
        (endpoint,), outages = await opened_though_away(one_at(server.url))
        await endpoint.provider.close()
        with pytest.raises(Unreachable, match="'gpu0' does not serve"):
            await opened(one_at(server.url))
    assert list(outages) == ["gpu0"]
    assert [model.name for model in endpoint.models] == ["m", "n"]
    assert not endpoint.is_known


async def test_an_endpoint_that_is_away_can_be_waited_for_beside_one_that_serves() -> None:
    async with lists(OpenAiWire(), "a") as server:
        both = (EndpointSettings(name="away", provider="ollama", url=free_url()), EndpointSettings(name="here", provider="openai", url=f"{server.url}/v1"))
        endpoints, outages = await opened_though_away(settings(*both))
        for endpoint in endpoints:
            await endpoint.provider.close()
    assert list(outages) == ["away"]
    assert endpoints[0].may_have("anything")
    assert not endpoints[1].may_have("anything")


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [(refused, Unreachable, "auth: HTTP 401"), (another_server, Unreachable, "garbled reply"), (with_other_models, BadSettings, r"m, n.*it lists a, b")],
)
async def test_what_a_person_must_correct_is_an_error_also_where_an_outage_is_waited_out(script: Script, error: type[Exception], said: str) -> None:
    async with FakeLlm(script) as server:
        with pytest.raises(error, match=said):
            await opened_though_away(one_at(server.url))


async def test_a_model_that_is_not_there_is_an_error_that_names_what_there_is() -> None:
    async with lists(OllamaWire(), "a", "b") as server:
        with pytest.raises(BadSettings, match=r"llama3\.1:8b.*it lists a, b"):
            await opened(settings(EndpointSettings(name="x", provider="ollama", url=server.url, models=("llama3.1:8b",))))


async def test_an_endpoint_without_url_or_with_a_name_used_twice_is_a_wrong_setting() -> None:
    with pytest.raises(BadSettings, match="`url` is missing"):
        await opened(settings(EndpointSettings(name="x", provider="ollama")))
    one = EndpointSettings(name="x", provider="ollama", url=free_url())
    with pytest.raises(BadSettings, match="'x' is used 2 times"):
        await opened(settings(one, one))


def anthropic(**changes: object) -> LlmSettings:
    return settings(EndpointSettings(name="x", provider="anthropic", **changes))


async def test_the_key_of_an_anthropic_endpoint_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n")
    monkeypatch.setenv("THE_KEY", "from-environment")
    async with lists(AnthropicWire(), "m") as server:
        for changes in ({"api_key_file": key}, {"api_key_env": "THE_KEY"}):
            (endpoint,) = await opened(anthropic(url=server.url, **changes))
            await endpoint.provider.close()
            assert (endpoint.kind, endpoint.url, [model.name for model in endpoint.models]) == ("anthropic", server.url, ["m"])
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer from-file", "Bearer from-environment"]


async def test_the_usual_variable_of_the_anthropic_key_goes_to_the_usual_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "usual")
    async with lists(AnthropicWire(), "m") as server:
        with pytest.raises(BadSettings, match="there is no API key"):
            await opened(anthropic(url=server.url))
        assert server.requests == []
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)  # how the client itself is told another usual address
        (endpoint,) = await opened(anthropic())
        await endpoint.provider.close()
    assert endpoint.url == server.url
    assert server.requests[0].headers["authorization"] == "Bearer usual"


async def test_an_anthropic_endpoint_without_a_key_is_a_wrong_setting_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(BadSettings, match="ANTHROPIC_API_KEY is not set"):
        await opened(anthropic())


async def test_a_wrong_anthropic_key_is_said_at_the_start(tmp_path: Path) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(401, AnthropicWire().error("invalid x-api-key", 401))

    key = tmp_path / "key"
    key.write_text("wrong\n")
    async with FakeLlm(refuse) as server:
        with pytest.raises(Unreachable, match="/v1/models, auth: HTTP 401: invalid x-api-key"):
            await opened(anthropic(url=server.url, api_key_file=key))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("slots", "is_found"), [(None, True), (5, False)])
async def test_slots_that_are_not_set_and_not_told_are_found(slots: int | None, is_found: bool) -> None:
    async with lists(OllamaWire(), "m") as server:
        given = EndpointSettings(name="x", provider="ollama", url=server.url, slots=slots, max_slots=8, memory_gb=24, pinned=("m",))
        (endpoint,) = await opened(settings(given))
        await endpoint.provider.close()
    assert (endpoint.limit is not None, endpoint.slots) == (is_found, slots or 2)
    assert endpoint.limit is None or endpoint.limit.most == 8
    assert (endpoint.residency.memory, endpoint.residency.pinned) == (24 * 10**9, {"m"})


async def test_slots_are_found_within_their_bound_from_the_first_call_on() -> None:
    async with lists(OllamaWire(), "m") as server:
        (endpoint,) = await opened(settings(EndpointSettings(name="x", provider="ollama", url=server.url, max_slots=1)))
        await endpoint.provider.close()
    assert endpoint.slots == 1


async def compressed_wrongly(reply: Reply) -> None:
    await reply.whole(200, b"no gzip at all", **{"content-encoding": "gzip"})


async def test_a_reply_that_cannot_be_unpacked_is_an_outage_and_ends_no_probe() -> None:
    async with FakeLlm(compressed_wrongly) as server:
        with pytest.raises(Unreachable):
            await opened(settings(EndpointSettings(name="x", provider="ollama", url=server.url)))


async def test_the_client_of_an_endpoint_is_loaded_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half a second, for which a gateway would answer nobody."""
    loaded: dict[str, bool] = {}
    monkeypatch.setattr(opening, "import_module", lambda name: loaded.update({name: threading.current_thread() is threading.main_thread()}))
    await opened_though_away(LlmSettings(endpoints=(EndpointSettings(name="gpu0", provider="openai", url="http://127.0.0.1:9/v1", models=("m",)),)))
    assert loaded == {"mistudio_explain.llm.openai": False}
