"""Which endpoint takes a call, and that an outage makes calls wait rather than fail."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from mistudio_explain.llm.breaker import LONGEST_PROBE_S
from mistudio_explain.llm.concurrency import AdaptiveLimit
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import BadRequest, CallFailure, EndpointUnreachable, ModelUnknown, Overloaded, RateLimited, ServerFailed
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from unit.llm.fake_llm import call


class Scripted:
    """A provider without a server; `failures` are raised by probes, `answers` by calls, one each until they run out."""

    def __init__(self, *models: str) -> None:
        self.listed = [ModelListed(model) for model in models]
        self.failures: list[CallFailure] = []
        self.answers: list[CallFailure] = []
        self.closed = False

    async def complete(self, call: Call) -> Completion:
        if self.answers:
            raise self.answers.pop(0)
        return Completion("Dogs.", "stop", 1, 1, 0.1, 0.1)

    async def models(self) -> list[ModelListed]:
        if self.failures:
            raise self.failures.pop(0)
        return self.listed

    async def close(self) -> None:
        self.closed = True


class Nap:
    """A sleep that a test ends."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._turn = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        turn = self._turn
        await turn.wait()

    async def over(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def endpoint(name: str, *models: str, slots: int = 1) -> Endpoint:
    made = Endpoint(name, "ollama", f"http://{name}", slots, Scripted(*models))
    made.models = tuple(ModelListed(model) for model in models)
    return made


def fleet(*endpoints: Endpoint, sleep: Any = asyncio.sleep, clock: Callable[[], float] = time.monotonic) -> Endpoints:
    return Endpoints(endpoints, rng=random.Random(1), sleep=sleep, clock=clock)


def script(endpoint: Endpoint) -> Scripted:
    assert isinstance(endpoint.provider, Scripted)
    return endpoint.provider


async def chosen(endpoints: Endpoints, *route: str, is_urgent: bool = False) -> Choice:
    async with endpoints.slot(route, is_urgent=is_urgent) as choice:
        return choice


async def test_the_first_model_of_the_route_that_somebody_has_is_taken() -> None:
    endpoints = fleet(endpoint("a", "small"), endpoint("b", "big", "small"))
    choice = await chosen(endpoints, "huge", "big", "small")
    assert (choice.endpoint.name, choice.model.name) == ("b", "big")


async def test_a_name_without_a_tag_means_the_latest() -> None:
    assert (await chosen(fleet(endpoint("a", "x", "llama3:latest")), "llama3")).model.name == "llama3:latest"


async def test_an_empty_route_takes_any_model() -> None:
    assert (await chosen(fleet(endpoint("a", "m")))).model.name == "m"


async def test_a_route_that_nobody_has_is_served_by_a_substitute() -> None:
    assert (await chosen(fleet(endpoint("a", "m", "n")), "llama3.1:70b")).model.name == "m"


async def test_the_endpoint_with_more_free_slots_is_taken() -> None:
    endpoints = fleet(endpoint("a", "m", slots=2), endpoint("b", "m", slots=2))
    async with endpoints.slot(["m"]) as first, endpoints.slot(["m"]) as second:
        assert {first.endpoint.name, second.endpoint.name} == {"a", "b"}


async def test_never_more_calls_than_slots_are_in_flight() -> None:
    endpoints = fleet(endpoint("a", "m", slots=2), endpoint("b", "m", slots=3))
    most: dict[str, int] = {}

    async def one() -> None:
        async with endpoints.slot(["m"]) as choice:
            most[choice.endpoint.name] = max(most.get(choice.endpoint.name, 0), choice.endpoint.in_flight)
            await settled()

    async with asyncio.timeout(10):
        await asyncio.gather(*(one() for _ in range(40)))
    assert most == {"a": 2, "b": 3}
    assert [endpoint.in_flight for endpoint in endpoints.all] == [0, 0]


async def test_an_urgent_call_takes_the_next_free_slot_before_those_that_waited_longer() -> None:
    endpoints = fleet(endpoint("a", "m"))
    order: list[str] = []
    release = asyncio.Event()

    async def one(name: str, *, is_urgent: bool) -> None:
        async with endpoints.slot(["m"], is_urgent=is_urgent):
            order.append(name)
            await release.wait()
            await settled()

    tasks = [asyncio.create_task(one("first", is_urgent=False))]
    await settled()
    tasks += [asyncio.create_task(one(name, is_urgent=name == "urgent")) for name in ("second", "third", "urgent")]
    await settled()
    assert order == ["first"]
    release.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order == ["first", "urgent", "second", "third"]


async def test_an_urgent_call_that_gives_up_lets_the_others_go_on() -> None:
    endpoints = fleet(endpoint("a", "m"))
    async with endpoints.slot(["m"]):
        urgent = asyncio.create_task(chosen(endpoints, "m", is_urgent=True))
        await settled()
        other = asyncio.create_task(chosen(endpoints, "m"))
        await settled()
    urgent.cancel()
    async with asyncio.timeout(10):
        await other


async def test_an_urgent_call_that_waits_for_one_endpoint_does_not_block_another() -> None:
    endpoints = fleet(endpoint("a", "m"), endpoint("b", "n"))
    async with endpoints.slot(["m"]):
        urgent = asyncio.create_task(chosen(endpoints, "m", is_urgent=True))
        await settled()
        async with asyncio.timeout(10):
            await chosen(endpoints, "n")
        assert not urgent.done()
    await urgent


async def test_a_cancelled_wait_leaves_no_slot_taken() -> None:
    endpoints = fleet(endpoint("a", "m"))
    async with endpoints.slot(["m"]):
        waiting = asyncio.create_task(chosen(endpoints, "m"))
        await settled()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert endpoints.all[0].in_flight == 0
    assert endpoints.held == 0


async def test_a_call_is_held_while_the_only_endpoint_is_away_and_goes_on_when_it_is_back() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m"), sleep=nap)
    choice = await chosen(endpoints, "m")
    script(choice.endpoint).failures = [EndpointUnreachable("still away")] * 3
    assert await endpoints.blames_endpoint(choice, call(), EndpointUnreachable("gone"))
    waiting = asyncio.create_task(chosen(endpoints, "m"))
    for _ in range(3):
        await settled()
        assert not waiting.done()
        assert endpoints.held == 1
        assert "a" in endpoints.outages
        await nap.over()
    await nap.over()
    assert (await waiting).endpoint.name == "a"
    assert endpoints.outages == {}
    await endpoints.close()


async def test_probes_grow_further_apart_up_to_a_limit() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m"), sleep=nap)
    choice = await chosen(endpoints, "m")
    script(choice.endpoint).failures = [EndpointUnreachable("away")] * 20
    await endpoints.blames_endpoint(choice, call(), EndpointUnreachable("gone"))
    await settled()
    for _ in range(12):
        await nap.over()
    assert nap.asked[0] <= 0.5
    assert nap.asked[3] > nap.asked[0]
    assert LONGEST_PROBE_S / 2 <= nap.asked[-1] <= LONGEST_PROBE_S
    await endpoints.close()


async def test_a_rate_limit_rests_the_endpoint_for_as_long_as_it_asked() -> None:
    now = 100.0
    endpoints = fleet(endpoint("a", "m", slots=4), clock=lambda: now)
    choice = await chosen(endpoints, "m")
    assert await endpoints.blames_endpoint(choice, call(), RateLimited("slow down", 700.0))
    assert endpoints.outages == {"a": "rate limit: it takes no call for 600 s"}  # a server that asks for more is asked again all the same
    waiting = asyncio.create_task(chosen(endpoints, "m"))
    await settled()
    assert not waiting.done()
    now = 700.0
    next_one = asyncio.create_task(chosen(endpoints, "m"))  # whoever comes lets those that wait look again
    async with asyncio.timeout(10):
        await waiting
    assert not next_one.done()  # a pace is known from then on
    next_one.cancel()
    assert endpoints.outages == {}
    await endpoints.close()


async def test_an_endpoint_without_fixed_slots_gets_fewer_when_it_is_overloaded_and_stays_in_use() -> None:
    busy = endpoint("a", "m", slots=8)
    busy.limit = AdaptiveLimit(32, 8)
    endpoints = fleet(busy, sleep=Nap())
    async with endpoints.slot(["m"]) as choice, endpoints.slot(["m"]):
        assert await endpoints.blames_endpoint(choice, call(), Overloaded("too many"))
        assert (busy.slots, endpoints.outages) == (1, {})
    async with endpoints.slot(["m"]) as choice:
        assert await endpoints.blames_endpoint(choice, call(), Overloaded("loading"))
    assert endpoints.outages == {"a": "overload: loading"}  # with one call it is not the calls
    await endpoints.close()


async def test_an_endpoint_that_is_back_gets_one_call_until_one_was_answered() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m", slots=3), sleep=nap)
    await endpoints.blames_endpoint(await chosen(endpoints, "m"), call(), EndpointUnreachable("gone"))
    assert endpoints.all[0].breaker == "open"
    await settled()
    await nap.over()
    async with endpoints.slot(["m"]) as first:
        second, third = (asyncio.create_task(chosen(endpoints, "m")) for _ in range(2))
        await settled()
        assert first.endpoint.breaker == "half-open"
        assert not second.done()
        assert not third.done()
        await endpoints.complete(first, call())
        assert first.endpoint.breaker == "closed"
        async with asyncio.timeout(10):
            await asyncio.gather(second, third)
    await endpoints.close()


async def test_a_trial_that_fails_opens_the_breaker_again_for_longer() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m"), sleep=nap)
    for _ in range(3):
        choice = await chosen(endpoints, "m")
        script(choice.endpoint).answers = [ServerFailed("no")]  # the probe lists models, but no call is answered
        assert await endpoints.blames_endpoint(choice, call(), ServerFailed("no"))
        await settled()
        await nap.over()
    assert nap.asked[0] < nap.asked[2]
    assert endpoints.all[0].breaker == "half-open"
    await endpoints.close()


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_trial_that_says_nothing_of_the_endpoint_lets_another_call_try(ends_well: bool) -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m"), sleep=nap)
    await endpoints.blames_endpoint(await chosen(endpoints, "m"), call(), EndpointUnreachable("gone"))
    await settled()
    await nap.over()
    choice = await chosen(endpoints, "m")  # as if it had been cancelled
    if ends_well:
        assert not await endpoints.blames_endpoint(choice, call(), BadRequest("no"))
    assert (await chosen(endpoints, "m")).endpoint.breaker == ("closed" if ends_well else "half-open")
    await endpoints.close()


async def test_a_call_waits_for_the_endpoint_that_has_its_model_rather_than_take_a_substitute() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "big"), endpoint("b", "small"), sleep=nap)
    await endpoints.blames_endpoint(await chosen(endpoints, "big"), call(), Overloaded("busy"))
    waiting = asyncio.create_task(chosen(endpoints, "big"))
    await settled()
    assert not waiting.done()
    assert (await chosen(endpoints, "big", "small")).endpoint.name == "b"  # a route that allows it goes on
    await nap.over()
    assert (await waiting).endpoint.name == "a"
    await endpoints.close()


