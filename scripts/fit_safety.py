"""Fits safety: the weights of known examples, the weights of the signs, and where `safe` ends.

    python scripts/fit_safety.py

Reads examples/safety (the development half of bundles.jsonl, and teaching.jsonl) and the same half of examples/features,
writes services/mistudio_explain/validation/hazard_examples.safetensors and prints the constants of safety.py. Weights and
thresholds rest on margins from examples that did not hold the bundle itself (five parts by hash). Words of the lexicon have
no weight, for it was extended on the development half.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mistudio_explain.evaluation.data import read_sets
from mistudio_explain.evaluation.safety_set import auc, feature_identity, fitted_on, read_bundles, texts_of_bundle, texts_of_feature
from mistudio_explain.validation.contrast import Texts
from mistudio_explain.validation.hazard_examples import HARMLESS, STORED, Examples, fitted
from mistudio_explain.validation.safety import WORDS_ALONE, Lexicon, claim_direction, drawn, hazard_words_by_text, mean_direction
from mistudio_explain.validation.static_embedding import StaticEmbedding, Vectors
from mistudio_explain.validation.words import words

REPOSITORY = Path(__file__).parent.parent
PARTS = 5
SHRINKAGE = 0.3
RIDGE = 0.1
REAL_FLAGGED = 0.0425  # of the fitted half, so that the other half may stay below 0.05
ALONE = 0.005  # of the real features may be flagged by the texts' margin alone, and as many by the explanation's
AGREE = 0.85  # quantile of the real features from which a side counts as speaking of a hazard at all
HARD_CONCERNING = 0.06  # of the hard negatives of the fitted half

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A bundle or a feature, measured."""

    identity: str
    kind: str
    hazard: int
    texts: Vectors
    distinct: int
    claim: Vectors
    text_share: float
    claim_words: bool


def case(identity: str, kind: str, hazard: int, texts: Texts, said: str, lexicon: Lexicon, embedding: StaticEmbedding) -> Case:
    """Measure what does not depend on a fit."""
    found = len(hazard_words_by_text(texts, lexicon)) / texts.count if texts.count else 0.0
    distinct = len(set(texts.words))
    return Case(identity, kind, hazard, mean_direction(texts), distinct, claim_direction(said, embedding), found, bool(lexicon.found(words(said))))


def cases(lexicon: Lexicon, embedding: StaticEmbedding) -> list[Case]:
    """All that may be fitted on."""
    number = {name: place for place, name in enumerate(lexicon.classes)}
    safety = REPOSITORY / "examples" / "safety"
    bundles = [(bundle, "bundle") for bundle in read_bundles(safety / "bundles.jsonl") if fitted_on(bundle.identity)]
    bundles += [(bundle, "teaching") for bundle in read_bundles(safety / "teaching.jsonl")]
    found = []
    for bundle, kind in bundles:
        hazard = number[bundle.subject] if bundle.positive else HARMLESS
        found.append(case(bundle.identity, kind, hazard, texts_of_bundle(bundle, embedding), bundle.explanation, lexicon, embedding))
    for one in read_sets(REPOSITORY / "examples" / "features"):
        for known in one.features:
            identity = feature_identity(one.source, known)
            if fitted_on(identity):
                found.append(case(identity, "real", HARMLESS, texts_of_feature(known, embedding), known.explanation or "", lexicon, embedding))
    return found


def examples(chosen: Sequence[Case], side: str, lexicon: Lexicon) -> Examples:
    """The fitted examples of a side, from those that have a direction, as exact as they are stored."""
    vectors = [(getattr(one, side), one.hazard) for one in chosen if getattr(one, side).any()]
    stored = np.array([vector for vector, _ in vectors]).astype(np.float16).astype(np.float32)
    return fitted(stored, np.array([hazard for _, hazard in vectors]), lexicon.classes, SHRINKAGE)


def part(identity: str) -> int:
    """Which of the parts a case is left out with."""
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) % PARTS


def logistic(signs: Floats, positive: Floats) -> Floats:
    """Intercept and weights of a ridge-penalised logistic regression; both sides count the same."""
    columns = np.hstack([np.ones((len(signs), 1)), signs])
    weight = np.where(positive == 1, 0.5 / positive.mean(), 0.5 / (1 - positive.mean()))
    penalty = np.diag([1e-6, *[RIDGE] * signs.shape[1]])
    beta = np.zeros(columns.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-columns @ beta))
        slope = columns.T @ (weight * (p - positive)) + penalty @ beta
        beta -= np.linalg.solve((columns * (weight * p * (1 - p))[:, None]).T @ columns + penalty, slope)
    return beta


