"""What each provider makes of what a server sends, over real sockets."""

import asyncio
import json
import socket
from dataclasses import replace

import pytest
from anthropic.types import CapabilitySupport, ModelCapabilities, TextBlock, TextDelta, ThinkingBlock, ThinkingDelta
from pydantic import BaseModel

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm import failures
from mistudio_explain.llm.connection import MAX_REPLY_BYTES
from mistudio_explain.llm.provider import ANSWER_SCHEMA, Call, Completion, Patience
from unit.llm.fake_llm import AnthropicWire, FakeLlm, OllamaWire, OpenAiWire, Reply, Script, Wire, call


@pytest.fixture(params=[OllamaWire(), OpenAiWire(), AnthropicWire()], ids=lambda wire: wire.provider)
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


def says(*parts: bytes) -> Script:
    async def script(reply: Reply) -> None:
        await reply.start()
        for part in parts:
            await reply.send(part)
        await reply.end()

    return script


async def completed(wire: Wire, script: Script, asked: Call | None = None) -> tuple[Completion, Reply]:
    async with FakeLlm(script) as server:
        client = wire.client(server.url)
        try:
            return await client.complete(asked or call()), server.requests[0]
        finally:
            await client.close()


async def test_pieces_become_one_completion_with_the_servers_counts(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.piece("Dog"), wire.piece("s."), wire.last("stop", (7, 3))))
    assert (completion.text, completion.finish_reason, completion.tokens_in, completion.tokens_out) == ("Dogs.", "stop", 7, 3)
    assert completion.first_text_s is not None
    assert completion.first_text_s <= completion.latency_s


@pytest.mark.parametrize("wire", [OllamaWire(), OpenAiWire()], ids=lambda wire: wire.provider)  # Anthropic's always come
async def test_a_count_that_the_server_does_not_send_stays_none(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.piece("Dogs."), wire.last(counts=None)))
    assert (completion.tokens_in, completion.tokens_out) == (None, None)


async def test_an_answer_cut_by_its_length_says_so(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.piece("Dogs"), wire.last("length")))
    assert completion.finish_reason == "length"


async def test_text_is_passed_on_as_it_comes(wire: Wire) -> None:
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)

    await completed(wire, says(wire.piece("Dog"), wire.piece("s."), wire.last()), call(on_text=hear))
    assert heard == ["Dog", "s."]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "bad option", failures.BadRequest),
        (400, "the input length exceeds the context length", failures.ContextTooLong),
        (400, "request (5031 tokens) exceeds the available context size (2048 tokens)", failures.ContextTooLong),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", failures.ContextTooLong),
        (413, "Request exceeds the maximum size", failures.ContextTooLong),
        (400, "content_filter triggered", failures.ContentFiltered),
        (400, "Output blocked by content filtering policy", failures.ContentFiltered),
        (400, "Your credit balance is too low", failures.AccessDenied),
        (402, "pay first", failures.AccessDenied),
        (401, "no", failures.AccessDenied),
        (403, "no", failures.AccessDenied),
        (404, "model 'm' not found", failures.ModelUnknown),
        (408, "too slow", failures.TimedOut),
        (429, "slow down", failures.RateLimited),
        (500, "runner terminated", failures.ServerFailed),
        (503, "server busy", failures.Overloaded),
        (529, "overloaded", failures.Overloaded),
    ],
)
async def test_an_error_status_is_classified(wire: Wire, status: int, message: str, kind: type[failures.CallFailure]) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(status, wire.error(message, status))

    with pytest.raises(failures.CallFailure, match=str(status)) as caught:
        await completed(wire, refuse)
    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "Wed, 25 Nov 2026 08:00:30 GMT", "date": "Wed, 25 Nov 2026 08:00:00 GMT"}, 30),
        ({"retry_after": "Wed, 25 Nov 2026 07:00:00 GMT", "date": "Wed, 25 Nov 2026 08:00:00 GMT"}, 0),
        ({"retry_after": "Wed, 25 Nov 2026 08:00:30 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({}, None),
    ],
)
async def test_the_servers_retry_after_is_kept(wire: Wire, headers: dict[str, str], seconds: float | None) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(429, wire.error("slow down", 429), **headers)

    with pytest.raises(failures.RateLimited) as caught:
        await completed(wire, refuse)
    assert caught.value.retry_after_s == seconds


