"""Whether a model fits into an endpoint's memory, and the arithmetic of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mistudio_explain.llm.failures import Blame, CallFailure

_KV_BYTES = 2  # of a number in the KV cache: llama.cpp and Ollama keep it in f16 unless told otherwise
_GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a model takes when it is loaded, bytes: its weights, and the keys and values of every token in context."""

    weights_bytes: int
    cache_bytes: int | None = None
    """None where the server does not tell the model's shape."""

    @classmethod
    def of(cls, file_bytes: int, shape: Mapping[str, Any], tokens: int) -> "MemoryNeed":
        """By the size of its file and the shape that GGUF metadata tells, with so many tokens of context in all slots together."""
        return cls(file_bytes, kv_cache_bytes(shape, tokens))

    @property
    def total_bytes(self) -> int:
        """Both together. Compute buffers are left out: they depend on the server's build and are small beside these."""
        return self.weights_bytes + (self.cache_bytes or 0)

    @property
    def terms(self) -> str:
        """What the total is made of, for people."""
        cache = "its KV cache, of which the server tells nothing" if self.cache_bytes is None else f"KV cache {in_gb(self.cache_bytes)}"
        return f"weights {in_gb(self.weights_bytes)} + {cache}"


@dataclass(frozen=True, slots=True)
class MeasuredNeed:
    """What a model took while it was loaded, bytes."""

    total_bytes: int
    terms = "measured"


class InsufficientMemory(CallFailure):
    """A model does not fit into what an endpoint has left, all of it bytes; `pinned` are those of `taken` that stay, loaded or not."""

    kind = "memory"
    blame = Blame.ENDPOINT
    exit_code = 2
    repeatable = False
    mends_itself = False
    quotes = False

    def __init__(
        self, model: str, need: MemoryNeed | MeasuredNeed, endpoint: str, memory: int, taken: Mapping[str, int], *, pinned: frozenset[str] = frozenset()
    ) -> None:
        left = memory - sum(taken.values())
        by_whom = ", ".join(f"{in_gb(amount)} by {name}{' (pinned)' if name in pinned else ''}" for name, amount in taken.items())
        unloaded = [name for name in taken if name not in pinned]
        if need.total_bytes > memory:
            advice = "choose a smaller model or quantization"
        elif need.total_bytes <= memory - sum(amount for name, amount in taken.items() if name in pinned):
            advice = f"unload {' or '.join(unloaded)} first (`models unload`)"
        else:
            advice = "pin fewer models"
        super().__init__(
            f"{model} does not fit at {endpoint}: it needs {in_gb(need.total_bytes)} ({need.terms}), and of {in_gb(memory)} (memory_gb) "
            f"{in_gb(max(left, 0))} are left{f'; taken are {by_whom}' if taken else ''}; {advice}, or correct memory_gb"
        )
        self.need = need
        self.left_bytes = left


def kv_cache_bytes(shape: Mapping[str, Any], tokens: int) -> int | None:
    """Bytes of the keys and values of so many tokens, for a model of the shape that GGUF metadata tells; None where it does not.

    For each token: layers x heads of keys and values x (length of a key + length of a value) x 2 bytes, as llama.cpp allocates
    it (src/llama-kv-cache.cpp: n_embd_k_gqa and n_embd_v_gqa numbers for each layer and cell).
    """
    architecture = shape.get("general.architecture")

    def number(key: str) -> int | None:
        found = shape.get(f"{architecture}.{key}")
        return found if isinstance(found, int) and found > 0 else None

    layers, heads = number("block_count"), number("attention.head_count")
    if layers is None or heads is None:
        return None
    key_length = number("attention.key_length") or (number("embedding_length") or 0) // heads
    if key_length == 0:
        return None
    value_length = number("attention.value_length") or key_length
    return layers * (number("attention.head_count_kv") or heads) * (key_length + value_length) * _KV_BYTES * tokens


def in_gb(amount: float) -> str:
    """Bytes for people, in units of 10^9."""
    return f"{amount / _GB:.1f} GB" if amount >= _GB else f"{amount / _GB:.2f} GB"
