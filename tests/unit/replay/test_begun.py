"""What a replayer remembers of orders that it began."""

from mistudio_explain.events.job import JobEvent, ReplayPart
from mistudio_explain.replay.begun import Begun


def order(job: str, revision: int = 0) -> JobEvent:
    return JobEvent(explain_job_id=job, revision=revision, at_ms=1, replay=ReplayPart(from_job="find_1"))


A, B, C = order("a"), order("b"), order("c")


def committed(begun: Begun) -> Begun:
    """As the next replayer reads it."""
    return Begun.read(begun.metadata)


def test_an_order_that_waits_for_its_next_try_stays_begun_while_another_is_run() -> None:
    begun = committed(committed(Begun(frozenset()).and_now(A, [A, B, C])).and_now(B, [A, B, C]))
    assert (begun.may_hold(A), begun.may_hold(B), begun.may_hold(C)) == (True, True, False)


def test_an_order_that_is_over_is_forgotten() -> None:
    begun = Begun(frozenset()).and_now(A, [A, B]).and_now(B, [B])
    assert not begun.may_hold(A)


def test_another_revision_is_another_order() -> None:
    assert not Begun(frozenset()).and_now(A, [A]).may_hold(order("a", 1))


def test_without_a_commit_every_order_may_be_begun_until_it_is_over() -> None:
    unknown = committed(Begun.read(None))
    begun = committed(unknown.and_now(A, [A, B]))
    assert begun.may_hold(B)
    assert not begun.may_hold(C), "an order that was given since was begun by nobody"


def test_more_than_a_commit_can_say_is_no_knowledge() -> None:
    many = [order(f"{number:0200}") for number in range(30)]
    begun = Begun(frozenset())
    for each in many:
        begun = begun.and_now(each, many)
    assert len(begun.metadata) < 4096
    assert committed(begun).may_hold(C)
