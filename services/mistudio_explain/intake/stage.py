"""Intake: reads a find job's file, checks all of it, and gives its features in rank order.

The file's bytes stay in memory, once; its features are decoded one at a time, to be checked and ranked, and again
to be published. So memory is bounded by the file's size however large its features are as objects.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mistudio_explain.errors import BadInput, option
from mistudio_explain.events.explanation import Category
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.intake.document import Document, Flawed, Problem, Span, is_encodable
from mistudio_explain.intake.feature import Origin, Reader
from mistudio_explain.intake.header import FEATURES_OF, LONGEST_NAME, Header, Shape, header_of, shape_of
from mistudio_explain.intake.outline import DEEPEST, Elements, Outline, outline
from mistudio_explain.intake.rank import BUSINESS_WEIGHTS, Distribution, Rank, rank
from mistudio_explain.intake.side_files import SideFile, merged, side_files_of

EVENT_BYTES = 1 << 20
"""The largest input event that the topics take by default, bytes."""

Foreign = Literal["neuronpedia", "saedashboard", "openai", "jsonl"]
"""Formats that are not miStudioFind's; intake/formats has a module for each."""

_SHOWN_PROBLEMS = 10
LISTED_PROBLEMS = 1000  # a file of millions of wrong elements must not fill the memory with messages


@dataclass(frozen=True, slots=True)
class CategorySources:
    """Where the features' categories come from."""

    side_file: int
    feature: int
    inferred: int


@dataclass(frozen=True, slots=True)
class FindJob:
    """A find job that was read and checked."""

    path: Path
    shape: Shape | Foreign
    find_job_id: str
    target_model: str
    source_training_job: str | None
    processing_time: str | None
    """How long Find took, in its own words; a number of seconds became `1.1 seconds`."""
    total: int
    """Features that `features` gives."""
    distribution: Distribution
    side_files: tuple[Path, ...]
    category_sources: CategorySources
    problems: tuple[Problem, ...]
    """What is wrong with the file, the first 1000; empty unless it was read with `keep_going`."""
    left_out: int
    """Features of the file that `features` does not give."""
    stored: Callable[[JobRequest | None], Iterator[FeatureFound]] = field(repr=False)
    notes: tuple[str, ...] = ()
    """What a reader of the file should know: as what it was read, what was computed, what was left aside."""

    def features(self, request: JobRequest | None = None) -> Iterator[FeatureFound]:
        """The features in rank order, each with the request block; they are decoded as they are asked for."""
        return self.stored(request)


@dataclass(slots=True)
class _Checked:
    """What one pass over the features gives."""

    ranks: list[tuple[Rank, int, Span]] = field(default_factory=list)
    coherences: list[float | None] = field(default_factory=list)
    index_of: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    without_category: int = 0

    def leave_out(self, *problems: Problem) -> None:
        if len(self.problems) < LISTED_PROBLEMS:
            self.problems.extend(problems)


def read(
    source: Path | Document,
    *,
    target_model: str | None = None,
    find_job_id: str | None = None,
    event_bytes: int = EVENT_BYTES,
    keep_going: bool = False,
    weights: Mapping[Category, float] = BUSINESS_WEIGHTS,
) -> FindJob:
    """Read a find job from either of miStudioFind's files, or one whose bytes were read, with the side files that lie beside it.

    `target_model` is for files that name no model, as what Find writes; `find_job_id` is the job that the file must be
    of; `event_bytes` bounds one feature's event; `weights` order features that are equally coherent.

    Raises BadInput with file, JSON path and expectation when anything is wrong. With `keep_going`, features that
    cannot be used are left out and listed in `problems`; a file whose job cannot be told is an error even then.
    """
    document = source if isinstance(source, Document) else Document(source, bytes_of(source))
    try:
        return _read(document, target_model, find_job_id, event_bytes, keep_going, weights)
    except Flawed as flawed:
        raise BadInput(message_of(flawed.problems)) from flawed


def _read(
    document: Document, target_model: str | None, find_job_id: str | None, event_bytes: int, keep_going: bool, weights: Mapping[Category, float]
) -> FindJob:
    found = outline(document, frozenset(FEATURES_OF.values()))
    if found.breakage is not None and not (keep_going and found.lists):
        raise Flawed(found.breakage)
    shape = shape_of(document, frozenset((*found.members, *found.lists)))
    name = FEATURES_OF[shape]
    header = header_of(document, shape, _decoded(document, found))
    elements = _features_list(document, found, name)
    if find_job_id is not None and header.find_job_id != find_job_id:
        raise Flawed(document.problem((), f"the file is of the find job {header.find_job_id!r}; {find_job_id!r} was expected"))
    origin = Origin(header.find_job_id, _target_model(document, shape, header, target_model), header.source_training_job)

    side_files = side_files_of(document.file, header.find_job_id)
    overrides = merged(side_files)
    reader = Reader(document, origin, overrides, event_bytes)
    checked = _check(reader, elements, name, weights, None if keep_going else LISTED_PROBLEMS)
    problems = (*_job_problems(document, header, found, name, len(elements)), *checked.problems, *_strangers(side_files, checked, document.file))
    if problems and not keep_going:
        raise BadInput(message_of(problems, keep_going_helps=True))
    if not checked.ranks:
        raise BadInput(message_of(problems) + "; no feature is left")
    ranked = tuple((span, index) for _, index, span in sorted(checked.ranks, key=lambda each: each[:2]))
    given = sum("pattern_category" in fields for key, fields in overrides.items() if key in checked.index_of)
    return FindJob(
        path=document.file,
        shape=shape,
        find_job_id=origin.find_job_id,
        target_model=origin.target_model,
        source_training_job=origin.source_training_job,
        processing_time=header.processing_time,
        total=len(checked.ranks),
        distribution=Distribution.of(checked.coherences),
        side_files=tuple(side_file.path for side_file in side_files),
        category_sources=CategorySources(given, len(checked.ranks) - given - checked.without_category, checked.without_category),
        problems=problems,
        left_out=len(elements) - len(checked.ranks),
        stored=lambda request: (reader.read(span, (name, index), request) for span, index in ranked),
    )


