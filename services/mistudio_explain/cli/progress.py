"""Shows a job's progress: a bar on a terminal, plain lines otherwise, JSON lines for scripts."""

import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mistudio_explain.cli.show import console, plain, print_json
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.events.winner import Rank
from mistudio_explain.kafka.follow import Followed, FollowedOutcome

_LINE_LENGTH = 110


@dataclass
class Progressing:
    """What was seen of a job so far; the newest outcome of each feature."""

    as_json: bool
    expected: int | None = None
    outcomes: dict[str, FeatureOutcome] = field(default_factory=dict)
    counts: Counter[OutcomeKind] = field(default_factory=Counter)
    _ranks: dict[str, Rank] = field(default_factory=dict)

    def take(self, followed: FollowedOutcome) -> bool:
        """Note an outcome; False when one that counts more was seen of the same feature (events/winner.py)."""
        outcome, key = followed.outcome, followed.outcome.subject.feature_key
        if key in self._ranks and followed.rank <= self._ranks[key]:
            return False
        if key in self.outcomes:
            self.counts[self.outcomes[key].outcome] -= 1
        self._ranks[key], self.outcomes[key] = followed.rank, outcome
        self.counts[outcome.outcome] += 1
        return True


async def show_until_end(events: AsyncIterator[Followed], seen: Progressing) -> JobReport:
    """Show events until a report says that the job is at an end; returns that report."""
    started = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=seen.as_json or not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("explaining", total=seen.expected, rate="")
        async for event in events:
            if isinstance(event, JobReport):
                seen.expected = seen.expected or event.expected
                if seen.as_json:
                    print_json({"event": "report", **event.model_dump(mode="json")})
                if event.status is not JobStatus.RUNNING:
                    return event
            else:
                if seen.take(event):
                    _show_outcome(event.outcome, seen, bar)
            _advance(bar, task, seen, time.monotonic() - started)
    raise AssertionError("a job is followed until its report ends it")


def _advance(bar: Progress, task: TaskID, seen: Progressing, elapsed_s: float) -> None:
    done = len(seen.outcomes)
    counts = ", ".join(f"{seen.counts[kind]} {kind.value}" for kind in OutcomeKind if seen.counts[kind])
    rate = f"{60 * done / elapsed_s:.0f}/min" if done and elapsed_s > 1 else ""
    bar.update(task, completed=done, total=seen.expected, description=counts or "explaining", rate=rate)


def _show_outcome(outcome: FeatureOutcome, seen: Progressing, bar: Progress) -> None:
    if seen.as_json:
        print_json({"event": "outcome", **outcome.model_dump(mode="json", exclude={"evidence"})})
        return
    (bar.console if not bar.disable else console()).print(f"[{len(seen.outcomes)}/{seen.expected or '?'}] {outcome_line(outcome)}")


def outcome_line(outcome: FeatureOutcome) -> str:
    """One line for people about an outcome."""
    name = f"feature {outcome.subject.feature_key}"
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        return f"{name} {outcome.outcome.value}: {_short(outcome.reason)}"
    verdict = outcome.pattern_verification.value if outcome.pattern_verification else "not verified"
    accuracy = f" {outcome.accuracy.p:.2f}" if outcome.accuracy else ""
    return f"{name} {verdict}{accuracy}: {_short(outcome.explanation)}"


def _short(text: str | None) -> str:
    shown = plain(text or "")
    return shown if len(shown) <= _LINE_LENGTH else shown[:_LINE_LENGTH].rsplit(" ", 1)[0] + " ..."
