"""`pairs`: what other projects say of features, as lines that `score` takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mistudio_explain.cli.score import STDIO, target
from mistudio_explain.cli.show import console, plain, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.intake.formats.choice import read_said
from mistudio_explain.intake.formats.said import Said

_ENVELOPE = {"target_model", "find_job_id", "source_training_job", "request"}


def write_pairs(
    path: Path,
    form: str,
    *,
    features: Path | None,
    target_model: str | None,
    find_job: str | None,
    keep_going: bool,
    out: Path,
    config: Path | None,
    profile: str | None,
    as_json: bool,
) -> int:
    """Write a line for each explanation whose feature is there; 1 when something was left out."""
    settings = prepare(config=config, profile=profile, quiet=True)
    said = read_said(
        path, form, features=features, target_model=target_model, find_job_id=find_job, event_bytes=settings.limits.event_bytes, keep_going=keep_going
    )
    with target(out) as (file, settle):
        lines = 0
        for line in _lines(said):
            file.write(orjson.dumps(line) + b"\n")
            lines += 1
        if not lines:
            raise BadInput(f"{path}: no explanation belongs to any of the {said.job.total} features; {_unmatched(said)}")
        settle()
    _tell(said, lines, out, as_json=as_json)
    return 1 if said.job.problems or said.strangers else 0


def _lines(said: Said) -> Iterator[dict[str, Any]]:
    for feature in said.job.features():
        for explanation in said.explanations.get(feature.feature_key, ()):
            yield {"job": feature.find_job_id, "target_model": feature.target_model, "feature": as_found(feature), "explanation": explanation}


def as_found(feature: FeatureFound) -> dict[str, Any]:
    """A feature in the specification's shape, with what it has beyond it."""
    fields: dict[str, Any] = feature.model_dump(mode="json", exclude=_ENVELOPE, exclude_none=True)
    return {name: value for name, value in fields.items() if value != []}


def _unmatched(said: Said) -> str:
    there = ", ".join(said.strangers[:5])
    return f"there are explanations of {there}" if there else "there are no explanations"


def _tell(said: Said, lines: int, out: Path, *, as_json: bool) -> None:
    if as_json and out != STDIO:
        print_json(
            {
                "lines": lines,
                "job": said.job.find_job_id,
                "features": said.job.total,
                "without_explanation": said.silent,
                "strangers": len(said.strangers),
                "out": str(out),
            }
        )
        return
    err = console(stderr=True)
    for note in said.job.notes:
        err.print(plain(note))
    for problem in said.job.problems:
        err.print(plain(f"left out: {problem}"))
    err.print(plain(f"{lines} explanations of {said.job.find_job_id}; {said.silent} features have none{'' if out == STDIO else f'; {out}'}"))
    if said.strangers:
        err.print(plain(f"{len(said.strangers)} explanations are of features that are not there, such as {', '.join(said.strangers[:5])}"))
