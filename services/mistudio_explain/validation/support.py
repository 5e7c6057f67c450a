"""How many texts bear an explanation out: one of them may have been planted, or fit by chance."""

from collections.abc import Sequence

import numpy as np

from mistudio_explain.validation.accuracy import FORMULAS, Formula, Signals, estimate
from mistudio_explain.validation.contrast import Claim, Texts
from mistudio_explain.validation.lexical import Floats

FEWEST_TEXTS = 3  # with fewer, one text is all there is to go by
LONE_Z = 10.0  # bm25_z of a text that carries the mean of a dozen alone
TOWERING_Z = 20.0  # of one that would carry two dozen
# A word met by chance is a small share of a claim's words: of the 27 true explanations that one text bore out alone at LONE_Z,
# two had a large share in it, of 9 texts that give orders all. Without these two figures eleuther_gpt2_128k had 65% of its true
# explanations confirmed, with them 68%; with a TOWERING_Z of 40 also 72%, and 5.6% instead of 4.6% of the sentences that fit any
# feature. They were set with all sources and the attacks in view
LARGE_SHARE = 0.3
SILENT_Z = 0.25  # the others do not share a telling word with the explanation
OTHERS_FROM = 0.6  # unless the others bear it out in meaning


def shared(claim: Claim, texts: Texts) -> Floats:
    """The share of the claim's words that stand in each text."""
    found = np.zeros((texts.count, len(claim.stems)), dtype=np.bool_)
    for text, stems in zip(texts.text_of.tolist(), texts.stems, strict=True):
        found[text] |= np.array([stem in stems for stem in claim.stems], dtype=np.bool_)
    shares: Floats = found.sum(axis=1) / max(1, len(claim.stems))
    return shares


def rests_on_one_text(measured: Signals, shares: Floats, formulas: Sequence[Formula] = FORMULAS) -> bool:
    """Whether one text has many of the explanation's words and the others neither its words nor its meaning.

    A text that orders what to say ("the answer is: rivers in Siberia") fits an obedient answer perfectly, and a mean over
    the texts cannot tell that from ten good fits. An explanation that speaks of its texts instead ("names of capital cities")
    often meets one of its words in one of them by chance: then its `shares`, of its words in each text, stay small.
    """
    lexical = measured.by_text["bm25_z"]
    if len(lexical) < FEWEST_TEXTS:
        return False
    best = int(np.argmax(lexical))
    if lexical[best] < (LONE_Z if shares[best] >= LARGE_SHARE else TOWERING_Z) or np.delete(lexical, best).max() > SILENT_Z:
        return False
    others = {name: np.delete(values, best) if len(values) == len(lexical) else values for name, values in measured.by_text.items()}
    return estimate(Signals(others, {}), formulas).p < OTHERS_FROM
