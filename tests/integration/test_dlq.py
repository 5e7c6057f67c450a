"""Dead letters through the command line on a real Kafka: seen, sent again, dropped; paused partitions let go on."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from integration.real_kafka import RealKafka
from integration.slow_llm import SlowLlm
from integration.test_bad_circumstances import one_message, with_llm
from integration.test_whole_way import EXAMPLE, Command, kafka_settings
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import ControlPart, Coordinates, JobEvent, PartitionPaused
from mistudio_explain.kafka import letter_retry
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.letter_box import read_letters, take_back, whole_letters
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import KafkaSettings, LimitSettings, Settings

LANE = "mistudio.explain.prompts.a-model"
WAIT_S = 180.0
FEATURE = encode(FeatureFound(target_model="m", find_job_id="find_1", feature_id="5"))


class Topics:
    """Writes records as they come, and reads what stands in topics."""

    def __init__(self, broker: RealKafka) -> None:
        self._clients = KafkaClients(KafkaSettings(bootstrap_servers=broker.bootstrap), LimitSettings())

    def write(self, *records: Outgoing) -> list[int]:
        """Write records and say at which offset each stands."""

        async def run() -> list[int]:
            async with self._clients.producer({record.topic for record in records}) as producer:
                keys = [record.key.encode() if isinstance(record.key, str) else record.key for record in records]
                told = [
                    await producer.send_and_wait(record.topic, record.value, key=key, headers=list(record.headers), partition=0)
                    for record, key in zip(records, keys, strict=True)
                ]
                return [each.offset for each in told]

        return asyncio.run(run())

    def read(self, topic: str) -> list[ConsumerRecord]:
        async def run() -> list[ConsumerRecord]:
            async with standing(self._clients, topic) as snapshot:
                return [record async for record in snapshot]

        return asyncio.run(run())

    def letters(self) -> dict[str, DeadLetter]:
        """The letters that stand, by key."""
        found: dict[str, DeadLetter] = {}
        for record in self.read(topics.DEAD_LETTERS):
            key = record.key.decode()
            found.pop(key, None)
            if record.value is not None:
                found[key] = decode(DeadLetter, record.value)
        return found


@pytest.fixture
def command(tmp_path: Path, clean_kafka: RealKafka) -> Command:
    made = Command(tmp_path, kafka_settings(clean_kafka))
    made.run("topics", "create")
    return made


@pytest.fixture
def kept(clean_kafka: RealKafka) -> Topics:
    return Topics(clean_kafka)


def letter(offset: int, topic: str = topics.FEATURES, **changes: Any) -> DeadLetter:
    fields = {
        "raw": FEATURE,
        "raw_key": b"m",
        "service": "context",
        "error": "EvidenceError",
        "message": f"no text is left in record {offset}",
        "attempts": 3,
        "explain_job_id": "explain_1",
        "feature_key": "5",
        "at_ms": 1_764_000_000_000 + offset,
    }
    return DeadLetter(source=Coordinates(topic=topic, partition=0, offset=offset), **fields | changes)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def keys(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line["key"] for line in lines(done) if line["event"] == "letter"]


def test_letters_are_listed_newest_last_and_by_what_they_are_of(command: Command, kept: Topics) -> None:
    assert "there are no dead letters" in command.run("dlq", "list").stdout
    kept.write(
        outgoing(letter(9)),
        outgoing(letter(7)),
        outgoing(letter(8, topics.DRAFTS, service="validation", error="MalformedEvent", explain_job_id=None, feature_key=None)),
        outgoing(letter(6)),
        Outgoing(topics.DEAD_LETTERS, "mistudio.find.features/0/6", None),
        Outgoing(topics.DEAD_LETTERS, "elsewhere/0/1", b"no letter"),
    )
    named = [f"{topics.FEATURES}/0/7", f"{topics.DRAFTS}/0/8", f"{topics.FEATURES}/0/9"]
    assert keys(command.run("dlq", "list", "--json")) == [*named, "elsewhere/0/1"]
    text = command.run("dlq", "list").stdout
    assert [text.index(name) for name in named] == sorted(text.index(name) for name in named)
    assert "4 dead letters" in text
    assert keys(command.run("dlq", "list", "--json", "--topic", "drafts")) == [named[1]]
    assert keys(command.run("dlq", "list", "--json", "--job", "explain_1", "--limit", "1")) == [named[2]]
    assert keys(command.run("dlq", "list", "--json", "--error", "record 7")) == [named[0]]
    assert keys(command.run("dlq", "list", "--json", "--until", "2025-11-24T16:00:00.008")) == [named[0]]
    assert keys(command.run("dlq", "list", "--json", "--since", "1h")) == ["elsewhere/0/1"]
    assert "3 of 4 dead letters, the newest 1 shown" in command.run("dlq", "list", "--until", "2026-01-01", "--limit", "1").stdout


def test_a_letter_is_shown_whole_and_harmless(command: Command, kept: Topics) -> None:
    kept.write(outgoing(letter(7, headers={"mse-job": b"explain_1", "x": b"\xff"}, message="\x1b[2J wiped")))
    shown = command.run("dlq", "show", f"{topics.FEATURES}/0/7").stdout
    assert "\x1b" not in shown
    assert "x: hex ff" in shown
    assert json.loads(shown[shown.index("{") :])["feature_id"] == "5"
    assert "no dead letter 'x/0/1'" in one_message(command.run("dlq", "show", "x/0/1", expect=2))


def test_a_retried_record_goes_to_its_service_as_it_was_with_the_next_revision(command: Command, kept: Topics) -> None:
    (stands,) = kept.write(Outgoing(topics.FEATURES, b"m", FEATURE))
    kept.write(
        outgoing(letter(7, raw_key=b"\xff", headers={"mse-revision": b"4", "x": b"\xfe"})),
        outgoing(letter(8, LANE, raw=b"\x00", raw_key=None)),
        outgoing(letter(stands, raw=FEATURE[:10], truncated=True)),
    )
    said = command.run("dlq", "retry", "--job", "explain_1").stdout
    assert f"retried {topics.FEATURES}/0/7, to {topics.REPLAYS} as revision 5" in said
    assert "3 retried" in said
    assert kept.letters() == {}
    replayed = {record.value: record for record in kept.read(topics.REPLAYS)}
    first = next(record for record in kept.read(topics.REPLAYS) if record.key == b"\xff")
    assert dict(first.headers) == {
        "mse-revision": b"5",
        "x": b"\xfe",
        "mse-attempt": b"0",
        "mse-origin": f"{topics.FEATURES}/0/7".encode(),
        "mse-source": f"{topics.FEATURES}/0/7".encode(),
    }
    assert set(replayed) == {FEATURE}
    (prompt,) = kept.read(LANE)
    assert (prompt.value, prompt.key, dict(prompt.headers)["mse-revision"]) == (b"\x00", None, b"1")


def test_what_cannot_be_sent_again_stays_with_the_reason(command: Command, kept: Topics) -> None:
    cancel = JobEvent(explain_job_id="explain_3", at_ms=1, control=ControlPart(action="cancel", why="wrong model"))
    kept.write(outgoing(cancel), Outgoing(topics.FEATURES, b"m", FEATURE))
    kept.write(
        outgoing(letter(70, raw=b"cut", truncated=True)),
        outgoing(letter(0, raw=b"another", truncated=True)),
        outgoing(letter(71, raw=None)),
        outgoing(letter(72, "mistudio.gone")),
        outgoing(letter(73, explain_job_id="explain_3")),
        outgoing(letter(74)),
        Outgoing(topics.DEAD_LETTERS, "elsewhere/0/1", b"no letter"),
    )
    done = command.run("dlq", "retry", "--all", "--json", expect=1)
    why = {line["key"]: line["why"] for line in lines(done) if line["event"] == "not_retried"}
    assert "is not there any more" in why[f"{topics.FEATURES}/0/70"]
    assert "is another record" in why[f"{topics.FEATURES}/0/0"]
    assert "no value" in why[f"{topics.FEATURES}/0/71"]
    assert "mistudio.gone does not exist" in why["mistudio.gone/0/72"]
    assert "explain_3 was cancelled (wrong model)" in why[f"{topics.FEATURES}/0/73"]
    assert "cannot be read" in why["elsewhere/0/1"]
    assert lines(done)[-1] == {"event": "count", "retried": 1, "not_retried": 6}
    assert [record.value for record in kept.read(topics.REPLAYS)] == [FEATURE]
    assert "there is no such letter" in command.run("dlq", "retry", f"{topics.FEATURES}/0/74", expect=1).stdout


def test_a_letter_that_comes_back_before_the_first_one_is_taken_back_is_kept(command: Command, kept: Topics) -> None:
    """The letter's record is itself a letter of the same key, so that sending it again is what a record does that fails at once."""
    key = f"{topics.DEAD_LETTERS}/0/7"
    again = letter(7, topics.DEAD_LETTERS, message="failed again")
    kept.write(outgoing(letter(7, topics.DEAD_LETTERS, raw=encode(again), raw_key=key.encode())), outgoing(letter(8)))
    command.run("dlq", "retry", "--all")
    assert kept.letters() == {key: again}
    taken_back = [record.key for record in kept.read(topics.DEAD_LETTERS) if record.value is None]
    assert taken_back == [f"{topics.FEATURES}/0/8".encode()], "a command that is cut off after a tombstone would lose the new letter"


