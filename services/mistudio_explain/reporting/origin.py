"""Where a job's explanations come from: models, prompts, versions, and how far each can be traced."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import FeatureOutcome, Generation
from mistudio_explain.reporting.evidence import texts
from mistudio_explain.reporting.spread import Quartiles, numbers, quartiles

DEMONSTRATION = "demonstration"
_SUBSTITUTE = "substitute:"


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one model on one endpoint did for the explanations that count; tokens and cost are None where no call told."""

    model: str
    digest: str | None
    endpoint: str
    provider: str
    explained: int
    cached: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    latency_median_s: float | None
    latency: Quartiles | None
    """Seconds of its calls; cached answers left out."""
    tokens_in_each: Quartiles | None
    tokens_out_each: Quartiles | None
    reaches: Mapping[str, int]
    """Its answers by where the endpoint is: machine, network, cloud or unknown."""


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """What was rendered from one version of a template."""

    template: str
    explained: int
    different: int
    """Prompts that differ from each other; 0 where none was recorded."""
    sha256: str | None
    """Hash of all hashes of these prompts, as hex digits in the order of the features; each feature's own is in the JSON file."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the explanations come from."""

    models: tuple[ModelFigures, ...]
    prompts: tuple[PromptFigures, ...]
    """Those that most features have first."""
    reaches: Mapping[str, int]
    """Answers by where their endpoint is: machine, network, cloud or unknown; those of a pass that did not win included."""
    substitutes: Mapping[str, int]
    """Models that answered in place of the one that routing would have asked first, and for how many features."""
    validators: Mapping[int, int]
    backgrounds: Mapping[tuple[int, int | None], int]
    texts_seen: int
    """Texts of features that prompts showed."""
    texts_held_out: int
    text_characters: int
    """Characters of both kinds of texts together."""
    text_bytes: int
    """The same in UTF-8."""
    traceable: int
    """Explanations that name their model, their prompt's hash and the validator's version, and have their texts."""
    cached: int
    call_s: float
    """Seconds that calls took together, a shared call counted once; cached answers left out."""
    demonstration: bool


def is_demonstration(generation: Generation | None) -> bool:
    """Whether the small model that comes along gave the answer."""
    return generation is not None and DEMONSTRATION in (generation.provider, generation.endpoint)


@dataclass(slots=True)
class _ModelTally:
    explained: int = 0
    cached: int = 0
    tokens_in: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    cost_usd: list[float] = field(default_factory=list)
    latency_s: "array[float]" = field(default_factory=numbers)
    reaches: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _PromptTally:
    explained: int = 0
    different: set[bytes] = field(default_factory=set)
    joined: "hashlib._Hash" = field(default_factory=hashlib.sha256)


@dataclass(slots=True)
class OriginTally:
    """Gathers `Origin` from explained outcomes."""

    models: dict[tuple[str, str, str, str], _ModelTally] = field(default_factory=dict)
    prompts: dict[str, _PromptTally] = field(default_factory=dict)
    reaches: Counter[str] = field(default_factory=Counter)
    substitutes: Counter[str] = field(default_factory=Counter)
    validators: Counter[int] = field(default_factory=Counter)
    backgrounds: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    texts_seen: int = 0
    texts_held_out: int = 0
    text_characters: int = 0
    text_bytes: int = 0
    traceable: int = 0
    call_s: float = 0.0
    demonstration: bool = False

    def add(self, outcome: FeatureOutcome) -> None:
        """Take one explained outcome."""
        self._prompt(outcome)
        self.validators[outcome.validator_version] += 1
        self.backgrounds[outcome.background_version, outcome.background_features] += 1
        self.substitutes.update({flag.removeprefix(_SUBSTITUTE) for flag in outcome.flags if flag.startswith(_SUBSTITUTE)})
        if outcome.evidence is not None:
            self.texts_seen += len(outcome.evidence.seen)
            self.texts_held_out += len(outcome.evidence.held_out)
            for activation in texts(outcome.evidence):
                self.text_characters += len(activation.text)
                self.text_bytes += len(activation.text.encode("utf-8", "replace"))
        self.traceable += None not in (outcome.generation, outcome.prompt_sha256, outcome.evidence) and outcome.validator_version > 0
        for made in (outcome.generation, outcome.other):
            if made is not None:
                self.reaches[made.reach or "unknown"] += 1
                self.call_s += 0.0 if made.cached else made.latency_s / made.features
        if outcome.generation is not None:
            self._model(outcome.generation)

    def _prompt(self, outcome: FeatureOutcome) -> None:
        prompt = self.prompts.setdefault(outcome.prompt_template or "not recorded", _PromptTally())
        prompt.explained += 1
        if outcome.prompt_sha256 is not None:
            written = outcome.prompt_sha256.encode("utf-8", "replace")
            prompt.joined.update(written)
            prompt.different.add(written[:16])

    def _model(self, generation: Generation) -> None:
        self.demonstration = self.demonstration or is_demonstration(generation)
        model = self.models.setdefault((generation.model, generation.endpoint, generation.provider, generation.model_digest or ""), _ModelTally())
        model.explained += 1
        model.cached += generation.cached
        model.reaches[generation.reach or "unknown"] += 1
        if generation.tokens_in is not None:
            model.tokens_in.append(generation.tokens_in)
        if generation.tokens_out is not None:
            model.tokens_out.append(generation.tokens_out)
        if generation.cost_usd is not None:
            model.cost_usd.append(generation.cost_usd)
        if not generation.cached:
            model.latency_s.append(generation.latency_s)

    def result(self) -> Origin:
        """What was gathered."""
        by_use = sorted(self.prompts, key=lambda name: (-self.prompts[name].explained, name))
        return Origin(
            models=tuple(_model_figures(key, self.models[key]) for key in sorted(self.models)),
            prompts=tuple(_prompt_figures(name, self.prompts[name]) for name in by_use),
            reaches=dict(sorted(self.reaches.items())),
            substitutes=dict(sorted(self.substitutes.items())),
            validators=dict(sorted(self.validators.items())),
            backgrounds=dict(sorted(self.backgrounds.items(), key=lambda item: (item[0][0], item[0][1] or 0))),
            texts_seen=self.texts_seen,
            texts_held_out=self.texts_held_out,
            text_characters=self.text_characters,
            text_bytes=self.text_bytes,
            traceable=self.traceable,
            cached=sum(model.cached for model in self.models.values()),
            call_s=self.call_s,
            demonstration=self.demonstration,
        )


def _prompt_figures(name: str, tally: _PromptTally) -> PromptFigures:
    return PromptFigures(name, tally.explained, len(tally.different), tally.joined.hexdigest() if tally.different else None)


def _model_figures(key: tuple[str, str, str, str], tally: _ModelTally) -> ModelFigures:
    model, endpoint, provider, digest = key
    latency = quartiles(tally.latency_s)
    return ModelFigures(
        model=model,
        digest=digest or None,
        endpoint=endpoint,
        provider=provider,
        explained=tally.explained,
        cached=tally.cached,
        tokens_in=sum(tally.tokens_in) if tally.tokens_in else None,
        tokens_out=sum(tally.tokens_out) if tally.tokens_out else None,
        cost_usd=sum(tally.cost_usd) if tally.cost_usd else None,
        latency_median_s=latency.median if latency else None,
        latency=latency,
        tokens_in_each=quartiles(tally.tokens_in),
        tokens_out_each=quartiles(tally.tokens_out),
        reaches=dict(sorted(tally.reaches.items())),
    )
