"""The formats in which a job is reported."""

from enum import StrEnum


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
