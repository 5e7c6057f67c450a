"""`python -m benchmarks.llm.load_server PROFILE`: the load model behind Ollama's and the OpenAI API, on a loopback port.

It prints its address and ends when its stdin does. What of the two APIs our clients use is there; `/faults` (POST, the
fields of Faults) makes it fail or slow, and `/observed` tells what it saw.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.llm.load_model import Broken, Faults, LoadModel, Refused, profile_named

FIELDS = '{"label": "A simulated answer", "pattern": "Texts that mention simulated answers.", "significance": "It costs time.", "implications": "None."}'
SENTENCE = " mention simulated answers."
Lines = Callable[[AsyncGenerator[int, None], int], AsyncGenerator[bytes, None]]


class Api:
    """Both wire formats over one model."""

    def __init__(self, model: LoadModel) -> None:
        self._model = model

    def routes(self) -> list[Route]:
        """Where what is."""
        return [
            Route("/api/tags", self.tags),
            Route("/api/ps", self.ps),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.completions, methods=["POST"]),
            Route("/faults", self.faults, methods=["POST"]),
            Route("/observed", self.observed),
        ]

    async def tags(self, _: Request) -> Response:
        """Ollama's list of models."""
        listed = [self._listed(name, int(model.size * 1e9)) for name, model in self._model.profile.models.items()]
        return JSONResponse({"models": listed})

    async def ps(self, _: Request) -> Response:
        """Ollama's list of loaded models."""
        far = "2100-01-01T00:00:00Z"
        listed = [self._listed(name, size) | {"expires_at": far, "size_vram": size, "context_length": 4096} for name, size in self._model.resident.items()]
        return JSONResponse({"models": listed})

    async def models(self, _: Request) -> Response:
        """The OpenAI API's list of models."""
        listed = [{"id": name, "object": "model", "created": 1, "owned_by": "load model"} for name in self._model.profile.models]
        return JSONResponse({"object": "list", "data": listed})

    async def generate(self, request: Request) -> Response:
        """Ollama's way to load and unload a model: a prompt that is empty."""
        body = await request.json()
        if (model := body.get("model")) not in self._model.profile.models:
            return JSONResponse({"error": f"model '{model}' not found"}, 404)
        if body.get("keep_alive") in {0, "0"}:
            self._model.unload(model)
            reason = "unload"
        else:
            await self._model.load(model)
            reason = "load"
        return JSONResponse({"model": model, "created_at": "2100-01-01T00:00:00Z", "response": "", "done": True, "done_reason": reason})

    async def chat(self, request: Request) -> Response:
        """Ollama's chat, a JSON object a line."""
        body = await request.json()
        model = body.get("model")

        def refused(message: str) -> dict[str, Any]:
            return {"error": message}

        def line(content: dict[str, Any]) -> bytes:
            return json.dumps({"model": model, "created_at": "2100-01-01T00:00:00Z", **content}).encode() + b"\n"

        async def lines(answer: AsyncGenerator[int, None], tokens_in: int) -> AsyncGenerator[bytes, None]:
            yield line({"message": {"role": "assistant", "content": _text(body)[:1]}, "done": False})
            tokens_out = await anext(answer)
            yield line({"message": {"role": "assistant", "content": _text(body)[1:]}, "done": False})
            counts = {"prompt_eval_count": tokens_in, "eval_count": tokens_out}
            yield line({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts})

        most = body.get("options", {}).get("num_predict", 4096)
        return await self._answered(request, most, lines, refused, "application/x-ndjson")

    async def completions(self, request: Request) -> Response:
        """The OpenAI API's chat completions, server-sent events."""
        body = await request.json()
        model = body.get("model")

        def refused(message: str) -> dict[str, Any]:
            return {"error": {"message": message, "type": "load_model", "param": None, "code": None}}

        def event(content: dict[str, Any]) -> bytes:
            return b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, **content}).encode() + b"\n\n"

        async def events(answer: AsyncGenerator[int, None], tokens_in: int) -> AsyncGenerator[bytes, None]:
            yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": _text(body)[:1]}, "finish_reason": None}]})
            tokens_out = await anext(answer)
            yield event({"choices": [{"index": 0, "delta": {"content": _text(body)[1:]}, "finish_reason": None}]})
            yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
            yield event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"

        return await self._answered(request, body.get("max_tokens", 4096), events, refused, "text/event-stream")

    async def faults(self, request: Request) -> Response:
        """Make it fail or slow from now on."""
        self._model.faults = Faults(**await request.json())
        return JSONResponse({})

    async def observed(self, _: Request) -> Response:
        """What it saw so far."""
        return JSONResponse(asdict(self._model.observed) | {"now": self._model.now()})

    async def _answered(self, request: Request, most: int, lines: Lines, refused: Callable[[str], dict[str, Any]], media_type: str) -> Response:
        body = await request.json()
        if (model := body.get("model")) not in self._model.profile.models:
            return JSONResponse(refused(f"model '{model}' not found"), 404)
        answer = self._model.answer(model, "".join(str(message["content"]) for message in body["messages"]), most)
        try:
            tokens_in = await _first(answer, request)
        except Refused as error:
            headers = {} if error.retry_after_s is None else {"retry-after": f"{error.retry_after_s:.6f}"}
            return JSONResponse(refused("too many calls"), error.status, headers)
        except Broken as error:
            return JSONResponse(refused(str(error)), 500)
        if tokens_in is None:
            return Response(status_code=499)

        async def streamed() -> AsyncGenerator[bytes, None]:
            async with aclosing(answer), aclosing(lines(answer, tokens_in)) as pieces:
                async for piece in pieces:
                    yield piece

        return StreamingResponse(streamed(), media_type=media_type)

    def _listed(self, name: str, size: int) -> dict[str, Any]:
        details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "", "quantization_level": ""}
        return {"name": name, "model": name, "modified_at": "2100-01-01T00:00:00Z", "size": size, "digest": f"simulated-{name}", "details": details}


async def _first(answer: AsyncGenerator[int, None], request: Request) -> int | None:
    """The prompt's tokens once it has been read; None when the client went away before."""
    reading = asyncio.ensure_future(anext(answer))
    gone = asyncio.create_task(request.receive())  # the body has been read: what comes is the end of the connection
    try:
        await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        for task in (reading, gone):
            task.cancel()
        await asyncio.gather(reading, gone, return_exceptions=True)


def _text(body: dict[str, Any]) -> str:
    """An answer in the form that was asked for."""
    schema = body.get("format") or body.get("response_format", {}).get("json_schema", {}).get("schema")
    if not isinstance(schema, dict):
        return SENTENCE
    return json.dumps([0] * schema.get("minItems", 1)) if schema.get("type") == "array" else FIELDS


async def _served(app: Starlette) -> None:
    """Serve on a free loopback port until stdin ends."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", access_log=False))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    sys.stdout.write(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = server.force_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main() -> None:
    """Serve one profile."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("profile")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--scale", type=float, default=1.0, help="how long a second of the model takes, seconds")
    given = arguments.parse_args()
    asyncio.run(_served(Starlette(routes=Api(LoadModel(profile_named(given.profile), seed=given.seed, scale=given.scale)).routes())))


if __name__ == "__main__":
    main()
