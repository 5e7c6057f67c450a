"""The HTML report: one self-contained page that asks for nothing from outside and runs nothing but its own script."""

import base64
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, BinaryIO

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting import wording
from mistudio_explain.reporting.actions import RULES, suggested_action
from mistudio_explain.reporting.departure import departure
from mistudio_explain.reporting.evidence import Excerpt, excerpt, max_activation, texts, visible
from mistudio_explain.reporting.origin import is_demonstration
from mistudio_explain.reporting.survey import Survey, category_of

_SPOOL_BYTES = 1 << 20
_CHUNK_CHARACTERS = 1 << 16
_SAFETY_TEXTS = 3


@dataclass(frozen=True, slots=True)
class Passage:
    """A place that speaks for a safety concern: the words found, and the text they stand in; None for the explanation."""

    category: str
    words: tuple[str, ...]
    excerpt: Excerpt | None


class Spool:
    """Pieces of a page in the order they came, on disk once they are many."""

    def __init__(self) -> None:
        self._text = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8", newline="")  # noqa: SIM115 - see close
        self.pieces = 0

    def add(self, piece: str) -> None:
        """Append a rendered piece."""
        self._text.write(piece)
        self.pieces += 1

    def chunks(self) -> Iterator[Markup]:
        """Everything that was added, already safe HTML."""
        self._text.seek(0)
        while chunk := self._text.read(_CHUNK_CHARACTERS):
            yield Markup(chunk)  # noqa: S704 - rendered by the autoescaping templates below

    def close(self) -> None:
        """Give up the pieces."""
        self._text.close()


@dataclass(frozen=True, slots=True)
class Spools:
    """The parts of the page that hold something for each feature."""

    cards: dict[str, Spool]
    safety: Spool
    skipped: Spool
    failed: Spool

    def close(self) -> None:
        """Give up all pieces."""
        for spool in (*self.cards.values(), self.safety, self.skipped, self.failed):
            spool.close()


def write_page(out: BinaryIO, report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanation_report.html.

    Every feature is rendered once, in the order of the stream, into the part of the page where it belongs; the page
    is then put together from the parts, so that memory does not grow with the job.
    """
    spools = Spools({}, Spool(), Spool(), Spool())
    with closing(spools):
        for position, outcome in enumerate(outcomes, 1):
            _sort(spools, position, outcome)
        page = environment().get_template("report.html.j2")
        out.writelines(piece.encode() for piece in page.generate(**_context(report, figures, spools)))


def content_security_policy() -> str:
    """Forbid everything but the page's own style and script, named by their hashes."""
    style, script = (_hash(_asset(name)) for name in ("report.css", "report.js"))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _sort(spools: Spools, position: int, outcome: FeatureOutcome) -> None:
    match outcome.outcome:
        case OutcomeKind.EXPLAINED:
            spools.cards.setdefault(category_of(outcome), Spool()).add(_card(environment().get_template("card.html.j2"), position, outcome))
            if outcome.safety is not None and outcome.safety.assessment != "safe":
                row = environment().get_template("safety.html.j2")
                spools.safety.add(row.render(position=position, outcome=outcome, passages=_passages(outcome)))
        case OutcomeKind.SKIPPED:
            spools.skipped.add(environment().get_template("unexplained.html.j2").render(position=position, outcome=outcome))
        case OutcomeKind.FAILED:
            spools.failed.add(environment().get_template("unexplained.html.j2").render(position=position, outcome=outcome))


def _card(card: Template, position: int, outcome: FeatureOutcome) -> str:
    evidence = outcome.evidence
    return card.render(
        position=position,
        outcome=outcome,
        action=suggested_action(outcome),
        demonstration=is_demonstration(outcome.generation),
        max_activation=max_activation(outcome),
        seen=[excerpt(a) for a in evidence.seen] if evidence else [],
        held_out=[excerpt(a) for a in evidence.held_out] if evidence else [],
    )


def _passages(outcome: FeatureOutcome) -> list[Passage]:
    kept = texts(outcome.evidence)
    found = outcome.safety.evidence if outcome.safety else []
    in_texts = [e for e in found if e.where == "text" and e.index is not None and 0 <= e.index < len(kept)]
    in_explanation = [e for e in found if e.where == "explanation"]
    return [
        *(Passage(e.category, tuple(e.words), None) for e in in_explanation),
        *(Passage(e.category, tuple(e.words), excerpt(kept[e.index])) for e in in_texts[:_SAFETY_TEXTS] if e.index is not None),
    ]


def _context(report: JobReport, figures: Survey, spools: Spools) -> dict[str, Any]:
    return {
        "report": report,
        "figures": figures,
        "spools": spools,
        "rules": RULES,
        "departure": departure(report, figures),
        "policy": content_security_policy(),
        "style": Markup(_asset("report.css")),  # noqa: S704 - our own file
        "script": Markup(_asset("report.js")),  # noqa: S704 - our own file
    }


@cache
def environment() -> Environment:
    """The templates' environment: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("mistudio_explain.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        duration=wording.duration,
        moment=wording.day_and_time,
        coherence=wording.coherence_status,
        shareof=wording.share,
        score=lambda value: f"{value:.2f}",
        count=lambda value: f"{value:,}",
        strength=lambda value: f"{value:.4g}",
        usd=lambda value: f"${value:,.4f}" if 0 < value < 1 else f"${value:,.2f}",
        visible=visible,
    )
    return made


@cache
def _asset(name: str) -> str:
    return (resources.files("mistudio_explain.reporting") / "templates" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
