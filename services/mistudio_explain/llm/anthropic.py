"""Anthropic, through the official client."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anthropic
from anthropic.types import MessageDeltaUsage, ModelInfo, RawMessageStreamEvent, Usage
from pydantic import SecretStr

from mistudio_explain.llm.connection import CONNECT_TIMEOUT_S, KEPT_ALIVE, PROBE_TIMEOUT_S, bound_reply, broken_connection, is_loopback, is_of_http_library
from mistudio_explain.llm.failures import CallFailure, GarbledReply, failure_for_status
from mistudio_explain.llm.provider import Call, Completion, ModelListed, answers_schema
from mistudio_explain.llm.stream import Piece, collect

LISTED_AT_ONCE = 1000  # the most that the API gives on one page
_FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",  # the API's classifiers stopped the answer; a model that declines ends with `end_turn`
}
_STATUS_OF: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that belongs to an error's type: an error inside a stream comes under the status 200."""


class Anthropic:
    """The Anthropic API, or a server that speaks it.

    The API has no seed, and the client no temperature (newer models refuse one): a call's are not sent, so answers
    need not repeat. A prefill is not sent either, which newer models refuse too: the answer begins anew. What a model
    takes (an answer by schema, thinking that is switched off) is what the API lists for it.
    """

    def __init__(self, url: str | None, api_key: SecretStr) -> None:
        """`url` None: the client's own default."""
        timeout = anthropic.Timeout(None, connect=CONNECT_TIMEOUT_S)
        limits = anthropic.DEFAULT_CONNECTION_LIMITS.__class__(max_keepalive_connections=KEPT_ALIVE)
        hooks = {"response": [bound_reply]}
        self._client = anthropic.AsyncAnthropic(
            base_url=url,
            api_key=api_key.get_secret_value(),
            max_retries=0,
            timeout=timeout,
            http_client=anthropic.DefaultAsyncHttpxClient(
                timeout=timeout,
                limits=limits,
                trust_env=not is_loopback(url or ""),
                follow_redirects=False,  # texts go to the address that was configured, and to no other
                event_hooks=hooks,
            ),
        )
        self._listed: dict[str, ModelInfo] = {}

    @property
    def url(self) -> str:
        """Where calls go."""
        return str(self._client.base_url).rstrip("/")

    async def complete(self, call: Call) -> Completion:
        """Answer a call; see Provider."""
        return await collect(call, self._pieces(call))

    async def models(self) -> list[ModelListed]:
        """The models that the API lists for this key, the newest first; retired ones are not among them."""
        try:
            page = await self._client.models.list(limit=LISTED_AT_ONCE, timeout=PROBE_TIMEOUT_S)
            self._listed = {model.id: model for model in page.data}
        except Exception as error:
            raise _failure(error) from error
        return [ModelListed(name) for name in self._listed]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _pieces(self, call: Call) -> AsyncGenerator[Piece, None]:
        try:
            stream = await self._client.messages.create(**self._body(call))
            try:
                async for event in stream:
                    yield _piece(event)
            finally:
                await stream.close()
        except Exception as error:
            raise _failure(error) from error

    def _body(self, call: Call) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in call.messages if message.role != "system"]
        if call.prefill:
            turns.pop()
        body: dict[str, Any] = {"model": call.model, "messages": turns, "max_tokens": call.max_tokens, "stream": True}
        if system := "\n\n".join(message.content for message in call.messages if message.role == "system"):
            body["system"] = system
        listed = self._listed.get(call.model)
        takes = listed.capabilities if listed else None
        output: dict[str, Any] = {}
        schema = answers_schema(call.features, is_counted=False) if call.features > 1 else call.schema  # its schemas count no further than 1
        if schema is not None and (takes is None or takes.structured_outputs.supported):
            output["format"] = {"type": "json_schema", "schema": schema}
        if takes is not None and takes.thinking.supported:  # its tokens count as the answer's
            if takes.thinking.types.disabled.supported:
                body["thinking"] = {"type": "disabled"}
            elif takes.effort.supported and takes.effort.low.supported:
                output["effort"] = "low"
        return body | {"output_config": output} if output else body


def _piece(event: RawMessageStreamEvent) -> Piece:
    match event.type:
        case "message_start":
            return Piece(tokens_in=_tokens_in(event.message.usage), cached_tokens=event.message.usage.cache_read_input_tokens)
        case "content_block_start" if event.content_block.type == "text":
            return Piece(event.content_block.text)
        case "content_block_delta" if event.delta.type == "text_delta":
            return Piece(event.delta.text)
        case "message_delta":
            reason = event.delta.stop_reason
            finish_reason = _FINISH_REASONS.get(reason, reason) if reason else None
            return Piece("", finish_reason, _tokens_in(event.usage), event.usage.output_tokens, event.usage.cache_read_input_tokens)
    return Piece()


def _tokens_in(usage: Usage | MessageDeltaUsage) -> int | None:
    """All tokens of the prompt: the API's `input_tokens` are only those that have nothing to do with its cache."""
    if usage.input_tokens is None:
        return None
    return usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)


def _failure(error: Exception) -> Exception:
    match error:
        case CallFailure():
            return error
        case anthropic.APIResponseValidationError() | json.JSONDecodeError() | UnicodeDecodeError() | AttributeError() | TypeError():
            return GarbledReply(f"the reply is not the Anthropic API's: {str(error).splitlines()[0]}")
        case anthropic.APIStatusError():
            return failure_for_status(_status(error), _said(error), headers=error.response.headers, code=f"{error.type} {error.error_code}")
        case anthropic.APIConnectionError():
            return broken_connection(error)
    return broken_connection(error) if is_of_http_library(error) else error


def _status(error: anthropic.APIStatusError) -> int:
    return error.status_code if error.status_code >= 300 else _STATUS_OF.get(error.type or "", 500)


def _said(error: anthropic.APIStatusError) -> str:
    if isinstance(error.api_message, str):
        return error.api_message
    return str(error.body)[:500] if error.body else error.message
