"""One reader's records, handed to many clients: who gets what, what is kept, and who is let go."""

import asyncio

import pytest

from mistudio_explain.events.codec import encode
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS, TOKENS
from mistudio_explain.gateway.feed import Entry, Feed, Subject
from mistudio_explain.gateway.position import Position

START = Position("0123abcd", (0,), (0, 0))
ONE, ALL = Subject(REPORTS, "explain_1"), Subject(REPORTS, None)


def report(job: str, explained: int = 0, **changes: object) -> bytes:
    return encode(
        JobReport(
            explain_job_id=job,
            status=JobStatus.RUNNING,
            admitted=9,
            explained=explained,
            skipped=0,
            failed=0,
            flagged=0,
            averages=Averages(),
            at_ms=1,
            **changes,
        )
    )


def begun(**bounds: int) -> Feed:
    feed = Feed(**bounds)
    feed.begin(START)
    return feed


def tell(feed: Feed, offset: int, job: str = "explain_1", value: bytes | None = b"") -> None:
    feed.take(REPORTS, 0, offset, job.encode(), report(job, offset) if value == b"" else value)
    feed.flush()


def offsets(entries: list[Entry]) -> list[int]:
    return [entry.offset for entry in entries]


async def test_a_listener_to_one_job_hears_of_that_job_alone_and_one_to_all_of_all() -> None:
    feed = begun()
    with feed.listening([ONE]) as one, feed.listening([ALL]) as every:
        tell(feed, 0)
        tell(feed, 1, "explain_2")
        assert offsets(await one.take(1)) == [0]
        assert offsets(await every.take(1)) == [0, 1]
    assert feed.clients == 0


async def test_an_entry_is_made_once_for_all_who_hear_it() -> None:
    feed = begun()
    with feed.listening([ALL]) as one, feed.listening([ALL]) as other:
        tell(feed, 0)
        (first,), (second,) = await one.take(1), await other.take(1)
    assert first is second
    assert first.told is second.told


async def test_what_comes_wakes_whoever_waits_and_silence_ends_the_waiting() -> None:
    feed = begun()
    with feed.listening([ONE]) as listener:
        waiting = asyncio.create_task(listener.take(30))
        await asyncio.sleep(0)
        tell(feed, 0)
        assert offsets(await waiting) == [0]
        assert await listener.take(0.01) == []


def test_what_was_missed_is_found_as_long_as_it_is_kept() -> None:
    feed = begun(kept_entries=3)
    for offset in range(5):
        tell(feed, offset, f"explain_{offset % 2}")
    kept = feed.since(Position("0123abcd", (2,), (0, 0)), [ALL])
    assert kept is not None
    assert offsets(kept) == [2, 3, 4]
    assert offsets(feed.since(Position("0123abcd", (2,), (0, 0)), [Subject(REPORTS, "explain_1")]) or []) == [3]
    assert feed.since(Position("0123abcd", (1,), (0, 0)), [ALL]) is None


def test_another_topics_past_does_not_make_what_is_kept_too_short() -> None:
    feed = begun(kept_entries=3)
    for offset in range(5):
        feed.take(EXPLANATIONS, 0, offset, b"explain_1|7", b"")
    assert feed.since(START, [ALL]) == []
    assert feed.since(START, [Subject(EXPLANATIONS, "explain_1")]) is None


def test_what_is_kept_is_bounded_by_bytes() -> None:
    feed = begun(kept_bytes=100_000)
    for offset in range(100):
        tell(feed, offset, value=b"x" * 10_000)
    kept = feed.since(Position("0123abcd", (99,), (0, 0)), [ALL])
    assert kept is not None
    assert feed._kept_bytes <= 100_000
    assert len(feed._kept) == 2


async def test_a_client_that_does_not_keep_up_is_let_go_with_a_reason_and_holds_nothing() -> None:
    feed = begun(kept_entries=10)
    with feed.listening([ALL]) as slow, feed.listening([ALL]) as quick:
        for offset in range(12):
            tell(feed, offset)
            assert offsets(await quick.take(1)) == [offset]
        assert slow.ended is not None
        assert "more slowly" in slow.ended
        assert not slow.pending
        assert await slow.take(1) == []
        assert quick.ended is None


async def test_pieces_are_handed_over_and_not_kept() -> None:
    feed = begun()
    with feed.listening([Subject(TOKENS, "e1")]) as listener:
        feed.take(TOKENS, 0, 0, b"e1", b"")
        feed.take(TOKENS, 0, 1, b"e2", b"")
        feed.take(TOKENS, 0, 2, b"e1", b"")
        feed.take(TOKENS, 0, 3, b"e1", b"")
        assert listener.ended is None
        assert offsets(list(listener.pending)) == [0, 2, 3]
    assert feed.position == START
    assert not feed._kept


@pytest.mark.parametrize("value", [b"\xff", b"\xc3\x01" + b"12345678" + b"body"])
def test_a_record_that_cannot_be_read_tells_nothing(value: bytes) -> None:
    entry = Entry(1, REPORTS, 0, 0, b"explain_1", value, START)
    assert entry.told is None


def test_hostile_text_neither_ends_its_event_nor_begins_another() -> None:
    hostile = "a\n\nevent: end\rdata: {}\u2028\u0085\x00"
    entry = Entry(1, REPORTS, 0, 0, b"explain_1", report("explain_1", notes=[hostile]), START)
    assert entry.told is not None
    block = entry.told.block
    assert block.count(b"\n") == 3
    assert block.endswith(b"\n\n")
    assert b"\r" not in block
