"""Avro single-object encoding: C3 01, the schema's CRC-64-AVRO fingerprint little-endian, the body.

No registry is needed: every schema that was ever released lies in schemas/ or schemas/history/, and a reader
resolves what an older or newer writer wrote to its own schema. While services of an older release still read, a process
writes as that release did (`write_as`).
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import orjson
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form
from pydantic import ValidationError

from mistudio_explain.errors import BadSettings, MalformedEvent, UnknownFingerprint
from mistudio_explain.events.contract import UNREAD, told
from mistudio_explain.events.model import Record

MARKER = b"\xc3\x01"
_HEADER = 10

# what reading bytes that are not such an event has been seen to raise
_UNREADABLE = (EOFError, ValueError, IndexError, StopIteration, OverflowError, MemoryError, struct.error, KeyError, TypeError)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class _Schema:
    name: str
    fields: tuple[str, ...]
    text: bytes
    parsed: Any
    fingerprint: bytes


def fingerprint_bytes(schema: Any) -> bytes:
    """The 8 bytes that name a schema on the wire: CRC-64-AVRO of its canonical form, little-endian.

    fastavro prints the fingerprint as hex of those bytes in that order.
    """
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _load(text: bytes) -> _Schema:
    raw = orjson.loads(text)
    fields = tuple(field["name"] for field in raw["fields"])
    return _Schema(name=raw["name"], fields=fields, text=text, parsed=parse_schema(raw), fingerprint=fingerprint_bytes(raw))


@cache
def current_schemas() -> Mapping[str, _Schema]:
    """This version's schemas by event name."""
    folder = resources.files("mistudio_explain") / "schemas"
    return {s.name: s for s in (_load(f.read_bytes()) for f in folder.iterdir() if f.name.endswith(".avsc"))}


@cache
def _released_schemas() -> Mapping[str, Mapping[str, _Schema]]:
    """The schemas of every release in schemas/history, by release and event name."""
    history = resources.files("mistudio_explain") / "schemas" / "history"
    releases = [release for release in history.iterdir() if release.is_dir()] if history.is_dir() else []
    return {release.name: {s.name: s for s in (_load(f.read_bytes()) for f in release.iterdir() if f.name.endswith(".avsc"))} for release in releases}


@cache
def _known_schemas() -> Mapping[bytes, _Schema]:
    """Every schema that was ever released, by fingerprint."""
    return {s.fingerprint: s for schemas in (*_released_schemas().values(), current_schemas()) for s in schemas.values()}


_contract: str | None = None


def write_as(release: str | None) -> None:
    """From now on this process writes events as a release in schemas/history did, so that its services read them; None: as this version does.

    What that release has no field for is left out. An event that none of its services reads is written as ever. Raises BadSettings for a
    release that is not there.
    """
    global _contract  # one process writes one contract, whoever encodes
    if release is not None and release not in _released_schemas():
        known = ", ".join(sorted(_released_schemas()))
        raise BadSettings(f"kafka.contract is {release!r}; events can be written as by {known}, or, when it is absent, as by this version")
    _contract = release


def encode(event: Record) -> bytes:
    """Encode an event with this version's schema, or with that of the release that `write_as` names.

    Raises MalformedEvent when a text cannot be written as UTF-8 (a lone surrogate), or a number not in 64 bits, and BadInput when
    that release's services would take the event for something else.
    """
    schema = current_schemas()[type(event).__name__]
    release = None if _contract is None or schema.name in UNREAD.get(_contract, ()) else _contract
    if release is not None:
        schema = _released_schemas()[release].get(schema.name, schema)
    out = io.BytesIO(MARKER + schema.fingerprint)
    out.seek(_HEADER)
    try:
        schemaless_writer(out, schema.parsed, event.model_dump() if release is None else told(event, release))
    except UnicodeEncodeError as error:
        raise MalformedEvent(f"{schema.name}: a text holds a character that is not valid Unicode (a lone surrogate): {error}") from error
    except OverflowError as error:
        raise MalformedEvent(f"{schema.name}: a whole number does not fit into the contract's 64 bits: {error}") from error
    return out.getvalue()


