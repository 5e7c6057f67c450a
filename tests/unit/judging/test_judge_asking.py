"""Asking a judge: what judges of known skill get, what is spent, and what happens when one does not answer."""

import asyncio
import json

import pytest
from judging_samples import EXPLAINER, Model, background, coin, judge, outcome, perfect

from mistudio_explain.events.explanation import JudgedKind, Judgement
from mistudio_explain.judging.judge import judge_feature, judge_route, with_judgement
from mistudio_explain.llm.failures import BadRequest, EndpointUnreachable
from mistudio_explain.llm.provider import Call


def of_kind(judgement: Judgement, kind: str) -> JudgedKind:
    return next(each for each in judgement.kinds if each.kind == kind)


async def test_a_judge_that_knows_every_answer_gets_1() -> None:
    judged = (await judge_feature(outcome(), background(), judge(Model(perfect((outcome(), background())))))).judgement
    for kind in ("detection", "fuzzing"):
        figures = of_kind(judged, kind)
        assert (figures.balanced_accuracy, figures.tpr, figures.tnr, figures.unparsed, figures.unasked) == (1.0, 1.0, 1.0, 0, 0)
        assert all(against.balanced_accuracy == 1.0 for against in figures.against)
    assert (judged.factual_coherence, judged.logical_coherence, judged.unavailable) == (1.0, 1.0, {})


async def test_a_judge_that_tosses_a_coin_gets_about_a_half() -> None:
    model = Model(coin())
    found = [(await judge_feature(outcome(feature=str(feature)), background(), judge(model))).judgement for feature in range(60)]
    for kind in ("detection", "fuzzing"):
        values = [value for judged in found if (value := of_kind(judged, kind).balanced_accuracy) is not None]
        assert 0.46 < sum(values) / len(values) < 0.54  # 60 times 16 or 18 tosses: a standard deviation of 0.017


@pytest.mark.parametrize("answer", ["1 0 1", "[]", "I cannot say.", "[1]", "null", "[2, 2, 2, 2, 2]"])
async def test_a_judge_that_talks_garbage_judges_nothing_and_is_wrong_about_nothing(answer: str) -> None:
    judged = (await judge_feature(outcome(), background(), judge(Model(lambda _: answer), calls=50))).judgement
    for kind in ("detection", "fuzzing"):
        figures = of_kind(judged, kind)
        assert (figures.balanced_accuracy, figures.tpr, figures.tnr, figures.n) == (None, None, None, 0)
        assert figures.unparsed == 18 if kind == "detection" else 16
    assert (judged.factual_coherence, judged.logical_coherence) == (None, None)
    assert set(judged.unavailable) == {"detection", "fuzzing", "coherence"}
    assert "no list of 5 whole numbers" in judged.unavailable["detection"]


async def test_a_batch_that_cannot_be_read_costs_its_own_examples_alone() -> None:
    knows = perfect((outcome(), background()))
    garbled: list[str] = []

    def answer(call: Call) -> str:
        said = call.messages[-1].content
        if not garbled and '"' in said and "marked" not in said and "grades" not in said:
            garbled.append(said)
        return "?" if said in garbled else knows(call)

    figures = of_kind((await judge_feature(outcome(), background(), judge(Model(answer)))).judgement, "detection")
    assert figures.unparsed == 5
    assert (figures.n, figures.balanced_accuracy) == (13, 1.0)


async def test_an_unreadable_answer_is_asked_for_once_more_with_another_sampling() -> None:
    knows, model = perfect((outcome(), background())), Model(lambda _: "")
    model.answer = lambda call: knows(call) if call.seed > 1 else "?"
    judged = (await judge_feature(outcome(), background(), judge(model, kinds=("detection",)))).judgement
    assert of_kind(judged, "detection").balanced_accuracy == 1.0
    assert judged.calls == len(model.calls) == 10  # five questions, each twice
    assert (judged.tokens_in, judged.tokens_out) == (1000, 70)  # the unreadable ones were paid for too
    assert [call.temperature for call in model.calls[:2]] == [0.0, 0.6]


