"""The table that the library gives: rows to look at, to walk through and to hand to other tools."""

from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any, overload

from mistudio_explain.context.cleaning import cleaned
from mistudio_explain.errors import ExplainError
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.reporting.table import COLUMNS

_SHOWN_ROWS = 50
_TEXT_CHARACTERS = 80
_HEADINGS = ("feature", "verdict", "accuracy", "quality", "safety", "explanation")


class Table(Sequence[FeatureOutcome]):
    """Outcomes, one a row. `table[0]` is an outcome with all that is known, `table[:10]` a table.

    Printed, it is a readable table, in a notebook an HTML one. `to_rows()` and `to_pandas()` give the columns of
    a report's explanations.csv.
    """

    def __init__(self, outcomes: Sequence[FeatureOutcome]) -> None:
        self.outcomes = tuple(outcomes)

    @overload
    def __getitem__(self, place: int) -> FeatureOutcome: ...
    @overload
    def __getitem__(self, place: slice) -> "Table": ...
    def __getitem__(self, place: int | slice) -> "FeatureOutcome | Table":
        return Table(self.outcomes[place]) if isinstance(place, slice) else self.outcomes[place]

    def __len__(self) -> int:
        return len(self.outcomes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.outcomes == other.outcomes

    def __hash__(self) -> int:
        return hash(tuple(outcome.subject.feature_key for outcome in self.outcomes))

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict a row, with the columns of explanations.csv: texts, numbers and None."""
        return [{column.name: _plain_value(column.value(outcome)) for column in COLUMNS} for outcome in self.outcomes]

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame. Raises ExplainError when pandas is not installed."""
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ExplainError("pandas is not installed; `pip install pandas`, or use to_rows()") from error
        return pandas.DataFrame(self.to_rows(), columns=[column.name for column in COLUMNS])

    def __repr__(self) -> str:
        rows = [_HEADINGS, *(_cells(outcome) for outcome in self.outcomes[:_SHOWN_ROWS])]
        widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        more = [f"... {len(self) - _SHOWN_ROWS} more"] if len(self) > _SHOWN_ROWS else []
        return "\n".join([*lines, *more])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(outcome))}</tr>" for outcome in self.outcomes[:_SHOWN_ROWS])
        more = f"<p>... {len(self) - _SHOWN_ROWS} more</p>" if len(self) > _SHOWN_ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _cells(outcome: FeatureOutcome) -> tuple[str, ...]:
    """What a person sees of an outcome. Texts are hostile: they lose control characters and direction overrides."""
    said = " ".join(cleaned(outcome.explanation or outcome.reason or "").split())
    verdict = outcome.pattern_verification.value if outcome.pattern_verification else outcome.outcome.value
    return (
        outcome.subject.feature_key,
        verdict,
        _number(outcome.accuracy.p if outcome.accuracy else None),
        _number(outcome.quality_score),
        outcome.safety.assessment if outcome.safety else "-",
        said if len(said) <= _TEXT_CHARACTERS else said[: _TEXT_CHARACTERS - 4] + " ...",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _plain_value(value: Any) -> Any:
    """Names of verdicts and categories as texts, not as members of an enumeration."""
    return str(value) if isinstance(value, str) else value
