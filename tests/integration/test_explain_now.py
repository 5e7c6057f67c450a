"""One feature for a person who waits: through the services of a Kafka, and in one process with a real model."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import pytest

from integration.real_kafka import RealKafka
from integration.real_ollama import RealOllama
from integration.test_stream_app import MakeApp, all_records, feature, make_app, until
from integration.test_whole_way import EXAMPLE, PROGRAM, Command, command, kafka_settings, ollama_settings
from mistudio_explain.cli.answer import Answering
from mistudio_explain.cli.explain import explained_by_services
from mistudio_explain.context import service as context_service
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import ExplanationRequested, OutcomeKind, TokenChunk
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground
from mistudio_explain.generation import service as generation_service
from mistudio_explain.intake.asking import Wishes, asked_for
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.settings import QualitySettings
from mistudio_explain.validation import service as validation_service
from mistudio_explain.validation.validator import Validator
from unit.llm.fake_llm import FakeLlm, OpenAiWire, Reply, Script

__all__ = ["command", "make_app"]  # fixtures

WORDS = ('{"label": "Fixed things", ', '"pattern": "Texts that mention a fixed thing.", ', '"significance": "It is known.", "implications": "None."}')


@dataclass
class Speaker:
    """A model that says its answer in pieces, and goes on after the first one when it is let to."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    cut_off: int = 0

    async def complete(self, call: Call) -> Completion:
        self.calls += 1
        try:
            for word in WORDS:
                if call.on_text is not None:
                    await call.on_text(word)
                self.has_begun.set()
                await self.let.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        return Completion("".join(WORDS), "stop", 10, 10, 0.0, 0.0)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("fake")]

    async def close(self) -> None:
        return None


class Watching(Answering):
    """Notes what a person sees; lets the model go on once the first piece is there."""

    def __init__(self, speaker: Speaker, *, lets: bool = True) -> None:
        super().__init__(stream=False, as_json=False)
        self.speaker = speaker
        self.lets = lets
        self.pieces: list[str] = []

    async def piece(self, beginning: int, text: str) -> None:
        await super().piece(beginning, text)
        self.pieces.append(text)
        if self.lets:
            self.speaker.let.set()


@asynccontextmanager
async def services(app: StreamApp, speaker: Speaker) -> AsyncIterator[None]:
    endpoint = Endpoint("fake", "openai", "", 2, speaker)
    await endpoint.refresh()
    controls = JobControls(app)
    context_service.register(app, controls)
    generation_service.register(app, controls, Endpoints([endpoint], rng=Random(0)), MemoryAnswers(), Random(0))
    validation_service.register(app, controls, Validator.load(QualitySettings()))
    async with app.running():
        yield


def asked(number: int, mark: str = "0000") -> FeatureFound:
    return asked_for(feature(number), Wishes(), datetime(2026, 11, 25, tzinfo=UTC), mark)


async def test_a_feature_is_explained_through_the_express_lane_and_its_pieces_come_before_the_answer_is_complete(make_app: MakeApp) -> None:
    app, speaker = make_app(), Speaker()
    async with services(app, speaker), asyncio.timeout(60):
        shown = Watching(speaker)  # the model says no second word before the first was seen
        outcome = await explained_by_services(app.clients, app.producer, asked(5), shown)
        assert outcome.outcome is OutcomeKind.EXPLAINED
        assert outcome.pattern_verification is not None
        assert "".join(shown.pieces) == "".join(WORDS)
        (prompt,) = [decode(ExplanationRequested, record.value) for record in await all_records(app, topics.EXPRESS)]
        chunks = [decode(TokenChunk, record.value) for record in await all_records(app, topics.TOKENS)]
        assert {chunk.event_id for chunk in chunks} == {prompt.event_id}
        assert [chunk.last for chunk in chunks][-1]


