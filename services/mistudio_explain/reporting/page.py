"""The HTML report: one self-contained page that asks for nothing from outside and runs nothing but its own script."""

import base64
import hashlib
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import Any, BinaryIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting import wording
from mistudio_explain.reporting.actions import RULES
from mistudio_explain.reporting.cards import Card, card_of, passages
from mistudio_explain.reporting.contents import contents
from mistudio_explain.reporting.departure import departure
from mistudio_explain.reporting.evidence import EXCERPT_CHARACTERS, visible
from mistudio_explain.reporting.figures import figures_of
from mistudio_explain.reporting.named import name_of
from mistudio_explain.reporting.origin import Origin
from mistudio_explain.reporting.provenance import compliance, methods
from mistudio_explain.reporting.spool import Packed, Spool
from mistudio_explain.reporting.survey import Survey
from mistudio_explain.reporting.targets import tally, targets

WHOLE_UP_TO = 300
"""Features up to which every card stands in the page whole; of more, the page shows what is said of each, the verdict, the scores
and the first text, and keeps the rest packed until it is opened: 5,000 features of 12 texts would be 24 MB."""

_PACKED_BYTES = 9_000_000
"""Texts that a large page keeps packed, in UTF-8 before they are packed to about 45%; the longer the texts together, the shorter their excerpts."""
_LEAST_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Spools:
    """The parts of the page that hold something for each feature."""

    cards: dict[str, Spool]
    safety: Spool
    skipped: Spool
    failed: Spool
    packed: Packed

    def close(self) -> None:
        """Give up all pieces."""
        for spool in (*self.cards.values(), self.safety, self.skipped, self.failed):
            spool.close()
        self.packed.close()


def write_page(out: BinaryIO, report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome], *, whole_up_to: int = WHOLE_UP_TO) -> None:
    """Write explanation_report.html.

    Every feature is rendered once, in the order of the stream, into the part of the page where it belongs; the page
    is then put together from the parts, so that memory does not grow with the job.
    """
    spools = Spools({}, Spool(), Spool(), Spool(), Packed())
    is_brief = figures.total > whole_up_to
    characters = _excerpt_characters(figures.origin) if is_brief else EXCERPT_CHARACTERS
    with closing(spools):
        for position, outcome in enumerate(outcomes, 1):
            _sort(spools, position, outcome, is_brief, characters)
        page = environment().get_template("report.html.j2")
        out.writelines(piece.encode() for piece in page.generate(**_context(report, figures, spools, is_brief)))


def content_security_policy() -> str:
    """Forbid everything but the page's own style and script, named by their hashes."""
    style, script = (_hash(_asset(name)) for name in ("report.css", "report.js"))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _excerpt_characters(origin: Origin) -> int:
    texts = origin.texts_seen + origin.texts_held_out
    if not origin.text_bytes:
        return EXCERPT_CHARACTERS
    return max(_LEAST_CHARACTERS, min(EXCERPT_CHARACTERS, _PACKED_BYTES * origin.text_characters // (origin.text_bytes * texts)))


def _sort(spools: Spools, position: int, outcome: FeatureOutcome, is_brief: bool, characters: int) -> None:
    match outcome.outcome:
        case OutcomeKind.EXPLAINED:
            card = card_of(position, outcome, characters)
            chunk = spools.packed.add(card) if is_brief else None
            spool = spools.cards.setdefault(card.category, Spool())
            spool.add(environment().get_template("card.html.j2").render(card=card, brief=is_brief, chunk=chunk, main_scores=_main_scores(card)))
            if card.safety not in ("safe", None):
                row = environment().get_template("safety.html.j2")
                found = passages(outcome, 1) if is_brief else passages(outcome)
                spools.safety.add(row.render(position=position, outcome=outcome, name=name_of(outcome), passages=found))
        case OutcomeKind.SKIPPED:
            spools.skipped.add(environment().get_template("unexplained.html.j2").render(position=position, outcome=outcome))
        case OutcomeKind.FAILED:
            spools.failed.add(environment().get_template("unexplained.html.j2").render(position=position, outcome=outcome))


def _main_scores(card: Card) -> str:
    return " · ".join(f"{line.name} {line.value:.2f}" for line in card.scores[:3] if line.value is not None)


def _context(report: JobReport, figures: Survey, spools: Spools, is_brief: bool) -> dict[str, Any]:
    held = targets(report, figures)
    return {
        "report": report,
        "figures": figures,
        "spools": spools,
        "is_brief": is_brief,
        "contents": contents(report, figures),
        "charts_of": {figure.name: figure for figure in figures_of(figures)},
        "targets": held,
        "target_groups": [(group, list(several)) for group, several in groupby(held, key=lambda target: target.group)],
        "standings": tally(held),
        "methods": methods(figures),
        "compliance": compliance(report, figures),
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
        shareof=wording.share,
        score=lambda value: f"{value:.2f}",
        count=lambda value: f"{value:,}",
        strength=lambda value: f"{value:.4g}",
        usd=lambda value: f"${value:,.4f}" if 0 < value < 1 else f"${value:,.2f}",
        visible=visible,
        code=_code,
    )
    return made


def _code(text: str) -> Markup:
    """What stands between backticks as code, everything escaped."""
    parts = (Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(text.split("`")))
    return Markup("").join(parts)


@cache
def _asset(name: str) -> str:
    return (resources.files("mistudio_explain.reporting") / "templates" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
