import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.intake.computed import coherence, completed, keywords, words


def jaccard(one: str, other: str) -> float:
    first, second = set(words(one)), set(words(other))
    return len(first & second) / len(first | second) if first | second else 0.0


@given(st.lists(st.text(alphabet="ab c\n", max_size=12), min_size=2, max_size=8))
def test_coherence_is_the_mean_jaccard_similarity_of_all_pairs_of_texts(texts: list[str]) -> None:
    pairs = list(itertools.combinations(texts, 2))
    assert coherence(texts) == pytest.approx(sum(jaccard(*pair) for pair in pairs) / len(pairs))


def test_fewer_than_two_texts_have_no_coherence() -> None:
    assert coherence(["only one"]) is None


def test_keywords_are_words_of_three_letters_that_stand_in_two_texts_and_thirty_percent() -> None:
    texts = ["the cat sat", "The cat ran", "a dog is up", "a bird is up", "one", "two", "three"]
    assert keywords(texts) == []
    assert keywords(texts[:4]) == ["the", "cat"]


def test_what_the_source_states_is_neither_computed_again_nor_marked() -> None:
    feature = FeatureFound(
        target_model="m", find_job_id="f", feature_id="1", coherence_score=0.9, top_activations=[Activation(text="the cat sat"), Activation(text="the cat ran")]
    )
    filled = completed(feature)
    assert (filled.coherence_score, filled.stated_coherence, filled.computed, filled.pattern_keywords) == (0.9, 0.9, ["pattern_keywords"], ["the", "cat"])