def event_name(value: bytes) -> str:
    """Say which event a value is, from its fingerprint alone."""
    return _writer_schema(value, "event").name


def is_of_unknown_schema(value: bytes | None) -> bool:
    """Whether a value says that it is an event of a schema that no release had up to this one."""
    return value is not None and len(value) >= _HEADER and value[:2] == MARKER and value[2:_HEADER] not in _known_schemas()


def decode(model: type[R], value: bytes | None) -> R:
    """Decode a value that should be a `model`, whichever released version wrote it.

    Raises UnknownFingerprint for a schema that no release had, MalformedEvent (naming the event and the field)
    for anything else that is not such an event.
    """
    name = model.__name__
    if value is None:
        raise MalformedEvent(f"{name}: the record has no value (a tombstone), where an event was expected")
    writer = _writer_schema(value, name)
    if writer.name != name:
        raise MalformedEvent(f"{name} was expected, but the record holds a {writer.name}")
    reader = current_schemas()[name]
    body = io.BytesIO(value)
    body.seek(_HEADER)
    try:
        fields = schemaless_reader(body, writer.parsed, None if writer is reader else reader.parsed)
    except _UNREADABLE as error:
        raise MalformedEvent(f"{name}.{_unreadable_field(writer, value)}: the bytes do not follow the schema ({type(error).__name__}: {error})") from error
    if body.tell() != len(value):
        raise MalformedEvent(f"{name}: {len(value) - body.tell()} bytes follow the event's end")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise MalformedEvent(f"{name}: {_describe(error)}") from error


def decode_leading(model: type[Record], value: bytes, last: str) -> dict[str, Any]:
    """The first fields of an event that should be a `model`, up to the one named `last`, without reading or checking the rest.

    Raises MalformedEvent when the value is another event, or those fields cannot be read.
    """
    name = model.__name__
    writer = _writer_schema(value, name)
    if writer.name != name or last not in writer.fields:
        raise MalformedEvent(f"{name} with {last} was expected, but the record holds a {writer.name}")
    body = io.BytesIO(value)
    body.seek(_HEADER)
    try:
        fields: dict[str, Any] = schemaless_reader(body, _prefixes(writer.text)[writer.fields.index(last)], None)  # type: ignore[assignment]
    except _UNREADABLE as error:
        raise MalformedEvent(f"{name}: the bytes up to {last} do not follow the schema ({type(error).__name__}: {error})") from error
    return fields


def _writer_schema(value: bytes, expected: str) -> _Schema:
    if value[:2] != MARKER or len(value) < _HEADER:
        raise MalformedEvent(
            f"{expected}: the value is not Avro single-object encoded: it starts with {value[:4].hex(' ') or 'nothing'}, not with c3 01 and a fingerprint"
        )
    schema = _known_schemas().get(value[2:_HEADER])
    if schema is None:
        raise UnknownFingerprint(
            f"{expected}: no released schema has the fingerprint {value[2:_HEADER].hex()}; the writer is newer than this version, "
            "so update the consumer first (docs/upgrades.md)"
        )
    return schema


def _unreadable_field(writer: _Schema, value: bytes) -> str:
    """Find the first field of a broken event that cannot be read, by reading ever more of them."""
    for name, prefix in zip(writer.fields, _prefixes(writer.text), strict=True):
        body = io.BytesIO(value)
        body.seek(_HEADER)
        try:
            schemaless_reader(body, prefix, None)
        except _UNREADABLE:
            return name
    return writer.fields[-1]


@cache
def _prefixes(text: bytes) -> tuple[Any, ...]:
    """A schema's first field, first two, and so on to all."""
    raw = orjson.loads(text)
    return tuple(parse_schema({**raw, "fields": raw["fields"][:count]}) for count in range(1, len(raw["fields"]) + 1))


def _describe(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in e['loc']) or 'event'}: {e['msg']}" for e in error.errors(include_url=False, include_input=False)[:5])
