"""Real LLM servers for the benchmarks: llama.cpp and Ollama with the demonstration model, one thread and several slots.

Each run gets a server of its own: one that had answered the same prompts before would have them in its cache.
"""

import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.llm.plain import ollama_client, openai_client
from integration.real_ollama import RealOllama, ollama_binary
from mistudio_explain.llm.demonstration import MODEL_NAME, model_file
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.openai import OpenAi
from mistudio_explain.llm.provider import Call, Completion, Provider
from mistudio_explain.settings import LlmSettings

ROOT = Path(__file__).parents[2]
SLOTS = 4
CONTEXT_TOKENS = 2048
"""Of each slot: what SmolLM2-135M was trained on."""

PlainCall = Callable[[Call], Awaitable[Completion]]


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, our provider of it, and what a script without us would call it with."""

    kind: str
    """As settings name the provider: `ollama` or `openai`."""
    url: str
    model: str
    slots: int

    def provider(self) -> Provider:
        return Ollama(self.url) if self.kind == "ollama" else OpenAi(self.url)

    def plain(self) -> PlainCall:
        return ollama_client(self.url) if self.kind == "ollama" else openai_client(self.url)


def settings(max_tokens: int, context_tokens: int = CONTEXT_TOKENS) -> LlmSettings:
    """As the product is set, with the context that the demonstration model has and patience for a machine that others use."""
    return LlmSettings(max_tokens=max_tokens, context_tokens=context_tokens, first_token_timeout_s=300, token_timeout_s=120, deadline_s=600)


@contextmanager
def llama_cpp(slots: int = SLOTS, context_tokens: int = CONTEXT_TOKENS) -> Iterator[Served]:
    """llama.cpp's server out of the package xllamacpp."""
    command = [sys.executable, "-m", "benchmarks.llm.llama_server", str(model_file()), MODEL_NAME, str(slots), str(context_tokens)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"llama.cpp's server did not start: {' '.join(command)}")
            yield Served("openai", f"{address}/v1", MODEL_NAME, slots)
        finally:
            server.stdin.close()


@contextmanager
def ollama(slots: int = SLOTS) -> Iterator[Served]:
    """Ollama through its native API."""
    with _ollama_server(slots) as server:
        yield Served("ollama", server.url, server.model, slots)


@contextmanager
def ollama_v1(slots: int = SLOTS) -> Iterator[Served]:
    """Ollama through its OpenAI-compatible API."""
    with _ollama_server(slots) as server:
        yield Served("openai", f"{server.url}/v1", server.model, slots)


SERVERS = {"llama.cpp": llama_cpp, "Ollama": ollama, "Ollama /v1": ollama_v1}


@contextmanager
def _ollama_server(slots: int) -> Iterator[RealOllama]:
    program = ollama_binary()
    if program is None:
        sys.exit("this benchmark needs a real Ollama; build it with scripts/install_ollama.sh ~/.cache/mistudio-explain/ollama")
    with tempfile.TemporaryDirectory() as folder, RealOllama(Path(folder) / "ollama", program, model_file(), parallel=slots) as server:
        yield server
