"""A malformed answer is sent back to its model once, and then read by rule."""

import json

import pytest

from mistudio_explain.generation.explainer import GivenUp
from mistudio_explain.llm.failures import (
    BadRequest,
    ContextTooLong,
)
from mistudio_explain.llm.provider import Completion
from unit.generation.asking import requested
from unit.generation.scripted import Model, World

FENCED = "```json\n{}\n```"
FIELDS = json.dumps({"label": "dogs", "pattern": "It fires on dogs.", "significance": "Animals.", "implications": "None."})


async def test_a_malformed_answer_is_sent_back_to_be_repaired_and_that_is_flagged() -> None:
    world = World(Model("no end", "Dogs are named."))
    draft = await world.explain(requested())
    assert (draft.answer.pattern, draft.generation.attempt) == ("Dogs are named.", 1)
    assert "repaired:model" in draft.flags
    assert "resampled" not in draft.flags
    first, repair = world.model.calls
    assert repair.messages[:1] == first.messages
    assert [message.role for message in repair.messages[1:]] == ["assistant", "user"]
    assert repair.messages[1].content == "no end"
    assert "the answer is no complete sentence" in repair.messages[2].content
    assert (repair.temperature, repair.seed) == (first.temperature, first.seed)
    again = await world.explain(requested())
    assert again.generation.cached
    assert "repaired:model" in again.flags


async def test_the_model_gets_one_repair_only_and_then_the_rule_reads() -> None:
    world = World(Model(FENCED.replace("{}", FIELDS), "Here:\n" + FIELDS.replace("on dogs", "on puppies")))
    draft = await world.explain(requested("fields"))
    assert len(world.model.calls) == 2
    assert draft.answer.pattern == "It fires on puppies."
    assert "repaired:json" in draft.flags
    assert "repaired:model" not in draft.flags
    assert (await world.explain(requested("fields"))).answer.pattern == "It fires on puppies."
    assert len(world.model.calls) == 2


@pytest.mark.parametrize("repair", ["I'm sorry, no.", '{"label": "dogs", "pat', "no JSON at all", ""])
async def test_a_repair_that_is_worse_leaves_the_first_answer_to_the_rule(repair: str) -> None:
    world = World(Model(FENCED.replace("{}", FIELDS), repair))
    draft = await world.explain(requested("fields"))
    assert (draft.answer.pattern, len(world.model.calls)) == ("It fires on dogs.", 2)
    assert "repaired:json" in draft.flags
    assert (await world.explain(requested("fields"))).answer.pattern == "It fires on dogs."


async def test_an_answer_that_neither_model_nor_rule_repairs_is_asked_for_anew() -> None:
    world = World(Model("no JSON", "none either", FIELDS))
    draft = await world.explain(requested("fields"))
    assert draft.answer.pattern == "It fires on dogs."
    assert "resampled" in draft.flags
    assert world.model.calls[2].messages == world.model.calls[0].messages


@pytest.mark.parametrize("failure", [ContextTooLong("too long"), BadRequest("no")])
async def test_a_repair_that_cannot_be_asked_for_leaves_the_rule(failure: Exception) -> None:
    world = World(Model(FENCED.replace("{}", FIELDS), failure))
    assert (await world.explain(requested("fields"))).answer.pattern == "It fires on dogs."


async def test_with_one_try_the_rule_reads_at_once() -> None:
    world = World(Model(FENCED.replace("{}", FIELDS)), attempts=1)
    draft = await world.explain(requested("fields"))
    assert (draft.answer.pattern, draft.generation.attempt, len(world.model.calls)) == ("It fires on dogs.", 0, 1)


@pytest.mark.parametrize("unusable", ["I'm sorry, no.", '{"label": "dogs", "pat', "", FIELDS.replace("It fires on dogs.", "N/A")])
async def test_only_a_malformed_answer_is_sent_back(unusable: str) -> None:
    world = World(Model(unusable, FIELDS))
    await world.explain(requested("fields"))
    assert world.model.calls[1].messages == world.model.calls[0].messages


async def test_an_answer_that_the_filter_cut_is_not_paid_for_again() -> None:
    world = World(Model(Completion("Dogs", "content_filter", 10, 5, 1.5, 0.5)))
    with pytest.raises(GivenUp, match="content filter"):
        await world.explain(requested())
    assert len(world.model.calls) == 1
