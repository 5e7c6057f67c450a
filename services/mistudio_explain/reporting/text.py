"""The plain-text report: what the page says, to be read in a terminal, searched with grep and sent by mail."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.evidence import EXCERPT_CHARACTERS, Excerpt
from mistudio_explain.reporting.sections import Section, Table, after_features, before_features, heading, warnings
from mistudio_explain.reporting.shown import Shown, short, shown
from mistudio_explain.reporting.survey import Survey, category_of

WIDTH = 100
"""Characters of a line; only what has no blank is longer."""
_SPOOL_BYTES = 1 << 20
_CHUNK = 1 << 16
_MOST_TEXTS = 6
"""Texts of a feature that are shown; the JSON files have all."""
_CELL = 48
"""Widest cell of a table, characters."""


def write_text(out: BinaryIO, report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanation_report.txt: UTF-8, lines that end in LF, every feature text on its own lines and without control characters.

    Features are sorted into categories on disk, so that memory does not grow with the job.
    """
    with ExitStack() as stack:
        spools: dict[tuple[str, str], IO[str]] = {}

        def spool(part: str, name: str = "") -> IO[str]:
            if (part, name) not in spools:
                made = SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - the stack closes it
                spools[part, name] = stack.enter_context(made)
            return spools[part, name]

        for outcome in outcomes:
            if outcome.outcome is not OutcomeKind.EXPLAINED:
                spool(outcome.outcome).writelines(_lines(_unexplained(outcome)))
                continue
            one = shown(outcome, most_texts=_MOST_TEXTS, characters=EXCERPT_CHARACTERS)
            spool("explained", category_of(outcome)).writelines(_lines(_feature(one)))
            if one.safety is not None:
                spool("safety").writelines(_lines(_wrapped(f"{one.key}: {one.safety} – {one.label}", "  ", "    ")))
        out.writelines(line.encode() for line in _lines(_head(report, figures)))
        _parts(
            out, "FEATURE EXPLANATIONS", [(f"{each.category} ({each.explained:,})", spools.get(("explained", each.category))) for each in figures.categories]
        )
        _parts(out, "SAFETY ASSESSMENT", [("Concerning, to be reviewed, or not assessed", spools.get(("safety", "")))])
        out.writelines(line.encode() for section in after_features(report, figures) for line in _lines(_section(section)))
        unexplained = [(f"{kind.capitalize()} ({n:,})", spools.get((kind, ""))) for kind, n in (("failed", figures.failed), ("skipped", figures.skipped))]
        _parts(out, "SKIPPED AND FAILED", unexplained)


def _parts(out: BinaryIO, title: str, parts: Iterable[tuple[str, IO[str] | None]]) -> None:
    out.write(f"\n\n{title}\n{'=' * len(title)}\n".encode())
    there = [(name, spool) for name, spool in parts if spool is not None]
    if not there:
        out.write(b"\nNone.\n")
    for name, spool in there:
        out.write(f"\n{name}\n{'-' * len(name)}\n".encode())
        spool.seek(0)
        while chunk := spool.read(_CHUNK):
            out.write(chunk.encode())


def _lines(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip() + "\n" for line in lines)


def _head(report: JobReport, figures: Survey) -> Iterator[str]:
    title, byline = heading(report)
    yield from _wrapped(short(title))
    yield from _wrapped(short(byline))
    for warning in warnings(report, figures):
        yield ""
        yield from _wrapped(short(warning), "! ", "  ")
    for section in before_features(report, figures):
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    title = section.title.upper()
    yield from ("", "", title, "=" * len(title))
    for sentence in section.sentences:
        yield ""
        yield from _wrapped(short(sentence))
    if section.facts:
        yield ""
    for name, fact in section.facts:
        yield from _wrapped(f"{name}: {short(fact)}", "", "    ")
    for table in section.tables:
        yield from ("", table.title, "-" * len(table.title))
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    rows = [table.headings, *([short(cell, _CELL) for cell in row] for row in table.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.headings))]
    for row in rows:
        yield "  ".join(cell.rjust(width) if place in table.numbers else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))


def _feature(one: Shown) -> Iterator[str]:
    yield ""
    yield from _wrapped(f"{one.key}  [{one.verdict}]  {one.label}")
    if one.safety is not None:
        yield from _wrapped(f"safety: {one.safety}", "    ")
    for paragraph in one.paragraphs:
        yield from _wrapped(paragraph, "    ")
    yield from _wrapped(one.scores, "    ")
    yield from _wrapped(one.facts, "    ")
    for note in one.notes:
        yield from _wrapped(note, "  ! ", "    ")
    for mark, excerpts in (("  > ", one.seen), ("  ~ ", one.held_out)):
        for text in excerpts:
            yield from _wrapped(_text(text), mark, "    ")
    if one.more_texts:
        yield f"    {one.more_texts} more texts in feature_explanations.json"


def _text(text: Excerpt) -> str:
    """The text, its peak between double angle brackets, after the activation where that is known."""
    strength = "" if text.strength is None else f"{text.strength:.4g}  "
    return f"{strength}{text.before}{f'<<{text.peak}>>' if text.peak else ''}{text.after}"


def _unexplained(outcome: FeatureOutcome) -> Iterator[str]:
    coherence = outcome.subject.coherence_score
    known = "" if coherence is None else f" (coherence {coherence:.2f})"
    yield from _wrapped(f"{outcome.subject.feature_key}{known}: {short(outcome.reason or 'no reason given', 500)}", "  ", "    ")


def _wrapped(text: str, first: str = "", later: str | None = None) -> Iterator[str]:
    """The lines of a text, broken at blanks; textwrap takes ten times as long, which is seconds of a large job."""
    line, is_empty = first, True
    for word in text.split(" "):
        if not is_empty and len(line) + 1 + len(word) > WIDTH:
            yield line
            line, is_empty = (first if later is None else later), True
        line, is_empty = (line + word if is_empty else f"{line} {word}"), False
    yield line
