"""Real features as the context stage hands them to generation, from examples/features."""

from itertools import islice
from pathlib import Path

from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.evaluation.data import FeatureSet, read_set
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.settings import ContextSettings, QualitySettings

SET = Path(__file__).parents[2] / "examples" / "features" / "eleuther_gpt2_128k.jsonl.gz"
"""237 features of GPT-2 small, 20 windows of tokens with their activations each."""
TARGET_MODEL = "gpt2"


def features() -> FeatureSet:
    return read_set(SET)


def requests(count: int, *, first: int = 0, template: str = "general@1", prompt_tokens: int = 1500) -> list[ExplanationRequested]:
    """`count` features of the set from the `first`, as requests with the template's prompts."""
    context = ContextSettings(prompt_tokens=prompt_tokens, template=template)
    policy = ContextPolicy.of(context, QualitySettings(explain_poor=True), family="any")
    templates = Templates.load()
    made = []
    for known in islice(features().features, first, first + count):
        asked = JobRequest(explain_job_id="explain_bench", explain_poor=True, expected=count)
        request = build(known.feature.model_copy(update={"target_model": TARGET_MODEL, "request": asked}), policy, templates, None)
        assert isinstance(request, ExplanationRequested), request
        made.append(request)
    return made
