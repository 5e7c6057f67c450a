"""Which features a replay reads, and over which offsets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.events.job import Coordinates, ReplayPart
from mistudio_explain.events.topics import FEATURES
from mistudio_explain.replay.stage import NEAR, Place, Selection, identity_of, runs, select

offsets = st.lists(st.integers(0, 5_000), unique=True, min_size=1).map(sorted)


@given(offsets, st.integers(0, 500))
def test_runs_hold_every_wanted_offset_and_no_gap_wider_than_what_is_near(wanted: list[int], near: int) -> None:
    found = runs(wanted, near)
    assert all(run.start in wanted and run.end - 1 in wanted for run in found)
    assert all(any(run.start <= offset < run.end for run in found) for offset in wanted)
    assert all(after.start - before.end > near for before, after in pairwise(found))
    for run in found:
        inside = [offset for offset in wanted if run.start <= offset < run.end]
        assert all(b - a - 1 <= near for a, b in pairwise(inside))


def test_features_that_stand_together_are_one_run() -> None:
    assert runs(range(1000)) == [(0, 1000)]
    assert runs([0, NEAR + 1]) == [(0, NEAR + 2)]
    assert runs([0, NEAR + 2]) == [(0, 1), (NEAR + 2, NEAR + 3)]


keys = st.sampled_from([str(n) for n in range(8)])
kinds = st.dictionaries(keys, st.tuples(st.sampled_from(OutcomeKind), st.sampled_from([None, 0.25, 0.75])))


def outcome(key: str, kind: OutcomeKind, quality: float | None) -> FeatureOutcome:
    source = Coordinates(topic=FEATURES, partition=1, offset=int(key))
    return FeatureOutcome(outcome=kind, subject=Subject(explain_job_id="j", feature_key=key, source=source), quality_score=quality)


@given(st.sets(keys), kinds, st.sets(keys), st.booleans(), st.sampled_from([None, "quality<0.5"]))
def test_every_condition_of_an_order_counts(
    admitted: set[str], ended: dict[str, tuple[OutcomeKind, float | None]], named: set[str], failed: bool, where: str | None
) -> None:
    part = ReplayPart(from_job="f", features=sorted(named), failed_only=failed, where=where)
    sources = [(key, Place(FEATURES, 0, int(key))) for key in admitted]
    found = select(part, sources, [outcome(key, kind, quality) for key, (kind, quality) in ended.items()])
    fits = {
        key
        for key in admitted | set(ended)
        if (not failed or (key in ended and ended[key][0] is OutcomeKind.FAILED))
        and (where is None or (key in ended and ended[key][1] == 0.25))
        and (not named or key in named)
    }
    assert set(found.places) == fits
    assert all(place.partition == (0 if key in admitted else 1) for key, place in found.places.items())
    assert set(found.unlocated) == (named - admitted - set(ended) if not failed and where is None else set())


@given(st.dictionaries(keys, st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1), st.integers(0, 99)), max_size=8))
def test_partitions_hold_every_place_in_rising_order(found: dict[str, tuple[str, int, int]]) -> None:
    places = {key: Place(*at) for key, at in found.items()}
    if len(set(places.values())) < len(places):
        return
    grouped = Selection(places).partitions()
    assert {Place(*at, offset) for at, features in grouped.items() for offset in features} == set(places.values())
    assert all(list(features) == sorted(features) for features in grouped.values())
    assert all(places[key] == Place(*at, offset) for at, features in grouped.items() for offset, key in features.items())


@given(
    st.text(min_size=1, max_size=20),
    st.from_regex(r"[a-z0-9/ ]{1,20}", fullmatch=True),
    st.none() | st.from_regex(r"[a-z0-9/ ]{1,20}", fullmatch=True),
    st.text(max_size=50),
)
def test_the_identity_in_a_features_bytes_is_the_features(model: str, feature_id: str, source_id: str | None, text: str) -> None:
    feature = FeatureFound(target_model=model, find_job_id="find_1", feature_id=feature_id, source_id=source_id, top_activations=[Activation(text=text)])
    try:
        value = encode(feature)
    except MalformedEvent:  # a lone surrogate, which no event holds
        return
    found = identity_of(value)
    assert found is not None
    assert (found.target_model, found.find_job_id, found.feature_key) == (model, "find_1", feature.feature_key)
    assert identity_of(value[:14]) is None


@given(st.none() | st.binary(max_size=40))
def test_bytes_that_are_no_feature_have_no_identity(value: bytes | None) -> None:
    assert identity_of(value) is None
