"""One record's way through generation: tries, holding, keeping answers."""

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from mistudio_explain.events.explanation import Evidence, ExplanationDrafted, ExplanationRequested, Message
from mistudio_explain.events.feature import Activation
from mistudio_explain.generation.explainer import Explainer, GivenUp
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.asking import MAX_DROPS
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
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
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.settings import GenerationSettings, LlmSettings
from unit.generation.asking import requested

Said = str | Exception | Completion


class Model:
    """A provider that says its lines in order, then the last one for ever; a canary call is answered from `canary`."""

    def __init__(self, *lines: Said, canary: Callable[[], Said] = lambda: "yes") -> None:
        self.lines = list(lines)
        self.canary = canary
        self.calls: list[Call] = []

    async def complete(self, call: Call) -> Completion:
        if call.messages[0].content == "Say yes.":
            said = self.canary()
        else:
            self.calls.append(call)
            said = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Completion):
            return said
        return Completion(said, "stop", 10, 5, 1.5, 0.5)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("m", "d1")]

    async def close(self) -> None: ...


class World:
    """An explainer with one scripted model; no time passes in its sleeps, which are noted."""

    def __init__(self, model: Model, *, attempts: int = 3, features_per_call: int = 1) -> None:
        self.model = model
        self.waits: list[float] = []
        self.answers = MemoryAnswers()
        self.rng = random.Random(7)
        self.endpoints = Endpoints([Endpoint("e", "ollama", "http://e", 2, model, models=(ModelListed("m", "d1"),))], rng=self.rng, sleep=self._sleep)
        settings = GenerationSettings(attempts=attempts, retry_wait_s=2.0, features_per_call=features_per_call)
        self.explainer = Explainer(self.endpoints, self.answers, LlmSettings(), settings, self.rng, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def explain(self, request: ExplanationRequested, **llm: float) -> ExplanationDrafted:
        return await replace(self.explainer, llm=LlmSettings(**llm)).draft(request)

    async def explain_as_is(self, request: ExplanationRequested) -> ExplanationDrafted:
        return await self.explainer.draft(request)

    async def failing(self, request: ExplanationRequested) -> GivenUp:
        with pytest.raises(GivenUp) as caught:
            await self.explainer.draft(request)
        return caught.value


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


class Paused(Model):
    """Answers only when it is let to; counts the calls that wait."""

    def __init__(self, *lines: Said) -> None:
        super().__init__(*lines)
        self.let = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, call: Call) -> Completion:
        self.asked.set()
        await self.let.wait()
        return await super().complete(call)


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


class Speaking(Model):
    """Gives its answers word by word."""

    async def complete(self, call: Call) -> Completion:
        completion = await super().complete(call)
        if call.on_text is not None:
            for number, word in enumerate(completion.text.split()):
                await call.on_text(f" {word}" if number else word)
        return completion


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


async def test_what_a_person_waits_for_is_not_redelivered_after_minutes() -> None:
    request = requested()
    asked = request.model_copy(update={"request": request.request.model_copy(update={"priority": "interactive"})})
    world = World(Model("I'm sorry, no."))
    assert (await world.failing(request)).repeatable
    assert not (await world.failing(asked)).repeatable
