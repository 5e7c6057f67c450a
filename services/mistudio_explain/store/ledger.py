"""The ledger of calls to clouds: what each feature may cost at most, which calls were begun, what they came to.

A SQLite file beside the store, or tables on its server, shared by all services. Before a feature is sent again its
whole cost is reserved at its maximum; before each call that call is begun, and afterwards finished with its price. A
reservation that is not settled counts as spent whole, and a call that was begun and not finished as its maximum: so
whoever is killed at whatever moment, the caps hold. Every step is one transaction that runs beside no other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.job import SentToCloud
from mistudio_explain.llm.pricing import MICRO
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, StoreLost, Table

T = TypeVar("T")

NAME = "ledger"
_BUSY_S = 30.0

_RESERVATION = Table("reservation", key=("job", "feature"), texts=("job", "feature"), numbers=("revision", "call_micro", "micro", "settled"))
"""What a feature may cost: each call at most `call_micro`, all of them `micro`. `settled` is 1 once no call will follow."""
_SENT = Table(
    "sent",
    key=("job", "feature", "endpoint", "model"),
    texts=("job", "feature", "endpoint", "model", "url"),
    numbers=("begun", "finished", "known_micro"),
)
"""The calls of a feature to one model: how many were begun, how many of them finished, and what those cost."""

_COUNTED = (
    "select r.feature, case r.settled when 0 then r.micro else "
    "coalesce(sum(s.known_micro + (s.begun - s.finished) * r.call_micro), 0) end "
    "from reservation r left join sent s on s.job = r.job and s.feature = r.feature where r.job = ? group by r.feature, r.settled, r.micro"
)
"""What each feature of a job counts as, micro-dollars."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a job's calls to clouds may come to: so many features, so many micro-dollars."""

    features: int
    micro: int


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a call goes."""

    endpoint: str
    url: str
    model: str


class Ledger:
    """The ledger behind one connection; every method raises Unreachable or StoreLost while its place is away, and then nothing may be sent."""

    def __init__(self, settings: StoreSettings) -> None:
        # durable, for a call that was paid for must not be forgotten by a power cut
        self._beside = Beside(settings, NAME, (_RESERVATION, _SENT), busy_s=_BUSY_S, durable=True)

    async def reserve(self, job: str, feature: str, *, revision: int, call_micro: int, calls: int, caps: Caps) -> str | None:
        """Reserve what `calls` calls of a feature can cost; returns the cap that forbids it, None when it is reserved.

        Asked again for the same revision it says the same; a feature that was sent in an earlier revision is refused.
        """
        micro = calls * call_micro

        def reserved(database: Database) -> str | None:
            known = database.one("select revision from reservation where job = ? and feature = ?", (job, feature))
            if known is not None:
                return None if known[0] == revision else "escalated_before"
            counted = [int(amount) for _, amount in database.all(_COUNTED, (job,))]
            if len(counted) + 1 > caps.features:
                return "share"
            if sum(counted) + micro > caps.micro:
                return "usd"
            database.put(_RESERVATION, [(job, feature, revision, call_micro, micro, 0)])
            return None

        return await self._step(reserved)

    async def begin(self, job: str, feature: str, destination: Destination, *, most_micro: int) -> bool:
        """Begin a call that can cost `most_micro`; False when the feature's reservation does not cover it, and it must not be sent."""

        def begun(database: Database) -> bool:
            row = database.one(
                "select r.call_micro, r.micro, coalesce(sum(s.known_micro), 0), coalesce(sum(s.begun - s.finished), 0) from reservation r "
                "left join sent s on s.job = r.job and s.feature = r.feature where r.job = ? and r.feature = ? and r.settled = 0 "
                "group by r.call_micro, r.micro",
                (job, feature),
            )
            if row is None:
                return False
            call_micro, micro, known, unfinished = map(int, row)
            if most_micro > call_micro or known + (unfinished + 1) * call_micro > micro:
                return False
            database.run(
                "insert into sent(job, feature, endpoint, model, url, begun, finished, known_micro) values(?, ?, ?, ?, ?, 1, 0, 0) "
                "on conflict(job, feature, endpoint, model) do update set begun = sent.begun + 1",
                (job, feature, destination.endpoint, destination.model, destination.url),
            )
            return True

        return await self._step(begun)

    async def finish(self, job: str, feature: str, destination: Destination, *, micro: int) -> None:
        """Note what a call that was begun came to."""
        await self._step(
            lambda database: database.run(
                "update sent set finished = finished + 1, known_micro = known_micro + ? where job = ? and feature = ? and endpoint = ? and model = ?",
                (micro, job, feature, destination.endpoint, destination.model),
            )
        )

    async def settle(self, job: str, feature: str) -> None:
        """Note that no call will follow for a feature: from now on it counts as what its calls came to."""
        await self._step(lambda database: database.run("update reservation set settled = 1 where job = ? and feature = ?", (job, feature)))

    def counted(self, job: str) -> dict[str, int]:
        """What each reserved feature of a job counts as, micro-dollars; blocks."""
        return {feature: int(amount) for feature, amount in self._beside.call(lambda database: database.all(_COUNTED, (job,)))}

    def sent(self, job: str) -> list[SentToCloud]:
        """What of a job went where; blocks. A store without a ledger has sent nothing, and gets none by being asked. Raises Unreachable."""
        try:
            return self._sent(job) if self._beside.exists() else []
        except StoreLost as error:
            raise Unreachable(str(error)) from error

    def _sent(self, job: str) -> list[SentToCloud]:
        rows = self._beside.call(
            lambda database: database.all(
                "select s.endpoint, s.url, s.model, count(*), sum(s.begun), sum(s.known_micro + (s.begun - s.finished) * r.call_micro) "
                "from sent s join reservation r on r.job = s.job and r.feature = s.feature where s.job = ? "
                "group by s.endpoint, s.url, s.model order by s.endpoint, s.model",
                (job,),
            )
        )
        return [
            SentToCloud(endpoint=endpoint, url=url, model=model, features=int(features), calls=int(calls), usd=int(micro) / MICRO)
            for endpoint, url, model, features, calls, micro in rows
        ]

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._beside.close()

    async def _step(self, step: Callable[[Database], T]) -> T:
        def undisturbed(database: Database) -> T:
            with database.undisturbed():
                return step(database)

        return await asyncio.to_thread(self._beside.call, undisturbed)
