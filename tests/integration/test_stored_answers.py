"""Answers that are kept in the store: shared, bounded, safe from kills, and never a reason to stop."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from integration.local_server import free_ports
from integration.real_postgres import RealPostgres
from mistudio_explain.events.explanation import Generation
from mistudio_explain.llm.answers_cache import KeptAnswer
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.answers import StoredAnswers
from mistudio_explain.store.beside import file_beside

MADE = Generation(model="m", endpoint="e", provider="ollama", latency_s=1, finish_reason="stop")
WRITER = """
import asyncio, pathlib, sys
from test_stored_answers import MADE, KeptAnswer, StoredAnswers, StoreSettings

async def write(settings):
    answers = StoredAnswers(settings)
    for number in range(1_000_000):
        await answers.put(str(number), KeptAnswer(text="t", generation=MADE), prompt_sha256="p", job="j")
        print(number, flush=True)

asyncio.run(write(StoreSettings.model_validate_json(sys.argv[1])))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


@pytest.fixture
def answers(settings: StoreSettings) -> Iterator[StoredAnswers]:
    with StoredAnswers.opened(settings) as opened:
        yield opened


async def put(answers: StoredAnswers, key: str, text: str = "text", prompt: str = "p", job: str = "j") -> None:
    await answers.put(key, KeptAnswer(text=text, generation=MADE, flags=["resampled"]), prompt_sha256=prompt, job=job)


async def kept(answers: StoredAnswers, keys: Sequence[str]) -> str:
    return "".join([key for key in keys if await answers.get(key) is not None])


async def test_what_one_keeps_another_finds(settings: StoreSettings, answers: StoredAnswers) -> None:
    await put(answers, "a", "a text with \0 and \N{GRINNING FACE}")
    with StoredAnswers.opened(settings) as other:
        found = await other.get("a")
        assert found is not None
        assert (found.text, found.generation, found.flags) == ("a text with \N{REPLACEMENT CHARACTER} and \N{GRINNING FACE}", MADE, ["resampled"])
        assert await other.get("b") is None
        await put(other, "a", "again")
    found = await answers.get("a")
    assert found is not None
    assert found.text == "again"


async def test_the_answers_unused_for_longest_go_and_a_use_counts_once_a_minute(settings: StoreSettings) -> None:
    now = 1000.0
    answers = StoredAnswers(settings.model_copy(update={"answers": 2}), clock=lambda: now)
    await put(answers, "a")
    now += 1
    await put(answers, "b")
    now += 30
    await answers.get("a")  # within the minute: not noted
    now += 1
    await put(answers, "c")
    now += 61
    await answers.get("b")
    now += 1
    await put(answers, "d")
    assert await kept(answers, "bcd") == "bd"
    answers.close()


async def test_answers_are_forgotten_by_their_job_and_by_their_prompt(answers: StoredAnswers) -> None:
    await put(answers, "a", job="j1", prompt="p1")
    await put(answers, "b", job="j2", prompt="p2")
    await put(answers, "c", job="j2", prompt="p3")
    answers.forget("j1", ["p2"])
    assert await kept(answers, "abc") == "c"


async def test_none_are_kept_where_none_are_wanted(settings: StoreSettings) -> None:
    with StoredAnswers.opened(settings.model_copy(update={"answers": 0})) as answers:
        await put(answers, "a")
        assert await answers.get("a") is None


def test_an_answer_that_was_kept_survives_a_kill(settings: StoreSettings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, settings.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    written += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()
    with StoredAnswers.opened(settings) as answers:
        assert asyncio.run(kept(answers, [str(number) for number in written])) == "".join(map(str, written))


async def test_many_write_at_once_and_none_is_lost(settings: StoreSettings) -> None:
    async def write(writer: str) -> None:
        with StoredAnswers.opened(settings) as answers:
            for number in range(25):
                await put(answers, f"{writer} {number}")

    await asyncio.gather(*(write(writer) for writer in "abcd"))
    with StoredAnswers.opened(settings) as answers:
        assert [key for writer in "abcd" for number in range(25) if await answers.get(key := f"{writer} {number}") is None] == []


async def test_where_the_answers_are_away_nothing_is_found_and_nobody_is_held_up() -> None:
    (port,) = free_ports(1)
    with StoredAnswers.opened(StoreSettings(url=f"postgresql://tests@127.0.0.1:{port}/nothing")) as answers:
        await put(answers, "a")
        assert await answers.get("a") is None


def no_database(settings: StoreSettings) -> None:
    file_beside(settings, "answers").write_bytes(b"this is no file of SQLite " * 500)


def no_folder(settings: StoreSettings) -> None:
    file_beside(settings, "answers").parent.rmdir()
    file_beside(settings, "answers").parent.write_text("a file where the folder should be")


@pytest.mark.parametrize("spoil", [no_database, no_folder])
async def test_a_place_that_is_damaged_or_cannot_be_is_no_fault_of_the_record_at_hand(tmp_path: Path, spoil: Callable[[StoreSettings], None]) -> None:
    settings = StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    file_beside(settings, "answers").parent.mkdir()
    spoil(settings)
    with StoredAnswers.opened(settings) as answers:
        await put(answers, "a")
        assert await answers.get("a") is None


@pytest.mark.parametrize("refusal", ["alter role {user} set default_transaction_read_only = on", "revoke all on schema mistudio_explain_answers from {user}"])
async def test_a_server_that_refuses_is_no_fault_of_the_record_at_hand(postgres: RealPostgres, refusal: str) -> None:
    settings = postgres.new_store()
    with StoredAnswers.opened(settings) as answers:
        await put(answers, "a")
    assert settings.password_file is not None
    password = settings.password_file.read_text().strip()
    user = settings.url.rpartition("/")[2]  # a role of its own, named as the database
    with psycopg.connect(settings.url, password=password, autocommit=True) as connection:
        connection.execute(f"create role {user} login password '{password}'".encode())
        connection.execute(f"grant create on database {user} to {user}".encode())
        connection.execute(refusal.format(user=user).encode())
    with StoredAnswers.opened(settings.model_copy(update={"url": settings.url.replace("//tests@", f"//{user}@")})) as answers:
        await put(answers, "b")
        assert await answers.get("a") is None
