"""The contrast sample of a find job."""

import hashlib
import time

import pytest

from mistudio_explain.context.background import COUNTED, SAMPLE, TEXT_CHARACTERS, empty, freeze, include
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.job import JobBackground
from unit.context.finding import found

EMPTY = empty("find_1", "default", "gpt2")


def features(count: int, expected: int | None = None) -> list[FeatureFound]:
    request = JobRequest(explain_job_id="explain_1", expected=expected)
    return [found(f"text of {number}", feature_id=str(number), request=request) for number in range(count)]


def keys(background: JobBackground) -> list[str]:
    return [feature.feature_key for feature in background.sample]


def test_the_sample_is_the_64_features_with_the_smallest_hash() -> None:
    background = include(EMPTY, features(300))
    smallest = sorted((str(number) for number in range(300)), key=lambda key: hashlib.sha256(f"find_1|{key}".encode()).digest())[:SAMPLE]
    assert keys(background) == smallest
    assert (background.distinct, background.frozen) == (300, False)


def test_only_the_first_512_different_features_count() -> None:
    background = include(EMPTY, features(700))
    assert background.frozen
    assert background.distinct == COUNTED
    assert all(int(key) < COUNTED for key in keys(background))
    assert background.seen == b""
    assert include(background, features(800)) is background


def test_the_background_freezes_at_the_count_that_a_request_expects() -> None:
    whole = features(20, expected=20)
    assert not include(EMPTY, whole[:19]).frozen
    background = include(EMPTY, whole)
    assert (background.frozen, background.distinct, len(background.sample)) == (True, 20, 20)


def test_a_seal_freezes_when_all_were_read_and_not_before() -> None:
    background = include(EMPTY, features(20))
    assert freeze(background, 21) is background
    frozen = freeze(background, 20)
    assert (frozen.frozen, frozen.seen, keys(frozen)) == (True, b"", keys(background))
    assert frozen.version > background.version


def test_the_order_among_versions_grows_with_the_count_and_the_freeze() -> None:
    open_ones = [include(EMPTY, features(count)) for count in (1, 2, 511)]
    versions = [background.version for background in (*open_ones, freeze(include(EMPTY, features(1)), 1))]
    assert versions == sorted(set(versions))


def test_seen_features_are_kept_as_8_bytes_of_their_hash_in_log_order() -> None:
    background = include(EMPTY, features(3))
    assert background.seen == b"".join(hashlib.sha256(f"find_1|{key}".encode()).digest()[:8] for key in "012")


def test_a_repeated_feature_changes_nothing_even_with_other_texts() -> None:
    background = include(EMPTY, features(10))
    assert include(background, features(10)) is background
    assert include(background, [found("something else", feature_id="3")]) is background


def test_a_feature_brings_keywords_and_5_short_texts_evenly_over_the_ranks() -> None:
    texts = [Activation(text=f"{rank} " + "x " * 300 + f"PEAK{rank} " + "y " * 300, peak=f"PEAK{rank}") for rank in range(20)]
    (sampled,) = include(EMPTY, [found(top_activations=texts, pattern_keywords=["a", "b"])]).sample
    assert sampled.keywords == ["a", "b"]
    assert [text[text.index("PEAK") :].split()[0] for text in sampled.texts] == ["PEAK0", "PEAK5", "PEAK10", "PEAK14", "PEAK19"]
    assert all(len(text) <= TEXT_CHARACTERS for text in sampled.texts)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_a_feature_without_texts_is_counted_and_has_none(texts: list[str]) -> None:
    background = include(EMPTY, [found(top_activations=[Activation(text=text) for text in texts])])
    assert (background.distinct, background.sample[0].texts) == (1, [])


def test_512_features_one_by_one_cost_less_than_a_second() -> None:
    whole = features(512)
    background = EMPTY
    started = time.process_time()
    for feature in whole:
        background = include(background, [feature])
    assert time.process_time() - started < 1.0  # measured 0.05 s: converting the event once a batch is all there is
