"""The table of a chaos run."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean

from chaos.checker import DROPPED_POISON, DUPLICATED, LOSER_KEPT, LOST, STRANGER, UNASKED, UNEXPLAINED_LETTER, WRONG_COUNTER, WRONG_FILE, WRONG_OUTCOME
from chaos.storm import Result, explained_letters

_OTHERS = (WRONG_OUTCOME, STRANGER, LOSER_KEPT, WRONG_FILE, UNASKED, DROPPED_POISON)


def table(results: Sequence[Result]) -> str:
    """One column for each run."""
    rows = [[name, *(value(result) for result in results)] for name, value in _ROWS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(results) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _count(result: Result, *kinds: str) -> str:
    return str(sum(finding.kind in kinds for finding in result.findings))


def _counters(result: Result) -> str:
    wrong = sum(finding.kind == WRONG_COUNTER for finding in result.findings)
    return "exact" if not wrong else f"{wrong} wrong"


def _failed(result: Result) -> str:
    expected = Counter(fate.outcome for fate in result.fates.values())["failed"]
    wrong = sum(finding.kind == WRONG_OUTCOME for finding in result.findings)
    return f"{expected} by design, {wrong} others"


def _repeats(result: Result) -> str:
    if not result.repeats_of_kills:
        return "no kills"
    in_flight = result.in_flight_at_kills
    return f"mean {mean(result.repeats_of_kills):.1f}, max {max(result.repeats_of_kills)} (in flight: mean {mean(in_flight):.1f}, max {max(in_flight)})"


def _letters(result: Result) -> str:
    explained, all_of_them = explained_letters(result)
    return f"{explained} of {all_of_them}"


def _recovery(result: Result) -> str:
    if not result.recoveries:
        return "not measured"
    return ", ".join(f"{each.called_s:.1f} ({each.called_s - each.started_s:.1f} after process start)" for each in result.recoveries)


def _happened(result: Result) -> str:
    return ", ".join(f"{count} {fault}" for fault, count in sorted(result.happened.items()))


_ROWS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("scenario", lambda result: result.scenario.title),
    ("seed", lambda result: str(result.seed)),
    ("features", lambda result: f"{result.features} on {len(result.scenario.counts)} target models"),
    ("faults", _happened),
    ("poison records", lambda result: str(len(result.poison))),
    ("lost", lambda result: _count(result, LOST)),
    ("duplicates in reports", lambda result: _count(result, DUPLICATED)),
    ("counters", _counters),
    ("failed", _failed),
    ("other findings", lambda result: _count(result, *_OTHERS)),
    ("dead letters explained", _letters),
    ("dead letters unexplained", lambda result: _count(result, UNEXPLAINED_LETTER)),
    ("model calls", lambda result: str(len(result.found.calls))),
    ("calls repeated per generation kill", _repeats),
    ("calls repeated otherwise", lambda result: str(result.repeats_of_others)),
    ("recovery after SIGKILL, s", _recovery),
    (
        "takeover from a dead worker, s",
        lambda result: ", ".join(f"{each.owned_s:.1f} (called again after {each.called_s:.1f})" for each in result.takeovers) or "not measured",
    ),
    ("services that ended by themselves", lambda result: ", ".join(f"{name} {codes}" for name, codes in result.exits.items()) or "none"),
    ("codes on SIGTERM other than 0", lambda result: ", ".join(f"{name} {code}" for name, code in result.stop_codes.items() if code) or "none"),
    ("job statuses on the way", lambda result: ", ".join(result.statuses) or "running, completed"),
    ("wall time, s", lambda result: f"{result.wall_s:.0f}"),
)
