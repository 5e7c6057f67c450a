"""Explanations over HTTP: lists page by page, counts, one feature with what it rests on, and its history."""

import base64
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from integration.aggregating import explained, failed, requested, reviewed, sealed
from integration.live_gateway import LiveGateway, live_gateway
from integration.test_gateway_jobs import problem
from mistudio_explain.events.explanation import Evidence
from mistudio_explain.events.feature import Activation

JOB, AGAIN = "explain_1", "explain_1_again"
FEATURES = 12
HOSTILE = "</script><script>alert(1)</script>\x00\u202e=HYPERLINK(1)"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    with live_gateway(tmp_path_factory.mktemp("gateway")) as made:
        outcomes = [explained(number, p=number / FEATURES, says=f"words about number {number}") for number in range(FEATURES)]
        tokens = Activation(text="import numpy", tokens=["import", " numpy"], token_activations=[4.0, 0.5], activation_strength=4.0)
        whole = explained("layer 1/5", says=HOSTILE).model_copy(update={"evidence": Evidence(seen=[tokens], held_out=[Activation(text="import os")])})
        made.write(requested(), *outcomes, whole, failed("broken"), sealed(FEATURES + 2))
        made.write(requested(AGAIN), explained("layer 1/5", AGAIN, says="something else"), sealed(1, AGAIN))
        made.until(lambda: made.get("/jobs")["total"] == 2 and all(job["status"] == "completed" for job in made.get("/jobs")["jobs"]))
        yield made


def keys(answer: Any) -> list[str]:
    return [line["feature_key"] for line in answer["explanations"]]


def test_pages_follow_one_another_and_hold_every_feature_once_in_its_order(gateway: LiveGateway) -> None:
    asked: dict[str, Any] = {"order": "quality", "descending": True, "limit": 5, "outcome": "explained"}
    page = gateway.get(f"/jobs/{JOB}/explanations", params=asked)
    found = page["explanations"]
    while page["next"]:
        page = gateway.get(f"/jobs/{JOB}/explanations", params=asked | {"cursor": page["next"]})
        found += page["explanations"]
    assert len({line["feature_key"] for line in found}) == len(found) == FEATURES + 1
    qualities = [line["quality"] for line in found]
    assert qualities == sorted(qualities, reverse=True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"quality_from": 0.9}, ["11"]),
        ({"outcome": "failed"}, ["broken"]),
        ({"verdict": "none"}, ["broken"]),
        ({"text": "NUMBER 7"}, ["7"]),
        ({"text": "number", "quality_to": 0.1}, ["0", "1"]),
        ({"verdict": ["confirmed", "none"], "quality_from": 0.9}, ["11"]),
        ({"category": "behavioral"}, []),
        ({"text": "' OR 1=1 --"}, []),
    ],
)
def test_a_list_holds_what_meets_every_filter(gateway: LiveGateway, asked: dict[str, Any], expected: list[str]) -> None:
    assert keys(gateway.get(f"/jobs/{JOB}/explanations", params=asked)) == expected
    counted = gateway.get(f"/jobs/{JOB}/counts", params=asked)
    assert (counted["total"], counted["is_whole"]) == (len(expected), True)


def test_a_list_of_all_jobs_names_the_job_of_each_explanation(gateway: LiveGateway) -> None:
    found = gateway.get("/explanations", params={"text": "something"})["explanations"]
    assert [(line["job"], line["feature_key"], line["said"]) for line in found] == [(AGAIN, "layer 1/5", "something else")]


@pytest.mark.parametrize(
    "asked",
    [{"limit": 0}, {"limit": 501}, {"order": "id; drop table card"}, {"verdict": "surely"}, {"quality_from": "NaN"}, {"quality_from": 2}, {"colour": "red"}],
)
def test_a_filter_that_is_none_is_refused_by_its_name(gateway: LiveGateway, asked: dict[str, Any]) -> None:
    answer = gateway.client.get(f"/api/v1/jobs/{JOB}/explanations", params=asked)
    assert next(iter(asked)) in problem(answer, 422, "invalid-request")


def test_a_cursor_of_another_list_is_refused(gateway: LiveGateway) -> None:
    cursor = gateway.get(f"/jobs/{JOB}/explanations", params={"limit": 2})["next"]
    for asked in ({"cursor": cursor, "order": "quality"}, {"cursor": cursor[:-3]}, {"cursor": "x" * 100}):
        problem(gateway.client.get(f"/api/v1/jobs/{JOB}/explanations", params=asked), 400, "bad-input")


