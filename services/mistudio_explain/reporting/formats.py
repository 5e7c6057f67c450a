"""The formats in which a job is reported."""

from collections.abc import Iterable
from enum import StrEnum
from importlib.util import find_spec

from mistudio_explain.errors import BadSettings, ExplainError


class Format(StrEnum):
    """A format; each has one file, but for `json`, which has two, and `pdf`, which has further volumes for a large job."""

    JSON = "json"
    HTML = "html"
    CSV = "csv"
    TXT = "txt"
    JSONL = "jsonl"
    PARQUET = "parquet"
    PDF = "pdf"


AT_THE_END: tuple[Format, ...] = (Format.JSON, Format.HTML, Format.CSV, Format.TXT)
"""What is written of every job that ends: what other programs and people read first, a second or two for 1,000 features. The others are made when asked for."""


class CannotTypeset(ExplainError):
    """A volume of the PDF could not be set."""


def check(formats: Iterable[Format]) -> None:
    """Raise BadSettings for a format that this installation cannot write."""
    if Format.PARQUET in formats and find_spec("pyarrow") is None:
        raise BadSettings("Parquet files need the package pyarrow; `pip install 'mistudio-explain[parquet]'`, or leave parquet out of the formats")
