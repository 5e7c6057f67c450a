"""Asks a judge: the questions about one explanation, within the feature's calls."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import FeatureOutcome, JudgedKind, Judgement
from mistudio_explain.events.job import JobBackground
from mistudio_explain.judging.answer import read_numbers
from mistudio_explain.judging.examples import basis_of
from mistudio_explain.judging.prompt import GRADES, PROMPTS_VERSION
from mistudio_explain.judging.stage import Answered, Kind, Plan, Question, examples_of, figures, plan
from mistudio_explain.llm.asking import Asked, FailedTry, NoAnswer, Sleep, ask
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.provider import Call, Completion, Numbers, Patience
from mistudio_explain.settings import JudgeSettings, LlmSettings

RETRY_WAIT_S = 1.0
IN_FLIGHT_PER_SLOT = 1.5  # a feature's calls come one after another, so that a slot that falls free must find another feature waiting
RESAMPLE_TEMPERATURE = 0.6  # at temperature 0 the same call gives the same unreadable answer again


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge that is ready to be asked: the endpoints, and how to ask them."""

    endpoints: Endpoints
    settings: JudgeSettings
    llm: LlmSettings
    rng: random.Random
    """Spreads retries in time; no choice of examples depends on it."""
    sleep: Sleep = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge made of an explanation, and its answers one by one."""

    judgement: Judgement
    answers: dict[Kind, list[Answered]]


@dataclass(slots=True)
class _Spent:
    """The calls for one feature so far."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    by: set[tuple[str, str]] = field(default_factory=set)
    """Model and endpoint of every answer."""

    def add(self, completion: Completion, model: str, endpoint: str) -> None:
        self.calls += 1
        self.tokens_in += completion.tokens_in or 0
        self.tokens_out += completion.tokens_out or 0
        self.by.add((model, endpoint))


async def judge_feature(outcome: FeatureOutcome, background: JobBackground | None, judge: Judge) -> Judged:
    """Let a judge test an explanation against the other features of its find job.

    Waits while no endpoint can serve the judge's route; cancel it to stop. A question whose answer cannot be read, or
    for which no call is left, leaves its examples unanswered: they are counted, and never taken for right or wrong.
    """
    planned = plan(outcome, background, judge.settings)
    spent = _Spent()
    failures: dict[str, str] = {}
    grades: tuple[int, ...] | None = None
    answers: dict[Kind, list[Answered]] = {kind: [] for kind in judge.settings.kinds if examples_of(planned.questions, kind)}
    tries = 0
    for question in planned.questions:
        left = judge.settings.calls - tries
        if left <= 0:
            failures.setdefault(question.kind, f"the feature's {judge.settings.calls} calls were used up (judge.calls)")
            numbers = None
        else:
            numbers, tried, failure = await _answered(question, outcome, judge, min(left, judge.settings.attempts), spent)
            tries += tried
            if failure is not None:
                failures.setdefault(question.kind, failure)
        if question.kind == "coherence":
            grades = numbers
        else:
            answers[question.kind] += _paired(question, numbers, asked=left > 0)
    kinds = [figures(kind, each, basis_of(outcome.evidence)) for kind, each in answers.items() if outcome.evidence is not None]
    return Judged(_judgement(outcome, planned, kinds, grades, failures, spent), answers)


def judge_route(judge: Judge, explainer: str | None) -> tuple[str, ...]:
    """The models to ask: the setting's, else all that endpoints have but the one that wrote the explanation."""
    if judge.settings.route:
        return judge.settings.route
    listed = (model.name for endpoint in judge.endpoints.all for model in endpoint.models)
    return tuple(dict.fromkeys(name for name in listed if name != explainer))


async def _answered(question: Question, outcome: FeatureOutcome, judge: Judge, attempts: int, spent: _Spent) -> tuple[tuple[int, ...] | None, int, str | None]:
    """The numbers, how many tries they took, and why there are none."""
    route = judge_route(judge, outcome.generation.model if outcome.generation else None)
    try:
        asked: Asked[tuple[int, ...]] = await ask(
            judge.endpoints,
            route,
            lambda choice, unusable: _call(question, choice, judge.llm, unusable),
            lambda completion: read_numbers(completion.text, question.count, question.greatest),
            attempts=attempts,
            retry_wait_s=RETRY_WAIT_S,
            rng=judge.rng,
            sleep=judge.sleep,
        )
    except NoAnswer as error:
        _add_tries(error.tries, spent)
        return None, len(error.tries), str(error)
    _add_tries(asked.tries, spent)
    spent.add(asked.completion, asked.choice.model.name, asked.choice.endpoint.name)
    return asked.read, len(asked.tries) + 1, None


def _add_tries(tries: Sequence[FailedTry], spent: _Spent) -> None:
    for failed in tries:
        if failed.completion is not None:
            spent.add(failed.completion, failed.model, failed.endpoint)


def _call(question: Question, choice: Choice, llm: LlmSettings, unusable: int) -> Call:
    return Call(
        messages=question.messages,
        form="list",
        model=choice.model.name,
        temperature=RESAMPLE_TEMPERATURE if unusable else 0.0,
        seed=llm.seed + unusable,
        max_tokens=llm.max_tokens,
        context_tokens=llm.context_tokens,
        patience=Patience(llm.first_token_timeout_s, llm.token_timeout_s, llm.deadline_s),
        numbers=Numbers(question.count, question.greatest),
    )


def _paired(question: Question, numbers: tuple[int, ...] | None, *, asked: bool) -> list[Answered]:
    if numbers is None:
        return [Answered(example, None, asked=asked) for example in question.examples]
    return [Answered(example, number == 1) for example, number in zip(question.examples, numbers, strict=True)]


def _judgement(
    outcome: FeatureOutcome, planned: Plan, kinds: list[JudgedKind], grades: tuple[int, ...] | None, failures: dict[str, str], spent: _Spent
) -> Judgement:
    missing: dict[str, str] = {each.kind: failures.get(each.kind, "one side has no answer") for each in kinds if each.balanced_accuracy is None}
    if grades is None and "coherence" in failures:
        missing["coherence"] = failures["coherence"]
    explainer = outcome.generation.model if outcome.generation else None
    return Judgement(
        model=", ".join(sorted({model for model, _ in spent.by})) or None,
        endpoint=", ".join(sorted({endpoint for _, endpoint in spent.by})) or None,
        is_explainer=explainer in {model for model, _ in spent.by},
        kinds=kinds,
        factual_coherence=None if grades is None else grades[0] / GRADES,
        logical_coherence=None if grades is None else grades[1] / GRADES,
        unavailable=planned.unavailable | missing,
        calls=spent.calls,
        tokens_in=spent.tokens_in,
        tokens_out=spent.tokens_out,
        prompts_version=PROMPTS_VERSION,
    )


def with_judgement(outcome: FeatureOutcome, judged: Judged) -> FeatureOutcome:
    """The outcome with what the judge made of it; nothing else of it changes."""
    return outcome.model_copy(update={"judge": judged.judgement})
