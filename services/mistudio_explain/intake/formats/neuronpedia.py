"""Neuronpedia's data: the batch files of its export, and features as its API gives them.

Shapes: hijohnnylin/neuronpedia, utils/neuronpedia-utils/neuronpedia_utils/db_models (Feature, Activation, Explanation) and export-data.py for the
batch files; apps/webapp/lib/db/neuron.ts (getNeuronOptimized) for the API's /api/feature/{modelId}/{layer}/{index}.
"""

from collections.abc import Iterable, Iterator

from pydantic import Field

from mistudio_explain.events.feature import Activation
from mistudio_explain.intake.document import Document, Flawed, JsonPath, Span
from mistudio_explain.intake.formats.given import Given, Shape, activation_of, checked, logits_of, same_length, strongest_first
from mistudio_explain.intake.formats.lines import Lines
from mistudio_explain.intake.formats.saedashboard import interval, statistics
from mistudio_explain.intake.formats.said import Explained


class _Named(Shape):
    modelId: str  # noqa: N815 - Neuronpedia's own names
    layer: str
    index: int | str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.modelId, self.layer, str(self.index)


class _Activation(Shape):
    tokens: list[str]
    values: list[float]
    binMin: float | None = None  # noqa: N815
    binMax: float | None = None  # noqa: N815
    binContains: float | None = None  # noqa: N815
    dataSource: str | None = None  # noqa: N815


class _Explanation(Shape):
    description: str


class _Feature(_Named):
    maxActApprox: float | None = None  # noqa: N815
    frac_nonzero: float | None = None
    pos_str: list[str] = Field(default=[])
    pos_values: list[float] = Field(default=[])
    neg_str: list[str] = Field(default=[])
    neg_values: list[float] = Field(default=[])


class _Whole(_Feature):
    """A feature with its texts, as the API gives it."""

    activations: list[_Activation]
    explanations: list[_Explanation] | None = None


class _ActivationLine(_Named, _Activation):
    """A line of activations/batch-N.jsonl."""


class _ExplanationLine(_Named, _Explanation):
    """A line of explanations/batch-N.jsonl."""


def feature(document: Document, path: JsonPath, value: object) -> Given:
    """Read a feature as the API gives it; raises Flawed."""
    whole = checked(_Whole, value, document, path)
    texts = [_activation(document, (*path, "activations", index), each) for index, each in enumerate(whole.activations)]
    return _given(document, path, whole, texts, tuple(each.description for each in whole.explanations or ()))


def explained(document: Document, path: JsonPath, value: object) -> Explained:
    """Read a record of explanations/batch-N.jsonl, or of the API's list of explanations; raises Flawed."""
    line = checked(_ExplanationLine, value, document, path)
    return Explained(line.layer, str(line.index), line.description)


def joined(features: Iterable[Document], activations: Iterable[Document], explanations: Iterable[Document], store: Lines) -> Iterator[Given | Flawed]:
    """The features of an export: the lines of its three kinds of files, put together by model, layer and index.

    A feature's lines may stand anywhere: the files of activations are cut by numbers, those of features by the order of their texts. So
    the lines wait in `store`, and only their places are kept in memory. Features come in the order of their numbers; those without
    a line of activations have no text. What is wrong with one comes in its place.
    """
    flaws: list[Flawed] = []
    about = _placed(features, store, flaws)
    texts = _placed(activations, store, flaws)
    said = _placed(explanations, store, flaws)
    yield from flaws
    for key in sorted({**about, **texts}, key=_by_number):
        try:
            yield _put_together(about.get(key, []), texts.get(key, []), said.get(key, []), store)
        except Flawed as flawed:
            yield flawed


def _placed(documents: Iterable[Document], store: Lines, flaws: list[Flawed]) -> dict[tuple[str, str, str], list[int]]:
    """Where each feature's lines wait; lines that name no feature are told in `flaws`."""
    places: dict[tuple[str, str, str], list[int]] = {}
    for document in documents:
        try:
            named = checked(_Named, _decoded(document), document, ())
        except Flawed as flawed:
            flaws.append(flawed)
            continue
        places.setdefault(named.key, []).append(store.keep(document))
    return places


def _put_together(about: list[int], texts: list[int], said: list[int], store: Lines) -> Given:
    first = store.back((about or texts)[0])
    described = checked(_Feature, _decoded(first), first, ()) if about else _Feature(**checked(_Named, _decoded(first), first, ()).model_dump())
    activations = []
    for place in texts:
        line = store.back(place)
        activations.append(_activation(line, (), checked(_ActivationLine, _decoded(line), line, ())))
    explanations = []
    for place in said:
        line = store.back(place)
        explanations.append(checked(_ExplanationLine, _decoded(line), line, ()).description)
    return _given(first, (), described, activations, tuple(explanations))


def _given(document: Document, path: JsonPath, feature: _Feature, texts: Iterable[Activation | None], explanations: tuple[str, ...]) -> Given:
    same_length(document, path, {"pos_str": feature.pos_str, "pos_values": feature.pos_values})
    same_length(document, path, {"neg_str": feature.neg_str, "neg_values": feature.neg_values})
    return Given(
        document=document,
        path=path,
        target_model=feature.modelId,
        source_id=feature.layer,
        feature_id=str(feature.index),
        activations=strongest_first(texts),
        statistics=statistics(feature.frac_nonzero, feature.maxActApprox),
        logits=logits_of((feature.pos_str, feature.pos_values), (feature.neg_str, feature.neg_values)),
        explanations=explanations,
    )


def _activation(document: Document, path: JsonPath, found: _Activation) -> Activation | None:
    same_length(document, path, {"tokens": found.tokens, "values": found.values})
    drawn = interval(found.binMin, found.binMax, found.binContains)
    context = "; ".join(part for part in (found.dataSource, drawn) if part)
    return activation_of(found.tokens, found.values, context or None)


def _decoded(document: Document) -> object:
    return document.decode(Span(0, len(document.text)), ())


def _by_number(key: tuple[str, str, str]) -> tuple[str, str, int, str]:
    model, layer, index = key
    return model, layer, int(index) if index.isascii() and index.isdigit() else -1, index