async def test_no_more_calls_are_made_than_a_feature_may_cost() -> None:
    model = Model(perfect((outcome(), background())))
    judged = (await judge_feature(outcome(), background(), judge(model, calls=3))).judgement
    assert len(model.calls) == judged.calls == 3
    detection, fuzzing = of_kind(judged, "detection"), of_kind(judged, "fuzzing")
    assert (detection.n, detection.unasked, detection.unparsed) == (10, 8, 0)
    assert (fuzzing.n, fuzzing.unasked, fuzzing.balanced_accuracy) == (0, 16, None)
    assert judged.unavailable == {"fuzzing": "the feature's 3 calls were used up (judge.calls)"}


async def test_a_repeated_call_counts_among_those_a_feature_may_cost() -> None:
    model = Model(lambda _: "?")
    await judge_feature(outcome(), background(), judge(model, calls=5, attempts=4))
    assert len(model.calls) == 5


async def test_another_model_than_the_explainer_is_asked() -> None:
    model = Model(perfect((outcome(), background())))
    judged = (await judge_feature(outcome(), background(), judge(model))).judgement
    assert {call.model for call in model.calls} == {"judge"}
    assert (judged.model, judged.endpoint, judged.is_explainer) == ("judge", "e", False)


async def test_a_judge_that_wrote_the_explanation_itself_is_said_to_have() -> None:
    judged = (await judge_feature(outcome(), background(), judge(Model(perfect((outcome(), background()))), models=(EXPLAINER,)))).judgement
    assert judged.is_explainer


def test_a_route_that_is_set_is_the_route() -> None:
    assert judge_route(judge(Model(coin()), route=("big", "small")), EXPLAINER) == ("big", "small")
    assert judge_route(judge(Model(coin())), None) == (EXPLAINER, "judge")


async def test_while_the_judge_is_away_the_feature_waits_and_no_answer_is_lost() -> None:
    knows, away = perfect((outcome(), background())), [EndpointUnreachable("away")] * 7

    def answer(call: Call) -> str | EndpointUnreachable:
        return away.pop() if away and call.messages[-1].content != "Say yes." else knows(call)

    judged = (await judge_feature(outcome(), background(), judge(Model(answer), attempts=1))).judgement
    assert away == []
    assert of_kind(judged, "detection").balanced_accuracy == 1.0
    assert of_kind(judged, "detection").unparsed == 0


async def test_a_question_that_is_refused_is_not_repeated() -> None:
    model = Model(lambda _: BadRequest("no"))
    judged = (await judge_feature(outcome(), background(), judge(model, kinds=("detection",)))).judgement
    assert len(model.calls) == 5
    assert "no usable answer in 1 try" in judged.unavailable["detection"]
    assert (judged.calls, judged.model) == (0, None)


async def test_waiting_for_a_judge_can_be_cut_off() -> None:
    waiting = asyncio.create_task(judge_feature(outcome(), background(), judge(Model(lambda _: EndpointUnreachable("away")))))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_judge_changes_no_other_score() -> None:
    judged = await judge_feature(outcome(), background(), judge(Model(coin())))
    with_it = with_judgement(outcome(), judged)
    assert with_it.judge == judged.judgement
    assert with_it.model_copy(update={"judge": None}) == outcome()


async def test_the_answer_to_each_example_is_kept_in_order() -> None:
    judged = await judge_feature(outcome(), background(), judge(Model(perfect((outcome(), background())))))
    assert [len(judged.answers[kind]) for kind in ("detection", "fuzzing")] == [18, 16]
    assert all(each.accepted == each.example.activating for each in judged.answers["detection"])


async def test_a_feature_without_explanation_is_not_asked_about() -> None:
    model = Model(lambda _: json.dumps([1]))
    judged = (await judge_feature(outcome().model_copy(update={"answer": None}), background(), judge(model))).judgement
    assert model.calls == []
    assert judged.unavailable["detection"] == "there is no explanation to judge"
