"""Safety on bundles with a known label and on real features: how many hazards are seen, and how much else is."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation.data import FeatureSet, Known
from mistudio_explain.events.feature import Activation
from mistudio_explain.validation.contrast import Texts
from mistudio_explain.validation.excerpt import passages
from mistudio_explain.validation.safety import CLAIM_ALONE, REVIEW, TEXTS_ALONE, WORDS_ALONE, Hazards, Signs, safety, signs
from mistudio_explain.validation.static_embedding import StaticEmbedding

BUNDLES = "bundles.jsonl"
LATER = "later.jsonl"
TEXTS_A_FEATURE = 12  # evenly over the ranks, as a prompt's and its held-out texts
RESAMPLES = 1000

Floats = NDArray[np.float64]

REASONS: dict[str, Callable[[Signs], bool]] = {
    "texts and explanation together are near to hazards": lambda sign: sign.together >= REVIEW,
    "the texts alone are": lambda sign: sign.texts >= TEXTS_ALONE,
    "the explanation alone is": lambda sign: sign.claim >= CLAIM_ALONE,
    "half of the texts have a hazard word": lambda sign: sign.text_share >= WORDS_ALONE,
    "the explanation has a hazard word": lambda sign: sign.claim_words,
}
"""What asks for review, as `Signs.assessment` does."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Texts with an explanation, and whether they are about a hazard."""

    identity: str
    positive: bool
    subject: str
    """Hazard class of a positive, subject of a hard negative."""
    texts: tuple[str, ...]
    explanation: str


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95% bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class SafetyResult:
    """What safety comes to on bundles and real features that nothing was fitted on (examples/safety/README.md: what they were used for)."""

    auc: Rate
    """Of `concern`, positives against real features with an explanation."""
    auc_texts: Rate
    """The same of the texts alone, against all real features."""
    auc_hard: Rate
    """Of `concern`, positives against hard negatives."""
    recall_at_5: Rate
    """Positives whose `concern` is above that of 95% of the explained real features."""
    recall: Rate
    """Positives that are not `safe`."""
    flagged: Rate
    """Real features that are not `safe`."""
    concerning: Rate
    """Positives that are `concerning`."""
    hard_concerning: Rate
    """Hard negatives that are `concerning`."""
    hard_flagged: Rate
    """Hard negatives that are not `safe`."""
    recall_by_class: dict[str, Rate]
    hard_concerning_by_subject: dict[str, Rate]
    flagged_by_source: dict[str, Rate]
    flagged_by_reason: dict[str, int]
    """Real features that are not `safe`, by what of REASONS holds; more than one may."""
    flagged_by_category: dict[str, int]
    """The same by the hazard that their evidence names first."""


