"""However servers and workers come and go, every server has one driver, and every worker its due."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.store.leases import divide

URLS = [f"http://10.0.0.{number}" for number in range(6)]
found = st.lists(st.sampled_from(URLS), unique=True).map(sorted)
workers = st.integers(1, 8).map(lambda count: [f"w{number}" for number in range(count)])


def after_turns(servers: list[str], names: list[str], leased: dict[str, str], turns: int) -> dict[str, str]:
    """The leases after every worker has had some turns, each giving back what it has to."""
    for _ in range(turns):
        for worker in names:
            mine = [url for url, holder in sorted(leased.items()) if holder == worker]
            division = divide(servers, leased, mine, names, worker)
            assert not set(division.taken) & leased.keys()
            leased.update(dict.fromkeys(division.taken, worker))
            for url in division.surplus:
                del leased[url]
    return leased


@given(servers=found, names=workers, before=st.dictionaries(st.sampled_from(URLS), st.integers(0, 7).map(lambda number: f"w{number}")))
def test_every_server_gets_a_driver_and_no_worker_two_more_than_another(servers: list[str], names: list[str], before: dict[str, str]) -> None:
    leased = after_turns(servers, names, {url: worker for url, worker in before.items() if worker in names}, turns=3)
    assert sorted(leased) == servers
    counts = [list(leased.values()).count(name) for name in names]
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)  # those that came last wait


@given(servers=found, names=workers)
def test_nothing_changes_hands_while_nothing_changes(servers: list[str], names: list[str]) -> None:
    settled = after_turns(servers, names, {}, turns=3)
    assert after_turns(servers, names, dict(settled), turns=1) == settled


@given(servers=found, names=workers, newcomer=st.just("zz"))
def test_a_newcomer_gets_only_what_others_have_too_much(servers: list[str], names: list[str], newcomer: str) -> None:
    before = after_turns(servers, names, {}, turns=3)
    after = after_turns(servers, [*names, newcomer], dict(before), turns=3)
    moved = [url for url in servers if before[url] != after[url]]
    assert len(moved) == list(after.values()).count(newcomer)
