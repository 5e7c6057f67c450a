"""One record's way through generation: tries, holding, keeping answers."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from mistudio_explain.generation.explainer import GivenUp
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.asking import MAX_DROPS
from mistudio_explain.llm.failures import (
    AccessDenied,
    BadRequest,
    ConnectionDropped,
    ContextTooLong,
    EndpointUnreachable,
    Overloaded,
    RateLimited,
    ServerFailed,
)
from unit.generation.asking import requested
from unit.generation.scripted import Model, Paused, Speaking, World


async def test_an_answer_becomes_a_draft_with_all_that_the_request_brought() -> None:
    request = requested(prefill="These texts all")
    draft = await World(Model(" mention dogs.")).explain(request)
    assert draft.answer.pattern == "These texts all mention dogs."
    assert (draft.subject, draft.evidence, draft.prompt, draft.caveats) == (request.subject, request.evidence, request.prompt, request.caveats)
    assert draft.flags == ["poor_coherence"]
    made = draft.generation
    assert (made.model, made.model_digest, made.endpoint, made.provider, made.tokens_in, made.tokens_out) == ("m", "d1", "e", "ollama", 10, 5)
    assert (made.latency_s, made.cached, made.attempt, made.cost_usd) == (1.5, False, 0, None)


async def test_an_unusable_answer_is_asked_for_again_with_another_sampling() -> None:
    world = World(Model("I'm sorry, no.", "Dogs are named."))
    draft = await world.explain(requested())
    assert draft.answer.pattern == "Dogs are named."
    assert draft.generation.attempt == 1
    assert "resampled" in draft.flags
    first, second = world.model.calls
    assert (first.temperature, first.seed) == (0.0, 1)
    assert (second.temperature, second.seed) == (0.6, 2)
    assert first.context_tokens == second.context_tokens


async def test_a_record_is_given_up_after_its_tries_and_each_is_named() -> None:
    world = World(Model("no end", ServerFailed("boom"), "I'm sorry, no."))
    with pytest.raises(GivenUp) as caught:
        await world.explain(requested())
    assert [failed.kind for failed in caught.value.tries] == ["malformed", "server error", "refusal"]
    for part in ("feature 5 of explain_1", "3 tries", "m at e", "boom", "declined"):
        assert part in str(caught.value)
    assert len(world.model.calls) == 3


async def test_waits_between_tries_double_with_full_jitter() -> None:
    waits = []
    for seed in range(200):
        world = World(Model("no end"))
        world.rng.seed(seed)
        with pytest.raises(GivenUp):
            await world.explain(requested())
        waits.append(world.waits)
    assert all(0 <= first <= 2 and 0 <= second <= 4 for first, second in waits)
    assert max(second for _, second in waits) > 3
    assert min(first for first, _ in waits) < 0.2


@pytest.mark.parametrize("failure", [BadRequest("no"), ContextTooLong("too long")])
async def test_what_cannot_succeed_is_not_tried_again(failure: Exception) -> None:
    world = World(Model(failure))
    with pytest.raises(GivenUp, match="in 1 try"):
        await world.explain(requested())
    assert len(world.model.calls) == 1


@pytest.mark.parametrize("outage", [EndpointUnreachable("away"), Overloaded("loading", 3.0), AccessDenied("key withdrawn")])
async def test_an_outage_of_any_length_counts_no_try(outage: Exception) -> None:
    world = World(Model(*[outage] * 50, "Dogs are named."), attempts=1)
    draft = await world.explain(requested())
    assert draft.generation.attempt == 0
    assert len(world.model.calls) == 51
    await world.endpoints.close()


async def test_a_rate_limit_counts_no_try() -> None:
    world = World(Model(RateLimited("slow down"), RateLimited("slow down", 0.1), "Dogs are named."), attempts=1)
    draft = await world.explain(requested())
    assert draft.generation.attempt == 0
    assert len(world.model.calls) == 3


async def test_a_sick_server_that_lists_its_models_counts_no_try_either() -> None:
    sick = [True]
    model = Model(*[ServerFailed("out of memory")] * 20, "Dogs are named.", canary=lambda: ServerFailed("out of memory") if sick[0] else "yes")
    world = World(model, attempts=1)
    draft = await world.explain(requested())
    assert draft.generation.attempt == 0
    await world.endpoints.close()


async def test_a_record_under_which_the_server_goes_down_every_time_is_given_up() -> None:
    model = Model(ConnectionDropped("broke"), canary=lambda: EndpointUnreachable("down"))
    with pytest.raises(GivenUp, match="connection dropped"):
        async with asyncio.timeout(10):
            await World(model).explain(requested())
    assert len(model.calls) == MAX_DROPS + 3


async def test_a_held_record_can_be_cancelled() -> None:
    world = World(Model(EndpointUnreachable("away")))
    world.endpoints.all[0].down = "away"
    held = asyncio.create_task(world.explain(requested()))
    await asyncio.sleep(0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert world.endpoints.held == 0


async def test_the_same_prompt_is_asked_once() -> None:
    world = World(Model("Dogs are named."))
    first = await world.explain(requested(feature="5"))
    second = await world.explain(requested(feature="6"))
    assert len(world.model.calls) == 1
    assert second.subject.feature_id == "6"
    assert second.answer == first.answer
    assert second.generation == first.generation.model_copy(update={"cached": True})


async def test_a_resampled_answer_is_found_again_and_still_says_so() -> None:
    world = World(Model("I'm sorry, no.", "Dogs are named."))
    await world.explain(requested())
    again = await world.explain(requested())
    assert len(world.model.calls) == 2
    assert "resampled" in again.flags


async def test_other_parameters_are_another_question() -> None:
    world = World(Model("Dogs are named."))
    await world.explain(requested())
    await world.explain(requested(), temperature=0.5)
    assert len(world.model.calls) == 2


async def test_an_unusable_answer_is_never_kept() -> None:
    world = World(Model("no end"), attempts=1)
    for _ in range(2):
        with pytest.raises(GivenUp):
            await world.explain(requested())
    assert len(world.model.calls) == 2


async def test_a_kept_answer_needs_no_endpoint() -> None:
    world = World(Model("Dogs are named."))
    await world.explain(requested())
    world.endpoints.all[0].down = "away"
    assert (await world.explain(requested())).generation.cached


async def test_a_route_that_nobody_has_is_flagged_with_its_substitute() -> None:
    draft = await World(Model("Dogs are named.")).explain(requested(route=("llama3.1:70b",)))
    assert "substitute:m" in draft.flags


async def test_the_cache_forgets_what_was_unused_for_longest() -> None:
    world = World(Model("Dogs are named."))
    kept = (await world.explain(requested())).generation
    answers = MemoryAnswers(capacity=2)
    from mistudio_explain.llm.answers_cache import KeptAnswer

    for key in ("a", "b"):
        await answers.put(key, KeptAnswer(text=key, generation=kept), prompt_sha256="", job="")
    await answers.get("a")
    await answers.put("c", KeptAnswer(text="c", generation=kept), prompt_sha256="", job="")
    assert [await answers.get(key) is not None for key in ("a", "b", "c")] == [True, False, True]


async def test_every_failed_call_is_counted_by_its_kind() -> None:
    def counted(kind: str) -> float:
        return REGISTRY.get_sample_value("mistudio_explain_failed_calls_total", {"endpoint": "e", "model_name": "m", "kind": kind}) or 0

    kinds = ("refusal", "rate limit", "server error")
    before = [counted(kind) for kind in kinds]
    world = World(Model("I'm sorry, no.", RateLimited("slow down", 3.0), ServerFailed("boom"), "Dogs are named."))
    await world.explain(requested())
    assert [counted(kind) - earlier for kind, earlier in zip(kinds, before, strict=True)] == [1, 1, 1]
    await world.endpoints.close()


async def test_two_requests_with_one_prompt_that_are_in_flight_together_cost_one_call() -> None:
    world = World(model := Paused("Dogs are named."))
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(world.explain_as_is(requested(feature="5")))
        second = tasks.create_task(world.explain_as_is(requested(feature="6")))
        await model.asked.wait()
        model.let.set()
    assert len(model.calls) == 1
    drafts = {task.result().subject.feature_id: task.result() for task in (first, second)}
    assert drafts["5"].answer == drafts["6"].answer
    assert [drafts[key].generation.cached for key in "56"] == [False, True]


async def test_a_failure_is_not_shared_the_other_request_asks_for_itself() -> None:
    world = World(model := Paused(BadRequest("no"), "Dogs are named."))
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(world.failing(requested(feature="5")))
        second = tasks.create_task(world.explain_as_is(requested(feature="6")))
        await model.asked.wait()
        model.let.set()
    assert isinstance(first.result(), GivenUp)
    assert second.result().answer.pattern == "Dogs are named."
    assert not second.result().generation.cached
    assert len(model.calls) == 2


async def test_a_request_goes_on_alone_when_the_one_it_waited_for_is_cancelled() -> None:
    world = World(model := Paused("Dogs are named."))
    first = asyncio.create_task(world.explain_as_is(requested(feature="5")))
    await model.asked.wait()
    second = asyncio.create_task(world.explain_as_is(requested(feature="6")))
    await asyncio.sleep(0)
    first.cancel()
    model.let.set()
    assert (await second).subject.feature_id == "6"
    assert not second.result().generation.cached


async def test_a_waiting_request_can_be_cancelled_without_harm_to_the_one_that_asks() -> None:
    world = World(model := Paused("Dogs are named."))
    first = asyncio.create_task(world.explain_as_is(requested(feature="5")))
    await model.asked.wait()
    second = asyncio.create_task(world.explain_as_is(requested(feature="6")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    model.let.set()
    assert (await first).answer.pattern == "Dogs are named."


async def test_an_urgent_request_does_not_wait_behind_one_that_is_not() -> None:
    world = World(model := Paused("Dogs are named."))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.explain_as_is(requested(feature="5")))
        await model.asked.wait()
        tasks.create_task(world.explainer.draft(requested(feature="6"), is_urgent=True))
        model.let.set()
    assert len(model.calls) == 2


async def test_pieces_come_with_the_number_of_their_try_and_a_kept_answer_is_one_piece() -> None:
    heard: list[tuple[int, str]] = []

    async def on_piece(attempt: int, text: str) -> None:
        heard.append((attempt, text))

    world = World(Speaking("no end", "Dogs are named."))
    await world.explainer.draft(requested(), on_piece=on_piece)
    assert heard == [(0, "no"), (0, " end"), (1, "Dogs"), (1, " are"), (1, " named.")]
    heard.clear()
    await world.explainer.draft(requested(), on_piece=on_piece)
    assert heard == [(0, "Dogs are named.")]
    heard.clear()
    redelivered = requested(prefill="They").model_copy(update={"attempt": 2})
    await world.explainer.draft(redelivered, on_piece=on_piece)
    assert {attempt for attempt, _ in heard} == {6}


async def test_what_a_person_waits_for_is_not_redelivered_after_minutes() -> None:
    request = requested()
    asked = request.model_copy(update={"request": request.request.model_copy(update={"priority": "interactive"})})
    world = World(Model("I'm sorry, no."))
    assert (await world.failing(request)).repeatable
    assert not (await world.failing(asked)).repeatable