def read_bundles(path: Path) -> list[Bundle]:
    """The bundles of one file of examples/safety. Raises BadInput, naming the line."""
    bundles = []
    try:
        for line in path.read_bytes().splitlines():
            record = orjson.loads(line)
            positive = {"positive": True, "hard_negative": False}[record["label"]]
            bundles.append(Bundle(record["id"], positive, record["class"], tuple(record["texts"]), record["explanation"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}, line {len(bundles) + 1}: {error!r}; examples/safety/README.md says what a line holds") from error
    return bundles


def fitted_on(identity: str) -> bool:
    """Whether a bundle or a real feature belongs to the half that lexicon, examples and thresholds were chosen on."""
    return int(hashlib.sha256(identity.encode()).hexdigest(), 16) % 2 == 0


def feature_identity(source: str, known: Known) -> str:
    """What decides the half of a real feature."""
    return f"{source}|{known.feature.feature_key}"


def texts_of_bundle(bundle: Bundle, embedding: StaticEmbedding) -> Texts:
    """A bundle's texts, prepared as validation prepares them."""
    return Texts.of([passages(Activation(text=text)) for text in bundle.texts], embedding)


def texts_of_feature(known: Known, embedding: StaticEmbedding) -> Texts:
    """A real feature's texts, evenly over the ranks."""
    activations = known.feature.top_activations
    if len(activations) > TEXTS_A_FEATURE:
        activations = [activations[round(i * (len(activations) - 1) / (TEXTS_A_FEATURE - 1))] for i in range(TEXTS_A_FEATURE)]
    return Texts.of([passages(activation) for activation in activations], embedding)


def unfitted(bundles: Sequence[Bundle]) -> list[Bundle]:
    """The half that nothing was fitted on."""
    return [bundle for bundle in bundles if not fitted_on(bundle.identity)]


def measure(bundles: Sequence[Bundle], sets: Sequence[FeatureSet], hazards: Hazards, embedding: StaticEmbedding, seed: int = 0) -> SafetyResult:
    """Measure bundles, on which nothing may have been fitted, against the real features of the other half."""
    random = np.random.default_rng(seed)
    seen = [(bundle, signs(texts_of_bundle(bundle, embedding), bundle.explanation, hazards, embedding)) for bundle in bundles]
    positives = [sign for bundle, sign in seen if bundle.positive]
    hard = [sign for bundle, sign in seen if not bundle.positive]
    there = [(one.source, known) for one in sets for known in one.features if not fitted_on(feature_identity(one.source, known))]
    real = [(source, signs(texts_of_feature(known, embedding), known.explanation or "", hazards, embedding)) for source, known in there]
    doubted = [known for (_, known), (_, sign) in zip(there, real, strict=True) if sign.assessment != "safe"]
    named = [safety(texts_of_feature(known, embedding), known.explanation or "", hazards, embedding).categories[:1] for known in doubted]
    features = [sign for _, sign in real]
    explained = [sign for sign in features if sign.claim_margin is not None]
    return SafetyResult(
        auc=_auc(_values(positives, _together), _values(explained, _together), random),
        auc_texts=_auc(_values(positives, _texts), _values(features, _texts), random),
        auc_hard=_auc(_values(positives, _together), _values(hard, _together), random),
        recall_at_5=share((_values(positives, _together) > np.quantile(_values(explained, _together), 0.95)).astype(np.float64), random),
        recall=_rate(positives, _not_safe, random),
        flagged=_rate(features, _not_safe, random),
        concerning=_rate(positives, _concerning, random),
        hard_concerning=_rate(hard, _concerning, random),
        hard_flagged=_rate(hard, _not_safe, random),
        recall_by_class=_by([(bundle.subject, sign) for bundle, sign in seen if bundle.positive], _not_safe, random),
        hard_concerning_by_subject=_by([(bundle.subject, sign) for bundle, sign in seen if not bundle.positive], _concerning, random),
        flagged_by_source=_by(real, _not_safe, random),
        flagged_by_reason={reason: sum(holds(sign) for sign in features) for reason, holds in REASONS.items()},
        flagged_by_category=dict(Counter(category for categories in named for category in categories).most_common()),
    )


def auc(positives: Floats, negatives: Floats) -> float:
    """The probability that a positive scores above a negative; equal ones count half."""
    below = np.searchsorted(np.sort(negatives), positives, side="left")
    upto = np.searchsorted(np.sort(negatives), positives, side="right")
    return float((below + upto).sum() / (2 * len(positives) * len(negatives)))


def table(result: SafetyResult) -> str:
    """The result as a text for people."""
    rows: list[tuple[str, Rate]] = [
        ("AUC, positives against real features (explained)", result.auc),
        ("AUC, the texts alone, all real features", result.auc_texts),
        ("AUC, positives against hard negatives", result.auc_hard),
        ("positives above 95% of the real features", result.recall_at_5),
        ("positives flagged (recall)", result.recall),
        ("real features flagged", result.flagged),
        ("positives concerning", result.concerning),
        ("hard negatives concerning", result.hard_concerning),
        ("hard negatives flagged", result.hard_flagged),
        *((f"  recall, {name}", rate) for name, rate in result.recall_by_class.items()),
        *((f"  concerning, {name}", rate) for name, rate in result.hard_concerning_by_subject.items()),
        *((f"  flagged, {name}", rate) for name, rate in result.flagged_by_source.items()),
    ]
    counts = {f"  flagged, {name}": count for name, count in {**result.flagged_by_reason, **result.flagged_by_category}.items()}
    return "\n".join(
        [
            *(f"{name:52} {rate.value:6.3f}  [{rate.low:.3f}, {rate.high:.3f}]  n = {rate.n}" for name, rate in rows),
            *(f"{name:62} {count:4}" for name, count in counts.items()),
        ]
    )


def _together(sign: Signs) -> float:
    return sign.together


def _texts(sign: Signs) -> float:
    return sign.texts


def _not_safe(sign: Signs) -> float:
    return float(sign.assessment != "safe")


def _concerning(sign: Signs) -> float:
    return float(sign.assessment == "concerning")


def _values(found: Sequence[Signs], of: Callable[[Signs], float]) -> Floats:
    return np.array([of(sign) for sign in found])


def _auc(positives: Floats, negatives: Floats, random: np.random.Generator) -> Rate:
    draws = [auc(random.choice(positives, len(positives)), random.choice(negatives, len(negatives))) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Rate(auc(positives, negatives), float(low), float(high), len(positives) + len(negatives))


def _rate(found: Sequence[Signs], of: Callable[[Signs], float], random: np.random.Generator) -> Rate:
    return share(_values(found, of), random)


def share(values: Floats, random: np.random.Generator) -> Rate:
    """The mean of zeros and ones with its bootstrap interval."""
    means = random.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Rate(float(values.mean()), float(low), float(high), len(values))


def _by(found: Sequence[tuple[str, Signs]], of: Callable[[Signs], float], random: np.random.Generator) -> dict[str, Rate]:
    names = sorted({name for name, _ in found})
    return {name: _rate([sign for own, sign in found if own == name], of, random) for name in names}
