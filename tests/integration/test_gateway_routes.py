"""Every route of the gateway's description, without a key, with too small a scope and with another tenant's key."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Response

from integration.gates import calling, gateway_app, gateway_settings, job_of, new_key, stored
from mistudio_explain.errors import BadInput
from mistudio_explain.gateway.origin import is_safe
from mistudio_explain.replay.selection import replayed_job
from mistudio_explain.reporting.stage import report_directory
from mistudio_explain.settings import Settings
from mistudio_explain.store.database import Sqlite

PUBLIC = frozenset({("GET", "/livez"), ("GET", "/readyz"), ("POST", "/api/v1/session"), ("DELETE", "/api/v1/session")})
"""What needs no key: whether the gateway lives, and how to show a key."""
FOR_ADMINISTRATORS = frozenset({"/metrics", "/api/v1/audit", "/api/v1/lag", "/api/v1/models", "/api/v1/webhooks"})
"""What tells of all tenants, of what is sent elsewhere, or of what others did."""
OURS, THEIRS, NOBODYS = "explain.ours_1", "explain.theirs_1", "explain.nobody_1"
FEATURES = (348, 2)  # the first is the description's example
SECRET_WORD = "zebrafish"


@dataclass(frozen=True)
class Operation:
    """A method of a path, and an example of what it is sent."""

    method: str
    path: str
    said: Mapping[str, Any]
    document: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_stream(self) -> bool:
        """Whether it answers with events as they come."""
        return any("text/event-stream" in answer.get("content", {}) for answer in self.said["responses"].values())

    def call(self, app: FastAPI, key: str | None, job: str) -> Response:
        """Ask for it about a job."""
        parameters = [self._resolved(parameter) for parameter in self.said.get("parameters", ())]
        path = self.path
        for parameter in parameters:
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", self._example(parameter["name"], parameter, job))
        query = {
            each["name"]: self._example(each["name"], each, job)
            for each in parameters
            if each["in"] == "query" and (each.get("required") or _is_job(each["name"]))
        }
        content = self.said.get("requestBody", {}).get("content", {})
        body = None
        if content:
            schema = next(iter(content.values()))
            body = json.dumps(self._value("", schema.get("schema", {}), job))
        headers = {"content-type": next(iter(content))} if content else {}
        return calling(app, key).request(self.method, path, params=query, content=body, headers=headers)

    def _example(self, name: str, parameter: Mapping[str, Any], job: str) -> str:
        if "examples" in parameter and not _is_job(name):
            return str(next(iter(parameter["examples"].values()))["value"])
        return str(self._value(name, parameter.get("schema", {}) | {"required": True}, job))

    def _value(self, name: str, schema: Mapping[str, Any], job: str) -> Any:
        schema = self._resolved(schema)
        if _is_job(name):
            return [job] if schema.get("type") == "array" else job
        for known in ("examples", "enum"):
            if schema.get(known):
                return schema[known][0]
        for known in ("example", "const", "default"):
            if known in schema:
                return schema[known]
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return self._value(name, schema[several][0], job)
        match schema.get("type"):
            case "object":
                wanted = {*schema.get("required", ()), *(each for each in schema.get("properties", {}) if _is_job(each))}
                return {each: self._value(each, schema["properties"][each], job) for each in sorted(wanted)}
            case "array":
                return [self._value("", schema["items"], job)] if schema.get("minItems") else []
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return False
        return "https://example.org/" if schema.get("format") in ("uri", "url") else "x" * max(1, schema.get("minLength", 1))

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in part:
            found: Any = self.document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part


def _is_job(name: str) -> bool:
    return name in {"job", "jobs", "of", "explain_job_id", "new_job", "with", "other", "left", "right"}


def operations(folder: Path) -> list[Operation]:
    document = gateway_app(gateway_settings(folder)).openapi()
    return [
        Operation(method.upper(), path, said, document)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        if method in {"get", "head", "post", "put", "patch", "delete", "options"}
    ]


ALL = operations(Path("/nonexistent"))
OF_A_JOB = [each for each in ALL if "{job}" in each.path]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two tenants' jobs, with a word in one of them that the other must never see; its files too."""
    settings = gateway_settings(tmp_path_factory.mktemp("two"), requests_at_once=100_000)
    stored(settings, [*job_of("ours", OURS, features=FEATURES), *job_of("theirs", THEIRS, features=FEATURES, says=SECRET_WORD)])
    for job in (OURS, THEIRS):
        folder = report_directory(settings.reports.directory, job)
        folder.mkdir(parents=True)
        for name in ("explanation_report.html", "feature_explanations.json"):
            (folder / name).write_text(f"of {job}: {SECRET_WORD if job == THEIRS else 'words'}")
    return settings


@pytest.fixture(scope="module")
def keys(settings: Settings) -> Mapping[str, str]:
    """Keys of ours, by scope."""
    return {scope: new_key(settings, scope, "ours") for scope in ("read", "write", "admin")}


