"""A gateway that is asked what makes no sense, or that Kafka or the store is away from: it says so and goes on."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance
from schemathesis.schemas import APIOperation

from integration.aggregating import admitted, explained, requested, sealed
from integration.gates import calling
from integration.live_gateway import LiveGateway, live_gateway
from integration.local_server import free_ports
from integration.test_gateway_jobs import a_job, problem
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.gateway.service import register
from mistudio_explain.gateway.sse import MEDIA_TYPE as EVENTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import Change, open_store

JOB = "explain_1"
LIVE = {"follow_jobs", "follow_job", "explain_now"}
"""Whose answers are streams, which do not end by themselves."""
REQUESTS = 1000
METHODS = (b"GET", b"POST", b"DELETE", b"PUT", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"BREW", b"get", b"")
PATHS = (
    b"/", b"/api/v1/jobs", b"/api/v1/jobs/explain_1", b"/api/v1/jobs/explain_1/explanations", b"/api/v1/jobs/explain_1/features/5", b"/api/v1/uploads",
    b"/api/v1/jobs/explain_1/features/5/reviews", b"/api/v1/jobs/explain_1/files/explanation_results.json", b"/api/v1/jobs/explain_1/replays",
    b"/api/v1/jobs/%00", b"/api/v1/jobs/%ff%fe", b"/api/v1/jobs/" + b"a" * 5000, b"/api/v1/jobs/..%2f..%2f", b"/api/v1/jobs/%", b"/api/v1//jobs//", b"*",
    b"http://elsewhere/api/v1/jobs", b"/api/v1/jobs/\xd0\xb9", b"/api/v1/explanations", b"/livez", b"/metrics", b"/readyz/../api",
)  # fmt: skip
QUERIES = (
    b"", b"?limit=-1", b"?limit=999999999999999999999", b"?limit=NaN", b"?cursor=%00%ff", b"?cursor=AAAA", b"?text=" + b"%F0%9F%98%80" * 200, b"?order='",
    b"?quality_from=inf", b"?quality_from=1e999", b"?a=" + b"%" * 50, b"?text=%22%27%3B--", b"?verdict=confirmed&verdict=x", b"?find_job=%00", b"?text=%00",
)  # fmt: skip
HEADERS = (
    b"", b"range: bytes=9999999999999999999999-\r\n", b"range: bytes=-\r\n", b"if-none-match: \xff\xfe\r\n", b"idempotency-key: \xff\r\n",
    b"idempotency-key: " + b"k" * 300 + b"\r\n", b"content-type: text/plain\r\n", b"content-type: application/json; charset=utf-16\r\n",
    b"content-encoding: br\r\n", b"authorization: Bearer \x00\r\n", b"cookie: " + b"c" * 2000 + b"\r\n", b"accept-encoding: gzip;q=x\r\n", b"host: \r\n",
    b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\n", b"x\r\n",
)  # fmt: skip
BODIES = (
    b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe\x00", b'{"verdict": "right"}', b'{"verdict": 1, "who": null}', b'{"where": "((((("}', b"[" * 5000,
    b'{"who": "\\ud800", "verdict": "right"}', b'{"why": "\\u0000"}', b'{"candidates": 1e400}', b'{"find_job_id": "a\\u0000b"}', b"1" * 5000,
    b'{"who": "\\u0000", "verdict": "right", "why": "\\ud800"}', b'{"since": "99999-99-99", "features": [""]}', b'{"new_job": "\\ud83d"}',
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    nobody = {"endpoints": [{"name": "away", "provider": "ollama", "url": f"http://127.0.0.1:{free_ports(1)[0]}"}]}
    with live_gateway(tmp_path_factory.mktemp("gateway"), llm=nobody) as made:
        a_job(made, JOB)
        yield made


def test_nothing_that_its_description_allows_or_forbids_makes_it_fail(gateway: LiveGateway) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/api/v1/openapi.json")
    for found in schema.exclude(operation_id=sorted(LIVE)).get_all_operations():
        for mode in GenerationMode:
            probe(found.ok(), mode, lambda case: case.call())


def test_nothing_that_its_description_allows_or_forbids_makes_a_stream_fail(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistudio_explain.gateway.streams._APPEARS_WITHIN_S", 0.1)
    schema = schemathesis.openapi.from_url(f"{gateway.url}/api/v1/openapi.json")
    streams = [found.ok() for found in schema.include(operation_id=sorted(LIVE)).get_all_operations()]
    assert len(streams) == len(LIVE)
    for operation in streams:
        for mode in GenerationMode:
            probe(operation, mode, begun)


def begun(case: schemathesis.Case) -> requests.Response:
    """The answer as far as its first event; what is no stream is read whole."""
    asked = case.as_transport_kwargs()
    asked["headers"] = {**asked["headers"], "accept": EVENTS}
    with requests.request(**asked, stream=True, timeout=30) as response:
        content = b""
        for piece in response.iter_content(None):
            content += piece
            if response.headers["content-type"].startswith(EVENTS) and b"\n\n" in content:
                break
        response._content = content
        return response


def probe(operation: APIOperation, mode: GenerationMode, call: Callable[[schemathesis.Case], Any]) -> None:
    """Ask for what the description of an operation allows, or for what it forbids."""

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        answer = call(case)
        checks = [not_a_server_error, status_code_conformance, content_type_conformance]
        if not str(answer.headers.get("content-type")).count(EVENTS):  # of which the check reads each event by the schema of the whole
            checks.append(response_schema_conformance)
        case.validate_response(answer, checks=checks)

    with suppress(Unsatisfiable):  # what takes no parameter forbids nothing
        holds()


def answer_of(gateway: LiveGateway, request: bytes) -> bytes:
    """What a request, byte by byte as it is, is answered with; nothing when the connection is closed."""
    with gateway.connected() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
        return answer


def test_a_thousand_malformed_requests_are_refused_and_none_makes_it_fail(gateway: LiveGateway) -> None:
    chosen = random.Random(8350)
    statuses: dict[bytes, int] = {}
    for _ in range(REQUESTS):
        body = chosen.choice(BODIES)
        length = chosen.choice((len(body), len(body), len(body) + 7, -1, "x"))
        target = chosen.choice(PATHS) + chosen.choice(QUERIES)
        version = chosen.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""))
        head = b"%s %s %s\r\nhost: x\r\nconnection: close\r\n%scontent-length: %s\r\n\r\n"
        request = head % (chosen.choice(METHODS), target, version, chosen.choice(HEADERS), str(length).encode())
        answer = answer_of(gateway, request + body)
        status = answer.split(b" ", 2)[1] if answer else b"none"
        statuses[status] = statuses.get(status, 0) + 1
        assert not status.startswith(b"5"), (request + body, answer)
    assert sum(statuses.values()) == REQUESTS
    a_job(gateway, "explain_after_all_that")


def test_no_answer_waits_for_an_acknowledgement_of_its_head(gateway: LiveGateway) -> None:
    took = []
    for _ in range(10):
        begun = time.perf_counter()
        assert gateway.client.get("/livez").status_code == 200
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.035  # Linux acknowledges after 40 ms when nothing else is to be sent


def test_while_kafka_is_away_what_is_stored_is_read_and_orders_are_refused_for_now(tmp_path: Path) -> None:
    given = {"kafka": {"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"}, "store": {"url": f"sqlite:///{tmp_path}/explain.db"}}
    settings = Settings.model_validate(given)
    with open_store(settings.store) as store:
        events = (requested(), admitted(5), explained(5), sealed(1))
        store.apply([Change(event, encode(event), "", 1000, topics.EXPLANATIONS) for event in events], {})
    with calling(register(StreamApp(settings, KafkaClients(settings.kafka, settings.limits)))) as client:
        assert client.get("/livez").status_code == 200
        assert (client.get("/readyz").status_code, "does not answer" in client.get("/readyz").text) == (503, True)
        assert [job["explain_job_id"] for job in client.get("/api/v1/jobs").json()["jobs"]] == [JOB]
        assert client.get(f"/api/v1/jobs/{JOB}").json()["explained"] == 1
        for path, body in ((f"/jobs/{JOB}/features/5/reviews", {"verdict": "right", "who": "ada"}), (f"/jobs/{JOB}/replays", {})):
            refused = client.post(f"/api/v1{path}", json=body)
            assert "nothing can be ordered now" in problem(refused, 503, "kafka-away")
            assert int(refused.headers["retry-after"]) > 0


def test_without_any_store_there_are_no_jobs_and_nothing_fails(tmp_path: Path) -> None:
    given = {"kafka": {"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"}, "store": {"url": f"sqlite:///{tmp_path}/none/explain.db"}}
    settings = Settings.model_validate(given)
    with calling(register(StreamApp(settings, KafkaClients(settings.kafka, settings.limits)))) as client:
        assert client.get("/api/v1/jobs").json() == {"jobs": [], "total": 0}
        problem(client.get(f"/api/v1/jobs/{JOB}"), 404, "no-such-job")
        assert not (tmp_path / "none").exists()


def test_a_store_that_takes_the_place_of_another_is_read_from_the_next_question_on(tmp_path: Path) -> None:
    given = {"kafka": {"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"}, "store": {"url": f"sqlite:///{tmp_path}/explain.db"}}
    settings = Settings.model_validate(given)
    stores = {name: Settings.model_validate(given | {"store": {"url": f"sqlite:///{tmp_path}/{name}.db"}}).store for name in ("explain", "another")}
    for number, store_settings in enumerate(stores.values(), start=1):
        with open_store(store_settings) as store:
            events = (requested(), *(explained(feature) for feature in range(number)), sealed(number))
            store.apply([Change(event, encode(event), "", 1000, topics.EXPLANATIONS) for event in events], {})
    with calling(register(StreamApp(settings, KafkaClients(settings.kafka, settings.limits)))) as client:
        assert client.get(f"/api/v1/jobs/{JOB}").json()["explained"] == 1
        (tmp_path / "another.db").replace(tmp_path / "explain.db")
        assert client.get(f"/api/v1/jobs/{JOB}").json()["explained"] == 2


def test_a_file_that_is_no_store_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "explain.db").write_bytes(b"no database" * 1000)
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"}, "store": {"url": f"sqlite:///{tmp_path}/explain.db"}})
    with calling(register(StreamApp(settings, KafkaClients(settings.kafka, settings.limits)))) as client:
        answer = client.get("/api/v1/jobs")
        assert answer.status_code in (500, 503)
        assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/livez").status_code == 200
