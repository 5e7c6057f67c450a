"""Records that do harm, of every kind that has been seen to hurt a consumer, written as no client of ours would."""

import json
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.record.util import calc_crc32c

from chaos.checker import Poison
from chaos.inputs import Key
from chaos.wire import DRAFTS, EXPLANATIONS, FEATURES, JOBS, LANES, encode

FOREIGN_JOB = "explain_poison"

TOPICS = (FEATURES, LANES, DRAFTS, EXPLANATIONS, JOBS)
_READ_WITH_HEADERS = (FEATURES, LANES, DRAFTS)
_PLACEHOLDER = "mse-replaced"
_NOT_UTF8 = b"mse-\xff\xfe\xfa\xf5\xc0\xc1\x80\xbf"
_MIB = 1 << 20


class Kind(StrEnum):
    """What is wrong with a record."""

    BAD_AVRO = "bad Avro"
    UNKNOWN_SCHEMA = "unknown schema"
    CUT_BODY = "cut body"
    TOMBSTONE = "tombstone"
    JSON_BODY = "JSON"
    WRONG_EVENT = "wrong event"
    INVALID_VALUE = "invalid value"
    BAD_HEADER = "bad header value"
    HEADER_NOT_UTF8 = "header value not UTF-8"
    NAME_NOT_UTF8 = "header name not UTF-8"
    OVERSIZED = "oversized"
    ZOMBIE = "zombie's outcome"


@dataclass(frozen=True, slots=True)
class Dose:
    """What is to be written where; `topic` LANES stands for any lane that there is."""

    kind: Kind
    topic: str


@dataclass(frozen=True, slots=True)
class _Brew:
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    must_die: bool
    names: Key | None = None


def doses(rng: random.Random, count: int) -> list[Dose]:
    """Draw doses; the first ones cover every kind, and every topic as evenly as can be."""
    kinds = [*rng.sample(list(Kind), len(Kind)), *(rng.choice(list(Kind)) for _ in range(max(0, count - len(Kind))))][:count]
    topics = [topic for _ in range(count // len(TOPICS) + 1) for topic in rng.sample(TOPICS, len(TOPICS))]
    return [Dose(kind, EXPLANATIONS if kind == Kind.ZOMBIE else topic) for kind, topic in zip(kinds, topics, strict=False)]


async def administer(bootstrap: str, wanted: Sequence[Dose], rng: random.Random, victims: Sequence[Key], lanes: Sequence[str]) -> Mapping[str, Poison]:
    """Write doses; returns what stands where, by topic/partition/offset. `victims` are features whose names are misused."""
    written: dict[str, Poison] = {}
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=16 * _MIB, max_batch_size=1) as producer,
        AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer,
    ):
        for dose in wanted:
            topic = rng.choice(lanes) if dose.topic == LANES else dose.topic
            partition = rng.choice(sorted(await producer.partitions_for(topic)))
            brew = _brew(dose, rng, victims, await _sample(consumer, TopicPartition(topic, partition)))
            if dose.topic == EXPLANATIONS:  # one key, one partition: a zombie too writes where its feature's other outcomes stand
                partition = producer._partition(topic, None, None, None, brew.key, brew.value)
            if dose.kind == Kind.NAME_NOT_UTF8:
                offset = await _send_with_bad_name(producer, topic, partition, brew)
            else:
                offset = (await producer.send_and_wait(topic, brew.value, brew.key, partition, headers=list(brew.headers))).offset
            if brew.value is not None or dose.topic in _READ_WITH_HEADERS:
                written[f"{topic}/{partition}/{offset}"] = Poison(dose.kind, brew.value, brew.must_die, brew.names)
    return written


