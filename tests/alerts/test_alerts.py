"""Alerts, recording rules and the dashboard ask for what services really show; every alert fires and ends on its fault, and says what to do."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from alerts.asked import ALERTS, OF_PROMETHEUS, OF_SCRAPES, ROOT, expressions, labels_in, scraped_series, series_in
from alerts.course import settings_of
from alerts.recording import Recording
from alerts.replaying import replay
from alerts.upstream import CURSED, feature, publish
from chaos.fake_llm import Character, FakeLlm
from integration.components import require
from integration.local_server import wait_until
from integration.real_kafka import RealKafka
from integration.real_prometheus import INSTALL, program
from integration.served import Served
from mistudio_explain.observability import metrics

RECORDING = ROOT / "tests" / "data" / "alerts.json"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
MAY_BE_EMPTY: Mapping[str, str] = {
    "GPU memory": "there is no GPU",
    "GPU at work": "there is no GPU",
    "GPU power": "there is no GPU",
    "Cost, last 24 h": "no endpoint is in a cloud",
}
"""Panels that had nothing to show in a recording, and why."""
GOOD = 8
"""Features that can be explained."""
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.read(RECORDING)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_an_entry_in_the_runbook(alert: Mapping[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert (page, anchor) == ("docs/runbook.md", alert["alert"].lower())
    assert f"\n## {alert['alert']}\n" in RUNBOOK


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Mistudio\w+)$", RUNBOOK, re.MULTILINE)) == {alert["alert"] for alert in ALERTS}


def test_every_alert_has_a_fault_in_the_recording_of_real_services(recording: Recording) -> None:
    assert {fault.alert for fault in recording.faults} == {alert["alert"] for alert in ALERTS}


def test_every_alert_fires_on_its_fault_and_not_before_and_ends_in_what_real_services_showed(recording: Recording) -> None:
    if program("promtool") is None:
        require("promtool", INSTALL)
    assert replay(recording) is None


@pytest.fixture(scope="module")
def shown(kafka: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, frozenset[str]]:
    """The labels of every series on the /metrics of real services that explained, skipped and gave up features; also of those without a value yet."""
    kafka.delete_topics("mistudio.")
    folder = tmp_path_factory.mktemp("shown")
    with FakeLlm(Character(1, latency_s=0.01, faulty=0.0, cursed=CURSED)) as llm:
        services = ("context", "generation", "validation", "redelivery", "aggregator", "replayer", "gateway")
        with Served(services, settings_of(kafka.bootstrap, llm, folder), folder) as served:
            served.until_ready()
            asyncio.run(publish(kafka.bootstrap, [feature(number, kind) for number, kind in enumerate(["good"] * GOOD + ["bare", "cursed"])]))
            done = ('mistudio_explain_dead_letters_total{error="GivenUp', f'mistudio_explain_feature_seconds_count{{outcome="explained"}} {GOOD}.0')
            assert wait_until(lambda: all(each in served.answer("/metrics")[1] for each in done), 60), served.answer("/metrics")
            text = served.answer("/metrics")[1]
    kafka.delete_topics("mistudio.")
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for name in (family.name, *(family.name + suffix for suffix in SUFFIXES.get(family.type, ()))):
            labels.setdefault(name, set()).update(declared_labels(family.name))
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return {name: frozenset(found) for name, found in labels.items()}


@pytest.mark.kafka
def test_every_series_and_label_that_is_asked_for_is_shown_by_real_services(shown: Mapping[str, frozenset[str]]) -> None:
    assert scraped_series() - OF_PROMETHEUS - set(shown) == set()
    for expression in expressions():
        named = [shown[name] for name in series_in(expression) if name in shown]
        missing = labels_in(expression) - OF_SCRAPES - frozenset().union(*named)
        assert not named or not missing, f"no series of {expression!r} has {missing}"


@pytest.mark.kafka
def test_the_recording_is_of_series_that_services_still_show(shown: Mapping[str, frozenset[str]], recording: Recording) -> None:
    for series in recording.series:
        name, _, labels = series.partition("{")
        assert name in OF_PROMETHEUS or set(re.findall(r"([a-z_]+)=", labels)) - OF_SCRAPES <= shown.get(name, frozenset()), series


def declared_labels(name: str) -> tuple[str, ...]:
    """The labels that a metric was declared with; none for one that was not declared here."""
    _, lag_labels = metrics.LAG_METRICS.get(name, ("", ()))
    declared: tuple[str, ...] = getattr(REGISTRY._names_to_collectors.get(name), "_labelnames", ())
    return declared or lag_labels
