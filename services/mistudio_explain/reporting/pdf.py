"""The PDF report: set by typst, in volumes, each by a process of its own with a bound on its memory."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.drawing import standalone
from mistudio_explain.reporting.evidence import Excerpt
from mistudio_explain.reporting.figures import Figure, figures_of
from mistudio_explain.reporting.formats import CannotTypeset
from mistudio_explain.reporting.sections import Section, Table, after_features, before_features, heading, warnings
from mistudio_explain.reporting.shown import Shown, short, shown
from mistudio_explain.reporting.survey import Survey, category_of

FEATURES_A_VOLUME = 500
MOST_MEGABYTES = 1_024
"""Address space of the process that sets a volume; of that a volume of 500 features has less than a half in memory (`python -m benchmarks reports`)."""
MOST_ROWS = 1_000
"""Rows of the lists of skipped, failed and unsafe features; the CSV file has them all."""
MOST_TEXTS, TEXT_CHARACTERS = 3, 240
"""Texts of a feature that are shown, and where they are cut: their characters are most of what setting takes, 0.4 KB of memory each."""
_LONGEST_S = 300.0
_SPOOL_BYTES = 1 << 20

_UNBROKEN = re.compile(r"([!-~]{12})(?=[!-~])|([^\s\u200b]{36})(?=[^\s\u200b])")
"""Where typst, which breaks lines at blanks, would let a text run off the page: in joined scripts less often, because a break there parts letters."""


_RIGHT_TO_LEFT = re.compile(r"[^A-Za-z\u00c0-\u058f\u0900-\ufb1c]*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


@dataclass(slots=True)
class _Sorted:
    """What is told of single features: those explained by category on disk, rows of the others."""

    stack: ExitStack
    features: dict[str, IO[bytes]] = field(default_factory=dict)
    unsafe: list[tuple[str, ...]] = field(default_factory=list)
    skipped: list[tuple[str, ...]] = field(default_factory=list)
    failed: list[tuple[str, ...]] = field(default_factory=list)

    def take(self, outcome: FeatureOutcome) -> None:
        if outcome.outcome is not OutcomeKind.EXPLAINED:
            self._unexplained(outcome)
            return
        one = shown(outcome, most_texts=MOST_TEXTS, characters=TEXT_CHARACTERS)
        category = category_of(outcome)
        if category not in self.features:
            self.features[category] = self.stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - the stack closes it
        self.features[category].write(orjson.dumps(_card(one), option=orjson.OPT_APPEND_NEWLINE))
        if one.safety is not None and len(self.unsafe) < MOST_ROWS:
            self.unsafe.append((one.key, one.safety, one.label))

    def _unexplained(self, outcome: FeatureOutcome) -> None:
        rows = self.failed if outcome.outcome is OutcomeKind.FAILED else self.skipped
        if len(rows) < MOST_ROWS:
            coherence = outcome.subject.coherence_score
            rows.append((outcome.subject.feature_key, "–" if coherence is None else f"{coherence:.2f}", short(outcome.reason or "no reason given", 300)))

    def in_order(self, categories: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Every explained feature with its category."""
        for category in categories:
            if (spool := self.features.get(category)) is not None:
                spool.seek(0)
                yield from ((category, line) for line in spool)


