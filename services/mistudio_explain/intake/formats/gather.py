"""Makes a find job of the features that another project's file gives."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from mistudio_explain.errors import BadInput, option
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import Category
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import plain_name
from mistudio_explain.intake.document import Flawed, Problem, is_encodable
from mistudio_explain.intake.feature import REQUEST_BYTES, Origin
from mistudio_explain.intake.formats.given import Given
from mistudio_explain.intake.formats.said import Explained
from mistudio_explain.intake.header import LONGEST_NAME
from mistudio_explain.intake.rank import Distribution, Rank, rank
from mistudio_explain.intake.stage import LISTED_PROBLEMS, CategorySources, FindJob, Foreign, message_of

_ONE_SOURCE = frozenset({"neuronpedia", "saedashboard"})  # a file of these is of one model and one SAE
_LONGEST_NAME_OF_A_JOB = 180  # of the 200 characters of an id, so that the explain job's name has room


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person who reads a file says of it."""

    target_model: str | None
    find_job_id: str | None
    event_bytes: int
    keep_going: bool
    weights: Mapping[Category, float]


@dataclass(slots=True)
class _Gathered:
    """What was read so far."""

    kept: "_Kept"
    ranks: list[tuple[Rank, int]] = field(default_factory=list)
    coherences: list[float | None] = field(default_factory=list)
    place_of: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)
    read: int = 0
    silent: int = 0
    others: int = 0
    shortened: int = 0
    dropped: int = 0
    computed: int = 0