async def test_a_letter_that_comes_back_in_the_moment_in_which_the_first_one_is_taken_back_is_written_again(
    clean_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap))
    clients = KafkaClients(settings.kafka, settings.limits)
    again = letter(7, message="failed again")

    async def after_it_came_back(producer: AIOKafkaProducer, keys: Iterable[bytes]) -> None:
        await publish(producer, [outgoing(again)])
        await take_back(producer, keys)

    monkeypatch.setattr(letter_retry, "take_back", after_it_came_back)
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), None)
        async with clients.producer([topics.DEAD_LETTERS, topics.REPLAYS]) as producer:
            await publish(producer, [outgoing(letter(7))])
            letters = await read_letters(clients)
            said: list[letter_retry.Retried] = []
            await letter_retry.Retry(settings, clients, producer, admin, {}).send(letters, letters.kept, said.append)
    assert [each.refused for each in said] == [None]
    async with aclosing(whole_letters(clients, (await read_letters(clients)).kept)) as whole:
        assert [found async for _, found in whole] == [again]


def test_dropping_needs_to_be_confirmed_and_sends_nothing(command: Command, kept: Topics) -> None:
    kept.write(outgoing(letter(7)), outgoing(letter(8)), Outgoing(topics.DEAD_LETTERS, "elsewhere/0/1", b"no letter"))
    done = command.run("dlq", "drop", f"{topics.FEATURES}/0/7", "elsewhere/0/1", expect=2)
    assert f"{topics.FEATURES}/0/7" in done.stdout
    assert "--yes" in done.stdout
    assert len(keys(command.run("dlq", "list", "--json"))) == 3
    command.run("dlq", "drop", f"{topics.FEATURES}/0/7", "elsewhere/0/1", "--yes")
    assert keys(command.run("dlq", "list", "--json")) == [f"{topics.FEATURES}/0/8"]
    assert kept.read(topics.REPLAYS) == []
    assert "there is no such letter" in command.run("dlq", "drop", "x/0/1", "--yes", expect=1).stdout


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_nothing_is_changed_without_saying_which(command: Command, verb: str) -> None:
    assert "--all" in one_message(command.run("dlq", verb, expect=2))
    assert "--all" in one_message(command.run("dlq", verb, "--all", "--job", "explain_1", expect=2))
    assert "--since" in one_message(command.run("dlq", verb, "--since", "yesterday", expect=2))
    assert "no letter is meant" in command.run("dlq", verb, "--all").stdout


