"""Scores and explains features from Python, in scripts and notebooks: the pipeline's own cores, without Kafka."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from mistudio_explain.context.serving import routing_by
from mistudio_explain.context.stage import build
from mistudio_explain.errors import BadInput, ExplainError
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.generation.adapting import shortening
from mistudio_explain.generation.explainer import Explainer
from mistudio_explain.intake.document import Document, Flawed
from mistudio_explain.intake.feature import Origin, Reader
from mistudio_explain.intake.header import FEATURES_OF, header_of, shape_of
from mistudio_explain.intake.pairs import LINE_BYTES, UNNAMED_MODEL
from mistudio_explain.intake.stage import read
from mistudio_explain.library_table import Table
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.fleet import Alone, driven
from mistudio_explain.settings import EndpointSettings, QualitySettings, Settings, load
from mistudio_explain.validation.offline import Scorer, background_of
from mistudio_explain.validation.offline import score as score_one
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

T = TypeVar("T")

Features = str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any] | FeatureFound]
"""Where features come from: a file that miStudioFind wrote, what such a file holds once it is decoded, or single
features in either of miStudioFind's shapes."""

Explanations = Sequence[str | None] | Mapping[str, str]
"""One for each feature in their order, None for a feature that only stands in the background; or by feature key."""

Progress = Callable[[int, int], None]
"""Is told how many features are done, and of how many."""

_HERE = Path("features")


def score(
    features: Features,
    explanations: Explanations,
    *,
    job: str = "features",
    target_model: str | None = None,
    minilm: bool = False,
    config: str | Path | None = None,
    settings: Settings | None = None,
) -> Table:
    """Say how far to believe explanations; no model is asked.

    Features of one call are each other's background (of one find job each, where they come from several), so give all
    of a job at once. The same feature may stand there several times with different explanations. With fewer than 8 other
    features a stored general background takes their place and the rows are flagged `no_contrast`. `job` names the find
    job of single features; which features are sampled for a background of more than 64 depends on it. `config` is a
    configuration file and `settings` stands for one.

    Returns one row for each explanation, in order. Raises BadInput for a feature that cannot be read, naming the place.
    """
    chosen = _settings(config, settings, minilm)
    scorer = Scorer.of(_validator(chosen.quality), chosen)
    there = features_of(features, job=job, target_model=target_model)
    backgrounds = {name: background_of(name, group) for name, group in _by_job(there).items()}
    pairs = list(_paired(there, explanations))
    return Table([score_one(feature, said, backgrounds[feature.find_job_id], scorer) for feature, said in pairs])


def explain(
    features: Features,
    *,
    url: str | None = None,
    model: str | None = None,
    job: str = "features",
    target_model: str | None = None,
    explain_poor: bool = True,
    minilm: bool = False,
    progress: Progress | None = None,
    config: str | Path | None = None,
    settings: Settings | None = None,
) -> Table:
    """Explain features and say how far to believe each explanation; answers when all are done, also in a notebook.

    `url` is an Ollama server, or any OpenAI-compatible one when it ends in /v1; `model` the model to use there. Without
    a url the configuration's endpoints are asked (`config`, or `settings`); without those an Ollama on this machine,
    else the small demonstration model that comes with the extra `demo`. `explain_poor=False` skips features whose
    coherence is below the threshold, as a job does by default. For the background, see `score`.

    Returns one row for each feature, in order: one that got no usable answer is `failed` and says why. Raises BadInput
    for a feature that cannot be read, Unreachable for a server that does not answer at the start; a server that goes
    away later is waited for, until Ctrl-C.
    """
    chosen = _with_endpoint(_settings(config, settings, minilm), url, model)
    scorer = Scorer.of(_validator(chosen.quality), chosen)
    there = features_of(features, job=job, target_model=target_model)
    return Table(_finished(_explained(there, chosen, scorer, model, explain_poor, progress)))


def features_of(features: Features, *, job: str = "features", target_model: str | None = None) -> list[FeatureFound]:
    """Read features as intake reads them. Raises BadInput with the place and what was expected there."""
    if isinstance(features, str | Path):
        return list(read(Path(features), target_model=target_model).features())
    try:
        if isinstance(features, Mapping):
            return _of_document(features, target_model)
        reader = _reader(Origin(job, target_model or UNNAMED_MODEL, None))
        return [found if isinstance(found, FeatureFound) else reader.feature_of(found, (place,), 0) for place, found in enumerate(features)]
    except Flawed as flawed:
        raise BadInput("\n".join(map(str, flawed.problems))) from flawed


def _of_document(root: Mapping[str, Any], target_model: str | None) -> list[FeatureFound]:
    document = Document(_HERE, b"")
    shape = shape_of(document, frozenset(root))
    header = header_of(document, shape, root)
    origin = Origin(header.find_job_id, header.target_model or target_model or UNNAMED_MODEL, header.source_training_job)
    name = FEATURES_OF[shape]
    if not isinstance(root[name], list):
        raise Flawed(document.problem((name,), "no list; a list of features was expected"))
    return [_reader(origin).feature_of(found, (name, place), 0) for place, found in enumerate(root[name])]


