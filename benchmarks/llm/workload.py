"""Real features as the context stage hands them to generation, from examples/features."""

from itertools import islice
from pathlib import Path

from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.evaluation.data import FeatureSet, read_set
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.settings import ContextSettings, QualitySettings

SETS = Path(__file__).parents[2] / "examples" / "features"
GPT2 = "eleuther_gpt2_128k"
"""237 features of GPT-2 small, 20 short texts with their strongest tokens each."""
PYTHIA = "feature_circuits_pythia70m"
"""142 features of Pythia 70M, 10 windows of 64 tokens each, with the activation of every token."""


def features(source: str = GPT2) -> FeatureSet:
    return read_set(SETS / f"{source}.jsonl.gz")


def requests(count: int, source: str = GPT2, *, template: str = "general@1", prompt_tokens: int = 1500) -> list[ExplanationRequested]:
    """The first `count` features of a set, as requests with the template's prompts."""
    context = ContextSettings(prompt_tokens=prompt_tokens, template=template)
    policy = ContextPolicy.of(context, QualitySettings(explain_poor=True), Routing())
    templates = Templates.load()
    made = []
    for known in islice(features(source).features, count):
        asked = JobRequest(explain_job_id="explain_bench", explain_poor=True, expected=count)
        request = build(known.feature.model_copy(update={"request": asked}), policy, templates, None)
        assert isinstance(request, ExplanationRequested), request
        made.append(request)
    return made
