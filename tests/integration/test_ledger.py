"""The ledger under kills and replicas: on real SQLite and real PostgreSQL its caps hold exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.budget import run

from integration.real_postgres import RealPostgres
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.ledger import Caps, Destination, Ledger

CAPS = Caps(features=2, micro=1000)
TO = Destination("cloud", "https://example.org/v1", "m")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StoreSettings]:
    """Makes the settings of an empty store."""
    if request.param == "sqlite":
        return lambda: StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store


@pytest.fixture
def ledger(new_store: Callable[[], StoreSettings]) -> Ledger:
    return Ledger(new_store())


async def reserve(ledger: Ledger, feature: str, *, revision: int = 1, caps: Caps = CAPS) -> str | None:
    return await ledger.reserve("job", feature, revision=revision, call_micro=100, calls=3, caps=caps)


async def test_a_feature_above_the_share_is_refused_and_one_asked_for_again_is_not(ledger: Ledger) -> None:
    assert [await reserve(ledger, name) for name in ("a", "b", "c", "a")] == [None, None, "share", None]
    assert await ledger.reserve("other", "c", revision=1, call_micro=100, calls=3, caps=Caps(2, 1000)) is None
    ledger.close()


async def test_a_feature_that_was_sent_in_an_earlier_revision_is_not_sent_again(ledger: Ledger) -> None:
    assert await reserve(ledger, "a") is None
    assert await reserve(ledger, "a", revision=2) == "escalated_before"
    ledger.close()


async def test_an_unsettled_reservation_counts_whole_and_a_settled_one_as_what_it_cost(ledger: Ledger) -> None:
    caps = Caps(features=10, micro=599)
    assert await reserve(ledger, "a", caps=caps) is None
    assert await reserve(ledger, "b", caps=caps) == "usd"
    assert await ledger.begin("job", "a", TO, most_micro=100)
    await ledger.finish("job", "a", TO, micro=40)
    assert ledger.counted("job") == {"a": 300}
    await ledger.settle("job", "a")
    assert ledger.counted("job") == {"a": 40}
    assert await reserve(ledger, "b", caps=caps) is None
    ledger.close()


async def test_a_call_that_never_came_back_counts_as_the_most_it_can_have_cost(ledger: Ledger) -> None:
    await reserve(ledger, "a")
    assert await ledger.begin("job", "a", TO, most_micro=80)
    await ledger.settle("job", "a")
    assert ledger.counted("job") == {"a": 100}
    (sent,) = ledger.sent("job")
    assert (sent.features, sent.calls, sent.usd) == (1, 1, 100 / 1e6)
    ledger.close()


async def test_no_call_is_begun_that_the_reservation_does_not_cover(ledger: Ledger) -> None:
    await reserve(ledger, "a")
    assert not await ledger.begin("job", "a", TO, most_micro=101)
    assert not await ledger.begin("job", "unreserved", TO, most_micro=1)
    assert [await ledger.begin("job", "a", TO, most_micro=100) for _ in range(4)] == [True, True, True, False]
    await ledger.finish("job", "a", TO, micro=0)  # refused without a charge: there is room for another
    assert await ledger.begin("job", "a", TO, most_micro=100)
    await ledger.settle("job", "a")
    assert not await ledger.begin("job", "a", TO, most_micro=100)
    ledger.close()


def test_asking_what_was_sent_makes_no_ledger(new_store: Callable[[], StoreSettings], tmp_path: Path) -> None:
    ledger = Ledger(new_store())
    assert ledger.sent("job") == []
    assert list(tmp_path.iterdir()) == []
    ledger.close()


def test_caps_hold_however_many_workers_are_killed(new_store: Callable[[], StoreSettings], tmp_path: Path) -> None:
    for seed in (0, 1):
        store = new_store()
        if store.url.startswith("sqlite"):
            store = StoreSettings(url=f"sqlite:///{tmp_path}/{seed}/explain.db")
        came_to = run("ledger", store, seed, tmp_path / f"served-{seed}", kills=12)
        assert came_to.features <= came_to.cap_features
        assert came_to.micro <= came_to.cap_micro
        assert came_to.calls > 0
