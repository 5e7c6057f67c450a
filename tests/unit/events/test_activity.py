"""Which words a feature fires on."""

from mistudio_explain.events.activity import ACTIVE_WORDS, active_words, distinct_words, promoted_words
from mistudio_explain.events.feature import Activation, ActiveToken, Logit


def test_a_token_inside_a_word_stands_for_the_whole_word() -> None:
    named = Activation(text="\nFifty-seven percent", active_tokens=[ActiveToken(token="ifty", strength=1.0)])
    by_value = Activation(text="He was thrifty.", tokens=["He", " was", " thr", "ifty", "."], token_activations=[0.0, 0.0, 0.0, 2.0, 0.0])
    assert active_words(named) == ["Fifty"]
    assert active_words(by_value) == ["thrifty"]


def test_tokens_far_below_the_peak_are_left_out_and_each_word_stands_once() -> None:
    text = Activation(text="a b c b", tokens=["a", " b", " c", " b"], token_activations=[1.0, 10.0, 2.9, 9.0])
    assert active_words(text) == ["b"]


def test_marks_for_spaces_are_no_part_of_a_word() -> None:
    assert active_words(Activation(text="x", tokens=["Ġthe", "Ġcat"], token_activations=[0.0, 1.0])) == ["cat"]
    assert promoted_words([Logit(token="▁dog", value=1.0), Logit(token="cat", value=2.0), Logit(token="never", value=-9.0)]) == ["cat", "dog"]


def test_nothing_is_known_where_the_source_names_no_token_or_one_that_the_text_has_not() -> None:
    assert active_words(Activation(text="plain")) == []
    assert active_words(Activation(text="plain", peak="absent")) == []
    assert active_words(Activation(text="a", tokens=["a"], token_activations=[0.0])) == []
    assert promoted_words(None) == []


def test_the_words_of_one_text_and_of_several_are_bounded() -> None:
    many = Activation(text=" ".join(f"w{n}" for n in range(50)), tokens=[f" w{n}" for n in range(50)], token_activations=[1.0] * 50)
    assert len(active_words(many)) == ACTIVE_WORDS
    assert distinct_words([["a", "b"], ["b", "c", "d"]], 3) == ["a", "b", "c"]
