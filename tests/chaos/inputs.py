"""Find jobs for the chaos, and what must become of each of their features.

The features are the 16 real ones of examples/gpt2-small, used again and again: with a feature id and a target model of
their own, with a coherence that passes the threshold (the real ones do not), and with a word in every text that no
other feature has, by which a prompt shows whose it is. One in twenty keeps its real coherence, so that it must be
skipped; a few have no visible text, so that they must fail.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.wire import ROOT

EXAMPLE = ROOT / "examples" / "gpt2-small" / "feature_analysis.json"
THRESHOLD = 0.4
MODELS = ("openai-community/gpt2", "google/gemma-2-2b", "chaos/Model.C")
WORD = re.compile(r"zq[a-z]\d{5}q")

_SKIPPED_OF = 20
_WITHOUT_TEXT_OF = 400
_NO_TEXT = " \n"


Key = tuple[str, str]
"""Explain job and feature key."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What must become of a feature, and the word that is in its texts alone."""

    outcome: str
    word: str


@dataclass(frozen=True, slots=True)
class Job:
    """A find job's file, and the explain job it becomes."""

    path: Path
    explain_job_id: str


def make_jobs(folder: Path, counts: Sequence[int]) -> list[Job]:
    """Write one find job for each count, each with a target model of its own."""
    return [_make_job(folder, "abcdefgh"[index], MODELS[index], count) for index, count in enumerate(counts)]


def fates(jobs: Sequence[Job], cursed: frozenset[str] = frozenset()) -> Mapping[Key, Fate]:
    """Read from the files what must become of each feature; those whose word is `cursed` never get a usable answer."""
    expected = {}
    for job in jobs:
        for feature in json.loads(job.path.read_text(encoding="utf-8"))["features"]:
            word = _word_of(feature)
            is_bare = not any(activation["text"].strip() for activation in feature["top_activations"])
            if feature["coherence_score"] < THRESHOLD:
                outcome = "skipped"
            elif is_bare or word in cursed:
                outcome = "failed"
            else:
                outcome = "explained"
            expected[job.explain_job_id, f"{feature['source_id']}/{feature['feature_id']}"] = Fate(outcome, word)
    return expected


def _make_job(folder: Path, letter: str, model: str, count: int) -> Job:
    real = json.loads(EXAMPLE.read_text(encoding="utf-8"))["features"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"find_chaos-{letter}.json"
    metadata = {"job_id": f"find_chaos-{letter}", "model_name": model, "total_features": count}
    features = [_feature(real[number % len(real)], letter, number) for number in range(count)]
    path.write_text(json.dumps({"job_metadata": metadata, "features": features}), encoding="utf-8")
    return Job(path, f"explain_chaos-{letter}")


def _feature(real: Mapping[str, Any], letter: str, number: int) -> dict[str, Any]:
    word = f"zq{letter}{number:05}q"
    has_text = number % _WITHOUT_TEXT_OF != _WITHOUT_TEXT_OF // 10
    texts = [{**activation, "text": f"{activation['text']} {word}" if has_text else _NO_TEXT} for activation in real["top_activations"]]
    return {
        **real,
        "feature_id": number,
        "coherence_score": real["coherence_score"] if number % _SKIPPED_OF == _SKIPPED_OF - 1 else 0.5 + number % 50 / 100,
        "pattern_keywords": [word, *real["pattern_keywords"]],
        "top_activations": texts if has_text else [{"text": _NO_TEXT}],
    }


def _word_of(feature: Mapping[str, Any]) -> str:
    return next(keyword for keyword in feature["pattern_keywords"] if WORD.fullmatch(keyword))
