"""The HTML report in a real Chromium: read by eye, by keyboard, by a screen reader's rules, without JavaScript and on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from integration.components import require
from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, Generation, Verification
from mistudio_explain.events.feature import Activation, Logit
from mistudio_explain.events.job import JobReport, JobStatus, SecondPass
from mistudio_explain.reporting.page import WHOLE_UP_TO, write_page
from mistudio_explain.reporting.survey import survey
from unit.reporting.reporting_samples import concerning, explained, failed, hostile, job_report, judgement, review, skipped

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        require("Chromium", "install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser
        browser.close()


def written(folder: Path, outcomes: list[FeatureOutcome], report: JobReport | None = None, *, whole_up_to: int = WHOLE_UP_TO) -> str:
    path = folder / f"report-{whole_up_to}.html"
    with path.open("wb") as out:
        write_page(out, report or job_report(), survey(outcomes), outcomes, whole_up_to=whole_up_to)
    return path.as_uri()


def opened(browser: Browser, address: str, **context: Any) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(10_000)
    page.goto(address)
    return page


def varied() -> list[FeatureOutcome]:
    """A job with something in every section."""
    answered = Generation(
        model="codellama:13b", endpoint="gpu1", provider="ollama", reach="machine", latency_s=3.0, tokens_in=90, tokens_out=9, finish_reason="stop"
    )
    return [
        explained("1", review=review(verdict="right"), judge=judgement(), review_reason="the verdict is close"),
        explained("2", pattern_verification=Verification.PARTIAL, generation=answered, subject_changes={"category": "temporal", "coherence_score": 0.7}),
        explained("3", pattern_verification=Verification.CONTRADICTED, quality_score=0.2, pass_number=2, earlier=Answer(pattern="before")),
        explained("4", pattern_verification=Verification.UNVERIFIABLE, accuracy=None, unavailable={"accuracy": "no background"}),
        explained("5", pattern_verification=None, subject_changes={"logits": [Logit(token=" json", value=1.5)], "keywords": ["مرحبا", "日本語"]}),
        concerning("6"),
        skipped("7"),
        failed("8"),
    ]


def faults(page: Page) -> list[str]:
    """What axe-core finds wrong; cards are laid out first, which a browser puts off until they come near the window."""
    page.evaluate("document.querySelectorAll('.card').forEach((card) => { card.style.contentVisibility = 'visible'; })")
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']} ({fault['impact']}): {fault['nodes'][0]['html'][:200]}" for fault in found if fault["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("whole_up_to", [WHOLE_UP_TO, 0])
def test_axe_finds_nothing_wrong(chromium: Browser, tmp_path: Path, scheme: str, whole_up_to: int) -> None:
    report = job_report(status=JobStatus.INCOMPLETE, expected=9, missing=["9"], reviewed=1, judged=1, second_pass=SecondPass(sent=1, refused=0, settled=1))
    page = opened(chromium, written(tmp_path, varied(), report, whole_up_to=whole_up_to), color_scheme=scheme, viewport={"width": 1280, "height": 900})
    for control in page.locator("summary, button.more").all():
        control.click()
    expect(page.locator("button.more:not(:has(+ *))")).to_have_count(0)
    assert faults(page) == []
    page.set_viewport_size(NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_axe_finds_nothing_wrong_with_a_job_that_has_no_outcome(chromium: Browser, tmp_path: Path) -> None:
    assert faults(opened(chromium, written(tmp_path, []), viewport=NARROW, color_scheme="dark")) == []


@pytest.mark.parametrize("whole_up_to", [WHOLE_UP_TO, 0])
def test_no_text_makes_the_page_scroll_sideways(chromium: Browser, tmp_path: Path, whole_up_to: int) -> None:
    page = opened(chromium, written(tmp_path, hostile(), job_report(target_model="A" * 300), whole_up_to=whole_up_to), viewport=NARROW)
    page.evaluate("document.querySelectorAll('.card').forEach((card) => { card.style.contentVisibility = 'visible'; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_the_page_runs_its_own_script_alone_and_asks_for_nothing(chromium: Browser, tmp_path: Path) -> None:
    for whole_up_to in (WHOLE_UP_TO, 0):
        page = chromium.new_context().new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))  # type: ignore[misc]
        page.on("dialog", lambda dialog, said=said: said.append(dialog.message))  # type: ignore[misc]
        page.on("pageerror", lambda error, said=said: said.append(str(error)))  # type: ignore[misc]
        page.on("request", lambda request, asked=asked: asked.append(request.url))  # type: ignore[misc]
        page.goto(written(tmp_path, hostile(), whole_up_to=whole_up_to))
        for button in page.locator("button.more").all():
            button.click()
        page.locator("#words").fill("alert(1)")
        expect(page.locator("#shown")).to_contain_text(" of ")
        assert said == []
        assert len(asked) == 1
        unfolded = page.evaluate("[...document.querySelectorAll('.unfolded *')].map((e) => e.tagName.toLowerCase())")
        assert set(unfolded) <= {"div", "p", "b", "span", "ul", "ol", "li", "dl", "dt", "dd", "bdi", "mark", "code", "svg", "rect"}


def test_what_is_unfolded_on_a_large_page_reads_as_it_stands_on_a_small_one(chromium: Browser, tmp_path: Path) -> None:
    read = """(card) => {
      const within = card.querySelector(".unfolded") ?? card;
      const lines = [...within.querySelectorAll(".prose > *, .prose li, .scores > *, .texts li, .small, .held-out:not(.is-seen)")];
      const whole = lines.map((e) => e.textContent.replace(/\\s+/g, " ").trim()).filter(Boolean);
      return whole.filter((line) => line !== card.dataset.pattern);
    }"""
    outcomes = [*varied(), *hostile()]
    whole = opened(chromium, written(tmp_path, outcomes))
    brief = opened(chromium, written(tmp_path, outcomes, whole_up_to=0))
    for button in brief.locator("button.more").all():
        button.click()
    expect(brief.locator("button.more:not(:has(+ *))")).to_have_count(0)
    ids = whole.evaluate("[...document.querySelectorAll('.card')].map((card) => card.id)")
    assert len(ids) == 6 + len(hostile()) // 2
    for anchor in ids:
        pattern = brief.evaluate("(id) => document.querySelector(`#${id} > p[dir]:not(.text)`)?.textContent ?? null", anchor)
        for page in (whole, brief):
            page.evaluate("([id, text]) => { document.getElementById(id).dataset.pattern = (text ?? '').replace(/\\s+/g, ' ').trim(); }", [anchor, pattern])
        assert brief.locator(f"#{anchor}").evaluate(read) == whole.locator(f"#{anchor}").evaluate(read)


def test_a_search_finds_words_of_texts_that_are_packed(chromium: Browser, tmp_path: Path) -> None:
    rare = explained("rare", evidence=Evidence(seen=[Activation(text="a common text")], held_out=[Activation(text="the word zyzzyva stands here")]))
    page = opened(chromium, written(tmp_path, [explained(str(i)) for i in range(250)] + [rare], whole_up_to=0))
    page.locator("#words").fill("ZYZZYVA")
    expect(page.locator("#shown")).to_have_text("1 of 251 features")
    assert page.locator(".card:visible").get_attribute("id") == "f251"


def test_filters_and_texts_are_worked_by_keyboard_alone(chromium: Browser, tmp_path: Path) -> None:
    page = opened(chromium, written(tmp_path, varied(), whole_up_to=0))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the features"
    page.locator("#verdict").focus()
    page.keyboard.press("p")  # partial
    expect(page.locator("#shown")).to_have_text("1 of 8 features")
    page.locator(".card:visible button.more").focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    page.locator(".card:visible .unfolded").wait_for()
    assert page.locator(".card:visible button.more").get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    page.locator(".unfolded").wait_for(state="hidden")
    assert outline != "none"


def test_a_link_to_a_feature_shows_it_though_a_filter_hides_it(chromium: Browser, tmp_path: Path) -> None:
    page = opened(chromium, written(tmp_path, varied()))
    page.locator("#outcome").select_option("failed")
    page.locator("#f1").wait_for(state="hidden")
    page.locator(".ranking a[href='#f1']").first.click()
    page.locator("#f1").wait_for(state="visible")


def test_without_javascript_the_page_still_says_what_every_feature_is(chromium: Browser, tmp_path: Path) -> None:
    page = opened(chromium, written(tmp_path, varied(), whole_up_to=0), java_script_enabled=False)
    assert page.locator(".card:visible").count() == 6
    assert page.locator("#filters").is_hidden()
    assert page.locator("button.more").first.is_hidden()
    card = page.locator("#f1").text_content() or ""
    for part in ("JSON schema validation", "It fires on JSON schemas.", "confirmed", "accuracy 0.70 · quality 0.90 · confidence 0.65", '{"type": "object"}'):
        assert part in card
    assert "which needs JavaScript" in page.locator("#features").inner_text()


def test_on_paper_no_control_is_left_and_nothing_is_cut_off(chromium: Browser, tmp_path: Path) -> None:
    page = opened(chromium, written(tmp_path, varied()), color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("form, .skip").filter(visible=True).count() == 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((e) => getComputedStyle(e).overflowX === 'visible')")
    assert page.locator(".texts li").first.is_visible()
