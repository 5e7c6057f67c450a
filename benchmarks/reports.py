"""The files of a job of 5,000 features: seconds, CPU and memory of `mistudio-explain report` in each format, and in all of them at once.

The features have 12 texts of 2.1 KB, miStudioFind's real size, cut out of real ones; one in ten is skipped, one in fifty
is a safety concern. Memory is the most that the command and the typesetters that it starts had together, seen every
20 ms; what they share counts twice.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil

from benchmarks.aggregator import outcomes
from benchmarks.table import print_table
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Category, FeatureOutcome, OutcomeKind, Safety, SafetyEvidence, Score, Verification
from mistudio_explain.events.job import JobEvent, SealedPart
from mistudio_explain.reporting.formats import Format
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, open_store

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
FEATURES = 5_000
TEXTS, SIZE = 12, 12 * 2_100
JOB = "explain_bench"
VERDICTS = tuple(Verification)
CATEGORIES = tuple(Category)


def job() -> Iterator[FeatureOutcome]:
    """The outcomes, of all kinds."""
    for number, outcome in enumerate(outcomes(FEATURES, SIZE, TEXTS, JOB)):
        subject = outcome.subject.model_copy(update={"category": CATEGORIES[number % len(CATEGORIES)]})
        if number % 10 == 9:
            yield FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="coherence 0.31 is below 0.4", subject=subject)
            continue
        evidence = [SafetyEvidence(category="weapons", where="text", index=0, words=["mention"])]
        changes = {
            "subject": subject,
            "pattern_verification": VERDICTS[number % len(VERDICTS)],
            "quality_score": number % 97 / 97,
            "clarity": Score(value=0.8),
            "consistency": Score(value=0.6),
            "relevance": Score(value=number % 10 / 10),
            "safety": Safety(assessment="concerning", categories=["weapons"], evidence=evidence) if number % 50 == 0 else Safety(assessment="safe"),
            "prompt_template": "fields@1",
        }
        yield outcome.model_copy(update=changes)


def prefill(settings: StoreSettings) -> None:
    """Write the job into a store, as an aggregator would have."""
    with open_store(settings) as store:
        stream = enumerate(job())
        while some := list(islice(stream, 500)):
            store.apply([Change(outcome, encode(outcome), "", 1_700_000_000_000 + number) for number, outcome in some], {})
        seal = JobEvent(explain_job_id=JOB, at_ms=1_700_000_000_000, sealed=SealedPart(expected=FEATURES))
        store.apply([Change(seal, encode(seal), "", 1_700_000_000_000 + FEATURES)], {})


def measured(settings: StoreSettings, kind: str, out: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and the most MB of memory of one command."""
    environment = os.environ | {"MISTUDIO_EXPLAIN_STORE__URL": settings.url}
    before = os.times()
    started = time.perf_counter()
    process = subprocess.Popen([str(PROGRAM), "report", JOB, "--format", kind, "--out", str(out)], env=environment, cwd=out.parent, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"`report --format {kind}` ended with {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu, most / 1e6


def memory_of(pid: int) -> int:
    """Resident bytes of a process and of those it started."""
    try:
        parent = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (parent, *parent.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        settings = StoreSettings(url=f"sqlite:///{name}/explain.db")
        prefill(settings)
        rows = []
        for kind in (*Format, "all"):
            out = Path(name) / kind
            seconds, cpu, megabytes = measured(settings, kind, out)
            files = list((out / JOB).iterdir())
            size = sum(path.stat().st_size for path in files) / 1e6
            goals = (" (goal < 30)", " (goal < 600)") if kind == "all" else ("", "")
            rows.append([str(kind), f"{seconds:.1f}{goals[0]}", f"{cpu:.1f}", f"{megabytes:.0f}{goals[1]}", str(len(files)), f"{size:.1f}"])
    print_table(f"Reports: a job of {FEATURES:,} features", ("format", "s", "CPU s", "most memory, MB", "files", "MB"), rows)


if __name__ == "__main__":
    main()
