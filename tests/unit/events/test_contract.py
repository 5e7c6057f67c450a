"""Events written as an earlier release wrote them, and what that release makes of what this version writes."""

import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from golden_events import EXAMPLES, HISTORY
from mistudio_explain.errors import BadInput, BadSettings, MalformedEvent
from mistudio_explain.events import codec
from mistudio_explain.events.contract import INSTEAD, UNREAD
from mistudio_explain.events.model import Record
from mistudio_explain.events.release import VALUES, values
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.settings import KafkaSettings, LimitSettings

RELEASES = sorted(path.name for path in HISTORY.iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def as_ever() -> Iterator[None]:
    """Leaves the process writing its own contract."""
    yield
    codec.write_as(None)


@cache
def schemas_of(release: str) -> Mapping[bytes, Any]:
    """All that a release knows: its schemas by fingerprint."""
    raw = [json.loads(path.read_bytes()) for path in (HISTORY / release).glob("*.avsc")]
    return {codec.fingerprint_bytes(each): each for each in raw}


def released_values(release: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((HISTORY / release / VALUES).read_bytes())
    return found


def named(release: str, name: str) -> Any:
    return next((schema for schema in schemas_of(release).values() if schema["name"] == name), None)


def choices(schema: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in an event that may be one of a closed choice, by `Record.field`."""
    match schema, value:
        case ([*branches], _):
            for branch in branches:
                yield from choices(branch, value) if value is not None else ()
        case ({"type": "record"}, dict()):
            for field in schema["fields"]:
                inner = value[field["name"]]
                if isinstance(inner, str):
                    yield f"{schema['name']}.{field['name']}", inner
                yield from choices(field["type"], inner)
        case ({"type": "array"}, list()):
            for each in value:
                yield from choices(schema["items"], each)


def events_of(release: str) -> Iterator[tuple[str, str, Record]]:
    """Examples of the events that a release has."""
    for name, example in EXAMPLES.items():
        if named(release, type(example).__name__) is not None:
            yield release, name, example


KNOWN = [pytest.param(release, example, id=f"{release}-{name}") for each in RELEASES for release, name, example in events_of(each)]
READ = [
    pytest.param(release, example, id=f"{release}-{name}")
    for each in RELEASES
    for release, name, example in events_of(each)
    if type(example).__name__ not in UNREAD.get(release, ()) and name != "JobEvent.replay_of_some"
]


@pytest.mark.parametrize(("release", "example"), READ)
def test_what_is_written_as_a_release_is_read_by_one_that_knows_nothing_later(release: str, example: Record) -> None:
    codec.write_as(release)
    value = codec.encode(example)
    body = io.BytesIO(value[10:])
    read = schemaless_reader(body, parse_schema(schemas_of(release)[value[2:10]]), None)
    assert body.read() == b""
    known = released_values(release)
    unknown = [(name, text) for name, text in choices(named(release, type(example).__name__), read) if text not in known.get(name, [text])]
    assert unknown == [], "its services refuse an event with a value that they do not know"
    codec.decode(type(example), value)


@pytest.mark.parametrize(("release", "example"), KNOWN)
def test_what_this_version_writes_is_read_by_a_release_that_was_given_its_schemas(release: str, example: Record) -> None:
    reader = named(release, type(example).__name__)
    writer = codec.current_schemas()[type(example).__name__]
    read = schemaless_reader(io.BytesIO(codec.encode(example)[10:]), writer.parsed, parse_schema(reader))
    assert isinstance(read, dict)
    assert list(read) == [field["name"] for field in reader["fields"]]


@pytest.mark.parametrize("name", ["PartitionPaused", "DeadLetter", "EscalationCandidate"])
def test_an_event_that_no_service_of_a_release_reads_is_written_whole(name: str) -> None:
    codec.write_as("0.1.0")
    assert codec.decode(type(EXAMPLES[name]), codec.encode(EXAMPLES[name])) == EXAMPLES[name]


def test_an_order_that_would_mean_something_else_to_a_release_is_refused() -> None:
    codec.write_as("0.1.0")
    codec.encode(EXAMPLES["JobEvent.replay"])
    with pytest.raises(BadInput, match=r"ReplayPart\.features cannot be said while events are written as by 0\.1\.0 \(kafka\.contract\)"):
        codec.encode(EXAMPLES["JobEvent.replay_of_some"])


@pytest.mark.parametrize("release", RELEASES)
def test_every_value_that_came_after_a_release_is_told_to_it_as_one_of_its_own(release: str) -> None:
    known, now = released_values(release), values()
    gone = {name: sorted(set(then) - set(now.get(name, []))) for name, then in known.items() if set(then) - set(now.get(name, []))}
    assert gone == {}, "what a release wrote must stay readable"
    later = {name: set(now[name]) - set(then) for name, then in known.items() if set(now[name]) - set(then)}
    told = {f"{record}.{field}": dict(instead) for (record, field), instead in INSTEAD.get(release, {}).items()}
    assert {name: set(instead) for name, instead in told.items()} == later, f"events/contract.py says what {release} is told instead"
    assert all(set(instead.values()) <= set(known[name]) for name, instead in told.items())


def test_a_release_that_never_was_cannot_be_written() -> None:
    with pytest.raises(BadSettings, match=r"kafka\.contract is '0\.0\.9'; events can be written as by 0\.1\.0"):
        codec.write_as("0.0.9")


def test_the_clients_of_a_process_decide_what_it_writes() -> None:
    event = EXAMPLES["FeatureOutcome"]
    KafkaClients(KafkaSettings(bootstrap_servers="127.0.0.1:9", contract="0.1.0"), LimitSettings())
    assert codec.encode(event)[2:10] in schemas_of("0.1.0")
    KafkaClients(KafkaSettings(bootstrap_servers="127.0.0.1:9"), LimitSettings())
    assert codec.encode(event)[2:10] == codec.current_schemas()["FeatureOutcome"].fingerprint


def test_a_value_that_a_newer_release_added_is_refused_by_its_name_and_taken_for_nothing_else() -> None:
    event = EXAMPLES["FeatureOutcome"]
    fields = event.model_dump()
    fields["accuracy"]["basis"] = "divined"
    schema = codec.current_schemas()["FeatureOutcome"]
    out = io.BytesIO()
    schemaless_writer(out, schema.parsed, fields)
    with pytest.raises(MalformedEvent, match=r"FeatureOutcome: accuracy\.basis: Input should be"):
        codec.decode(type(event), codec.MARKER + schema.fingerprint + out.getvalue())


def test_a_value_of_a_schema_that_nobody_released_is_told_from_junk() -> None:
    value = codec.encode(EXAMPLES["FeatureOutcome"])
    assert not codec.is_of_unknown_schema(value)
    assert codec.is_of_unknown_schema(codec.MARKER + bytes(8) + value[10:])
    for junk in (None, b"", b"{}", codec.MARKER, codec.MARKER + bytes(7)):
        assert not codec.is_of_unknown_schema(junk)
