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

SERVICES = ("context", "generation", "validation", "escalation", "redelivery", "replayer", "aggregator", "gateway")
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
    """Seconds from start to ready, resident memory in MB, share of one CPU in percent, seconds from SIGTERM to exit."""

    ready_s: float
    memory_mb: float
    cpu_percent: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a service ended under load: its code, and the seconds from SIGTERM."""

    code: int
    seconds: float


def settings(kafka: RealKafka, llm: FakeLlm, folder: Path, service: str) -> dict[str, str]:
    endpoint = {"name": "llm", "provider": "openai", "url": llm.url(service), "models": [MODEL], "slots": SLOTS}
    return {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "LLM__ENDPOINTS": json.dumps([endpoint]),
        "STORE__URL": f"sqlite:///{folder}/state/explain.db",
        "REPORTS__DIRECTORY": str(folder / "reports"),
        "GATEWAY__PORT": "0",
        "ESCALATION__ENABLED": "true" if service == "escalation" else "false",
        "ESCALATION__ROUTE": json.dumps([MODEL]),
        "LIMITS__EXPRESS_FEATURES": "0",
    }


def idle(served: Served) -> Idle:
    """Start a service alone, let it be, and stop it."""
    with served:
        ready_s = served.until_ready()
        time.sleep(SETTLED_S)
        usage = served.usage
        before, began = usage.cpu_times(), time.monotonic()
        time.sleep(IDLE_S)
        after, lasted = usage.cpu_times(), time.monotonic() - began
        busy = after.user + after.system - before.user - before.system
        memory_mb = usage.memory_info().rss / 1e6
        return Idle(ready_s, memory_mb, 100 * busy / lasted, served.stop()[1])


def under_load(kafka: RealKafka, folder: Path) -> tuple[Mapping[str, Stopped], Sequence[Finding]]:
    """Stop each service of a busy installation and start it again; returns how they ended, and what was lost, doubled or miscounted of the job."""
    (job,) = make_jobs(folder / "input", (FEATURES,))
    wanted = fates([job])
    with FakeLlm(Character(1, CALL_S, faulty=0.0)) as llm, ExitStack() as stack:
        names = [service for service in SERVICES if service not in {"escalation", "gateway"}]
        services = {name: stack.enter_context(Served((name,), settings(kafka, llm, folder, name), folder)) for name in names}
        for served in services.values():
            served.until_ready()
        run_command(*PROGRAM, "publish", str(job.path), env=environment(settings(kafka, llm, folder, "publish")))
        stopped = {}
        for name, served in services.items():
            enough = llm.answered + _BETWEEN
            assert wait_until(lambda least=enough: llm.answered >= least, 60), f"the load ended before {name} was stopped"  # type: ignore[misc]
            stopped[name] = Stopped(*served.stop())
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with RealKafka(folder / "kafka") as kafka, FakeLlm(Character(1)) as llm:
            resting = {}
            for service in SERVICES:
                place = folder / service
                resting[service] = idle(Served((service,), settings(kafka, llm, place, service), place))
            kafka.delete_topics("mistudio.")
            stopped, findings = under_load(kafka, folder / "load")
    rows = [
        [
            service,
            f"{each.ready_s:.1f} s",
            f"{each.memory_mb:.0f} MB",
            f"{MOST_MB.get(service, 120)} MB",
            f"{each.cpu_percent:.1f}%",
            f"{each.stop_s:.1f} s",
            f"{stopped[service].seconds:.1f} s (code {stopped[service].code})" if service in stopped else "",
        ]
        for service, each in resting.items()
    ]
    columns = ("service", "start to ready (goal < 5 s)", "memory", "goal <", f"CPU over {IDLE_S:.0f} s (goal ≤ 2%)", "SIGTERM to exit", "the same under load")
    lost = f"Under load every service was stopped once and started again within one job of {FEATURES} features: {len(findings)} lost, doubled or miscounted."
    print_table("Each service alone, with nothing to do", columns, rows, note=lost)
    for finding in findings[:20]:
        print(finding)


if __name__ == "__main__":
    main()
