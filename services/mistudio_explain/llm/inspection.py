"""What an LLM server has: its slots, its models, which of them are loaded and what they take; and orders to load, unload and fetch.

Only what a server tells is known. Ollama tells of its models (`/api/tags`), of those that are loaded (`/api/ps`) and of a
model's shape (`/api/show`), but not of its slots, and takes the orders; llama.cpp's server tells of its slots
(`/props`) and of its one model; any OpenAI-compatible server names its models. The official clients have no word for half of this.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx
from pydantic import AwareDatetime, BaseModel, Field, SecretStr, ValidationError

from mistudio_explain.llm.capacity import MemoryNeed
from mistudio_explain.llm.connection import CONNECT_TIMEOUT_S, PROBE_TIMEOUT_S, bound_reply, broken_connection, is_loopback
from mistudio_explain.llm.failures import CallFailure, GarbledReply, ServerFailed, failure_for_status

_PULL_SILENCE_S = 120.0
"""A fetch says something every second; one that says nothing for so long will not go on."""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A model as its server tells of it; None for what it does not tell."""

    name: str
    digest: str | None = None
    file_bytes: int | None = None
    is_loaded: bool | None = None
    memory_bytes: int | None = None
    """What it takes while it is loaded, measured: on GPUs where it is on one, else in main memory."""
    context_tokens: int | None = None
    """The context of one slot that it was loaded with."""
    expires_at: datetime | None = None
    """When it is unloaded unless it is used before."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is; bytes where it is about some."""

    status: str
    done_bytes: int | None = None
    total_bytes: int | None = None


class Inspection:
    """Asks one server. Every method raises a CallFailure; those that say so are Ollama's alone."""

    def __init__(self, client: httpx.AsyncClient, kind: str, url: str) -> None:
        self._client = client
        self._kind = kind
        self._root = url.rstrip("/").removesuffix("/v1")

    async def slots(self) -> int | None:
        """Calls that it takes at once; None where it does not tell."""
        if self._kind != "openai":
            return None
        try:
            told = await self._json("GET", "/props")
        except CallFailure:
            return None  # a route of llama.cpp alone
        slots = told.get("total_slots") if isinstance(told, dict) else None
        return slots if isinstance(slots, int) and slots > 0 else None

    async def models(self) -> list[ServerModel]:
        """Its models in its order."""
        if self._kind != "ollama":
            listed = _read(_OpenAiList, await self._json("GET", "/v1/models")).data
            return [ServerModel(each.id, file_bytes=each.meta.size, context_tokens=each.meta.n_ctx) for each in listed]
        tags = _read(_OllamaList, await self._json("GET", "/api/tags")).models
        loaded = {each.name: each for each in _read(_OllamaList, await self._json("GET", "/api/ps")).models}
        return [_of_ollama(tag, loaded.get(tag.name)) for tag in tags]

    async def need(self, model: ServerModel, tokens: int) -> MemoryNeed | None:
        """What a model needs with so many tokens of context in all slots together; None where the server does not tell enough. Ollama's alone."""
        if self._kind != "ollama" or model.file_bytes is None:
            return None
        shown = _read(_OllamaShown, await self._json("POST", "/api/show", {"model": model.name}))
        need = MemoryNeed.of(model.file_bytes, shown.model_info, tokens)
        return None if need.cache_bytes is None else need

    async def load(self, model: str, *, context_tokens: int, timeout_s: float) -> None:
        """Load a model with the context that calls will ask for: another one would load it anew. Ollama's alone."""
        await self._json("POST", "/api/generate", {"model": model, "prompt": "", "stream": False, "options": {"num_ctx": context_tokens}}, timeout_s=timeout_s)

    async def unload(self, model: str) -> None:
        """Free a model's memory as soon as its calls have ended. Ollama's alone."""
        await self._json("POST", "/api/generate", {"model": model, "prompt": "", "stream": False, "keep_alive": 0})

    async def pull(self, model: str) -> AsyncGenerator[Progress, None]:
        """Let the server fetch a model from its registry. Ollama's alone."""
        with _classified("/api/pull"):
            request = self._client.stream("POST", f"{self._root}/api/pull", json={"model": model, "stream": True}, timeout=_patient(_PULL_SILENCE_S))
            async with request as answer:
                if answer.is_error:
                    raise _refusal(answer, await answer.aread())
                async for line in answer.aiter_lines():
                    if not line.strip():
                        continue
                    part = _read(_OllamaProgress, json.loads(line))
                    if part.error is not None:  # after HTTP 200
                        raise ServerFailed(part.error)
                    yield Progress(part.status, part.completed, part.total)

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = PROBE_TIMEOUT_S) -> Any:
        with _classified(path):
            answer = await self._client.request(method, self._root + path, json=body, timeout=_patient(timeout_s))
            if answer.is_error:
                raise _refusal(answer, answer.content)
            return answer.json()


@asynccontextmanager
async def inspecting(kind: str, url: str, key: SecretStr | None = None) -> AsyncIterator[Inspection]:
    """Ask a server of Ollama's or the OpenAI API's kind, each question within seconds unless it says otherwise."""
    headers = {} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"}
    async with httpx.AsyncClient(headers=headers, trust_env=not is_loopback(url), event_hooks={"response": [bound_reply]}) as client:
        yield Inspection(client, kind, url)


def taken_by(models: Iterable[ServerModel]) -> dict[str, int]:
    """What loaded models take, bytes by name."""
    return {model.name: model.memory_bytes for model in models if model.memory_bytes}


@contextmanager
def _classified(path: str) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        raise broken_connection(error) from error
    except (ValueError, RecursionError) as error:
        raise GarbledReply(f"the reply of {path} is no JSON: {error}") from error


def _refusal(answer: httpx.Response, content: bytes) -> CallFailure:
    said = content.decode(errors="replace").strip()
    try:
        said = str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        said = said[:200]
    return failure_for_status(answer.status_code, said, headers=answer.headers)


def _patient(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)


def _of_ollama(tag: "_OllamaModel", loaded: "_OllamaModel | None") -> ServerModel:
    if loaded is None:
        return ServerModel(tag.name, tag.digest, tag.size, is_loaded=False)
    memory = loaded.size_vram or loaded.size
    return ServerModel(tag.name, tag.digest, tag.size, True, memory, loaded.context_length, loaded.expires_at)


class _OllamaModel(BaseModel):
    name: str = Field(validation_alias="model")
    digest: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: AwareDatetime | None = None


class _OllamaList(BaseModel):
    models: list[_OllamaModel]


class _OllamaShown(BaseModel):
    model_info: dict[str, Any] = {}


class _OllamaProgress(BaseModel):
    status: str = ""
    completed: int | None = None
    total: int | None = None
    error: str | None = None


class _OpenAiMeta(BaseModel):
    size: int | None = None
    n_ctx: int | None = None


class _OpenAiModel(BaseModel):
    id: str
    meta: _OpenAiMeta = _OpenAiMeta()
    """llama.cpp's own."""


class _OpenAiList(BaseModel):
    data: list[_OpenAiModel]


def _read(kind: type[T], answer: Any) -> T:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise GarbledReply(f"the reply is not what its API says: {str(error).splitlines()[0]}") from error
