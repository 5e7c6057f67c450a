"""The test that a judge takes, on real features: one who knows gets 1, a coin a half, and the texts' length tells nothing."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
from judging_samples import Model, coin, judge, perfect

from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.evaluation.data import read_set
from mistudio_explain.events.explanation import Answer, ExplanationRequested, FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobBackground
from mistudio_explain.judging.judge import judge_feature
from mistudio_explain.judging.stage import examples_of, plan
from mistudio_explain.settings import JudgeSettings, Settings
from mistudio_explain.validation.offline import background_of

FEATURES = Path(__file__).parents[3] / "examples" / "features" / "eleuther_gpt2_128k.jsonl.gz"
FEW = 60


@cache
def real() -> tuple[JobBackground, tuple[FeatureOutcome, ...]]:
    settings = Settings()
    policy = replace(ContextPolicy.of(settings.context, settings.quality, Routing()), explain_poor=True)
    known = read_set(FEATURES).features
    outcomes = []
    for each in known[:FEW]:
        request = build(each.feature, policy, Templates.load(None), None)
        assert isinstance(request, ExplanationRequested)
        assert each.explanation is not None
        outcomes.append(
            FeatureOutcome(outcome=OutcomeKind.EXPLAINED, subject=request.subject, evidence=request.evidence, answer=Answer(pattern=each.explanation))
        )
    return background_of("find_real", [each.feature for each in known]), tuple(outcomes)


async def figures(model: Model, kind: str) -> list[float]:
    background, outcomes = real()
    judged = [(await judge_feature(outcome, background, judge(model))).judgement for outcome in outcomes]
    return [each.balanced_accuracy for one in judged for each in one.kinds if each.kind == kind and each.balanced_accuracy is not None]


@pytest.mark.parametrize("kind", ["detection", "fuzzing"])
async def test_a_judge_who_knows_gets_1_and_a_coin_a_half(kind: str) -> None:
    background, outcomes = real()
    knows = await figures(Model(perfect(*((outcome, background) for outcome in outcomes))), kind)
    tossed = await figures(Model(coin(5)), kind)
    assert len(knows) >= FEW - 1
    assert set(knows) == {1.0}
    assert 0.42 < fmean(tossed) < 0.58  # standard deviation 0.02 for detection, 0.025 for fuzzing


def test_own_texts_are_not_told_from_others_by_their_length() -> None:
    background, outcomes = real()
    examples = [each for outcome in outcomes for each in examples_of(plan(outcome, background, JudgeSettings()).questions, "detection")]
    own = [len(each.text) for each in examples if each.activating]
    others = [len(each.text) for each in examples if not each.activating]
    longer = fmean((one > other) + (one == other) / 2 for one in own for other in others)
    assert 0.4 < longer < 0.6
