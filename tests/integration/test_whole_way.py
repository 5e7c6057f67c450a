"""A feature's whole way, through the command line and real components: the same job on each broker and each explainer."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

from integration.real_kafka import RealKafka
from integration.real_ollama import RealOllama
from integration.secure_kafka import APP, SecureKafka

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "gpt2-small" / "feature_analysis.json"
PROGRAM = Path(sys.executable).with_name("mistudio-explain")
DEMONSTRATION = {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": '[{"name": "demonstration", "provider": "demonstration"}]'}


@dataclass
class Command:
    """Runs the program in a folder of its own, with settings from the environment only."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("MISTUDIO_EXPLAIN_")} | self.settings

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(PROGRAM), *arguments], cwd=self.folder, env=self.environment, text=True, **pipes)

    def start_logging(self, log: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start it with all that it prints in a file."""
        with log.open("wb") as out:
            return subprocess.Popen(
                [str(PROGRAM), *arguments], cwd=self.folder, env=self.environment, text=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=180)
        assert process.returncode == expect, f"exit code {process.returncode}\n{stdout}\n{stderr}"
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, dict(DEMONSTRATION))


def kafka_settings(broker: RealKafka) -> dict[str, str]:
    return {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap}


def secure_settings(broker: SecureKafka) -> dict[str, str]:
    return kafka_settings(broker) | {
        "MISTUDIO_EXPLAIN_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "MISTUDIO_EXPLAIN_KAFKA__SASL_USERNAME": APP,
        "MISTUDIO_EXPLAIN_KAFKA__SASL_PASSWORD_FILE": str(broker.password_file(APP)),
        "MISTUDIO_EXPLAIN_KAFKA__SSL_CAFILE": str(broker.ca_file),
    }


def ollama_settings(server: RealOllama) -> dict[str, str]:
    endpoint = {"name": "gpu0", "provider": "ollama", "url": server.url, "slots": 2}
    return {
        "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([endpoint]),
        "MISTUDIO_EXPLAIN_LLM__CONTEXT_TOKENS": "2048",
        "MISTUDIO_EXPLAIN_CONTEXT__TEMPLATE": "demonstration@1",  # the test's Ollama serves the same small model
    }


def input_features(path: Path = EXAMPLE) -> set[str]:
    return {f"{feature['source_id']}/{feature['feature_id']}" for feature in json.loads(path.read_text())["features"]}


def check_report(folder: Path, expected: set[str]) -> Mapping[str, object]:
    """Every feature of the input has exactly one place in every file, and the files follow their schemas."""
    explanations = json.loads((folder / "feature_explanations.json").read_text())
    results = json.loads((folder / "explanation_results.json").read_text())
    for name, found in (("feature_explanations", explanations), ("explanation_results", results)):
        jsonschema.validate(found, json.loads((ROOT / "schemas" / "files" / f"{name}.schema.json").read_text()))
    placed = [row["feature_key"] for part in ("explanations", "skipped", "failed") for row in explanations[part]]
    assert len(placed) == len(set(placed))
    assert set(placed) == expected
    assert explanations["job_metadata"]["explained"] == len(explanations["explanations"])
    with (folder / "explanations.csv").open(encoding="utf-8-sig", newline="") as table:
        assert {row["feature_key"] for row in csv.DictReader(table)} == expected
    page = (folder / "explanation_report.html").read_text()
    assert all(row["explanation"] for row in explanations["explanations"])
    assert "another of its find job" in page
    return explanations


def job_folder(out: Path) -> Path:
    (folder,) = (each for each in out.iterdir() if not each.name.startswith("."))  # beside it lies the archive
    return folder


def test_a_find_job_is_explained_on_the_embedded_broker(command: Command, tmp_path: Path) -> None:
    done = command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out")
    folder = job_folder(tmp_path / "out")
    explanations = check_report(folder, input_features())
    assert len(explanations["explanations"]) == 16  # type: ignore[arg-type]
    assert "16 explained of 16" in done.stdout
    assert str(folder / "explanation_report.html") in done.stdout.replace("\n", "")
    assert "demonstration model" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_find_job_is_explained_on_real_kafka(command: Command, tmp_path: Path, clean_kafka: RealKafka) -> None:
    command.settings |= kafka_settings(clean_kafka)
    command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out")
    check_report(job_folder(tmp_path / "out"), input_features())
    command.run("topics", "check")


def test_a_find_job_is_explained_by_a_real_ollama(command: Command, tmp_path: Path, clean_kafka: RealKafka, ollama: RealOllama) -> None:
    command.settings |= kafka_settings(clean_kafka) | ollama_settings(ollama)
    done = command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    report = events[-1]
    assert report["event"] == "report"
    assert report["status"] == "completed"
    assert report["explained"] + report["failed"] == 16
    assert report["tokens_out"] > 0
    check_report(job_folder(tmp_path / "out"), input_features())


@pytest.fixture
def permitted_kafka(secure_kafka: SecureKafka) -> SecureKafka:
    """A secure Kafka on which the program's user may do what docs/operations.md lists, and nothing else."""
    secure_kafka.allow("topic", "mistudio.", "Read", "Write", "Create", "Describe", "DescribeConfigs")
    secure_kafka.allow("group", "mistudio-explain.", "Read", "Describe")
    return secure_kafka


def test_a_find_job_is_explained_over_tls_with_a_password_and_access_rules(command: Command, tmp_path: Path, permitted_kafka: SecureKafka) -> None:
    command.settings |= secure_settings(permitted_kafka)
    command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out")
    check_report(job_folder(tmp_path / "out"), input_features())


def test_a_wrong_password_is_one_clear_line_within_two_seconds(command: Command, tmp_path: Path, permitted_kafka: SecureKafka) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("not it\n")
    command.settings |= secure_settings(permitted_kafka) | {"MISTUDIO_EXPLAIN_KAFKA__SASL_PASSWORD_FILE": str(wrong)}
    done = command.run("topics", "check", expect=3)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "refuses user 'app'" in lines[0]


@dataclass
class Apart:
    """Each service in a process of its own."""

    processes: list[subprocess.Popen[str]]


@pytest.fixture
def apart(command: Command, tmp_path: Path, clean_kafka: RealKafka) -> Iterator[Apart]:
    command.settings |= kafka_settings(clean_kafka) | {
        "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/state/explain.db",
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(tmp_path / "out"),
    }
    command.run("topics", "create")
    services = Apart([command.start("serve", name) for name in ("context", "generation", "validation", "aggregator")])
    yield services
    for process in services.processes:
        process.terminate()
    for process in services.processes:
        process.communicate(timeout=30)


def said(report: bytes) -> list[tuple[str, str, str, float]]:
    """What a report says of each feature; a second answer may differ in where it came from."""
    return [(row["feature_key"], row["explanation"], row["pattern_verification"], row["accuracy"]["p"]) for row in json.loads(report)["explanations"]]


def test_services_of_their_own_explain_what_is_published_and_end_gracefully(command: Command, tmp_path: Path, apart: Apart) -> None:
    published = json.loads(command.run("publish", str(EXAMPLE), "--explain-poor", "--json").stdout)
    assert published["published"] == 16
    command.run("watch", published["explain_job_id"])
    folder = job_folder(tmp_path / "out")
    check_report(folder, input_features())
    first = (folder / "feature_explanations.json").read_bytes()

    again = json.loads(command.run("publish", str(EXAMPLE), "--explain-poor", "--json").stdout)
    assert again["explain_job_id"] == published["explain_job_id"]
    command.run("watch", published["explain_job_id"])
    check_report(folder, input_features())
    assert said(first) == said((folder / "feature_explanations.json").read_bytes())

    for process in apart.processes:
        process.terminate()
    assert [process.wait(timeout=30) for process in apart.processes] == [0, 0, 0, 0]
    rewritten = command.run("report", published["explain_job_id"], "--out", "again")
    check_report(job_folder(tmp_path / "again"), input_features())
    assert "16 explained of 16" in rewritten.stdout
