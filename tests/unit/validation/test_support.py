"""An explanation that one text alone bears out is not confirmed."""

import numpy as np
import pytest

from mistudio_explain.validation.accuracy import Signals
from mistudio_explain.validation.support import rests_on_one_text


def signals(lexical: list[float], static: float) -> Signals:
    return Signals({"bm25_z": np.array(lexical), "static_z": np.full(len(lexical), static)}, {})


def test_one_text_with_all_the_words_among_texts_without_any_is_no_support() -> None:
    assert rests_on_one_text(signals([-0.2, 80.0, -0.1, 0.0], static=0.0))


@pytest.mark.parametrize(
    "measured",
    [
        signals([-0.2, 80.0, 3.0, 0.0], static=0.0),  # another text has the words too
        signals([-0.2, 80.0, -0.1, 0.0], static=4.0),  # the others mean the same
        signals([-0.2, 5.0, -0.1, 0.0], static=0.0),  # no text stands out
        signals([80.0, -0.1], static=0.0),  # too few texts to tell
        signals([80.0], static=0.0),
    ],
)
def test_other_texts_that_agree_are_support(measured: Signals) -> None:
    assert not rests_on_one_text(measured)
