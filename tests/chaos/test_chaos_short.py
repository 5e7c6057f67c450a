"""The short form of the chaos: every kind of fault at least once on a real Kafka, and faults planted afterwards, which must be found."""

import asyncio
import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from chaos.checker import DUPLICATED, LOST, UNEXPLAINED_LETTER, WRONG_COUNTER, Finding, check
from chaos.fake_llm import Character, FakeLlm
from chaos.honest_run import letter_value
from chaos.inputs import Key
from chaos.plan import Fault, draw
from chaos.poison import Kind
from chaos.readings import read_all
from chaos.scenarios import SHORT, STORM
from chaos.storm import Result, run
from chaos.table import table
from chaos.wire import DEAD_LETTERS, EXPLANATIONS, FEATURES, REPORTS, decode, encode
from chaos.world import ENDED_BY_ITSELF, Replica, World
from integration.real_kafka import RealKafka

SEED = int(os.environ.get("MISTUDIO_EXPLAIN_CHAOS_SEED", "1"))
TIMED = {Fault.ABSENCE, Fault.TIMED_KILL}  # each takes its time
REPLICAS = ["context-1", "context-2", "generation-1", "generation-2", "validation-1", "validation-2", "aggregator-1", "redelivery-1"]


def test_a_plan_is_its_seeds_alone() -> None:
    assert draw(STORM, 7, REPLICAS) == draw(STORM, 7, REPLICAS) != draw(STORM, 8, REPLICAS)


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_of_the_short_form_has_every_kind_of_fault_and_of_poison_and_kills_every_replica(seed: int) -> None:
    events = draw(SHORT, seed, REPLICAS)
    assert {event.fault for event in events} == set(Fault) - TIMED
    assert {dose.kind for event in events for dose in event.doses} == set(Kind)
    assert {event.target for event in events if event.fault is Fault.KILL} == set(REPLICAS)


def test_the_storm_is_of_the_size_that_is_promised() -> None:
    events = draw(STORM, 1, REPLICAS)
    assert sum(STORM.counts) == 5_000
    assert len(STORM.counts) == 3
    assert sum(event.fault in {Fault.KILL, *TIMED} for event in events) == 50
    assert sum(event.fault in {Fault.BROKER_KILL, Fault.BROKER_RESTART} for event in events) == 10


def test_a_service_that_ends_by_itself_is_found_although_it_is_started_again(tmp_path: Path) -> None:
    ended, killed = (Replica("validation", f"validation-{number}", {}, tmp_path) for number in (1, 2))
    world = World(tmp_path, "127.0.0.1:9", FakeLlm(Character(1)), {}, slots=1)
    world.replicas = [ended, killed]
    for replica in world.replicas:
        replica.start()  # without a Kafka in its settings it ends with 2
    killed.kill()
    assert ended.process is not None
    ended.process.wait()
    world.tend()
    assert [(finding.kind, finding.about) for finding in world.ended_by_themselves()] == [(ENDED_BY_ITSELF, "validation-1")]


class Aftermath:
    """What a run left on Kafka and on the disk, with nobody running who would mend what is planted."""

    def __init__(self, kafka: RealKafka, folder: Path) -> None:
        self.kafka = kafka
        self.reports = folder / "reports"
        self.result: Result = run(SHORT, SEED, kafka, folder)
        self.job = min(job for job, _ in self.result.fates)

    @property
    def victim(self) -> Key:
        return next(key for key, fate in self.result.fates.items() if fate.outcome == "explained" and key[0] == self.job)

    def write(self, topic: str, key: str, value: bytes | None) -> None:
        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap) as producer:
                await producer.send_and_wait(topic, value, key.encode())

        asyncio.run(send())

    def found_anew(self) -> set[tuple[str, str]]:
        """What the checker finds now, beyond what it found right after the run."""
        unreadable = {place for place, each in self.result.poison.items() if each.kind == Kind.NAME_NOT_UTF8}
        found = asyncio.run(read_all(self.kafka.bootstrap, self.reports, {job for job, _ in self.result.fates}, unreadable))
        findings = check(self.result.fates, self.result.poison, replace(found, calls=self.result.found.calls))
        return {(finding.kind, finding.about) for finding in findings} - {(finding.kind, finding.about) for finding in self.result.findings}

    def report(self) -> Mapping[str, Any]:
        last = [record.value for record in self.result.found.records if record.topic == REPORTS and record.key == self.job.encode()][-1]
        return decode(last, "JobReport")


