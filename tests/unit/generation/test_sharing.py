"""Features that share a call, and candidates."""

import asyncio
import json
import re
from dataclasses import replace

import pytest

from mistudio_explain.events.explanation import Evidence, ExplanationDrafted, ExplanationRequested, Message
from mistudio_explain.events.feature import Activation
from mistudio_explain.llm.failures import (
    ContextTooLong,
)
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.settings import GenerationSettings, LlmSettings
from unit.generation.asking import requested
from unit.generation.scripted import Model, Paused, World


class Knowing(Paused):
    """Answers each numbered feature of a call, and a single one, as `knows` has it; a number in `leaves_out` is left out of shared answers."""

    def __init__(self, *, leaves_out: tuple[int, ...] = (), shared: str | None = None) -> None:
        super().__init__("")
        self.leaves_out = leaves_out
        self.shared = shared
        self.let.set()

    async def complete(self, call: Call) -> Completion:
        self.asked.set()
        await self.let.wait()
        self.calls.append(call)
        named = re.findall(r"The (\w+) is here", call.messages[-1].content)
        fields = [{"label": f"About {name}", "pattern": f"Mentions of {name}.", "significance": "It knows.", "implications": "None."} for name in named]
        if call.features == 1:
            return Completion(json.dumps(fields[0]), "stop", 10, 5, 1.5, 0.5)
        entries = [{"number": number, **each} for number, each in enumerate(fields, 1) if number not in self.leaves_out]
        return Completion(self.shared or json.dumps({"answers": entries}), "stop", 103, 51, 1.5, 0.5)


def naming(name: str) -> ExplanationRequested:
    messages = [Message(role="system", content="Explain."), Message(role="user", content=f"The {name} is here.")]
    request = requested("fields", feature=name)
    asked = request.prompt.model_copy(update={"messages": messages, "sha256": name})
    return request.model_copy(update={"prompt": asked, "evidence": Evidence(seen=[Activation(text=f"The {name} is here.")])})


NAMES = ("dog", "violin", "volcano", "tax")


async def shared_drafts(world: World, names: tuple[str, ...] = NAMES) -> dict[str, ExplanationDrafted]:
    drafts = await asyncio.gather(*(world.explain_as_is(naming(name)) for name in names))
    return {draft.subject.feature_key: draft for draft in drafts}


async def test_several_features_share_a_call_and_each_has_its_own_draft_and_its_share_of_the_tokens() -> None:
    world = World(model := Knowing(), features_per_call=5)
    drafts = await shared_drafts(world)
    (call,) = model.calls
    assert call.features == 4
    assert call.messages[0].content == "Explain."
    assert call.max_tokens == 4 * LlmSettings().max_tokens
    assert {name: draft.answer.pattern for name, draft in drafts.items()} == {name: f"Mentions of {name}." for name in NAMES}
    assert sum(draft.generation.tokens_in for draft in drafts.values()) == 103
    assert sum(draft.generation.tokens_out for draft in drafts.values()) == 51
    assert {draft.generation.features for draft in drafts.values()} == {4}
    assert all("features_per_call:4" in draft.flags for draft in drafts.values())


async def test_answers_of_a_shared_call_are_kept_one_by_one() -> None:
    world = World(model := Knowing(), features_per_call=5)
    await shared_drafts(world)
    again = await shared_drafts(world, ("violin",))
    assert len(model.calls) == 1
    assert again["violin"].generation.cached
    assert again["violin"].answer.pattern == "Mentions of violin."


async def test_an_answer_of_a_shared_call_is_not_taken_for_one_that_was_asked_for_singly() -> None:
    world = World(model := Knowing(), features_per_call=5)
    await shared_drafts(world)
    world.explainer = replace(world.explainer, generation=GenerationSettings())
    assert not (await shared_drafts(world, ("violin",)))["violin"].generation.cached
    assert len(model.calls) == 2


async def test_what_is_missing_in_a_shared_answer_is_asked_for_singly_and_the_others_are_not() -> None:
    world = World(model := Knowing(leaves_out=(2,)), features_per_call=5)
    drafts = await shared_drafts(world)
    assert [call.features for call in model.calls] == [4, 1]
    assert drafts["violin"].answer.pattern == "Mentions of violin."
    assert drafts["violin"].generation.features == 1


