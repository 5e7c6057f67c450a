"""Features, policies and templates for the tests of context."""

import json
from pathlib import Path
from typing import Any

from mistudio_explain.context.explainers import DEMONSTRATION, Listed, Routing, Server
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.events.feature import Activation, ActiveToken, FeatureFound, JobRequest, Logit
from mistudio_explain.settings import ContextSettings, QualitySettings

EXAMPLES = Path(__file__).parents[3] / "examples"
TEMPLATES = Templates.load()
ANIMALS = (
    "dog",
    "cat",
    "horse",
    "cow",
    "sheep",
    "goat",
    "pig",
    "hen",
    "duck",
    "goose",
    "mule",
    "ox",
    "hare",
    "fox",
    "wolf",
    "bear",
    "deer",
    "seal",
    "crow",
    "owl",
)
TEXTS = tuple(f"Number {place}: a {animal} slept by the {animal} house of {animal}town." for place, animal in enumerate(ANIMALS))


def found(*texts: str, feature_id: str = "5", request: JobRequest | None = None, **fields: Any) -> FeatureFound:
    """A feature with these texts, or with 12 different ones."""
    activations = [Activation(text=text) for text in (texts or TEXTS[:12])]
    given = {"top_activations": activations, "coherence_score": 0.7, "pattern_keywords": ["slept", "house"]} | fields
    return FeatureFound(target_model="gpt2", find_job_id="find_1", feature_id=feature_id, request=request, **given)


def policy(family: str = "llama3.1:8b", *, routing: Routing | None = None, explain_poor: bool = False, threshold: float = 0.4, **context: Any) -> ContextPolicy:
    """The default policy, but for what is named."""
    return ContextPolicy.of(ContextSettings(**context), QualitySettings(explain_poor=explain_poor, threshold=threshold), routing or served(family))


def served(family: str) -> Routing:
    """One server with one model, and no policy."""
    return Routing(servers=(Server("only", (Listed(family),), is_demonstration=family == DEMONSTRATION),))


def real_features(example: str) -> list[FeatureFound]:
    """The features of an example, in either of Find's shapes."""
    document = json.loads((EXAMPLES / example).read_text(encoding="utf-8"))
    return [_real(record) for record in document.get("features") or document["results"]]


def _real(record: dict[str, Any]) -> FeatureFound:
    logits = [Logit(**logit) for logit in record["top_logits"]] if record.get("top_logits") else None
    return FeatureFound(
        target_model="real",
        find_job_id="find_real",
        feature_id=str(record["feature_id"]),
        source_id=record.get("source_id"),
        coherence_score=record["coherence_score"],
        pattern_keywords=record["pattern_keywords"],
        top_activations=[_activation(activation) for activation in record["top_activations"]],
        top_logits=logits,
    )


def _activation(record: dict[str, Any]) -> Activation:
    active = [ActiveToken(**token) for token in record["active_tokens"]] if record.get("active_tokens") else None
    strength = record.get("activation_strength", record.get("activation_value"))
    given = {name: record[name] for name in ("text", "tokens", "token_activations", "peak") if record.get(name) is not None}
    return Activation(activation_strength=strength, active_tokens=active, **given)
