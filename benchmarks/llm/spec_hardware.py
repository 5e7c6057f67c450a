"""The specification's performance targets on its hardware, a GPU of 24 GB and one of 12 GB, simulated at published rates.

No such GPU was there: the load model stands for the two Ollama servers, and what drives them is our real generation path.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.llm.generating import Observed, generated
from benchmarks.llm.servers import Served, settings
from benchmarks.llm.simulated import Simulated
from benchmarks.llm.workload import requests
from benchmarks.table import print_table
from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.provider import Call, Patience
from mistudio_explain.settings import GenerationSettings

GPUS = ("rtx-3090", "rtx-3080-ti")
MODEL, OTHER = "llama3.1:8b", "codellama:13b"
FEATURES, URGENT = 68, 10
MAX_TOKENS = 300
SCALE = 0.25  # of a second of the model's
UNMEASURED = "no such GPU here"


async def _called(server: Served, model: str) -> float:
    """Seconds to the first text of an answer to the smallest call."""
    provider = Ollama(server.url)
    call = Call((Message(role="user", content="Say yes."),), "sentence", model, 0.0, 1, 8, 4096, Patience(60, 60, 60))
    try:
        completion = await provider.complete(call)
    finally:
        await provider.close()
    assert completion.first_text_s is not None
    return completion.first_text_s


async def _run(servers: Sequence[Served], features: int, urgent: int) -> tuple[Observed, float]:
    """The job with its urgent part, and the longest switch of models after it."""
    asked = [request.model_copy(update={"route": [MODEL]}) for request in requests(features + urgent)]
    await asyncio.gather(*(_called(server, MODEL) for server in servers))
    observed = await generated(asked[:features], servers, settings(MAX_TOKENS, 4096), GenerationSettings(), express=asked[features:])
    return observed, max(await asyncio.gather(*(_called(server, OTHER) for server in servers)))


def figures(observed: Observed, seen: Sequence[Mapping[str, Any]], switch_s: float, *, features: int, urgent: int) -> list[tuple[str, str]]:
    """Each target and what came of it, in the model's time."""
    made = sorted(observed.made, key=lambda one: one.ended_s)
    begin = observed.published_s
    all_s = (made[-1].ended_s - begin) / SCALE
    urgent_s = max(one.ended_s for one in made if one.call.messages in observed.express)
    latencies = [(one.ended_s - one.began_s) / SCALE for one in made]
    busy = [server["busy_s"] / all_s for server in seen]
    most = [server["most_in_server"] for server in seen]
    return [
        (f"{features} features in < 15 minutes", f"{all_s / 60:.1f} minutes, {urgent} urgent ones among them"),
        (f"{urgent} high-priority features in < 2 minutes", f"{(urgent_s - begin) / SCALE:.0f} s, published behind the others"),
        ("< 5 s for an explanation on average", f"{sum(latencies) / len(latencies):.1f} s for a call, {max(latencies):.1f} s at most"),
        ("another model in < 30 s", f"{switch_s / SCALE:.1f} s to its first token"),
        ("> 98 % of the features processed", f"{100 * observed.drafts / (features + urgent):.1f} %"),
        ("GPUs busy > 80 % of the time", " and ".join(f"{100 * share:.0f} %" for share in busy) + ", an answer being written"),
        ("2 to 4 explanations at once", f"{sum(most)}: " + " and ".join(map(str, most))),
    ]


def main(features: int = FEATURES, urgent: int = URGENT) -> None:
    with Simulated(GPUS[0], scale=SCALE) as first, Simulated(GPUS[1], scale=SCALE) as second:
        servers = [Served("ollama", server.url, MODEL, 2) for server in (first, second)]
        observed, switch_s = asyncio.run(_run(servers, features, urgent))
        rows = figures(observed, [first.observed(), second.observed()], switch_s, features=features, urgent=urgent)
    title = f"The specification's targets on RTX 3090 (24 GB) and RTX 3080 Ti (12 GB), {MODEL}"
    print_table(title, ("target", "simulated", "measured"), [[*row, UNMEASURED] for row in rows])


if __name__ == "__main__":
    main()
