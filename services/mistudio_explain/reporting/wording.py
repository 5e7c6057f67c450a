"""How values are written in report files."""

import re
from datetime import UTC, datetime, timedelta

from mistudio_explain.events.explanation import Judgement, Subject

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the end of the year 9999; what claims to be later is written so
_INTEGER = re.compile(r"0|[1-9][0-9]{0,15}")
_GREATEST_INTEGER = 2**53 - 1  # RFC 8259 §6: beyond it JSON readers disagree about the value


def written_feature_id(feature_id: str | None) -> int | str | None:
    """Write a feature id back as its source had it: an integer when it is all digits without leading zeros.

    Integers beyond 2^53 - 1 stay text, since readers that use doubles would change them. None stays None: a record
    that could not be read names no feature in its source.
    """
    if feature_id is not None and _INTEGER.fullmatch(feature_id) and int(feature_id) <= _GREATEST_INTEGER:
        return int(feature_id)
    return feature_id


def coherence_told(subject: Subject) -> str:
    """Write a feature's coherence with its tier, or with the word that its source does not state it."""
    if subject.coherence_score is None:
        return "not given"
    return f"{subject.coherence_score:.2f} ({'computed, no tier' if 'coherence_score' in subject.computed else subject.tier})"


def counted(n: int, thing: str) -> str:
    """Write a number and what is counted: `1 feature`, `1,200 features`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def duration(seconds: float | None) -> str | None:
    """Write a duration as the specification does: `24.3 minutes`, or `12.4 seconds` below a minute."""
    if seconds is None:
        return None
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes"


def timestamp(at_ms: int) -> str:
    """Write milliseconds since 1970 as ISO 8601 in UTC, such as `2026-07-26T15:30:45.000+00:00`."""
    return _moment(at_ms).isoformat(timespec="milliseconds")


def day_and_time(at_ms: int) -> str:
    """Write milliseconds since 1970 for people: `26 July 2026, 15:30 UTC`."""
    moment = _moment(at_ms)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def coherence_status(judge: Judgement | None) -> str:
    """Say whether factual and logical coherence were assessed, and if not, why: nothing but a judge assesses them."""
    if judge is None:
        return "not assessed"
    if judge.factual_coherence is not None:
        return "assessed"
    return f"could not be judged: {judge.unavailable.get('coherence', 'the judge gave no grades')}"


def share(part: int, whole: int) -> str:
    """Write a part of a whole in percent, such that neither some looks like none nor nearly all like all."""
    if whole == 0:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "under 1%"
    if 99 < percent < 100:
        return "over 99%"
    return f"{percent:.0f}%"


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(at_ms, _LAST_MS))
