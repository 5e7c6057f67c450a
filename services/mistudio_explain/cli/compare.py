"""`compare`: what changed between explain jobs of one find job."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from rich.console import RenderableType
from rich.text import Text

from mistudio_explain.cli.scored import job_of
from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.reporting.comparison import FATES, SCORES, By, Comparison, Explained, Group, JobOutcomes, Pair, Shift, Usage, compare
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes, reading

_BY = ("model", "prompt", "category")
_TEXT_CHARACTERS = 400


def compare_jobs(jobs: Sequence[str], *, by: str | None, limit: int, same_background: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Compare each job with the first and show it."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if by is not None and by not in _BY:
        raise BadInput(f"--by {by!r}: it groups by {', '.join(_BY)}")
    if len(jobs) < 2 or len(set(jobs)) < len(jobs):
        raise BadInput("name two or more different jobs; the others are compared with the first")
    first, *others = (_outcomes(settings, job) for job in jobs)
    made = [compare(first, other, by=cast("By | None", by), limit=limit, same_background=same_background) for other in others]
    if as_json:
        print_json([as_data(comparison) for comparison in made])
        return 0
    for comparison in made:
        for part in shown(comparison):
            console().print(part)
    return 0


def _outcomes(settings: Settings, named: str) -> JobOutcomes:
    with job_of(named, settings) as (stored, job):
        with reading(stored.store) as store:
            state = store.state(job)
            if state is None:
                raise BadInput(f"the store {stored.store.url} has no job {job!r}; it has {', '.join(store.jobs(20)) or 'none'}")
        return JobOutcomes.of(named, state.find_job_id, read_outcomes(stored.store, job))


def as_data(comparison: Comparison) -> dict[str, Any]:
    """A comparison for scripts."""
    return {
        "first": comparison.first,
        "other": comparison.other,
        "features": comparison.features,
        "left_out": comparison.left_out,
        "fates": [{"first": before, "other": after, "features": count} for (before, after), count in comparison.fates.items()],
        "all": asdict(comparison.everything),
        "groups": [asdict(group) for group in comparison.groups],
        "most_changed": [{"feature_key": pair.first.feature_key, "first": _data(pair.first), "other": _data(pair.other)} for pair in comparison.most_changed],
        "notes": list(comparison.notes),
    }


def _data(explained: Explained) -> dict[str, Any]:
    return {
        "verdict": explained.fate,
        **{str(name): value for name, value in explained.scores.items()},
        "model": explained.model,
        "prompt": explained.prompt,
        "explanation": explained.text,
    }


def shown(comparison: Comparison) -> Iterator[RenderableType]:
    """A comparison for people, to fit 100 columns."""
    left_out = f"; {comparison.left_out} scored against different backgrounds are left out" if comparison.left_out else ""
    heading = f"{comparison.first} → {comparison.other}: {comparison.features} features, {comparison.everything.n} explained in both{left_out}"
    yield Text(heading, style="bold")
    yield _fates(comparison)
    groups = comparison.groups or (comparison.everything,)
    yield _shifts(groups)
    yield _usages(groups)
    if comparison.most_changed:
        yield _texts(comparison.most_changed)
    else:
        yield Text("No explanation, verdict or score differs.")
    for note in comparison.notes:
        yield Text(note, style="yellow")


def _fates(comparison: Comparison) -> RenderableType:
    found = comparison.fates
    rows = [fate for fate in map(str, FATES) if any(before == fate for before, _ in found)]
    columns = [fate for fate in map(str, FATES) if any(after == fate for _, after in found)]
    cells = [[row, *(str(found.get((row, column), "·")) for column in columns)] for row in rows]
    both = comparison.everything
    title = f"Verdicts: {both.changed_verdicts} of {both.n} changed. From the first job (rows) to the other (columns)"
    return table(title, ("", *columns), cells)


def _shifts(groups: Sequence[Group]) -> RenderableType:
    rows = [(group.name if score == SCORES[0] else "", score, str(group.shifts[score].n), *_cells(group.shifts[score])) for group in groups for score in SCORES]
    title = "Scores of features explained in both: means, paired difference, its 95% interval"
    return table(title, ("group", "score", "n", "first", "other", "difference", "95% interval"), rows, wrap={"group": 30})


def _cells(shift: Shift) -> tuple[str, str, str, str]:
    if shift.difference is None or shift.first is None or shift.other is None:
        return "-", "-", "-", "-"
    interval = "-" if shift.low is None or shift.high is None else f"{shift.low:+.3f} to {shift.high:+.3f}"
    return f"{shift.first:.3f}", f"{shift.other:.3f}", f"{shift.difference:+.3f}", interval


def _usages(groups: Sequence[Group]) -> RenderableType:
    rows = [row for group in groups for row in ((group.name, "first", *_usage(group.first)), ("", "other", *_usage(group.other)))]
    columns = ("group", "job", "answers", "cached", "s a call", "tokens in", "out", "cost")
    return table("Time and cost of those answers", columns, rows, wrap={"group": 30})


def _usage(usage: Usage) -> tuple[str, ...]:
    latency = "-" if usage.latency_s is None else f"{usage.latency_s:.2f}"
    cost = "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.2f}"
    return str(usage.answers), str(usage.cached), latency, str(usage.tokens_in), str(usage.tokens_out), cost


def _texts(pairs: Sequence[Pair]) -> RenderableType:
    rows = [(pair.first.feature_key, _told(pair.first), _told(pair.other)) for pair in pairs]
    return table(f"The {len(rows)} features that changed most", ("feature", "first", "other"), rows, wrap={"feature": 16, "first": None, "other": None})


def _told(explained: Explained) -> str:
    accuracy, quality = explained.scores["accuracy"], explained.scores["quality"]
    scores = f"{explained.fate} {'-' if accuracy is None else f'{accuracy:.2f}'}, quality {'-' if quality is None else f'{quality:.2f}'}"
    text = plain(explained.text)
    return f"[{scores}] {text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS] + ' ...'}"