async def test_an_error_reply_that_is_no_json_is_quoted(wire: Wire) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(502, b"<html>bad gateway</html>")

    with pytest.raises(failures.Overloaded, match="bad gateway"):
        await completed(wire, refuse)


async def test_a_failed_call_is_sent_once(wire: Wire) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(500, wire.error("no"))

    async with FakeLlm(refuse) as server:
        client = wire.client(server.url)
        with pytest.raises(failures.ServerFailed):
            await client.complete(call())
        await client.close()
        assert len(server.requests) == 1


async def test_an_error_inside_the_stream_is_no_answer(wire: Wire) -> None:
    with pytest.raises(failures.ServerFailed, match="runner crashed"):
        await completed(wire, says(wire.piece("Dogs"), wire.error_in_stream("runner crashed")))


async def test_a_stream_that_ends_without_a_finish_reason_was_dropped(wire: Wire) -> None:
    with pytest.raises(failures.ConnectionDropped):
        await completed(wire, says(wire.piece("Dogs are nice.")))


async def test_a_connection_that_breaks_in_mid_answer_was_dropped(wire: Wire) -> None:
    async def break_off(reply: Reply) -> None:
        await reply.start()
        await reply.send(wire.piece("Dogs"))
        reply.writer.transport.abort()

    with pytest.raises(failures.ConnectionDropped):
        await completed(wire, break_off)


async def test_a_connection_closed_before_the_reply_was_dropped(wire: Wire) -> None:
    async def hang_up(reply: Reply) -> None:
        reply.writer.close()

    with pytest.raises(failures.ConnectionDropped):
        await completed(wire, hang_up)


async def test_nobody_listening_is_an_unreachable_endpoint(wire: Wire) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = wire.client(f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(failures.EndpointUnreachable):
            await client.complete(call())
        with pytest.raises(failures.EndpointUnreachable):
            await client.models()
        await client.close()


async def test_a_page_in_place_of_an_answer_is_garbled(wire: Wire) -> None:
    with pytest.raises(failures.GarbledReply):
        await completed(wire, says(wire.nonsense()))


async def test_invalid_utf8_never_passes_as_clean_text(wire: Wire) -> None:
    try:
        completion, _ = await completed(wire, says(wire.invalid_utf8(), wire.last()))
    except failures.GarbledReply:
        return
    assert "\ufffd" in completion.text  # the reader of answers refuses it


async def test_a_tool_call_in_place_of_an_answer_is_told(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.tool_call()))
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize("wire", [OpenAiWire(), AnthropicWire()], ids=lambda wire: wire.provider)
async def test_an_answer_that_the_providers_filter_cuts_says_so(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.piece("Dogs"), wire.last("content_filter")))
    assert completion.finish_reason == "content_filter"


@pytest.mark.parametrize("wire", [OpenAiWire(), AnthropicWire()], ids=lambda wire: wire.provider)
async def test_tokens_from_the_servers_cache_are_counted_among_those_of_the_prompt(wire: Wire) -> None:
    completion, _ = await completed(wire, says(wire.piece("Dogs."), wire.last("stop", (7, 3), cached=4)))
    assert (completion.tokens_in, completion.cached_tokens, completion.tokens_out) == (7, 4, 3)


async def test_an_answer_of_a_megabyte_is_refused(wire: Wire) -> None:
    with pytest.raises(failures.GarbledReply, match="65536"):
        await completed(wire, says(wire.piece("x" * (1 << 20)), wire.last()))


async def test_a_line_that_never_ends_does_not_fill_the_memory(wire: Wire) -> None:
    sent = 0

    async def pour(reply: Reply) -> None:
        nonlocal sent
        await reply.start()
        await reply.send(wire.piece("x").partition(b"x")[0])
        while True:
            await reply.send(b"x" * (1 << 20))
            sent += 1

    with pytest.raises(failures.GarbledReply, match=str(MAX_REPLY_BYTES)):
        await completed(wire, pour, call(patience=Patience(60, 60, 60)))
    assert sent < 2 * (MAX_REPLY_BYTES >> 20) + 16  # what lies in the sockets' buffers beside it