@pytest.mark.parametrize("listed", ["big", "other"])
async def test_a_call_waits_for_an_endpoint_that_was_never_seen_and_may_have_its_model(listed: str) -> None:
    nap = Nap()
    unseen = Endpoint("a", "ollama", "http://a", 1, Scripted(listed), is_known=False)
    endpoints = fleet(unseen, endpoint("b", "small"), sleep=nap)
    await endpoints.blames_endpoint(Choice(unseen, ModelListed("big")), call(), EndpointUnreachable("not there yet"))
    waiting = asyncio.create_task(chosen(endpoints, "big"))
    assert (await chosen(endpoints, "small")).endpoint.name == "b"
    await settled()
    assert not waiting.done()
    assert endpoints.preferred(["big"]) is None
    await nap.over()
    assert (await waiting).model.name == listed
    await endpoints.close()


async def test_it_is_said_which_endpoints_are_away_only_when_none_serves() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "m"), endpoint("b", "m"), sleep=nap)
    first = await chosen(endpoints, "m")
    with capture_logs() as said:
        await endpoints.blames_endpoint(first, call(), EndpointUnreachable("gone"))
        await endpoints.blames_endpoint(first, call(), EndpointUnreachable("gone"))  # a second call that was in flight
        assert endpoints.unready_because() is None
        await endpoints.blames_endpoint(await chosen(endpoints, "m"), call(), Overloaded("busy"))
        assert endpoints.unready_because() == "no LLM endpoint serves: a (http://a), unreachable: gone; b (http://b), overload: busy"
        await settled()
        await nap.over()
    assert endpoints.unready_because() is None
    assert [(each["event"], each["endpoint"]) for each in said] == [("llm.away", "a"), ("llm.away", "b"), ("llm.serves", "a"), ("llm.serves", "b")]
    await endpoints.close()


