"""Which format an input has, and reading it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import Category
from mistudio_explain.intake import stage
from mistudio_explain.intake.document import Document, Flawed, JsonPath, Span
from mistudio_explain.intake.formats import delphi, jsonl, neuronpedia, openai, saedashboard
from mistudio_explain.intake.formats.gather import Asked, gather
from mistudio_explain.intake.formats.given import Given
from mistudio_explain.intake.formats.lines import Lines, lines_of, opened, whole
from mistudio_explain.intake.formats.said import Explained, Said, matched
from mistudio_explain.intake.outline import outline
from mistudio_explain.intake.rank import BUSINESS_WEIGHTS
from mistudio_explain.intake.stage import EVENT_BYTES, FindJob, Foreign, message_of

Format = Literal["auto", "find", "neuronpedia", "saedashboard", "openai", "jsonl"]

_HEAD = 1 << 18  # bytes of a file that its format is told from
_LISTS = frozenset({"features", "results", "activations", "explanations", "most_positive_activation_records", "random_sample", "random_sample_by_quantile"})
_ROOT = "features"  # the name under which the elements of a bare list are outlined


def read_input(
    path: Path,
    format: str = "auto",  # noqa: A002 - the option's name
    *,
    target_model: str | None = None,
    find_job_id: str | None = None,
    event_bytes: int = EVENT_BYTES,
    keep_going: bool = False,
    weights: Mapping[Category, float] = BUSINESS_WEIGHTS,
) -> FindJob:
    """Read a file or folder of features in any of the formats; `auto` looks at it and says in the job's notes what it saw.

    The rest is as for `intake.stage.read`, which reads miStudioFind's own files; for the other formats `find_job_id` names the job.
    Raises BadInput with file, place and expectation.
    """
    if format not in get_args(Format):
        raise BadInput(f"--format {format!r}: one of {', '.join(get_args(Format))} was expected")
    seen = sniffed(path) if format == "auto" else None
    foreign = seen[0] if seen is not None else format
    if foreign in ("auto", "find"):
        return stage.read(path, target_model=target_model, find_job_id=find_job_id, event_bytes=event_bytes, keep_going=keep_going, weights=weights)
    asked = Asked(target_model, find_job_id, event_bytes, keep_going, weights)
    note = None if seen is None else f"read as {seen[0]}: {seen[1]}"
    try:
        return gather(path, _FOREIGN[foreign], features_of(path, _FOREIGN[foreign]), asked, note=note)
    except Flawed as flawed:
        raise BadInput(message_of(flawed.problems) + _looks_like(path, foreign)) from flawed
    except BadInput as refused:
        raise BadInput(f"{refused.args[0]}{_looks_like(path, foreign)}") from refused


def _looks_like(path: Path, named: str) -> str:
    """What to say beside a refusal when the input was named to be another format than it looks like."""
    seen = sniffed(path)
    return "" if seen is None or seen[0] == named else f"\nIt was read as {named}, but it looks like {seen[0]}: {seen[1]}"


_FOREIGN: Mapping[str, Foreign] = {name: name for name in get_args(Foreign)}


def sniffed(path: Path) -> tuple[Foreign, str] | None:
    """Tell a foreign format, and what it was told by; None for what is miStudioFind's or nobody's."""
    try:
        if path.is_dir():
            return _sniffed_folder(path)
        with opened(path) as file:
            head = file.read(_HEAD)
    except (BadInput, OSError):
        return None  # reading it will say why
    return _sniffed_members(path, head)


def _sniffed_folder(path: Path) -> tuple[Foreign, str] | None:
    if (path / "activations").is_dir():
        return "neuronpedia", "a folder with activations/"
    if any(path.glob("batch-*.json*")):
        return "saedashboard", "a folder with batch-*.json"
    first = next(path.glob("**/*.json*"), None)
    return None if first is None else sniffed(first)


def _sniffed_members(path: Path, head: bytes) -> tuple[Foreign, str] | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = outline(Document(path, text.removeprefix(b"[").lstrip()), _LISTS)
    names = {*found.members, *found.lists}
    if {"modelId", "layer", "index"} <= names:
        return "neuronpedia", "records with modelId, layer and index"
    if "feature_index" in names or "sae_set" in names or "feature_data_dict" in names:
        return "saedashboard", f"an object with {'feature_index' if 'feature_index' in names else 'sae_set'}"
    if "neuron_id" in names or "most_positive_activation_records" in names:
        return "openai", "records with neuron_id"
    if {"feature_id", "activations"} <= names:
        return "jsonl", "lines with feature_id and activations"
    return None


def read_said(
    path: Path,
    format: str = "auto",  # noqa: A002 - the option's name
    *,
    features: Path | None = None,
    target_model: str | None = None,
    find_job_id: str | None = None,
    event_bytes: int = EVENT_BYTES,
    keep_going: bool = False,
) -> Said:
    """Read what another project says of features: `format` is neuronpedia, jsonl, delphi or openai, told from the input by `auto`.

    The features stand in the same input (neuronpedia's folder or API answers, jsonl), or in `features`, which may have any format that
    `read_input` reads. Raises BadInput with file, place and expectation.
    """
    if format not in get_args(Speech):
        raise BadInput(f"--format {format!r}: one of {', '.join(get_args(Speech))} was expected")
    asked = Asked(target_model, find_job_id, event_bytes, keep_going, BUSINESS_WEIGHTS)
    form = _speech(path) if format == "auto" else format
    try:
        if features is None:
            if form not in ("neuronpedia", "jsonl"):
                raise BadInput(f"{path}: has explanations but no texts: name the features that they are of with --features")
            said: list[Explained] = []
            return matched(gather(path, _FOREIGN[form], features_of(path, _FOREIGN[form]), asked, note=None, said=said), said)
        job = read_input(features, target_model=target_model, find_job_id=find_job_id, event_bytes=event_bytes, keep_going=keep_going)
        return matched(job, _explained(path, form))
    except Flawed as flawed:
        raise BadInput(message_of(flawed.problems)) from flawed


Speech = Literal["auto", "neuronpedia", "jsonl", "delphi", "openai"]


def _speech(path: Path) -> str:
    """Whose explanations these are."""
    if path.is_dir() and delphi.files_of(path):
        return "delphi"
    seen = sniffed(path)
    if seen is None or seen[0] not in get_args(Speech):
        raise BadInput(f"{path}: nothing tells whose explanations these are; say it with --format: neuronpedia, jsonl, delphi or openai")
    return seen[0]


def _explained(path: Path, form: str) -> Iterator[Explained]:
    """The explanations of an input whose features are elsewhere."""
    match form:
        case "delphi":
            files = delphi.files_of(path) if path.is_dir() else [path]
            for document in map(whole, files):
                if (one := delphi.explained(document)) is not None:
                    yield one
        case "openai":
            for file in _files(path, "**/*.json*"):
                for document, span, place in _places(file):
                    yield from openai.explained(document, place, document.decode(span, place))
        case "neuronpedia":
            folder = path / "explanations" if (path / "explanations").is_dir() else path
            for file in _files(folder, "*.json*"):
                for document, span, place in _places(file):
                    yield neuronpedia.explained(document, place, document.decode(span, place))
        case _:
            for given in features_of(path, "jsonl"):
                if isinstance(given, Flawed):
                    raise given
                yield from (Explained(given.source_id, given.feature_id, text) for text in given.explanations)


def features_of(path: Path, foreign: Foreign) -> Iterator[Given | Flawed]:
    """The features of a file or folder in a foreign format; what is wrong with one comes in its place. Raises Flawed and BadInput."""
    match foreign:
        case "neuronpedia":
            yield from _neuronpedia(path)
        case "saedashboard":
            for file in _files(path, "batch-*.json*"):
                yield from saedashboard.features(whole(file))
        case "openai":
            for file in _files(path, "**/*.json*"):
                yield from _records(file, openai.feature)
        case "jsonl":
            for file in _files(path, "*.jsonl*"):
                yield from _records(file, jsonl.feature)


def _neuronpedia(path: Path) -> Iterator[Given | Flawed]:
    folder = path if path.is_dir() else path.parent.parent
    is_batch = path.is_file() and path.parent.name == "activations"
    if not (path.is_dir() or is_batch):
        yield from _records(path, neuronpedia.feature)
        return
    activations = [path] if is_batch else _batches(folder / "activations")
    if not activations:
        raise BadInput(f"{folder}: has no activations/batch-*.jsonl.gz, in which Neuronpedia's export has the texts")
    features, explanations = _batches(folder / "features"), _batches(folder / "explanations")
    yield from neuronpedia.joined(_lines(features), _lines(activations), _lines(explanations), Lines())


def _batches(folder: Path) -> list[Path]:
    return sorted((*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")), key=lambda path: (len(path.name), path.name))


def _lines(paths: list[Path]) -> Iterator[Document]:
    for path in paths:
        yield from lines_of(path)


def _files(path: Path, pattern: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in path.glob(pattern) if file.name.endswith((".json", ".json.gz", ".jsonl", ".jsonl.gz"))]
    if not found:
        raise BadInput(f"{path}: has no {pattern}")
    return sorted(found, key=lambda file: (len(str(file)), str(file)))


def _records(path: Path, read: Callable[[Document, JsonPath, object], Given]) -> Iterator[Given | Flawed]:
    for document, span, place in _places(path):
        try:
            yield read(document, place, document.decode(span, place))
        except Flawed as flawed:
            yield flawed


def _places(path: Path) -> Iterator[tuple[Document, Span, JsonPath]]:
    """Where a file's records stand: one object, a list of them, or one a line."""
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        for line in lines_of(path):
            yield line, Span(0, len(line.text)), ()
        return
    document = whole(path)
    text = document.text.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"["):
        yield document, Span(len(document.text) - len(text), len(document.text)), ()
        return
    listed = Document(path, b'{"%s":%s}' % (_ROOT.encode(), text))
    found = outline(listed, frozenset({_ROOT}))
    if found.breakage is not None:
        raise Flawed(found.breakage)
    for index in range(len(found.lists[_ROOT])):
        yield listed, found.lists[_ROOT].span(index), (index,)
