"""What both providers make of what a server sends, over real sockets."""

import asyncio
import json
import socket

import pytest

from mistudio_explain.llm import failures
from mistudio_explain.llm.provider import ANSWER_SCHEMA, Call, Completion, Patience
from unit.llm.fake_llm import FakeLlm, OllamaWire, OpenAiWire, Reply, Script, Wire, call


@pytest.fixture(params=[OllamaWire(), OpenAiWire()], ids=["ollama", "openai"])
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
        (400, "content_filter triggered", failures.ContentFiltered),
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
        await reply.whole(status, wire.error(message))

    with pytest.raises(failures.CallFailure, match=str(status)) as caught:
        await completed(wire, refuse)
    assert type(caught.value) is kind
    assert message in str(caught.value)


async def test_the_servers_retry_after_is_kept(wire: Wire) -> None:
    async def refuse(reply: Reply) -> None:
        await reply.whole(429, wire.error("slow down"), retry_after="7")

    with pytest.raises(failures.RateLimited) as caught:
        await completed(wire, refuse)
    assert caught.value.retry_after_s == 7


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
        (Patience(0.05, 5, 5), 0, "no first token within 0.05 s"),
        (Patience(5, 0.05, 5), 1, "no further token within 0.05 s"),
        (Patience(5, 5, 0.05), 1, "not complete after 0.05 s"),
    ],
)
async def test_waiting_has_an_end_and_closes_the_connection(wire: Wire, patience: Patience, pieces: int, what: str) -> None:
    gone = asyncio.Event()

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
    for wire in (OllamaWire(), OpenAiWire()):
        _, asked = await completed(wire, says(wire.piece("x."), wire.last()))
        assert "secret" not in json.dumps(asked.headers)
