"""Upgrades and downgrades as people carry them out, each in the middle of a job, checked by the rules of the chaos."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.checker import Finding, Found, check, repeats
from chaos.fake_llm import Character, FakeLlm
from chaos.inputs import Job, fates, make_jobs
from chaos.readings import read_all, read_topics
from chaos.wire import DEAD_LETTERS, REPORTS, ROOT, decode
from integration.real_kafka import RealKafka
from upgrade.fleet import Fleet, Version
from upgrade.previous import RELEASE, give_present_schemas, previous_code

COUNT = 120
LATENCY_S = 0.25
GENERATION = ("generation-1", "generation-2")
ALL = ("context-1", *GENERATION, "validation-1", "aggregator-1")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a scenario."""

    name: str
    features: int
    findings: Sequence[Finding]
    letters: int
    """Dead letters that were ever written, those of features that must fail apart."""
    again: int
    """Calls that were made again for a feature."""


@dataclass
class Scene:
    """What a scenario has to play with."""

    fleet: Fleet
    previous: Version
    present: Version
    pinned: Version
    """The present one, set to write the previous one's contract."""
    jobs: list[Job]

    def publish(self, version: Version, number: int) -> None:
        self.fleet.command(version, "publish", str(self.jobs[number].path), "--json")

    def at(self, share: float) -> None:
        """Wait until so much of the first job was answered."""
        self.fleet.until(lambda: self.fleet.llm.answered >= share * COUNT, f"{share:.0%} of the answers")

    def until_completed(self) -> None:
        def completed() -> bool:
            reports = [record for record in asyncio.run(read_topics(self.fleet.bootstrap, [REPORTS])) if record.value]
            last = {record.key: decode(record.value, "JobReport") for record in reports}
            return all(last.get(job.explain_job_id.encode(), {}).get("status") == "completed" for job in self.jobs)

        self.fleet.until(completed, "the end of all jobs")

    def until_found(self, condition: Callable[[Sequence[Finding]], bool]) -> None:
        """Wait until what the checker finds is such."""
        self.fleet.until(lambda: condition(self.look()[1]), "what the checker is to find")

    def look(self) -> tuple[Found, list[Finding]]:
        read = asyncio.run(read_all(self.fleet.bootstrap, self.fleet.reports, [job.explain_job_id for job in self.jobs], ()))
        found = Found(read.records, read.files, list(self.fleet.llm.calls))
        return found, check(fates(self.jobs), {}, found)


def consumers_first(scene: Scene) -> None:
    """The order of docs/upgrades.md, without any setting: whoever reads is replaced before whoever writes to it; the store goes along."""
    fleet, present = scene.fleet, scene.present
    fleet.start(scene.previous, *ALL)
    scene.publish(scene.previous, 0)
    for share, name in ((0.1, "aggregator-1"), (0.25, "validation-1"), (0.4, "generation-1"), (0.6, "generation-2")):
        scene.at(share)
        fleet.replace(present, name)
    scene.publish(scene.previous, 1)
    fleet.replace(present, "context-1")
    scene.until_completed()


def mixed_groups(scene: Scene) -> None:
    """Members of both versions in every group from beginning to end, the present ones pinned; jobs from both."""
    fleet = scene.fleet
    fleet.start(scene.pinned, "context-1", "generation-1", "validation-1", "aggregator-1")
    fleet.start(scene.previous, "context-2", "generation-2", "validation-2")
    scene.publish(scene.previous, 0)
    scene.publish(scene.pinned, 1)
    scene.until_completed()


def rollback(scene: Scene) -> None:
    """Everything upgraded and pinned; in the middle of the job all is taken back, the aggregator to its own store, and then forward again."""
    fleet = scene.fleet
    fleet.start(scene.pinned, *ALL)
    scene.publish(scene.pinned, 0)
    scene.at(0.3)
    fleet.replace(scene.previous, "generation-1", "context-1", "aggregator-1", "validation-1", "generation-2")
    scene.publish(scene.previous, 1)
    scene.until_completed()
    scene.until_found(lambda findings: not findings)
    fleet.replace(scene.pinned, "aggregator-1", "validation-1", *GENERATION, "context-1")
    scene.until_completed()


