"""What a real Prometheus scraped of a real run, with its time stretched: each second stands for a minute.

So the windows and waiting times of the rules, which are minutes and hours, pass in seconds. Values are as they were scraped, rounded to thousandths.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

STALE = "stale"
NOTHING = "_"


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the services, and which alert must tell it: the alert's labels among them, from when to when, minutes after the recording's begin.

    The alert is quiet before `begin`, fires before `end` at some time, and is quiet again at the recording's end.
    """

    alert: str
    labels: Mapping[str, str]
    what: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Series by their names with labels, a value for each minute (as Prometheus's unit tests write them), and the faults."""

    minutes: int
    faults: Sequence[Fault]
    series: Mapping[str, Sequence[str]]

    def write(self, path: Path) -> None:
        """Write it down, runs of equal values folded."""
        faults = [{"alert": each.alert, "labels": dict(each.labels), "what": each.what, "begin": each.begin, "end": each.end} for each in self.faults]
        lines = [f"  {json.dumps(name)}: {json.dumps(' '.join(_folded(values)))}" for name, values in sorted(self.series.items())]
        head = json.dumps({"minutes": self.minutes, "faults": faults}, indent=1).removesuffix("\n}")
        path.write_text(f'{head},\n "series": {{\n' + ",\n".join(lines) + "\n }\n}\n")

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Read what `write` wrote; values stay folded."""
        kept = json.loads(path.read_text())
        return cls(kept["minutes"], [Fault(**each) for each in kept["faults"]], {name: values.split() for name, values in kept["series"].items()})

    def as_rule_test(self, rules: Path) -> Mapping[str, Any]:
        """The recording with what must come of it, for `promtool test rules`."""
        return {
            "rule_files": [str(rules)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": name, "values": " ".join(_folded(values))} for name, values in self.series.items()],
                    "promql_expr_test": [question for fault in self.faults for question in _questions(fault, self.minutes)],
                }
            ],
        }


def recorded(scraped: Iterable[Mapping[str, Any]], begin_s: float, minutes: int, faults: Sequence[Fault]) -> Recording:
    """Make a recording of the results of a query for ranges; a sample's second is counted from `begin_s`, seconds since 1970 UTC."""
    series = {}
    for found in scraped:
        labels = dict(found["metric"])
        name = labels.pop("__name__")
        values: list[str] = [NOTHING] * minutes
        for at_s, value in found["values"]:
            if 0 <= (minute := round(float(at_s) - begin_s)) < minutes:
                values[minute] = value if value.isdigit() else f"{float(value):.3f}"
        if any(value != NOTHING for value in values):
            series[f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in sorted(labels.items()))}}}"] = _gaps_marked(values)
    return Recording(minutes, faults, series)


def _gaps_marked(values: Sequence[str]) -> list[str]:
    """Where a series ends, Prometheus writes that it ended; queries for ranges do not show it."""
    return [STALE if value == NOTHING and number and values[number - 1] != NOTHING else value for number, value in enumerate(values)]


def _folded(values: Sequence[str]) -> Iterator[str]:
    for value, run in groupby(values):
        length = sum(1 for _ in run)
        yield value if length == 1 else f"_x{length}" if value == NOTHING else f"{value}x{length - 1}" if _is_number(value) else " ".join([value] * length)


def _is_number(value: str) -> bool:
    return value not in (STALE, NOTHING) and "x" not in value


def _questions(fault: Fault, minutes: int) -> Iterator[Mapping[str, Any]]:
    """Questions to ALERTS: it did not fire before, it fired in time, it does not fire at the end."""
    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in fault.labels.items())
    firing = f'ALERTS{{alertname="{fault.alert}",alertstate="firing"{"," if labels else ""}{labels}}}'
    fires = [{"labels": "{}", "value": 1}]
    yield {"expr": f"count(count_over_time({firing}[{max(1, fault.begin)}m])) > bool 0", "eval_time": f"{fault.begin}m", "exp_samples": []}
    yield {"expr": f"count(count_over_time({firing}[{fault.end - fault.begin}m])) > bool 0", "eval_time": f"{fault.end}m", "exp_samples": fires}
    yield {"expr": f"count({firing}) > bool 0", "eval_time": f"{minutes - 1}m", "exp_samples": []}
