"""The CSV file: one row a feature, safe to open in a spreadsheet.

UTF-8 with a byte order mark, because Excel takes a CSV file without one for the local code page; records end in CR
LF and texts keep their line breaks inside quotes (RFC 4180). Numbers are plain numbers; a value that could not be
computed is an empty cell. Python reads it with `encoding="utf-8-sig", newline=""`.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.reporting.actions import suggested_action
from mistudio_explain.reporting.evidence import max_activation, top_examples
from mistudio_explain.reporting.records import explanation_text
from mistudio_explain.reporting.wording import coherence_status

Cell = str | int | float | None

CELL_CHARACTERS = 32_000  # Excel cuts a cell at 32,767 characters
_CELL_BEGINS = r"(?:^|[;\t\r\n])"  # where Excel takes `;` for the comma, as it does in half of Europe, and in a paste, a cell begins inside a text too
_UNSEEN = r"(?:[^\S\t\r\n]|[\"\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff])*"  # what may stand before a formula, quotes too
_FORMULA = re.compile(rf"^(?=[\t\r\n])|({_CELL_BEGINS})(?={_UNSEEN}[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])")
_UNPRINTABLE = {**{code: "\ufffd" for code in range(0x20) if chr(code) not in "\t\r\n"}, 0x7F: "\ufffd"}


def _lines(reasons: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {why}" for name, why in sorted(reasons.items()))


def _judged(outcome: FeatureOutcome, kind: str) -> float | None:
    judged = outcome.judge.kinds if outcome.judge else []
    return next((each.balanced_accuracy for each in judged if each.kind == kind), None)


def _graded(outcome: FeatureOutcome, grade: float | None) -> Cell:
    return coherence_status(outcome.judge) if grade is None and outcome.outcome is OutcomeKind.EXPLAINED else grade


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, what stands in it, and where that comes from."""

    name: str
    meaning: str
    value: Callable[[FeatureOutcome], Cell]
    kind: type[str | int | float] = str
    """What its values are where they are not absent."""


