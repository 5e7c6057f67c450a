"""The explorer as a person sees it: a real browser, a real gateway, a real store, no Kafka."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from integration.explorer_world import ARABIC, CJK, browser, gateway, in_job, populate, sealed, settings_of, store
from integration.gates import new_key
from mistudio_explain.store.keys import StoredKeys
from unit.reporting.reporting_samples import explained

SERIOUS = ("serious", "critical")
PAGES = {
    "jobs": "#/jobs",
    "several": "#/jobs/explain_several",
    "none": "#/jobs/explain_none",
    "feature": "#/jobs/explain_several/features/tokens",
    "hostile": "#/jobs/explain_hostile/features/1000",
    "choose": "#/compare",
    "features side by side": "#/compare?f=explain_several%7Ctokens&f=explain_other%7Ctokens",
    "jobs side by side": "#/compare?a=explain_several&b=explain_other",
    "explain": "#/explain",
    "operations": "#/operations",
    "nothing": "#/jobs/no_such_job",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("explorer")
    populate(folder)
    with gateway(folder) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


class Visit:
    """A tab, and what went wrong in it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.asked: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console", lambda message: self.faults.append(message.text) if "Content Security Policy" in message.text or "TrustedHTML" in message.text else None
        )

    def to(self, place: str) -> Page:
        self.page.goto(f"{self.address}/explorer/{place}")
        self.page.wait_for_selector("h1")
        expect(self.page.locator("[aria-busy]")).to_have_count(0)
        return self.page


@pytest.fixture
def visit(chromium: Browser, address: str) -> Iterator[Visit]:
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        found = Visit(page, address)
        yield found
        assert found.faults == []
        assert [url for url in found.asked if not url.startswith(address)] == [], "the explorer asks its own gateway alone"


