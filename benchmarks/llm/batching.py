"""Several features in one call on a real server: how many answers are missing, exchanged or otherwise of no use, and features an hour.

What is not usable in a shared answer is asked for again singly, once, and counts in the time. The evidence is cut short, so
that more features than a few have room in the context of one slot.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from prometheus_client import REGISTRY

from benchmarks.llm.generating import generated
from benchmarks.llm.servers import Served, llama_cpp, settings
from benchmarks.llm.workload import requests
from benchmarks.table import print_table
from mistudio_explain.settings import GenerationSettings

FEATURES = 20
SIZES = (1, 5, 10, 20)
MAX_TOKENS = 150
PROMPT_TOKENS = 650
CONTEXT_TOKENS = 8192
SLOTS = 1


def _shared() -> dict[str, float]:
    """Answers in shared calls so far, by what became of them."""
    metric = next(metric for metric in REGISTRY.collect() if metric.name == "mistudio_explain_shared_answers")
    found: dict[str, float] = {}
    for sample in metric.samples:
        if sample.name.endswith("_total"):
            found[sample.labels["result"]] = found.get(sample.labels["result"], 0) + sample.value
    return found


def row(served: Served, size: int, features: int) -> list[str]:
    wanted = requests(features, prompt_tokens=PROMPT_TOKENS)
    before = _shared()
    how = GenerationSettings(attempts=1, features_per_call=size)
    observed = asyncio.run(generated(wanted, [served], settings(MAX_TOKENS, CONTEXT_TOKENS), how))
    became = {result: count - before.get(result, 0) for result, count in _shared().items()}
    asked = sum(became.values())
    missing, swapped = became.get("missing", 0), became.get("swapped", 0)
    rates = [f"{count / asked:.2f}" if asked else "-" for count in (missing, swapped, asked - missing - swapped - became.get("usable", 0))]
    shared = [made.call.features for made in observed.made if made.call.features > 1]
    most = f"{max(shared)}" if shared else "1"
    return [f"{3600 * features / observed.seconds:.0f}", most, f"{len(observed.made)}", *rates, f"{observed.drafts} of {features}"]


def main(
    features: int = FEATURES,
    sizes: Sequence[int] = SIZES,
    server: Callable[[], AbstractContextManager[Served]] = lambda: llama_cpp(SLOTS, CONTEXT_TOKENS),
) -> None:
    rows = []
    for size in sizes:
        with server() as served:
            rows.append([f"{size}", *row(served, size, features)])
    columns = ("features a call, at most", "features an hour", "in fact", "calls", "missing", "swapped", "of no other use", "explained")
    print_table(f"llama.cpp, {SLOTS} slot of {CONTEXT_TOKENS} tokens: {features} features, general@1 with short evidence, one try", columns, rows)


if __name__ == "__main__":
    main()