@pytest.fixture(scope="module")
def aftermath(kafka: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    kafka.delete_topics("mistudio.")
    yield Aftermath(kafka, tmp_path_factory.mktemp("chaos") / "run")
    kafka.delete_topics("mistudio.")


def listed(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings[:30]))


@pytest.mark.kafka
@pytest.mark.slow
def test_nothing_is_lost_doubled_or_miscounted_in_a_short_storm(aftermath: Aftermath) -> None:
    result = aftermath.result
    records_in_flight = math.ceil(SHORT.slots * 1.5)  # generation.in_flight_per_slot
    assert result.findings == [], f"seed {result.seed}\n{table([result])}\n{listed(result.findings)}"
    assert set(result.happened) == set(Fault) - TIMED
    assert not any(result.stop_codes.values())
    assert max(result.repeats_of_kills) <= records_in_flight


@pytest.mark.kafka
@pytest.mark.slow
def test_a_loss_planted_on_real_kafka_is_found(aftermath: Aftermath) -> None:
    name = "|".join(aftermath.victim)
    values = [record.value for record in aftermath.result.found.records if record.topic == EXPLANATIONS and record.key == name.encode()]
    aftermath.write(EXPLANATIONS, name, None)
    assert (LOST, name) in aftermath.found_anew()
    aftermath.write(EXPLANATIONS, name, values[-1])  # the one that counts; a feature whose worker was killed may have lesser ones before it


@pytest.mark.kafka
@pytest.mark.slow
def test_a_duplicate_planted_in_a_report_is_found(aftermath: Aftermath) -> None:
    table_file = aftermath.reports / aftermath.job / "explanations.csv"
    before = table_file.read_bytes()
    rows = list(csv.reader(before.decode("utf-8-sig").splitlines()))
    with table_file.open("a", encoding="utf-8", newline="") as out:
        csv.writer(out).writerow(rows[1])
    assert (DUPLICATED, f"{aftermath.job}|{rows[1][0]}") in aftermath.found_anew()
    table_file.write_bytes(before)

    json_file = aftermath.reports / aftermath.job / "feature_explanations.json"
    before = json_file.read_bytes()
    content = json.loads(before)
    content["skipped"].append({"feature_key": aftermath.victim[1]})
    json_file.write_text(json.dumps(content))
    assert (DUPLICATED, "|".join(aftermath.victim)) in aftermath.found_anew()
    json_file.write_bytes(before)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_wrong_counter_planted_in_a_report_event_is_found(aftermath: Aftermath) -> None:
    report = aftermath.report()
    aftermath.write(REPORTS, aftermath.job, encode("JobReport", {**report, "explained": report["explained"] - 1}))
    assert (WRONG_COUNTER, aftermath.job) in aftermath.found_anew()
    aftermath.write(REPORTS, aftermath.job, encode("JobReport", report))


@pytest.mark.kafka
@pytest.mark.slow
def test_a_dead_letter_planted_without_poison_is_found(aftermath: Aftermath) -> None:
    stray = f"{FEATURES}/0/{1 << 40}"  # where no poison can stand
    aftermath.write(DEAD_LETTERS, stray, letter_value(stray, b"raw", about=aftermath.victim))
    assert aftermath.found_anew() == {(UNEXPLAINED_LETTER, stray)}
    aftermath.write(DEAD_LETTERS, stray, None)
