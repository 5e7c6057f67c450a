"""How a call to a model can fail, and who is to blame.

The class says it: a fault of the `record` counts as one of its tries, a fault of the `endpoint` never does (the
record is held until an endpoint is back), and where the failure alone does not tell, a probe of the endpoint
decides.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from mistudio_explain.errors import ExplainError


class Blame(StrEnum):
    """Whose fault a failed call is."""

    RECORD = "record"
    ENDPOINT = "endpoint"
    PROBE_DECIDES = "probe decides"


class CallFailure(ExplainError):
    """A call to a model gave no completion."""

    quotes = True  # servers like to say what they were sent

    kind: ClassVar[str] = "failure"
    blame: ClassVar[Blame] = Blame.RECORD
    mends_itself: ClassVar[bool] = True
    """Whether waiting may help where it is the endpoint's fault; a key, a model, a certificate, a memory must be corrected by a person."""
    # `repeatable`: whether the same call may succeed when it is sent again


class RateLimited(CallFailure):
    """The endpoint takes no more calls for now; `retry_after_s` is its own word, seconds, where it gave one."""

    kind = "rate limit"
    blame = Blame.ENDPOINT

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(RateLimited):
    """The endpoint is busy or still loading."""

    kind = "overload"


class EndpointUnreachable(CallFailure):
    """Nobody answers at the endpoint's address."""

    kind = "unreachable"
    blame = Blame.ENDPOINT


class TlsFailed(EndpointUnreachable):
    """The endpoint's certificate is not trusted, or it does not speak TLS."""

    kind = "tls"
    mends_itself = False


class AccessDenied(CallFailure):
    """The endpoint does not accept the key, or the account behind it cannot pay."""

    kind = "auth"
    blame = Blame.ENDPOINT
    mends_itself = False


class ModelUnknown(CallFailure):
    """The endpoint does not have the model."""

    kind = "model unknown"
    blame = Blame.ENDPOINT
    mends_itself = False


class ConnectionDropped(CallFailure):
    """The answer broke off: the server was stopped, or this record made it crash."""

    kind = "connection dropped"
    blame = Blame.PROBE_DECIDES


class ServerFailed(CallFailure):
    """The server reports an error of its own (HTTP 5xx, or an error inside the stream)."""

    kind = "server error"
    blame = Blame.PROBE_DECIDES


class TimedOut(CallFailure):
    """No first token, no further token, or no end of the answer in time."""

    kind = "timeout"
    blame = Blame.PROBE_DECIDES


class BadRequest(CallFailure):
    """The endpoint refuses the request as it is."""

    kind = "bad request"
    repeatable = False


class ContextTooLong(BadRequest):
    """The prompt does not fit into the model's context."""

    kind = "context too long"


class ContentFiltered(BadRequest):
    """The provider's content filter refuses the texts or the answer."""

    kind = "content filter"


class GarbledReply(CallFailure):
    """What came back is not the provider's wire format: no JSON, no UTF-8, no end."""

    kind = "garbled reply"


def is_outage(failure: CallFailure) -> bool:
    """Whether the server is away or fails, and waiting may help."""
    return failure.blame is not Blame.RECORD and failure.mends_itself


_UNPAID = ("insufficient_quota", "billing", "credit balance", "organization_on_hold")
_FILTERED = ("content_filter", "content filtering policy", "content management policy", "content_policy")
_TOO_LONG = ("exceed", "length", "maximum", "too long", "size")


def failure_for_status(status: int, message: str, *, headers: Mapping[str, str] = MappingProxyType({}), code: str | None = None) -> CallFailure:
    """The failure that an HTTP status and an error's text stand for.

    `headers` are the reply's, by lower-case names; `code` is the error's machine-readable name, where the provider
    sends one. Wordings are those of llama.cpp, Ollama, vLLM, OpenAI, Azure and Anthropic.
    """
    said = f"{code or ''} {message}".lower()
    text = f"HTTP {status}: {message}"
    if 300 <= status < 400:
        return EndpointUnreachable(
            f"HTTP {status}: it sends callers elsewhere, and no text goes anywhere but to the address that was configured; set its url anew"
        )
    if status in {401, 402, 403} or (status in {400, 429} and any(word in said for word in _UNPAID)):
        return AccessDenied(text)
    if status == 429:
        return RateLimited(text, retry_after_s(headers))
    if status in {502, 503, 504, 529}:
        return Overloaded(text, retry_after_s(headers))
    if status == 404:
        return ModelUnknown(text)
    if status == 408:
        return TimedOut(text)
    if any(word in said for word in _FILTERED):
        return ContentFiltered(text)
    if status == 413 or (status in {400, 422} and ("prompt is too long" in said or ("context" in said and any(word in said for word in _TOO_LONG)))):
        return ContextTooLong(text)
    return BadRequest(text) if 400 <= status < 500 else ServerFailed(text)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply's Retry-After asks to wait; None when it is absent or says nothing sensible.

    A date counts from the reply's own Date, so that this machine's clock need not be right.
    """
    asked = headers.get("retry-after") or ""
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("date") or "")).total_seconds()
        except (ValueError, TypeError):
            return None
        return max(seconds, 0.0)
    return seconds if 0 <= seconds < float("inf") else None
