"""What miStudioFind computes from a feature's texts, for sources that do not give it.

Both formulas are miStudioFind's own. A feature says in `computed` which of the two were filled in here.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mistudio_explain.events.feature import FeatureFound

LEAST_KEYWORD = 3  # characters
KEYWORD_SHARE = 0.3  # of the texts
KEYWORDS = 5


def words(text: str) -> list[str]:
    """A text's words as miStudioFind sees them: lower case, between blanks."""
    return text.lower().split()


def coherence(texts: Sequence[str]) -> float | None:
    """The mean Jaccard similarity of all pairs of texts, as sets of words, 0 to 1; None for fewer than two texts.

    Two texts without a word have nothing in common: 0.
    """
    if len(texts) < 2:
        return None
    columns: dict[str, int] = {}
    sets = [{columns.setdefault(word, len(columns)) for word in words(text)} for text in texts]
    has = np.zeros((len(sets), max(1, len(columns))), dtype=np.float32)
    for row, there in enumerate(sets):
        has[row, list(there)] = 1
    shared = has @ has.T  # counts of common words, exact in 32 bits far beyond any text's length
    sizes = shared.diagonal()
    first, second = np.triu_indices(len(sets), k=1)
    common = shared[first, second].astype(np.float64)
    either = sizes[first] + sizes[second] - common
    return float(np.divide(common, either, out=np.zeros_like(common), where=either > 0).mean())


def keywords(texts: Sequence[str]) -> list[str]:
    """Up to 5 words of 3 letters or more that stand in 2 texts or more and in 30% of them.

    The most frequent come first; equally frequent ones in the order in which the texts have them, which miStudioFind
    leaves to chance. There are no stop words.
    """
    counts = Counter(itertools.chain.from_iterable(dict.fromkeys(words(text)) for text in texts))
    enough = max(2, KEYWORD_SHARE * len(texts))
    return [word for word, count in counts.most_common() if len(word) >= LEAST_KEYWORD and count >= enough][:KEYWORDS]


def completed(feature: FeatureFound) -> FeatureFound:
    """Fill in the coherence and the keywords that the source does not give, as far as the texts allow, and mark them as computed."""
    texts = [activation.text for activation in feature.top_activations]
    filled: dict[str, object] = {}
    if feature.coherence_score is None and (score := coherence(texts)) is not None:
        filled["coherence_score"] = score
    if not feature.pattern_keywords and (found := keywords(texts)):
        filled["pattern_keywords"] = found
    return feature.model_copy(update={**filled, "computed": sorted({*feature.computed, *filled})}) if filled else feature
