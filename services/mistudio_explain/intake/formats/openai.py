"""OpenAI's neuron records: one neuron's strongest texts with an activation for each token.

Shape: openai/automated-interpretability, neuron_explainer/activations/activations.py (NeuronRecord); what is said of a neuron:
explanations/explanations.py (NeuronSimulationResults).
"""

import math

from mistudio_explain.events.feature import ActivationStatistics
from mistudio_explain.intake.document import Document, JsonPath
from mistudio_explain.intake.formats.given import Given, Shape, activation_of, checked, same_length, strongest_first
from mistudio_explain.intake.formats.said import Explained


class _NeuronId(Shape):
    layer_index: int
    neuron_index: int


class _ActivationRecord(Shape):
    tokens: list[str]
    activations: list[float]


class _NeuronRecord(Shape):
    neuron_id: _NeuronId
    most_positive_activation_records: list[_ActivationRecord]
    mean: float | None = None
    variance: float | None = None


class _ScoredExplanation(Shape):
    explanation: str


class _Results(Shape):
    neuron_id: _NeuronId
    scored_explanations: list[_ScoredExplanation]


def explained(document: Document, path: JsonPath, value: object) -> list[Explained]:
    """Read what is said of a neuron (NeuronSimulationResults); raises Flawed."""
    results = checked(_Results, value, document, path)
    neuron = results.neuron_id
    return [Explained(str(neuron.layer_index), str(neuron.neuron_index), each.explanation.strip()) for each in results.scored_explanations]


def feature(document: Document, path: JsonPath, value: object) -> Given:
    """Read a neuron record; raises Flawed.

    The texts are those on which the neuron is most active. The random samples are left aside: a neuron's activation is hardly ever
    exactly 0, so in them nothing tells firing from silence.
    """
    record = checked(_NeuronRecord, value, document, path)
    texts = record.most_positive_activation_records
    for index, text in enumerate(texts):
        same_length(document, (*path, "most_positive_activation_records", index), {"tokens": text.tokens, "activations": text.activations})
    activations = strongest_first(activation_of(text.tokens, text.activations) for text in texts)
    spread = record.variance
    return Given(
        document=document,
        path=path,
        target_model=None,
        source_id=str(record.neuron_id.layer_index),
        feature_id=str(record.neuron_id.neuron_index),
        activations=activations,
        statistics=ActivationStatistics(
            mean=record.mean,
            std=math.sqrt(spread) if spread is not None and spread >= 0 else None,
            max=activations[0].activation_strength if activations else None,
        ),
    )