class _Kept:
    """Encoded features in a temporary file that is gone with the process."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="mistudio-explain-features-")  # noqa: SIM115 - it lives as long as this does
        self._spans: list[tuple[int, int]] = []
        self._end = 0

    def keep(self, feature: bytes) -> int:
        self._file.seek(self._end)
        self._file.write(feature)
        self._spans.append((self._end, len(feature)))
        self._end += len(feature)
        return len(self._spans) - 1

    def back(self, number: int, request: JobRequest | None) -> FeatureFound:
        start, length = self._spans[number]
        self._file.seek(start)
        return decode(FeatureFound, self._file.read(length)).model_copy(update={"request": request})


def gather(path: Path, shape: Foreign, given: Iterable[Given | Flawed], asked: Asked, *, note: str | None, said: list[Explained] | None = None) -> FindJob:
    """Check, complete and rank the features; they wait in a temporary file until they are published.

    The features of one find job belong to one target model; where the file names several, those of `asked.target_model` are taken.
    What the source says of those that are taken goes to `said`, where that is given. The job is called `asked.find_job_id`, else
    after the model and source, and the file. Raises BadInput, as reading miStudioFind's files does.
    """
    gathered = _Gathered(_Kept())
    origin: Origin | None = None
    for one in given:
        if len(gathered.problems) >= LISTED_PROBLEMS:
            break
        gathered.read += 1
        try:
            if isinstance(one, Flawed):
                raise one
            if not _is_wanted(one, asked, gathered):
                continue
            origin = origin or Origin(asked.find_job_id or _job_name(path, shape, one), _model(one, asked), None)
            if _take(one, origin, asked, gathered) and said is not None:
                said.extend(Explained(one.source_id, one.feature_id, text) for text in one.explanations)
        except Flawed as flawed:
            gathered.problems.extend(flawed.problems)
    problems = tuple(gathered.problems[:LISTED_PROBLEMS])
    if len(gathered.models) > 1 and asked.target_model is None:
        counted = ", ".join(f"{model!r} ({count})" for model, count in gathered.models.items())
        raise BadInput(f"{path}: has features of several models: {counted}; a find job has one: choose it with {option('--target-model')}")
    if problems and not asked.keep_going:
        raise BadInput(message_of(problems, keep_going_helps=True))
    if origin is None or not gathered.ranks:
        raise BadInput(message_of(problems) + "; no feature is left" if problems else f"{path}: {_nothing(gathered, asked)}")
    order = [number for _, number in sorted(gathered.ranks)]
    kept = gathered.kept
    return FindJob(
        path=path,
        shape=shape,
        find_job_id=origin.find_job_id,
        target_model=origin.target_model,
        source_training_job=None,
        processing_time=None,
        total=len(order),
        distribution=Distribution.of(gathered.coherences),
        side_files=(),
        category_sources=CategorySources(0, 0, len(order)),
        problems=problems,
        left_out=gathered.read - len(order) - gathered.others,
        stored=lambda request: _stored(kept, order, request),
        notes=tuple(_notes(note, gathered)),
    )


def _stored(kept: _Kept, order: list[int], request: JobRequest | None) -> Iterator[FeatureFound]:
    return (kept.back(number, request) for number in order)


def _is_wanted(one: Given, asked: Asked, gathered: _Gathered) -> bool:
    """Count the feature's model; a feature of another one than was asked for is not the job's."""
    if one.target_model is not None:
        gathered.models[one.target_model] = gathered.models.get(one.target_model, 0) + 1
        if asked.target_model not in (None, one.target_model):
            gathered.others += 1
            return False
    return True


def _model(one: Given, asked: Asked) -> str:
    model = one.target_model or asked.target_model
    if model is None:
        raise BadInput(f"{one.document.file}: the file does not name the target model; say which one it is with {option('--target-model')}")
    if not (0 < len(model) <= LONGEST_NAME and is_encodable(model)):
        raise BadInput(f"{one.document.file}: the target model {model[:60]!r}: a name of 1 to {LONGEST_NAME} characters was expected")
    return model


def _take(one: Given, origin: Origin, asked: Asked, gathered: _Gathered) -> bool:
    """Keep a feature that has texts, and say whether it was kept; raises Flawed when it cannot be used or was there before."""
    feature = one.feature(origin)
    here = str(one.document.problem(one.path, "")).removesuffix(": ")
    first = gathered.place_of.setdefault(feature.feature_key, here)
    if first != here:
        raise Flawed(one.document.problem(one.path, f"feature {feature.feature_key!r} stands twice, first at {first}; once was expected"))
    if not feature.top_activations:
        gathered.silent += 1
        return False
    text = encode(feature)
    while len(text) > asked.event_bytes - REQUEST_BYTES and len(feature.top_activations) > 1:
        kept = feature.top_activations[: max(1, int(len(feature.top_activations) * (asked.event_bytes - REQUEST_BYTES) / len(text)))]
        kept = kept if len(kept) < len(feature.top_activations) else kept[:-1]
        gathered.dropped += len(feature.top_activations) - len(kept)
        feature = feature.model_copy(update={"top_activations": kept})
        text = encode(feature)
    if len(text) > asked.event_bytes - REQUEST_BYTES:
        what = f"the feature's strongest text alone makes an event of {len(text)} bytes; at most {asked.event_bytes - REQUEST_BYTES} fit ([limits] event_bytes)"
        raise Flawed(one.document.problem(one.path, what))
    gathered.shortened += len(feature.top_activations) < len(one.activations)
    gathered.ranks.append((rank(feature, asked.weights), gathered.kept.keep(text)))
    gathered.coherences.append(feature.stated_coherence)
    gathered.computed += bool(feature.computed)
    return True


def _job_name(path: Path, shape: Foreign, one: Given) -> str:
    """Name the find job, so that the same input is the same job: after the file, and before it the model and source where all features share them."""
    stem = path.resolve().name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
    shared = [one.target_model, one.source_id] if shape in _ONE_SOURCE else []
    named = "_".join(part for part in (*shared, None if path.is_dir() and any(shared) else stem) if part)
    return f"find_{plain_name(named)[:_LONGEST_NAME_OF_A_JOB]}"


def _nothing(gathered: _Gathered, asked: Asked) -> str:
    if gathered.others:
        return f"has no feature of {option('--target-model')} {asked.target_model!r}; it has those of {', '.join(map(repr, list(gathered.models)[:8]))}"
    if gathered.silent:
        return f"none of its {gathered.silent} features fires in any text, so there is nothing to explain"
    return "has no feature"


def _notes(note: str | None, gathered: _Gathered) -> Iterator[str]:
    if note is not None:
        yield note
    if gathered.computed:
        yield (
            f"{gathered.computed} features had no coherence or keywords: these were computed from the texts and are marked so; "
            "the tier of a computed coherence is unknown, and such features are explained"
        )
    if gathered.silent:
        yield f"{gathered.silent} features fire in no text and are left out"
    if gathered.others:
        yield f"{gathered.others} features of other models are not part of the job"
    if gathered.shortened:
        yield f"{gathered.shortened} features lost their weakest texts, {gathered.dropped} in all, to fit into an event ([limits] event_bytes)"
