"""Reads pairs of a feature and an explanation: one JSON object a line, its feature in either of miStudioFind's shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.model import Id
from mistudio_explain.intake.document import Document, Flawed, JsonPath, Span, named
from mistudio_explain.intake.feature import Origin, Reader
from mistudio_explain.intake.header import LONGEST_NAME

LINE_BYTES = 64 << 20
"""The longest line that is read."""
UNNAMED_MODEL = "unnamed"
"""Stands for the target model where a pair names none: no score depends on it."""

_ID = TypeAdapter(Id)


@dataclass(frozen=True, slots=True)
class Pair:
    """A feature and what is said of it."""

    feature: FeatureFound
    """Its find job is the pair's job."""
    explanation: str


@dataclass(frozen=True, slots=True)
class PairLine:
    """One line of a file of pairs, decoded but not checked."""

    document: Document
    members: Mapping[str, Any]

    @classmethod
    def of(cls, line: bytes, number: int, file: Path) -> "PairLine":
        """Decode line `number` (from 1) of a file; raises Flawed when it is no JSON object."""
        document = Document(file, line, first_line=number)
        if len(line) > LINE_BYTES:
            raise Flawed(document.problem((), f"the line has more than {LINE_BYTES} bytes; give its feature fewer texts, or shorter ones"))
        if not line.strip():
            raise Flawed(document.problem((), "an empty line, where an object with job, feature and explanation was expected"))
        members = document.decode(Span(0, len(line)), ())
        if not isinstance(members, dict):
            raise Flawed(document.problem((), f"{named(members)}, where an object with job, feature and explanation was expected"))
        return cls(document, members)

    def pair(self) -> Pair:
        """Read the line; raises Flawed with what is wrong with its job, else its feature, else its explanation."""
        return Pair(self.feature(), self._explanation())

    def feature(self) -> FeatureFound:
        """The feature, whatever the explanation is; raises Flawed, also for the job that it needs."""
        origin = Origin(self._job(), self._target_model(), None)
        found = self.members.get("feature")
        if found is None:
            raise self._wrong("feature", found, "an object with a feature")
        reader = Reader(self.document, origin, {}, event_bytes=16 * LINE_BYTES)
        return reader.feature_of(found, ("feature",), len(self.document.text))

    def _job(self) -> str:
        job = self.members.get("job")
        try:
            return _ID.validate_python(job, strict=True)
        except ValidationError as error:
            raise self._wrong("job", job, "the features' job: 1 to 200 characters out of A-Z a-z 0-9 . _ : / @ - and blank") from error

    def _explanation(self) -> str:
        explanation = self.members.get("explanation")
        if not isinstance(explanation, str):
            raise self._wrong("explanation", explanation, "a text")
        return explanation

    def _target_model(self) -> str:
        model = self.members.get("target_model")
        if model is None:
            return UNNAMED_MODEL
        if not isinstance(model, str) or not 0 < len(model) <= LONGEST_NAME:
            raise self._wrong("target_model", model, f"a text of 1 to {LONGEST_NAME} characters")
        return model

    def _wrong(self, name: str, value: object, expected: str) -> Flawed:
        path: JsonPath = (name,)
        return Flawed(self.document.problem(path, f"{'nothing' if value is None else named(value)}, where {expected} was expected"))
