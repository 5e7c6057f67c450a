"""Events that were on a wire once are read today as they were meant."""

import json
from pathlib import Path
from typing import Any

import pytest

import golden_events
from golden_events import COMMAND, EXAMPLES, GOLDEN, as_json
from mistudio_explain.events import codec
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.model import Record

FILES = sorted(GOLDEN.glob("*.avro"))
MODELS: dict[str, type[Record]] = {event.__name__: event for event in EVENTS}


def _missing(expected: Any, found: Any, path: str = "event") -> list[str]:
    """What of `expected` is not in `found`; fields that only `found` has are later versions' defaults."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line for key, value in expected.items() for line in (_missing(value, found[key], f"{path}.{key}") if key in found else [f"{path}.{key} is gone"])
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [line for index, value in enumerate(expected) for line in _missing(value, found[index], f"{path}[{index}]")]
    return [] if expected == found else [f"{path} is {found!r}, not {expected!r}"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_event_is_read_as_it_was_meant(file: Path) -> None:
    model = MODELS[file.stem.split(".")[0]]
    expected = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    decoded = codec.decode(model, file.read_bytes())
    assert not _missing(expected, as_json(decoded))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_schema_has_its_golden_event(name: str) -> None:
    event = EXAMPLES[name]
    current = codec.current_schemas()[type(event).__name__].fingerprint
    written = [file for file in FILES if file.name in (f"{name}.avro", f"{name}.{current.hex()}.avro") and file.read_bytes()[2:10] == current]
    assert written, f"the schema of {name} is new; write its golden event by `{COMMAND}`"


def test_every_event_has_a_rich_example_with_nothing_left_at_its_default() -> None:
    poor = [
        f"{name}.{field}"
        for name, model in MODELS.items()
        for field, value in EXAMPLES[name]
        if not model.model_fields[field].is_required() and value == model.model_fields[field].default and not (name == "JobEvent" and field != "request")
    ]
    assert not poor, f"tests/golden_events.py: give them values, then `{COMMAND}`"


def test_what_was_released_is_never_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_events, "GOLDEN", tmp_path)
    golden_events.write()
    token = (tmp_path / "TokenChunk.avro").read_bytes()
    assert len(list(tmp_path.glob("*.avro"))) == len(EXAMPLES)

    of_an_older_schema = token[:2] + b"released" + token[10:]
    monkeypatch.setattr(golden_events, "released_fingerprints", lambda: frozenset({b"released", token[2:10]}))
    (tmp_path / "TokenChunk.avro").write_bytes(of_an_older_schema)
    golden_events.write()
    further = tmp_path / f"TokenChunk.{token[2:10].hex()}.avro"
    assert (tmp_path / "TokenChunk.avro").read_bytes() == of_an_older_schema
    assert further.read_bytes() == token

    further.write_bytes(token + b"as it once was")
    golden_events.write()
    assert further.read_bytes() == token + b"as it once was"
