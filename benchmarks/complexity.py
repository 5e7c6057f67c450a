"""How hard features look: agreement with 40 labelled ones, honest and not, and the distribution on all real features."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import print_table
from mistudio_explain.context.categories import category_of
from mistudio_explain.context.complexity import HIGH_FROM, MEDIUM_FROM, WEIGHTS, complexity_of, parts
from mistudio_explain.context.passages import Passage, distinct, passages_of
from mistudio_explain.evaluation.data import read_sets
from mistudio_explain.events.explanation import Category, Complexity

ROOT = Path(__file__).parent.parent
LABELS = ROOT / "tests" / "data" / "complexity" / "labels.jsonl"
NAMES: tuple[Complexity, ...] = get_args(Complexity)
STEP = 0.1  # of the weights that the fit tries; 0.025 of the bounds
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Looked:
    source: str
    key: str
    category: Category
    passages: list[Passage]

    @property
    def complexity(self) -> Complexity:
        return complexity_of(None, self.category, self.passages)

    @property
    def values(self) -> list[float]:
        known = parts(self.category, self.passages)
        return [known.get(name, np.nan) for name in WEIGHTS]


@dataclass(frozen=True)
class Fit:
    weights: Floats
    bounds: Floats

    def classes(self, values: Floats) -> NDArray[np.int64]:
        scores = weighted(values, self.weights)
        return (scores >= self.bounds[0]).astype(int) + (scores >= self.bounds[1])


def looked_at() -> Iterator[Looked]:
    """All real features as context sees them: without keywords, for the sources have none."""
    for features in read_sets(ROOT / "examples" / "features"):
        for known in features.features:
            read = passages_of(known.feature.top_activations)
            if read:
                yield Looked(features.source, known.feature.feature_key, category_of(None, [], read)[0], distinct(read))


def labels() -> dict[tuple[str, str], Complexity]:
    lines = map(json.loads, LABELS.read_text(encoding="utf-8").splitlines())
    return {(line["source"], line["feature"]): line["label"] for line in lines}


def weighted(values: Floats, weights: Floats) -> Floats:
    """The weighted means over the parts that are known; 0.5 where none is."""
    known = ~np.isnan(values) * weights
    total = known.sum(axis=1)
    return np.where(total > 0, np.nansum(values * weights, axis=1) / np.where(total > 0, total, 1), 0.5)


def fitted(values: Floats, wanted: NDArray[np.int64]) -> Fit:
    """The weights and bounds that agree best, half a step off counting half; of equals the middle one."""
    steps = np.arange(0, 1 + STEP / 2, STEP)
    candidates = [np.array(w) for w in itertools.product(steps, repeat=len(WEIGHTS)) if abs(sum(w) - 1) < 1e-9 and w[0] > 0]
    bounds = np.array([(low, high) for low in np.arange(0.1, 0.9, 0.025) for high in np.arange(0.15, 0.95, 0.025) if high > low + 0.05])
    best, found = -1.0, None
    for weights in candidates:
        scores = weighted(values, weights)
        classes = (scores >= bounds[:, :1]).astype(int) + (scores >= bounds[:, 1:])
        worth = (classes == wanted).mean(axis=1) - 0.5 * np.abs(classes - wanted).mean(axis=1)
        if worth.max() > best + 1e-9:
            equal = np.flatnonzero(worth >= worth.max() - 1e-9)
            best, found = worth.max(), Fit(weights, bounds[equal[len(equal) // 2]])
    assert found is not None
    return found


def agreement(got: Sequence[int], wanted: Sequence[int]) -> list[str]:
    right = sum(a == b for a, b in zip(got, wanted, strict=True))
    far = sum(abs(a - b) == 2 for a, b in zip(got, wanted, strict=True))
    return [f"{right} of {len(wanted)}", str(far)]


def main() -> None:
    everything, label = list(looked_at()), labels()
    judged = [one for one in everything if (one.source, one.key) in label]
    wanted = np.array([NAMES.index(label[one.source, one.key]) for one in judged])
    values, sources = np.array([one.values for one in judged]), np.array([one.source for one in judged])
    left_out = np.zeros(len(judged), dtype=int)
    for source in sorted(set(sources)):
        out = sources == source
        left_out[out] = fitted(values[~out], wanted[~out]).classes(values[out])
    most = Counter(wanted.tolist()).most_common(1)[0][0]
    rows = [
        ["shipped weights and bounds", *agreement([NAMES.index(one.complexity) for one in judged], wanted)],
        ["fitted on the other sources, tried on each left out", *agreement(left_out.tolist(), wanted)],
        [f"always {NAMES[most]}", *agreement([most] * len(wanted), wanted)],
    ]
    print_table("Complexity beside labels", ("", "agree", "low for high or the reverse"), rows)
    print_table(
        "Complexity of all real features",
        ("source", "features", *NAMES),
        [
            [source, str(len(of)), *(str(Counter(of)[name]) for name in NAMES)]
            for source in sorted({one.source for one in everything})
            if (of := [one.complexity for one in everything if one.source == source])
        ],
        note=f"Weights {WEIGHTS}, medium from {MEDIUM_FROM}, high from {HIGH_FROM}.",
    )
