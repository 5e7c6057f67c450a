"""What a script of twenty lines would do: the official clients and a handful of workers that take prompts from a list."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import ollama
import openai

from mistudio_explain.llm.provider import ANSWER_SCHEMA, Call, Completion


def openai_client(url: str) -> Callable[[Call], Awaitable[Completion]]:
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)
    schema = {"type": "json_schema", "json_schema": {"name": "explanation", "schema": ANSWER_SCHEMA, "strict": True}}

    async def call(call: Call) -> Completion:
        started = time.perf_counter()
        reply = await client.chat.completions.create(
            model=call.model, messages=[message.model_dump() for message in call.messages], temperature=call.temperature, seed=call.seed,
            max_tokens=call.max_tokens, **({"response_format": schema} if call.form == "fields" else {}),
        )  # fmt: skip
        choice, usage = reply.choices[0], reply.usage
        return Completion(choice.message.content or "", choice.finish_reason, usage.prompt_tokens, usage.completion_tokens, time.perf_counter() - started, None)

    return call


def ollama_client(url: str) -> Callable[[Call], Awaitable[Completion]]:
    client = ollama.AsyncClient(url, timeout=600)

    async def call(call: Call) -> Completion:
        started = time.perf_counter()
        options = {"temperature": call.temperature, "seed": call.seed, "num_predict": call.max_tokens, "num_ctx": call.context_tokens}
        messages = [message.model_dump() for message in call.messages]
        reply = await client.chat(model=call.model, messages=messages, options=options, format=ANSWER_SCHEMA if call.form == "fields" else None)
        return Completion(reply.message.content or "", reply.done_reason or "", reply.prompt_eval_count, reply.eval_count, time.perf_counter() - started, None)

    return call


async def all_of(calls: Sequence[Call], call: Callable[[Call], Awaitable[Completion]], workers: int) -> tuple[list[Completion], float]:
    """Every call's completion, in the calls' order, and the seconds from the first call to the last answer."""
    left = list(enumerate(calls))[::-1]
    completions: dict[int, Completion] = {}

    async def worker() -> None:
        while left:
            number, one = left.pop()
            completions[number] = await call(one)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(workers)))
    return [completions[number] for number in range(len(calls))], time.perf_counter() - started
