"""Moments as people write them."""

from datetime import UTC, datetime

import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.replay.moments import moment_ms
from mistudio_explain.replay.stage import default_replay_id

NOW = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T08:30", datetime(2026, 11, 24, 8, 30, tzinfo=UTC)),
        ("2026-11-24T08:30+02:00", datetime(2026, 11, 24, 6, 30, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 24, 10, 30, 5, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 17, 12, 0, 5, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_a_time_or_how_long_ago(text: str, moment: datetime) -> None:
    assert moment_ms(text, NOW, "--since") == int(moment.timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "-3h", "3 weeks", "999999d"])
def test_anything_else_is_refused_with_the_option_that_holds_it(text: str) -> None:
    with pytest.raises(BadInput, match="--until"):
        moment_ms(text, NOW, "--until")


def test_a_replay_is_named_by_its_find_job_and_the_moment() -> None:
    assert default_replay_id("find_7", "default", NOW) == "explain_7_replay_20261124_120005"
    assert default_replay_id("find_7", "acme", NOW) == "explain.acme_7_replay_20261124_120005"
