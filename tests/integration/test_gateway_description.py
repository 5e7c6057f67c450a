"""The description of the REST API: it is OpenAPI 3.1, its examples are true, and nothing of it loads anything from elsewhere."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from integration.live_gateway import LiveGateway
from integration.rest_examples import CALLS, asked, gateway_of_examples
from mistudio_explain.gateway.description import examples, operations


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    with gateway_of_examples(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def description(gateway: LiveGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/openapi.json")
    return found


def test_the_examples_are_what_a_gateway_answers(gateway: LiveGateway, description: dict[str, Any]) -> None:
    found = {call.operation: asked(gateway, description, call) for call in CALLS}
    assert found == examples(), "write them anew with `python tests/rest_examples.py`, and look at what changed"


def test_every_operation_has_an_id_of_its_own_a_description_and_an_example(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1")
    names = [operation["operationId"] for operation in operations(description)]
    assert len(names) == len(set(names))
    assert set(names) - set(examples()) == {"show_topics"}, "whose answer is a long description itself"
    for operation in operations(description):
        assert operation.get("description"), operation["operationId"]
        assert all(parameter.get("description") for parameter in operation.get("parameters", ())), operation["operationId"]


def test_the_examples_fit_the_schemas_that_describe_them(description: dict[str, Any]) -> None:
    for operation in operations(description):
        example = examples().get(operation["operationId"], {"status": 200})
        for content, kept in (
            (operation["responses"][str(example["status"])].get("content", {}), "answer"),
            (operation.get("requestBody", {}).get("content", {}), "body"),
        ):
            schema = content.get("application/json", {}).get("schema")
            if schema and kept in example:
                jsonschema.validate(example[kept], schema | {"components": description["components"]})


def test_every_operation_says_that_its_errors_are_problems(description: dict[str, Any]) -> None:
    for path, methods in description["paths"].items():
        for operation in methods.values() if path.startswith("/api/") else ():
            assert "ProblemDetails" in str(operation["responses"]["default"]["content"]["application/problem+json"]), operation["operationId"]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_no_page_that_loads_scripts_from_elsewhere_is_served(gateway: LiveGateway, path: str) -> None:
    assert gateway.client.get(path).status_code == 404
