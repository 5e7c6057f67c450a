"""The explorer while things move: a real browser, the real gateway beside its services, on the embedded broker."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from integration.aggregating import admitted, explained, requested, sealed
from integration.explorer_world import browser
from integration.live_gateway import LiveGateway, live_gateway
from integration.slow_llm import ANSWER, SlowLlm
from mistudio_explain.settings import EndpointSettings

FEATURE = {"feature_id": 5, "coherence_score": 0.7, "top_activations": [{"text": f"a fixed thing {n}", "activation_strength": 9.0 - n} for n in range(3)]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    with SlowLlm(0.2) as model:
        endpoint = EndpointSettings(name="fake", provider="openai", url=model.url, models=("fake",), slots=1)
        services = ("aggregator", "context", "generation", "validation")
        with live_gateway(tmp_path_factory.mktemp("explorer"), *services, llm={"endpoints": [endpoint.model_dump()]}) as made:
            yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context.new_page()


def opened(page: Page, gateway: LiveGateway, place: str) -> Page:
    page.goto(f"{gateway.url}/explorer/{place}")
    page.wait_for_selector("h1")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    return page


def test_a_running_job_moves_by_itself_and_offers_its_new_outcomes(gateway: LiveGateway, page: Page) -> None:
    job = "explain_moving"
    gateway.write(requested(job, "find_moving", expected=3), admitted(1, job, "find_moving"), explained(1, job, find_job="find_moving"))
    gateway.until(lambda: [line["explained"] for line in gateway.get("/jobs")["jobs"] if line["explain_job_id"] == job] == [1])
    opened(page, gateway, f"#/jobs/{job}")
    expect(page.locator(".progress .far b")).to_have_text("1 of 3")
    gateway.write(
        *(admitted(feature, job, "find_moving") for feature in (2, 3)), *(explained(feature, job, find_job="find_moving") for feature in (2, 3)), sealed(3, job)
    )
    expect(page.locator(".progress .far b")).to_have_text("3 of 3", timeout=20_000)
    expect(page.locator(".progress .status")).to_have_text("completed", timeout=20_000)
    page.get_by_text("Show 2 new outcomes").click()
    expect(page.locator(".features li")).to_have_count(3)


def test_a_new_job_appears_in_the_list_by_itself(gateway: LiveGateway, page: Page) -> None:
    opened(page, gateway, "#/jobs")
    gateway.write(
        requested("explain_new", "find_new"), admitted(1, "explain_new", "find_new"), explained(1, "explain_new", find_job="find_new"), sealed(1, "explain_new")
    )
    expect(page.get_by_role("link", name="explain_new")).to_be_visible(timeout=20_000)


def test_two_keystrokes_review_a_feature(gateway: LiveGateway, page: Page) -> None:
    job = "explain_reviewed"
    gateway.write(requested(job, "find_r"), admitted(1, job, "find_r"), explained(1, job, find_job="find_r"), sealed(1, job))
    gateway.until(lambda: [line["status"] for line in gateway.get("/jobs")["jobs"] if line["explain_job_id"] == job] == ["completed"])
    page.add_init_script("localStorage.setItem('mistudio-explain.who', 'Ada')")
    opened(page, gateway, f"#/jobs/{job}/features/1")
    page.wait_for_selector(".card h2")
    page.keyboard.press("r")
    page.keyboard.press("3")
    expect(page.locator(".card .reviewed")).to_contain_text("Ada says: wrong")
    expect(page.locator(".features .chip")).to_have_text("reviewed: wrong")
    gateway.until(lambda: gateway.get(f"/jobs/{job}/features/1")["review"] is not None)
    assert gateway.get(f"/jobs/{job}/features/1")["review"]["verdict"] == "wrong"


def test_one_feature_is_explained_now_and_its_words_come_before_its_card(gateway: LiveGateway, page: Page) -> None:
    opened(page, gateway, "#/explain")
    page.locator("#source").fill(json.dumps({"feature": FEATURE, "find_job": "find_now", "target_model": "gpt2"}))
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator(".card h2")).to_have_text(ANSWER["label"], timeout=30_000)
    page.get_by_text("The model's words").click()
    assert ANSWER["pattern"] in page.locator(".stream").inner_text()


def test_what_is_no_feature_is_refused_with_its_reason(gateway: LiveGateway, page: Page) -> None:
    opened(page, gateway, "#/explain")
    for text, reason in (("{", "This is no JSON"), ('{"feature": {"top_activations": []}}', "feature_id")):
        page.locator("#source").fill(text)
        page.get_by_role("button", name="Explain", exact=True).click()
        expect(page.locator("main .problem")).to_contain_text(reason)


def test_operations_shows_the_endpoints_that_models_are_asked_at(gateway: LiveGateway, page: Page) -> None:
    opened(page, gateway, "#/operations")
    expect(page.locator("section[aria-labelledby=models] tbody tr")).to_contain_text(["healthy"])
    expect(page.locator("section[aria-labelledby=lag]")).to_contain_text("embedded broker")
