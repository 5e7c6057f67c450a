"""Which worker drives which discovered LLM server: leases that expire, beside the store, among all workers that share it.

No server is ever leased to two workers. Each worker of a pool gets its due, the servers divided by the workers; one
that has more gives the rest back as soon as its calls there have ended. A worker that is killed is forgotten, and its
servers are taken over, when its lease has expired.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.llm.fleet import Hold
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table

NAME = "fleet"
LEASE_S = 20.0
"""Four turns: one is lost to a slow lookup and one to a short outage of the store without any harm."""

_WORKER = Table("worker", key=("pool", "worker"), texts=("pool", "worker"), numbers=("since_ms", "until_ms"))
_LEASE = Table("lease", key=("url",), texts=("url", "pool", "worker"), numbers=("until_ms",))


@dataclass(frozen=True, slots=True)
class Division:
    """What a worker keeps, takes, and has to give back."""

    kept: tuple[str, ...]
    taken: tuple[str, ...]
    surplus: tuple[str, ...]


def divide(found: Sequence[str], leased: Mapping[str, str], mine: Sequence[str], workers: Sequence[str], worker: str) -> Division:
    """A worker's due of the servers that are found.

    Each gets as many, and the first workers of `workers` (those that came first) one more where that leaves a rest; so
    where there are more workers than servers the last ones wait. `leased` are all leases by address, `mine` those of
    this worker, which keeps what it has of its due before it takes anything.
    """
    due = len(found) // len(workers) + (workers.index(worker) < len(found) % len(workers))
    kept = [url for url in found if url in mine][:due]
    taken = [url for url in found if url not in leased][: due - len(kept)]
    return Division(tuple(kept), tuple(taken), tuple(url for url in mine if url not in kept))


class StoredLeases:
    """A worker's view of the leases; see llm/fleet.py. `worker` is a name that no other process has.

    `clock` gives milliseconds; absent: the database's own, so that workers on several machines need not agree.
    """

    def __init__(self, settings: StoreSettings, worker: str, *, clock: Callable[[], int] | None = None) -> None:
        self._worker = worker
        self._clock = clock
        self._beside = Beside(settings, NAME, (_WORKER, _LEASE))

    async def turn(self, pool: str, found: Sequence[str]) -> Hold:
        """Say that the worker lives, renew its leases and take its due. Raises Unreachable or StoreLost."""
        return await asyncio.to_thread(self._beside.call, lambda database: self._take_turn(database, pool, found))

    async def give_back(self, url: str) -> None:
        """Let others have a server. Raises Unreachable or StoreLost."""
        await asyncio.to_thread(self._beside.call, lambda database: database.run("delete from lease where url = ? and worker = ?", (url, self._worker)))

    async def leave(self) -> None:
        """Give everything back and be forgotten. Raises Unreachable or StoreLost."""

        def leave(database: Database) -> None:
            database.run("delete from lease where worker = ?", (self._worker,))
            database.run("delete from worker where worker = ?", (self._worker,))

        await asyncio.to_thread(self._beside.call, leave)
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._beside.close()

    def _take_turn(self, database: Database, pool: str, found: Sequence[str]) -> Hold:
        with database.undisturbed():  # so that no two workers decide at once
            now = self._clock() if self._clock is not None else database.now_ms()
            until = now + int(LEASE_S * 1000)
            database.run("delete from worker where until_ms <= ?", (now,))
            database.run("delete from lease where until_ms <= ?", (now,))
            database.put(_WORKER, [(pool, self._worker, now, until)], kept=("since_ms",))
            workers = [worker for (worker,) in database.all("select worker from worker where pool = ? order by since_ms, worker", (pool,))]
            leases = database.all("select url, pool, worker from lease order by url")
            mine = [url for url, of, worker in leases if worker == self._worker and of == pool]
            leased = {url: worker for url, _, worker in leases}
            division = divide(found, leased, mine, workers, self._worker)
            ours = (*division.kept, *division.taken, *division.surplus)
            database.put(_LEASE, [(url, pool, self._worker, until) for url in ours])
        elsewhere = {url: leased[url] for url in found if url in leased and url not in ours}
        return Hold(frozenset(ours), frozenset(division.surplus), elsewhere, LEASE_S)
