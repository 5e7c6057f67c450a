"""Real features with the explanations that their sources give them, read from JSON Lines."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import Activation, ActiveToken, FeatureFound, Logit

_SUFFIXES = (".jsonl", ".jsonl.gz")
JUDGMENTS = {"detection": "recall_balanced_accuracy", "fuzzing": "fuzz_balanced_accuracy"}
"""The tests of a language model as judge, with their names in a record's `extra`."""


@dataclass(frozen=True, slots=True)
class Known:
    """A feature and what its source says of it."""

    feature: FeatureFound
    """Without keywords; its find job is its file."""
    explanation: str | None
    """What the source says that the feature detects; None: it serves as background only."""
    by_person: bool
    """Whether a person wrote the explanation, and not a model."""
    judged: Mapping[str, float]
    """How a language model judged the explanation, 0 to 1, as far as the source tells: its `score`, and the tests that this is the mean of (JUDGMENTS)."""
    false_explanations: tuple[str, ...]
    """Near misses that the source wrote by hand."""


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features of one file that have texts, in the file's order."""

    source: str
    features: tuple[Known, ...]


def read_sets(directory: Path) -> list[FeatureSet]:
    """All sets of a directory, by name; raises BadInput when there are none or a line cannot be read."""
    paths = sorted(path for path in directory.glob("*") if path.name.endswith(_SUFFIXES))
    if not paths:
        raise BadInput(f"{directory} has no feature sets: *.jsonl or *.jsonl.gz with one feature a line were expected; examples/features has some")
    return [read_set(path) for path in paths]


def read_set(path: Path) -> FeatureSet:
    """One set; examples/features/README.md says what a line holds. Raises BadInput, naming the line."""
    source = path.name.removesuffix(".gz").removesuffix(".jsonl")
    features = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines):
                known = _known(source, number, orjson.loads(line))
                if known.feature.top_activations:
                    features.append(known)
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise BadInput(f"{path}, line {len(features) + 1} or later: {error}; examples/features/README.md says what a line holds") from error
    return FeatureSet(source, tuple(features))


def _known(source: str, number: int, record: Mapping[str, Any]) -> Known:
    extra = record.get("extra") or {}
    logits = record.get("top_logits")
    feature = FeatureFound(
        target_model=record["model"],
        find_job_id=f"find_{source}",
        feature_id=f"{number}:{_named(str(record['feature_id']))}",  # numbers repeat within some sources
        source_id=_named(str(record["layer"])) if record.get("layer") is not None else None,
        top_activations=[_activation(one) for one in record["activations"]],
        top_logits=[Logit(token=token, value=float(len(logits) - rank)) for rank, token in enumerate(logits)]
        if logits and isinstance(logits[0], str)
        else None,
    )
    kind = record.get("explanation_kind") or ""
    judged = {test: float(extra[name]) for test, name in JUDGMENTS.items() if name in extra}
    if record.get("explanation_score") is not None:
        judged["score"] = float(record["explanation_score"])
    return Known(feature, record["explanation"] or None, kind == "human", judged, tuple(extra.get("false_explanations", ())))


def _activation(record: Mapping[str, Any]) -> Activation:
    tokens, values = record.get("tokens"), record.get("values")
    if tokens is None or values is None or len(tokens) != len(values):
        tokens = values = None
    active = record.get("active_tokens")
    return Activation(
        text=record["text"],
        activation_strength=record.get("max_activation"),
        tokens=tokens,
        token_activations=values,
        active_tokens=[ActiveToken(token=token, strength=strength) for token, strength in active] if active else None,
        peak=record.get("peak"),
    )


def _named(text: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._:/@ -") else "-" for letter in text)[:180]