def _brew(dose: Dose, rng: random.Random, victims: Sequence[Key], sample: ConsumerRecord | None) -> _Brew:
    number = rng.randrange(10**9)
    foreign: Key = (FOREIGN_JOB, f"p{number}")
    about = rng.choice([foreign, rng.choice(victims)]) if dose.topic == EXPLANATIONS else foreign
    key = "|".join(about).encode() if dose.topic in {EXPLANATIONS, DRAFTS} else f"poison|{number}".encode()
    named = [("mse-job", foreign[0].encode()), ("mse-feature-key", foreign[1].encode())] if rng.random() < 0.5 else []
    valid = sample.value if sample is not None and sample.value else _admission(foreign)

    def dead(value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), *, must_die: bool = True) -> _Brew:
        return _Brew(key, value, [*named, *headers], must_die, foreign)

    match dose.kind:
        case Kind.BAD_AVRO:
            return dead(b"\xc3\x01" + valid[2:10] + rng.randbytes(40) if sample else rng.randbytes(50))
        case Kind.UNKNOWN_SCHEMA:
            return dead(b"\xc3\x01" + rng.randbytes(8) + valid[10:])
        case Kind.CUT_BODY:
            return dead(valid[: max(10, len(valid) // 2)])
        case Kind.TOMBSTONE:
            # on a compacted topic a tombstone is an order: none is given about a real feature, and nothing must die of it
            return _Brew("|".join(foreign).encode(), None, named, dose.topic in _READ_WITH_HEADERS, foreign)
        case Kind.JSON_BODY:
            return dead(json.dumps({"explain_job_id": foreign[0], "feature_key": foreign[1], "outcome": "explained"}).encode())
        case Kind.WRONG_EVENT:
            return dead(_admission(foreign))
        case Kind.INVALID_VALUE:
            return dead(_invalid(dose.topic))
        case Kind.BAD_HEADER:
            copied = [] if sample is None else [(name, value) for name, value in sample.headers if name not in {"mse-revision", "mse-source"}]
            fits = sample is not None and dose.topic in _READ_WITH_HEADERS
            bad = [("mse-revision", b"minus one"), ("mse-source", b"nowhere"), ("mse-attempt", b"\x00"), ("mse-not-before", b"-")]
            copied_key = sample.key if fits else key
            return _Brew(copied_key, valid if fits else rng.randbytes(30), [*copied, *bad], must_die=True, names=foreign)
        case Kind.HEADER_NOT_UTF8:
            return dead(rng.randbytes(30), [("mse-job", b"\xff\xfe"), ("mse-feature-key", b"\xc0\x80"), ("trace", b"\xf5")])
        case Kind.NAME_NOT_UTF8:
            return dead(rng.randbytes(30), [(_PLACEHOLDER, b"1")])
        case Kind.OVERSIZED:
            return dead(rng.randbytes((_MIB if dose.topic == FEATURES else 4 * _MIB) + 20_000))
        case Kind.ZOMBIE:
            victim = rng.choice(victims)
            return _Brew("|".join(victim).encode(), _zombie(victim), (), must_die=False, names=victim)


def _admission(about: Key) -> bytes:
    return encode("Admission", {"explain_job_id": about[0], "feature_key": about[1], "find_job_id": "find_poison", "target_model": "none"})


def _invalid(topic: str) -> bytes:
    """An event whose bytes follow its schema, but whose values are none that it may have."""
    if topic == JOBS:
        return encode("JobEvent", {"explain_job_id": FOREIGN_JOB, "at_ms": 1})  # without any part
    if topic == EXPLANATIONS:
        return encode("FeatureOutcome", {"outcome": "failed", "subject": {"explain_job_id": FOREIGN_JOB, "feature_key": "a|b"}})
    return encode("FeatureFound", {"target_model": "none", "find_job_id": "find_poison", "feature_id": "a|b", "top_activations": []})


def _zombie(victim: Key) -> bytes:
    return encode("FeatureOutcome", {"outcome": "failed", "reason": "a zombie woke up", "subject": {"explain_job_id": victim[0], "feature_key": victim[1]}})


async def _sample(consumer: AIOKafkaConsumer, tp: TopicPartition) -> ConsumerRecord | None:
    """The last record of a partition; none when it is empty, or when that record is one that cannot be unpacked."""
    await consumer._client.set_topics([tp.topic])
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp]
    if end == 0:
        return None
    consumer.seek(tp, end - 1)
    try:
        fetched = await consumer.getmany(tp, timeout_ms=500, max_records=1)
    except (UnicodeDecodeError, KafkaError):
        return None
    return next(iter(fetched.get(tp, [])), None)


async def _send_with_bad_name(producer: AIOKafkaProducer, topic: str, partition: int, brew: _Brew) -> int:
    """Write a header's name that is not UTF-8, which aiokafka refuses to do: it is put into the finished batch."""
    batch = producer.create_batch()
    batch.append(timestamp=None, key=brew.key, value=brew.value, headers=list(brew.headers))
    batch.close()
    content = bytearray(batch._build().replace(_PLACEHOLDER.encode(), _NOT_UTF8))
    content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))  # a batch's checksum covers what follows it
    batch._buffer = content
    offset: int = (await (await producer.send_batch(batch, topic, partition=partition))).offset
    return offset
