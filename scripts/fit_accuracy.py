"""Fits the coefficients of accuracy and confidence on real features, cross-validated by source, and prints what they are worth.

    python scripts/fit_accuracy.py DIRECTORY

DIRECTORY holds JSON Lines of real features, one source a file, one feature a line: `explanation` (features without one
serve as background only), `layer`, `feature_id`, `activations[{text, tokens?, values?, peak?}]`. Each file is taken for a
find job. Nothing is written; the constants in services/mistudio_explain/validation are copied by hand.

Each claim is scored on its own feature and on every other one of its job, against the job's background (64 features, 5
texts each of at most 200 characters round the peak, the scored feature left out). 12 texts are taken evenly over the
ranks; with 8 or more every third is held out, and the held-out ones decide, as in production. Sources do not come with
keywords, so keywords are the words of a feature's texts with the greatest count times rarity, as Find makes them.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistudio_explain.events.explanation import Verification
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature
from mistudio_explain.validation import accuracy as formula
from mistudio_explain.validation.accuracy import accuracy_of, signals
from mistudio_explain.validation.confidence import reasons
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.excerpt import passages
from mistudio_explain.validation.general import general_background
from mistudio_explain.validation.static_embedding import StaticEmbedding
from mistudio_explain.validation.verdict import verdict
from mistudio_explain.validation.words import STOP_WORDS, stem

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SAMPLE, SAMPLE_TEXTS, TEXTS, HELD_OUT_FROM = 64, 5, 12, 8
CONFIRMED_FROM, CONTRADICTED_BELOW = 0.55, 0.19
HARD = 3  # the claims nearest to a claim are its hard negatives


@dataclass(frozen=True)
class Feature:
    """A feature with its claim; the first `seen` of its texts count as shown to the explainer."""

    key: str
    claim: Claim
    keywords: list[str]
    texts: Texts
    seen: int


@dataclass(frozen=True)
class Job:
    """A source with, for every claim (row) and every feature (column), the clipped signals of the deciding texts."""

    source: str
    features: list[Feature]
    contrast: Contrast
    z: Floats
    overlap: Floats
    same: Flags
    hard: Flags

    @property
    def true(self) -> Flags:
        """Which pairs belong together."""
        return np.eye(len(self.features), dtype=bool)

    @property
    def false(self) -> Flags:
        """Which pairs do not; the same sentence for two features is no false pair."""
        return ~self.same


def read(path: Path) -> list[dict[str, Any]]:
    """The features of a file that have texts, each with a key."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [line | {"key": f"{line['layer']}/{line['feature_id']}/{number}"} for number, line in enumerate(lines) if line["activations"]]


def activation(record: dict[str, Any]) -> Activation:
    """A record as the contract has it."""
    tokens, values = record.get("tokens"), record.get("values")
    if tokens is None or values is None or len(tokens) != len(values):
        tokens = values = None
    return Activation(text=record["text"], tokens=tokens, token_activations=values, peak=record.get("peak"))


def evenly(records: list[dict[str, Any]], count: int) -> list[Activation]:
    """At most `count` records, evenly over the ranks."""
    places = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int))
    return [activation(records[place]) for place in places]


def background(source: str, lines: list[dict[str, Any]]) -> list[BackgroundFeature]:
    """The contrast sample, as production draws it."""
    ordered = sorted(lines, key=lambda line: hashlib.sha256(f"{source}|{line['key']}".encode()).digest())
    return [
        BackgroundFeature(feature_key=line["key"], texts=[passages(text)[0] for text in evenly(line["activations"], SAMPLE_TEXTS)]) for line in ordered[:SAMPLE]
    ]


def feature(line: dict[str, Any], contrast: Contrast, embedding: StaticEmbedding) -> Feature:
    """Prepare a feature that has an explanation."""
    every = evenly(line["activations"], TEXTS)
    held_out = every[2::3] if len(every) >= HELD_OUT_FROM else []
    seen = [text for text in every if text not in held_out]
    texts = Texts.of([passages(text) for text in (*seen, *held_out)], embedding)
    return Feature(line["key"], Claim.of(line["explanation"], embedding), frequent_words(texts, contrast, line["key"]), texts, len(seen))


def frequent_words(texts: Texts, contrast: Contrast, key: str) -> list[str]:
    """Words that are frequent in the texts and rare elsewhere."""
    counts = Counter(word for spoken in texts.words for word in set(spoken) if word not in STOP_WORDS and len(word) > 1)
    if not counts:
        return []
    listed = sorted(counts)
    rarity = contrast.index.idf([stem(word) for word in listed], contrast.place_of(key))
    weight = dict(zip(listed, rarity * [counts[word] for word in listed], strict=True))
    return sorted(listed, key=lambda word: -weight[word])[:10]


def deciding(one: Feature) -> tuple[int, int]:
    """First and last number of the texts that decide: the held-out ones where there are some."""
    return (one.seen, one.texts.count) if one.seen < one.texts.count else (0, one.seen)


