"""Jobs through the command line on a real Kafka: seen, cancelled, explained anew, deleted."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.real_kafka import RealKafka
from integration.slow_llm import SlowLlm
from integration.test_bad_circumstances import one_message
from integration.test_dlq import Topics, letter
from integration.test_whole_way import EXAMPLE, Command, kafka_settings
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import Averages, ControlPart, JobEvent, JobReport, JobStatus, ReplayPart, RequestPart, SealedPart
from mistudio_explain.kafka.records import outgoing

WAIT_S = 180.0
SLOTS = 2
ASKED = JobEvent(explain_job_id="explain_1", at_ms=1, request=RequestPart(find_job_id="find_1", target_model="m", source_training_job="train_1"))
SEALED = JobEvent(explain_job_id="explain_1", at_ms=2, sealed=SealedPart(expected=3))
REPLAYED = JobEvent(explain_job_id="explain_1_again", at_ms=3, replay=ReplayPart(from_job="find_1", of="explain_1"))


def report(status: JobStatus, **changes: Any) -> JobReport:
    fields = {"find_job_id": "find_1", "expected": 3, "expected_source": "sealed", "admitted": 3, "explained": 1, "skipped": 0, "failed": 1, "flagged": 0}
    return JobReport(explain_job_id="explain_1", status=status, averages=Averages(quality=0.5), at_ms=9, **fields | changes)


@pytest.fixture
def command(tmp_path: Path, clean_kafka: RealKafka) -> Command:
    made = Command(tmp_path, kafka_settings(clean_kafka))
    made.run("topics", "create")
    return made


@pytest.fixture
def kept(clean_kafka: RealKafka) -> Topics:
    return Topics(clean_kafka)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def controls(kept: Topics) -> list[JobEvent]:
    """The orders that were given, oldest first."""
    events = [decode(JobEvent, record.value) for record in kept.read(topics.JOBS) if record.value is not None]
    return [event for event in events if event.control is not None]


def test_jobs_are_listed_with_what_the_topics_know_of_them(command: Command, kept: Topics) -> None:
    assert "there are no jobs" in command.run("job", "list").stdout
    kept.write(outgoing(ASKED), outgoing(report(JobStatus.RUNNING)))
    kept.write(outgoing(REPLAYED))
    newest, first = lines(command.run("job", "list", "--json"))
    assert (newest["explain_job_id"], newest["find_job_id"], newest["status"]) == ("explain_1_again", "find_1", "requested")
    assert {name: first[name] for name in ("status", "explained", "skipped", "failed", "expected")} == {
        "status": "running",
        "explained": 1,
        "skipped": 0,
        "failed": 1,
        "expected": 3,
    }
    assert len(lines(command.run("job", "list", "--json", "--limit", "1"))) == 1
    assert lines(command.run("job", "list", "--json", "--find-job", "find_2")) == []
    assert "2 jobs" in command.run("job", "list").stdout


def test_a_job_is_shown_with_its_numbers_parts_and_relations(command: Command, kept: Topics) -> None:
    kept.write(outgoing(ASKED), outgoing(SEALED), outgoing(REPLAYED), outgoing(report(JobStatus.INCOMPLETE, missing=["7"], notes=["A note."])))
    shown = command.run("job", "show", "explain_1").stdout
    for said in (
        "incomplete",
        "1 explained of 3",
        "quality 0.50",
        "without outcome: 7",
        "A note.",
        "expected 3",
        "train_1",
        "explain_1_again",
        "dlq list --job",
    ):
        assert said in shown
    assert "replays find_1, as explain_1 left it" in command.run("job", "show", "explain_1_again").stdout
    assert json.loads(command.run("job", "show", "explain_1", "--json").stdout)["parts"]["sealed"]["sealed"]["expected"] == 3


@pytest.mark.parametrize("arguments", [("job", "show"), ("job", "delete"), ("job", "delete", "--yes"), ("cancel",)])
def test_an_unknown_job_is_told_with_those_that_there_are(command: Command, kept: Topics, arguments: tuple[str, ...]) -> None:
    kept.write(outgoing(ASKED))
    assert "no job 'explain_2'; there are explain_1" in one_message(command.run(*arguments, "explain_2", expect=2))


def test_what_is_over_cannot_be_cancelled(command: Command, kept: Topics) -> None:
    kept.write(outgoing(ASKED), outgoing(report(JobStatus.COMPLETED, explained=3)))
    assert "is completed" in one_message(command.run("cancel", "explain_1", expect=2))
    kept.write(outgoing(ASKED.model_copy(update={"request": None, "control": ControlPart(action="deleted")})))
    assert "was deleted" in one_message(command.run("cancel", "explain_1", expect=2))
    assert "was deleted before" in command.run("job", "delete", "explain_1", "--yes").stdout


def test_an_order_is_about_the_greatest_revision_that_was_seen_of_the_job(command: Command, kept: Topics) -> None:
    kept.write(outgoing(ASKED), outgoing(report(JobStatus.RUNNING, revision=4)))
    command.run("cancel", "explain_1", "--who", "ann", "--why", "wrong model")
    (event,) = controls(kept)
    assert (event.revision, event.control) == (4, ControlPart(action="cancel", who="ann", why="wrong model"))
    assert "was cancelled before" in command.run("cancel", "explain_1").stdout
    assert len(controls(kept)) == 1


def test_deleting_says_what_goes_and_what_stays_and_does_nothing_unless_confirmed(command: Command, kept: Topics) -> None:
    kept.write(outgoing(ASKED), outgoing(report(JobStatus.RUNNING)))
    said = command.run("job", "delete", "explain_1", expect=2).stdout
    assert "--yes" in said
    assert "2 outcomes" in said
    assert topics.FEATURES in said
    assert controls(kept) == []
    assert json.loads(command.run("job", "delete", "explain_1", "--json", expect=2).stdout)["ordered"] is False


def test_an_id_that_another_find_job_has_is_refused(command: Command, kept: Topics) -> None:
    kept.write(outgoing(ASKED.model_copy(update={"explain_job_id": publishing_job(command)})))
    assert "belongs to find job find_1" in one_message(command.run("publish", str(EXAMPLE), "--explain-poor", expect=2))
    assert kept.read(topics.FEATURES) == []


def test_a_job_that_is_still_being_deleted_is_not_reopened(command: Command, kept: Topics) -> None:
    job = publishing_job(command)
    ordered = JobEvent(explain_job_id=job, at_ms=1, control=ControlPart(action="delete", who="ann", why="texts withdrawn"))
    kept.write(outgoing(ordered))
    for again in ("publish", "run"):
        said = one_message(command.run(again, str(EXAMPLE), "--explain-poor", "--reopen", expect=2))
        assert f"{job} is being deleted by ann (texts withdrawn)" in said
        assert "job show" in said
    first, *then = controls(kept)
    assert first == ordered
    assert [each.control.action for each in then if each.control] in ([], ["deleted"])  # by the aggregator of `run`
    assert kept.read(topics.FEATURES) == []


def publishing_job(command: Command) -> str:
    """The explain job that the example belongs to."""
    start = json.loads(command.run("run", str(EXAMPLE), "--explain-poor", "--dry-run", "--json").stdout)
    return "explain_" + str(start["find_job_id"]).removeprefix("find_")


class HeldLlm(SlowLlm):
    """A model that answers its first calls, one for each slot, and no other until it is let to."""

    def __init__(self) -> None:
        super().__init__(seconds=0.0)
        self.let = threading.Event()

    async def _answer(self, reader: Any, writer: Any) -> None:
        self._seconds = 0.0 if self.let.is_set() or self.calls < SLOTS else 600.0
        await super()._answer(reader, writer)


@pytest.fixture
def llm() -> Iterator[HeldLlm]:
    with HeldLlm() as server:
        yield server


@pytest.fixture
def services(command: Command, tmp_path: Path, llm: HeldLlm) -> Iterator[None]:
    """All services in a process of their own."""
    command.settings |= {
        "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "gpu0", "provider": "openai", "url": llm.url, "slots": SLOTS}]),
        "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db",
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(tmp_path / "out"),
        "MISTUDIO_EXPLAIN_REPORTS__INTERVAL_S": "0.1",
    }
    process = command.start("up")
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


def shown_until(command: Command, job: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Show a job until what is shown is as it should be."""
    end = time.monotonic() + WAIT_S
    shown: dict[str, Any] = {}
    while time.monotonic() < end:
        shown = next((line for line in lines(command.run("job", "list", "--json")) if line["explain_job_id"] == job), {})
        if condition(shown):
            return shown
    raise AssertionError(f"the job stays {shown}")


