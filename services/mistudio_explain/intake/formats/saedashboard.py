"""SAEDashboard's data: the batch files that its runner writes for Neuronpedia, or one feature of them.

Shape: jbloomAus/SAEDashboard, sae_dashboard/neuronpedia/neuronpedia_dashboard.py (NeuronpediaDashboardBatch and its parts).
"""

from collections.abc import Iterator

from pydantic import Field

from mistudio_explain.events.feature import ActivationStatistics
from mistudio_explain.intake.document import Document, Flawed, JsonPath, Span
from mistudio_explain.intake.formats.given import Given, Shape, activation_of, checked, logits_of, same_length, strongest_first
from mistudio_explain.intake.outline import outline

_FEATURES = "features"
_TOP = -1  # what SAEDashboard writes as the least value of the bin that holds the strongest texts


class _Activation(Shape):
    tokens: list[str]
    values: list[float]
    bin_min: float | None = None
    bin_max: float | None = None
    bin_contains: float | None = None


class _Feature(Shape):
    feature_index: int | str
    activations: list[_Activation]
    pos_str: list[str] = Field(default=[])
    pos_values: list[float] = Field(default=[])
    neg_str: list[str] = Field(default=[])
    neg_values: list[float] = Field(default=[])
    frac_nonzero: float | None = None


class _Batch(Shape):
    model_id: str | None = None
    layer: int | str | None = None
    sae_set: str | None = None
    sae_id_suffix: str | None = None

    @property
    def source(self) -> str | None:
        """The SAE's name as SAEDashboard's own export to Neuronpedia makes it: `0-res-jb`, with a suffix `0-res-jb__l0-50`."""
        named = "-".join(str(part) for part in (self.layer, self.sae_set) if part not in (None, ""))
        return (f"{named}__{self.sae_id_suffix}" if self.sae_id_suffix else named) or None


def features(document: Document) -> Iterator[Given | Flawed]:
    """The features of a batch file, or the one that the file is; what is wrong with one of them comes in its place.

    Raises Flawed when the file as a whole cannot be used.
    """
    found = outline(document, frozenset({_FEATURES}))
    if "feature_data_dict" in found.members:
        what = "SAEDashboard's page data name tokens by number only; its batch files (NeuronpediaRunner, batch-0.json) have their texts"
        raise Flawed(document.problem(("feature_data_dict",), what))
    if found.breakage is not None:
        raise Flawed(found.breakage)
    if "feature_index" in found.members:
        whole = document.decode(Span(0, len(document.text)), ())
        yield _given(document, (), whole, _Batch())
        return
    if _FEATURES not in found.lists:
        raise Flawed(document.problem((_FEATURES,), "no list; a list of features was expected"))
    batch = checked(_Batch, {name: document.decode(span, (name,)) for name, span in found.members.items()}, document, ())
    elements = found.lists[_FEATURES]
    for index in range(len(elements)):
        path: JsonPath = (_FEATURES, index)
        try:
            yield _given(document, path, document.decode(elements.span(index), path), batch)
        except Flawed as flawed:
            yield flawed


def _given(document: Document, path: JsonPath, value: object, batch: _Batch) -> Given:
    feature = checked(_Feature, value, document, path)
    for index, activation in enumerate(feature.activations):
        same_length(document, (*path, "activations", index), {"tokens": activation.tokens, "values": activation.values})
    same_length(document, path, {"pos_str": feature.pos_str, "pos_values": feature.pos_values})
    same_length(document, path, {"neg_str": feature.neg_str, "neg_values": feature.neg_values})
    return Given(
        document=document,
        path=path,
        target_model=batch.model_id or None,
        source_id=batch.source,
        feature_id=str(feature.feature_index),
        activations=strongest_first(
            activation_of(each.tokens, each.values, interval(each.bin_min, each.bin_max, each.bin_contains)) for each in feature.activations
        ),
        statistics=statistics(feature.frac_nonzero, None),
        logits=logits_of((feature.pos_str, feature.pos_values), (feature.neg_str, feature.neg_values)),
    )


def interval(least: float | None, greatest: float | None, share: float | None) -> str | None:
    """Which bin of the feature's activations a text was drawn from, in words; None for the strongest texts, which are in no bin."""
    if least is None or greatest is None or least == _TOP:
        return None
    holds = "" if share is None or share < 0 else f", which holds {share:.3%} of the activations"
    return f"drawn from the interval {least:g} to {greatest:g}{holds}"


def statistics(density: float | None, greatest: float | None) -> ActivationStatistics | None:
    """The density as a frequency, and the greatest activation; 0, which both projects write where nothing was counted, is no figure."""
    frequency = density if density is not None and 0 < density <= 1 else None
    most = greatest if greatest is not None and greatest > 0 else None
    return None if frequency is None and most is None else ActivationStatistics(frequency=frequency, max=most)
