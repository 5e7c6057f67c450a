"""An explanation that one text alone bears out is not confirmed."""

import numpy as np
import pytest

from mistudio_explain.validation.accuracy import Signals
from mistudio_explain.validation.contrast import Claim, Texts
from mistudio_explain.validation.static_embedding import StaticEmbedding
from mistudio_explain.validation.support import rests_on_one_text, shared

ALL_IN_ONE = np.array([0.0, 1.0, 0.0, 0.0])


def signals(lexical: list[float], static: float) -> Signals:
    return Signals({"bm25_z": np.array(lexical), "static_z": np.full(len(lexical), static)}, {})


def test_one_text_with_all_the_words_among_texts_without_any_is_no_support() -> None:
    assert rests_on_one_text(signals([-0.2, 80.0, -0.1, 0.0], static=0.0), ALL_IN_ONE)
    assert rests_on_one_text(signals([-0.2, 15.0, -0.1, 0.0], static=0.0), ALL_IN_ONE)


def test_a_single_word_met_by_chance_in_one_text_is_not_taken_for_an_order() -> None:
    one_of_five = ALL_IN_ONE / 5
    assert not rests_on_one_text(signals([-0.2, 15.0, -0.1, 0.0], static=0.0), one_of_five)
    assert rests_on_one_text(signals([-0.2, 80.0, -0.1, 0.0], static=0.0), one_of_five)


def test_shared_words_are_counted_over_all_passages_of_a_text() -> None:
    embedding = StaticEmbedding.load()
    texts = Texts.of([["rivers of the north", "in Siberia"], ["a piano"]], embedding)
    assert shared(Claim.of("Rivers in Siberia", embedding), texts).tolist() == [1.0, 0.0]
    assert shared(Claim.of("Various words", embedding), texts).tolist() == [0.0, 0.0]  # nothing telling to share


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
    assert not rests_on_one_text(measured, np.eye(len(measured.by_text["bm25_z"]))[0] if measured.n < 4 else ALL_IN_ONE)
