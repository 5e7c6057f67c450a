"""The wire contract as docs/events.md tells it, read from the schemas alone: what the checker shares with no service."""

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import to_parsing_canonical_form

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = ROOT / "schemas"

FEATURES = "mistudio.find.features"
JOBS = "mistudio.explain.jobs"
ADMISSIONS = "mistudio.explain.admissions"
DRAFTS = "mistudio.explain.drafts"
EXPLANATIONS = "mistudio.explain.explanations"
REPORTS = "mistudio.explain.reports"
DEAD_LETTERS = "mistudio.explain.dlq"
LANES = "mistudio.explain.prompts."
OURS = "mistudio."
"""How the names of all topics begin."""

_MARKER = b"\xc3\x01"
_EMPTY = 0xC15D213AA4D7A795
_STRENGTH = ("failed", "skipped", "explained")


class NotAnEvent(ValueError):
    """Bytes that are not the event that was expected."""


@dataclass(frozen=True, slots=True)
class _Schema:
    name: str
    parsed: Any


def decode(value: bytes | None, event: str) -> dict[str, Any]:
    """Read a value as an event of this version, whichever released version wrote it; raises NotAnEvent."""
    if value is None or value[:2] != _MARKER or len(value) < 10:
        raise NotAnEvent(f"no single-object encoding of {event}: {value[:10] if value else value!r}")
    writer = _by_fingerprint().get(value[2:10])
    if writer is None or writer.name != event:
        raise NotAnEvent(f"{writer.name if writer else 'an unknown schema'} instead of {event}")
    body = io.BytesIO(value[10:])
    try:
        fields = schemaless_reader(body, writer.parsed, _current()[event].parsed)
    except Exception as error:
        raise NotAnEvent(f"{event}: {type(error).__name__}: {error}") from error
    if body.read(1):
        raise NotAnEvent(f"{event}: bytes follow the end")
    return dict(fields)


def encode(event: str, fields: Mapping[str, Any]) -> bytes:
    """Write an event by this version's schema; fields that are left out take their defaults."""
    out = io.BytesIO()
    schema = _current()[event]
    schemaless_writer(out, schema.parsed, dict(fields))
    return _MARKER + fingerprint(schema_in(SCHEMAS / f"{event}.avsc")) + out.getvalue()


def rank(outcome: Mapping[str, Any], value: bytes) -> tuple[int, int, int, int, int, str]:
    """Place an outcome in the order by which one of several counts; the greatest does."""
    return (
        _STRENGTH.index(outcome["outcome"]),
        outcome["subject"]["revision"],
        outcome["pass_number"],
        outcome["validator_version"],
        outcome["background_version"],
        hashlib.sha256(value).hexdigest(),
    )


def fingerprint(schema: Any) -> bytes:
    """CRC-64-AVRO of a schema's parsing canonical form, little-endian."""
    crc = _EMPTY
    for byte in to_parsing_canonical_form(schema).encode():
        crc = (crc >> 8) ^ _crc_table()[(crc ^ byte) & 0xFF]
    return struct.pack("<Q", crc)


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_EMPTY if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@cache
def _current() -> Mapping[str, _Schema]:
    return {path.stem: _Schema(path.stem, parse_schema(schema_in(path))) for path in SCHEMAS.glob("*.avsc")}


@cache
def _by_fingerprint() -> Mapping[bytes, _Schema]:
    released = sorted(SCHEMAS.glob("history/*/*.avsc"))
    return {fingerprint(schema_in(path)): _Schema(path.stem, parse_schema(schema_in(path))) for path in (*released, *SCHEMAS.glob("*.avsc"))}


def schema_in(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
