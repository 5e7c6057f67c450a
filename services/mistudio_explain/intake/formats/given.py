"""A feature as another project's format gives it, and how its records are checked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mistudio_explain.events.feature import Activation, ActivationStatistics, FeatureFound, Logit
from mistudio_explain.intake.computed import completed
from mistudio_explain.intake.document import Document, Flawed, JsonPath
from mistudio_explain.intake.feature import Origin, misfit
from mistudio_explain.intake.formats.tokens import readable, readable_token

_MOST_MISFITS = 10  # of one record that are named; a list of wrong numbers would name each


class Shape(BaseModel):
    """One object of a format, as far as it is read: other members are let be, a member of a wrong type is an error."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


M = TypeVar("M", bound=Shape)


@dataclass(frozen=True, slots=True)
class Given:
    """One feature, and what of it came from where."""

    document: Document
    path: JsonPath
    """Where its record stands, for messages about it."""
    target_model: str | None
    """None where the format names none."""
    source_id: str | None
    feature_id: str
    activations: tuple[Activation, ...]
    """Those texts on which it fires, strongest first."""
    statistics: ActivationStatistics | None = None
    logits: tuple[Logit, ...] = ()
    explanations: tuple[str, ...] = ()
    """What the source says of the feature; `run` and `publish` do not look at it."""

    def feature(self, origin: Origin) -> FeatureFound:
        """The feature of a find job, with coherence and keywords computed; raises Flawed when its ids or values cannot be used."""
        try:
            feature = FeatureFound(
                target_model=origin.target_model,
                find_job_id=origin.find_job_id,
                feature_id=self.feature_id,
                source_id=self.source_id,
                top_activations=list(self.activations),
                activation_statistics=self.statistics,
                top_logits=list(self.logits) or None,
            )
        except ValidationError as error:
            raise flawed_by(error, self.document, self.path) from error
        return completed(feature)


def checked(kind: type[M], value: object, document: Document, path: JsonPath) -> M:
    """Read a value as one of a format's objects; raises Flawed with the first places that do not fit."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise flawed_by(error, document, path) from error


def flawed_by(error: ValidationError, document: Document, path: JsonPath) -> Flawed:
    """What is wrong with a record, with the places in the file."""
    return Flawed(*(document.problem((*path, *each["loc"]), misfit(each)) for each in error.errors(include_url=False)[:_MOST_MISFITS]))


def activation_of(tokens: Sequence[str], values: Sequence[float], context: str | None = None) -> Activation | None:
    """A text out of tokens and the activation on each, equally many; None when the feature does not fire in it or it has no text."""
    if not tokens or max(values) <= 0:
        return None
    read, strengths = readable(tokens, values)
    return Activation(text="".join(read), activation_strength=max(strengths), context=context, tokens=read, token_activations=strengths)


def strongest_first(activations: Iterable[Activation | None]) -> tuple[Activation, ...]:
    """The texts that there are, strongest first, each once: sources list a window again for each of its bins."""
    different: dict[tuple[str, float], Activation] = {}
    for activation in activations:
        if activation is not None:
            different.setdefault((activation.text, _strength(activation)), activation)
    return tuple(sorted(different.values(), key=_strength, reverse=True))


def logits_of(*lists: tuple[Sequence[str], Sequence[float]]) -> tuple[Logit, ...]:
    """Promoted and suppressed tokens with their values, in the source's order."""
    return tuple(Logit(token=readable_token(token), value=value) for tokens, values in lists for token, value in zip(tokens, values, strict=True))


def same_length(document: Document, path: JsonPath, members: dict[str, Sequence[Any]]) -> None:
    """Raise Flawed unless lists that belong together are equally long."""
    (first, one), *others = members.items()
    for name, other in others:
        if len(one) != len(other):
            what = f"{len(other)} values, where {len(one)} were expected: one for each of {first}"
            raise Flawed(document.problem((*path, name), what))


def _strength(activation: Activation) -> float:
    return activation.activation_strength or 0.0
