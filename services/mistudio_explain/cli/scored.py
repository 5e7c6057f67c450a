"""Scored lines in the place of a job: what reads a job from the store reads a file that `score` wrote as well."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mistudio_explain.cli.score_lines import lines_of
from mistudio_explain.cli.show import console, plain
from mistudio_explain.errors import BadInput
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Answer, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import plain_name
from mistudio_explain.events.job import JobEvent, JobReport, RequestPart, SealedPart
from mistudio_explain.intake.document import Flawed
from mistudio_explain.intake.feature import misfit
from mistudio_explain.intake.pairs import PairLine
from mistudio_explain.settings import Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store

GIVEN = "The explanations were given and scored offline: who made them, from what texts, in what time and where is not known here."
_AT_ONCE = 200  # outcomes of one transaction
_OF_THE_LINE = {"subject", "explanation", "answer"}
_LONGEST_JOB = 180


@contextmanager
def job_of(named: str, settings: Settings) -> Iterator[tuple[Settings, str]]:
    """The job that is meant and the settings whose store has it: a job of the store as it is, or a file of scored lines as a job in a store of its own.

    The file's job is called after the file, and is gone afterwards. Raises BadInput for lines that are not scored, or of several jobs.
    """
    path = Path(named)
    if not path.is_file():
        yield settings, named
        return
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-scored-") as folder:
        own = settings.model_copy(update={"store": StoreSettings(url=f"sqlite:///{folder}/explain.db")})
        job = plain_name(path.name.removesuffix(".jsonl"))[:_LONGEST_JOB] or "scored"
        _fill(path, job, own)
        yield own, job


def untimed(report: JobReport) -> JobReport:
    """The report without what nobody knows of explanations that were given: how long they took to make, and what that is worth."""
    return report.model_copy(update={"wall_s": None, "cost_analysis": None})


def _fill(path: Path, job: str, settings: Settings) -> None:
    """Put the outcomes of the lines into the store, dated by the file, as those of a job that is complete."""
    at_ms = path.stat().st_mtime_ns // 1_000_000
    seen: set[str] = set()
    first: FeatureOutcome | None = None
    again = 0
    with open_store(settings.store) as store:
        outcomes = _outcomes(path, job)
        while batch := list(islice(outcomes, _AT_ONCE)):
            kept = []
            for outcome in batch:
                first = first or outcome
                jobs = {first.subject.find_job_id, outcome.subject.find_job_id}
                if len(jobs) > 1:
                    raise BadInput(f"{path}: has lines of several jobs, such as {' and '.join(sorted(map(repr, jobs)))}; give each a file of its own")
                again += outcome.subject.feature_key in seen
                if outcome.subject.feature_key not in seen:
                    seen.add(outcome.subject.feature_key)
                    kept.append(Change(outcome, encode(outcome), "", at_ms))
            store.apply(kept, {})
        if first is None:
            raise BadInput(f"{path}: has no line")
        request = RequestPart(find_job_id=first.subject.find_job_id or job, target_model=first.subject.target_model or "unnamed")
        sealed = SealedPart(expected=len(seen), notes=[GIVEN])
        parts = [JobEvent(explain_job_id=job, at_ms=at_ms, request=request), JobEvent(explain_job_id=job, at_ms=at_ms, sealed=sealed)]
        store.apply([Change(part, encode(part), "", at_ms) for part in parts], {})
    if again:
        console(stderr=True).print(plain(f"{path}: {again} further explanations of features that have one before them are left out"))


def _outcomes(path: Path, job: str) -> Iterator[FeatureOutcome]:
    with path.open("rb") as file:
        for number, line in enumerate(lines_of(file), 1):
            try:
                decoded = PairLine.of(line, number, path)
                yield _outcome(decoded, job, path, number)
            except Flawed as flawed:
                raise BadInput("\n".join(f"{path}: line {number}: {problem.path}: {problem.what}" for problem in flawed.problems)) from flawed


def _outcome(line: PairLine, job: str, path: Path, number: int) -> FeatureOutcome:
    feature = line.feature()
    members = line.members
    if "error" in members:
        return FeatureOutcome(outcome=OutcomeKind.FAILED, reason=str(members["error"]), subject=_subject(feature, job, {}))
    judged = members.get("subject")
    if not isinstance(judged, dict) or "outcome" not in members:
        raise BadInput(f"{path}: line {number}: is not scored; `mistudio-explain score {path} --out scores.jsonl` does that")
    fields = {name: members[name] for name in FeatureOutcome.model_fields if name in members and name not in _OF_THE_LINE}
    said = line.pair().explanation
    try:
        return FeatureOutcome.model_validate({**fields, "subject": _subject(feature, job, judged), "answer": Answer(pattern=said), "explanation": said})
    except ValidationError as error:
        told = "; ".join(f"$.{'.'.join(map(str, each['loc']))}: {misfit(each)}" for each in error.errors(include_url=False)[:3])
        raise BadInput(f"{path}: line {number}: {told}; it was scored by another version: score it again") from error


def _subject(feature: FeatureFound, job: str, judged: dict[str, Any]) -> Subject:
    """What the outcome says of its feature; tier and category are what scoring made of it."""
    subject = Subject.of(feature.model_copy(update={"request": JobRequest(explain_job_id=job)}), None)
    return Subject.model_validate({**subject.model_dump(), **{name: judged[name] for name in ("tier", "category", "category_source") if name in judged}})
