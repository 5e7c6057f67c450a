"""The explorer in Chromium against a real gateway: how soon a job of 5,000 features is seen, and how soon a keystroke in its search is answered.

The features are the real ones of examples/features, with their sources' explanations scored as production scores them,
as often as it takes under new ids. Kafka is away: nothing here asks it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from benchmarks.real_jobs import real_outcomes
from benchmarks.table import print_table, spread
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import JobEvent, RequestPart, SealedPart
from mistudio_explain.events.topics import EXPLANATIONS
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, open_store

FEATURES = 5_000
JOB = "explain_5000"
_RUNS = 7
_WORDS = ("verbs", "python", "names of", "legal te")
_SETS = Path(__file__).parent.parent / "examples" / "features"
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# The moment at which the list was first painted: two frames after its first row came, for the first may still be the one before.
_FIRST_VIEW = """
new MutationObserver((_, watching) => {
  if (!document.querySelector(".features li")) return;
  watching.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.firstView = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
# From the event of a keystroke to the paint of the list that answers it, which is busy in between.
_ANSWERS = """
() => {
  window.answers = [];
  let asked = null;
  document.querySelector("#search").addEventListener("input", (event) => { asked = event.timeStamp; });
  new MutationObserver(() => {
    if (asked === null || document.querySelector(".features").hasAttribute("aria-busy")) return;
    const since = asked;
    asked = null;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      window.answers.push(performance.now() - since);
      document.documentElement.dataset.answers = window.answers.length;
    }));
  }).observe(document.querySelector(".features"), { attributes: true, attributeFilter: ["aria-busy"] });
}
"""


def main() -> None:
    with TemporaryDirectory() as folder:
        fill(Path(folder), real_outcomes())
        with served(Path(folder)) as address, _browser() as chromium:
            views = [_first_view(chromium, address) for _ in range(_RUNS)]
            answers = _answers(chromium, address)
    print_table(
        f"The explorer, a job of {FEATURES:,} features",
        ("what", "ms: median (least-greatest)", "goal"),
        [
            ["first view: address to the painted list, nothing kept", spread(views, 0), "< 1000"],
            [f"search: keystroke to the painted answer, {len(answers)} keystrokes", spread(answers, 0), "< 100"],
            ["search: the 95th of 100 keystrokes", f"{sorted(answers)[int(0.95 * (len(answers) - 1))]:.0f}", "< 100"],
        ],
    )


def fill(folder: Path, outcomes: Sequence[FeatureOutcome], *, job: str = JOB, features: int = FEATURES) -> None:
    """Write a job of so many features, taking the outcomes in turn."""
    request = RequestPart(find_job_id="find_5000", target_model="several", expected=features)
    now = int(time.time() * 1000)
    parts = [JobEvent(explain_job_id=job, at_ms=now, request=request), JobEvent(explain_job_id=job, at_ms=now, sealed=SealedPart(expected=features))]
    changes = [Change(part, encode(part), part.key, now) for part in parts]
    for number, outcome in enumerate(islice(cycle(outcomes), features)):
        identity = {"explain_job_id": job, "find_job_id": "find_5000", "feature_id": str(number), "feature_key": str(number), "source_id": None}
        renamed = outcome.model_copy(update={"subject": outcome.subject.model_copy(update=identity)})
        changes.append(Change(renamed, encode(renamed), f"{job}|{number}", now + number))
    with open_store(StoreSettings(url=f"sqlite:///{folder}/explain.db")) as store:
        store.apply(changes, {(EXPLANATIONS, 0): len(changes)})


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`serve gateway` on a folder's store; gives its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{folder}/explain.db",
        "MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MISTUDIO_EXPLAIN_GATEWAY__PORT": str(port),
    }
    program = Path(sys.executable).with_name("mistudio-explain")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", "gateway"], cwd=folder, env=os.environ | settings, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/v1/jobs", process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                json.load(answer)
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)


@contextmanager
def _browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        sys.exit("this benchmark needs Chromium: install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        yield browser
        browser.close()


def _first_view(browser: Browser, address: str) -> float:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.add_init_script(_FIRST_VIEW)
        page.goto(f"{address}/explorer/#/jobs/{JOB}")
        page.wait_for_selector("html[data-first-view]", state="attached")
        return float(page.evaluate("document.documentElement.dataset.firstView"))


def _answers(browser: Browser, address: str) -> list[float]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{address}/explorer/#/jobs/{JOB}")
        page.wait_for_selector(".features li")
        page.wait_for_load_state("networkidle")
        page.evaluate(_ANSWERS)
        page.focus("#search")
        typed = 0
        for word in _WORDS:
            for key in (*word, *("Backspace",) * len(word)):
                page.keyboard.press(key)
                typed += 1
                page.wait_for_selector(f"html[data-answers='{typed}']", state="attached")
        return [float(each) for each in page.evaluate("window.answers")]