async def test_an_error_page_without_end_does_not_fill_the_memory(wire: Wire) -> None:
    async def pour(reply: Reply) -> None:
        await reply.start(500)
        while True:
            await reply.send(b"x" * (1 << 20))

    with pytest.raises(failures.CallFailure, match=str(MAX_REPLY_BYTES)):
        await completed(wire, pour)


async def test_an_endless_answer_is_stopped_and_the_connection_closed(wire: Wire) -> None:
    async def talk(reply: Reply) -> None:
        await reply.start()
        while True:
            await reply.send(wire.piece("dogs " * 500))
            await asyncio.sleep(0)

    async with FakeLlm(talk) as server:
        client = wire.client(server.url)
        with pytest.raises(failures.GarbledReply, match="65536") as caught:
            await client.complete(call())
        # the error's traceback is alive, so nothing was closed by the garbage collector
        await asyncio.wait_for(server.requests[0].client_gone.wait(), 5)
        assert caught.value.__traceback__ is not None
        await client.close()


async def test_a_listener_that_fails_closes_the_connection(wire: Wire) -> None:
    async def stall(reply: Reply) -> None:
        await reply.start()
        await reply.send(wire.piece("Dogs"))
        await asyncio.Event().wait()

    async def fail(_: str) -> None:
        raise RuntimeError("cannot pass it on")

    async with FakeLlm(stall) as server:
        client = wire.client(server.url)
        with pytest.raises(RuntimeError) as caught:
            await client.complete(call(on_text=fail))
        await asyncio.wait_for(server.requests[0].client_gone.wait(), 5)
        assert caught.value.__traceback__ is not None
        await client.close()


@pytest.mark.parametrize(
    ("patience", "pieces", "what"),
    [
        (Patience(0.3, 5, 5), 0, "no first token within 0.3 s"),
        (Patience(5, 0.05, 5), 1, "no further token within 0.05 s"),
        (Patience(5, 5, 0.3), 1, "not complete after 0.3 s"),
    ],
)
async def test_waiting_has_an_end_and_closes_the_connection(wire: Wire, patience: Patience, pieces: int, what: str) -> None:
    gone = asyncio.Event()
    await completed(wire, says(wire.piece("x."), wire.last()))  # what a client imports at its first call takes time

    async def stall(reply: Reply) -> None:
        try:
            await reply.start()
            for _ in range(pieces):
                await reply.send(wire.piece("Dogs"))
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with FakeLlm(stall) as server:
        client = wire.client(server.url)
        with pytest.raises(failures.TimedOut, match=what):
            await client.complete(call(patience=patience))
        await asyncio.wait_for(gone.wait(), 5)
        await client.close()


async def test_a_cancelled_call_closes_its_connection(wire: Wire) -> None:
    async def stall(reply: Reply) -> None:
        await reply.start()
        await reply.send(wire.piece("Dogs"))
        await asyncio.Event().wait()

    heard = asyncio.Event()

    async def hear(_: str) -> None:
        heard.set()

    async with FakeLlm(stall) as server:
        client = wire.client(server.url)
        asking = asyncio.create_task(client.complete(call(on_text=hear)))
        await asyncio.wait_for(heard.wait(), 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.requests[0].client_gone.wait(), 5)  # while the client as a whole is still open
        await client.close()


async def test_models_are_listed_in_the_servers_order(wire: Wire) -> None:
    async def models(reply: Reply) -> None:
        await reply.whole(200, wire.models("b", "a"))

    async with FakeLlm(models) as server:
        client = wire.client(server.url)
        listed = await client.models()
        await client.close()
    assert [model.name for model in listed] == ["b", "a"]
    assert [model.digest for model in listed] == (["sha-b", "sha-a"] if wire.provider == "ollama" else [None, None])


async def test_ollama_is_told_not_to_cut_the_prompt_and_gets_constant_options() -> None:
    wire = OllamaWire()
    _, asked = await completed(wire, says(wire.piece("x."), wire.last()), call("fields"))
    assert (asked.body["truncate"], asked.body["shift"], asked.body["stream"]) == (False, False, True)
    assert asked.body["options"] == {"temperature": 0.0, "seed": 1, "num_predict": 300, "num_ctx": 4096}
    assert asked.body["format"] == ANSWER_SCHEMA


