"""The chaos's model: what it counts, and that its faults are those of its seed."""

import http.client
import json
import time
from collections.abc import Iterator

import pytest

from chaos.fake_llm import ANSWERED, CUT, FAULTS, LIES, Character, FakeLlm
from integration.local_server import wait_until

WORD = "zqa00007q"


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    with FakeLlm(Character(seed=1, latency_s=0.01, faulty=0)) as server:
        yield server


def asked(llm: FakeLlm, worker: str = "g1", word: str = WORD, *, wait: bool = True) -> http.client.HTTPResponse | None:
    connection = http.client.HTTPConnection("127.0.0.1", llm.port, timeout=5)
    body = json.dumps({"messages": [{"role": "user", "content": f"Text 1: some {word}"}], "response_format": {}})
    connection.request("POST", f"/{worker}/v1/chat/completions", body, {"content-type": "application/json"})
    if wait:
        return connection.getresponse()
    while not llm.in_flight(worker):
        time.sleep(0.005)
    connection.close()
    return None


def counted(llm: FakeLlm, calls: int) -> None:
    """Wait until so many calls are counted: the caller may have its answer a moment before."""
    assert wait_until(lambda: len(llm.calls) >= calls, 5)


def test_an_answer_is_counted_for_its_feature_and_its_worker(llm: FakeLlm) -> None:
    response = asked(llm)
    assert response is not None
    assert WORD in response.read().decode()
    asked(llm, worker="g2")
    counted(llm, 2)
    assert [(call.worker, call.word, call.ending) for call in llm.calls] == [("g1", WORD, ANSWERED), ("g2", WORD, ANSWERED)]
    assert llm.answered == 1


def test_a_caller_that_goes_away_is_counted_as_cut(llm: FakeLlm) -> None:
    llm.character = Character(seed=1, latency_s=30, faulty=0)
    asked(llm, wait=False)
    counted(llm, 1)
    assert [call.ending for call in llm.calls] == [CUT]
    assert llm.in_flight("g1") == []


def test_a_server_that_is_away_refuses_connections_until_it_comes_back_on_the_same_port(llm: FakeLlm) -> None:
    port = llm.port
    llm.go_away()
    with pytest.raises(ConnectionRefusedError):
        asked(llm)
    llm.come_back()
    assert llm.port == port
    response = asked(llm)
    assert response is not None
    assert response.status == 200


def test_a_sick_server_fails_every_request(llm: FakeLlm) -> None:
    llm.is_sick = True
    response = asked(llm)
    assert response is not None
    assert response.status == 500


def test_the_seed_alone_decides_which_first_call_goes_wrong_and_how() -> None:
    words = [f"zqa{number:05}q" for number in range(400)]
    once, again, other = ([Character(seed, faulty=0.2).ending(word, 0) for word in words] for seed in (3, 3, 4))
    assert once == again != other
    assert set(once) == {ANSWERED, *FAULTS}
    assert {Character(3, faulty=1).ending(word, 1) for word in words} == {ANSWERED}


def test_a_cursed_feature_gets_nothing_but_lies() -> None:
    character = Character(seed=1, faulty=0, cursed=frozenset({WORD}))
    assert {character.ending(WORD, nth) for nth in range(8)} == set(LIES)