def paused(service: str, topic: str, partition: int) -> PartitionPaused:
    return PartitionPaused(service=service, topic=topic, partition=partition, letters=101, window_s=60, error="MalformedEvent: \x1b[2J", at_ms=1)


def test_paused_partitions_are_listed_and_let_go_on(command: Command, kept: Topics) -> None:
    assert "no partition is paused" in command.run("dlq", "resume").stdout
    kept.write(
        *(outgoing(each) for each in (paused("context", topics.FEATURES, 2), paused("context", topics.FEATURES, 3), paused("validation", topics.DRAFTS, 2)))
    )
    listed = command.run("dlq", "list").stdout
    assert listed.index(f"{topics.FEATURES}/2") < listed.index("there are no dead letters")
    assert "101 in 60 s" in listed
    assert "\x1b" not in listed
    assert "none of the paused partitions is meant" in command.run("dlq", "resume", "--service", "generation", expect=1).stdout
    assert "resumed context|mistudio.find.features/2" in command.run("dlq", "resume", "--topic", "find.features", "--partition", "2").stdout
    left = json.loads(command.run("dlq", "resume", "--service", "context", "--json").stdout)
    assert left == {"resumed": [f"context|{topics.FEATURES}/3"], "paused": [f"validation|{topics.DRAFTS}/2"]}
    assert {record.key: record.value for record in kept.read(topics.PAUSES)}[f"context|{topics.FEATURES}/3".encode()] is None


