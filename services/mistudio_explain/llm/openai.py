"""Any OpenAI-compatible server (vLLM, llama.cpp, OpenAI), through the official client."""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType
from typing import Any, cast

import openai
import structlog
from openai.types import Model
from openai.types.chat import ChatCompletionChunk
from pydantic import SecretStr

from mistudio_explain.llm.connection import CONNECT_TIMEOUT_S, KEPT_ALIVE, PROBE_TIMEOUT_S, bound_reply, broken_connection, is_loopback, is_of_http_library
from mistudio_explain.llm.failures import CallFailure, GarbledReply, failure_for_status
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.llm.stream import Piece, collect

log = structlog.get_logger(__name__)

_PARAMETER_REFUSED = frozenset({"unsupported_parameter", "unsupported_value"})
_DISPENSABLE = frozenset({"temperature", "seed", "max_tokens"})  # the last goes by its newer name then
_FINISH_REASONS: Mapping[str, str] = {"function_call": "tool_calls"}
_STATUS_OF: Mapping[str, int] = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "server_overloaded": 503, "invalid_request_error": 400}
"""The HTTP status that belongs to an error's code or type: an error inside a stream comes under the status 200."""


class OpenAi:
    """One OpenAI-compatible server.

    `sentence_extra` goes into the body of calls in the form `sentence`: what only this server understands, such as
    llama.cpp's `grammar`. A server that takes a grammar there gets one for lists too; others are only asked for one,
    because the API's structured output is always an object.
    """

    def __init__(self, url: str, api_key: SecretStr | None = None, *, sentence_extra: Mapping[str, Any] = MappingProxyType({})) -> None:
        timeout = openai.Timeout(None, connect=CONNECT_TIMEOUT_S)
        limits = openai.DEFAULT_CONNECTION_LIMITS.__class__(max_keepalive_connections=KEPT_ALIVE)
        self._client = openai.AsyncOpenAI(
            base_url=url,
            # always given, so that a key of the environment never goes to a server that did not ask for one
            api_key=api_key.get_secret_value() if api_key else "none",
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=timeout,
                limits=limits,
                trust_env=not is_loopback(url),
                follow_redirects=False,  # texts go to the address that was configured, and to no other
                event_hooks={"response": [bound_reply]},
            ),
        )
        self._sentence_extra = dict(sentence_extra)
        self._refused: defaultdict[str, set[str]] = defaultdict(set)
        """Parameters that a model does not take, by model."""

    async def complete(self, call: Call) -> Completion:
        """Answer a call; see Provider."""
        return await collect(call, self._pieces(call))

    async def models(self) -> list[ModelListed]:
        """The models that the server lists."""
        try:
            page = await self._client.models.list(timeout=PROBE_TIMEOUT_S)
            return [ModelListed(model.id, context_tokens=_context_tokens(model)) for model in page.data]
        except Exception as error:
            raise _failure(error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _pieces(self, call: Call) -> AsyncGenerator[Piece, None]:
        try:
            stream = await self._opened(call)
            try:
                async for chunk in stream:
                    yield _piece(chunk)
            finally:
                await stream.close()
        except Exception as error:
            raise _failure(error) from error

    async def _opened(self, call: Call) -> openai.AsyncStream[ChatCompletionChunk]:
        """Begin an answer. OpenAI's newer models refuse parameters that all other servers take: what one refused is not sent to it again."""
        refused = self._refused[call.model]
        while True:
            try:
                return cast("openai.AsyncStream[ChatCompletionChunk]", await self._client.chat.completions.create(**self._body(call)))
            except openai.BadRequestError as error:
                if error.code not in _PARAMETER_REFUSED or error.param not in _DISPENSABLE - refused:
                    raise
                refused.add(error.param)
                log.info("llm.parameter_refused", model=call.model, parameter=error.param, what="it is not sent to this model any more")

    def _body(self, call: Call) -> dict[str, Any]:
        chosen = {"temperature": call.temperature, "seed": call.seed, "max_tokens": call.max_tokens}
        refused = self._refused[call.model]
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [message.model_dump() for message in call.messages],
            **{name: value for name, value in chosen.items() if name not in refused},
            **({"max_completion_tokens": call.max_tokens} if "max_tokens" in refused else {}),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if call.schema is not None:
            return body | {"response_format": {"type": "json_schema", "json_schema": {"name": "explanation", "schema": call.schema, "strict": True}}}
        if call.numbers is not None:
            return body | {"extra_body": {**self._sentence_extra, "grammar": call.numbers.grammar}} if "grammar" in self._sentence_extra else body
        return body | {"extra_body": self._sentence_extra} if self._sentence_extra else body


def _context_tokens(model: Model) -> int | None:
    """What vLLM (`max_model_len`) and llama.cpp (`meta.n_ctx`, of one slot) add to the API's own fields."""
    added = model.model_extra or {}
    meta = added.get("meta")
    told = added.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, Mapping) else None)
    return told if isinstance(told, int) and told > 0 else None


def _piece(chunk: ChatCompletionChunk) -> Piece:
    # the usage comes in a last chunk without choices
    tokens_in, tokens_out = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) if chunk.usage else (None, None)
    cached = chunk.usage.prompt_tokens_details.cached_tokens if chunk.usage and chunk.usage.prompt_tokens_details else None
    if not chunk.choices:
        return Piece(tokens_in=tokens_in, tokens_out=tokens_out, cached_tokens=cached)
    choice = chunk.choices[0]
    reason = _FINISH_REASONS.get(choice.finish_reason, choice.finish_reason) if choice.finish_reason else None
    if choice.delta.refusal:  # a model that declines to fill the schema says so beside the content, and ends with `stop`
        return Piece(choice.delta.refusal, "refusal", tokens_in, tokens_out, cached)
    return Piece(choice.delta.content or "", reason, tokens_in, tokens_out, cached)


def _failure(error: Exception) -> Exception:
    match error:
        case CallFailure():
            return error
        case openai.APIStatusError():
            return failure_for_status(error.status_code, _said(error), headers=error.response.headers, code=_code(error))
        case openai.APIConnectionError():
            return broken_connection(error)
        case openai.APIResponseValidationError() | json.JSONDecodeError() | UnicodeDecodeError() | AttributeError() | TypeError():
            return GarbledReply(f"the reply is not the OpenAI API's: {str(error).splitlines()[0]}")
        case openai.APIError():  # an error inside the stream
            return _failure_in_stream(error)
    return broken_connection(error) if is_of_http_library(error) else error


def _failure_in_stream(error: openai.APIError) -> CallFailure:
    body = error.body if isinstance(error.body, Mapping) else {}
    status = body.get("code")
    if not (isinstance(status, int) and 400 <= status < 600):
        status = next((_STATUS_OF[name] for name in map(str, (status, body.get("type"))) if name in _STATUS_OF), 500)
    return failure_for_status(status, f"error inside the stream: {error.message}", code=_code(error))


def _said(error: openai.APIStatusError) -> str:
    if isinstance(error.body, Mapping) and error.body.get("message"):
        return str(error.body["message"])
    return error.response.text.strip()[:500] or error.message


def _code(error: openai.APIError) -> str | None:
    if not isinstance(error.body, Mapping):
        return None
    return f"{error.body.get('code')} {error.body.get('type')}"
