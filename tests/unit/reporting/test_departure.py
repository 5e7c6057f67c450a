"""What a report says of what left the machine: `Nothing left this machine` only when that is true."""

import pytest

from golden_events import OUTCOME
from mistudio_explain.aggregation.surroundings import beyond_machine
from mistudio_explain.events.job import Averages, JobReport, JobStatus, SentToCloud
from mistudio_explain.reporting.departure import departure
from mistudio_explain.reporting.survey import survey
from mistudio_explain.settings import Settings

NOTHING = "Nothing left this machine."
SENT = SentToCloud(endpoint="away", url="https://llm.example.org", model="m", features=3, calls=4, usd=0.01)


def said(reach: str | None, **report: object) -> str:
    generation = OUTCOME.generation.model_copy(update={"reach": reach})  # type: ignore[union-attr]
    outcome = OUTCOME.model_copy(update={"generation": generation, "other": None})
    numbers = JobReport(
        explain_job_id="job", status=JobStatus.COMPLETED, admitted=1, explained=1, skipped=0, failed=0, flagged=0, averages=Averages(), at_ms=0, **report
    )
    return departure(numbers, survey([outcome]))


def test_only_answers_of_this_machine_with_nothing_elsewhere_are_nothing_that_left() -> None:
    assert said("machine") == NOTHING


@pytest.mark.parametrize(
    ("reach", "report", "named"),
    [
        ("machine", {"sent_to_cloud": [SENT]}, "3 features to m at away"),
        ("cloud", {}, "kept from earlier calls"),
        ("network", {}, "other machines of the operator"),
        ("machine", {"beyond_machine": ["Kafka at broker:9092"]}, "Kafka at broker:9092"),
        (None, {}, "not recorded"),
    ],
)
def test_anything_else_is_named(reach: str | None, report: dict[str, object], named: str) -> None:
    assert named in said(reach, **report)
    assert NOTHING not in said(reach, **report)


def test_servers_on_other_machines_are_those_of_the_settings() -> None:
    assert beyond_machine(Settings()) == []
    away = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:9092,broker:9092"}, "store": {"url": "postgresql://u@db/x"}})
    assert beyond_machine(away) == ["Kafka at broker:9092", "the store's PostgreSQL"]
