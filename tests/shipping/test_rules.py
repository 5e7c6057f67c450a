"""Alerts, recording rules and the dashboard ask for metrics that there are, and every alert says what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from integration.components import require
from mistudio_explain.observability import metrics

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "charts" / "mistudio-explain" / "files"
RULES: list[Mapping[str, Any]] = [rule for group in yaml.safe_load((FILES / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def known() -> set[str]:
    """Every series that the services show, and every one that is recorded."""
    shown = {metric.name: metric.type for metric in REGISTRY.collect()}
    names = {name + suffix for name, kind in shown.items() for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))}
    return names | set(metrics.LAG_METRICS) | {rule["record"] for rule in RULES if "record" in rule} | {"up"}


def asked(expression: str) -> set[str]:
    """The series that an expression names."""
    return set(re.findall(r"\b(?:mistudio_explain|kafka)[a-zA-Z0-9_:]*|\bup\b", expression))


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_every_expression_asks_for_series_that_there_are() -> None:
    assert {name for expression in expressions() for name in asked(expression)} - known() == set()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_an_entry_in_the_runbook(alert: Mapping[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert (page, anchor) == ("docs/runbook.md", alert["alert"].lower())
    assert f"\n## {alert['alert']}\n" in RUNBOOK


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Mistudio\w+)$", RUNBOOK, re.MULTILINE)) == {alert["alert"] for alert in ALERTS}


def test_prometheus_takes_the_rules_and_each_alert_fires_and_ends() -> None:
    if (promtool := shutil.which("promtool")) is None:
        require("promtool", "install Debian's package prometheus, whose server need not run")
    folder = Path(__file__).parent
    assert {alert["alert"] for alert in ALERTS} == set(re.findall(r"alertname: (\w+)", (folder / "rules_test.yaml").read_text()))
    done = subprocess.run([promtool, "test", "rules", folder / "rules_test.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
