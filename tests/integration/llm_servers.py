"""Real LLM servers behind our clients, for tests that hold for each of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from integration.real_ollama import RealOllama
from mistudio_explain.llm.demonstration import Demonstration
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.openai import OpenAi
from mistudio_explain.llm.provider import Provider

KINDS = ("ollama", "openai", "demonstration")
CONTEXT_TOKENS = 2048


async def _provider(kind: str, ollama: RealOllama) -> Provider:
    if kind == "demonstration":
        return await Demonstration.start()
    return Ollama(ollama.url) if kind == "ollama" else OpenAi(f"{ollama.url}/v1")


@asynccontextmanager
async def live_endpoint(kind: str, ollama: RealOllama) -> AsyncIterator[Endpoint]:
    """The native client of Ollama, the OpenAI client of the same server, or the demonstration model on xllamacpp; two slots each."""
    endpoint = Endpoint(kind, kind, ollama.url, 2, await _provider(kind, ollama))
    try:
        await endpoint.refresh()
        yield endpoint
    finally:
        await endpoint.provider.close()
