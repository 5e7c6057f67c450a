"""What is on the wire, and what is said of bytes that are no event."""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import avro.schema
import pytest

from golden_events import EXAMPLES
from mistudio_explain.errors import MalformedEvent, UnknownFingerprint
from mistudio_explain.events import codec
from mistudio_explain.events.avro import write
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.model import Record

FEATURE = FeatureFound(target_model="gpt2", find_job_id="find_1", feature_id="5", top_activations=[Activation(text="a text")])


def _crc_64_avro(text: bytes) -> int:
    """The Avro specification's Rabin fingerprint, bit by bit."""
    fingerprint = empty = 0xC15D213AA4D7A795
    for byte in text:
        fingerprint ^= byte
        for _ in range(8):
            fingerprint = (fingerprint >> 1) ^ (empty if fingerprint & 1 else 0)
    return fingerprint


def test_our_reading_of_crc_64_avro_gives_the_published_fingerprints() -> None:
    assert _crc_64_avro(b'"null"') == 0x63DD24E7CC258F8A
    assert _crc_64_avro(b'"int"') == 0x7275D51A3F395C8F


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_value_begins_with_c3_01_and_the_schemas_fingerprint_low_byte_first(event: type[Record]) -> None:
    value = codec.encode(EXAMPLES[event.__name__])
    committed = (resources.files("mistudio_explain") / "schemas" / f"{event.__name__}.avsc").read_text(encoding="utf-8")
    fingerprint = _crc_64_avro(avro.schema.parse(committed).canonical_form.encode())
    assert value[:10] == b"\xc3\x01" + fingerprint.to_bytes(8, "little")
    assert codec.event_name(value) == event.__name__


def test_no_two_events_share_a_fingerprint() -> None:
    assert len({schema.fingerprint for schema in codec.current_schemas().values()}) == len(EVENTS)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "FeatureFound: the record has no value"),
        (b"", "FeatureFound: the value is not Avro single-object encoded: it starts with nothing"),
        (b'{"feature_id": 5}', "it starts with 7b 22 66 65"),
        (b"\xc3\x01\x00", "not Avro single-object encoded"),
        (codec.encode(FEATURE)[:-1], "FeatureFound.request: the bytes do not follow the schema"),
        (codec.encode(FEATURE)[:23], "FeatureFound.feature_id: the bytes do not follow the schema"),
        (codec.encode(FEATURE).replace(b"a text", b"a \xffext"), "FeatureFound.top_activations: the bytes do not follow the schema"),
        (codec.encode(FEATURE).replace(b"find_1", b"find|1"), "FeatureFound: find_job_id: String should match pattern"),
        (codec.encode(FEATURE) + b"\x00\x00", "FeatureFound: 2 bytes follow the event's end"),
        (codec.encode(JobRequest(explain_job_id="explain_1")), "FeatureFound was expected, but the record holds a JobRequest"),
    ],
    ids=["tombstone", "empty", "json", "short", "cut at the end", "cut", "not utf-8", "bad id", "longer", "another event"],
)
def test_a_malformed_value_is_named_with_its_event_and_field(value: bytes | None, said: str) -> None:
    with pytest.raises(MalformedEvent) as raised:
        codec.decode(FeatureFound, value)
    assert said in str(raised.value)
    assert not isinstance(raised.value, UnknownFingerprint)


def test_nan_is_not_a_value() -> None:
    value = codec.encode(FEATURE.model_copy(update={"coherence_score": float("nan")}))
    with pytest.raises(MalformedEvent, match="FeatureFound: coherence_score: Input should be a finite number"):
        codec.decode(FeatureFound, value)


def test_an_unknown_fingerprint_is_an_error_of_its_own_that_says_what_to_do() -> None:
    value = b"\xc3\x01" + bytes(range(8)) + codec.encode(FEATURE)[10:]
    with pytest.raises(UnknownFingerprint, match=r"FeatureFound: no released schema has the fingerprint 0001020304050607; .* update the consumer"):
        codec.decode(FeatureFound, value)
    with pytest.raises(UnknownFingerprint):
        codec.event_name(value)


def test_a_text_that_is_not_unicode_is_refused_before_it_is_sent() -> None:
    with pytest.raises(MalformedEvent, match="FeatureFound: a text holds a character that is not valid Unicode"):
        codec.encode(FEATURE.model_copy(update={"modality": "\ud800"}))


def test_a_number_beyond_64_bits_is_refused_before_it_is_sent() -> None:
    with pytest.raises(MalformedEvent, match="JobRequest: a whole number does not fit"):
        codec.encode(JobRequest(explain_job_id="explain_1", revision=2**63))


@pytest.fixture
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the codec reads its schemas from, filled with this version's."""
    folder = tmp_path / "schemas"
    folder.mkdir()
    write(folder)
    monkeypatch.setattr(codec.resources, "files", lambda _: tmp_path)
    _forget()
    yield folder
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    codec.current_schemas.cache_clear()
    codec._released_schemas.cache_clear()
    codec._known_schemas.cache_clear()


def _release(schemas: Path, schema: dict[str, Any]) -> bytes:
    """Add a schema to those of a released version; returns the head of values written with it."""
    release = schemas / "history" / "0.0.1"
    release.mkdir(parents=True)
    (release / f"{schema['name']}.avsc").write_text(json.dumps(schema), encoding="utf-8")
    return b"\xc3\x01" + _crc_64_avro(avro.schema.parse(json.dumps(schema)).canonical_form.encode()).to_bytes(8, "little")


def _present(schemas: Path, event: type[Record]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((schemas / f"{event.__name__}.avsc").read_bytes())
    return schema


def test_nothing_needs_to_have_been_released(schemas: Path) -> None:
    assert not (schemas / "history").exists()
    assert codec.decode(FeatureFound, codec.encode(FEATURE)) == FEATURE


def test_an_event_of_a_released_version_is_read_with_defaults_for_what_it_lacks(schemas: Path) -> None:
    earlier = _present(schemas, JobRequest)
    assert earlier["fields"].pop()["name"] == "expected"
    newer = JobRequest(explain_job_id="explain_1", route="a-model", expected=3)
    assert codec.encode(newer).endswith(b"\x02\x06")  # the union's second branch, 3
    written_before = _release(schemas, earlier) + codec.encode(newer)[10:-2]
    assert codec.decode(JobRequest, written_before) == newer.model_copy(update={"expected": None})
    assert codec.event_name(written_before) == "JobRequest"
    with pytest.raises(MalformedEvent, match=r"JobRequest\.candidates: the bytes do not follow"):
        codec.decode(JobRequest, written_before[:-1])


def test_what_a_released_version_had_and_this_one_no_longer_has_is_left_out(schemas: Path) -> None:
    earlier = _present(schemas, JobRequest)
    earlier["fields"].append({"name": "mood", "type": ["null", "string"], "default": None})
    request = JobRequest(explain_job_id="explain_1", expected=3)
    written_before = _release(schemas, earlier) + codec.encode(request)[10:] + b"\x02\x08glad"
    assert codec.decode(JobRequest, written_before) == request