async def test_a_server_error_is_the_records_fault_when_the_endpoint_answers_a_small_call() -> None:
    endpoints = fleet(endpoint("a", "m"))
    choice = await chosen(endpoints, "m")
    assert not await endpoints.blames_endpoint(choice, call(), ServerFailed("no"))
    assert endpoints.outages == {}


@pytest.mark.parametrize("broken", ["failures", "answers"])
async def test_a_server_error_is_the_endpoints_fault_when_it_cannot_answer_a_small_call(broken: str) -> None:
    endpoints = fleet(endpoint("a", "m"), sleep=Nap())
    choice = await chosen(endpoints, "m")
    setattr(script(choice.endpoint), broken, [ServerFailed("out of memory")])
    assert await endpoints.blames_endpoint(choice, call(), ServerFailed("no"))
    assert endpoints.outages == {"a": "server error: out of memory"}
    await endpoints.close()


async def test_a_bad_request_is_never_the_endpoints_fault() -> None:
    endpoints = fleet(endpoint("a", "m"))
    assert not await endpoints.blames_endpoint(await chosen(endpoints, "m"), call(), BadRequest("no"))


async def test_a_model_that_is_listed_but_not_known_is_not_asked_for_again() -> None:
    nap = Nap()
    endpoints = fleet(endpoint("a", "ghost", "m"), sleep=nap)
    assert await endpoints.blames_endpoint(await chosen(endpoints, "ghost"), call(), ModelUnknown("no such model"))
    assert endpoints.outages == {"a": "model unknown: no such model; the endpoint has m"}
    await settled()
    await nap.over()
    assert (await chosen(endpoints, "ghost")).model.name == "m"
    await endpoints.close()


