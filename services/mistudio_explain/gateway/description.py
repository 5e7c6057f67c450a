"""What the gateway's OpenAPI description says beside what its routes tell of themselves: the media type of problems, and examples.

An example is what was really asked of a gateway and answered (tests/rest_examples.py writes them).
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from fastapi import FastAPI

from mistudio_explain.gateway.problems import MEDIA_TYPE
from mistudio_explain.gateway.sse import MEDIA_TYPE as EVENTS


@cache
def examples() -> dict[str, Any]:
    """By operation id: path, query and body of a request, status and body of its answer, and of a stream its events."""
    kept: dict[str, Any] = orjson.loads((files(__package__) / "examples.json").read_bytes())
    return kept


def complete_description(app: FastAPI) -> None:
    """Let the application's description say them."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        description = describe()
        if is_new:
            for operation in operations(description):
                _tell_problems(operation)
                _add(operation, examples().get(operation.get("operationId", ""), {}))
        return description

    app.openapi = described  # type: ignore[method-assign]


def operations(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The operations of a description."""
    for path in description["paths"].values():
        yield from path.values()


def _tell_problems(operation: dict[str, Any]) -> None:
    """Every error is a problem, invalid requests too, of which FastAPI says something else."""
    responses = operation["responses"]
    if "default" in responses:
        responses.pop("422", None)
        responses["default"]["content"] = {MEDIA_TYPE: next(iter(responses["default"]["content"].values()))}


def _add(operation: dict[str, Any], example: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        value = example.get(parameter["in"], {}).get(parameter["name"])
        if value is not None:
            parameter["example"] = value
    if "body" in example:
        operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
    for media, content in operation["responses"][str(example["status"])].get("content", {}).items() if "status" in example else ():
        kind = "events" if media == EVENTS else "answer"
        if kind in example:
            content["example"] = example[kind]
