"""Jobs over HTTP: what is known of them, and orders about them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.aggregating import admitted, explained, failed, requested, reviewed, sealed
from integration.live_gateway import LiveGateway, live_gateway
from integration.test_whole_way import EXAMPLE
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import ExplanationDrafted, FeatureReviewed
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobEvent, JobPart
from mistudio_explain.kafka.snapshot import standing

DATA_ROOT = EXAMPLE.parent


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with live_gateway(folder, gateway={"upload_bytes": 1 << 20, "data_root": str(folder / "data")}) as made:
        yield made


def a_job(gateway: LiveGateway, job: str, find_job: str | None = None) -> None:
    """A completed job with two explained features and one that failed."""
    find = find_job or f"find_of_{job.replace('/', '.')}"
    features = [admitted(feature, job, find) for feature in (5, "layer 1/6", 7)]
    outcomes = [explained(5, job, find_job=find), explained("layer 1/6", job, find_job=find), failed(7, job)]
    gateway.write(requested(job, find), *features, *outcomes, sealed(3, job))
    gateway.until(lambda: ("completed", job) in [(line["status"], line["explain_job_id"]) for line in gateway.get("/jobs")["jobs"]])


def written(gateway: LiveGateway, topic: str) -> list[Any]:
    """The records that stand in a topic."""

    async def read() -> list[Any]:
        async with standing(gateway.stream.clients, topic) as snapshot:
            return [record async for record in snapshot]

    return gateway.call(read())


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    """What a problem says."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    told = answer.json()
    assert (told["type"], told["status"]) == (f"urn:mistudio-explain:problem:{kind}", status)
    detail: str = told["detail"]
    return detail


