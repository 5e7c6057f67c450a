"""Reads one feature: a file of its own in either of miStudioFind's shapes, or one out of a file of any format that is read."""

from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path

from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.intake.document import Document, Flawed, Span
from mistudio_explain.intake.feature import Origin, Reader
from mistudio_explain.intake.formats.choice import read_input, sniffed
from mistudio_explain.intake.header import FEATURES_OF
from mistudio_explain.intake.outline import outline
from mistudio_explain.intake.pairs import UNNAMED_MODEL
from mistudio_explain.intake.stage import EVENT_BYTES, FindJob, bytes_of, read

UNNAMED_JOB = "unnamed"
"""Stands for the find job of a feature in a file of its own where none is named."""
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Single:
    """One feature, and the others of its file, which are what it can be told apart from."""

    feature: FeatureFound
    job: tuple[FeatureFound, ...]
    """All features of the file, in rank order, the one itself among them; empty when it has a file of its own."""


def read_single(path: Path, key: str | None, *, find_job_id: str | None = None, target_model: str | None = None, event_bytes: int = EVENT_BYTES) -> Single:
    """Read the feature `key`, or the only one; another one that is wrong does no harm.

    `find_job_id` names the find job of a feature in a file of its own, and must be that of any other file. Raises
    BadInput with file, JSON path and expectation, and when the file has several features and `key` is none of them.
    """
    if (foreign := sniffed(path)) is not None:
        return _of_job(read_input(path, foreign[0], target_model=target_model, find_job_id=find_job_id, event_bytes=event_bytes, keep_going=True), key)
    document = Document(path, bytes_of(path).removeprefix(BOM_UTF8))
    found = outline(document, frozenset(FEATURES_OF.values()))
    if not found.lists and {"feature_id", "top_activations"} & found.members.keys():
        feature = feature_in(document, find_job_id=find_job_id, target_model=target_model, event_bytes=event_bytes)
        return Single(_chosen((feature,), key, path, []), ())
    return _of_job(read(document, target_model=target_model, find_job_id=find_job_id, event_bytes=event_bytes, keep_going=True), key)


def _of_job(job: FindJob, key: str | None) -> Single:
    features = tuple(job.features())
    return Single(_chosen(features, key, job.path, [str(problem) for problem in job.problems]), features)


def feature_in(document: Document, *, find_job_id: str | None = None, target_model: str | None = None, event_bytes: int = EVENT_BYTES) -> FeatureFound:
    """Read a document that is one feature, in either of miStudioFind's shapes; raises BadInput with JSON path and expectation."""
    try:
        if (breakage := outline(document, frozenset()).breakage) is not None:
            raise Flawed(breakage)
        origin = Origin(find_job_id or UNNAMED_JOB, target_model or UNNAMED_MODEL, None)
        return Reader(document, origin, {}, event_bytes).read(Span(0, len(document.text)), ())
    except Flawed as flawed:
        raise BadInput("\n".join(map(str, flawed.problems))) from flawed


def _chosen(features: tuple[FeatureFound, ...], key: str | None, path: Path, problems: list[str]) -> FeatureFound:
    if key is None and len(features) == 1:
        return features[0]
    named = [feature for feature in features if key in (feature.feature_key, feature.feature_id)]
    if len(named) == 1:
        return named[0]
    there = ", ".join(feature.feature_key for feature in (named or features)[:_NAMED])
    if key is None:
        raise BadInput(f"{path}: has {len(features)} features, such as {there}; name one with --feature")
    if named:
        raise BadInput(f"{path}: {len(named)} features are called {key!r}; name one with its layer: {there}")
    unread = f"; {len(problems)} places of the file cannot be used: {problems[0]}" if problems else ""
    raise BadInput(f"{path}: there is no feature {key!r}; there are {len(features)}, such as {there}{unread}")
