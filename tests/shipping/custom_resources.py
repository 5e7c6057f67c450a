"""What KEDA, prometheus-operator and Strimzi say of their own resources, strictly: what a definition does not name is refused."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

DEFINITIONS = Path(__file__).parent.parent / "data" / "crds"
_ALWAYS = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


@cache
def definitions() -> tuple[Mapping[str, Any], ...]:
    """The CustomResourceDefinitions, as the API server takes them."""
    return tuple(yaml.safe_load(file.read_text()) for file in sorted(DEFINITIONS.glob("*.yaml")))


def schemas() -> Iterator[tuple[str, str, Any]]:
    """`apiVersion`, kind and strict JSON Schema of every version of every resource."""
    for each in definitions():
        spec = each["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            yield f"{spec['group']}/{version['name']}", spec["names"]["kind"], {**schema, "properties": {**schema["properties"], **_ALWAYS}}


@cache
def _validators() -> Mapping[tuple[str, str], Draft202012Validator]:
    return {(version, kind): Draft202012Validator(schema) for version, kind, schema in schemas()}


def wrong_with(manifest: Mapping[str, Any]) -> list[str]:
    """What its definition has against a resource: where, and what. Raises KeyError for one that has none."""
    validator = _validators()[manifest["apiVersion"], manifest["kind"]]
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(manifest)]


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of a definition as JSON Schema, closed to all that it does not name, as the API server is with fieldValidation=Strict."""
    strict = dict(schema)
    if "properties" in schema:
        strict["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            strict["additionalProperties"] = False
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            strict[name] = _strict(schema[name])
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable"):
        strict["type"] = [schema["type"], "null"]
    return strict