async def test_ollama_models_that_only_embed_are_left_out() -> None:
    async def models(reply: Reply) -> None:
        await reply.whole(200, json.dumps({"models": [{"model": "e", "details": {"family": "nomic-bert"}}, {"model": "m"}]}).encode())

    async with FakeLlm(models) as server:
        client = OllamaWire().client(server.url)
        assert [model.name for model in await client.models()] == ["m"]
        await client.close()


async def test_openai_gets_the_schema_for_fields_and_its_own_extras_for_a_sentence() -> None:
    wire = OpenAiWire()
    _, fields = await completed(wire, says(wire.piece("x."), wire.last()), call("fields"))
    _, sentence = await completed(wire, says(wire.piece("x."), wire.last()), call("sentence"))
    assert fields.body["response_format"]["json_schema"]["schema"] == ANSWER_SCHEMA
    assert "grammar" not in fields.body
    assert sentence.body["grammar"] == "root ::= x"
    assert sentence.body["stream_options"] == {"include_usage": True}


async def test_a_key_of_the_environment_never_goes_to_a_server_that_did_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-openai")
    monkeypatch.setenv("OLLAMA_API_KEY", "secret-ollama")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-anthropic")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "secret-anthropic")
    for wire in (OllamaWire(), OpenAiWire(), AnthropicWire()):
        _, asked = await completed(wire, says(wire.piece("x."), wire.last()))
        assert "secret" not in json.dumps(asked.headers)


async def test_a_model_that_declines_to_fill_the_schema_refuses_rather_than_stops() -> None:
    wire = OpenAiWire()
    completion, _ = await completed(wire, says(wire.delta(refusal="I cannot "), wire.delta(refusal="help."), wire.last()))
    assert (completion.text, completion.finish_reason) == ("I cannot help.", "refusal")


@pytest.mark.parametrize(
    ("code", "kind"), [("rate_limit_exceeded", failures.RateLimited), ("insufficient_quota", failures.AccessDenied), (None, failures.ServerFailed)]
)
async def test_openais_error_inside_a_stream_is_classified_by_its_code(code: str | None, kind: type[failures.CallFailure]) -> None:
    wire = OpenAiWire()
    with pytest.raises(failures.CallFailure, match="in the middle") as caught:
        await completed(wire, says(wire.piece("Dogs"), b"data: " + wire.error("in the middle", code=code) + b"\n\n"))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, failures.BadRequest),
        (401, failures.AccessDenied),
        (402, failures.AccessDenied),
        (404, failures.ModelUnknown),
        (429, failures.RateLimited),
        (500, failures.ServerFailed),
        (504, failures.Overloaded),
        (529, failures.Overloaded),
    ],
)
async def test_anthropics_error_inside_a_stream_is_classified_by_its_type(status: int, kind: type[failures.CallFailure]) -> None:
    wire = AnthropicWire()
    with pytest.raises(failures.CallFailure, match="in the middle") as caught:
        await completed(wire, says(wire.first(), wire.piece("Dogs"), wire.error_in_stream("in the middle", status)))
    assert type(caught.value) is kind


async def test_anthropics_events_become_one_completion() -> None:
    wire = AnthropicWire()
    thought = wire.block(0, ThinkingBlock(type="thinking", thinking="", signature=""), ThinkingDelta(type="thinking_delta", thinking="hidden"))
    told = wire.block(1, TextBlock(type="text", text=""), TextDelta(type="text_delta", text="Do"), TextDelta(type="text_delta", text="gs."))
    started = wire.first(input_tokens=5, cache_read_input_tokens=90, cache_creation_input_tokens=3)
    completion, _ = await completed(wire, says(started, thought, told, wire.last(counts=None)))
    assert (completion.text, completion.finish_reason, completion.tokens_in, completion.cached_tokens) == ("Dogs.", "stop", 98, 90)