def _reader(origin: Origin) -> Reader:
    return Reader(Document(_HERE, b""), origin, {}, event_bytes=16 * LINE_BYTES)


def _paired(features: Sequence[FeatureFound], explanations: Explanations) -> Iterator[tuple[FeatureFound, str]]:
    if isinstance(explanations, Mapping):
        by_key = {str(key): said for key, said in explanations.items()}
        if unknown := sorted(by_key.keys() - {feature.feature_key for feature in features}):
            raise BadInput(f"explanations: there is no feature {unknown[0]!r}; there are {', '.join(feature.feature_key for feature in features[:5])} ...")
        yield from ((feature, by_key[feature.feature_key]) for feature in features if feature.feature_key in by_key)
        return
    if isinstance(explanations, str) or len(explanations) != len(features):
        raise BadInput(f"explanations: {len(explanations)} for {len(features)} features; give one for each (None for those without), or a dict by feature key")
    yield from ((feature, said) for feature, said in zip(features, explanations, strict=True) if said is not None)


def _by_job(features: Iterable[FeatureFound]) -> dict[str, list[FeatureFound]]:
    jobs: dict[str, list[FeatureFound]] = {}
    for feature in features:
        jobs.setdefault(feature.find_job_id, []).append(feature)
    return jobs


def _settings(config: str | Path | None, settings: Settings | None, minilm: bool) -> Settings:
    if settings is not None and config is not None:
        raise BadInput("config and settings both say how things are set; give one of them")
    chosen = settings or (Settings() if config is None else load(config=Path(config)).settings)
    return chosen.model_copy(update={"quality": chosen.quality.model_copy(update={"minilm": True})}) if minilm else chosen


def _with_endpoint(settings: Settings, url: str | None, model: str | None) -> Settings:
    if url is None:
        return settings
    provider = "openai" if url.rstrip("/").endswith("/v1") else "ollama"
    endpoint = EndpointSettings(name="given", provider=provider, url=url, models=None if model is None else (model,))
    return settings.model_copy(update={"llm": settings.llm.model_copy(update={"endpoints": (endpoint,)})})


@lru_cache(maxsize=2)
def _validator(quality: QualitySettings) -> Validator:
    """The models, loaded once for all calls of a notebook."""
    return Validator.load(quality)


async def _explained(
    features: Sequence[FeatureFound], settings: Settings, scorer: Scorer, model: str | None, explain_poor: bool, progress: Progress | None
) -> list[FeatureOutcome]:
    backgrounds = {job: background_of(job, group) for job, group in _by_job(features).items()}
    rng = random.Random()  # noqa: S311  (spreads retries in time)
    async with driven(settings.llm, Alone(), rng=rng, waits=False) as fleet:
        endpoints = fleet.endpoints
        explainer = Explainer(endpoints, MemoryAnswers(), settings.llm, settings.generation, rng, shorten=shortening(settings.context))
        policy = replace(scorer.policy, routing=routing_by(settings, endpoints)(), explain_poor=explain_poor)
        ask = _Asking(explainer, replace(scorer, policy=policy))
        done: dict[int, FeatureOutcome] = {}
        waiting = enumerate(features)

        async def work() -> None:
            for place, feature in waiting:
                asked = feature.effective_request.model_copy(update={"explain_poor": explain_poor, "route": model})
                done[place] = await ask.outcome(feature.model_copy(update={"request": asked}), backgrounds)
                if progress is not None:
                    progress(len(done), len(features))

        async with asyncio.TaskGroup() as workers:
            for _ in range(math.ceil(endpoints.slots * settings.generation.in_flight_per_slot * settings.generation.features_per_call)):
                workers.create_task(work())
        return [done[place] for place in range(len(features))]


@dataclass(frozen=True, slots=True)
class _Asking:
    """What turns one feature after the other into an outcome."""

    explainer: Explainer
    scorer: Scorer

    async def outcome(self, feature: FeatureFound, backgrounds: Mapping[str, Any]) -> FeatureOutcome:
        """A feature's outcome; failed, as a job has it, for one that has no text or gets no usable answer."""
        try:
            request = build(feature, self.scorer.policy, self.scorer.templates, None)
            if not isinstance(request, ExplanationRequested):
                return request
            draft = await self.explainer.draft(request)
        except ExplainError as error:
            return FeatureOutcome(outcome=OutcomeKind.FAILED, reason=str(error), subject=Subject.of(feature, None))
        return validate(draft, backgrounds[feature.find_job_id], self.scorer.validator)


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop runs already, as in notebooks: then in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    with ThreadPoolExecutor(1, "mistudio-explain") as thread:
        ending = thread.submit(loop.run_until_complete, task)
        try:
            return ending.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise
        finally:
            thread.submit(loop.close)
