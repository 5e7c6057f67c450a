"""The gateway's protections in a real browser: what a page may do, and what one that was tampered with may not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from integration.explorer_world import browser, gateway, store
from integration.gates import new_key
from mistudio_explain.reporting.page import WHOLE_UP_TO, write_page
from mistudio_explain.reporting.stage import report_directory
from mistudio_explain.reporting.survey import survey
from mistudio_explain.settings import Settings, StoreSettings
from unit.reporting.reporting_samples import explained, hostile, job_report

FETCHED = "async address => { try { return (await fetch(address)).status } catch (error) { return error.name } }"


@dataclass
class World:
    """A gateway that needs a key, and a job with reports."""

    address: str
    key: str
    folder: Path

    def report(self, name: str) -> str:
        """Where a report's page is."""
        return f"{self.address}/api/v1/jobs/explain_1/files/{name}"


@dataclass
class Tab:
    """A tab, and what the browser refused in it."""

    page: Page
    refused: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("guarded")
    outcomes = [explained(str(number)) for number in range(1, 6)]
    store(folder, outcomes)
    key = new_key(Settings(store=StoreSettings(url=f"sqlite:///{folder}/explain.db")), "write")
    with pytest.MonkeyPatch.context() as patch, gateway(folder) as address:
        patch.chdir(folder)
        reports = report_directory(Path("reports"), "explain_1")
        reports.mkdir(parents=True)
        for name, of, whole in (("whole.html", outcomes, WHOLE_UP_TO), ("packed.html", outcomes, 1), ("hostile.html", hostile(), 1)):
            with (reports / name).open("wb") as out:
                write_page(out, job_report(), survey(of), of, whole_up_to=whole)
        yield World(address, key, folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def tab(chromium: Browser, world: World) -> Iterator[Tab]:
    context = chromium.new_context()
    context.set_default_timeout(15_000)
    found = Tab(context.new_page())
    found.page.on("console", lambda message: found.refused.append(message.text) if "Content Security Policy" in message.text else None)
    found.page.on("pageerror", lambda error: found.refused.append(str(error)))
    found.page.on("dialog", lambda dialog: (found.refused.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    context.request.post(f"{world.address}/api/v1/session", data={"key": world.key})
    yield found
    context.close()


def test_the_explorer_asks_for_a_key_and_keeps_it_where_no_script_reads_it(chromium: Browser, world: World) -> None:
    page = chromium.new_page()
    page.set_default_timeout(15_000)
    page.goto(f"{world.address}/explorer/#/jobs")
    page.locator("input[type=password]").fill(world.key)
    page.keyboard.press("Enter")
    expect(page.get_by_text("explain_1").first).to_be_visible()
    assert "mistudio" not in page.evaluate("document.cookie")
    assert world.key not in page.content()
    assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in page.context.cookies()] == [(True, "Strict")]
    page.context.close()


@pytest.mark.parametrize("name", ["whole.html", "packed.html", "hostile.html"])
def test_a_report_works_in_its_sandbox(name: str, tab: Tab, world: World) -> None:
    tab.page.goto(world.report(name))
    filters = tab.page.locator("#filters")
    expect(filters).to_be_visible()
    filters.locator("input[type=search]").first.fill("nothing has this word")
    expect(tab.page.locator("article:visible")).to_have_count(0)
    filters.locator("input[type=search]").first.fill("")
    opened = tab.page.locator("article details summary").first
    if opened.count():
        opened.click()
    assert tab.refused == []


def test_a_script_that_got_into_a_report_cannot_call_the_gateway_as_its_reader(tab: Tab, world: World) -> None:
    jobs = f"{world.address}/api/v1/jobs"
    tab.page.goto(world.report("whole.html"))
    assert tab.page.evaluate("origin") == "null"
    assert tab.page.evaluate(FETCHED, jobs) == "TypeError"
    with pytest.raises(Exception, match="sandboxed"):
        tab.page.evaluate("document.cookie")
    tab.page.goto(f"{world.address}/explorer/#/jobs")
    assert tab.page.evaluate(FETCHED, jobs) == 200  # the gateway's own page may


def test_a_page_of_another_origin_can_neither_read_nor_order_nor_frame(tab: Tab, world: World) -> None:
    """localhost and 127.0.0.1 are two origins."""
    tab.page.goto("about:blank")
    elsewhere = world.address.replace("127.0.0.1", "localhost")
    tab.page.goto(f"{elsewhere}/livez")
    assert tab.page.evaluate(FETCHED, f"{world.address}/api/v1/jobs") == "TypeError"
    ordered = """async address => {
        const asked = {method: 'POST', mode: 'no-cors', credentials: 'include', headers: {'content-type': 'text/plain'}, body: '{}'};
        try { return (await fetch(address, asked)).type } catch (error) { return error.name }
    }"""
    answers: list[int] = []
    tab.page.on("response", lambda response: answers.append(response.status))
    tab.page.evaluate(ordered, f"{world.address}/api/v1/jobs/explain_1/cancel")
    assert set(answers) <= {401, 403}