COLUMNS: tuple[Column, ...] = (
    Column("feature_key", "The feature's name in the job.", lambda o: o.subject.feature_key),
    Column("feature_id", "Its id in its source.", lambda o: o.subject.feature_id),
    Column("source_id", "Layer, hook or SAE.", lambda o: o.subject.source_id),
    Column("outcome", "explained, skipped or failed.", lambda o: o.outcome.value),
    Column("reason", "Why it was skipped or failed.", lambda o: o.reason),
    Column("category", "technical, conversational, behavioral, temporal or other.", lambda o: o.subject.category),
    Column("category_source", "given or inferred.", lambda o: o.subject.category_source),
    Column("tier", "Tier of the coherence.", lambda o: o.subject.tier.value),
    Column("coherence", "Find's coherence, 0 to 1.", lambda o: o.subject.coherence_score, float),
    Column("find_quality_level", "Find's own quality level.", lambda o: o.subject.quality_level),
    Column("keywords", "Find's keywords, comma-separated.", lambda o: ", ".join(o.subject.keywords)),
    Column("label", "The explanation in 3 to 8 words.", lambda o: o.answer.label if o.answer else None),
    Column("pattern", "The sentence that was scored for truth.", lambda o: o.answer.pattern if o.answer else None),
    Column("explanation", "The whole explanation.", explanation_text),
    Column("verdict", "confirmed, partial, contradicted or unverifiable.", lambda o: o.pattern_verification),
    Column("quality", "0.4 accuracy + 0.3 clarity + 0.2 consistency + 0.1 relevance.", lambda o: o.quality_score, float),
    Column("confidence", "Probability that the verdict is right.", lambda o: o.confidence, float),
    Column(
        "accuracy",
        "Probability that the explanation belongs to this feature rather than to another of its find job.",
        lambda o: o.accuracy.p if o.accuracy else None,
        float,
    ),
    Column("accuracy_low", "Lower end of its 95% interval.", lambda o: o.accuracy.low if o.accuracy else None, float),
    Column("accuracy_high", "Upper end of its 95% interval.", lambda o: o.accuracy.high if o.accuracy else None, float),
    Column("accuracy_texts", "Texts that it rests on.", lambda o: o.accuracy.n if o.accuracy else None, int),
    Column("accuracy_basis", "all, held_out or seen.", lambda o: o.accuracy.basis if o.accuracy else None),
    Column("clarity", "Rules, not validated on people; 0 to 1.", lambda o: o.clarity.value if o.clarity else None, float),
    Column("consistency", "How much the texts bear out; 0 to 1.", lambda o: o.consistency.value if o.consistency else None, float),
    Column("relevance", "Business relevance, 0 to 1.", lambda o: o.relevance.value if o.relevance else None, float),
    Column("business_relevance", "high, medium or low.", lambda o: o.business_relevance),
    Column("safety", "safe, concerning or requires_review.", lambda o: o.safety.assessment if o.safety else None),
    Column("safety_categories", "Hazard classes, comma-separated.", lambda o: ", ".join(o.safety.categories) if o.safety else None),
    Column("suggested_action", "steer, ablate, inspect or ignore.", lambda o: suggested_action(o) if o.outcome is OutcomeKind.EXPLAINED else None),
    Column("review_reason", "Why a person should look.", lambda o: o.review_reason),
    Column("flags", "Short marks, comma-separated.", lambda o: ", ".join(o.flags)),
    Column("caveats", "Limits of the explanation, one a line.", lambda o: "\n".join(o.caveats)),
    Column("not_computed", "Components without a value and why, one a line.", lambda o: _lines(o.unavailable)),
    Column("max_activation", "Greatest activation, in the source's unit.", max_activation, float),
    Column("strongest_text", "The text with the greatest activation.", lambda o: next(iter(top_examples(o)), None)),
    Column("model", "Explainer model.", lambda o: o.generation.model if o.generation else None),
    Column("endpoint", "Endpoint that answered.", lambda o: o.generation.endpoint if o.generation else None),
    Column("tokens_in", "Prompt tokens.", lambda o: o.generation.tokens_in if o.generation else None, int),
    Column("tokens_out", "Answer tokens.", lambda o: o.generation.tokens_out if o.generation else None, int),
    Column("cost_usd", "Cost of the call, US dollars.", lambda o: o.generation.cost_usd if o.generation else None, float),
    Column("latency_s", "Latency of the call, seconds.", lambda o: o.generation.latency_s if o.generation else None, float),
    Column("prompt", "Prompt template and version.", lambda o: o.prompt_template),
    Column("validator_version", "Version of the validator; 0 when it did not run.", lambda o: o.validator_version, int),
    Column("review", "A person's verdict: right, partly, wrong or unclear.", lambda o: o.review.verdict if o.review else None),
    Column("review_corrected", "What the explanation should have said, by that person.", lambda o: o.review.corrected if o.review else None),
    Column("review_who", "Who reviewed it.", lambda o: o.review.who if o.review else None),
    Column("review_why", "Why.", lambda o: o.review.why if o.review else None),
    Column("judge", "The judge's model.", lambda o: o.judge.model if o.judge else None),
    Column("judge_detection", "Balanced accuracy of the judge's detection, 0 to 1.", lambda o: _judged(o, "detection"), float),
    Column("judge_fuzzing", "Balanced accuracy of the judge's fuzzing, 0 to 1.", lambda o: _judged(o, "fuzzing"), float),
    Column("judge_unparsed", "Examples that could not be judged.", lambda o: sum(each.unparsed for each in o.judge.kinds) if o.judge else None, int),
    Column(
        "factual_coherence", "The judge's grade, 0 to 1, or why there is none.", lambda o: _graded(o, o.judge.factual_coherence if o.judge else None), float
    ),
    Column(
        "logical_coherence", "The judge's grade, 0 to 1, or why there is none.", lambda o: _graded(o, o.judge.logical_coherence if o.judge else None), float
    ),
    Column("revision", "Revision of the outcome.", lambda o: o.subject.revision, int),
    Column("pass", "1, or 2 for a second pass.", lambda o: o.pass_number, int),
    Column("computed", "What the source lacks and was computed from the texts.", lambda o: "; ".join(o.subject.computed)),
)


def write_table(out: BinaryIO, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanations.csv."""
    out.write(codecs.BOM_UTF8)
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow([column.name for column in COLUMNS])
    for outcome in outcomes:
        rows.writerow([cell(column.value(outcome)) for column in COLUMNS])
    text.detach()


def cell(value: Cell) -> Cell:
    """Make a value harmless in a spreadsheet.

    A text that a spreadsheet could take for a formula (it begins with = + - @ or their full-width forms, also after
    blanks, quotes and characters that do not show, or with a tab or line break) gets an apostrophe in front, after
    which Excel, LibreOffice and Google Sheets take it for text. The same holds behind each `;`, tab and line break
    inside a text, because a program that is set to another separator begins a cell there, whatever is quoted. Numbers
    stay numbers, negative ones too; other control characters become U+FFFD. The JSON, JSONL and Parquet files hold
    every text as it is.
    """
    if not isinstance(value, str):
        return value
    harmless = _FORMULA.sub(r"\1'", value.translate(_UNPRINTABLE))
    return harmless if len(harmless) <= CELL_CHARACTERS else harmless[:CELL_CHARACTERS] + " …"
