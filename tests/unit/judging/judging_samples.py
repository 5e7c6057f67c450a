"""Features to judge, and judges of known skill."""

import asyncio
import json
import random
from collections.abc import Callable

from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, Generation, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.judging.judge import Judge
from mistudio_explain.judging.stage import Question, plan
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.failures import CallFailure
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.settings import JudgeSettings, LlmSettings

EXPLAINER = "explainer"
Said = str | CallFailure


def tokened(text: str, fires: str, strength: float) -> Activation:
    """A text in words, the feature firing on one of them."""
    tokens = [word if number == 0 else f" {word}" for number, word in enumerate(text.split())]
    values = [strength if token.strip() == fires else 0.0 for token in tokens]
    return Activation(text="".join(tokens), activation_strength=strength, tokens=tokens, token_activations=values)


def outcome(held_out: int = 8, seen: int = 4, *, feature: str = "5", said: str = "Texts that name dogs.") -> FeatureOutcome:
    """A feature that fires on the word `dog`, the strongest text first."""
    texts = [tokened(f"number {place} of the stories tells of one dog that ran home", "dog", 20.0 - place) for place in range(seen + held_out)]
    return FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject(explain_job_id="explain_1", find_job_id="find_1", target_model="m", feature_id=feature, feature_key=feature),
        evidence=Evidence(seen=texts[:seen], held_out=texts[seen:]),
        answer=Answer(pattern=said),
        explanation=said,
        generation=Generation(model=EXPLAINER, endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop"),
    )


def background(features: int = 12) -> JobBackground:
    """Other features: 0 to 2 tell of cats that ran home, the others of numbers."""
    themes = [f"one cat number {each} that ran home in the stories" if each < 3 else f"the sum of {each} and {each} in base {each}" for each in range(features)]
    sample = [BackgroundFeature(feature_key=f"other {each}", texts=[f"{theme}, part {part}" for part in range(5)]) for each, theme in enumerate(themes)]
    return JobBackground(find_job_id="find_1", target_model="m", sample=sample, distinct=features, frozen=True)


class Model:
    """A provider whose answers a function of the call gives; calls are kept."""

    def __init__(self, answer: Callable[[Call], Said], tokens: tuple[int | None, int | None] = (100, 7)) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self._tokens = tokens

    async def complete(self, call: Call) -> Completion:
        self.calls.append(call)
        said = self.answer(call)
        if isinstance(said, CallFailure):
            raise said
        return Completion(said, "stop", *self._tokens, 0.1, 0.1)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("judge"), ModelListed(EXPLAINER)]

    async def close(self) -> None: ...


def judge(model: Model, *, models: tuple[str, ...] = (EXPLAINER, "judge"), **settings: object) -> Judge:
    """A judge behind one endpoint; no time passes in its waits."""
    rng = random.Random(3)

    async def no_time(seconds: float) -> None:
        await asyncio.sleep(0)

    endpoint = Endpoint("e", "ollama", "http://e", 4, model, models=tuple(map(ModelListed, models)))
    return Judge(Endpoints([endpoint], rng=rng, sleep=no_time), JudgeSettings.model_validate(settings), LlmSettings(), rng, no_time)


def truths(judged: FeatureOutcome, others: JobBackground | None, settings: JudgeSettings) -> dict[str, Question]:
    """The questions by what is asked."""
    return {question.messages[-1].content: question for question in plan(judged, others, settings).questions}


def perfect(*features: tuple[FeatureOutcome, JobBackground | None], settings: JudgeSettings | None = None) -> Callable[[Call], str]:
    """A judge that knows every answer."""
    known: dict[str, Question] = {}
    for judged, others in features:
        known |= truths(judged, others, settings or JudgeSettings())

    def answer(call: Call) -> str:
        question = known[call.messages[-1].content]
        return json.dumps([4, 4] if question.kind == "coherence" else [int(example.activating) for example in question.examples])

    return answer


def coin(seed: int = 1) -> Callable[[Call], str]:
    """A judge that tosses a coin for each example."""
    rng = random.Random(seed)

    def answer(call: Call) -> str:
        assert call.numbers is not None
        return json.dumps([rng.randint(0, call.numbers.greatest) for _ in range(call.numbers.count)])

    return answer