@pytest.fixture(scope="module")
def app(settings: Settings, keys: Mapping[str, str]) -> Iterator[FastAPI]:
    made = gateway_app(settings)
    yield made
    made.state.keys.close()
    made.state.sessions.close()
    made.state.audit.close()


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_no_route_does_anything_without_a_key(operation: Operation, app: FastAPI) -> None:
    answer = operation.call(app, None, OURS)
    if (operation.method, operation.path) in PUBLIC:
        assert answer.status_code != 500
        assert SECRET_WORD not in answer.text
        return
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:mistudio-explain:problem:no-key"


@pytest.mark.parametrize("operation", [each for each in ALL if not is_safe(each.method) and (each.method, each.path) not in PUBLIC], ids=str)
def test_no_route_changes_anything_for_a_key_that_may_only_read(operation: Operation, app: FastAPI, keys: Mapping[str, str]) -> None:
    answer = operation.call(app, keys["read"], OURS)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:mistudio-explain:problem:scope-too-small"


@pytest.mark.parametrize("operation", [each for each in ALL if not each.is_stream and (each.method, each.path) not in PUBLIC], ids=str)
def test_what_concerns_others_is_for_administrators_and_nothing_else_is(operation: Operation, app: FastAPI, keys: Mapping[str, str]) -> None:
    assert (operation.call(app, keys["write"], NOBODYS).status_code == 403) == (operation.path in FOR_ADMINISTRATORS)


@pytest.mark.parametrize("operation", OF_A_JOB, ids=str)
def test_no_route_knows_another_tenants_job(operation: Operation, app: FastAPI, keys: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is, to the byte, that about a job that is not there, and the store is asked the same, so that no time is told either."""
    monkeypatch.setattr("mistudio_explain.gateway.streams._APPEARS_WITHIN_S", 0.1)
    asked: list[str] = []
    for name in ("one", "all", "stream"):
        monkeypatch.setattr(Sqlite, name, _noting(getattr(Sqlite, name), asked))
    operation.call(app, keys["admin"], NOBODYS)  # what is looked up once a process is looked up
    asked.clear()
    nobodys = operation.call(app, keys["admin"], NOBODYS)
    of_nobodys, asked[:] = list(asked), []
    theirs = operation.call(app, keys["admin"], THEIRS)
    assert theirs.status_code == 404, theirs.text
    assert theirs.text.replace(THEIRS, NOBODYS) == nobodys.text
    assert {**theirs.headers, "content-length": ""} == {**nobodys.headers, "content-length": ""}
    assert _about_jobs(asked) == _about_jobs(of_nobodys)


@pytest.mark.parametrize("operation", [each for each in ALL if each not in OF_A_JOB and not each.is_stream], ids=str)
def test_no_route_about_no_certain_job_tells_of_another_tenants(operation: Operation, app: FastAPI, keys: Mapping[str, str]) -> None:
    answer = operation.call(app, keys["admin"], THEIRS)
    repeats = answer.status_code >= 400 or operation.path.endswith("/audit")  # what was asked may be said again to whoever asked it
    assert SECRET_WORD not in answer.text
    assert "theirs" not in (answer.text.replace(THEIRS, "") if repeats else answer.text)


@pytest.mark.parametrize("operation", [each for each in OF_A_JOB if is_safe(each.method) and not each.is_stream], ids=str)
def test_the_same_requests_are_answered_about_the_callers_own_job(operation: Operation, app: FastAPI, keys: Mapping[str, str]) -> None:
    """Else the tests above would prove nothing."""
    answer = operation.call(app, keys["read"], OURS)
    assert answer.status_code == 200, answer.text


def _noting(real: Any, asked: list[str]) -> Any:
    def noting(self: Sqlite, query: str, values: Any = ()) -> Any:
        asked.append(query)
        return real(self, query, values)

    return noting


def _about_jobs(queries: list[str]) -> list[str]:
    """The queries but for those of keys and of the audit log, which depend on the second."""
    return [query for query in queries if "api_key" not in query and "audit" not in query]


def test_a_replay_of_a_job_that_is_not_stored_names_no_other_tenants_jobs_and_no_place(settings: Settings) -> None:
    with pytest.raises(BadInput) as refused:
        replayed_job(settings.store, "find_1", "explain.ours_9")
    assert THEIRS in str(refused.value), "the command line is the operator's"
    assert "theirs" not in refused.value.over_http
    assert settings.store.url not in refused.value.over_http


def test_the_list_of_routes_is_whole(app: FastAPI) -> None:
    """What is not described is a page of the explorer or the description itself, and has nothing of any job."""
    hidden = [route.path for route in app.routes if not getattr(route, "include_in_schema", True)]
    assert all(path == "/" or path.startswith(("/explorer", "/api/v1/openapi.json")) for path in hidden), hidden
    assert len(ALL) > 3
