"""The servers that other tests rely on do what those tests need."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from integration.components import REQUIRE_ALL
from integration.local_server import listens
from integration.real_kafka import RealKafka
from integration.real_ollama import RealOllama
from integration.secure_kafka import APP, SecureKafka

TESTS = Path(__file__).parents[1]


async def _make_topic(kafka: RealKafka, name: str) -> None:
    admin = AIOKafkaAdminClient(**kafka.client_options)
    await admin.start()
    made = await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    assert made.topic_errors[0][1] == 0, made.topic_errors


async def _send(value: bytes, topic: str, **client: object) -> None:
    async with AIOKafkaProducer(**client, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, value)


async def _first_value(topic: str, **client: object) -> bytes:
    async with AIOKafkaConsumer(**client, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return (await asyncio.wait_for(consumer.getone(), 20)).value


@pytest.mark.kafka
async def test_what_kafka_confirmed_is_there_after_a_crash_and_after_a_clean_restart(tmp_path: Path, kafka: RealKafka) -> None:
    topic = f"test-{uuid4().hex}"
    with RealKafka(tmp_path / "kafka") as broker:
        assert broker.bootstrap != kafka.bootstrap
        await _make_topic(broker, topic)
        await _send(b"kept", topic, **broker.client_options)
        broker.kill()
        assert not listens(broker.port)
        broker.start()
        assert await _first_value(topic, **broker.client_options) == b"kept"
        broker.restart()
        assert await _first_value(topic, **broker.client_options) == b"kept"
    assert not listens(broker.port)


@pytest.mark.kafka
async def test_a_clean_kafka_has_no_topic_of_the_product(kafka: RealKafka) -> None:
    ours, foreign = f"mistudio.test.{uuid4().hex}", f"other.{uuid4().hex}"
    await _make_topic(kafka, ours)
    await _make_topic(kafka, foreign)
    await asyncio.to_thread(kafka.delete_topics, "mistudio.")
    admin = AIOKafkaAdminClient(**kafka.client_options)
    await admin.start()
    left = await admin.list_topics()
    await admin.close()
    assert ours not in left
    assert foreign in left


@pytest.mark.kafka
async def test_the_secure_kafka_asks_for_a_password_and_for_permission(secure_kafka: SecureKafka) -> None:
    topic = f"test-{uuid4().hex}"
    await _make_topic(secure_kafka, topic)
    wrong = {**secure_kafka.options_of(APP), "sasl_plain_password": "wrong"}
    with pytest.raises(KafkaConnectionError):
        await _send(b"no", topic, **wrong)
    described = AIOKafkaAdminClient(**secure_kafka.options_of(APP))
    await described.start()
    assert topic not in await described.list_topics(), "a user without rules sees a topic"
    await asyncio.to_thread(secure_kafka.allow, "topic", topic, "Read", "Write", "Describe")
    assert topic in await described.list_topics()
    await described.close()
    await _send(b"yes", topic, **secure_kafka.options_of(APP))
    assert await _first_value(topic, **secure_kafka.options_of(APP)) == b"yes"
    assert secure_kafka.password_file(APP).read_text().splitlines()[0] == secure_kafka.passwords[APP]


@pytest.mark.ollama
def test_ollama_answers_with_its_small_model(ollama: RealOllama) -> None:
    asked = {"model": ollama.model, "messages": [{"role": "user", "content": "Say hello."}], "stream": False, "options": {"num_predict": 8, "temperature": 0}}
    answer = httpx.post(f"{ollama.url}/api/chat", json=asked, timeout=60).json()
    assert answer["message"]["content"].strip()
    assert answer["eval_count"] <= 8


@pytest.mark.parametrize(("switch", "outcome"), [(None, "1 skipped"), ("0", "1 skipped"), ("1", "1 failed")])
def test_a_missing_component_skips_a_test_unless_all_are_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str | None, outcome: str) -> None:
    test = tmp_path / "test_one.py"
    test.write_text("from integration.components import require\ndef test_it(): require('A thing', 'there is none; install it')\n")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.delenv(REQUIRE_ALL, raising=False)
    if switch is not None:
        monkeypatch.setenv(REQUIRE_ALL, switch)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)], capture_output=True, text=True, check=False
    )
    assert outcome in ran.stdout
    assert "there is none; install it" in ran.stdout
