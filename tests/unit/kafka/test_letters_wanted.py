"""Which dead letters a person means, and what of jobs keeps them from being sent again."""

import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.events.job import ControlPart, Coordinates, JobEvent, JobPart, RequestPart
from mistudio_explain.kafka.letter_box import Kept, Wanted
from mistudio_explain.kafka.orders import KnownJob, admission, known_job, order


def kept(offset: int, *, at_ms: int = 1000, job: str | None = "explain_1", error: str = "EvidenceError") -> Kept:
    letter = DeadLetter(
        source=Coordinates(topic="mistudio.find.features", partition=2, offset=offset),
        service="context",
        error=error,
        message="no TEXT is left",
        attempts=1,
        explain_job_id=job,
        feature_key="5",
        at_ms=at_ms,
    )
    return Kept(f"mistudio.find.features/2/{offset}".encode(), (0, offset), 10, letter)


UNREADABLE = Kept(b"\xff/0/1", (0, 3), 4, None, "not Avro", at_ms=1000)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(keys=frozenset({"mistudio.find.features/2/7"})),
        Wanted(job="explain_1", feature="5", service="context"),
        Wanted(topic="mistudio.find.features"),
        Wanted(topic="features"),
        Wanted(topic="find.features"),
        Wanted(error="evidenceerror"),
        Wanted(error="text is left"),
        Wanted(since_ms=1000, until_ms=1001),
    ],
)
def test_a_letter_that_meets_every_condition_is_meant(wanted: Wanted) -> None:
    assert wanted.meets(kept(7))


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(keys=frozenset({"mistudio.find.features/2/8"})),
        Wanted(job="explain_2"),
        Wanted(job="explain_1", feature="6"),
        Wanted(service="generation"),
        Wanted(topic="eatures"),
        Wanted(error="Malformed"),
        Wanted(since_ms=1001),
        Wanted(until_ms=1000),
    ],
)
def test_a_letter_that_misses_one_condition_is_not_meant(wanted: Wanted) -> None:
    assert not wanted.meets(kept(7))


def test_a_letter_that_cannot_be_read_is_meant_by_key_and_time_only() -> None:
    assert Wanted().meets(UNREADABLE)
    assert Wanted(keys=frozenset({UNREADABLE.name})).meets(UNREADABLE)
    assert Wanted(until_ms=1001).meets(UNREADABLE)
    assert not Wanted(until_ms=1000).meets(UNREADABLE)
    assert not Wanted(service="context").meets(UNREADABLE)


def known(action: str | None = None, revision: int = 0) -> KnownJob:
    asked = JobEvent(explain_job_id="explain_1", at_ms=1, tenant="lab", request=RequestPart(find_job_id="find_1"))
    parts = {JobPart.REQUEST: asked}
    if action is not None:
        control = ControlPart(action=action, who="ann", why="wrong model")  # type: ignore[arg-type]
        parts[JobPart.CONTROL] = JobEvent(explain_job_id="explain_1", revision=revision, tenant="lab", at_ms=2, control=control)
    return KnownJob("explain_1", parts)


def test_a_new_job_and_an_open_one_take_features_as_they_are() -> None:
    assert admission({}, "explain_1", "find_1", reopen=False, now_ms=5) == (0, None)
    assert admission({"explain_1": known()}, "explain_1", "find_1", reopen=False, now_ms=5) == (0, None)
    assert admission({"explain_1": known()}, "explain_1", "find_1", reopen=True, now_ms=5) == (0, None)


@pytest.mark.parametrize("action", ["cancel", "deleted"])
def test_a_closed_job_takes_features_with_reopen_only_and_under_the_next_revision(action: str) -> None:
    jobs = {"explain_1": known(action, revision=3)}
    with pytest.raises(BadInput, match=r"explain_1 .* by ann \(wrong model\).*--reopen"):
        admission(jobs, "explain_1", "find_1", reopen=False, now_ms=5)
    revision, event = admission(jobs, "explain_1", "find_1", reopen=True, now_ms=5)
    assert event is not None
    assert event.control is not None
    assert (revision, event.revision, event.control.action, event.tenant) == (4, 4, "reopen", "lab")


@pytest.mark.parametrize("reopen", [False, True])
def test_a_job_that_is_being_deleted_takes_no_features(reopen: bool) -> None:
    with pytest.raises(BadInput, match=r"explain_1 is being deleted by ann \(wrong model\).*can be reopened once"):
        admission({"explain_1": known("delete", revision=3)}, "explain_1", "find_1", reopen=reopen, now_ms=5)


def test_a_job_that_was_reopened_takes_features_under_the_revision_that_it_was_reopened_with() -> None:
    assert admission({"explain_1": known("reopen", revision=4)}, "explain_1", "find_1", reopen=False, now_ms=5) == (4, None)


def test_an_id_that_another_find_job_has_is_taken() -> None:
    with pytest.raises(BadInput, match="belongs to find job find_1, not to find_2"):
        admission({"explain_1": known()}, "explain_1", "find_2", reopen=True, now_ms=5)


def test_an_order_speaks_of_all_that_the_job_has_so_far() -> None:
    event = order(known("reopen", revision=4), "cancel", who="bob", why=None, now_ms=5)
    assert event.control == ControlPart(action="cancel", who="bob")
    assert (event.revision, event.tenant, event.at_ms, event.key) == (4, "lab", 5, "explain_1|control")


def test_an_unknown_job_is_told_with_those_that_there_are() -> None:
    with pytest.raises(BadInput, match="no job 'explain_2'; there are explain_1"):
        known_job({"explain_1": known()}, "explain_2")
    with pytest.raises(BadInput, match="there are none"):
        known_job({}, "explain_2")