def bytes_of(path: Path) -> bytes:
    """Read a file whole; raises BadInput when it cannot be read."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name the file in it, feature_analysis.json or <job>_results.json, or use --find-job with --data-root")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def _decoded(document: Document, found: Outline) -> Mapping[str, Any]:
    """Decode what is not a list of features; members that nobody asks for must be valid JSON too."""
    return {name: document.decode(span, (name,)) for name, span in found.members.items()}


def _features_list(document: Document, found: Outline, name: str) -> Elements:
    elements = found.lists.get(name)
    if elements is None:
        raise Flawed(document.problem((name,), "no list; a list of features was expected"))
    if not len(elements) and found.breakage is None:
        raise Flawed(document.problem((name,), "an empty list; at least one feature was expected"))
    return elements


def _target_model(document: Document, shape: Shape, header: Header, target_model: str | None) -> str:
    where = ("job_metadata", "model_name") if shape == "specification" else ("metadata", "model_name")
    if header.target_model is None:
        if target_model is None:
            raise Flawed(document.problem(where, f"the file does not name the target model; say which one it is with {option('--target-model')}"))
        if not (0 < len(target_model) <= LONGEST_NAME and is_encodable(target_model)):
            raise BadInput(f"{option('--target-model')} {target_model!r}: a name of 1 to {LONGEST_NAME} characters was expected")
        return target_model
    if target_model not in (None, header.target_model):
        given = f"{option('--target-model')} says {target_model!r}"
        raise Flawed(document.problem(where, f"the file's target model is {header.target_model!r}, but {given}; leave that out"))
    return header.target_model


def _check(reader: Reader, elements: Elements, name: str, weights: Mapping[Category, float], give_up_after: int | None) -> _Checked:
    """Read every feature once, to check and to rank it; none is kept. Stops early after so many problems."""
    checked = _Checked()
    for index in range(len(elements)):
        if give_up_after is not None and len(checked.problems) >= give_up_after:
            break
        path, span = (name, index), elements.span(index)
        if index in elements.too_deep:
            checked.leave_out(reader.document.problem(path, f"lists and objects are nested too deep; at most {DEEPEST} levels were expected"))
            continue
        try:
            feature = reader.read(span, path)
        except Flawed as flawed:
            checked.leave_out(*flawed.problems)
            continue
        first = checked.index_of.setdefault(feature.feature_key, index)
        if first != index:
            what = f"feature {feature.feature_key!r} stands twice, first at $.{name}[{first}]; once was expected"
            checked.leave_out(reader.document.problem(path, what))
            continue
        checked.ranks.append((rank(feature, weights), index, span))
        checked.coherences.append(feature.coherence_score)
        checked.without_category += feature.pattern_category is None
    return checked


def _job_problems(document: Document, header: Header, found: Outline, name: str, count: int) -> Iterator[Problem]:
    if found.breakage is not None:
        yield found.breakage
    if header.unfinished is not None:
        yield document.problem(("status",), f"the find job is {header.unfinished!r}, so features may be missing; 'completed' was expected")
    if header.total is not None and header.total != count:
        where = ("job_metadata", "total_features") if name == "features" else ("metadata", "total_features")
        yield document.problem(where, f"the number {header.total}, but $.{name} has {count}; the same number was expected")


def _strangers(side_files: tuple[SideFile, ...], checked: _Checked, features: Path) -> Sequence[Problem]:
    """Entries of side files that are about no feature; where features could not be read, nobody can tell."""
    if checked.problems:
        return ()
    known = frozenset(checked.index_of)
    return [problem for side_file in side_files for problem in side_file.unknown(known, features)]


def message_of(problems: Sequence[Problem], *, keep_going_helps: bool = False) -> str:
    """Say what is wrong with an input: the first problems, and how many more there are."""
    lines = [str(problem) for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        least = "at least " if len(problems) >= LISTED_PROBLEMS else ""
        lines.append(f"and {least}{len(problems) - _SHOWN_PROBLEMS} more")
    if keep_going_helps:
        lines.append(f"Nothing was published; {option('--keep-going')} leaves out what cannot be used and takes the rest.")
    return "\n".join(lines)
