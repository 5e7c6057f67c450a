"""Explainers' answers that outlive a process and are shared by all of them: a SQLite file beside the store, or a table on its server.

An answer is kept before the draft that it becomes is published, so a service that is killed asks no model twice. When
the place where they are kept is away, full, damaged or closed to this user, nothing is found and nothing kept: that
costs calls, and holds nobody up.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from mistudio_explain.errors import ExplainError, MalformedEvent, told
from mistudio_explain.llm.answers_cache import KeptAnswer
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table

log = structlog.get_logger(__name__)

T = TypeVar("T")

NAME = "answers"
_TOUCH_S = 60
"""The time of an answer's last use is written at most so often, seconds: a read should not cost a write."""
_TRIM_EVERY = 200
_AGAIN_S = 5.0
_ANSWER = Table("answer", key=("id",), texts=("id", "prompt", "job", "body"), numbers=("used_s",))


class StoredAnswers:
    """The answers used last, `store.answers` of them (about 2 KB each), whoever asked for them; see llm/answers_cache.py."""

    def __init__(self, settings: StoreSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._beside = Beside(settings, NAME, (_ANSWER,), indexes={_ANSWER: ("used_s", "prompt", "job")})
        self._not_before = 0.0
        self._until_trim = 0

    @classmethod
    @contextmanager
    def opened(cls, settings: StoreSettings) -> Iterator["StoredAnswers"]:
        """The answers of a store, closed in the end."""
        answers = cls(settings)
        try:
            yield answers
        finally:
            answers.close()

    async def get(self, key: str) -> KeptAnswer | None:
        """The answer kept under a key."""
        return await asyncio.to_thread(self._attempt, lambda database: self._get(database, key))

    async def put(self, key: str, answer: KeptAnswer, *, prompt_sha256: str, job: str) -> None:
        """Keep an answer; a process that is killed afterwards does not lose it."""
        await asyncio.to_thread(self._attempt, lambda database: self._put(database, key, answer, prompt_sha256, job))

    def forget(self, job: str, prompts: Iterable[str]) -> None:
        """Remove the answers that a job asked for, and those to some prompts; blocks. Raises Unreachable or StoreLost when they cannot be reached."""

        def forget(database: Database) -> None:
            database.run("delete from answer where job = ?", (job,))
            database.run_many("delete from answer where prompt = ?", [(prompt,) for prompt in prompts])
            database.tidy("answer")

        self._beside.call(forget)

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._beside.close()

    def _get(self, database: Database, key: str) -> KeptAnswer | None:
        row = database.one("select body, used_s from answer where id = ?", (key,))
        if row is None:
            return None
        body, used_s = row
        now_s = int(self._clock())
        if now_s - used_s >= _TOUCH_S:
            database.run("update answer set used_s = ? where id = ?", (now_s, key))
        return KeptAnswer.model_validate_json(body)

    def _put(self, database: Database, key: str, answer: KeptAnswer, prompt: str, job: str) -> None:
        if self._settings.answers == 0:
            return
        body = answer.model_dump_json().replace("\\u0000", "\\ufffd")  # PostgreSQL's texts hold no NUL
        database.put(_ANSWER, [(key, prompt, job, body, int(self._clock()))])
        self._until_trim -= 1
        if self._until_trim <= 0:
            self._until_trim = min(_TRIM_EVERY, self._settings.answers // 100)
            self._trim(database)

    def _trim(self, database: Database) -> None:
        row = database.one("select count(*) from answer")
        spare = (row[0] if row else 0) - self._settings.answers
        if spare > 0:
            database.run("delete from answer where id in (select id from answer order by used_s, id limit ?)", (spare,))

    def _attempt(self, call: Callable[[Database], T | None]) -> T | None:
        if time.monotonic() < self._not_before:
            return None
        try:
            return self._beside.call(call)
        except (ValueError, MalformedEvent) as error:
            log.warning("answer.unreadable", error=told(error))  # kept by a version that wrote answers differently
        except ExplainError as error:  # whatever is amiss with the place is no fault of the record at hand
            log.warning("answers.away", error=str(error), again_in_s=_AGAIN_S)
            self._not_before = time.monotonic() + _AGAIN_S
        return None