def schemas_given(scene: Scene) -> None:
    """Present producers without any setting before previous consumers that were given the present schemas."""
    give_present_schemas(scene.previous.code)
    fleet = scene.fleet
    fleet.start(scene.present, "context-1", "generation-1", "aggregator-1")
    fleet.start(scene.previous, "context-2", "generation-2", "validation-1")
    scene.publish(scene.present, 0)
    scene.publish(scene.previous, 1)
    scene.until_completed()


def wrong_order(scene: Scene) -> None:
    """A present producer before previous consumers that know nothing of it: dead letters say so, and after the upgrade they are retried."""
    fleet = scene.fleet
    fleet.start(scene.present, "aggregator-1", "redelivery-1", "validation-1")
    fleet.start(scene.previous, "context-1", *GENERATION)
    scene.publish(scene.previous, 0)
    scene.at(0.3)
    fleet.replace(scene.present, "context-1")
    scene.publish(scene.present, 1)
    scene.until_completed()
    fleet.replace(scene.present, *GENERATION)
    letters = fleet.command(scene.present, "dlq", "list", "--error", "UnknownFingerprint")
    assert "UnknownFingerprint" in letters, letters
    fleet.command(scene.present, "dlq", "retry", "--error", "UnknownFingerprint")
    scene.until_found(lambda findings: not findings)


SCENARIOS: Mapping[str, Callable[[Scene], None]] = {
    "consumers first": consumers_first,
    "mixed groups, pinned": mixed_groups,
    "rollback and forward, pinned": rollback,
    "producers first, schemas given": schemas_given,
    "producers first, then retried": wrong_order,
}


def play(name: str, kafka: RealKafka, folder: Path, say: Callable[[str], None]) -> Result:
    """Let a scenario happen on an empty Kafka, and check what came of it."""
    kafka.delete_topics("mistudio.")
    folder.mkdir(parents=True)
    previous = Version("previous", previous_code(folder / "previous"), store="state-previous")
    present = Version("present", ROOT / "services", store="state-previous" if name == "consumers first" else "state")
    pinned = Version("present, pinned", present.code, present.store, {"KAFKA__CONTRACT": RELEASE})
    with FakeLlm(Character(1, LATENCY_S, faulty=0.0)) as llm:
        fleet = Fleet(folder, kafka.bootstrap, llm, say)
        scene = Scene(fleet, previous, present, pinned, _with_texts(make_jobs(folder / "input", (COUNT, COUNT // 2))))
        try:
            fleet.command(present, "topics", "create")
            SCENARIOS[name](scene)
            scene.until_found(lambda findings: not findings)
        except (TimeoutError, RuntimeError) as error:
            say(f"{type(error).__name__}: {error}")
        finally:
            fleet.stop()
        found, findings = scene.look()
        findings += [Finding("bad end", service, f"it ended with {code} when it was told to stop") for service, code in fleet.stopped_with]
        letters = [record for record in found.records if record.topic == DEAD_LETTERS and record.value]
        by_design = sum(fate.outcome == "failed" for fate in fates(scene.jobs).values())
        return Result(name, len(fates(scene.jobs)), findings, len(letters) - by_design, repeats(found.calls, [])[1])


def _with_texts(jobs: list[Job]) -> list[Job]:
    """Leave out features without any text: the previous version did not admit those, so that its reports counted fewer than were published."""
    for job in jobs:
        content = json.loads(job.path.read_text(encoding="utf-8"))
        content["features"] = [each for each in content["features"] if any(text["text"].strip() for text in each["top_activations"])]
        content["job_metadata"]["total_features"] = len(content["features"])
        job.path.write_text(json.dumps(content), encoding="utf-8")
    return jobs