async def test_anthropic_gets_the_system_turn_apart_and_no_prefill() -> None:
    wire = AnthropicWire()
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="What is it?"), Message(role="assistant", content="It"))
    _, asked = await completed(wire, says(wire.piece("x."), wire.last()), replace(call("fields"), messages=turns))
    assert asked.headers["authorization"] == "Bearer key"
    assert asked.body == {
        "model": "m",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "What is it?"}],
        "max_tokens": 300,
        "stream": True,
        "output_config": {"format": {"type": "json_schema", "schema": ANSWER_SCHEMA}},
    }


@pytest.mark.parametrize(
    ("takes", "asked"),
    [
        ((), {}),
        (("structured_outputs",), {"output_config": {"format": {"type": "json_schema", "schema": ANSWER_SCHEMA}}}),
        (("thinking", "disabled"), {"thinking": {"type": "disabled"}}),
        (("thinking", "effort"), {"output_config": {"effort": "low"}}),
        (("thinking",), {}),
    ],
)
async def test_anthropic_models_get_only_what_the_api_lists_for_them(takes: tuple[str, ...], asked: dict[str, object]) -> None:
    wire = AnthropicWire()

    async def both(reply: Reply) -> None:
        if reply.path.startswith("/v1/models"):
            await reply.whole(200, wire.models("m", capabilities=capable_of(*takes)))
        else:
            await says(wire.piece("x."), wire.last())(reply)

    async with FakeLlm(both) as server:
        client = wire.client(server.url)
        await client.models()
        await client.complete(call("fields"))
        await client.close()
    body = server.requests[1].body
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == asked


def capable_of(*names: str) -> ModelCapabilities:
    """Capabilities of a model, all of them unsupported but those named."""

    def each(kind: type[BaseModel]) -> BaseModel:
        fields = {}
        for name, field in kind.model_fields.items():
            if name == "supported":
                fields[name] = False
            elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                made = each(field.annotation)
                fields[name] = made.model_copy(update={"supported": name in names}) if "supported" in type(made).model_fields else made
                if name == "effort" and name in names:
                    fields[name] = fields[name].model_copy(update={"low": CapabilitySupport(supported=True)})
        return kind.model_construct(**fields)

    made = each(ModelCapabilities)
    assert isinstance(made, ModelCapabilities)
    return made


async def test_a_parameter_that_an_openai_model_refuses_is_left_out_from_then_on() -> None:
    wire = OpenAiWire()

    async def newer(reply: Reply) -> None:
        for name in ("max_tokens", "temperature"):
            if name in reply.body and reply.body["model"] == "m":
                await reply.whole(400, wire.error(f"{name} is not supported with this model", code="unsupported_parameter", param=name))
                return
        await says(wire.piece("x."), wire.last())(reply)

    async with FakeLlm(newer) as server:
        client = wire.client(server.url)
        for model in ("m", "m", "other"):
            assert (await client.complete(replace(call(), model=model))).text == "x."
        await client.close()
    assert [("max_tokens" in each.body, "temperature" in each.body) for each in server.requests] == [
        (True, True), (False, True), (False, False), (False, False), (True, True),
    ]  # fmt: skip
    assert server.requests[2].body["max_completion_tokens"] == 300


async def test_a_parameter_that_is_refused_for_ever_ends_the_call() -> None:
    wire = OpenAiWire()

    async def refuse(reply: Reply) -> None:
        await reply.whole(400, wire.error("no", code="unsupported_value", param="seed"))

    async with FakeLlm(refuse) as server:
        client = wire.client(server.url)
        with pytest.raises(failures.BadRequest):
            await client.complete(call())
        await client.close()
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_server_that_sends_callers_elsewhere_is_not_followed(wire: Wire, status: int) -> None:
    """Else a server could have texts sent to addresses that nobody configured, or ask this machine's neighbours on its behalf."""
    async with FakeLlm(says(wire.piece("Dogs."), wire.last())) as elsewhere:

        async def redirect(reply: Reply) -> None:
            await reply.whole(status, b"", location=f"{elsewhere.url}{reply.path}")

        async with FakeLlm(redirect) as server:
            client = wire.client(server.url)
            try:
                with pytest.raises(failures.EndpointUnreachable, match="sends callers elsewhere"):
                    await client.complete(call())
                with pytest.raises(failures.CallFailure):
                    await client.models()
            finally:
                await client.close()
        assert len(server.requests) == 2
        assert elsewhere.requests == []
