"""Consistency: how much of an explanation the feature's texts and category bear out."""

import numpy as np

from mistudio_explain.events.explanation import Category, Score
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.words import stem

WEIGHTS = {"grounded": 0.5, "covered": 0.3, "category": 0.2}

CATEGORY_WORDS = {
    Category.TECHNICAL: """api json xml html css schema code coding program programming function variable class method syntax parameter database query server
        software algorithm url http regex compiler debug file script command library data numeric mathematical equation""",
    Category.CONVERSATIONAL: "chat conversation dialogue user assistant question answer reply greeting request role speaker speech quote interview comment",
    Category.BEHAVIORAL: "tool capability behavior behaviour refuse refusal comply instruction assess plan decide intention deceive persuade help advice goal",
    Category.TEMPORAL: "time date day week month year hour minute schedule calendar deadline century season temporal duration period future past",
}
"""Words that name a category when an explanation uses them; the design's descriptions, spelled out by hand."""

_CATEGORY_OF = {stem(word): category for category, listed in CATEGORY_WORDS.items() for word in listed.split()}


def consistency(claim: Claim, texts: Texts, contrast: Contrast, place: int | None, category: Category) -> Score | None:
    """The weighted mean of the sub-scores that can be computed, each 0 to 1; None when the claim or the texts have no words.

    grounded: share of the claim's words that stand in the texts, rare words counting more (idf of the background).
    covered: share of the texts with at least one of the claim's words. category: 1 when the claim's words name the
    feature's category, 0 when they name others only; absent when they name none or the category is `other`.
    """
    if not claim.stems or texts.wordless:
        return None
    rarity = contrast.index.idf(claim.stems, place)
    present = np.array([any(stem in passage for passage in texts.stems) for stem in claim.stems])
    hit = np.array([any(stem in passage for stem in claim.stems) for passage in texts.stems], dtype=np.float64)
    parts = {"grounded": float(rarity[present].sum() / rarity.sum()), "covered": float((texts.mean_by_text(hit) > 0).mean())}
    if (agrees := _agrees(claim, category)) is not None:
        parts["category"] = float(agrees)
    weight = sum(WEIGHTS[name] for name in parts)
    return Score(value=min(1.0, sum(WEIGHTS[name] * part for name, part in parts.items()) / weight), parts=parts)


def _agrees(claim: Claim, category: Category) -> bool | None:
    named = {_CATEGORY_OF[stem] for stem in claim.stems if stem in _CATEGORY_OF}
    return None if category is Category.OTHER or not named else category in named
