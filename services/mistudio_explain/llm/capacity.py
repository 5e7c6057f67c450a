"""Whether a model fits into an endpoint's memory, and the arithmetic of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mistudio_explain.errors import ExplainError

_KV_BYTES = 2  # of a number in the KV cache: llama.cpp and Ollama keep it in f16 unless told otherwise
_GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a model needs to be loaded, bytes: its weights, and the keys and values of every token in context."""

    weights_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        """Both together. Compute buffers are left out: they depend on the server's build and are small beside these."""
        return self.weights_bytes + self.cache_bytes


class InsufficientMemory(ExplainError):
    """A model does not fit into what an endpoint has left."""

    exit_code = 2
    repeatable = False

    def __init__(self, model: str, need: MemoryNeed, endpoint: str, memory_gb: float, taken: Mapping[str, int]) -> None:
        left = memory_gb * _GB - sum(taken.values())
        by_whom = ", ".join(f"{in_gb(amount)} by {name}" for name, amount in taken.items())
        fits_alone = need.total_bytes <= memory_gb * _GB
        advice = f"unload {' or '.join(taken)} first (`models unload`)" if fits_alone else "choose a smaller model or quantization"
        super().__init__(
            f"{model} does not fit at {endpoint}: it needs {in_gb(need.total_bytes)} (weights {in_gb(need.weights_bytes)} + "
            f"KV cache {in_gb(need.cache_bytes)}), and of {in_gb(memory_gb * _GB)} (memory_gb) {in_gb(max(left, 0))} are left"
            f"{f'; taken are {by_whom}' if taken else ''}; {advice}, or correct memory_gb"
        )
        self.need = need
        self.left_bytes = int(left)


def check_fits(model: str, need: MemoryNeed, endpoint: str, memory_gb: float, taken: Mapping[str, int]) -> None:
    """Make sure that a model can be loaded beside what others take, bytes by model. Raises InsufficientMemory."""
    if need.total_bytes > memory_gb * _GB - sum(taken.values()):
        raise InsufficientMemory(model, need, endpoint, memory_gb, taken)


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
