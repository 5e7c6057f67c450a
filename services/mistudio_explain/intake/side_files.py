"""Reads pattern_categories.json and quality_metrics.json, which say more of a find job's features than its own file.

Precedence: a side file's value, then the feature's own, then what the context stage infers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from mistudio_explain.intake.document import Document, Flawed, JsonPath, Problem, Span, named
from mistudio_explain.intake.feature import overridden

SIDE_FILES = ("pattern_categories", "quality_metrics")
_RESULTS = "_results"
_OF_CLASSIFICATION = frozenset({"secondary_categories", "semantic_tags", "behavioral_indicators", "quality_tier", "complexity_score", "confidence_score"})


@dataclass(frozen=True, slots=True)
class SideFile:
    """A side file that was read."""

    path: Path
    fields: Mapping[str, Mapping[str, Any]]
    """FeatureFound's fields by feature key."""

    def unknown(self, known: frozenset[str], features: Path) -> tuple[Problem, ...]:
        """One problem for each entry that is about no feature of the job."""
        return tuple(
            Problem(self.path, f"$.features[{key!r}]", f"{features} has no feature with this key; `feature_id`, or `source_id/feature_id`, was expected")
            for key in self.fields
            if key not in known
        )


def side_files_of(features: Path, find_job_id: str) -> tuple[SideFile, ...]:
    """Read the side files that lie beside a find job's file.

    Beside `<job>_results.json`, where many jobs share a folder, `<job>_pattern_categories.json` comes before the
    plain name. Raises Flawed for a file that does not follow its JSON Schema or is about another find job.
    """
    return tuple(_read(path, kind, find_job_id) for kind in SIDE_FILES if (path := _path(features, kind)) is not None)


def merged(side_files: tuple[SideFile, ...]) -> Mapping[str, Mapping[str, Any]]:
    """The fields of all side files together, by feature key."""
    together: dict[str, dict[str, Any]] = {}
    for side_file in side_files:
        for key, fields in side_file.fields.items():
            together[key] = overridden(together.get(key, {}), fields)
    return together


def _path(features: Path, kind: str) -> Path | None:
    of_job = [f"{features.stem.removesuffix(_RESULTS)}_{kind}.json"] if features.stem.endswith(_RESULTS) else []
    return next((path for name in (*of_job, f"{kind}.json") if (path := features.with_name(name)).is_file()), None)


def _read(path: Path, kind: str, find_job_id: str) -> SideFile:
    try:
        document = Document(path, path.read_bytes())
    except OSError as error:
        raise Flawed(Problem(path, "$", f"the file lies beside the features but cannot be read ({error.strerror}); allow it or move it away")) from error
    found = document.decode(Span(0, len(document.text)), ())
    fault = min(_schema(kind).iter_errors(found), key=lambda each: list(map(str, each.absolute_path)), default=None)
    if fault is not None:
        raise Flawed(document.problem(tuple(fault.absolute_path), _explained(fault)))
    if found.get("job_id", find_job_id) != find_job_id:
        raise Flawed(document.problem(("job_id",), f"{named(found['job_id'])}, where {find_job_id!r}, the job of the features beside it, was expected"))
    return SideFile(path, {key: _event_fields(entry) for key, entry in found["features"].items()})


def _event_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in entry.items() if name not in _OF_CLASSIFICATION}
    classification = {name: value for name, value in entry.items() if name in _OF_CLASSIFICATION}
    return {**fields, "classification": classification} if classification else fields


def _explained(error: ValidationError) -> str:
    path: JsonPath = tuple(error.absolute_path)
    if error.validator == "type":
        return f"{named(error.instance)}, where {error.validator_value} was expected"
    return f"{error.message if path or error.validator == 'required' else named(error.instance)} ({error.validator}: {error.validator_value})"[:400]


@cache
def _schema(kind: str) -> Draft202012Validator:
    text = (files("mistudio_explain") / "schemas" / "files" / f"{kind}.schema.json").read_bytes()
    return Draft202012Validator(orjson.loads(text))
