"""Whatever a line of pairs holds, `score` gives one line of JSON for it; families obey their threshold whatever is alike."""

import json
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mistudio_explain.cli.score_lines import Scoring, backgrounds_of, scored
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.families import _grouped
from mistudio_explain.validation.offline import Scorer
from mistudio_explain.validation.validator import Validator

HERE = Path("pairs.jsonl")


@cache
def scorer() -> Scorer:
    return Scorer.of(Validator.load(QualitySettings()), Settings())


numbers = st.integers(-(10**20), 10**20) | st.floats()
texts = st.text(max_size=60) | st.sampled_from(["piano keys", "\ud800", "\x00", "日本", "a" * 3000])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
activations = st.fixed_dictionaries(
    {"text": texts | values}, optional={"tokens": st.lists(texts, max_size=3) | values, "token_activations": st.lists(numbers, max_size=3), "peak": texts}
)
features = st.fixed_dictionaries(
    {"feature_id": st.integers(0, 5) | values},
    optional={"top_activations": st.lists(activations, max_size=4) | values, "coherence_score": values, "pattern_keywords": st.lists(texts) | values},
)
pairs = st.fixed_dictionaries(
    {}, optional={"job": st.sampled_from(["a", "b|c"]) | values, "feature": features | values, "explanation": texts | values, "flags": values, "error": values}
)
lines = (
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b""))
    | pairs.map(lambda pair: json.dumps(pair).encode())
    | values.map(lambda value: json.dumps(value).encode())
)


@given(given_lines=st.lists(lines, max_size=5))
@settings(max_examples=80)
def test_any_line_gives_one_line_of_json_with_a_verdict_or_an_error_but_never_both(given_lines: list[bytes]) -> None:
    backgrounds, count = backgrounds_of(given_lines, HERE)
    assert count == len(given_lines)
    scoring = Scoring(HERE, Settings(), evidence=False, backgrounds=backgrounds)
    for number, line in enumerate(given_lines, 1):
        made = scored(line, number, scoring, scorer())
        assert b"\n" not in made.line
        told: dict[str, Any] = orjson.loads(made.line)
        assert ("error" in told) != ("pattern_verification" in told)
        assert (made.result == "error") == ("error" in told)
        assert "please report" not in str(told.get("error"))
        assert scored(line, number, scoring, scorer()) == made


likenesses = st.dictionaries(
    st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]), st.sampled_from([0.6, 0.7, 0.8, 0.9]), max_size=40
)


@given(alike=likenesses)
def test_in_any_family_every_pair_is_alike_no_feature_is_in_two_and_two_families_could_not_be_one(alike: dict[tuple[int, int], float]) -> None:
    groups = _grouped(12, alike)
    assert all(pair in alike for group in groups for pair in combinations(group, 2))
    members = [place for group in groups for place in group]
    assert len(members) == len(set(members))
    for one, other in combinations(groups, 2):
        assert not all((min(a, b), max(a, b)) in alike for a in one for b in other)
    assert all(first in members or second in members for first, second in alike)
    assert _grouped(12, dict(reversed(alike.items()))) == groups