def job(source: str, lines: list[dict[str, Any]], embedding: StaticEmbedding, contrast: Contrast | None = None) -> Job:
    """Score every claim of a source on every feature."""
    against = contrast or Contrast.of(background(source, lines), embedding)
    features = [feature(line, against, embedding) for line in lines if line["explanation"]]
    z = np.zeros((len(features), len(features), 2))
    overlap = np.zeros(z.shape[:2])
    for column, one in enumerate(features):
        place = against.place_of(one.key)
        keywords = {stem(word) for word in one.keywords}
        for row, other in enumerate(features):
            measured = signals(other.claim, one.texts, against, place).between(*deciding(one))
            z[row, column] = measured.z_lexical, measured.z_static
            overlap[row, column] = len(keywords & set(other.claim.stems)) / max(1, min(len(keywords), len(other.claim.stems)))
    said = [one.claim.sentence.strip().lower() for one in features]
    same = np.array([[a == b for b in said] for a in said])
    vectors = np.array([one.claim.vector for one in features])
    near = np.where(same, -9, vectors @ vectors.T)
    hard = np.zeros_like(same)
    np.put_along_axis(hard, np.argsort(-near, axis=1)[:, :HARD], values=True, axis=1)
    return Job(source, features, against, z, overlap, same, hard & ~same)


def logistic(x: Floats, y: Floats, weight: Floats, ridge: float = 1e-2) -> Floats:
    """Weighted logistic regression with an intercept, by Newton's method."""
    design = np.column_stack([np.ones(len(x)), x])
    beta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weight * (y - p)) - ridge * beta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + ridge * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def fit(jobs: Sequence[Job]) -> Floats:
    """True pairs and false pairs of a job weigh the same: even odds."""
    x = np.concatenate([part for job in jobs for part in (job.z[job.true], job.z[job.false])])
    y = np.concatenate([part for job in jobs for part in (np.ones(job.true.sum()), np.zeros(job.false.sum()))])
    w = np.concatenate([part for job in jobs for part in (np.ones(job.true.sum()), np.full(job.false.sum(), job.true.sum() / job.false.sum()))])
    return logistic(x, y, w)


def auc(true: Floats, false: Floats) -> float:
    """Chance that a true pair scores above a false one, ties counting half."""
    _, place, count = np.unique(np.concatenate([true, false]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[: len(true)].sum() - len(true) * (len(true) + 1) / 2) / (len(true) * len(false)))


def share(values: Floats | Flags) -> str:
    """A mean as a percentage."""
    return f"{100 * float(np.mean(values)):4.0f}%"


def print_accuracy(jobs: Sequence[Job], title: str) -> None:
    """Each source with coefficients fitted on the others, beside keyword overlap."""
    print(f"\n{title}\n{'source':28}    n  overlap random/hard  accuracy random/hard  true: >=.55  <.19  false: >=.55  <.19")
    for number, one in enumerate(jobs):
        beta = fit([*jobs[:number], *jobs[number + 1 :]])
        logit = beta[0] + one.z @ beta[1:]
        p = 1 / (1 + np.exp(-logit))
        figures = [f"{auc(score[one.true], score[kind]):.3f}" for score in (one.overlap, logit) for kind in (one.false, one.hard)]
        print(
            f"{one.source:28} {len(one.features):4}  {figures[0]} / {figures[1]}        {figures[2]} / {figures[3]}         "
            f"{share(p[one.true] >= CONFIRMED_FROM)}        {share(p[one.true] < CONTRADICTED_BELOW)}  "
            f"{share(p[one.false] >= CONFIRMED_FROM)}         {share(p[one.false] < CONTRADICTED_BELOW)}"
        )


def parroted(one: Feature, embedding: StaticEmbedding) -> Claim:
    """A claim that lists the keywords."""
    return Claim.of(f"Words such as {', '.join(one.keywords)}", embedding)


def dressed(one: Feature, embedding: StaticEmbedding) -> Claim:
    """A claim that hides the keywords in words about nothing."""
    return Claim.of(f"Discussions of everyday topics and general subjects that concern {', '.join(one.keywords)} in public life", embedding)


def judged(claim: Claim, one: Feature, against: Job, embedding: StaticEmbedding) -> tuple[Verification, tuple[float, float], float, float | None]:
    """The verdict on a claim, what its confidence follows from, and its two probabilities."""
    place = against.contrast.place_of(one.key)
    rest = claim.without(one.keywords, embedding)
    masked = signals(rest, one.texts, against.contrast, place) if rest else None
    figures = accuracy_of(signals(claim, one.texts, against.contrast, place), masked, one.seen)
    return verdict(figures, CONFIRMED_FROM, CONTRADICTED_BELOW), reasons(figures), figures.p, figures.masked


