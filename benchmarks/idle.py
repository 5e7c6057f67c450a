"""What each service takes of a machine while it has nothing to do, how soon it is ready, and how it ends under load.

Each in a process of its own, on real Kafka.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import print_table
from chaos.checker import Finding, Found, check
from chaos.fake_llm import MODEL, Character, FakeLlm
from chaos.inputs import Fate, Job, Key, fates, make_jobs
from chaos.readings import read_all, read_topics
from chaos.wire import REPORTS, decode
from integration.local_server import run_command, wait_until
from integration.real_kafka import RealKafka
from integration.served import PROGRAM, Served, environment

TOGETHER = ("redelivery replayer escalation", "aggregator gateway")
"""What the chart lets one process serve."""
SERVICES = ("context", "generation", "validation", "escalation", "redelivery", "replayer", "aggregator", "gateway", *TOGETHER)
MOST_MB: Mapping[str, int] = {"validation": 300}
"""Goal for a service's resident memory, MB; 120 where nothing is said."""
IDLE_S = 30.0
SETTLED_S = 10.0
FEATURES = 900
SLOTS = 24
CALL_S = 1.0
_BETWEEN = 60
"""So many answers come between one stop and the next."""
_COMPLETED_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Idle:
    """Seconds from start to ready and CPU seconds until then, resident memory in MB, share of one CPU in percent, seconds from SIGTERM to exit."""

    ready_s: float
    ready_cpu_s: float
    memory_mb: float
    cpu_percent: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a service ended under load: its code, the seconds from SIGTERM, and its resident memory before, MB."""

    code: int
    seconds: float
    memory_mb: float


def settings(kafka: RealKafka, llm: FakeLlm, folder: Path, service: str) -> dict[str, str]:
    endpoint = {"name": "llm", "provider": "openai", "url": llm.url(service.replace(" ", "-")), "models": [MODEL], "slots": SLOTS}
    return {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "LLM__ENDPOINTS": json.dumps([endpoint]),
        "STORE__URL": f"sqlite:///{folder}/state/explain.db",
        "REPORTS__DIRECTORY": str(folder / "reports"),
        "GATEWAY__PORT": "0",
        "ESCALATION__ENABLED": "true" if "escalation" in service else "false",
        "ESCALATION__ROUTE": json.dumps([MODEL]),
        "LIMITS__EXPRESS_FEATURES": "0",
    }


def idle(kafka: RealKafka, folder: Path) -> Mapping[str, Idle]:
    """Start the services one after another, let them all be, and stop them one after another."""
    with FakeLlm(Character(1)) as llm, ExitStack() as stack:
        services, ready = {}, {}
        for name in SERVICES:
            served = services[name] = stack.enter_context(Served(name.split(), settings(kafka, llm, folder / name, name), folder / name))
            ready[name] = served.until_ready(), busy_s(served)
        time.sleep(SETTLED_S)
        before = {name: (busy_s(served), time.monotonic()) for name, served in services.items()}
        time.sleep(IDLE_S)
        share = {name: 100 * (busy_s(served) - before[name][0]) / (time.monotonic() - before[name][1]) for name, served in services.items()}
        memory = {name: memory_mb(served) for name, served in services.items()}
        return {name: Idle(*ready[name], memory[name], share[name], served.stop()[1]) for name, served in services.items()}


def busy_s(served: Served) -> float:
    """CPU seconds of a process so far."""
    times = served.usage.cpu_times()
    return times.user + times.system


def memory_mb(served: Served) -> float:
    return served.usage.memory_info().rss / 1e6


def under_load(kafka: RealKafka, folder: Path) -> tuple[Mapping[str, Stopped], Sequence[Finding]]:
    """Stop each service of a busy installation and start it again; returns how they ended, and what was lost, doubled or miscounted of the job."""
    (job,) = make_jobs(folder / "input", (FEATURES,))
    wanted = fates([job])
    with FakeLlm(Character(1, CALL_S, faulty=0.0)) as llm, ExitStack() as stack:
        names = [service for service in SERVICES if service not in {"escalation", "gateway", *TOGETHER}]
        services = {name: stack.enter_context(Served((name,), settings(kafka, llm, folder, name), folder)) for name in names}
        for served in services.values():
            served.until_ready()
        run_command(*PROGRAM, "publish", str(job.path), env=environment(settings(kafka, llm, folder, "publish")))
        stopped = {}
        for name, served in services.items():
            enough = llm.answered + _BETWEEN
            assert wait_until(lambda least=enough: llm.answered >= least, 60), f"the load ended before {name} was stopped"  # type: ignore[misc]
            memory = memory_mb(served)
            stopped[name] = Stopped(*served.stop(), memory)
            served.start()
        wait_until(lambda: _is_completed(kafka, job), _COMPLETED_WITHIN_S)
        return stopped, _findings(kafka, folder, job, wanted, llm)


def _is_completed(kafka: RealKafka, job: Job) -> bool:
    time.sleep(1)
    reports = [record for record in asyncio.run(read_topics(kafka.bootstrap, [REPORTS])) if record.value and record.key == job.explain_job_id.encode()]
    return bool(reports) and decode(reports[-1].value, "JobReport")["status"] == "completed"


def _findings(kafka: RealKafka, folder: Path, job: Job, wanted: Mapping[Key, Fate], llm: FakeLlm) -> Sequence[Finding]:
    read = asyncio.run(read_all(kafka.bootstrap, folder / "reports", [job.explain_job_id], ()))
    return check(wanted, {}, Found(read.records, read.files, list(llm.calls)))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, RealKafka(Path(name) / "kafka") as kafka:
        resting = idle(kafka, Path(name))
        kafka.delete_topics("mistudio.")
        stopped, findings = under_load(kafka, Path(name) / "load")
    columns = (
        "service", "start to ready (goal < 5 s)", "CPU until then", "memory", "goal <", f"CPU over {IDLE_S:.0f} s (goal ≤ 2%)", "SIGTERM to exit",
        "memory under load", "SIGTERM to exit under load",
    )  # fmt: skip
    rows = [[*_at_rest(service, each), *_under_load(stopped.get(service))] for service, each in resting.items()]
    lost = f"Under load every service was stopped once and started again within one job of {FEATURES} features: {len(findings)} lost, doubled or miscounted."
    print_table("Each service in a process of its own, with nothing to do and under load", columns, rows, note=lost)
    for finding in findings[:20]:
        print(finding)


def _at_rest(service: str, each: Idle) -> list[str]:
    goal = MOST_MB.get(service, 120)
    share = f"{each.cpu_percent:.1f}%"
    return [service, f"{each.ready_s:.1f} s", f"{each.ready_cpu_s:.1f} s", f"{each.memory_mb:.0f} MB", f"{goal} MB", share, f"{each.stop_s:.1f} s"]


def _under_load(stopped: Stopped | None) -> list[str]:
    return ["", ""] if stopped is None else [f"{stopped.memory_mb:.0f} MB", f"{stopped.seconds:.1f} s, code {stopped.code}"]


if __name__ == "__main__":
    main()
