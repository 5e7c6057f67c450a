"""Prices, reach, and what follows of them: nothing is sent to a cloud without a price, a reservation and a word."""

import random
from datetime import date
from pathlib import Path

import pytest

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Message, Subject
from mistudio_explain.generation.budget import Budget, OverBudget
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import RateLimited, TimedOut
from mistudio_explain.llm.opening import opened
from mistudio_explain.llm.pricing import cost_micro, listed_prices, most_of, price_of
from mistudio_explain.llm.provider import Call, Completion, ModelListed, Patience
from mistudio_explain.llm.reach import reach_of
from mistudio_explain.settings import EndpointSettings, LlmSettings, PriceSettings, StoreSettings
from mistudio_explain.store.ledger import Caps, Ledger

PRICE = PriceSettings(model="m*", input=2.0, output=8.0, cached=0.5, as_of=date(2026, 1, 1), source="a test")
CALL = Call((Message(role="user", content="What is it?"),), "fields", "m", 0.0, 1, 300, 4096, Patience(1, 1, 1))
SUBJECT = Subject(explain_job_id="job", feature_key="5", find_job_id="find", target_model="t", feature_id="5")


@pytest.mark.parametrize(
    ("provider", "url", "cloud", "reach"),
    [
        ("ollama", "http://127.0.0.1:11434", None, "machine"),
        ("ollama", "http://localhost:11434", None, "machine"),
        ("openai", "http://10.1.2.3:8000/v1", None, "network"),
        ("ollama", "http://ollama:11434", None, "network"),
        ("ollama", "http://ollama.mistudio-services.svc.cluster.local:11434", None, "network"),
        ("openai", "https://api.openai.com/v1", None, "cloud"),
        ("openai", "https://8.8.8.8/v1", None, "cloud"),
        ("openai", "https://llm.example.org/v1", False, "network"),
        ("openai", "http://127.0.0.1:8000/v1", True, "cloud"),
        ("anthropic", None, None, "cloud"),
        ("anthropic", "http://127.0.0.1:1", None, "cloud"),
        ("anthropic", "http://127.0.0.1:1", False, "machine"),
        ("demonstration", None, None, "machine"),
    ],
)
def test_an_address_that_is_neither_this_machines_nor_private_is_a_cloud_unless_the_settings_say_otherwise(
    provider: str, url: str | None, cloud: bool | None, reach: str
) -> None:
    assert reach_of(EndpointSettings.model_validate({"name": "e", "provider": provider, "url": url, "cloud": cloud})) == reach


def test_every_listed_price_is_dated_and_sourced_and_the_settings_come_first() -> None:
    assert all(price.source not in ("", "settings") and price.as_of.year >= 2026 for price in listed_prices())
    assert price_of("gpt-4.1", ()) is not None
    assert price_of("gpt-4.1-nonsense", ()) is None
    assert price_of("a model of tomorrow", ()) is None
    own = PriceSettings(model="gpt-4.1", input=1.0, output=1.0, as_of=date(2026, 2, 1))
    assert price_of("gpt-4.1", (own,)) == own


def test_cached_tokens_cost_their_own_price_and_no_call_costs_more_than_its_maximum() -> None:
    assert cost_micro(PRICE, 1000, 100, 400) == 600 * 2 + 400 * 0.5 + 100 * 8
    assert cost_micro(PRICE.model_copy(update={"cached": None}), 1000, 100, 400) == 1000 * 2 + 100 * 8
    assert most_of(CALL, PRICE) >= cost_micro(PRICE, len("What is it?"), 300)


