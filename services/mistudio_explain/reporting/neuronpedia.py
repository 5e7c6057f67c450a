"""A job's explanations as the batch files that Neuronpedia imports.

Shape: hijohnnylin/neuronpedia, apps/webapp/app/api/admin/import/route.ts (which folders are read) and lib/db/import.ts (all lines of a file have the
members of its first); utils/neuronpedia-utils/neuronpedia_utils/db_models (Feature, Activation, Explanation) and export-data.py.
"""

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import orjson

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.identity import plain_name
from mistudio_explain.reporting.evidence import max_activation, texts
from mistudio_explain.reporting.records import claim
from mistudio_explain.reporting.wording import timestamp

BATCH = 1024
"""Features of a batch, as in Neuronpedia's own export (FEATURES_EXPLANATIONS_BATCH_SIZE)."""
CREATOR = "clkht01d40000jv08hvalcvly"
"""The user that SAEDashboard's exporter names when it is told none (sae_dashboard/neuronpedia/neuronpedia_export.py, FALLBACK_CREATOR_ID)."""
TYPE = "mistudio-explain"

_KINDS = ("features", "activations", "explanations")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 25


@dataclass(frozen=True, slots=True)
class Target:
    """Where in Neuronpedia the features are."""

    model_id: str | None = None
    """None: after the target model."""
    creator_id: str = CREATOR


@dataclass(slots=True)
class Written:
    """What went into a folder, and what had no place there."""

    features: int = 0
    explanations: int = 0
    texts: int = 0
    without_tokens: int = 0
    unnumbered: list[str] = field(default_factory=list)
    models: set[str] = field(default_factory=set)


def write_neuronpedia(folder: Path, outcomes: Iterable[FeatureOutcome], at_ms: int, target: Target) -> Written:
    """Write `<model>/<source>/{features,activations,explanations}/batch-N.jsonl.gz` and `config/` below `folder`.

    Explained features alone, 1024 a batch. Neuronpedia counts features by number, so those of other ids are told in `unnumbered`
    and left out, and it shows texts by their tokens, so those without are counted and left out. The same outcomes give the same bytes. `config/`
    holds the names that explanations refer to.
    """
    written = Written()
    batches: dict[str, int] = {}
    for path, some in groupby(_placed(outcomes, target, written), key=lambda each: each[0]):
        while batch := list(islice(some, 1)):
            number = batches.setdefault(path, 0)
            _write_batch(folder / path, number, (outcome for _, outcome in chain(batch, islice(some, BATCH - 1))), at_ms, target, written)
            batches[path] += 1
    _write_names(folder / "config", at_ms, target, written)
    return written


def _placed(outcomes: Iterable[FeatureOutcome], target: Target, written: Written) -> Iterator[tuple[str, FeatureOutcome]]:
    """The outcomes that Neuronpedia has a place for, each with its folder."""
    for outcome in outcomes:
        subject = outcome.subject
        if claim(outcome) is None or subject.feature_id is None:
            continue
        if subject.feature_id.isascii() and subject.feature_id.isdigit():
            yield f"{model_id(outcome, target)}/{source_id(outcome)}", outcome
        else:
            written.unnumbered.append(subject.feature_key)


def model_id(outcome: FeatureOutcome, target: Target) -> str:
    """Neuronpedia's name of the model."""
    return target.model_id or _plain(outcome.subject.target_model or "unknown")


def source_id(outcome: FeatureOutcome) -> str:
    """Neuronpedia's name of the layer and SAE, which it calls `layer`: the feature's source, else its find job."""
    return _plain(outcome.subject.source_id or outcome.subject.find_job_id or "unknown")


