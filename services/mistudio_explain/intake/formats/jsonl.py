"""JSON Lines with one feature each: `model, layer, feature_id, activations[{text, max_activation, tokens, values, ...}]`.

The form of `examples/features`; its README says what a line holds.
"""

from mistudio_explain.events.feature import Activation, ActiveToken, Logit
from mistudio_explain.intake.document import Document, Flawed, JsonPath
from mistudio_explain.intake.formats.given import Given, Shape, checked


class _Activation(Shape):
    text: str
    max_activation: float | None = None
    tokens: list[str] | None = None
    values: list[float] | None = None
    active_tokens: list[list[str | float]] | None = None
    peak: str | None = None


class _Line(Shape):
    feature_id: int | str
    activations: list[_Activation]
    model: str | None = None
    layer: int | str | None = None
    top_logits: list[str | list[str | float]] | None = None
    explanation: str | None = None


def feature(document: Document, path: JsonPath, value: object) -> Given:
    """Read a line; raises Flawed."""
    line = checked(_Line, value, document, path)
    return Given(
        document=document,
        path=path,
        target_model=line.model or None,
        source_id=None if line.layer is None else str(line.layer),
        feature_id=str(line.feature_id),
        activations=_by_strength([_activation(document, (*path, "activations", index), each) for index, each in enumerate(line.activations)]),
        logits=_logits(line.top_logits or []),
        explanations=(line.explanation,) if line.explanation else (),
    )


def _activation(document: Document, path: JsonPath, found: _Activation) -> Activation:
    if found.tokens is not None and found.values is not None and len(found.tokens) != len(found.values):
        raise Flawed(document.problem((*path, "values"), f"{len(found.values)} values, where {len(found.tokens)} were expected: one for each of tokens"))
    return Activation(
        text=found.text,
        activation_strength=found.max_activation,
        tokens=found.tokens,
        token_activations=found.values if found.tokens is not None else None,
        active_tokens=_active(document, path, found.active_tokens) if found.active_tokens else None,
        peak=found.peak,
    )


def _active(document: Document, path: JsonPath, found: list[list[str | float]]) -> list[ActiveToken]:
    read = []
    for index, pair in enumerate(found):
        match pair:
            case [str(token), int() | float() as strength]:
                read.append(ActiveToken(token=token, strength=strength))
            case _:
                raise Flawed(document.problem((*path, "active_tokens", index), "no pair of a token and its strength, as was expected"))
    return read


def _logits(found: list[str | list[str | float]]) -> tuple[Logit, ...]:
    """Tokens with their values; of tokens without values a place in a list is known, which is no figure."""
    return tuple(
        Logit(token=token, value=value)
        for token, value in (pair for pair in found if isinstance(pair, list) and len(pair) == 2)
        if isinstance(token, str) and isinstance(value, int | float)
    )


def _by_strength(activations: list[Activation]) -> tuple[Activation, ...]:
    """Strongest first where each text has a strength, else in the line's order."""
    strengths = [activation.activation_strength for activation in activations]
    if any(strength is None for strength in strengths):
        return tuple(activations)
    return tuple(sorted(activations, key=lambda activation: -(activation.activation_strength or 0.0)))