class Cloud:
    """A provider that counts its calls, and answers or fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.calls = 0

    async def complete(self, call: Call) -> Completion:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return Completion("{}", "stop", 100, 50, 0.1, 0.1)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("m")]

    async def close(self) -> None:
        return None


def endpoint(name: str, provider: Cloud, reach: str) -> Endpoint:
    return Endpoint(name, "openai", f"http://{name}", 1, provider, models=(ModelListed("m"),), reach=reach)


async def test_a_call_that_may_not_leave_never_goes_to_a_cloud_not_even_in_place_of_another() -> None:
    own, away = endpoint("own", Cloud(), "machine"), endpoint("away", Cloud(), "cloud")
    own.models = (ModelListed("small"),)
    endpoints = Endpoints([away, own], rng=random.Random(0))
    for route in (["m"], [], ["unknown"]):
        async with endpoints.slot(route) as choice:
            assert choice.endpoint is own
    async with endpoints.slot(["unknown"], cloud=True) as choice:
        assert choice.endpoint is own
    async with endpoints.slot(["m"], cloud=True) as choice:
        assert choice.endpoint is away
    assert endpoints.preferred(["m"]).endpoint is own
    await endpoints.close()


async def test_a_cloud_is_not_probed_with_a_call() -> None:
    provider = Cloud()
    away = endpoint("away", provider, "cloud")
    endpoints = Endpoints([away], rng=random.Random(0))
    assert not await endpoints.blames_endpoint(Choice(away, away.models[0]), CALL, TimedOut("late"))
    assert provider.calls == 0


async def budget_of(provider: Cloud, tmp_path: Path, *, prices: tuple[PriceSettings, ...] = (PRICE,), calls: int = 2) -> tuple[Budget, Choice]:
    away = endpoint("away", provider, "cloud")
    endpoints = Endpoints([away], rng=random.Random(0))
    ledger = Ledger(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    await ledger.reserve("job", "5", revision=1, call_micro=most_of(CALL, PRICE), calls=calls, caps=Caps(1, 10**9))
    return Budget(ledger, endpoints, prices), Choice(away, away.models[0])


async def test_calls_stop_at_the_reservation_and_what_they_cost_is_in_the_ledger(tmp_path: Path) -> None:
    provider = Cloud(TimedOut("late"))
    budget, choice = await budget_of(provider, tmp_path)
    for _ in range(2):
        with pytest.raises(TimedOut):
            await budget.complete(SUBJECT, choice, CALL)
    with pytest.raises(OverBudget, match=r"does not cover another call of m, which can cost \$\d\.\d+ \(price of 20\d\d-\d\d-\d\d\)"):
        await budget.complete(SUBJECT, choice, CALL)
    assert provider.calls == 2
    await budget.settle(SUBJECT)
    assert budget.ledger.counted("job") == {"5": 2 * most_of(CALL, PRICE)}  # nobody knows what a call that timed out was charged


async def test_a_call_that_is_refused_before_it_is_read_costs_nothing(tmp_path: Path) -> None:
    provider = Cloud(RateLimited("later"))
    budget, choice = await budget_of(provider, tmp_path, calls=1)
    for _ in range(3):
        with pytest.raises(RateLimited):
            await budget.complete(SUBJECT, choice, CALL)
    provider.failure = None
    completion = await budget.complete(SUBJECT, choice, CALL)
    await budget.settle(SUBJECT)
    assert budget.ledger.counted("job") == {"5": 100 * 2 + 50 * 8}
    assert budget.cost_usd(choice, CALL, completion) == 600 / 1e6


async def test_a_model_without_a_price_is_not_called(tmp_path: Path) -> None:
    provider = Cloud()
    budget, choice = await budget_of(provider, tmp_path, prices=())
    with pytest.raises(OverBudget, match="price of m is not known"):
        await budget.complete(SUBJECT, choice, CALL)
    assert provider.calls == 0


async def test_a_cloud_endpoint_without_a_key_ends_the_start_and_says_what_to_do() -> None:
    settings = LlmSettings(endpoints=(EndpointSettings(name="away", provider="openai", url="https://llm.example.org/v1", models=("m",)),))
    with pytest.raises(BadSettings, match=r"no API key .*which is in a cloud"):
        await opened(settings)