def test_without_a_kafka_there_are_no_letters_to_look_at(tmp_path: Path) -> None:
    said = one_message(Command(tmp_path).run("dlq", "list", expect=2))
    assert "kafka.bootstrap_servers is not set" in said


class Liar(SlowLlm):
    """A model that answers garbage to the call about one text, until it is told to stop lying."""

    def __init__(self) -> None:
        super().__init__(seconds=0.0)
        self.lies = threading.Event()
        self.lies.set()

    def _stream(self, text: str) -> str:
        return super()._stream("{not an answer" if self.lies.is_set() else text)


@pytest.fixture
def services(command: Command, tmp_path: Path) -> Iterator[Liar]:
    """All services in a process of their own, with a model that lies; what fails is tried again soon."""
    with Liar() as llm:
        command.settings |= with_llm(llm.url) | {
            "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db",
            "MISTUDIO_EXPLAIN_RETRY__SHORT_S": "0.1",
            "MISTUDIO_EXPLAIN_RETRY__LONG_S": "0.1",
            "MISTUDIO_EXPLAIN_GENERATION__ATTEMPTS": "1",
            "MISTUDIO_EXPLAIN_GENERATION__RETRY_WAIT_S": "0",
            "MISTUDIO_EXPLAIN_REPORTS__INTERVAL_S": "0.1",
            "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "gpu0", "provider": "openai", "url": llm.url, "slots": 8}]),
        }
        process = command.start("up")
        try:
            yield llm
        finally:
            process.terminate()
            process.communicate(timeout=60)


def follow_until(command: Command, job: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Watch a job, as often as it comes to an end, until its report is as it should be."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with command.start("watch", job, "--json") as process:
            out, err = process.communicate(timeout=WAIT_S)
        assert out, err
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
        if condition(report):
            return report
    raise AssertionError(f"the report stays {report}")


def test_a_letter_counts_as_failed_in_its_report_and_its_retry_corrects_that(command: Command, services: Liar) -> None:
    job = json.loads(command.run("publish", str(EXAMPLE), "--explain-poor", "--json").stdout)["explain_job_id"]
    failed = follow_until(command, job, lambda report: report["status"] == "completed")
    assert (failed["failed"], failed["explained"]) == (16, 0)
    letters = keys(command.run("dlq", "list", "--job", job, "--json"))
    assert len(letters) == 16

    services.lies.clear()
    command.run("dlq", "retry", letters[0])
    one = follow_until(command, job, lambda report: report["failed"] == 15)
    assert one["explained"] == 1
    command.run("dlq", "retry", "--job", job)
    corrected = follow_until(command, job, lambda report: report["failed"] == 0)
    assert (corrected["explained"], corrected["status"]) == (16, "completed")
    assert keys(command.run("dlq", "list", "--json")) == []
