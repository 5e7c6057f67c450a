"""What people say of explanations, from the command line through Kafka into the store and the report."""

import json
from pathlib import Path
from typing import Any

import pytest

from integration.aggregating import explained, requested, sealed
from integration.real_kafka import RealKafka
from integration.test_bad_circumstances import one_message
from integration.test_dlq import Topics
from integration.test_whole_way import Command, kafka_settings
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import FeatureReviewed
from mistudio_explain.events.job import ControlPart, JobEvent
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, open_store

JOB = "explain_1"


@pytest.fixture
def command(tmp_path: Path, clean_kafka: RealKafka) -> Command:
    made = Command(tmp_path, kafka_settings(clean_kafka) | {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db"})
    made.run("topics", "create")
    return made


@pytest.fixture
def kept(clean_kafka: RealKafka) -> Topics:
    return Topics(clean_kafka)


def stored(tmp_path: Path, *events: Any) -> None:
    """A store as an aggregator would leave it."""
    with open_store(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")) as store:
        store.apply(
            [Change(event, encode(event), "", 1000, topics.REVIEWS if isinstance(event, FeatureReviewed) else topics.EXPLANATIONS) for event in events], {}
        )


def said(kept: Topics) -> list[FeatureReviewed]:
    return [decode(FeatureReviewed, record.value) for record in kept.read(topics.REVIEWS) if record.value is not None]


def test_a_review_is_published_under_the_features_key_and_listed_beside_the_verdict(command: Command, kept: Topics, tmp_path: Path) -> None:
    stored(tmp_path, requested(), explained("layer 1/5"), explained("layer 1/6"), sealed(2))
    told = command.run("review", JOB, "layer 1/5", "--verdict", "wrong", "--corrected", "Names of dogs.", "--who", "ada", "--why", "no schema").stdout
    assert "ada says that the explanation of layer 1/5 in explain_1 is wrong" in told
    assert "nobody checked" not in told
    (record,) = [each for each in kept.read(topics.REVIEWS) if each.value is not None]
    assert record.key == b"explain_1|layer 1/5"
    (review,) = said(kept)
    assert (review.verdict, review.corrected, review.who, review.why) == ("wrong", "Names of dogs.", "ada", "no schema")

    command.run("review", JOB, "layer 1/5", "--verdict", "partly", "--who", "bob")
    kept.write(
        Outgoing(topics.REVIEWS, f"{JOB}|layer 1/6", b"junk"),
        Outgoing(topics.REVIEWS, "explain_10|5", encode(review.model_copy(update={"explain_job_id": "explain_10"}))),
    )
    (line,) = command.run("reviews", JOB, "--json").stdout.splitlines()
    listed = json.loads(line)
    assert (listed["feature_key"], listed["verdict"], listed["who"], listed["pattern_verification"]) == ("layer 1/5", "partly", "bob", "confirmed")
    assert "1 review of explain_1" in command.run("reviews", JOB).stdout


def test_a_job_or_a_feature_that_is_not_there_is_refused_and_nothing_is_published(command: Command, kept: Topics, tmp_path: Path) -> None:
    stored(tmp_path, requested(), explained(5))
    assert "there is no job 'explain_2'" in one_message(command.run("review", "explain_2", "5", "--verdict", "right", expect=2))
    assert "no outcome of a feature '6'; it has 5" in one_message(command.run("review", JOB, "6", "--verdict", "right", expect=2))
    assert "feature_key" in one_message(command.run("review", JOB, "a|b", "--verdict", "right", expect=2))
    assert "wrongish" in command.run("review", JOB, "5", "--verdict", "wrongish", expect=2).stderr
    assert said(kept) == []


def test_without_a_store_that_knows_the_job_the_review_is_published_and_nobody_claims_to_have_checked_it(command: Command, kept: Topics) -> None:
    kept.write(outgoing(requested()))
    assert "nobody checked that the feature is there" in command.run("review", JOB, "5", "--verdict", "right", "--who", "ada").stdout
    assert json.loads(command.run("review", JOB, "5", "--verdict", "right", "--who", "ada", "--json").stdout)["feature_checked"] is False
    assert len(said(kept)) == 2


def test_a_deleted_job_takes_no_review(command: Command, kept: Topics) -> None:
    kept.write(outgoing(requested()), outgoing(JobEvent(explain_job_id=JOB, at_ms=3, control=ControlPart(action="delete", why="texts withdrawn"))))
    assert "is being deleted (texts withdrawn)" in one_message(command.run("review", JOB, "5", "--verdict", "right", expect=2))
    assert said(kept) == []


def test_without_kafka_reviews_are_listed_from_the_store_and_a_report_shows_them(tmp_path: Path) -> None:
    review = FeatureReviewed(explain_job_id=JOB, feature_key="5", verdict="right", who="ada", at_ms=4)
    stored(tmp_path, requested(), explained(5), explained(6), sealed(2), review)
    alone = Command(tmp_path, {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db"})
    assert json.loads(alone.run("reviews", JOB, "--json").stdout)["who"] == "ada"
    assert "1 reviewed by people, 1 of them in agreement" in alone.run("report", JOB, "--out", str(tmp_path / "out")).stdout
    content = json.loads((tmp_path / "out" / JOB / "feature_explanations.json").read_bytes())
    assert [each["review"] and each["review"]["verdict"] for each in content["explanations"]] == ["right", None]
    assert "kafka.bootstrap_servers is not set" in one_message(alone.run("review", JOB, "5", "--verdict", "right", expect=2))