async def test_closing_closes_every_provider_and_stops_probing() -> None:
    endpoints = fleet(endpoint("a", "m"), endpoint("b", "m"), sleep=Nap())
    await endpoints.blames_endpoint(await chosen(endpoints, "m"), call(), Overloaded("busy"))
    await endpoints.close()
    assert all(script(one).closed for one in endpoints.all)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]


async def test_tokens_of_every_answer_and_the_time_to_its_first_are_counted() -> None:
    endpoints = fleet(endpoint("counted", "counted-model"))
    choice = await chosen(endpoints, "counted-model")
    labels = {"endpoint": "counted", "model_name": "counted-model"}
    await endpoints.complete(choice, call())
    assert REGISTRY.get_sample_value("mistudio_explain_first_token_seconds_sum", labels) == 0.1
    for direction in ("in", "out"):
        assert REGISTRY.get_sample_value("mistudio_explain_tokens_total", {"model_name": "counted-model", "direction": direction}) == 1


async def test_an_endpoint_that_joins_serves_the_calls_that_waited() -> None:
    endpoints = fleet()
    assert (endpoints.slots, endpoints.is_demonstration) == (0, False)
    assert endpoints.unready_because() == "no LLM endpoint is known"
    waiting = asyncio.create_task(chosen(endpoints, "m"))
    await settled()
    assert endpoints.held == 1
    endpoints.join(endpoint("a", "m", slots=3))
    async with asyncio.timeout(10):
        assert (await waiting).endpoint.name == "a"
    assert (endpoints.slots, endpoints.unready_because()) == (3, None)


async def test_a_name_that_is_in_use_cannot_join() -> None:
    endpoints = fleet(endpoint("a", "m"))
    with pytest.raises(ValueError, match="'a' is in use"):
        endpoints.join(endpoint("a", "m"))


async def test_an_endpoint_that_leaves_gets_no_call_and_is_closed_when_its_last_one_is_over() -> None:
    endpoints = fleet(endpoint("a", "m", slots=2), endpoint("b", "m", slots=1))
    async with endpoints.slot(["m"]) as running:
        leaving = asyncio.create_task(endpoints.leave("a"))
        await settled()
        assert (running.endpoint.name, endpoints.slots) == ("a", 1)
        async with endpoints.slot(["m"]) as other:
            assert other.endpoint.name == "b"
        assert not leaving.done()
        assert not script(running.endpoint).closed
    async with asyncio.timeout(10):
        await leaving
    assert script(running.endpoint).closed
    with pytest.raises(KeyError):
        await endpoints.leave("a")