def print_masking(jobs: Sequence[Job], embedding: StaticEmbedding) -> None:
    """What becomes of true, false and parroted claims."""
    print("\nVerdicts with the constants in force            confirmed  contradicted  nothing left without keywords")
    for kind in ("true", "false", "keywords alone", "keywords in filler"):
        rows = []
        for one in jobs:
            chosen = np.random.default_rng(7)
            for number, own in enumerate(one.features):
                false = np.flatnonzero(one.false[:, number])
                said = {"true": own.claim, "false": one.features[int(chosen.choice(false))].claim}.get(kind)
                said = said or (parroted(own, embedding) if kind == "keywords alone" else dressed(own, embedding))
                rows.append(judged(said, own, one, embedding))
        verdicts = np.array([row[0].value for row in rows])
        print(f"{kind:48} {share(verdicts == 'confirmed')}  {share(verdicts == 'contradicted'):>11} {share(np.array([row[3] is None for row in rows])):>12}")
        if kind == "true":
            kept = [row[3] for row in rows if row[2] >= CONFIRMED_FROM and row[3] is not None]
            print(f"  MASKED_FROM: 5% quantile of the masked probability of true claims that reach {CONFIRMED_FROM}: {np.quantile(kept, 0.05):.3f}")


def pooled(tables: Sequence[tuple[Floats, Floats]]) -> Floats:
    """One regression on several tables, every row weighing the same."""
    x, y = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    return logistic(x, y, np.ones(len(y)))


def verdicts_of(one: Job, embedding: StaticEmbedding) -> tuple[Floats, Floats]:
    """What speaks for each confirmed or contradicted verdict, and whether it is right: every true claim and as many false ones."""
    chosen = np.random.default_rng(11)
    why, right = [], []
    for number, own in enumerate(one.features):
        false = one.features[int(chosen.choice(np.flatnonzero(one.false[:, number])))].claim
        for claim, true in ((own.claim, True), (false, False)):
            found, reasons_found, _, _ = judged(claim, own, one, embedding)
            if found is not Verification.PARTIAL:
                why.append(reasons_found)
                right.append(float((found is Verification.CONFIRMED) == true))
    return np.array(why), np.array(right)


def print_confidence(jobs: Sequence[Job], embedding: StaticEmbedding) -> None:
    """How often confirmed and contradicted verdicts are right, and whether that can be told beforehand."""
    tables = [verdicts_of(one, embedding) for one in jobs]
    predicted = []
    for number, (why, _) in enumerate(tables):
        beta = pooled([*tables[:number], *tables[number + 1 :]])
        predicted.append(1 / (1 + np.exp(-(beta[0] + why @ beta[1:]))))
    p, right = np.concatenate(predicted), np.concatenate([right for _, right in tables])
    print("\nConfidence of confirmed and contradicted verdicts (true and false claims at even odds)")
    print(f"  INTERCEPT, DISTANCE, GAP = {', '.join(f'{b:.2f}' for b in pooled(tables))}")
    quality = f"AUC {auc(p[right == 1], p[right == 0]):.3f}, Brier {np.mean((p - right) ** 2):.3f} (constant: {right.var():.3f})"
    print(f"  {len(right)} verdicts, {share(right)} right; left-out sources: {quality}")
    for low, high in ((0, 0.75), (0.75, 0.85), (0.85, 0.95), (0.95, 1.01)):
        among = (p >= low) & (p < high)
        if among.any():
            print(f"  said {low:.2f}-{min(high, 1):.2f}: {int(among.sum()):4} verdicts, said {p[among].mean():.2f}, right {right[among].mean():.2f}")


def main(directory: Path) -> None:
    """Print every table."""
    embedding = StaticEmbedding.load()
    sources = {path.stem: read(path) for path in sorted(directory.glob("*.jsonl"))}
    explained = {source: lines for source, lines in sources.items() if sum(bool(line["explanation"]) for line in lines) >= HELD_OUT_FROM}
    jobs = [job(source, lines, embedding) for source, lines in explained.items()]
    print_accuracy(jobs, "Against the find job's background; coefficients fitted without the source")
    print("INTERCEPT, LEXICAL, STATIC = " + ", ".join(f"{b:.2f}" for b in fit(jobs)), f"(all sources, n = {sum(len(one.features) for one in jobs)})")
    in_force = np.array([formula.INTERCEPT, formula.LEXICAL, formula.STATIC])
    print(f"in force: {in_force}")
    print_masking(jobs, embedding)
    print_confidence(jobs, embedding)
    spread = [
        (one.contrast.index.scores(own.claim.stems, [], one.contrast.place_of(own.key)).others.std(), (one.contrast.centroids @ own.claim.vector).std())
        for one in jobs
        for own in one.features
    ]
    print("\nLEXICAL_PRIOR_SIGMA, STATIC_PRIOR_SIGMA = " + ", ".join(f"{value:.3f}" for value in np.median(spread, axis=0)))
    sample = general_background()
    elsewhere = [
        job(source, lines, embedding, Contrast.of([one for one in sample if not one.feature_key.startswith(f"{source}/")], embedding))
        for source, lines in explained.items()
    ]
    print_accuracy(elsewhere, "no_contrast: against the general background, without the features of the source")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: fit_accuracy.py DIRECTORY (JSON Lines of real features)")
    main(Path(sys.argv[1]))