def rows(page: Page) -> list[str]:
    return page.eval_on_selector_all(".features a", "links => links.map(link => link.dataset.key)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits_a_telephone(visit: Visit, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, place in PAGES.items():
        for width in (1280, 390):
            visit.page.set_viewport_size({"width": width, "height": 800})
            page = visit.to(place)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found[f"{name} at {width}"] = "scrolls sideways"
        violations = Axe().run(visit.page).response["violations"]
        if bad := [(each["id"], each["nodes"][0]["html"][:200]) for each in violations if each["impact"] in SERIOUS]:
            found[name] = bad
    assert found == {}


def test_texts_are_only_ever_text(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_hostile")
    keys = rows(page)
    for key in keys:
        page = visit.to(f"#/jobs/explain_hostile/features/{key}")
        page.wait_for_selector(".card h2")
    assert page.locator("main script, main img, main iframe, main textarea, main style, [onload], [onerror], [onmouseover]").count() == 0
    visit.to("#/jobs/explain_hostile/features/1000")
    assert "</script><script>alert(1)</script>" in page.locator(".card h2").inner_text()
    visit.to("#/jobs/explain_hostile/features/1011")
    assert "[U+202E]turned" in page.locator(".card h2").inner_text()


def test_tokens_are_coloured_by_activation_where_the_source_gave_it_and_nowhere_else(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several/features/tokens")
    texts = page.locator(".passages .texts li")
    expect(texts).to_have_count(5)
    assert texts.nth(0).locator(".token").all_inner_texts() == [" ", "JSON", " schema"], "the word that speaks for a hazard is a part of its token"
    assert texts.nth(0).locator(".hazard").all_inner_texts() == ["JSON"]
    assert texts.nth(0).locator(".peak").all_inner_texts() == [" JSON"], "one outline round the whole peak"
    assert texts.nth(3).locator(".token").all_inner_texts() == ["it", " cat"], "a character that is spread over tokens leaves the others where they are"
    assert "<s> 9" in texts.nth(3).locator(".note").inner_text()
    heat = texts.nth(0).locator(".token").evaluate_all("tokens => tokens.map(token => token.style.getPropertyValue('--heat'))")
    assert [round(float(each), 3) for each in heat] == [0.889, 0.889, 0.444]
    assert texts.nth(1).locator(".token").all_inner_texts() == [" cat"], "'the' stands there twice: nobody knows which one fired"
    assert "the" in texts.nth(1).locator(".note").inner_text()
    assert texts.nth(2).locator(".token, .peak, .hazard").count() == 0
    assert texts.nth(4).locator(".hazard").all_inner_texts() == ["weapon"]
    assert page.locator(".logits th").all_inner_texts() == [" schema", " banana"]
    assert "0.12%" in page.locator(".aside").inner_text()


def test_a_search_is_answered_while_one_types_and_stays_in_the_address(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several")
    page.keyboard.press("/")
    page.keyboard.type("政治")
    expect(page.locator(".features li")).to_have_count(1)
    assert rows(page) == ["cjk"]
    page.reload()
    expect(page.locator(".features li")).to_have_count(1)
    assert page.locator("#search").input_value() == "政治"
    page.locator("#search").fill("nothing at all has these words")
    expect(page.locator("#found")).to_have_text("No feature fits.")


def test_filters_and_order_choose_what_is_listed(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several?outcome=skipped")
    assert rows(page) == ["7"]
    page = visit.to("#/jobs/explain_many?sort=-quality")
    assert sorted(rows(page)[:2]) == ["199", "99"]
    visit.page.get_by_label("Safety").select_option("concerning")
    expect(page.locator("#found")).to_have_text("No feature fits.")


def test_a_late_answer_never_replaces_a_newer_one(visit: Visit) -> None:
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        if "text=cjk" in route.request.url:
            waiting.append(route)
        else:
            route.continue_()

    page = visit.to("#/jobs/explain_several")
    page.route("**/explanations*", hold)
    page.locator("#search").fill("cjk")
    page.locator("#search").fill("arabic")
    expect(page.locator(".features li")).to_have_count(1)
    assert rows(page) == ["arabic"]
    for route in waiting:
        route.continue_()
    page.wait_for_load_state("networkidle")
    assert rows(page) == ["arabic"]


def test_a_slow_network_says_that_it_loads(visit: Visit) -> None:
    waiting: list[Route] = []
    visit.page.route("**/api/v1/jobs/explain_one", lambda route: waiting.append(route))
    with visit.page.expect_response("**/explanations*"):
        visit.page.goto(f"{visit.address}/explorer/#/jobs/explain_one")
    expect(visit.page.locator(".waiting")).to_have_text("Loading")
    waiting[0].continue_()
    expect(visit.page.locator("h1")).to_have_text("explain_one")


def test_many_features_come_as_one_scrolls(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_many")
    expect(page.locator("#found")).to_have_text("230 features")
    for listed in (50, 100, 150, 200, 230):
        expect(page.locator(".features li")).to_have_count(listed)
        page.locator(".features li").last.scroll_into_view_if_needed()
    assert rows(page) == [str(number) for number in range(230)], "in their order, each once"


def test_a_job_without_outcomes_says_so(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_none")
    expect(page.locator("#found")).to_have_text("No feature has left this job.")


def test_keys_step_through_features_and_can_be_turned_off(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_many")
    page.keyboard.press("j")
    expect(page.locator(".card .key code").first).to_have_text("0")
    page.keyboard.press("j")
    expect(page.locator(".card .key code").first).to_have_text("1")
    page.keyboard.press("k")
    expect(page.locator(".card .key code").first).to_have_text("0")
    page.keyboard.press("?")
    page.get_by_label("single keys do this").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(".features a[aria-current]")).to_have_attribute("data-key", "0")


def test_a_link_leads_to_its_feature_whatever_its_name(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several")
    link = page.locator(".features a[data-key='layer 3/17']").get_attribute("href")
    assert link is not None
    page = visit.to(link)
    expect(page.locator(".card .key code").first).to_have_text("layer 3/17")
    expect(page).to_have_title(re.compile("layer 3/17"))


def test_features_stand_side_by_side(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several/features/cjk")
    page.keyboard.press("c")
    visit.to("#/jobs/explain_several/features/arabic")
    page.keyboard.press("c")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.get_by_text("Show 2 features side by side").click()
    expect(page.locator(".columns .card h2").first).to_have_text(CJK)
    expect(page.locator(".columns .card h2").last).to_have_text(ARABIC)


def test_jobs_stand_side_by_side_feature_by_feature(visit: Visit) -> None:
    page = visit.to("#/compare?a=explain_several&b=explain_other")
    expect(page.locator(".pairs li")).to_have_count(7)
    assert page.locator(".pairs li").filter(has_text="not in explain_other").count() == 6


def test_without_kafka_everything_stored_is_shown_and_what_needs_it_says_why(visit: Visit) -> None:
    page = visit.to("#/jobs/explain_several/features/tokens")
    expect(page.locator("#away")).to_contain_text("Kafka is away")
    page.evaluate("localStorage.setItem('mistudio-explain.who', 'Ada')")
    page.keyboard.press("r")
    page.keyboard.press("1")
    expect(page.locator("dialog .problem")).not_to_be_empty()
    page.keyboard.press("Escape")
    page = visit.to("#/operations")
    expect(page.locator("section .empty").first).to_be_visible()


def test_signing_out_ends_the_session_and_the_page_asks_for_a_key(chromium: Browser, tmp_path: Path) -> None:
    store(tmp_path, [in_job("explain_kept", explained("1"))], sealed("explain_kept", 1))
    key = new_key(settings_of(tmp_path))
    with gateway(tmp_path) as address, chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/explorer/#/jobs")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="explain_kept")).to_be_visible()
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], key in cookie["value"]) == (True, "Strict", False)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        assert context.cookies() == []
        context.add_cookies([cookie])
        assert context.request.get(f"{address}/api/v1/jobs").status == 401
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="explain_kept")).to_be_visible()


def test_without_any_job_the_page_says_how_one_comes_about(chromium: Browser, tmp_path: Path) -> None:
    with gateway(tmp_path) as address, chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/explorer/#/jobs")
        expect(page.locator(".jobs")).to_contain_text("No job yet.")


def test_without_keys_there_is_nothing_to_sign_out_of(visit: Visit) -> None:
    page = visit.to("#/jobs")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_operations_tells_what_is_to_do_by_service_and_target_model(visit: Visit) -> None:
    def row(service: str, topic: str, model: str | None, **figures: Any) -> dict[str, Any]:
        known = {"group": f"mistudio-explain.{service}", "unfinished": 0, "in_flight": 0, "oldest_age_s": None, "rate": None, "drain_s": None, "members": 1}
        return {"service": service, "topic": topic, "target_model": model, **known, **figures}

    reading = {
        "at": "2026-11-25T12:00:00+00:00",
        "lag": [
            row("generation", "mistudio.explain.prompts.gpt2", "gpt2", unfinished=1200, in_flight=2, oldest_age_s=95.0, rate=4.0, drain_s=300.0),
            row("generation", "mistudio.explain.prompts.hostile", "<img src=x onerror=alert(1)>", unfinished=7),
            row("validation", "mistudio.explain.drafts", None, unfinished=3, members=0),
        ],
        "missing_topics": ["mistudio.explain.dlq"],
        "unavailable_partitions": [],
    }
    visit.page.route("**/api/v1/lag", lambda route: route.fulfill(json=reading))
    page = visit.to("#/operations")
    lag = page.locator("section[aria-labelledby=lag]")
    expect(lag.locator("tbody tr")).to_have_count(3)
    assert lag.locator("tbody tr").nth(0).locator("td").all_inner_texts()[2:] == ["gpt2", "1,200", "2", "2 min", "4.0/s", "5 min"]
    assert lag.locator("tbody tr").nth(1).locator("td").all_inner_texts()[2:4] == ["<img src=x onerror=alert(1)>", "7"]
    expect(lag).to_contain_text("drafts: nobody works on it")
    expect(lag).to_contain_text("mistudio.explain.dlq does not exist")


def test_operations_says_that_kafka_is_away_and_still_shows_the_endpoints(visit: Visit) -> None:
    page = visit.to("#/operations")
    expect(page.locator("section[aria-labelledby=lag]")).to_contain_text("Kafka does not answer, so nobody can tell what is still to do")
    expect(page.locator("section[aria-labelledby=models] tbody tr")).to_contain_text(["gpu0"], timeout=30_000)


def test_with_keys_the_page_asks_for_one_and_for_another_when_that_is_revoked(chromium: Browser, tmp_path: Path) -> None:
    store(tmp_path, [in_job("explain_kept", explained("1"))], sealed("explain_kept", 1))
    settings = settings_of(tmp_path)
    key = new_key(settings)
    with gateway(tmp_path) as address, chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/explorer/#/jobs/explain_kept")
        page.get_by_label("API key").fill("mse_wrong")
        page.keyboard.press("Enter")
        expect(page.locator(".problem")).to_contain_text("opens nothing")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("explain_kept")
        assert key not in page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"), "no script can read it"
        (known,) = StoredKeys(settings.store).all()
        StoredKeys(settings.store).revoke(known.id, 5)
        while context.request.get(f"{address}/api/v1/jobs").status != 401:
            page.wait_for_timeout(100)  # a key that asks as fast as it can is told to wait, and the page waits with it
        page.reload()
        expect(page.get_by_label("API key")).to_be_visible()
