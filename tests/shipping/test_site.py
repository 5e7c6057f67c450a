"""The documents as a site: built strictly, searched and read in a real Chromium, and asking for nothing from elsewhere."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest
from playwright.sync_api import Browser, Page, expect

from integration.explorer_world import browser
from shipping.documents import ROOT

FETCHED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?([^"'\s>]+)""")
LINKED = re.compile(r"""<a\b[^>]*?\bhref=["']?([^"'\s>]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    yield context.new_page()
    context.close()


def test_every_link_of_the_site_leads_to_a_page_and_place_that_are_there(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 30
    broken = []
    for path, text in pages.items():
        for link in LINKED.findall(text):
            target, anchor = urldefrag(urljoin(path.as_uri(), link))
            if target.startswith("file:"):
                there = pages.get(Path(target.removeprefix("file://")))
                if there is None or (anchor and f'id="{anchor}"' not in there and anchor != "__top"):
                    broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_no_page_names_anything_elsewhere_that_a_browser_would_fetch(site: Path) -> None:
    named = {found for path in site.rglob("*.html") for found in FETCHED.findall(path.read_text(encoding="utf-8"))}
    named |= {found for path in site.rglob("*.css") for found in re.findall(r"(?:url\(|@import )[\"']?([^)\"']+)", path.read_text(encoding="utf-8"))}
    assert any(each.endswith(".js") for each in named)
    assert {each for each in named if each.startswith(("http:", "https:", "//"))} == set()


def test_a_reader_searches_and_finds_and_the_browser_asks_nobody_else(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.get_by_role("textbox", name="Search").fill("dlq retry")
    found = page.locator(".md-search-result__link[href*='operations.html']").first
    expect(found).to_be_attached()
    found.evaluate("link => link.click()")
    expect(page).to_have_url(re.compile(r"operations\.html"))
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


@pytest.mark.parametrize("name", ["index.html", "validation.html", "settings.html", "commands.html"])
def test_on_a_narrow_screen_a_page_does_not_move_sideways(page: Page, address: str, name: str) -> None:
    page.goto(address + name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
