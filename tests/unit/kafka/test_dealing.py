"""Each lane is dealt evenly, and little changes hands."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.kafka.dealing import Dealing, deal

A, B = "prompts.a", "prompts.b"


def dealt(topics: dict[str, int], *members: str, held: dict[str, dict[str, list[int]]] | None = None) -> dict[str, dict[str, list[int]]]:
    now = {member: (held or {}).get(member, {}) for member in members}
    return deal({topic: list(range(count)) for topic, count in topics.items()}, now, {key: list(topics) for key in members})


def moved(before: dict[str, dict[str, list[int]]], after: dict[str, dict[str, list[int]]], topic: str) -> int:
    return sum(len(set(mine.get(topic, [])) - set(after.get(member, {}).get(topic, []))) for member, mine in before.items())


def test_a_worker_that_comes_takes_its_share_of_every_lane_and_nothing_else_moves() -> None:
    topics = {A: 12, B: 12}
    before = dealt(topics, "1", "2", "3")
    after = dealt(topics, "1", "2", "3", "4", held=before)
    assert {member: {topic: len(mine) for topic, mine in has.items()} for member, has in after.items()} == {key: {A: 3, B: 3} for key in "1234"}
    assert moved(before, after, A) == moved(before, after, B) == 3


def test_the_partitions_of_a_worker_that_goes_are_all_that_moves() -> None:
    before = dealt({A: 12}, "1", "2", "3", "4")
    after = dealt({A: 12}, "1", "2", "4", held=before)
    assert moved({name: has for name, has in before.items() if name != "3"}, after, A) == 0
    assert {len(has[A]) for has in after.values()} == {4}


def test_the_partitions_that_do_not_divide_go_to_different_workers_in_different_lanes() -> None:
    after = dealt({A: 6, B: 6}, "1", "2", "3", "4")
    assert [sum(map(len, has.values())) for has in after.values()] == [3, 3, 3, 3]


def test_more_workers_than_partitions_leave_some_without_any() -> None:
    assert sorted(len(has.get(A, [])) for has in dealt({A: 2}, "1", "2", "3").values()) == [0, 1, 1]


def test_a_consumer_says_what_it_was_given() -> None:
    first, second = Dealing(), Dealing()
    cluster = type("Cluster", (), {"partitions_for_topic": staticmethod(lambda _: {0, 1, 2, 3})})()
    alone = first.assign(cluster, {"1": first.metadata([A])})
    first.on_assignment(alone["1"])
    both = second.assign(cluster, {"1": first.metadata([A]), "0": second.metadata([A])})
    assert both["1"].assignment == [(A, [0, 1])]
    assert both["0"].assignment == [(A, [2, 3])]


_NAMES = st.sets(st.sampled_from("abcdefgh"), min_size=1)


@given(
    topics=st.dictionaries(st.sampled_from([A, B]), st.integers(1, 13), min_size=1),
    before=_NAMES,
    after=_NAMES,
    claims=st.dictionaries(st.sampled_from("abcdefgh"), st.fixed_dictionaries({A: st.lists(st.integers(0, 15))})),
)
def test_whatever_members_claim_every_partition_has_one_owner_and_every_lane_is_even(
    topics: dict[str, int], before: set[str], after: set[str], claims: dict[str, dict[str, list[int]]]
) -> None:
    held = dealt(topics, *before) | claims
    result = dealt(topics, *after, held=held)
    for topic, count in topics.items():
        assert sorted(partition for has in result.values() for partition in has.get(topic, [])) == list(range(count))
        shares = [len(has.get(topic, [])) for has in result.values()]
        assert max(shares) - min(shares) <= 1
