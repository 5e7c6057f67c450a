"""Prompt templates beside each other: the same real features explained by a real small model with each, scored by our validator.

The model is the demonstration model, whose 135M parameters follow hardly any instruction: the table tells whether a template works and what it
costs, and proves little about which one a capable model explains better with. `PROMPT_FEATURES=48` asks for more features.
"""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

from benchmarks.table import print_table
from mistudio_explain.context.evidence import TRIMMED
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.passages import evenly
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.evaluation.data import read_set
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome, Verification
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground
from mistudio_explain.generation.explainer import Explainer, GivenUp
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.fleet import Alone, driven
from mistudio_explain.settings import EndpointSettings, GenerationSettings, LlmSettings, Settings
from mistudio_explain.validation.offline import background_of
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

SOURCES = ("axbench_sae", "eleuther_gpt2_128k", "mistudio")
FEATURES = int(os.environ.get("PROMPT_FEATURES", "12"))
PROMPT_TOKENS = 1300  # the model's context holds 2048, an answer included
SETTINGS = Settings(
    llm=LlmSettings(endpoints=(EndpointSettings(name="demonstration", provider="demonstration"),), max_tokens=200),
    generation=GenerationSettings(attempts=1, retry_wait_s=0),
)


@dataclass
class Tally:
    outcomes: list[FeatureOutcome] = field(default_factory=list)
    unusable: Counter[str] = field(default_factory=Counter)
    tokens_in: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    trimmed: int = 0

    def row(self, template: str) -> list[str]:
        asked = len(self.outcomes) + self.unusable.total()
        confirmed = sum(outcome.pattern_verification is Verification.CONFIRMED for outcome in self.outcomes)
        accuracies = [outcome.accuracy.p for outcome in self.outcomes if outcome.accuracy is not None]
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.unusable.most_common()) or "none"
        return [
            template,
            str(asked),
            f"{confirmed} ({confirmed / asked:.0%})",
            f"{mean(accuracies):.2f} of {len(accuracies)}" if accuracies else "-",
            f"{mean(self.tokens_in):.0f}" if self.tokens_in else "-",
            f"{mean(self.tokens_out):.0f}" if self.tokens_out else "-",
            kinds,
            str(self.trimmed),
        ]


def features() -> list[tuple[FeatureFound, JobBackground]]:
    """As many features of each source, evenly over its file, and what they are contrasted with."""
    chosen = []
    for source in SOURCES:
        found = [known.feature for known in read_set(Path("examples/features") / f"{source}.jsonl.gz").features]
        background = background_of(f"find_{source}", found)
        chosen += [(found[place], background) for place in evenly(len(found), FEATURES // len(SOURCES))]
    return chosen


async def tried(template: str, asked: list[tuple[FeatureFound, JobBackground]], endpoints: Endpoints, templates: Templates, validator: Validator) -> Tally:
    policy = ContextPolicy.of(SETTINGS.context, SETTINGS.quality, Routing())
    policy = replace(policy, explain_poor=True, template=template, prompt_tokens=PROMPT_TOKENS)
    explainer = Explainer(endpoints, MemoryAnswers(), SETTINGS.llm, SETTINGS.generation, random.Random(1))
    tally = Tally()

    async def one(feature: FeatureFound, background: JobBackground) -> None:
        request = build(feature, policy, templates, None)
        assert isinstance(request, ExplanationRequested)
        tally.trimmed += any(flag.startswith(TRIMMED) for flag in request.flags)
        try:
            draft = await explainer.draft(request)
        except GivenUp as given_up:
            said = given_up.tries[-1].completion
            tally.unusable[given_up.tries[-1].kind] += 1
        else:
            said = draft.generation
            tally.outcomes.append(validate(draft, background, validator))
        if said is not None:
            tally.tokens_in.append(said.tokens_in or 0)
            tally.tokens_out.append(said.tokens_out or 0)

    await asyncio.gather(*(one(feature, background) for feature, background in asked))
    return tally


async def compared() -> list[list[str]]:
    templates, validator, asked = Templates.load(), Validator.load(SETTINGS.quality), features()
    async with driven(SETTINGS.llm, Alone(), rng=random.Random(1), waits=False) as fleet:
        return [(await tried(template, asked, fleet.endpoints, templates, validator)).row(template) for template in sorted(templates.known)]


def main() -> None:
    print_table(
        f"Prompt templates, {FEATURES} real features of {len(SOURCES)} sources, a model of 135M parameters",
        ("template", "asked", "confirmed", "mean accuracy", "tokens in", "tokens out", "unusable", "prompts with texts left out"),
        asyncio.run(compared()),
        note="One try each. So small a model proves little: one prefilled sentence suits it; the other templates are for models that follow instructions.",
    )
