"""`score`: validates explanations offline, without Kafka and without an LLM."""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mistudio_explain.cli.score_judge import judge_bench
from mistudio_explain.cli.score_lines import CHUNK_LINES, Scoring, backgrounds_of, lines_of, score_lines, workers_for
from mistudio_explain.cli.show import console, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import Verification
from mistudio_explain.reporting.atomic import PendingFiles

STDIO = Path("-")
Settle = Callable[[], object]


def score_pairs(
    pairs: Path,
    *,
    out: Path,
    minilm: bool,
    evidence: bool,
    workers: int | None,
    judge: str | None = None,
    judge_scores: Path | None = None,
    config: Path | None,
    profile: str | None,
    as_json: bool,
) -> int:
    """Write each line of `pairs` with its scores to `out`, in order; 1 when a line has an error, else 0.

    `judge` names the kinds of tests that a second model makes, if any, and `judge_scores` where its answers go.
    """
    settings = prepare(config=config, profile=profile, flags={"quality": {"minilm": True}} if minilm else None, quiet=True)
    results: Counter[str] = Counter()
    with ExitStack() as stack:
        source = stack.enter_context(_rewindable(pairs))
        bench = None if judge is None else stack.enter_context(judge_bench(judge, judge_scores, settings))
        bar = stack.enter_context(_bar())
        reading = bar.add_task("reading", total=None)
        backgrounds, count = backgrounds_of(_counted(lines_of(source), bar, reading), pairs)
        bar.update(reading, total=count, completed=count)
        source.seek(0)
        file, settle = stack.enter_context(target(out))
        scoring = Scoring(pairs, settings, evidence, backgrounds)
        task = bar.add_task("scoring", total=count)
        scored = score_lines(islice(lines_of(source), count), scoring, workers or workers_for(count))
        for chunk in scored if bench is None else bench.judged(scored, scoring):
            file.writelines(each.line + b"\n" for each in chunk)
            results.update(each.result for each in chunk)
            bar.advance(task, len(chunk))
        settle()
    _tell(results, count, len(backgrounds), out, as_json=as_json)
    if bench is not None:
        console(stderr=True).print(bench.cost)
    return 1 if results["error"] else 0


@contextmanager
def _rewindable(path: Path) -> Iterator[BinaryIO]:
    """The input, which is read twice: what comes through a pipe goes to a temporary file first."""
    with ExitStack() as stack:
        try:
            source = sys.stdin.buffer if path == STDIO else stack.enter_context(path.open("rb"))
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror or error}; name a file of pairs, or - for what is piped in") from error
        if path != STDIO and source.seekable():
            yield source
            return
        with tempfile.TemporaryFile(prefix="mistudio-explain-score-") as spooled:
            shutil.copyfileobj(source, spooled, 1 << 20)
            spooled.seek(0)
            yield spooled


@contextmanager
def target(out: Path) -> Iterator[tuple[BinaryIO, Settle]]:
    """Where the lines go, and what puts the file in place once all are written; until then the old one stays."""
    if out == STDIO:
        yield sys.stdout.buffer, sys.stdout.buffer.flush
        return
    if out.is_dir():
        raise BadInput(f"--out {out}: is a folder; name a file in it")
    try:
        with PendingFiles(out.parent) as files:
            yield files.create(out.name), files.commit
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error}") from error


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, console=console(stderr=True), disable=not sys.stderr.isatty(), transient=True)


def _counted(lines: Iterator[bytes], bar: Progress, task: TaskID) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if number % CHUNK_LINES == 0:
            bar.advance(task, CHUNK_LINES)
        yield line


def _tell(results: Counter[str], lines: int, jobs: int, out: Path, *, as_json: bool) -> None:
    """Say on the terminal what came out; beside lines on the standard output, nothing else goes there."""
    counts = {verdict.value: results[verdict.value] for verdict in Verification}
    if as_json and out != STDIO:
        print_json({"lines": lines, "jobs": jobs, **counts, "errors": results["error"], "out": str(out)})
        return
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing scored"
    errors = f"; {results['error']} lines have an error, each says which" if results["error"] else ""
    where = "" if out == STDIO else f"; {out}"
    console(stderr=True).print(f"{lines} lines of {jobs} {'job' if jobs == 1 else 'jobs'}: {told}{errors}{where}")
