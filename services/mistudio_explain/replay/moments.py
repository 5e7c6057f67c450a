"""Reads moments as people write them."""

import re
from datetime import UTC, datetime, timedelta

from mistudio_explain.errors import BadInput

_AGO = re.compile(r"(\d{1,5})\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_ms(text: str, now: datetime, option: str) -> int:
    """Read `2026-11-24`, `2026-11-24T08:30`, either with a time zone (absent: UTC), or how long ago: `90m`, `24h`, `7d`.

    Returns milliseconds since 1970 UTC; raises BadInput, naming the option that it is of.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return int((now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp() * 1000)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInput(f"{option} {text!r} is no moment; write 2026-11-24, 2026-11-24T08:30, or how long ago: 90m, 24h, 7d") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