def main() -> None:
    """Fit, write and print."""
    embedding, lexicon = StaticEmbedding.load(), Lexicon.load()
    every = cases(lexicon, embedding)
    margins = np.zeros((len(every), 2))
    for left_out in range(PARTS):
        kept = [one for one in every if part(one.identity) != left_out]
        texts, claims = examples(kept, "texts", lexicon), examples(kept, "claim", lexicon)
        for place, one in enumerate(every):
            if part(one.identity) == left_out:
                margins[place] = drawn(texts.margin(one.texts), one.distinct), claims.margin(one.claim)
    share = np.array([one.text_share for one in every])
    spoken = np.array([one.claim_words for one in every])
    positive = np.array([float(one.hazard != HARMLESS) for one in every])
    real = np.array([one.kind == "real" for one in every])
    said = np.array([bool(one.claim.any()) for one in every])
    bundle = np.array([one.kind == "bundle" for one in every])
    hard = (positive == 0) & bundle

    def fit(name: str, columns: list[Floats], rows: NDArray[np.bool_]) -> Floats:
        signs = np.stack(columns, axis=1)
        beta = logistic(signs[rows], positive[rows]).round(2)
        print(f"{name} = ({', '.join(f'{value:.2f}' for value in beta)})")
        logit: Floats = beta[0] + signs @ beta[1:]
        print(f"#   AUC {auc(logit[(positive == 1) & bundle], logit[real & rows]):.3f} real, {auc(logit[(positive == 1) & bundle], logit[hard]):.3f} hard")
        return logit

    print(f"# {int(positive.sum())} positives, {int((positive == 0).sum() - real.sum())} hard negatives, {int(real.sum())} real features")
    t = fit("TEXTS", [margins[:, 0]], np.ones(len(every), dtype=bool))
    c = fit("CLAIM", [margins[:, 1]], said)
    both = fit("BOTH", [margins[:, 0], margins[:, 1]], said)
    both = np.where(said, both, t)
    texts_alone, claim_alone = np.quantile(t[real], 1 - ALONE), np.quantile(c[real & said], 1 - ALONE)
    worded = share >= WORDS_ALONE
    alone = (t >= texts_alone) | worded | spoken | (said & (c >= claim_alone))
    review = next(level for level in np.arange(-6, 6, 0.05) if ((both >= level) | alone)[real].mean() <= REAL_FLAGGED)
    agree_t, agree_c = np.quantile(t[real], AGREE), np.quantile(c[real & said], AGREE)
    agree = (t >= agree_t) & (c >= agree_c) & said
    concerning = next(level for level in np.arange(review, 8, 0.05) if (((both >= level) & agree) | (worded & spoken))[hard].mean() <= HARD_CONCERNING)
    for name, value in zip(
        ("REVIEW", "TEXTS_ALONE", "CLAIM_ALONE", "CONCERNING", "TEXTS_AGREE", "CLAIM_AGREES"),
        (review, texts_alone, claim_alone, concerning, agree_t, agree_c),
        strict=True,
    ):
        print(f"{name} = {value:.2f}")
    flagged, concerned = (both >= review) | alone, ((both >= concerning) & agree) | (worded & spoken)
    for name, rows in (
        ("positives of the set", (positive == 1) & bundle),
        ("positives to teach", (positive == 1) & ~bundle),
        ("hard negatives", hard),
        ("real", real),
    ):
        print(f"# {name}: flagged {flagged[rows].mean():.3f}, concerning {concerned[rows].mean():.3f}")

    tensors: dict[str, NDArray[np.generic]] = {}
    for side, attribute in (("texts", "texts"), ("claims", "claim")):
        kept_examples = examples(every, attribute, lexicon)
        tensors[f"{side}.vectors"] = kept_examples.vectors.astype(np.float16)
        tensors[f"{side}.weights"] = kept_examples.weights
        tensors[f"{side}.hazard"] = kept_examples.hazard.astype(np.int8)
    save_file(tensors, REPOSITORY / "services/mistudio_explain/validation" / STORED)


if __name__ == "__main__":
    main()
