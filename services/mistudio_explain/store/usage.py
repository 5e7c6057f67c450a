"""How much the models of LLM endpoints are used, and since when they are loaded, as workers that share the store saw it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.llm.usage import Use
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files
from mistudio_explain.store.beside import Beside, file_beside
from mistudio_explain.store.database import Database, Table
from mistudio_explain.store.leases import NAME

SEEN_WITHIN_S = 60.0
"""What no worker has looked at for longer may have been unloaded and loaded again meanwhile."""

_USAGE = Table("usage", key=("endpoint", "model"), texts=("endpoint", "model"), numbers=("calls", "seen_ms"), optional_numbers=("used_ms", "loaded_ms"))


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What workers know of a model at an endpoint; moments in milliseconds since 1970 UTC."""

    calls: int
    """Calls that were answered, by whatever worker, since the store was made."""
    used_ms: int | None
    """When the last of them was noted."""
    loaded_ms: int | None
    """Since when it is loaded; None when it was not when it was last seen, or nobody looks."""


class StoredUsage:
    """The usage of a store. `clock` gives milliseconds; absent: the database's own."""

    def __init__(self, settings: StoreSettings, *, clock: Callable[[], int] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._beside = Beside(settings, NAME, (_USAGE,))

    async def note(self, uses: Sequence[Use]) -> None:
        """Add calls, and say what is loaded now. Raises Unreachable or StoreLost; nothing is noted then."""
        await asyncio.to_thread(self._beside.call, lambda database: self._note(database, uses))

    async def read(self) -> Mapping[tuple[str, str], ModelUsage]:
        """By endpoint and model; nothing where no worker has noted anything yet. Raises Unreachable or StoreLost."""
        if files.is_file(self._settings) and not file_beside(self._settings, NAME).exists():
            return {}
        return await asyncio.to_thread(self._beside.call, self._read)

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()

    def _now_ms(self, database: Database) -> int:
        return self._clock() if self._clock is not None else database.now_ms()

    def _note(self, database: Database, uses: Sequence[Use]) -> None:
        with database.undisturbed():  # several workers may drive endpoints of one name
            now = self._now_ms(database)
            for use in uses:
                key = (use.endpoint, use.model)
                before = database.one("select calls, seen_ms, used_ms, loaded_ms from usage where endpoint = ? and model = ?", key)
                calls, seen_ms, used_ms, loaded_ms = before or (0, 0, None, None)
                is_fresh = now - seen_ms < SEEN_WITHIN_S * 1000
                since = (loaded_ms if is_fresh and loaded_ms is not None else now) if use.is_loaded else None
                database.put(_USAGE, [(*key, calls + use.calls, now, now if use.calls else used_ms, since)])

    def _read(self, database: Database) -> Mapping[tuple[str, str], ModelUsage]:
        now = self._now_ms(database)
        rows = database.all("select endpoint, model, calls, seen_ms, used_ms, loaded_ms from usage")
        return {
            (endpoint, model): ModelUsage(calls, used_ms, loaded_ms if now - seen_ms < SEEN_WITHIN_S * 1000 else None)
            for endpoint, model, calls, seen_ms, used_ms, loaded_ms in rows
        }
