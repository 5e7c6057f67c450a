"""What a file says of its find job as a whole, in both of Find's shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mistudio_explain.events.model import Id
from mistudio_explain.intake.document import Document, Flawed, JsonPath, named

Shape = Literal["specification", "find"]
"""`specification`: feature_analysis.json as specified; `find`: what miStudioFind writes to results/find/<job>_results.json."""

FEATURES_OF: Mapping[Shape, str] = {"specification": "features", "find": "results"}
"""The member that lists the features."""

_ID = TypeAdapter(Id)
LONGEST_NAME = 400  # characters of a model's or training job's name
_FINISHED = "completed"


@dataclass(frozen=True, slots=True)
class Header:
    """The find job; what the file does not say is None."""

    find_job_id: str
    target_model: str | None
    source_training_job: str | None
    processing_time: str | None
    total: int | None
    unfinished: str | None
    """The status of a job that had not completed when the file was written."""


@dataclass(frozen=True, slots=True)
class _Members:
    """Looks values up by path, so that a wrong one can be named."""

    document: Document
    root: Mapping[str, Any]

    def first(self, *paths: JsonPath) -> tuple[JsonPath, Any]:
        """The first of the places that has a value, and the value; the first place and None when none has."""
        for path in paths:
            here: Any = self.root
            for index, part in enumerate(path):
                if here is not None and not isinstance(here, dict):
                    raise self.wrong(path[:index], here, "an object")
                here = here.get(part) if here is not None else None
            if here is not None:
                return path, here
        return paths[0], None

    def text(self, *paths: JsonPath) -> str | None:
        path, value = self.first(*paths)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
            raise self.wrong(path, value, f"a text of 1 to {LONGEST_NAME} characters")
        return value

    def wrong(self, path: JsonPath, value: object, expected: str) -> Flawed:
        found = "nothing" if value is None else named(value)
        return Flawed(self.document.problem(path, f"{found}, where {expected} was expected"))


def shape_of(document: Document, members: frozenset[str]) -> Shape:
    """Tell the two shapes apart by the member that lists the features; raises Flawed when there is none, or both."""
    shapes = [shape for shape, name in FEATURES_OF.items() if name in members]
    if len(shapes) == 1:
        return shapes[0]
    expected = "`features` (the specification's feature_analysis.json) or `results` (miStudioFind's <job>_results.json)"
    if shapes:
        raise Flawed(document.problem((), f"the object has both lists of features; one of {expected} was expected"))
    there = ", ".join(f"`{name}`" for name in sorted(members)[:8]) or "nothing"
    raise Flawed(document.problem((), f"the object has {there}, but no list of features; {expected} was expected"))


def header_of(document: Document, shape: Shape, root: Mapping[str, Any]) -> Header:
    """Read the job's own members; `root` has all but the features. Raises Flawed."""
    members = _Members(document, root)
    if shape == "specification":
        job = "job_metadata"
        return Header(
            find_job_id=_job_id(members, (job, "job_id")),
            target_model=members.text((job, "model_name")),
            source_training_job=members.text((job, "source_training_job")),
            processing_time=_duration(members, (job, "processing_time")),
            total=_total(members, (job, "total_features")),
            unfinished=None,
        )
    status = members.text(("status",))
    return Header(
        find_job_id=_job_id(members, ("job_id",)),
        target_model=members.text(("metadata", "model_name"), ("model_name",)),
        source_training_job=members.text(("source_job_id",), ("metadata", "source_job_id")),
        processing_time=_duration(members, ("processing_time",)),
        total=_total(members, ("metadata", "total_features")),
        unfinished=status if status not in (None, _FINISHED) else None,
    )


def _job_id(members: _Members, path: JsonPath) -> str:
    _, value = members.first(path)
    try:
        return _ID.validate_python(value, strict=True)
    except ValidationError as error:
        raise members.wrong(path, value, "a job id of 1 to 200 characters out of A-Z a-z 0-9 . _ : / @ - and blank") from error


def _duration(members: _Members, path: JsonPath) -> str | None:
    """How long Find took: its own words, or its number of seconds."""
    _, value = members.first(path)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return f"{value:g} seconds"
    if value is not None and not isinstance(value, str):
        raise members.wrong(path, value, "a text or a number of seconds")
    return value


def _total(members: _Members, path: JsonPath) -> int | None:
    _, value = members.first(path)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise members.wrong(path, value, "the number of features")
    return value