async def test_calls_that_wait_for_an_endpoint_that_leaves_look_again() -> None:
    endpoints = fleet(endpoint("a", "big"), endpoint("b", "small"), sleep=Nap())
    await endpoints.blames_endpoint(await chosen(endpoints, "big"), call(), Overloaded("busy"))
    waiting = asyncio.create_task(chosen(endpoints, "big"))
    await settled()
    await endpoints.leave("a")
    async with asyncio.timeout(10):
        assert (await waiting).model.name == "small"
    await settled()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]


async def test_a_failure_at_an_endpoint_that_left_starts_no_probe() -> None:
    endpoints = fleet(endpoint("a", "m"), sleep=Nap())
    async with endpoints.slot(["m"]) as choice:
        leaving = asyncio.create_task(endpoints.leave("a"))
        await settled()
        assert await endpoints.blames_endpoint(choice, call(), EndpointUnreachable("gone"))
    await leaving
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe")]


async def test_an_endpoint_may_come_back_under_its_name_while_its_old_self_still_works() -> None:
    endpoints = fleet(endpoint("a", "m"))
    async with endpoints.slot(["m"]):
        leaving = asyncio.create_task(endpoints.leave("a"))
        await settled()
        endpoints.join(endpoint("a", "m"))
        assert (await chosen(endpoints, "m")).endpoint is endpoints.all[0]
    await leaving
    assert not script(endpoints.all[0]).closed
    await endpoints.close()


async def test_calls_that_wait_for_a_switch_of_models_take_no_place_from_others() -> None:
    small = endpoint("a", "big", "small", slots=1)
    small.residency.memory, small.residency.pinned = 10, frozenset()
    endpoints = fleet(small)
    async with endpoints.slot(["big"]):
        assert endpoints.places == 1
        waiting = [asyncio.create_task(chosen(endpoints, "small")) for _ in range(20)]
        await settled()
        assert endpoints.places == 1 + 16  # no more, however many wait
        assert endpoints.held == 0
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert (endpoints.places, small.residency.switches) == (1, 1)


async def test_what_the_server_says_of_its_memory_corrects_what_is_taken_for_loaded() -> None:
    class Telling(Scripted):
        async def loaded(self) -> dict[str, int]:
            return {"m": 7, "other": 2}

        async def need(self, model: ModelListed, tokens: int) -> None:
            return None

        async def unload(self, model: str) -> None:
            pass

    told = Endpoint("a", "ollama", "", 1, Telling("m", "n"))
    told.residency.memory = 10
    endpoints = fleet(told)
    await told.refresh()
    assert list(told.residency.resident) == ["m", "other"]
    assert (told.memory_of("m"), told.memory_of("n")) == (7, None)
    async with endpoints.slot(["n"]) as choice:  # of unknown size, it takes all there is
        assert list(told.residency.resident) == ["n"]
        await endpoints.complete(choice, call())
    assert "m" in told.residency.resident
    await endpoints.close()


async def test_a_call_that_is_cancelled_at_the_moment_that_a_slot_falls_free_keeps_neither_the_slot_nor_its_last_holder() -> None:
    one = fleet(endpoint("e", "m"))
    release = asyncio.Event()

    async def holds() -> str:
        async with one.slot(["m"]):
            await release.wait()
        return "held"

    async def waits() -> None:
        async with one.slot(["m"]):
            raise AssertionError("it was cancelled before")

    holder = asyncio.create_task(holds())
    await settled()
    waiter = asyncio.create_task(waits())
    await settled()
    release.set()
    waiter.cancel()  # the holder runs before it
    assert await holder == "held"
    with pytest.raises(asyncio.CancelledError):
        await waiter
    async with asyncio.timeout(5), one.slot(["m"]):
        pass
    assert one.all[0].in_flight == 0


async def test_a_call_refused_for_itself_tells_that_the_endpoint_takes_calls_again() -> None:
    endpoints = fleet(endpoint("a", "m"))
    choice = await chosen(endpoints, "m")
    pace = choice.endpoint.pace
    pace.rate = 8.0
    for minute in range(1, 5):
        pace.refused(60.0 * minute, 60.0 * minute)
    assert pace.rate < 2.0
    assert not await endpoints.blames_endpoint(choice, call(), BadRequest("no"))
    assert pace.rate == 4.0
    await endpoints.close()
