"""How repeatable real servers are at temperature 0 with a seed: three runs of the same prompts without an answer cache, one at a time and four.

What validation makes of the answers is compared too: two wordings of one finding are no harm when they get the same verdict.
"""

import asyncio
from collections.abc import Sequence

from benchmarks.llm.plain import all_of
from benchmarks.llm.servers import SERVERS, SLOTS, Served, settings
from benchmarks.llm.workload import features, requests
from benchmarks.table import print_table
from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import ExplanationRequested, Generation
from mistudio_explain.events.job import JobBackground
from mistudio_explain.generation.explainer import call_for
from mistudio_explain.generation.stage import drafted, parse
from mistudio_explain.llm.provider import Completion, ModelListed
from mistudio_explain.settings import QualitySettings
from mistudio_explain.validation.offline import background_of
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

FEATURES = 12
RUNS = 3
MAX_TOKENS = 96
MODES = {"one at a time": 1, f"{SLOTS} at once": SLOTS}
_MADE = Generation(model="bench", endpoint="bench", provider="bench", latency_s=0.0, finish_reason="stop")


async def _runs(served: Served, wanted: Sequence[ExplanationRequested], runs: int) -> dict[str, list[list[Completion]]]:
    provider = served.provider()
    calls = [call_for(request.prompt, ModelListed(served.model), settings(MAX_TOKENS)) for request in wanted]
    made = {mode: [(await all_of(calls, provider.complete, workers))[0] for _ in range(runs)] for mode, workers in MODES.items()}
    await provider.close()
    return made


def verdict(request: ExplanationRequested, completion: Completion, background: JobBackground, validator: Validator) -> str:
    """What becomes of an answer: its verification and safety, or why it is none."""
    try:
        parsed = parse(request.prompt, completion.text, completion.finish_reason)
    except UnusableAnswer as error:
        return error.kind
    outcome = validate(drafted(request, parsed, _MADE), background, validator)
    return f"{outcome.pattern_verification}, {outcome.safety and outcome.safety.assessment}"


def alike(runs: Sequence[Sequence[str]]) -> float:
    """The share of features for which all runs say the same."""
    return sum(len(set(said)) == 1 for said in zip(*runs, strict=True)) / len(runs[0])


def main(features_asked: int = FEATURES, runs: int = RUNS, names: Sequence[str] = tuple(SERVERS)) -> None:
    wanted = requests(features_asked, template="demonstration@1")
    background = background_of("find_bench", [known.feature for known in features().features])
    validator = Validator.load(QualitySettings())
    rows = []
    for name in names:
        with SERVERS[name]() as served:
            by_mode = asyncio.run(_runs(served, wanted, runs))
        everything = [run for mode in by_mode.values() for run in mode]
        for mode, of_mode in {**by_mode, "both": everything}.items():
            texts = [[completion.text for completion in run] for run in of_mode]
            verdicts = [[verdict(request, completion, background, validator) for request, completion in zip(wanted, run, strict=True)] for run in of_mode]
            rows.append([name, mode, f"{alike(texts):.2f}", f"{alike(verdicts):.2f}"])
    title = f"Repeatability: {features_asked} features, demonstration@1, temperature 0, a seed, {runs} runs, no answer cache"
    print_table(title, ("server", "calls", "identical answers", "same verdict"), rows)


if __name__ == "__main__":
    main()
