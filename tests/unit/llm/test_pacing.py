"""The pace keeps to a rate limit that it has to find out, in virtual time."""

import pytest

from mistudio_explain.llm.pacing import Pace


class Bucket:
    """A cloud's rate limit: `rate` calls a second, `burst` saved up at most."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, 0.0

    def take(self, now: float) -> float | None:
        """None when the call is accepted, else the seconds to wait."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.rate


def run(bucket: Bucket, pace: Pace, seconds: float, *, demand: float, reply_s: float, measured_from: float, says_retry_after: bool = True) -> tuple[int, int]:
    """Accepted and refused calls after `measured_from`, with a call at most every `1 / demand` seconds; replies take `reply_s`."""
    now = last = 0.0
    pending: list[tuple[float, float, float | None]] = []
    accepted = refused = 0
    while now < seconds:
        for entry in [entry for entry in pending if entry[0] <= now]:
            pending.remove(entry)
            ended, sent_at, wait = entry
            if wait is None:
                pace.accepted()
            else:
                pace.refused(ended, sent_at, wait if says_retry_after else None)
        if max(pace.free_at(), last + 1 / demand) <= now:
            pace.sent(now)
            last, wait = now, bucket.take(now)
            pending.append((now + reply_s, now, wait))
            if now >= measured_from:
                accepted, refused = accepted + (wait is None), refused + (wait is not None)
        now = min([max(pace.free_at(), last + 1 / demand), *(ended for ended, _, _ in pending)])
    return accepted, refused


@pytest.mark.parametrize("says_retry_after", [True, False])
@pytest.mark.parametrize(("rate", "burst"), [(1.0, 20), (5.0, 1), (5.0, 60), (50.0, 10)])
def test_nine_tenths_of_the_allowed_rate_are_used_and_less_than_two_in_a_hundred_refused(rate: float, burst: float, says_retry_after: bool) -> None:
    seconds = 1_200.0
    bucket, pace = Bucket(rate, burst), Pace()
    accepted, refused = run(bucket, pace, seconds, demand=10 * rate, reply_s=0.3, measured_from=0.0, says_retry_after=says_retry_after)
    assert accepted >= 0.9 * rate * seconds
    assert refused < 0.02 * (accepted + refused)


def test_a_slow_limit_without_any_reserve_is_kept_to_after_its_first_minutes() -> None:
    accepted, refused = run(Bucket(0.5, 1), Pace(), 1_800.0, demand=5.0, reply_s=0.3, measured_from=600.0)
    assert accepted >= 0.9 * 0.5 * 1_200
    assert refused < 0.02 * (accepted + refused)


def test_an_endpoint_that_refuses_nothing_is_not_paced() -> None:
    pace = Pace()
    for second in range(100):
        pace.sent(float(second))
        pace.accepted()
    assert pace.rate is None
    assert pace.free_at() == 0.0


def test_nothing_is_sent_before_the_server_s_own_word_has_passed() -> None:
    pace = Pace()
    pace.sent(1.0)
    pace.refused(1.0, 1.0, 30.0)
    assert pace.free_at() == 31.0


def test_a_word_that_is_too_long_is_bounded() -> None:
    pace = Pace()
    pace.refused(0.0, 0.0, 1e9)
    assert pace.free_at() == 600.0


def test_refusals_of_calls_that_were_under_way_lower_the_pace_once() -> None:
    pace = Pace()
    for _ in range(20):
        pace.sent(0.0)
        pace.accepted()
    pace.refused(4.0, 3.9, None)
    rate = pace.rate
    for _ in range(8):
        pace.refused(4.1, 3.95, None)
    assert pace.rate == rate


def test_a_pace_that_holds_nothing_up_does_not_rise() -> None:
    pace = Pace(rate=10.0)
    for second in range(1, 500):
        pace.sent(second * 5.0)
        pace.accepted()
    assert pace.rate == 10.0


def test_a_limit_that_was_raised_is_found() -> None:
    bucket, pace = Bucket(2.0, 1), Pace()
    run(bucket, pace, 200, demand=40, reply_s=0.2, measured_from=0)
    bucket.rate = 4.0
    bucket.at, bucket.tokens = 0.0, 0.0
    pace = Pace(rate=pace.rate)
    run(bucket, pace, 1_000, demand=40, reply_s=0.2, measured_from=0)
    assert pace.rate is not None
    assert pace.rate > 3.7


def test_a_slow_beginning_does_not_make_the_first_pace_too_low() -> None:
    pace = Pace()
    for second in range(60):  # one call a second at first
        pace.sent(float(second))
        pace.accepted()
    for tenth in range(100):  # then ten, until the reserve is used up
        pace.sent(60.0 + tenth / 10)
        pace.accepted()
    pace.refused(70.0, 69.9)
    assert pace.rate is not None
    assert 8.0 <= pace.rate <= 10.0


def test_an_endpoint_that_refuses_everything_for_an_hour_is_asked_once_a_minute_and_as_fast_as_before_soon_after() -> None:
    pace, now = Pace(rate=8.0), 0.0
    for _ in range(100):
        now = max(now, pace.free_at())
        pace.sent(now)
        pace.refused(now, now)
    assert 60 <= pace.free_at() - now <= 61
    pace.sent(pace.free_at())
    pace.accepted()
    assert pace.rate is not None
    assert pace.rate >= 3.9