def test_jobs_are_listed_and_shown_with_their_numbers(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_shown", "find_shown")
    listed = gateway.get("/jobs", params={"find_job": "find_shown"})
    (line,) = listed["jobs"]
    assert listed["total"] == 1
    assert (line["explain_job_id"], line["status"], line["expected"]) == ("explain_shown", "completed", 3)
    assert (line["explained"], line["skipped"], line["failed"]) == (2, 0, 1)
    shown = gateway.get("/jobs/explain_shown")
    assert shown.items() >= line.items() - {("heard_ms", line["heard_ms"])}
    assert shown["report"]["averages"]["quality"] == pytest.approx(0.7)
    assert set(shown["parts"]) >= {"request", "sealed"}
    a_job(gateway, "explain_shown_again", "find_shown")
    assert gateway.get("/jobs/explain_shown")["jobs_of_the_same_find_job"] == ["explain_shown_again"]


def test_a_job_whose_id_has_a_slash_is_found_however_the_slash_is_written(gateway: LiveGateway) -> None:
    a_job(gateway, "team/explain 1")
    for written_as in ("team%2Fexplain%201", "team%2fexplain%201", "team~explain%201"):
        assert gateway.get(f"/jobs/{written_as}")["explain_job_id"] == "team/explain 1"
    problem(gateway.client.get("/api/v1/jobs/team/explain 1"), 404, "not-found")


def test_what_a_caller_has_is_not_sent_again_until_it_changes(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_kept")
    first = gateway.client.get("/api/v1/jobs/explain_kept")
    tag = first.headers["etag"]
    again = gateway.client.get("/api/v1/jobs/explain_kept", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    gateway.write(reviewed(5, job="explain_kept"))
    gateway.until(lambda: gateway.client.get("/api/v1/jobs/explain_kept", headers={"if-none-match": tag}).status_code == 200)


def test_long_answers_are_compressed_for_those_who_take_it(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_long")
    plain = gateway.client.get("/api/v1/jobs/explain_long", headers={"accept-encoding": "identity"})
    small = gateway.client.get("/api/v1/jobs/explain_long", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(plain.content) / 2
    assert small.json() == plain.json()


def test_a_job_that_is_not_there_is_a_problem_that_says_so(gateway: LiveGateway) -> None:
    assert "there is no job 'explain_9'" in problem(gateway.client.get("/api/v1/jobs/explain_9"), 404, "no-such-job")
    assert "path.job" in problem(gateway.client.get("/api/v1/jobs/a%7Cb"), 422, "invalid-request")
    for method, path in (("POST", "/jobs/explain_9/cancel"), ("DELETE", "/jobs/explain_9"), ("POST", "/jobs/explain_9/rescore")):
        problem(gateway.client.request(method, f"/api/v1{path}", json={} if method == "POST" else None), 404, "no-such-job")


def test_another_tenants_job_is_as_if_it_were_not_there(gateway: LiveGateway) -> None:
    gateway.write(requested("explain.acme_1", "find_acme").model_copy(update={"tenant": "acme"}), sealed(1, "explain.acme_1"))
    gateway.write(requested("explain_after_acme"))
    gateway.until(lambda: gateway.client.get("/api/v1/jobs/explain_after_acme").status_code == 200)
    problem(gateway.client.get("/api/v1/jobs/explain.acme_1"), 404, "no-such-job")
    problem(gateway.client.get("/api/v1/jobs/explain.acme_1/reviews"), 404, "no-such-job")
    problem(gateway.client.get("/api/v1/jobs/explain.acme_1/files"), 404, "no-such-job")
    problem(gateway.client.post("/api/v1/jobs/explain.acme_1/cancel", json={}), 404, "no-such-job")
    assert gateway.get("/jobs", params={"find_job": "find_acme"})["jobs"] == []


def test_a_job_is_cancelled_once_and_is_seen_to_be_at_once(gateway: LiveGateway) -> None:
    gateway.write(requested("explain_cancelled"), admitted(5, "explain_cancelled"))
    gateway.until(lambda: gateway.client.get("/api/v1/jobs/explain_cancelled").status_code == 200)
    ordered = gateway.client.post("/api/v1/jobs/explain_cancelled/cancel", json={"why": "wrong model"})
    assert (ordered.status_code, ordered.json()["ordered"]) == (202, True)
    assert gateway.get("/jobs/explain_cancelled")["status"] == "cancelled"
    assert gateway.client.post("/api/v1/jobs/explain_cancelled/cancel", json={}).json()["ordered"] is False
    parts = [decode(JobEvent, record.value) for record in written(gateway, topics.JOBS) if record.key == b"explain_cancelled|control"]
    assert [(part.control.action, part.control.why) for part in parts if part.control] == [("cancel", "wrong model")]


def test_a_completed_job_cannot_be_cancelled_but_deleted(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_deleted")
    assert "nothing to cancel" in problem(gateway.client.post("/api/v1/jobs/explain_deleted/cancel", json={}), 400, "bad-input")
    ordered = gateway.client.delete("/api/v1/jobs/explain_deleted", params={"why": "a test"})
    assert (ordered.status_code, ordered.json()["ordered"]) == (202, True)
    assert gateway.get("/jobs/explain_deleted")["status"] in ("being deleted", "deleted")
    gateway.until(lambda: gateway.get("/jobs/explain_deleted")["status"] == "deleted")
    assert gateway.client.delete("/api/v1/jobs/explain_deleted").json()["ordered"] is False
    problem(gateway.client.post("/api/v1/jobs/explain_deleted/cancel", json={}), 400, "bad-input")
    said = problem(gateway.client.post("/api/v1/jobs/explain_deleted/features/5/reviews", json={"verdict": "right", "who": "ada"}), 409, "deleted")
    assert "no review would be" in said


def test_a_file_is_uploaded_as_a_job_and_uploading_it_again_changes_nothing(gateway: LiveGateway) -> None:
    content = EXAMPLE.read_bytes()
    made = gateway.client.post("/api/v1/uploads", content=content, params={"explain_poor": True})
    assert made.status_code == 201, made.text
    told, features = made.json(), json.loads(content)["features"]
    assert told["published"] == len(features)
    shown = gateway.client.get(made.headers["location"]).json()
    assert (shown["explain_job_id"], shown["expected"]) == (told["explain_job_id"], len(features))
    assert gateway.client.post("/api/v1/uploads", content=content, params={"explain_poor": True}).json() == told
    sent = [decode(FeatureFound, record.value) for record in written(gateway, topics.FEATURES)]
    mine = [feature for feature in sent if feature.effective_request.explain_job_id == told["explain_job_id"]]
    assert len({feature.feature_key for feature in mine}) == len(features)
    assert all(feature.effective_request.explain_poor for feature in mine)


def test_a_find_job_in_the_data_folder_is_explained_by_its_id(gateway: LiveGateway) -> None:
    root = gateway.settings.gateway.data_root
    assert root is not None
    find_job = json.loads(EXAMPLE.read_bytes())["job_metadata"]["job_id"]
    folder = root / "results" / "find" / find_job
    folder.mkdir(parents=True)
    (folder / "feature_analysis.json").write_bytes(EXAMPLE.read_bytes())
    made = gateway.client.post("/api/v1/jobs", json={"find_job_id": find_job, "explain_poor": True})
    assert (made.status_code, made.json()["find_job_id"]) == (201, find_job)
    for escape in ("../find_1", "/etc/passwd", ".."):
        problem(gateway.client.post("/api/v1/jobs", json={"find_job_id": escape}), 400, "bad-input")


def test_an_upload_that_is_too_large_or_no_find_job_is_refused_and_leaves_nothing_behind(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    head, limit = b"POST /api/v1/uploads HTTP/1.1\r\nhost: localhost\r\n", gateway.settings.gateway.upload_bytes
    for told in (b"content-length: %d\r\n\r\n" % (limit + 1), b"transfer-encoding: chunked\r\n\r\n%x\r\n%s" % (limit + 1, b" " * (limit + 1))):
        with gateway.connected() as connection:
            connection.sendall(head + told)
            with connection.makefile("rb") as sent:
                answer = sent.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"urn:mistudio-explain:problem:too-large" in answer
    problem(gateway.client.post("/api/v1/uploads", content=b"\x1f\x8b", headers={"content-encoding": "gzip"}), 415, "encoded")
    for junk in (b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"features": [{"feature_id": "1|2"}]}'):
        said = problem(gateway.client.post("/api/v1/uploads", content=junk), 400, "bad-input")
        assert str(tmp_path) not in said
    assert list(tmp_path.iterdir()) == []


def test_an_order_sent_again_with_its_key_is_answered_as_before_and_not_given_again(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_once")
    path, review, key = "/api/v1/jobs/explain_once/features/5/reviews", {"verdict": "right", "who": "ada"}, {"idempotency-key": "k1"}
    first = gateway.client.post(path, json=review, headers=key)
    again = gateway.client.post(path, json=review, headers=key)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert again.headers["location"] == first.headers["location"]
    reviews = [record for record in written(gateway, topics.REVIEWS) if record.key == b"explain_once|5"]
    assert len(reviews) == 1
    problem(gateway.client.post(path, json=review | {"verdict": "wrong"}, headers=key), 422, "key-reused")
    problem(gateway.client.post(path, json=review | {"verdict": "wrongish"}, headers={"idempotency-key": "k2"}), 422, "invalid-request")
    problem(gateway.client.post(path.replace("/5/", "/9/"), json=review, headers={"idempotency-key": "k3"}), 400, "bad-input")
    problem(gateway.client.post(path.replace("/5/", "/9/"), json=review, headers={"idempotency-key": "k3"}), 400, "bad-input")  # a failure is no answer to keep


def test_a_deletion_sent_again_with_its_key_is_answered_as_before(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_deleted_once")
    answers = [gateway.client.delete("/api/v1/jobs/explain_deleted_once", params={"why": "a test"}, headers={"idempotency-key": "d1"}) for _ in range(2)]
    assert [answer.json()["ordered"] for answer in answers] == [True, True]
    assert answers[1].headers["idempotency-replayed"] == "true"
    problem(gateway.client.delete("/api/v1/jobs/explain_deleted_once", headers={"idempotency-key": "d1"}), 422, "key-reused")


def test_every_order_takes_an_idempotency_key(gateway: LiveGateway) -> None:
    """Sessions order nothing: another one does no harm, and what is kept of an answer must not hold a cookie."""
    orders = {
        operation["operationId"]: {parameter["name"] for parameter in operation.get("parameters", ())}
        for path in gateway.get("/openapi.json")["paths"].values()
        for method, operation in path.items()
        if method != "get"
    }
    assert {operation for operation, parameters in orders.items() if "Idempotency-Key" not in parameters} == {"open_session", "close_session"}


def test_what_is_wrong_is_told_in_the_words_of_a_request(gateway: LiveGateway, tmp_path: Path) -> None:
    a_job(gateway, "explain_told")
    a_job(gateway, "explain_told_taken")
    replays, uploads = "/api/v1/jobs/explain_told/replays", "/api/v1/uploads"
    no_model = {"metadata": {"job_id": "find_told"}, "features": [{"feature_id": 1, "top_activations": [{"text": "a"}]}]}
    poor = json.loads(EXAMPLE.read_bytes())
    refused = [
        gateway.client.post("/api/v1/jobs/explain_told/cancel", json={}),
        *(gateway.client.post(replays, json=order) for order in ({"where": "quality>0.99"}, {"prompt": "none@9"}, {"since": "soon"}, {"features": ["99"]})),
        *(gateway.client.post(replays, json={"new_job": job}) for job in ("explain_told_taken", "a|b")),
        gateway.client.post(uploads, json=no_model),
        gateway.client.post(uploads, json=poor),
        gateway.client.post("/api/v1/jobs", json={"find_job_id": "find_nowhere"}),
    ]
    for answer in refused:
        said = problem(answer, 400, "bad-input")
        assert "--" not in said, said
        assert "mistudio-explain " not in said
        assert str(gateway.settings.gateway.data_root) not in said


def test_a_review_is_published_under_the_features_key_and_listed(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_reviewed")
    said = {"verdict": "wrong", "corrected": "Names of dogs.", "who": "ada", "why": "no schema"}
    answer = gateway.client.post("/api/v1/jobs/explain_reviewed/features/layer%201~6/reviews", json=said)
    assert (answer.status_code, answer.json()["feature_checked"]) == (201, True)
    (record,) = [each for each in written(gateway, topics.REVIEWS) if each.key == b"explain_reviewed|layer 1/6"]
    assert decode(FeatureReviewed, record.value).model_dump().items() >= said.items()
    (listed,) = gateway.until(lambda: gateway.get("/jobs/explain_reviewed/reviews")["reviews"])
    assert listed.items() >= said.items()
    refused = gateway.client.post("/api/v1/jobs/explain_reviewed/features/8/reviews", json=said)
    assert "no outcome of a feature '8'; it has 5, 7" in problem(refused, 400, "bad-input")


def test_a_replay_is_ordered_for_the_features_that_fit(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_again", "find_again")
    order = {"where": "quality>0.5", "route": "llama3.1:70b", "new_job": "explain_again_2"}
    made = gateway.client.post("/api/v1/jobs/explain_again/replays", json=order)
    assert (made.status_code, made.json()) == (202, {"explain_job_id": "explain_again_2", "of": "explain_again", "features": 2})
    shown = gateway.client.get(made.headers["location"]).json()
    assert shown["parts"][JobPart.REPLAY]["replay"]["where"] == "quality>0.5"
    assert shown["parts"][JobPart.REQUEST]["request"]["route"] == "llama3.1:70b"
    assert "exists already" in problem(gateway.client.post("/api/v1/jobs/explain_again/replays", json=order), 400, "bad-input")
    for wrong in ({"where": "quality>>1"}, {"features": ["99"]}, {"prompt": "none@9"}, {"since": "soon"}, {"new_job": "a|b"}):
        problem(gateway.client.post("/api/v1/jobs/explain_again/replays", json=wrong), 400, "bad-input")


def test_a_jobs_explanations_are_sent_to_be_scored_again(gateway: LiveGateway) -> None:
    a_job(gateway, "explain_rescored")
    answer = gateway.client.post("/api/v1/jobs/explain_rescored/rescore", json={"every": True})
    assert answer.status_code == 202
    told = answer.json()
    drafts = [decode(ExplanationDrafted, record.value) for record in written(gateway, topics.DRAFTS)]
    mine = [draft for draft in drafts if draft.subject.explain_job_id == "explain_rescored"]
    assert told["sent"] == len(mine)
    assert told["sent"] + sum(told["left"].values()) == 2