async def test_whoever_waits_no_longer_ends_the_call_of_the_model(make_app: MakeApp) -> None:
    app, speaker = make_app(), Speaker()
    async with services(app, speaker), asyncio.timeout(60):
        waiting = asyncio.create_task(explained_by_services(app.clients, app.producer, asked(5), Watching(speaker, lets=False)))
        await speaker.has_begun.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: speaker.cut_off == 1)
    assert speaker.calls == 1


async def test_batches_get_no_pieces(make_app: MakeApp) -> None:
    app, speaker = make_app(), Speaker()
    speaker.let.set()
    async with services(app, speaker), asyncio.timeout(60):
        batch = feature(7)
        await app.publish([outgoing(batch.model_copy(update={"request": batch.effective_request.model_copy(update={"expected": 1, "explain_poor": True})}))])
        await until(lambda: speaker.calls == 1)
        await explained_by_services(app.clients, app.producer, asked(8), Watching(speaker))
        chunks = [decode(TokenChunk, record.value) for record in await all_records(app, topics.TOKENS)]
    assert len({chunk.event_id for chunk in chunks}) == 1


async def test_a_question_about_one_feature_does_not_settle_its_find_jobs_background(make_app: MakeApp) -> None:
    app, speaker = make_app(), Speaker()
    speaker.let.set()
    async with services(app, speaker), asyncio.timeout(60):
        await app.publish([outgoing(feature(1))])
        await until(lambda: speaker.calls == 1)
        await explained_by_services(app.clients, app.producer, asked(1), Watching(speaker))
        await app.publish([outgoing(feature(2))])
        async with asyncio.timeout(30):
            while True:
                backgrounds = [decode(JobBackground, record.value) for record in await all_records(app, topics.BACKGROUNDS)]
                if backgrounds and backgrounds[-1].distinct == 2:
                    break
                await asyncio.sleep(0.05)
    assert not any(background.frozen for background in backgrounds)


def events_of(stdout: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in stdout.splitlines()]


def first_key() -> str:
    found = json.loads(EXAMPLE.read_text())["features"][0]
    return f"{found['source_id']}/{found['feature_id']}"


def check_streamed(stdout: str) -> None:
    """A start, more than one piece, and the outcome, in this order."""
    events = events_of(stdout)
    kinds = [event["event"] for event in events]
    assert kinds == ["start", *["piece"] * (len(kinds) - 2), "outcome"]
    assert len(kinds) > 4
    assert events[-1]["outcome"] == "explained"
    assert {"pattern_verification", "accuracy", "safety", "evidence"} <= events[-1].keys()


def test_without_kafka_this_process_explains_with_the_demonstration_model(command: Command) -> None:
    done = command.run("explain", str(EXAMPLE), "--feature", first_key(), "--stream", "--json")
    check_streamed(done.stdout)
    assert events_of(done.stdout)[-1]["background_features"] == 15


def test_a_real_ollama_is_watched_while_it_answers(command: Command, ollama: RealOllama) -> None:
    command.settings |= ollama_settings(ollama)
    done = command.run("explain", str(EXAMPLE), "--feature", first_key(), "--stream")
    assert f"asking {ollama.model} at gpu0" in done.stderr
    for part in ("accuracy", "safety:", "texts that the model saw", "texts kept from it"):
        assert part in done.stdout


