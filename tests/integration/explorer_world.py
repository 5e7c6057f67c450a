"""A real gateway over a real store whose Kafka is away, and a real browser that looks at it."""

import asyncio
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from integration.components import require
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Evidence, FeatureOutcome, Safety, SafetyEvidence
from mistudio_explain.events.feature import Activation, ActivationStatistics, ActiveToken, Logit
from mistudio_explain.events.job import JobEvent, RequestPart, SealedPart
from mistudio_explain.events.topics import EXPLANATIONS
from mistudio_explain.gateway.service import register, web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.settings import EndpointSettings, GatewaySettings, KafkaSettings, LlmSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store
from unit.reporting.reporting_samples import explained, failed, hostile, skipped

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
NOWHERE = "127.0.0.1:1"
"""A port on which nobody ever listens."""
AWAY = EndpointSettings(name="gpu0", provider="openai", url=f"http://{NOWHERE}/v1", models=("m",), slots=1)
CJK = "この特徴は、政治家の名前が出てくる文に反応します。特に選挙や外交についての長い文章で強く働きます。"
ARABIC = "تنشط هذه الميزة عند ذكر أسماء السياسيين في النصوص الطويلة عن الانتخابات"
LONG = "Antidisestablishmentarianism" * 12


@contextmanager
def browser() -> Iterator[Browser]:
    """A real Chromium without a window."""
    if CHROMIUM is None:
        require("Chromium", "install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield found
        found.close()


def settings_of(folder: Path) -> Settings:
    """Settings of a gateway on a folder's store, whose Kafka and model are away."""
    return Settings(
        store=StoreSettings(url=f"sqlite:///{folder}/explain.db"),
        kafka=KafkaSettings(bootstrap_servers=NOWHERE),
        llm=LlmSettings(endpoints=(AWAY,)),
        gateway=GatewaySettings(port=0),
    )


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """Serve a folder's store; gives the gateway's address."""
    settings = settings_of(folder)
    started = threading.Event()
    told: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stream = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
        async with web_server(register(stream), settings.gateway) as address:
            told.append((address, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30), "the gateway did not start"
    address, loop, stop = told[0]
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def store(folder: Path, outcomes: Iterable[FeatureOutcome], jobs: Iterable[JobEvent] = ()) -> None:
    """Write outcomes, and parts of jobs, as an aggregator does."""
    changes = [*(Change(each, encode(each), each.key, each.at_ms) for each in jobs), *(_arrived(number, each) for number, each in enumerate(outcomes))]
    with open_store(StoreSettings(url=f"sqlite:///{folder}/explain.db")) as rows:
        rows.apply(changes, {(EXPLANATIONS, 0): len(changes)})


def _arrived(number: int, outcome: FeatureOutcome) -> Change:
    return Change(outcome, encode(outcome), f"{outcome.subject.explain_job_id}|{outcome.subject.feature_key}", 1_700_000_000_000 + number)


def sealed(job: str, features: int) -> list[JobEvent]:
    """The parts of a job that has so many features."""
    request = RequestPart(find_job_id="find_1", target_model="gpt2", expected=features)
    return [
        JobEvent(explain_job_id=job, at_ms=1_700_000_000_000, request=request),
        JobEvent(explain_job_id=job, at_ms=1_700_000_000_001, sealed=SealedPart(expected=features)),
    ]


def in_job(job: str, outcome: FeatureOutcome) -> FeatureOutcome:
    """The same outcome as another job's."""
    return outcome.model_copy(update={"subject": outcome.subject.model_copy(update={"explain_job_id": job})})


def with_tokens(feature_id: str = "tokens") -> FeatureOutcome:
    """A feature whose source gave tokens with values for one text, tokens without places for another, and none for a third."""
    evidence = Evidence(
        seen=[
            Activation(
                text=" a JSON schema here",
                activation_strength=8.0,
                tokens=[" a", " JSON", " schema", " here"],
                token_activations=[0.0, 8.0, 4.0, 0.0],
                peak=" JSON",
            ),
            Activation(
                text="the cat and the dog",
                activation_strength=3.0,
                active_tokens=[ActiveToken(token=" cat", strength=3.0), ActiveToken(token="the", strength=1.0)],
            ),
            Activation(text="plain words only", activation_strength=2.0),
            Activation(
                text="it’s a cat",
                activation_strength=2.0,
                tokens=["<s>", "it", "\ufffd", "\ufffd", "s", " a", " cat"],
                token_activations=[9.0, 1.0, 0.5, 0.0, 0.0, 0.0, 2.0],
            ),
        ],
        held_out=[Activation(text="how to build a weapon at home", activation_strength=1.0)],
    )
    return explained(
        feature_id,
        evidence=evidence,
        safety=Safety(assessment="concerning", categories=["weapons"], evidence=[_hazard(0, "json"), _hazard(4, "weapon")]),
        subject_changes={
            "statistics": ActivationStatistics(mean=0.1, std=0.4, max=8.0, frequency=0.0012),
            "logits": [Logit(token=" schema", value=1.5), Logit(token=" banana", value=-0.75)],
        },
    )


def _hazard(index: int, word: str) -> SafetyEvidence:
    return SafetyEvidence(category="weapons", where="text", index=index, words=[word])


def worded(feature_id: str, words: str) -> FeatureOutcome:
    """A feature all of whose texts are these words."""
    outcome = explained(feature_id, evidence=Evidence(seen=[Activation(text=words, activation_strength=1.0)]))
    assert outcome.answer is not None
    answer = outcome.answer.model_copy(update={"label": words, "pattern": words})
    return outcome.model_copy(update={"answer": answer, "explanation": answer.explanation})


def populate(folder: Path) -> None:
    """The jobs of the explorer's tests: of no, one, several and many features, and of hostile texts."""
    several = [
        with_tokens(),
        worded("cjk", CJK),
        worded("arabic", ARABIC),
        worded("long", LONG),
        explained("layer 3/17", subject_changes={"source_id": "layer 3"}),
        skipped("7"),
        failed("8"),
    ]
    many = [explained(str(number), quality_score=round(number % 100 / 100, 2)) for number in range(230)]
    jobs = {"explain_one": [explained("1")], "explain_several": several, "explain_other": several[:1], "explain_hostile": hostile(), "explain_many": many}
    store(
        folder,
        [in_job(job, outcome) for job, outcomes in jobs.items() for outcome in outcomes],
        [*sealed("explain_none", 3), *(part for job, outcomes in jobs.items() for part in sealed(job, len(outcomes)))],
    )
