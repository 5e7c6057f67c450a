"""How a dead letter looks to people and to scripts. All of it is hostile input: it is shown without control characters."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.text import Text

from mistudio_explain.cli.show import fits, plain, table
from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.codec import MARKER, decode, event_name
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.events.model import Record
from mistudio_explain.kafka.letter_box import Kept

_HEAD = 256
_PER_LINE = 16
_SAID = 100  # characters of a message in a list
_NOT_SHOWN = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_COLUMNS = ("key", "when (UTC)", "service", "error", "job", "feature", "attempts", "size")


def moment(at_ms: int) -> str:
    """A moment for people, UTC; one that no calendar has as its number."""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def size(count: int, *, truncated: bool = False) -> str:
    """A number of bytes for people."""
    said = f"{count} B" if count < 1000 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
    return f"{said}, cut" if truncated else said


def letter_list(letters: Sequence[Kept], console: Console) -> RenderableType:
    """A table where the terminal has room for it, else some lines for each letter; keys stay whole, to be copied."""
    made = table(None, _COLUMNS, (_row(kept) for kept in letters))
    if fits(console, made):
        return made
    return Group(*(Text("\n".join(_lines(kept))) for kept in letters))


def _row(kept: Kept) -> tuple[str, ...]:
    letter = kept.letter
    if letter is None:
        return kept.name, moment(kept.at_ms), "?", "cannot be read", "", "", "", size(kept.size)
    return (
        kept.name,
        moment(letter.at_ms),
        letter.service,
        letter.error,
        letter.explain_job_id or "-",
        letter.feature_key or "-",
        str(letter.attempts),
        size(kept.size, truncated=letter.truncated),
    )


def _lines(kept: Kept) -> Iterator[str]:
    key, when, service, error, job, feature, attempts, length = (plain(cell) for cell in _row(kept))
    yield key
    yield f"  {when}  {service}  {f'{attempts} attempts, ' if attempts else ''}{length}"
    said = plain(kept.letter.message if kept.letter else kept.unreadable)
    yield f"  {error}: {said if len(said) <= _SAID else said[:_SAID] + ' ...'}"
    if job not in ("", "-"):
        yield f"  {job}  feature {feature}"


def as_json(kept: Kept) -> dict[str, Any]:
    """A letter of a list, for scripts."""
    if kept.letter is None:
        return {"event": "letter", "key": kept.name, "at_ms": kept.at_ms, "unreadable": kept.unreadable, "size": kept.size}
    letter = kept.letter
    return {
        "event": "letter",
        "key": kept.name,
        "at_ms": letter.at_ms,
        "service": letter.service,
        "error": letter.error,
        "message": letter.message,
        "explain_job_id": letter.explain_job_id,
        "feature_key": letter.feature_key,
        "attempts": letter.attempts,
        "size": kept.size,
        "truncated": letter.truncated,
    }


def whole_json(kept: Kept, letter: DeadLetter) -> dict[str, Any]:
    """Everything of one letter, for scripts; bytes that are no text as {"hex": ...}."""
    name, event, why = event_in(letter.raw)
    return as_json(kept) | {
        "record_key": None if letter.raw_key is None else _text_or_hex(letter.raw_key),
        "headers": {header: _text_or_hex(value) for header, value in letter.headers.items()},
        "further_headers": [[header.name, _text_or_hex(header.value)] for header in letter.further_headers],
        "event_name": name,
        "value": event,
        "value_unreadable": why,
        "value_head": None if letter.raw is None or event is not None else {"hex": letter.raw[:_HEAD].hex()},
    }


def whole_text(kept: Kept, letter: DeadLetter) -> str:
    """Everything of one letter, for people."""
    cut = ", the first part of it: it did not fit" if letter.truncated else ""
    said = [
        plain(f"{kept.name}, offset {kept.place[1]} of partition {kept.place[0]} of the dead letters"),
        _named("given up", f"{moment(letter.at_ms)} UTC by {letter.service}, after {letter.attempts} attempts"),
        _named("error", f"{letter.error}: {letter.message}"),
        _named("job", letter.explain_job_id or "cannot be told"),
        _named("feature", letter.feature_key or "cannot be told"),
        _named("key", "none" if letter.raw_key is None else _shown(letter.raw_key)),
        _named("headers", "" if letter.headers else "none"),
        *("  " + plain(f"{name}: {_shown(value)}") for name, value in letter.all_headers),
    ]
    if letter.raw is None:
        return "\n".join([*said, _named("value", "none (a tombstone)")])
    name, event, why = event_in(letter.raw)
    if event is not None:
        return "\n".join([*said, _named("value", f"{name}, {size(len(letter.raw))}{cut}"), _escaped(orjson.dumps(event, option=orjson.OPT_INDENT_2).decode())])
    said.append(_named("value", f"{size(len(letter.raw))}{cut}; no event that can be read: {why}"))
    return "\n".join([*said, *_hex_lines(letter.raw[:_HEAD])])


def _named(name: str, value: str) -> str:
    return f"{name:<10}{plain(value)}".rstrip()


def event_in(value: bytes | None) -> tuple[str | None, Mapping[str, Any] | None, str | None]:
    """What a value is: the event's name and its fields, or why it is none."""
    if value is None:
        return None, None, "there is no value"
    name = None
    try:
        name = event_name(value)
        model: type[Record] = next(model for model in EVENTS if model.__name__ == name)
        return name, _without_bytes(decode(model, value).model_dump(mode="python")), None
    except MalformedEvent as error:
        return name, None, str(error)


def _without_bytes(value: Any) -> Any:
    match value:
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {key: _without_bytes(each) for key, each in value.items()}
        case list():
            return [_without_bytes(each) for each in value]
        case _:
            return value


def _text_or_hex(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def _shown(value: bytes) -> str:
    """Bytes on one line: the event that they are, else their text, else hex."""
    if value.startswith(MARKER):
        name, event, _ = event_in(value)
        if event is not None:
            return f"{name} {_escaped(orjson.dumps(event).decode())}"
    text = _text_or_hex(value)
    return text if isinstance(text, str) and plain(text) == text else f"hex {value.hex(' ')}"


def _escaped(json: str) -> str:
    """JSON that a terminal shows as it is; it escapes other control characters by itself."""
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def _hex_lines(head: bytes) -> Iterator[str]:
    for at in range(0, len(head), _PER_LINE):
        part = head[at : at + _PER_LINE]
        yield f"  {at:04x}  {part.hex(' '):<{3 * _PER_LINE}} {''.join(chr(b) if 32 <= b < 127 else '.' for b in part)}"
