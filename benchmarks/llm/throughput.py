"""Features an hour of our generation path on a real LLM server, beside a plain asyncio client; and what the prompt's order is worth.

A third contender sends the same words with the part that differs first, so that no prefix of two prompts is the same.
All answer calls of one feature each, temperature 0, one try. Every contender gets a fresh server, whose slots have
each answered one prompt of the same order before the clock starts. How busy the slots were tells the two apart also on a
machine that others use.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from benchmarks.llm.generating import generated
from benchmarks.llm.plain import all_of
from benchmarks.llm.servers import SERVERS, SLOTS, Served, settings
from benchmarks.llm.workload import requests
from benchmarks.table import print_table, spread
from mistudio_explain.events.explanation import ExplanationRequested, Message
from mistudio_explain.generation.explainer import call_for
from mistudio_explain.llm.provider import Completion, ModelListed
from mistudio_explain.settings import GenerationSettings

FEATURES = 12
MAX_TOKENS = 300
PLAIN = "plain asyncio client"
OURS = "generation service"
REVERSED = "generation service, the part that differs first"
_KINDS = ("llama.cpp", "Ollama")


def variable_first(request: ExplanationRequested) -> ExplanationRequested:
    """The same words, with evidence and instructions in each other's place."""
    system, user = request.prompt.messages
    turned = [Message(role="system", content=user.content), Message(role="user", content=system.content)]
    return request.model_copy(update={"prompt": request.prompt.model_copy(update={"messages": turned, "sha256": request.prompt.sha256[::-1]})})


async def measured(served: Served, wanted: Sequence[ExplanationRequested], *, is_plain: bool) -> tuple[list[Completion], float]:
    """Completions and seconds for all requests but the first few, which fill the slots' caches beforehand."""
    llm = settings(MAX_TOKENS)
    calls = [call_for(request.prompt, ModelListed(served.model), llm) for request in wanted]
    plain = served.plain()
    await all_of(calls[:SLOTS], plain, SLOTS)
    if is_plain:
        return await all_of(calls[SLOTS:], plain, SLOTS)
    observed = await generated(wanted[SLOTS:], [served], llm, GenerationSettings(attempts=1))
    if observed.failures:
        raise observed.failures[0]
    return observed.completions, observed.seconds


def compare(name: str, server: Callable[[], AbstractContextManager[Served]], *, features: int, runs: int) -> None:
    wanted = requests(SLOTS + features)
    contenders = {PLAIN: wanted, OURS: wanted, REVERSED: [variable_first(request) for request in wanted]}
    hourly: dict[str, list[float]] = {contender: [] for contender in contenders}
    busy: dict[str, list[float]] = {contender: [] for contender in contenders}
    tokens: dict[str, list[str]] = {}
    for _ in range(runs):
        for contender, prompts in contenders.items():
            with server() as served:
                completions, seconds = asyncio.run(measured(served, prompts, is_plain=contender == PLAIN))
            hourly[contender].append(len(completions) / seconds * 3600)
            busy[contender].append(sum(completion.latency_s for completion in completions) / (SLOTS * seconds))
            tokens[contender] = [f"{sum(counts) / len(counts):.0f}" for counts in _counts(completions)]
    rows = [[contender, spread(hourly[contender], 0), spread(busy[contender]), *tokens[contender]] for contender in contenders]
    rows += [_ratio(hourly, OURS, PLAIN, 0.97), _ratio(hourly, OURS, REVERSED, 1.5)]
    title = f"{name}: {features} features, general@1, {SLOTS} slots, one thread; lanes on the embedded broker"
    print_table(title, ("contender", "features an hour", "slots busy", "tokens in", "tokens out"), rows)


def _counts(completions: Sequence[Completion]) -> tuple[list[int], list[int]]:
    return [completion.tokens_in or 0 for completion in completions], [completion.tokens_out or 0 for completion in completions]


def _ratio(hourly: dict[str, list[float]], ours: str, peer: str, goal: float) -> list[str]:
    ratios = [mine / theirs for mine, theirs in zip(hourly[ours], hourly[peer], strict=True)]
    return [f"{ours} ÷ {peer} (goal ≥ {goal})", spread(ratios, 3), "", "", ""]


def main(features: int = FEATURES, runs: int = 1) -> None:
    for name in _KINDS:
        compare(name, SERVERS[name], features=features, runs=runs)


if __name__ == "__main__":
    main()
