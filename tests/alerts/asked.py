"""What the chart's rules and dashboard ask Prometheus for."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "charts" / "mistudio-explain" / "files"
RULES_FILE = FILES / "rules.yaml"
RULES: Sequence[Mapping[str, Any]] = [rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
PANELS: Sequence[Mapping[str, Any]] = json.loads((FILES / "dashboard.json").read_text())["panels"]
OF_PROMETHEUS = frozenset({"up"})
"""Series that Prometheus makes, and no service."""
OF_SCRAPES = frozenset({"job", "instance", "le"})
"""Labels that a scrape gives, or a histogram."""


def expressions() -> list[str]:
    """All of them, of rules and panels."""
    return [*(rule["expr"] for rule in RULES), *(target["expr"] for panel in PANELS for target in panel["targets"])]


def series_in(expression: str) -> set[str]:
    """The series that an expression names."""
    return set(re.findall(r"\b(?:mistudio_explain|kafka|process)_?[a-zA-Z0-9_:]*|\bup\b", expression))


def scraped_series() -> frozenset[str]:
    """The series that services show, or Prometheus makes, and that are asked for."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    return frozenset({name for each in expressions() for name in series_in(each)} - recorded)


def labels_in(expression: str) -> set[str]:
    """The labels that an expression chooses or groups by."""
    chosen = re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!=|!~|=)", expression)
    grouped = [label for labels in re.findall(r"(?:by|on|group_left|ignoring|without)\s*\(([a-z_, ]*)\)", expression) for label in labels.split(",")]
    return {label.strip() for label in (*chosen, *grouped)} - {""}
