"""The committed schemas are what the models say, and no change breaks a reader or writer of a released version."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from mistudio_explain.events.avro import schema_of, write
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.model import Record

SCHEMAS = Path(__file__).parents[2] / "schemas"
REGENERATE = "regenerate the schemas by `.venv/bin/python -m mistudio_explain.events.avro schemas`"

Edit = Callable[[dict[str, Any]], None]


def _committed(event: type[Record]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{event.__name__}.avsc").read_bytes())
    return schema


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every record's and enum's head and fields, nested ones included, by dotted name."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _fields(branch)
    if not isinstance(schema, dict):
        return
    if schema["type"] in ("record", "enum"):
        yield schema["name"], {key: value for key, value in schema.items() if key != "fields"}
    for field in schema.get("fields", ()):
        yield f"{schema['name']}.{field['name']}", field
        yield from _fields(field["type"])
    yield from _fields(schema.get("items"))
    yield from _fields(schema.get("values"))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_the_committed_schema_has_the_models_fields_types_docs_and_defaults(event: type[Record]) -> None:
    committed, derived = dict(_fields(_committed(event))), dict(_fields(schema_of(event)))
    assert list(committed) == list(derived), f"{event.__name__}: other fields, or another order; {REGENERATE}"
    for name, field in derived.items():
        assert committed[name] == field, f"{name} differs from the model; {REGENERATE}"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_default_of_a_schema_is_what_the_model_fills_in(event: type[Record]) -> None:
    for field in _committed(event)["fields"]:
        model_field = event.model_fields[field["name"]]
        assert ("default" in field) == (not model_field.is_required()), (
            f"{event.__name__}.{field['name']}: only one of schema and model has a default; {REGENERATE}"
        )
        assert field["doc"] == model_field.description


def test_the_schemas_folder_holds_the_events_and_nothing_else() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.avsc")} == {event.__name__ for event in EVENTS}, REGENERATE


def _incompatible(schemas: Path) -> list[str]:
    """What a reader or writer of a released version and one of this version could not read of each other."""
    found = []
    for released in sorted(schemas.glob("history/*/*.avsc")):
        name = f"{released.parent.name}/{released.stem}"
        current = schemas / released.name
        if not current.is_file():
            found.append(f"{name}: the event no longer exists")
            continue
        old, new = (avro.schema.parse(path.read_text(encoding="utf-8")) for path in (released, current))
        for direction, reader, writer in (("this version cannot read what it wrote", new, old), ("it cannot read what this version writes", old, new)):
            answer = ReaderWriterCompatibilityChecker().get_compatibility(reader=reader, writer=writer)
            if answer.compatibility is not SchemaCompatibilityType.compatible:
                found.append(f"{name}: {direction}: {'; '.join(sorted(answer.messages))} at {', '.join(sorted(answer.locations))}")
    return found


def test_no_released_version_is_broken() -> None:
    broken = _incompatible(SCHEMAS)
    assert not broken, "give new fields a default, and neither remove, rename nor retype a released one:\n" + "\n".join(broken)


def _required_field_added(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "extra", "type": "string"})


def _required_field_removed(schema: dict[str, Any]) -> None:
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "feature_id"]


def _field_renamed(schema: dict[str, Any]) -> None:
    schema["fields"][0]["name"] = "model"


def _field_retyped(schema: dict[str, Any]) -> None:
    schema["fields"][0]["type"] = "long"


def _null_taken_away(schema: dict[str, Any]) -> None:
    field = next(field for field in schema["fields"] if field["name"] == "modality")
    field.update(type="string", default="text")


def _nested_field_added(schema: dict[str, Any]) -> None:
    activations = next(field for field in schema["fields"] if field["name"] == "top_activations")
    activations["type"]["items"]["fields"].append({"name": "extra", "type": "long"})


def _optional_field_added(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "extra", "type": ["null", "string"], "default": None})


def _optional_field_removed(schema: dict[str, Any]) -> None:
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "modality"]


def _doc_changed(schema: dict[str, Any]) -> None:
    schema["fields"][0]["doc"] = "In other words."


def _released_and_changed(folder: Path, edit: Edit, event: str = "FeatureFound") -> Path:
    """A schemas folder whose one released version is the present one, and whose present version is edited."""
    history = folder / "history" / "0.0.1"
    history.mkdir(parents=True)
    write(folder)
    write(history)
    path = folder / f"{event}.avsc"
    schema = json.loads(path.read_bytes())
    edit(schema)
    path.write_text(json.dumps(schema), encoding="utf-8")
    return folder


@pytest.mark.parametrize("edit", [_required_field_added, _required_field_removed, _field_renamed, _field_retyped, _null_taken_away, _nested_field_added])
def test_the_gate_stops_a_change_that_breaks_a_released_version(tmp_path: Path, edit: Edit) -> None:
    broken = _incompatible(_released_and_changed(tmp_path, edit))
    assert broken
    assert all(line.startswith("0.0.1/FeatureFound: ") for line in broken)


def test_the_gate_stops_a_further_symbol_of_an_enum_that_old_readers_do_not_know(tmp_path: Path) -> None:
    def symbol_added(schema: dict[str, Any]) -> None:
        schema["fields"][0]["type"]["symbols"].append("postponed")

    assert _incompatible(_released_and_changed(tmp_path, symbol_added, "FeatureOutcome"))


def test_the_gate_stops_the_removal_of_an_event(tmp_path: Path) -> None:
    schemas = _released_and_changed(tmp_path, _doc_changed)
    (schemas / "TokenChunk.avsc").unlink()
    assert _incompatible(schemas) == ["0.0.1/TokenChunk: the event no longer exists"]


@pytest.mark.parametrize("edit", [_optional_field_added, _optional_field_removed, _doc_changed])
def test_the_gate_lets_a_harmless_change_through(tmp_path: Path, edit: Edit) -> None:
    assert _incompatible(_released_and_changed(tmp_path, edit)) == []
