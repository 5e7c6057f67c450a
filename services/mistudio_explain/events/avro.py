"""Avro schemas derived from the event models.

`python -m mistudio_explain.events.avro DIR` writes them. The committed files under schemas/ are the contract; a
test compares them with the models field by field.
"""

import sys
import types
from enum import EnumMeta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson

from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.model import NAMESPACE, Record

_PRIMITIVES: dict[object, str] = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}


def schema_of(model: type[Record]) -> dict[str, Any]:
    """Derive the Avro record schema of a model, with a doc on every field.

    A named type is written out where it is first met and named afterwards. Literals become strings, so that a
    later version may add a value; enums are closed.
    """
    schema = _record(model, set())
    assert isinstance(schema, dict)
    return {**schema, "namespace": NAMESPACE}


def _record(model: type[Record], named: set[str]) -> dict[str, Any] | str:
    name = model.__name__
    if name in named:
        return name
    named.add(name)
    return {"type": "record", "name": name, "doc": _sentence(model.__doc__), "fields": [_field(model, field, named) for field in model.model_fields]}


def _field(model: type[Record], name: str, named: set[str]) -> dict[str, Any]:
    info = model.model_fields[name]
    if not info.description:
        raise TypeError(f"{model.__name__}.{name} has no description; every field of the contract has one")
    field = {"name": name, "type": _type(info.annotation, named), "doc": info.description}
    if not info.is_required():
        field["default"] = _default(info.default)
    return field


def _default(value: Any) -> Any:
    if isinstance(value, Record):
        return {name: _default(getattr(value, name)) for name in type(value).model_fields}
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _type(annotation: Any, named: set[str]) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0], named)
    if origin is Literal:
        return "string"
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"{annotation}: the contract has only optional types, no other unions")
        return ["null", _type(inner[0], named)]
    if origin is list:
        return {"type": "array", "items": _type(get_args(annotation)[0], named)}
    if origin is dict:
        return {"type": "map", "values": _type(get_args(annotation)[1], named)}
    if isinstance(annotation, EnumMeta):
        return _enum(annotation, named)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return _record(annotation, named)
    return _PRIMITIVES[annotation]


def _enum(enum: EnumMeta, named: set[str]) -> Any:
    name = enum.__name__
    if name in named:
        return name
    named.add(name)
    return {"type": "enum", "name": name, "doc": _sentence(enum.__doc__), "symbols": [str(member.value) for member in enum]}  # type: ignore[var-annotated]


def _sentence(doc: str | None) -> str:
    if not doc:
        raise TypeError("every type of the contract has a docstring")
    return " ".join(doc.split())


def write(directory: Path) -> None:
    """Write every event's schema to `directory/<Event>.avsc`."""
    for event in EVENTS:
        text = orjson.dumps(schema_of(event), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (directory / f"{event.__name__}.avsc").write_bytes(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
