"""Whatever an event holds comes back; whatever bytes arrive give an event or MalformedEvent."""

import types
from collections.abc import Iterator
from enum import EnumMeta
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden_events import EXAMPLES
from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import codec
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import JobEvent, JobPart
from mistudio_explain.events.model import Record

WIRE = {name: codec.encode(event) for name, event in EXAMPLES.items()}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def events(model: type[Record]) -> st.SearchStrategy[Record]:
    """Events of a kind, every field within what the contract allows."""
    fields = {name: _values(field.annotation, field.metadata) for name, field in model.model_fields.items()}
    if model is JobEvent:
        return st.sampled_from(JobPart).flatmap(
            lambda part: st.builds(model, **{**fields, **{p.value: st.none() for p in JobPart}, part.value: fields[part.value].filter(bool)})
        )
    if model is Activation:
        return st.fixed_dictionaries(fields).map(_as_many_tokens_as_values).map(lambda chosen: model(**chosen))
    return st.builds(model, **fields)


def _as_many_tokens_as_values(chosen: dict[str, Any]) -> dict[str, Any]:
    values = chosen["token_activations"]
    return chosen if values is None else {**chosen, "tokens": [" a"] * len(values)}


def _values(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], [*limits, *inner[1:]])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.none() | _values(next(a for a in inner if a is not type(None)), limits)
    if origin is list:
        return st.lists(_values(inner[0], []), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, _values(inner[1], []), max_size=3)
    if isinstance(annotation, EnumMeta):
        return st.sampled_from(list(annotation))  # type: ignore[arg-type]
    if issubclass(annotation, Record):
        return st.deferred(lambda: events(annotation))
    return _primitives(annotation, limits)


def _primitives(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    least, most, pattern = _limit(limits, "ge"), _limit(limits, "le"), _limit(limits, "pattern")
    if annotation is int:
        return st.integers(-(2**63) if least is None else least, 2**63 - 1 if most is None else most)
    if annotation is float:
        return st.floats(least, most, allow_nan=False, allow_infinity=False)
    if annotation is str and pattern is not None:
        return st.from_regex(pattern, fullmatch=True)
    if annotation is str:
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=_limit(limits, "min_length") or 0, max_size=12)
    return st.booleans() if annotation is bool else st.binary(max_size=12)


def _limit(limits: list[Any], name: str) -> Any:
    return next((getattr(limit, name) for limit in limits if getattr(limit, name, None) is not None), None)


@pytest.mark.parametrize("model", EVENTS, ids=lambda event: event.__name__)
def test_an_event_comes_back_as_it_was(model: type[Record]) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(events(model))
    def round_trip(event: Record) -> None:
        assert codec.decode(model, codec.encode(event)) == event

    round_trip()


def _read_or_refused(model: type[Record], value: bytes) -> bool:
    """Whether a value was read; any error but MalformedEvent ends the test."""
    try:
        return type(codec.decode(model, value)) is model
    except MalformedEvent:
        return False


def _truncated(value: bytes) -> Iterator[bytes]:
    return (value[:length] for length in range(len(value)))


def _with_one_bit_flipped(value: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


@pytest.mark.parametrize("name", WIRE)
def test_no_truncation_of_an_event_is_an_event(name: str) -> None:
    assert not any(_read_or_refused(type(EXAMPLES[name]), value) for value in _truncated(WIRE[name]))


@pytest.mark.parametrize("name", WIRE)
def test_every_flipped_bit_gives_an_event_or_a_malformed_one(name: str) -> None:
    model = type(EXAMPLES[name])
    outcomes = [_read_or_refused(model, value) for value in _with_one_bit_flipped(WIRE[name])]
    assert not any(outcomes[:80]), "the marker or the fingerprint is not looked at"


# what the encoding's lengths and counts trip over: huge, negative, unending, and blocks that follow each other
_TRAPS = [b"\xff" * 9 + b"\x01", b"\xff" * 20, b"\x80" * 30 + b"\x01", b"\x01", b"\xfe\xff\xff\xff\x0f", b"\x00", b"\x02" * 9, b"\xed\xa0\x80", b"\xff\xfe"]

edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.sampled_from(_TRAPS) | st.binary(max_size=4)), min_size=1, max_size=5)


@settings(max_examples=2_000)
@given(st.sampled_from(sorted(WIRE)), edits)
def test_any_damage_behind_the_fingerprint_gives_an_event_or_a_malformed_one(name: str, damage: list[tuple[float, int, bytes]]) -> None:
    value = WIRE[name]
    for where, removed, inserted in damage:
        at = 10 + int(where * (len(value) - 10))
        value = value[:at] + inserted + value[at + removed :]
    _read_or_refused(type(EXAMPLES[name]), value)


@settings(max_examples=300)
@given(st.sampled_from(EVENTS), st.binary(max_size=200), st.booleans())
def test_noise_gives_an_event_or_a_malformed_one(model: type[Record], noise: bytes, after_a_fingerprint: bool) -> None:
    head = WIRE[model.__name__][:10] if after_a_fingerprint else b""
    _read_or_refused(model, head + noise)
