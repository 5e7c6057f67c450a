"""What `score` does with each line of pairs: the two passes, in this process or several."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from mistudio_explain.context.background import empty, include
from mistudio_explain.errors import ExplainError
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.identity import DEFAULT_TENANT
from mistudio_explain.events.job import JobBackground
from mistudio_explain.intake.document import Flawed
from mistudio_explain.intake.pairs import LINE_BYTES, PairLine
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import Scorer, frozen, score
from mistudio_explain.validation.validator import Validator

CHUNK_LINES = 64
CHUNK_BYTES = 4 << 20
_CHUNKS_AHEAD = 3  # for each worker: none waits, and few wait in memory
_CONTRASTS_KEPT = 128  # prepared backgrounds of 1.3 MB; interleaved jobs beyond that are prepared again and again
_KEPT_OF_A_BROKEN_LINE = 10_000  # characters
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_SUBJECT = {"feature_key", "tier", "category", "category_source"}
_LEFT_OUT = {"subject", "answer", "explanation", "generation", "prompt_template", "prompt_sha256", "earlier", "pass_number", "reason", "review"}
"""The line has it already, or nobody knows it."""

Backgrounds = Mapping[str, JobBackground]
"""By job."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a worker needs to score lines."""

    file: Path
    settings: Settings
    evidence: bool
    backgrounds: Backgrounds

    def scorer(self) -> Scorer:
        """Load the models; takes about a second."""
        return Scorer.of(Validator.load(self.settings.quality), self.settings).with_room_for(min(max(1, len(self.backgrounds)), _CONTRASTS_KEPT))


@dataclass(frozen=True, slots=True)
class Scored:
    """An output line, and what it came to: a verdict, or `error`."""

    line: bytes
    result: str


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines without their ends; of one that is longer than any line may be, a beginning that is too long as well."""
    first = True
    while line := file.readline(LINE_BYTES + 2):
        if not line.endswith(b"\n") and len(line) > LINE_BYTES:
            while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield (line.removeprefix(_BYTE_ORDER_MARK) if first else line).rstrip(b"\r\n")
        first = False


def backgrounds_of(lines: Iterable[bytes], file: Path) -> tuple[dict[str, JobBackground], int]:
    """The first pass: the background of every job, frozen, and how many lines there are.

    A feature counts when it can be read, whatever is wrong with its explanation: so what is mended later changes no
    other line's score. Of each job only the sample is kept.
    """
    jobs: dict[str, JobBackground] = {}
    count = 0
    for count, line in enumerate(lines, 1):
        try:
            decoded = PairLine.of(line, count, file)
            known = jobs.get(str(decoded.members.get("job")))
            if known is not None and known.frozen:
                continue
            feature = decoded.feature()
        except Flawed:
            continue  # the second pass says what is wrong
        job = feature.find_job_id
        jobs[job] = include(known or empty(job, DEFAULT_TENANT, feature.target_model), [feature])
    return {job: frozen(background) for job, background in jobs.items()}, count


def scored(line: bytes, number: int, scoring: Scoring, scorer: Scorer) -> Scored:
    """The second pass, for one line: the line with its scores, or with an `error` that says what, where and why."""
    decoded: PairLine | None = None
    try:
        decoded = PairLine.of(line, number, scoring.file)
        pair = decoded.pair()
        outcome = score(pair.feature, pair.explanation, scoring.backgrounds.get(pair.feature.find_job_id), scorer)
        verdict = outcome.pattern_verification
        return Scored(extended(line, decoded.members, fields_of(outcome, evidence=scoring.evidence)), verdict.value if verdict else "none")
    except Flawed as flawed:
        error = "; ".join(f"{problem.path}: {problem.what}" for problem in flawed.problems)
    except ExplainError as refused:
        error = str(refused)
    except Exception as fault:  # noqa: BLE001  (a fault of ours with one line must not cost all others)
        error = f"this version cannot score it ({type(fault).__name__}: {fault}); please report the line"
    told = {"error": f"line {number}: {error}"}
    if decoded is None:
        text = line[: 4 * _KEPT_OF_A_BROKEN_LINE].decode("utf-8", "replace")[:_KEPT_OF_A_BROKEN_LINE]
        return Scored(orjson.dumps({"line": text, **told}), "error")
    return Scored(extended(line, decoded.members, told), "error")


def fields_of(outcome: FeatureOutcome, *, evidence: bool = False) -> dict[str, Any]:
    """What an outcome says beyond the pair itself."""
    fields = outcome.model_dump(mode="json", exclude=_LEFT_OUT if evidence else {*_LEFT_OUT, "evidence"})
    return {"subject": outcome.subject.model_dump(mode="json", include=_SUBJECT), **fields}


def extended(line: bytes, members: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    """The line with more members.

    Its own bytes stay as they are, so that numbers keep their digits; unless it has members of these names already,
    as lines have that were scored before: those are replaced.
    """
    if members.keys() & {*FeatureOutcome.model_fields, "error"} - {"explanation"}:
        kept = {name: value for name, value in members.items() if name == "explanation" or name not in {*FeatureOutcome.model_fields, "error"}}
        try:
            return orjson.dumps({**kept, **fields})
        except TypeError as error:  # orjson reads deeper nesting than it writes
            return orjson.dumps({"line": line.decode("utf-8", "replace")[:_KEPT_OF_A_BROKEN_LINE], "error": f"the line cannot be written again: {error}"})
    own = line.strip()[:-1].rstrip()
    return own + (b"" if own == b"{" else b",") + orjson.dumps(fields)[1:]


def score_lines(lines: Iterable[bytes], scoring: Scoring, workers: int) -> Iterator[list[Scored]]:
    """The second pass over all lines, in order, in chunks; with more than one worker in so many processes."""
    numbered = enumerate(lines, 1)
    chunks = iter(lambda: _chunk(numbered), [])
    if workers == 1:
        scorer = scoring.scorer()
        for chunk in chunks:
            yield [scored(line, number, scoring, scorer) for number, line in chunk]
        return
    # spawned, not forked: tokenizers and progress bars have threads, which a fork may leave holding a lock
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(scoring,)) as pool:
        pending: deque[Future[list[Scored]]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(_score_chunk, chunk))
                if len(pending) > _CHUNKS_AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise ExplainError("a process that scored lines died, maybe for want of memory; `--workers 1` needs the least") from error
        finally:
            for future in pending:
                future.cancel()


def workers_for(lines: int) -> int:
    """How many processes pay: one for few lines, for each takes about two seconds to start; else one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if lines < 2_000 else cores


def _chunk(numbered: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for entry in islice(numbered, CHUNK_LINES):
        chunk.append(entry)
        size += len(entry[1])
        if size >= CHUNK_BYTES:
            break
    return chunk


_in_worker: list[tuple[Scoring, Scorer]] = []
"""Filled once in each worker process."""


def _begin(scoring: Scoring) -> None:
    _in_worker.append((scoring, scoring.scorer()))


def _score_chunk(chunk: list[tuple[int, bytes]]) -> list[Scored]:
    ((scoring, scorer),) = _in_worker
    return [scored(line, number, scoring, scorer) for number, line in chunk]
