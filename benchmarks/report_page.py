"""The HTML report of a job of 5,000 real features: its size, and in Chromium how soon it is there and how soon a keystroke is answered.

The peer is the same page with every card whole, as a small job has it.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.real_jobs import real_outcomes, renamed
from benchmarks.table import print_table, spread
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.reporting.page import WHOLE_UP_TO, write_page
from mistudio_explain.reporting.survey import survey

FEATURES = 5_000
_RUNS = 5
_WORDS = "legal te"
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# From a keystroke to the frame after the page that answers it.
_ANSWERS = """
() => {
  window.answers = [];
  document.getElementById("words").addEventListener("input", (event) => {
    requestAnimationFrame(() => requestAnimationFrame(() => window.answers.push(performance.now() - event.timeStamp)));
  });
}
"""


@dataclass(frozen=True)
class Seen:
    """What one page came to; times in milliseconds."""

    megabytes: float
    written_s: float
    painted: list[float]
    loaded: list[float]
    busy: list[float]
    """Time on a core that the page's thread had until it was loaded: what is left of `loaded` on an idle machine."""
    answers: list[float]


def main() -> None:
    outcomes = real_outcomes()
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium") or sys.exit("Chromium is missing"), args=list(_QUIET))
        ours = _seen(Path(folder) / "packed.html", chromium, outcomes, WHOLE_UP_TO)
        whole = _seen(Path(folder) / "whole.html", chromium, outcomes, FEATURES)
        chromium.close()
    rows = [
        ["size, MB", f"{ours.megabytes:.1f}", f"{whole.megabytes:.1f}", "< 10"],
        ["written in, s", f"{ours.written_s:.1f}", f"{whole.written_s:.1f}", ""],
        ["first painted, ms", spread(ours.painted, 0), spread(whole.painted, 0), "< 1000"],
        ["loaded, ms", spread(ours.loaded, 0), spread(whole.loaded, 0), "< 1000"],
        ["of this on a core, ms", spread(ours.busy, 0), spread(whole.busy, 0), ""],
        [f"search, keystroke to painted answer, ms ({len(ours.answers)} keystrokes)", spread(ours.answers, 0), spread(whole.answers, 0), "< 100"],
    ]
    print_table(f"The HTML report of {FEATURES:,} features: median (least-greatest)", ("what", "page", "peer: every card whole", "goal"), rows)


def page_of(path: Path, outcomes: Sequence[FeatureOutcome], features: int, whole_up_to: int = WHOLE_UP_TO) -> float:
    """Write the page of a job of so many features; gives the seconds of it."""
    report = JobReport(
        explain_job_id="explain_bench", find_job_id="find_bench", target_model="several", status=JobStatus.COMPLETED, expected=features,
        expected_source="sealed", admitted=features, explained=features, skipped=0, failed=0, flagged=0, averages=Averages(), at_ms=0,
    )  # fmt: skip
    started = time.perf_counter()
    figures = survey(renamed(outcomes, report.explain_job_id, features))
    with path.open("wb") as out:
        write_page(out, report, figures, renamed(outcomes, report.explain_job_id, features), whole_up_to=whole_up_to)
    return time.perf_counter() - started


def _seen(path: Path, chromium: Browser, outcomes: Sequence[FeatureOutcome], whole_up_to: int) -> Seen:
    written_s = page_of(path, outcomes, FEATURES, whole_up_to)
    painted, loaded, busy, answers = [], [], [], []
    for _ in range(_RUNS):
        page = chromium.new_page()
        figures = page.context.new_cdp_session(page)
        figures.send("Performance.enable")
        page.goto(path.as_uri())
        busy.append(next(each["value"] * 1000 for each in figures.send("Performance.getMetrics")["metrics"] if each["name"] == "ThreadTime"))
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        loaded.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        answers += _answers(page)
        page.close()
    return Seen(path.stat().st_size / 1e6, written_s, painted, loaded, busy, answers)


def _answers(page: Page) -> list[float]:
    page.evaluate(_ANSWERS)
    page.focus("#words")
    for number, letter in enumerate(_WORDS, 1):
        page.keyboard.type(letter)
        page.wait_for_function("(number) => window.answers.length >= number", arg=number)
    return list(page.evaluate("window.answers"))


if __name__ == "__main__":
    main()