def test_services_on_a_real_kafka_explain_while_a_person_watches(command: Command, clean_kafka: RealKafka) -> None:
    command.settings |= kafka_settings(clean_kafka)
    with command.start("serve", "context", "generation", "validation") as serving:
        try:
            done = command.run("explain", str(EXAMPLE), "--feature", first_key(), "--stream", "--json")
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.communicate(timeout=60)
    check_streamed(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.json",), 2, "no such file"),
        ((str(EXAMPLE),), 2, "--feature"),
        ((str(EXAMPLE), "--feature", "nobody"), 2, "no feature 'nobody'"),
        ((str(EXAMPLE), "--feature", first_key(), "--prompt", "none@1"), 2, "none@1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command: Command, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = command.run("explain", *arguments, expect=code)
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_an_endpoint_that_is_away_is_exit_code_3(command: Command) -> None:
    command.settings["MISTUDIO_EXPLAIN_LLM__ENDPOINTS"] = json.dumps([{"name": "gpu0", "provider": "ollama", "url": "http://127.0.0.1:1"}])
    done = command.run("explain", str(EXAMPLE), "--feature", first_key(), expect=3)
    assert "gpu0" in done.stderr


def test_services_that_do_not_run_are_given_up_with_what_is_known(command: Command, clean_kafka: RealKafka) -> None:
    command.settings |= kafka_settings(clean_kafka)
    done = command.run("explain", str(EXAMPLE), "--feature", first_key(), "--timeout", "3", expect=3)
    assert "no explanation within 3 s" in done.stderr
    assert "nobody serves it" in done.stderr.replace("\n", " ")


@asynccontextmanager
async def explaining(command: Command, script: Script) -> AsyncIterator[tuple[FakeLlm, asyncio.subprocess.Process]]:
    """The command, streaming from a server that a test scripts."""

    async def answer(reply: Reply) -> None:
        if reply.path.endswith("/models"):
            await reply.whole(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "t"}]}).encode())
            return
        await script(reply)

    async with FakeLlm(answer) as server:
        endpoint = {"name": "gpu0", "provider": "openai", "url": f"{server.url}/v1"}
        command.settings["MISTUDIO_EXPLAIN_LLM__ENDPOINTS"] = json.dumps([endpoint])
        arguments = [str(PROGRAM), "explain", str(EXAMPLE), "--feature", first_key(), "--stream"]
        pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*arguments, cwd=command.folder, env=command.environment, **pipes)
        try:
            yield server, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_piece_is_on_the_terminal_before_the_model_says_the_next_one_and_is_harmless_there(command: Command) -> None:
    wire, go_on = OpenAiWire(), asyncio.Event()

    async def script(reply: Reply) -> None:
        await reply.start()
        await reply.send(wire.piece('{"label": "\\u001b]0;gone\\u0007 Fixed'))
        await go_on.wait()
        await reply.send(wire.piece(' things", "pattern": "Texts that mention a fixed thing.", "significance": "It is known.", "implications": "None known."}'))
        await reply.send(wire.last())
        await reply.end()

    async with explaining(command, script) as (_, process), asyncio.timeout(90):
        shown = await process.stdout.readuntil(b"Fixed")
        go_on.set()
        rest, _ = await process.communicate()
    assert process.returncode == 0
    assert b"\x1b" not in shown + rest
    assert b"\x07" not in shown + rest
    assert b"Texts that mention a fixed thing." in rest


async def test_ctrl_c_closes_the_call_at_the_server(command: Command) -> None:
    wire, begun = OpenAiWire(), asyncio.Event()

    async def script(reply: Reply) -> None:
        await reply.start()
        await reply.send(wire.piece('{"label": "Fixed'))
        begun.set()
        await asyncio.Event().wait()

    async with explaining(command, script) as (server, process), asyncio.timeout(90):
        await begun.wait()
        await process.stdout.readuntil(b"Fixed")
        process.send_signal(signal.SIGINT)
        await server.requests[-1].client_gone.wait()
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"broken off" in said


async def test_a_model_that_gives_no_answer_ends_the_waiting_with_its_reason(make_app: MakeApp) -> None:
    class Refusing(Speaker):
        async def complete(self, call: Call) -> Completion:
            self.calls += 1
            return Completion("I'm sorry, I cannot help with that.", "stop", 10, 10, 0.0, 0.0)

    app, speaker = make_app(), Refusing()
    app.settings = app.settings.model_copy(update={"generation": app.settings.generation.model_copy(update={"retry_wait_s": 0.0})})
    async with services(app, speaker), asyncio.timeout(60):
        outcome = await explained_by_services(app.clients, app.producer, asked(5), Watching(speaker))
    assert outcome.outcome is OutcomeKind.FAILED
    assert "refusal" in outcome.reason
    assert speaker.calls == app.settings.generation.attempts
