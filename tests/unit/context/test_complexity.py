"""How hard features look: the parts, Find's own score, and how it fares on real features beside labels."""

from collections import Counter
from functools import cache
from typing import get_args

import pytest
from benchmarks.complexity import Looked, labels, looked_at

from mistudio_explain.context.complexity import complexity_of, parts, score
from mistudio_explain.context.passages import passages_of
from mistudio_explain.events.explanation import Category, Complexity
from mistudio_explain.events.feature import Activation

REASONABLE = 40  # features of a source from which its distribution says something


@cache
def real() -> tuple[Looked, ...]:
    return tuple(looked_at())


def passages(*texts: str, peaks: tuple[str | None, ...] = ()) -> list:
    given = peaks or (None,) * len(texts)
    return passages_of([Activation(text=text, peak=peak) for text, peak in zip(texts, given, strict=True)])


def test_one_word_that_fires_everywhere_is_easy_and_different_ones_that_share_nothing_are_hard() -> None:
    easy = passages("the suffering of many", "their suffering went on", "such suffering ends", peaks=("suffering",) * 3)
    hard = passages("an old house", "they went away", "no one said more", peaks=("old", "went", "said"))
    assert complexity_of(None, Category.OTHER, easy) == "low"
    assert complexity_of(None, Category.OTHER, hard) == "high"


def test_parts_that_the_input_says_nothing_of_are_left_out_of_the_mean() -> None:
    unmarked = passages("an old house", "they went away")
    assert set(parts(Category.OTHER, unmarked)) == {"diversity", "category"}
    assert set(parts(Category.OTHER, unmarked[:1])) == {"category"}
    assert score(Category.OTHER, unmarked[:1]) == pytest.approx(0.25)


def test_behaviour_is_harder_than_dates_where_the_texts_are_alike() -> None:
    same = passages("monday at noon", "monday at nine")
    assert score(Category.BEHAVIORAL, same) > score(Category.TEMPORAL, same)


@pytest.mark.parametrize(("given", "expected"), [(0.0, "low"), (0.33, "low"), (0.34, "medium"), (0.66, "medium"), (0.67, "high"), (1.0, "high")])
def test_find_s_own_score_counts_where_there_is_one_in_thirds(given: float, expected: str) -> None:
    assert complexity_of(given, Category.OTHER, passages("a b c", "d e f")) == expected


def test_29_of_40_labels_agree_and_two_are_taken_for_their_opposite() -> None:
    label = labels()
    judged = [(label[one.source, one.key], one.complexity) for one in real() if (one.source, one.key) in label]
    assert len(judged) == len(label) == 40
    assert sum(wanted == got for wanted, got in judged) >= 29
    assert sum({wanted, got} == {"low", "high"} for wanted, got in judged) <= 2


def test_no_source_of_reasonable_size_is_all_of_one_class() -> None:
    sources = {source: Counter(one.complexity for one in real() if one.source == source) for source in {one.source for one in real()}}
    large = {source: counted for source, counted in sources.items() if counted.total() >= REASONABLE}
    assert len(large) == 4
    for source, counted in large.items():
        assert set(counted) == set(get_args(Complexity)), source
        assert max(counted.values()) <= 0.8 * counted.total(), (source, counted)
