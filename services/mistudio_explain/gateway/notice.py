"""What a webhook says of a job's end, and how it is signed: Standard Webhooks 1.0 (standardwebhooks.com), for which there are libraries."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
from pydantic import SecretStr

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.job import JobReport, JobStatus

_PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)  # Standard Webhooks, "Signature scheme": between 24 and 64 bytes
_TOLD = {
    "explain_job_id", "find_job_id", "target_model", "revision", "status", "expected", "admitted", "explained", "skipped", "failed", "flagged",
    "confirmed", "partial", "contradicted", "averages", "tokens_in", "tokens_out", "cost_usd", "wall_s", "at_ms",
}  # fmt: skip
"""Of a report: its numbers, and no text, path or address."""


def is_told(report: JobReport) -> bool:
    """Whether receivers hear of a report: its job is at an end."""
    return report.status is not JobStatus.RUNNING


def notice_id(report: JobReport) -> str:
    """The message's id: the same whenever the same end is told, another one when a job ends again with other features or another revision."""
    ends = f"{report.tenant}|{report.explain_job_id}|{report.revision}|{report.status}|{report.expected}"
    return f"msg_{hashlib.sha256(ends.encode()).hexdigest()[:32]}"


def notice(report: JobReport) -> bytes:
    """The message's body."""
    content = {
        "type": f"job.{report.status.value}",
        "timestamp": datetime.fromtimestamp(report.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "data": report.model_dump(mode="json", include=_TOLD),
    }
    return orjson.dumps(content)


def key_of(secret: SecretStr, receiver: str) -> bytes:
    """The key of a receiver's secret; raises BadSettings."""
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    least, most = _SECRET_BYTES
    if not text.startswith(_PREFIX) or not least <= len(key) <= most:
        raise BadSettings(f"webhooks.receivers {receiver!r}: the secret must be {_PREFIX} and {least} to {most} random bytes in base64")
    return key


def signed(key: bytes, message: str, body: bytes, at_s: int) -> Mapping[str, str]:
    """The headers of a message that is sent at a moment, seconds since 1970 UTC; the receiver refuses one that is minutes old, so that nobody replays it."""
    signature = hmac.digest(key, b"%s.%d.%s" % (message.encode(), at_s, body), "sha256")
    return {"webhook-id": message, "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{base64.b64encode(signature).decode()}"}