@pytest.mark.parametrize("shared", ["I'm sorry, no.", '{"answers": [', "{}"])
async def test_a_shared_answer_that_cannot_be_read_costs_one_call_and_nobody_their_answer(shared: str) -> None:
    world = World(model := Knowing(shared=shared), features_per_call=5)
    drafts = await shared_drafts(world)
    assert {name: draft.answer.pattern for name, draft in drafts.items()} == {name: f"Mentions of {name}." for name in NAMES}
    assert sorted(call.features for call in model.calls) == [1, 1, 1, 1, 4]


async def test_a_shared_call_that_fails_by_the_records_fault_leaves_each_to_itself() -> None:
    class Refusing(Knowing):
        async def complete(self, call: Call) -> Completion:
            if call.features > 1:
                raise ContextTooLong("too long")
            return await super().complete(call)

    drafts = await shared_drafts(World(Refusing(), features_per_call=5))
    assert {draft.generation.features for draft in drafts.values()} == {1}


async def test_a_cancelled_record_takes_none_of_those_it_shares_a_call_with_along() -> None:
    world = World(model := Knowing(), features_per_call=5)
    model.let.clear()
    tasks = [asyncio.create_task(world.explain_as_is(naming(name))) for name in NAMES]
    await model.asked.wait()
    for task in (tasks[0], tasks[2]):  # one of them leads the call
        task.cancel()
    model.let.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, ExplanationDrafted, asyncio.CancelledError, ExplanationDrafted]
    assert world.endpoints.all[0].in_flight == 0


async def test_a_record_alone_is_asked_as_without_sharing_and_so_is_what_a_person_watches() -> None:
    async def on_piece(attempt: int, text: str) -> None: ...

    world = World(model := Knowing(), features_per_call=5)
    assert (await world.explain_as_is(naming("dog"))).generation.features == 1
    await asyncio.gather(*(world.explainer.draft(naming(name), on_piece=on_piece) for name in NAMES[1:]))
    assert [call.features for call in model.calls] == [1, 1, 1, 1]


async def test_no_more_features_share_a_call_than_the_context_has_room_for() -> None:
    world = World(model := Knowing(), features_per_call=20)
    world.explainer = replace(world.explainer, llm=LlmSettings(context_tokens=512))
    await shared_drafts(world, (*NAMES, "piano", "bread"))
    assert max(call.features for call in model.calls) == 3


async def test_candidates_are_asked_for_with_seeds_of_their_own_and_all_that_are_usable_go_along() -> None:
    world = World(model := Model("Dogs are named.", "I'm sorry, no.", "I'm sorry, no.", "Puppies are named."), attempts=2)
    world.explainer = replace(world.explainer, generation=GenerationSettings(attempts=2, retry_wait_s=0, candidates=3))
    draft = await world.explain_as_is(requested())
    seeds = sorted(call.seed for call in model.calls)
    assert seeds[0] == 1
    assert {seed // 1000 for seed in seeds} == {0, 1, 2}
    assert min(model.calls, key=lambda call: call.seed).temperature == 0.0
    assert all(call.temperature > 0 for call in model.calls if call.seed > 1)
    assert draft.answer == draft.candidates[0].answer
    assert 2 <= len(draft.candidates) <= 3


async def test_a_jobs_own_number_of_candidates_counts_and_each_is_kept() -> None:
    world = World(model := Model("Dogs are named."))
    request = requested()
    request = request.model_copy(update={"request": request.request.model_copy(update={"candidates": 3})})
    assert len((await world.explain_as_is(request)).candidates) == 3
    assert len(model.calls) == 3
    again = await world.explain_as_is(request)
    assert len(model.calls) == 3
    assert all(candidate.generation.cached for candidate in again.candidates)
    assert (await world.explain_as_is(requested())).candidates == []
    assert len(model.calls) == 3


async def test_a_record_none_of_whose_candidates_is_usable_is_given_up() -> None:
    world = World(Model("I'm sorry, no."), attempts=1)
    world.explainer = replace(world.explainer, generation=GenerationSettings(attempts=1, candidates=2))
    await world.failing(requested())


async def test_candidates_share_calls_with_those_of_other_features() -> None:
    world = World(model := Knowing(), features_per_call=5)
    world.explainer = replace(world.explainer, generation=world.explainer.generation.model_copy(update={"candidates": 2}))
    drafts = await shared_drafts(world)
    assert [(call.features, call.seed) for call in sorted(model.calls, key=lambda call: call.seed)] == [(4, 1), (4, 1001)]
    assert all(len(draft.candidates) == 2 for draft in drafts.values())