@pytest.mark.usefixtures("services")
def test_a_cancelled_job_ends_and_is_explained_anew_with_reopen_only(command: Command, llm: HeldLlm, kept: Topics, tmp_path: Path) -> None:
    job = json.loads(command.run("publish", str(EXAMPLE), "--explain-poor", "--json").stdout)["explain_job_id"]
    shown_until(command, job, lambda shown: (shown.get("explained") or 0) > 0)
    command.run("cancel", job, "--why", "wrong model")
    with command.start("watch", job, "--json") as process:
        out, _ = process.communicate(timeout=WAIT_S)
    assert json.loads(out.splitlines()[-1])["status"] == "cancelled"
    shown_until(command, job, lambda shown: shown["skipped"] > 0 and shown["explained"] + shown["skipped"] == 16)

    published = len(kept.read(topics.FEATURES))
    elsewhere = Command(tmp_path, command.settings | {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/another.db"})
    for again in ("publish", "run"):
        said = one_message(elsewhere.run(again, str(EXAMPLE), "--explain-poor", expect=2))
        assert f"{job} was cancelled (wrong model)" in said
        assert "--reopen" in said
    assert len(kept.read(topics.FEATURES)) == published

    llm.let.set()
    command.run("publish", str(EXAMPLE), "--explain-poor", "--reopen")
    command.run("watch", job)
    shown = shown_until(command, job, lambda shown: shown["status"] == "completed")
    assert (shown["explained"], shown["skipped"], shown["failed"], shown["revision"]) == (16, 0, 0, 1)
    command.run("publish", str(EXAMPLE), "--explain-poor")
    assert shown_until(command, job, lambda shown: shown["status"] == "completed")["revision"] == 1


def folders(out: Path) -> list[str]:
    """Of jobs; the archive, which says what was deleted and holds no texts, stays beside them."""
    return [each.name for each in out.iterdir() if not each.name.startswith(".")]


@pytest.mark.usefixtures("services")
def test_a_deleted_job_is_gone_and_is_explained_anew_with_reopen_only(command: Command, llm: HeldLlm, kept: Topics, tmp_path: Path) -> None:
    llm.let.set()
    job = json.loads(command.run("publish", str(EXAMPLE), "--explain-poor", "--json").stdout)["explain_job_id"]
    command.run("watch", job)
    kept.write(outgoing(letter(7, explain_job_id=job)))
    assert folders(tmp_path / "out") == [job]
    command.run("job", "delete", job, "--yes")
    shown_until(command, job, lambda shown: shown["status"] == "deleted")
    assert folders(tmp_path / "out") == []
    assert kept.letters() == {}
    standing = {record.key: record.value for record in (*kept.read(topics.EXPLANATIONS), *kept.read(topics.REPORTS))}
    assert set(standing.values()) == {None}
    assert "was deleted" in one_message(command.run("publish", str(EXAMPLE), "--explain-poor", expect=2))
    assert "was deleted before" in command.run("job", "delete", job, "--yes").stdout

    command.run("publish", str(EXAMPLE), "--explain-poor", "--reopen")
    command.run("watch", job)
    shown = shown_until(command, job, lambda shown: shown["status"] == "completed")
    assert (shown["explained"], shown["revision"]) == (16, 1)


def test_without_a_kafka_the_store_alone_is_asked(tmp_path: Path) -> None:
    alone = Command(tmp_path)
    assert "neither is kafka.bootstrap_servers set" in one_message(alone.run("job", "list", expect=2))
    assert "kafka.bootstrap_servers is not set" in one_message(alone.run("cancel", "explain_1", expect=2))