def identity(*parts: str) -> str:
    """An id of 25 characters that looks like the cuids of Neuronpedia's tables and hangs on its parts alone."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest())
    digits = []
    for _ in range(_ID_LENGTH - 1):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "c" + "".join(digits)


def _write_batch(folder: Path, batch_number: int, batch: Iterable[FeatureOutcome], at_ms: int, target: Target, written: Written) -> None:
    with ExitStack() as stack:
        files = {}
        for kind in _KINDS:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            raw = stack.enter_context((folder / kind / f"batch-{batch_number}.jsonl.gz").open("wb"))
            files[kind] = stack.enter_context(gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=raw, mtime=0))
        for outcome in batch:
            place: dict[str, Any] = {"modelId": model_id(outcome, target), "layer": source_id(outcome), "index": outcome.subject.feature_id}
            made: dict[str, Any] = {"creatorId": target.creator_id, "createdAt": timestamp(at_ms)}
            files["features"].write(_line(place | made | _feature(outcome)))
            written.features += 1
            for number, activation in enumerate(texts(outcome.evidence)):
                if not _has_values(activation):
                    written.without_tokens += 1
                    continue
                files["activations"].write(_line(place | made | _activation(outcome, activation, number)))
                written.texts += 1
            files["explanations"].write(_line(place | _explanation(outcome, at_ms, target, written)))
            written.explanations += 1


def _feature(outcome: FeatureOutcome) -> dict[str, Any]:
    """What is known of the feature; 0 is what Neuronpedia writes for a density or maximum that was not counted."""
    logits = outcome.subject.logits or []
    promoted = sorted((each for each in logits if each.value > 0), key=lambda each: -each.value)
    suppressed = sorted((each for each in logits if each.value <= 0), key=lambda each: each.value)
    statistics = outcome.subject.statistics
    return {
        "maxActApprox": max_activation(outcome) or 0,
        "frac_nonzero": (statistics.frequency if statistics else None) or 0,
        "pos_str": [each.token for each in promoted],
        "pos_values": [each.value for each in promoted],
        "neg_str": [each.token for each in suppressed],
        "neg_values": [each.value for each in suppressed],
        "hasVector": False,
    }


def _has_values(activation: Activation) -> bool:
    return bool(activation.tokens) and bool(activation.token_activations)


def _activation(outcome: FeatureOutcome, activation: Activation, number: int) -> dict[str, Any]:
    values = activation.token_activations or []
    return {
        "id": identity("activation", outcome.subject.explain_job_id, outcome.subject.feature_key, str(number)),
        "tokens": activation.tokens,
        "values": values,
        "maxValue": max(values),
        "maxValueTokenIndex": values.index(max(values)),
        "minValue": min(values),
        "dataSource": activation.context,
        "binMin": None,
        "binMax": None,
        "binContains": None,
    }


def _explanation(outcome: FeatureOutcome, at_ms: int, target: Target, written: Written) -> dict[str, Any]:
    model = None if outcome.generation is None else outcome.generation.model.rsplit("/", 1)[-1]
    if model is not None:
        written.models.add(model)
    return {
        "id": identity("explanation", outcome.subject.explain_job_id, outcome.subject.feature_key),
        "description": claim(outcome),
        "authorId": target.creator_id,
        "typeName": TYPE,
        "explanationModelName": model,
        "notes": _notes(outcome),
        "createdAt": timestamp(at_ms),
    }


def _notes(outcome: FeatureOutcome) -> str:
    """How far to believe it, in one line: Neuronpedia has no fields for it that an import may fill."""
    parts = [f"miStudioExplain job {outcome.subject.explain_job_id}"]
    if outcome.pattern_verification is not None:
        parts.append(f"verification {outcome.pattern_verification.value}")
    if outcome.accuracy is not None and outcome.accuracy.p is not None:
        parts.append(f"accuracy {outcome.accuracy.p:.3f}")
    if outcome.quality_score is not None:
        parts.append(f"quality {outcome.quality_score:.3f}")
    if outcome.safety is not None:
        parts.append(f"safety {outcome.safety.assessment}")
    return "; ".join(parts)


def _write_names(folder: Path, at_ms: int, target: Target, written: Written) -> None:
    """The names of method and models that explanations refer to, which must be in Neuronpedia's tables first."""
    folder.mkdir(parents=True, exist_ok=True)
    stamped = {"createdAt": timestamp(at_ms), "updatedAt": timestamp(at_ms)}
    method = {
        "name": TYPE,
        "displayName": "miStudioExplain",
        "description": "One sentence by a language model from texts and tokens, validated on texts that it did not see.",
        "creatorName": "miStudioExplain",
        "creatorId": target.creator_id,
        **stamped,
    }
    (folder / "explanation_type.jsonl").write_bytes(_line(method))
    models = [{"name": name, "displayName": name, "description": "", "creatorName": "", **stamped} for name in sorted(written.models)]
    (folder / "explanation_model_type.jsonl").write_bytes(b"".join(map(_line, models)))


def _line(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record) + b"\n"


def _plain(name: str) -> str:
    """A name that is one folder: Neuronpedia's ids are letters, digits, dashes, underscores and dots."""
    return plain_name(name).lstrip(".") or "unknown"
