"""Ollama, through its native API and its official client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import httpx
import ollama
from pydantic import SecretStr, ValidationError

from mistudio_explain.llm.capacity import MemoryNeed
from mistudio_explain.llm.connection import CONNECT_TIMEOUT_S, KEPT_ALIVE, PROBE_TIMEOUT_S, bound_reply, broken_connection, is_loopback
from mistudio_explain.llm.failures import CallFailure, GarbledReply, Overloaded, ServerFailed, failure_for_status
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.llm.stream import Piece, collect

UNLOAD_TIMEOUT_S = 30.0
"""A model whose calls have ended is gone within a second or two."""
_UNLOAD_LOOK_S = 0.05
_EMBEDDING_FAMILY = "bert"


class _Client(ollama.AsyncClient):
    """The official client with what its methods cannot say.

    `truncate: false` and `shift: false` are fields of the request beside the options; without them Ollama cuts an
    overlong prompt silently, and `chat` of 0.6.3 has no parameter for them; nor has `list` one for a
    timeout. So these call what `chat` and `list` themselves call.
    """

    def __init__(self, url: str, api_key: SecretStr | None) -> None:
        super().__init__(
            url,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_keepalive_connections=KEPT_ALIVE),
            trust_env=not is_loopback(url),
            follow_redirects=False,  # texts go to the address that was configured, and to no other
            event_hooks={"response": [bound_reply, _refuse_error]},
        )
        self._client.headers.pop("authorization", None)  # the client takes a key of the environment, whatever the server
        if api_key is not None:
            self._client.headers["authorization"] = f"Bearer {api_key.get_secret_value()}"

    def chat_whole(self, body: dict[str, Any]) -> AsyncGenerator[ollama.ChatResponse, None]:
        """Stream a chat whose prompt is refused when it does not fit."""

        async def parts() -> AsyncGenerator[ollama.ChatResponse, None]:
            whole = {**body, "stream": True, "truncate": False, "shift": False}
            reply = cast("AsyncGenerator[ollama.ChatResponse, None]", await self._request(ollama.ChatResponse, "POST", "/api/chat", json=whole, stream=True))
            async with aclosing(reply):  # leaving the iterator alone would let Ollama go on generating
                async for part in reply:
                    yield part

        return parts()

    async def listed(self) -> ollama.ListResponse:
        """The models, within a time that suits a probe."""
        return cast("ollama.ListResponse", await self._request(ollama.ListResponse, "GET", "/api/tags", timeout=PROBE_TIMEOUT_S))

    async def in_memory(self) -> ollama.ProcessResponse:
        """The models that are loaded, within the same time."""
        return cast("ollama.ProcessResponse", await self._request(ollama.ProcessResponse, "GET", "/api/ps", timeout=PROBE_TIMEOUT_S))

    async def described(self, model: str) -> ollama.ShowResponse:
        """What a model's file says of it, within the same time."""
        return cast("ollama.ShowResponse", await self._request(ollama.ShowResponse, "POST", "/api/show", json={"model": model}, timeout=PROBE_TIMEOUT_S))

    async def expire(self, model: str) -> None:
        """Have a model unloaded as soon as its calls have ended: a prompt that is empty and kept for no time."""
        nothing = {"model": model, "prompt": "", "stream": False, "keep_alive": 0}
        await self._request(ollama.GenerateResponse, "POST", "/api/generate", json=nothing, timeout=PROBE_TIMEOUT_S)


class Ollama:
    """One Ollama server."""

    def __init__(self, url: str, api_key: SecretStr | None = None) -> None:
        self._client = _Client(url, api_key)

    async def complete(self, call: Call) -> Completion:
        """Answer a call; see Provider."""
        return await collect(call, _pieces(self._client.chat_whole(_body(call))))

    async def models(self) -> list[ModelListed]:
        """The models that can chat, the most recently changed first, as Ollama lists them."""
        try:
            listed = await self._client.listed()
        except Exception as error:
            raise _failure(error) from error
        return [ModelListed(model.model, model.digest, model.size) for model in listed.models if model.model and not _only_embeds(model)]

    async def loaded(self) -> dict[str, int]:
        """The models that are loaded, and what each takes: of the GPU's memory where it is on one, else of the machine's."""
        try:
            answer = await self._client.in_memory()
        except Exception as error:
            raise _failure(error) from error
        return {model.model: model.size_vram or model.size or 0 for model in answer.models if model.model}

    async def need(self, model: ModelListed, tokens: int) -> MemoryNeed | None:
        """What a model will take: its file, and the keys and values of so many tokens."""
        if model.file_bytes is None:
            return None
        try:
            described = await self._client.described(model.name)
        except Exception as error:
            raise _failure(error) from error
        return MemoryNeed.of(model.file_bytes, described.modelinfo or {}, tokens)

    async def unload(self, model: str) -> None:
        """Free a model's memory, and return when it is free; Overloaded when that takes too long."""
        try:
            await self._client.expire(model)
        except Exception as error:
            raise _failure(error) from error
        for _ in range(round(UNLOAD_TIMEOUT_S / _UNLOAD_LOOK_S)):
            if model not in await self.loaded():
                return
            await asyncio.sleep(_UNLOAD_LOOK_S)
        raise Overloaded(f"it was told to unload {model}, which is in its memory {UNLOAD_TIMEOUT_S:g} s later: another program may be calling it")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]


async def _refuse_error(response: httpx.Response) -> None:
    """Raise the failure of an error reply while its headers are at hand: the client's own error keeps none."""
    if not response.is_success:
        said = (await response.aread()).decode(errors="replace").strip()
        raise failure_for_status(response.status_code, _error_text(said), headers=response.headers)


def _error_text(said: str) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said[:500]


def _body(call: Call) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": call.temperature, "seed": call.seed, "num_predict": call.max_tokens, "num_ctx": call.context_tokens}
    if call.form == "sentence" and call.prefill:
        options["stop"] = ["\n"]
    body: dict[str, Any] = {"model": call.model, "messages": [message.model_dump() for message in call.messages], "options": options}
    if call.numbers is not None:
        return body | {"format": call.numbers.schema}
    return body if call.schema is None else body | {"format": call.schema}


async def _pieces(parts: AsyncGenerator[ollama.ChatResponse, None]) -> AsyncGenerator[Piece, None]:
    async with aclosing(parts):
        try:
            async for part in parts:
                finish_reason = (part.done_reason or "stop") if part.done else None
                if part.message.tool_calls:  # the stream then ends with `stop` all the same
                    finish_reason = "tool_calls"
                yield Piece(part.message.content or "", finish_reason, part.prompt_eval_count, part.eval_count)
        except Exception as error:
            raise _failure(error) from error


def _only_embeds(model: ollama.ListResponse.Model) -> bool:
    return _EMBEDDING_FAMILY in ((model.details and model.details.family) or "")


def _failure(error: Exception) -> Exception:
    match error:
        case CallFailure():
            return error
        case ollama.ResponseError():  # inside a stream that began with HTTP 200
            return ServerFailed(f"error inside the stream: {error.error}")
        case ConnectionError():  # the client's own, in which it hides what happened
            return broken_connection(error.__context__ if isinstance(error.__context__, httpx.TransportError) else error)
        case httpx.RequestError():
            return broken_connection(error)
        case json.JSONDecodeError() | ValidationError() | UnicodeDecodeError() | TypeError() | AttributeError():
            return GarbledReply(f"the reply is not Ollama's: {str(error).splitlines()[0]}")
    return error
