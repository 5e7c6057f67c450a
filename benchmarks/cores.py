"""(b) The pure cores: CPU of each stage for one feature, at 6 KB and at 42 KB, miStudioFind's real size."""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fake_llm import ANSWER
from benchmarks.requests import take
from benchmarks.table import print_table
from mistudio_explain.aggregation.stage import counters_of
from mistudio_explain.context.background import empty, include
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import admission, build
from mistudio_explain.events.explanation import ExplanationRequested, Generation
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.generation.stage import drafted, parse
from mistudio_explain.reporting.stage import write_reports
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

FEATURES = 200
GOALS_MS = {6_000: 5.0, 42_000: 9.0}


def timed(taken: dict[str, list[float]], stage: str, work: Callable[[Any], Any], things: Iterable[Any]) -> list[Any]:
    """Apply a stage to each thing; its CPU for one, milliseconds, is added to `taken`."""
    kept = list(things)
    started = time.process_time()
    made = [work(thing) for thing in kept]
    taken.setdefault(stage, []).append((time.process_time() - started) / len(kept) * 1e3)
    return made


def one_run(size: int, validator: Validator, taken: dict[str, list[float]]) -> None:
    settings = Settings()
    policy = ContextPolicy.of(settings.context, QualitySettings(explain_poor=True), Routing())
    templates = Templates.load()
    features = take(FEATURES, size)
    made = Generation(model="fake", endpoint="fake", provider="openai", latency_s=1.0, finish_reason="stop")

    def context(feature: Any) -> ExplanationRequested:
        admission(feature, None)
        request = build(feature, policy, templates, None)
        assert isinstance(request, ExplanationRequested)
        return request

    requests = timed(taken, "context", context, features)
    (background,) = timed(taken, "context: background", lambda batch: include(empty("find_bench", "default", "bench-model"), batch), [features])
    taken["context: background"][-1] /= FEATURES
    drafts = timed(taken, "generation", lambda request: drafted(request, parse(request.prompt, ANSWER, "stop"), made, []), requests)
    outcomes = timed(taken, "validation", lambda draft: validate(draft, background, validator), drafts)
    timed(taken, "aggregation", counters_of, outcomes)
    report = JobReport(
        explain_job_id="explain_bench", find_job_id="find_bench", status=JobStatus.COMPLETED, admitted=FEATURES, explained=FEATURES, skipped=0, failed=0,
        flagged=0, averages=Averages(), at_ms=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        write_reports(report, lambda: outcomes, Path(folder))
        taken.setdefault("reporting", []).append((time.process_time() - started) / FEATURES * 1e3)


def main(runs: int = 5) -> None:
    validator = Validator.load(QualitySettings())
    rows: dict[str, list[str]] = {}
    for size in GOALS_MS:
        taken: dict[str, list[float]] = {}
        for _ in range(runs):
            one_run(size, validator, taken)
        totals = [sum(values) for values in zip(*taken.values(), strict=True)]
        for stage, values in (*taken.items(), (f"all (goal ≤ {GOALS_MS[6_000]:.0f} and ≤ {GOALS_MS[42_000]:.0f})", totals)):
            rows.setdefault(stage, []).append(f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
    print_table("Cores: CPU for one feature, ms", ("stage", "6 KB", "42 KB"), [[stage, *cells] for stage, cells in rows.items()])


if __name__ == "__main__":
    main()
