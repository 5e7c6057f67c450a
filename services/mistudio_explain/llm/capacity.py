"""What an LLM server has: its slots, its models, which of them are loaded and what they take; and what a model would need.

Only what a server tells is known. Ollama tells of its models (`/api/tags`), of those that are loaded (`/api/ps`) and of
a model's shape (`/api/show`), not of its slots; llama.cpp's server tells of its slots (`/props`); any OpenAI-compatible
server names its models.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx
from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError

from mistudio_explain.errors import ExplainError
from mistudio_explain.llm.connection import CONNECT_TIMEOUT_S, is_loopback
from mistudio_explain.llm.failures import CallFailure, ConnectionDropped, EndpointUnreachable, GarbledReply, TimedOut, failure_for_status

_TIMEOUT_S = 5.0
_KV_BYTES = 2  # of a number in the KV cache: both servers keep it in f16 unless told otherwise
_GB = 1e9

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
class MemoryNeed:
    """What a model needs to be loaded, bytes: its weights, and the keys and values of every token in context."""

    weights_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        """Both together."""
        return self.weights_bytes + self.cache_bytes


class InsufficientMemory(ExplainError):
    """A model does not fit into what an endpoint has left."""

    exit_code = 2
    repeatable = False

    def __init__(self, model: str, need: MemoryNeed, endpoint: str, memory_gb: float, taken: Mapping[str, int]) -> None:
        left = memory_gb * _GB - sum(taken.values())
        by_whom = ", ".join(f"{_gb(taken_bytes)} by {name}" for name, taken_bytes in taken.items())
        advice = f"unload {' or '.join(taken)} first (`models unload`)" if need.total_bytes <= memory_gb * _GB else "use a smaller model or quantization"
        super().__init__(
            f"{model} does not fit at {endpoint}: it needs {_gb(need.total_bytes)} (weights {_gb(need.weights_bytes)} + KV cache {_gb(need.cache_bytes)}), "
            f"of {_gb(memory_gb * _GB)} (memory_gb) {_gb(max(left, 0))} are left{f'; taken are {by_whom}' if taken else ''}; {advice}, or correct memory_gb"
        )
        self.need = need
        self.left_bytes = int(left)


def check_fits(model: str, need: MemoryNeed, endpoint: str, memory_gb: float, taken: Mapping[str, int]) -> None:
    """Make sure that a model can be loaded beside what others take, bytes by model. Raises InsufficientMemory."""
    if need.total_bytes > memory_gb * _GB - sum(taken.values()):
        raise InsufficientMemory(model, need, endpoint, memory_gb, taken)


def kv_cache_bytes(shape: Mapping[str, Any], tokens: int) -> int | None:
    """Bytes of the keys and values of so many tokens, for a model of the shape that GGUF metadata tells; None where it does not.

    Layers x heads of keys and values x (length of a key + of a value) x 2 bytes for each token (llama.cpp, src/llama-kv-cache.cpp:
    `n_embd_k_gqa` and `n_embd_v_gqa` numbers a layer and cell, in f16).
    """
    architecture = shape.get("general.architecture")

    def number(key: str) -> int | None:
        found = shape.get(f"{architecture}.{key}")
        return found if isinstance(found, int) and found > 0 else None

    layers, heads = number("block_count"), number("attention.head_count")
    if layers is None or heads is None:
        return None
    key_length = number("attention.key_length") or (number("embedding_length") or 0) // heads
    value_length = number("attention.value_length") or key_length
    return layers * (number("attention.head_count_kv") or heads) * (key_length + value_length) * _KV_BYTES * tokens


class Inspection:
    """Asks one server what it has. Every method raises a CallFailure."""

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
        """Its models in its order; those of Ollama with what they take."""
        if self._kind != "ollama":
            listed = _read(_OpenAiList, await self._json("GET", "/v1/models")).data
            return [ServerModel(each.id, file_bytes=each.meta.size, context_tokens=each.meta.n_ctx) for each in listed]
        tags = _read(_OllamaList, await self._json("GET", "/api/tags")).models
        loaded = {each.name: each for each in _read(_OllamaList, await self._json("GET", "/api/ps")).models}
        return [_of_ollama(tag, loaded.get(tag.name)) for tag in tags]

    async def need(self, model: ServerModel, tokens: int) -> MemoryNeed | None:
        """What an Ollama's model needs with so many tokens of context in all its slots together; None where the server does not tell enough."""
        if self._kind != "ollama" or model.file_bytes is None:
            return None
        shown = _read(_OllamaShown, await self._json("POST", "/api/show", {"model": model.name}))
        cache = kv_cache_bytes(shown.model_info, tokens)
        return None if cache is None else MemoryNeed(model.file_bytes, cache)

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = await self._client.request(method, self._root + path, json=body)
            if answer.is_error:
                raise failure_for_status(answer.status_code, answer.text[:200], retry_after=answer.headers.get("retry-after"))
            return answer.json()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EndpointUnreachable(f"no connection: {error}") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"no reply in time: {type(error).__name__}") from error
        except httpx.TransportError as error:
            raise ConnectionDropped(f"the connection broke: {error}") from error
        except (ValueError, RecursionError) as error:
            raise GarbledReply(f"{path} is no JSON: {error}") from error


@asynccontextmanager
async def inspecting(kind: str, url: str, key: SecretStr | None = None) -> AsyncIterator[Inspection]:
    """Ask a server, each question within seconds."""
    headers = {} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"}
    timeout = httpx.Timeout(_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=not is_loopback(url)) as client:
        yield Inspection(client, kind, url)


def taken_by(models: Iterable[ServerModel]) -> dict[str, int]:
    """What loaded models take, bytes by name."""
    return {model.name: model.memory_bytes for model in models if model.memory_bytes}


def _of_ollama(tag: "_OllamaModel", loaded: "_OllamaModel | None") -> ServerModel:
    if loaded is None:
        return ServerModel(tag.name, tag.digest, tag.size, is_loaded=False)
    memory = loaded.size_vram or loaded.size
    return ServerModel(tag.name, tag.digest, tag.size, True, memory, loaded.context_length, loaded.expires_at)


class _OllamaModel(BaseModel):
    name: str
    digest: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: AwareDatetime | None = None


class _OllamaList(BaseModel):
    models: list[_OllamaModel]


class _OllamaShown(BaseModel):
    model_info: dict[str, Any] = {}


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


def _gb(amount: float) -> str:
    return f"{amount / _GB:.1f} GB"
