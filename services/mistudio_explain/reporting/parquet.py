"""The Parquet file: one row a feature, the columns of the CSV file with their types, lists as lists, and the texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as arrow
from pyarrow import parquet

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.table import COLUMNS

_ROWS = 500
"""Rows of a row group, which are in memory together, about 20 KB each."""

_TYPES = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
_STRINGS = arrow.list_(arrow.field("element", arrow.string()))
_TEXTS = arrow.list_(
    arrow.field("element", arrow.struct([("text", arrow.string()), ("activation", arrow.float64()), ("context", arrow.string()), ("held_out", arrow.bool_())]))
)


@dataclass(frozen=True, slots=True)
class _Nested:
    """A column that the CSV file has as one text, or not at all."""

    type: arrow.DataType
    value: Callable[[FeatureOutcome], Any]
    meaning: str


def _texts(outcome: FeatureOutcome) -> list[dict[str, Any]]:
    evidence = outcome.evidence
    if evidence is None:
        return []
    shown = [(text, False) for text in evidence.seen] + [(text, True) for text in evidence.held_out]
    return [{"text": text.text, "activation": text.activation_strength, "context": text.context, "held_out": held_out} for text, held_out in shown]


_NESTED: Mapping[str, _Nested] = {
    "keywords": _Nested(_STRINGS, lambda o: o.subject.keywords, "Find's keywords."),
    "safety_categories": _Nested(_STRINGS, lambda o: o.safety.categories if o.safety else None, "Hazard classes."),
    "flags": _Nested(_STRINGS, lambda o: o.flags, "Short marks."),
    "caveats": _Nested(_STRINGS, lambda o: o.caveats, "Limits of the explanation."),
    "not_computed": _Nested(arrow.map_(arrow.string(), arrow.string()), lambda o: sorted(o.unavailable.items()), "Components without a value, and why."),
    "texts": _Nested(_TEXTS, _texts, "All kept texts, those that the explainer saw first."),
}


def write_parquet(out: BinaryIO, report: JobReport, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanations.parquet; memory holds one row group at a time. Its metadata name the job and what each column means."""
    schema = columns().with_metadata({"explain_job_id": report.explain_job_id, "find_job_id": report.find_job_id or "", "tenant": report.tenant})
    stream = iter(outcomes)
    with parquet.ParquetWriter(out, schema, compression="zstd") as file:
        while rows := [_row(outcome) for outcome in islice(stream, _ROWS)]:
            file.write_table(arrow.Table.from_pylist(rows, schema=schema))


def columns() -> arrow.Schema:
    """The columns: those of `table.COLUMNS` in their order, then `texts`; later versions may add some at the end, none goes away or changes its type."""
    return arrow.schema(list(_fields()))


def _fields() -> Iterator[arrow.Field]:
    for column in COLUMNS:
        nested = _NESTED.get(column.name)
        kind, meaning = (nested.type, nested.meaning) if nested else (_TYPES[column.kind], column.meaning)
        yield arrow.field(column.name, kind, metadata={"meaning": meaning})
    yield arrow.field("texts", _NESTED["texts"].type, metadata={"meaning": _NESTED["texts"].meaning})


def _row(outcome: FeatureOutcome) -> dict[str, Any]:
    scalars = {column.name: _typed(column.value(outcome), column.kind) for column in COLUMNS if column.name not in _NESTED}
    return scalars | {name: nested.value(outcome) for name, nested in _NESTED.items()}


def _typed(value: Any, kind: type) -> Any:
    """The value where it is of its column's kind: a reason that stands in a number's place in the CSV file is no number."""
    if value is None or kind is str:
        return None if value is None else str(value)
    return kind(value) if isinstance(value, int | float) else None
