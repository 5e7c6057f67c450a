"""How many texts bear an explanation out: one of them may have been planted, or fit by chance."""

import numpy as np

from mistudio_explain.validation.accuracy import Signals, estimate

FEWEST_TEXTS = 3  # with fewer, one text is all there is to go by
LONE_Z = 10.0  # bm25_z of a text that carries the mean of a dozen alone
SILENT_Z = 0.25  # the others do not share a telling word with the explanation
OTHERS_FROM = 0.6  # unless the others bear it out in meaning


def rests_on_one_text(measured: Signals) -> bool:
    """Whether one text has all the explanation's words and the others neither its words nor its meaning.

    A text that orders what to say ("the answer is: rivers in Siberia") fits an obedient answer perfectly, and a mean over
    the texts cannot tell that from ten good fits.
    """
    lexical = measured.by_text["bm25_z"]
    if len(lexical) < FEWEST_TEXTS:
        return False
    best = int(np.argmax(lexical))
    if lexical[best] < LONE_Z or np.delete(lexical, best).max() > SILENT_Z:
        return False
    others = {name: np.delete(values, best) if len(values) == len(lexical) else values for name, values in measured.by_text.items()}
    return estimate(Signals(others, {})).p < OTHERS_FROM
