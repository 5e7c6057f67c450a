"""What a person and a script see of a dead letter; whatever it holds, a terminal shows it as text."""

import io
import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mistudio_explain.cli.letter_text import event_in, letter_list, moment, size, whole_json, whole_text
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import DeadLetter, Header
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.job import Coordinates, JobBackground
from mistudio_explain.kafka.letter_box import Kept

NAUGHTY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "\x1b[2J\x9b31m\u202egpj.exe\x07 fine"


def letter(raw: bytes | None = b"?", **changes: object) -> tuple[Kept, DeadLetter]:
    fields: dict[str, object] = {"service": "context", "error": "MalformedEvent", "message": "why", "attempts": 3, "at_ms": 1_764_000_000_000} | changes
    made = DeadLetter(source=Coordinates(topic="mistudio.find.features", partition=2, offset=7), raw=raw, **fields)  # type: ignore[arg-type]
    return Kept(b"mistudio.find.features/2/7", (0, 12), len(raw or b""), made.model_copy(update={"raw": None})), made


def feature(text: str = "a text") -> FeatureFound:
    return FeatureFound(target_model="m", find_job_id="find_1", feature_id="5", top_activations=[Activation(text=text)])


@given(
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30),
    header=st.binary(max_size=10),
    name=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=10),
    key=st.none() | st.binary(max_size=10),
    raw=st.none() | st.binary(max_size=300) | st.just(b"\xc3\x01"),
)
def test_nothing_that_a_letter_holds_reaches_the_terminal_as_a_command(text: str, header: bytes, name: str, key: bytes | None, raw: bytes | None) -> None:
    for body in (raw, encode(feature(text))):
        shown = whole_text(*letter(body, message=text, error=text, service=text, explain_job_id=text, raw_key=key, headers={name: header}))
        assert NAUGHTY.search(shown.replace("\n", "")) is None


def test_bytes_that_are_an_event_are_shown_as_its_fields() -> None:
    shown = whole_text(*letter(encode(feature(HOSTILE))))
    name, fields = shown.split("value     ")[1].split(",", 1)[0], shown[shown.index("{") :]
    assert name == "FeatureFound"
    assert json.loads(fields)["top_activations"][0]["text"] == HOSTILE


def test_bytes_that_are_no_event_are_shown_as_hex_with_the_reason() -> None:
    shown = whole_text(*letter(b'{"feature": 5}'))
    assert "no event that can be read" in shown
    assert "7b 22 66 65" in shown
    assert '{"feature": 5}' in shown
    broken = whole_text(*letter(encode(feature())[:20], truncated=True))
    assert "FeatureFound" in broken
    assert "c3 01" in broken
    assert "did not fit" in broken
    assert "a tombstone" in whole_text(*letter(None))


def test_headers_are_text_the_event_that_they_hold_or_hex() -> None:
    request = encode(JobRequest(explain_job_id="explain_9"))
    shown = whole_text(*letter(headers={"mse-job": b"explain_1", "x": b"\xff\x00", "esc": b"\x1b[2J", "mse-request": request}))
    assert "  mse-job: explain_1\n" in shown
    assert "  x: hex ff 00\n" in shown
    assert "  esc: hex 1b 5b 32 4a\n" in shown
    assert '  mse-request: JobRequest {"explain_job_id":"explain_9"' in shown


def test_every_header_of_a_name_is_shown() -> None:
    kept, whole = letter(headers={"x": b"1"}, further_headers=[Header(name="x", value=b"2"), Header(name="x", value=b"\xff")])
    assert "  x: 1\n  x: 2\n  x: hex ff\n" in whole_text(kept, whole)
    assert whole_json(kept, whole)["further_headers"] == [["x", "2"], ["x", {"hex": "ff"}]]


def test_scripts_get_everything_as_json_whatever_the_bytes_are() -> None:
    kept, whole = letter(encode(JobBackground(find_job_id="find_1", target_model="m", sample=[], distinct=1, frozen=False, seen=b"\xff")), raw_key=b"\xfe")
    found = json.loads(orjson.dumps(whole_json(kept, whole)))
    assert found["value"]["seen"] == {"hex": "ff"}
    assert found["record_key"] == {"hex": "fe"}
    assert (found["event_name"], found["value_unreadable"], found["value_head"]) == ("JobBackground", None, None)
    unread = json.loads(orjson.dumps(whole_json(*letter(b"\xff"))))
    assert (unread["value"], unread["value_head"]) == (None, {"hex": "ff"})
    assert event_in(None)[1] is None


@pytest.mark.parametrize("width", [80, 140, 400])
def test_a_list_shows_every_key_whole_on_any_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    kept, _ = letter(explain_job_id="explain_20250726_151321_d9675dce", feature_key="blocks.8.hook_resid_pre/12345")
    unreadable = Kept(b"\xff/0/1", (0, 3), 4, None, "not Avro", at_ms=1000)
    console.print(letter_list([kept, unreadable], console))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any("mistudio.find.features/2/7" in line for line in lines)
    assert any("\\xff/0/1" in line for line in lines)
    assert any("explain_20250726_151321_d9675dce" in line for line in lines)
    assert all(len(line) <= width for line in lines)


def test_moments_and_sizes_are_for_people() -> None:
    assert moment(0) == "1970-01-01 00:00:00"
    assert moment(2**62) == f"{2**62} ms"
    assert [size(5), size(42_100), size(8_000_000, truncated=True)] == ["5 B", "42.1 kB", "8.0 MB, cut"]
