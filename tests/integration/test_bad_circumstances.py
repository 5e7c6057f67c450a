"""What the program says and does when its input, its settings or its broker are bad."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.local_server import free_ports
from integration.slow_llm import SlowLlm
from integration.test_whole_way import EXAMPLE, Command, job_folder

WAIT_S = 30.0


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def slow_llm() -> Iterator[SlowLlm]:
    """A model that answers each call after 0.4 s."""
    with SlowLlm(seconds=0.4) as server:
        yield server


def with_llm(url: str) -> dict[str, str]:
    return {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "gpu0", "provider": "openai", "url": url, "slots": 1}])}


def write(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    job = json.loads(EXAMPLE.read_text())
    change(job)
    path = folder / "feature_analysis.json"
    path.write_text(json.dumps(job))
    return path


def one_message(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("mistudio-explain: ")
    return done.stderr


def test_a_job_in_which_nothing_passes_says_so_with_the_distribution_and_the_flag(command: Command) -> None:
    said = one_message(command.run("run", str(EXAMPLE), expect=2))
    assert "none of the 16 features reaches the coherence threshold 0.40" in said
    assert "quartiles" in said
    assert "--explain-poor" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "feature_analysis.json"),
        (b'{"job_metadata": {"job_id": "find_1"', "feature_analysis.json"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1, 2]", "feature_analysis.json"),
    ],
)
def test_a_broken_file_is_one_message_with_its_name(command: Command, tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "feature_analysis.json"
    path.write_bytes(content)
    said = one_message(command.run("run", str(path), "--explain-poor", expect=2))
    assert expected in said
    assert str(path) in said


def test_a_wrong_value_is_named_by_file_path_and_expectation(command: Command, tmp_path: Path) -> None:
    path = write(tmp_path, lambda job: job["features"][3].update(coherence_score="high"))
    said = one_message(command.run("run", str(path), "--explain-poor", expect=2))
    assert f"{path}" in said
    assert "$.features[3].coherence_score" in said
    assert "number" in said
    assert "Nothing was published" in said


def test_bad_features_can_be_left_out_and_are_named(command: Command, tmp_path: Path, slow_llm: SlowLlm) -> None:
    def spoil(job: dict[str, Any]) -> None:
        del job["job_metadata"]["total_features"], job["features"][5:]
        job["features"][3]["coherence_score"] = "high"

    path = write(tmp_path, spoil)
    command.settings = with_llm(slow_llm.url)
    done = command.run("run", str(path), "--explain-poor", "--keep-going", "--out", "out", expect=1)
    assert "left out" in done.stderr
    assert "4 explained of 4" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--find-job", "find_1"),
        ("run", "--find-job", "find_1", "--data-root", "nowhere"),
        ("run", "no-such-file.json"),
        ("serve", "nonsense"),
        ("topics", "nonsense"),
        ("config", "nonsense"),
        ("publish", str(EXAMPLE)),
        ("watch", "explain_1"),
        ("report", "explain_1"),
    ],
)
def test_wrong_usage_ends_with_two_and_says_what_to_do(command: Command, arguments: tuple[str, ...]) -> None:
    assert len(one_message(command.run(*arguments, expect=2))) > 40


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_starts(command: Command, slow_llm: SlowLlm) -> None:
    command.settings = with_llm(slow_llm.url)
    said = one_message(command.run("run", str(EXAMPLE), "--explain-poor", "--out", "/proc/nowhere", expect=2))
    assert "/proc/nowhere" in said
    assert slow_llm.calls == 0


def test_an_endpoint_that_does_not_answer_is_said_before_anything_starts(command: Command, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command.settings = with_llm(f"http://127.0.0.1:{port}/v1")
    said = one_message(command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out", expect=3))
    assert "gpu0" in said
    assert f"127.0.0.1:{port}" in said
    assert not (tmp_path / "out").exists()


def test_a_kafka_that_does_not_answer_is_said(command: Command, slow_llm: SlowLlm) -> None:
    (port,) = free_ports(1)
    command.settings = with_llm(slow_llm.url) | {
        "MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "MISTUDIO_EXPLAIN_KAFKA__START_TIMEOUT_S": "1",
    }
    said = one_message(command.run("run", str(EXAMPLE), "--explain-poor", expect=3))
    assert f"127.0.0.1:{port}" in said


def test_without_a_time_to_wait_a_command_tries_kafka_once(command: Command) -> None:
    (port,) = free_ports(1)
    command.settings = {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "MISTUDIO_EXPLAIN_KAFKA__START_TIMEOUT_S": "0"}
    said = one_message(command.run("publish", str(EXAMPLE), "--explain-poor", expect=3))
    assert f"127.0.0.1:{port}" in said


def test_a_dry_run_estimates_and_starts_nothing(command: Command, tmp_path: Path, slow_llm: SlowLlm) -> None:
    command.settings = with_llm(slow_llm.url)
    done = command.run("run", str(EXAMPLE), "--explain-poor", "--dry-run", "--out", "out")
    assert "16 to explain" in done.stdout
    assert "estimated" in done.stdout
    assert slow_llm.calls == 0
    assert not (tmp_path / "out").exists()


def children_of(pid: int, name: str) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        if fields["PPid"].strip() == str(pid) and fields["Name"].strip() == name:
            found.append(int(fields["Pid"]))
    return found


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)


def test_a_run_that_is_cut_off_before_it_explained_anything_does_not_end_with_zero(command: Command, slow_llm: SlowLlm) -> None:
    command.settings = with_llm(slow_llm.url)
    process = command.start("run", str(EXAMPLE), "--explain-poor", "--out", "out", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "start"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 1


@pytest.mark.parametrize("stop", ["broker dies", "person interrupts", "an operator ends it"])
def test_a_run_that_is_cut_off_leaves_a_report_marked_incomplete(command: Command, tmp_path: Path, slow_llm: SlowLlm, stop: str) -> None:
    command.settings = with_llm(slow_llm.url)
    process = command.start("run", str(EXAMPLE), "--explain-poor", "--out", "out", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "outcome":
            break
    if stop == "broker dies":
        (broker,) = children_of(process.pid, "tansu")
        os.kill(broker, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT if stop == "person interrupts" else signal.SIGTERM)
    _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert ("embedded broker" if stop == "broker dies" else "interrupted") in stderr
    report = json.loads((job_folder(tmp_path / "out") / "feature_explanations.json").read_text())
    assert report["job_metadata"]["status"] == "incomplete"
    assert 1 <= len(report["explanations"]) < 16