@pytest.mark.parametrize("order", ["feature", "quality", "changed"])
def test_a_cursor_that_somebody_changed_is_refused_or_a_place_in_the_same_list(gateway: LiveGateway, order: str) -> None:
    asked: dict[str, Any] = {"limit": 2, "order": order}
    good = gateway.get(f"/jobs/{JOB}/explanations", params=asked)["next"]
    digest, *key = orjson.loads(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    chosen = random.Random(8350)
    letters = "".join(map(chr, range(33, 127)))
    changed = [good[:at] + chosen.choice(letters) + good[at + 1 :] for at in chosen.choices(range(len(good)), k=60)]
    forged = [
        [digest, *key, "more"],
        [digest, *key[:-1]],
        [digest, *([None] * len(key))],
        [digest, *([[]] * len(key))],
        [digest, *([-(1 << 63)] * len(key))],
        [digest, *([1e308] * len(key))],
        [digest, *key[:-2], "\x00", "'; drop table card --"],
        [digest, *key[:-2], "theirs", "\ufffd" * 300],
        {"a": digest},
        digest,
        [],
    ]
    changed += [base64.urlsafe_b64encode(orjson.dumps(each)).decode().rstrip("=") for each in forged]
    raw = [b"[" * 800, b'["' + digest.encode() + b'", 1e999, "a", "b"]', b'["' + digest.encode() + b'", NaN, "a", "b"]', b"\xff\xfe"]
    for cursor in (*changed, *(base64.urlsafe_b64encode(each).decode() for each in raw)):
        answer = gateway.client.get(f"/api/v1/jobs/{JOB}/explanations", params=asked | {"cursor": cursor})
        if answer.status_code != 200:
            problem(answer, 400, "bad-input")
        else:
            assert all(line["job"] == JOB for line in answer.json()["explanations"])


@pytest.mark.parametrize("limit", ["-1", "501", "1e3", "9" * 400, "0x10", "", "１", "5;5", "NaN"])
@pytest.mark.parametrize("path", [f"/jobs/{JOB}/explanations", "/explanations", "/jobs", "/audit"])
def test_a_limit_that_is_none_is_refused(gateway: LiveGateway, path: str, limit: str) -> None:
    if limit == "501" and path in ("/jobs", "/audit"):
        limit = "1001"
    answer = gateway.client.get(f"/api/v1{path}", params={"limit": limit})
    if limit == "１":  # a digit of another script is one to Python
        assert answer.status_code in (200, 422)
    else:
        assert "limit" in problem(answer, 422, "invalid-request")


def test_a_feature_is_shown_with_its_texts_tokens_and_scores_and_hostile_texts_stay_text(gateway: LiveGateway) -> None:
    answer = gateway.client.get(f"/api/v1/jobs/{JOB}/features/layer%201~5")
    shown = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert (shown["feature_key"], shown["outcome"], shown["explanation"]) == ("layer 1/5", "explained", HOSTILE)
    (seen,), (held_out,) = shown["evidence"]["seen"], shown["evidence"]["held_out"]
    assert (seen["tokens"], seen["token_activations"], held_out["text"]) == (["import", " numpy"], [4.0, 0.5], "import os")
    assert shown["accuracy"]["p"] == pytest.approx(0.7)
    broken = gateway.get(f"/jobs/{JOB}/features/broken")
    assert (broken["outcome"], broken["reason"], broken["evidence"]) == ("failed", "its own fault", None)
    assert "no outcome of a feature '99'" in problem(gateway.client.get(f"/api/v1/jobs/{JOB}/features/99"), 404, "no-such-feature")


def test_a_features_history_is_what_each_job_on_its_find_job_made_of_it(gateway: LiveGateway) -> None:
    jobs = gateway.get(f"/jobs/{JOB}/features/layer%201~5/history")["jobs"]
    assert {(line["job"], line["said"]) for line in jobs} == {(JOB, HOSTILE.replace("\x00", "\ufffd")), (AGAIN, "something else")}


def test_a_review_is_seen_in_lists_and_at_its_feature(gateway: LiveGateway) -> None:
    gateway.write(reviewed(3, "wrong"))
    gateway.until(lambda: keys(gateway.get(f"/jobs/{JOB}/explanations", params={"reviewed": True})) == ["3"])
    assert gateway.get(f"/jobs/{JOB}/features/3")["review"]["verdict"] == "wrong"
