"""Turns one feature of a file into the event that is published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mistudio_explain.events.codec import encode
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.identity import feature_key
from mistudio_explain.intake.document import Document, Flawed, JsonPath, Problem, Span, named
from mistudio_explain.intake.naming import FEATURE, path_in_file, renamed

REQUEST_BYTES = 2048
"""Room that is left in an event for the request block: two ids, a tenant, a route and a prompt version."""

_LARGEST_GROWTH = 4
"""An encoded event has at most so many times the bytes of its JSON: a zero and its comma, 2 bytes, become 8."""

_NO_CATEGORY = "unknown"  # what Find writes when none of its detectors fires; the category is then inferred, as where there is none

_WANTED = {
    "missing": "a value",
    "string_type": "a text",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "string_pattern_mismatch": "1 to 200 characters out of A-Z a-z 0-9 . _ : / @ - and blank",
}
_ID = "a whole number, or a text of 1 to 200 characters out of A-Z a-z 0-9 . _ : / @ - and blank"


@dataclass(frozen=True, slots=True)
class Origin:
    """What all features of a find job share."""

    find_job_id: str
    target_model: str
    source_training_job: str | None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the features of one file."""

    document: Document
    origin: Origin
    overrides: Mapping[str, Mapping[str, Any]]
    """Fields from side files, by feature key; they count more than the feature's own."""
    event_bytes: int

    def read(self, span: Span, path: JsonPath, request: JobRequest | None = None) -> FeatureFound:
        """Read the feature that stands at `span`; raises Flawed with everything that is wrong with it."""
        return self.feature_of(self.document.decode(span, path), path, span.end - span.start, request)

    def feature_of(self, found: object, path: JsonPath, length: int, request: JobRequest | None = None) -> FeatureFound:
        """Read a feature that is decoded already, out of at most `length` bytes that stand at `path`; raises Flawed as `read` does."""
        if not isinstance(found, dict):
            raise Flawed(self.document.problem(path, f"{named(found)}, where an object with a feature was expected"))
        fields = renamed(found, FEATURE)
        for name in ("feature_id", "source_id"):
            if _is_integer(fields.get(name)):
                fields[name] = str(fields[name])
        if fields.get("pattern_category") == _NO_CATEGORY:
            del fields["pattern_category"]
        override = self.overrides.get(_key(fields))
        if override is not None:
            fields = overridden(fields, override)
        fields.update(
            target_model=self.origin.target_model,
            find_job_id=self.origin.find_job_id,
            source_training_job=self.origin.source_training_job,
            request=request,
        )
        order, problems = self._order(found, path)
        try:
            feature = FeatureFound.model_validate(fields, strict=True)
        except ValidationError as error:
            raise Flawed(*(self._problem(each, found, path) for each in error.errors(include_url=False)), *problems) from error
        problems += self._ranges(feature, found, path)
        if problems:
            raise Flawed(*problems)
        if (size := self._size(feature, length, override)) > self.event_bytes - REQUEST_BYTES:
            what = f"the feature makes an event of {size} bytes; at most {self.event_bytes - REQUEST_BYTES} fit ([limits] event_bytes): give it fewer texts"
            raise Flawed(self.document.problem(path, what))
        return _strongest_first(feature, order)

    def _problem(self, error: ErrorDetails, found: object, path: JsonPath) -> Problem:
        where = path_in_file(found, error["loc"])
        return self.document.problem((*path, *where), misfit(error, _ID if error["loc"] in (("feature_id",), ("source_id",)) else None))

    def _ranges(self, feature: FeatureFound, found: object, path: JsonPath) -> list[Problem]:
        scores: list[tuple[JsonPath, float | None]] = [(("coherence_score",), feature.coherence_score)]
        if feature.classification is not None:
            scores += [
                (("classification", "complexity_score"), feature.classification.complexity_score),
                (("classification", "confidence_score"), feature.classification.confidence_score),
            ]
        return [
            self.document.problem((*path, *path_in_file(found, where)), f"the number {score}, where a number from 0 to 1 was expected")
            for where, score in scores
            if score is not None and not 0 <= score <= 1
        ]

    def _order(self, found: Mapping[str, Any], path: JsonPath) -> tuple[list[int], list[Problem]]:
        """Find's ranking of the texts; empty unless every one of them has it."""
        activations = found.get("top_activations")
        if not isinstance(activations, list):
            return [], []
        places = [each.get("ranking") if isinstance(each, dict) else None for each in activations]
        ranking = [place for place in places if _is_integer(place) and place >= 0]
        problems = [
            self.document.problem((*path, "top_activations", index, "ranking"), f"{named(place)}, where a whole number that is not negative was expected")
            for index, place in enumerate(places)
            if place is not None and not (_is_integer(place) and place >= 0)
        ]
        return (ranking if len(ranking) == len(activations) else []), problems

    def _size(self, feature: FeatureFound, length: int, override: Mapping[str, Any] | None) -> int:
        """The event's size in bytes; a bound where that is enough to see that it fits."""
        bound = _LARGEST_GROWTH * (length + REQUEST_BYTES)
        if override is None and bound <= self.event_bytes - REQUEST_BYTES:
            return bound
        return len(encode(feature.model_copy(update={"request": None})))


def misfit(error: ErrorDetails, wanted: str | None = None) -> str:
    """Say what stands at a place and what was expected there: `wanted`, or what its type needs."""
    if error["type"] == "value_error":
        return str(error.get("ctx", {}).get("error", error["msg"]))
    got = "nothing" if error["type"] == "missing" else named(error["input"])
    return f"{got}, where {wanted or _WANTED.get(error['type'], error['msg'])} was expected"


def overridden(fields: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Put a side file's fields over a feature's own; of an object in both, only the members that the side file has."""
    merged = {**fields, **override}
    for name, value in override.items():
        own = fields.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            merged[name] = {**own, **value}
    return merged


def _key(fields: Mapping[str, Any]) -> str:
    """The feature's key as far as its ids are texts already; no side file has another one."""
    feature_id, source_id = fields.get("feature_id"), fields.get("source_id")
    if not isinstance(feature_id, str) or not isinstance(source_id, str | None):
        return ""
    return feature_key(feature_id, source_id)


def _strongest_first(feature: FeatureFound, order: Sequence[int]) -> FeatureFound:
    """Put the texts in Find's ranking; without one by strength, if each has it; else they stay as they are."""
    activations = feature.top_activations
    if order:
        places = sorted(range(len(activations)), key=order.__getitem__)
        ordered = [activations[place] for place in places]
    elif all(each.activation_strength is not None for each in activations):
        ordered = sorted(activations, key=_strength, reverse=True)
    else:
        return feature
    return feature if ordered == activations else feature.model_copy(update={"top_activations": ordered})


def _strength(activation: Activation) -> float:
    assert activation.activation_strength is not None
    return activation.activation_strength


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