def volumes(report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome]) -> Iterator[Path]:
    """Set the volumes one after another; each file is there until the next is asked for.

    A job of up to `FEATURES_A_VOLUME` explained features has one volume. A larger one has a first volume with all that
    is told of the job, and further ones with the features, by category. Raises CannotTypeset.
    """
    with ExitStack() as stack:
        found = _Sorted(stack)
        for outcome in outcomes:
            found.take(outcome)
        further = 0 if figures.explained <= FEATURES_A_VOLUME else -(-figures.explained // FEATURES_A_VOLUME)
        features = found.in_order(each.category for each in figures.categories)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mistudio-explain-pdf-")))
        shutil.copyfileobj(_template(), stack.enter_context((folder / "report.typ").open("wb")))
        for number in range(1, further + 2):
            some = [] if further and number == 1 else list(islice(features, FEATURES_A_VOLUME))
            told = _front(report, figures, found, further) if number == 1 else _further(report, number)
            yield _set(folder, {**told, "volume": number, "volumes": further + 1, "categories": _by_category(some)})


def _front(report: JobReport, figures: Survey, found: _Sorted, further: int) -> dict[str, Any]:
    title, byline = heading(report)
    unexplained = [
        Table(f"{name} ({n:,})", ("feature", "coherence", "reason"), tuple(rows), frozenset({1}))
        for name, rows, n in (("Failed", found.failed, figures.failed), ("Skipped", found.skipped, figures.skipped))
        if rows
    ]
    after = [_safety(found.unsafe), *after_features(report, figures)]
    if unexplained:
        cut = (f"The first {MOST_ROWS:,} of each are listed; explanations.csv has all.",) if max(figures.failed, figures.skipped) > MOST_ROWS else ()
        after.append(Section("List of Features without an Explanation", cut, tables=tuple(unexplained)))
    return {
        **_running(report),
        "title": laid(title),
        "byline": laid(byline),
        "warnings": [laid(each) for each in warnings(report, figures)],
        "contents": [(f"Volume {number}", f"features {_range(number, figures.explained)} by category") for number in range(2, further + 2)],
        "before": [_section(each) for each in before_features(report, figures)],
        "figures": [_figure(each) for each in figures_of(figures)],
        "after": [_section(each) for each in after],
    }


def _safety(unsafe: Sequence[tuple[str, ...]]) -> Section:
    if not unsafe:
        return Section("Safety Assessment", ("No feature is concerning, wants a safety review, or was left unassessed.",))
    cut = (f"The first {MOST_ROWS:,} are listed; explanations.csv has all.",) if len(unsafe) == MOST_ROWS else ()
    return Section(
        "Safety Assessment", cut, tables=(Table("Concerning, to be reviewed, or not assessed", ("feature", "assessment", "explanation"), tuple(unsafe)),)
    )


def _further(report: JobReport, number: int) -> dict[str, Any]:
    return {
        **_running(report),
        "title": f"Volume {number}: feature explanations",
        "byline": "",
        "warnings": [],
        "contents": [],
        "before": [],
        "figures": [],
        "after": [],
    }


def _running(report: JobReport) -> dict[str, str]:
    return {"running": laid(f"job {report.explain_job_id} · {report.target_model or 'model not named'}")}


def _range(number: int, explained: int) -> str:
    first = (number - 2) * FEATURES_A_VOLUME + 1
    return f"{first:,} to {min(first + FEATURES_A_VOLUME - 1, explained):,}"


def _by_category(features: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    categories: dict[str, list[Any]] = {}
    for category, line in features:
        categories.setdefault(category, []).append(orjson.Fragment(line))
    return [{"title": category.capitalize(), "features": cards} for category, cards in categories.items()]


def _set(folder: Path, told: dict[str, Any]) -> Path:
    """Have a volume set from what is told in it. Raises CannotTypeset with what the typesetter said."""
    (folder / "data.json").write_bytes(orjson.dumps(told))
    command = (sys.executable, "-P", "-m", "mistudio_explain.reporting.typeset", str(folder), str(MOST_MEGABYTES))
    which = f"volume {told['volume']} of {told['volumes']} of the PDF report"
    try:
        ended = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LONGEST_S, env=os.environ | {"RAYON_NUM_THREADS": "2"}
        )
    except subprocess.TimeoutExpired as error:
        raise CannotTypeset(f"{which} was not set within {_LONGEST_S:.0f} s; the other formats have the same content") from error
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise CannotTypeset(
            f"{which} could not be set: the typesetter ended with code {ended.returncode}, within {MOST_MEGABYTES} MB of memory: "
            f"{said[-1] if said else 'it said nothing'}; the other formats have the same content"
        )
    return folder / "report.pdf"


def _template() -> IO[bytes]:
    return (resources.files("mistudio_explain.reporting") / "templates" / "report.typ").open("rb")


def _card(one: Shown) -> dict[str, Any]:
    return {
        "key": laid(one.key),
        "label": laid(one.label),
        "verdict": one.verdict,
        "safety": None if one.safety is None else laid(one.safety),
        "paragraphs": [laid(each) for each in one.paragraphs],
        "scores": laid(one.scores),
        "facts": laid(one.facts),
        "notes": [laid(each) for each in one.notes],
        "seen": [_excerpt(each) for each in one.seen],
        "held_out": [_excerpt(each) for each in one.held_out],
        "more": f"{one.more_texts} more in feature_explanations.json" if one.more_texts else None,
    }


def _excerpt(text: Excerpt) -> dict[str, str]:
    return {
        "strength": "" if text.strength is None else f"{text.strength:.4g}",
        "before": laid(text.before),
        "peak": laid(text.peak),
        "after": laid(text.after),
    }


def _figure(figure: Figure) -> dict[str, str]:
    return {"title": figure.title, "note": figure.note, "alternative": laid(figure.alternative), "svg": standalone(figure.svg).decode()}


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "sentences": [laid(short(each)) for each in section.sentences],
        "facts": [(name, laid(short(fact))) for name, fact in section.facts],
        "tables": [_table(each) for each in section.tables],
    }


def _table(table: Table) -> dict[str, Any]:
    rows = [[laid(short(cell, 300)) for cell in row] for row in table.rows]
    longest = [max(len(row[place]) for row in [table.headings, *table.rows]) for place in range(len(table.headings))]
    return {
        "title": table.title,
        "headings": table.headings,
        "rows": rows,
        "numbers": sorted(table.numbers),
        "widths": [max(6, min(length, 60)) for length in longest],
    }


def laid(text: str) -> str:
    """A text with places to break lines in what is otherwise unbroken (U+200B), and a mark in front (U+200F) when it begins from the right; neither shows."""
    broken = _UNBROKEN.sub("\\g<0>\u200b", text)
    return f"\u200f{broken}" if _RIGHT_TO_LEFT.match(text) else broken
