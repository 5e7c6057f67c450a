"""`models`: what each LLM endpoint has, what is loaded and what it takes."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mistudio_explain.cli.show import console, error_line, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings, ExplainError, Unreachable
from mistudio_explain.llm.capacity import MemoryNeed, in_gb
from mistudio_explain.llm.discovery import servers
from mistudio_explain.llm.failures import CallFailure
from mistudio_explain.llm.fleet import Alone, driven
from mistudio_explain.llm.inspection import Inspection, ServerModel, inspecting
from mistudio_explain.llm.opening import DEFAULT_SLOTS, configured, key_of
from mistudio_explain.settings import EndpointSettings, Settings
from mistudio_explain.store.usage import ModelUsage, StoredUsage

_COLUMNS = ("endpoint", "model", "state", "since (UTC)", "until (UTC)", "memory", "uses", "status")
_NONE = "-"
_TELLS = ("ollama", "openai")  # the kinds that an inspection knows


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of an endpoint, and what it would need where that can be told."""

    model: ServerModel
    need: MemoryNeed | None
    usage: ModelUsage | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What was found at one endpoint."""

    settings: EndpointSettings
    slots: int | None
    trouble: str | None
    """Why it does not serve; None when it does."""
    models: tuple[Listed, ...] = ()


def show_models(*, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the models of all endpoints; ends with 3 when one does not serve."""
    settings = prepare(config=config, profile=profile, quiet=True)
    found = asyncio.run(_found(settings))
    if as_json:
        print_json({"endpoints": [_json(each) for each in found]})
    else:
        console().print(table(None, _COLUMNS, (row for each in found for row in _rows(each)), wrap={"status": None}))
    return Unreachable.exit_code if not found or any(each.trouble for each in found) else 0


async def endpoints_of(settings: Settings) -> list[EndpointSettings]:
    """Every endpoint that the settings come to now, each discovered server as one of its own; one that cannot be looked up as it is named.

    Without any in the settings, what is used then. Raises Unreachable when there is nothing.
    """
    named = settings.llm.endpoints
    if not named:
        async with driven(settings.llm, Alone(), rng=random.Random(0), waits=False) as fleet:  # noqa: S311  (nothing random is done)
            return [_as_settings(endpoint.name, endpoint.kind, endpoint.url) for endpoint in fleet.endpoints.all]
    found: list[EndpointSettings] = []
    for each in named:
        if each.discover is None:
            found.append(each)
            continue
        there = await servers(each)
        if not there:
            raise Unreachable(f"there is no server behind {each.url} (llm.endpoints {each.name!r}, discover = {each.discover!r}) now")
        found += [each.model_copy(update={"name": server.name, "url": server.url, "discover": None}) for server in there]
    return found


def _as_settings(name: str, kind: str, url: str) -> EndpointSettings:
    return EndpointSettings.model_validate({"name": name, "provider": kind, "url": url or None})


async def _found(settings: Settings) -> list[Shown]:
    usage = await _usage(settings)
    found = await asyncio.gather(*(_look_at(each, settings) for each in await endpoints_of(settings)))
    return [replace(shown, models=tuple(replace(each, usage=usage.get((shown.settings.name, each.model.name))) for each in shown.models)) for shown in found]


async def _usage(settings: Settings) -> Mapping[tuple[str, str], ModelUsage]:
    with closing(StoredUsage(settings.store)) as stored:
        try:
            return await stored.read()
        except ExplainError as error:  # what the endpoints say is worth showing all the same
            error_line(f"how often models were used is not known: {error}")
            return {}


async def _look_at(endpoint: EndpointSettings, settings: Settings) -> Shown:
    try:
        opened, failure = await configured(endpoint)
    except (Unreachable, BadSettings) as error:
        return Shown(endpoint, endpoint.slots, str(error), await _told(endpoint, settings, DEFAULT_SLOTS) if isinstance(error, BadSettings) else ())
    await opened.provider.close()
    if failure is not None:
        return Shown(endpoint, endpoint.slots, f"{failure.kind}: {failure}")
    models = await _told(endpoint, settings, opened.slots) or tuple(Listed(ServerModel(model.name, model.digest), None) for model in opened.models)
    return Shown(endpoint, opened.slots, None, models)


async def _told(endpoint: EndpointSettings, settings: Settings, slots: int) -> tuple[Listed, ...]:
    """What the server itself tells of its models; nothing where it is of a kind that tells no more than their names, or fails."""
    if endpoint.provider not in _TELLS or endpoint.url is None:
        return ()
    try:
        async with inspecting(endpoint.provider, endpoint.url, key_of(endpoint)) as server:
            return tuple([Listed(model, await _need(server, model, settings.llm.context_tokens * slots)) for model in await server.models()])
    except (CallFailure, BadSettings):
        return ()


async def _need(server: Inspection, model: ServerModel, tokens: int) -> MemoryNeed | None:
    try:
        return await server.need(model, tokens)
    except CallFailure:  # one model that the server cannot describe leaves the others alone
        return None


def _rows(shown: Shown) -> list[Sequence[str]]:
    status = "healthy" if shown.trouble is None else f"down: {shown.trouble}"
    if not shown.models:
        return [(shown.settings.name, *(_NONE for _ in _COLUMNS[2:]), status)]
    return [(shown.settings.name, *_cells(each), status if number == 0 else "") for number, each in enumerate(shown.models)]


def _cells(each: Listed) -> tuple[str, ...]:
    uses = _NONE if each.usage is None else str(each.usage.calls)
    return each.model.name, _state(each.model), _time(_loaded_at(each)), _time(each.model.expires_at), _memory(each), uses


def _loaded_at(listed: Listed) -> datetime | None:
    """Since when it is loaded, as workers saw it: no server tells that itself."""
    if not listed.model.is_loaded or listed.usage is None:
        return None
    return _moment(listed.usage.loaded_ms)


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _state(model: ServerModel) -> str:
    return "loaded" if model.is_loaded else "listed"


def _memory(listed: Listed) -> str:
    if listed.model.memory_bytes is not None:
        return in_gb(listed.model.memory_bytes)
    return _NONE if listed.need is None else f"~{in_gb(listed.need.total_bytes)}"


def _time(at: datetime | None) -> str:
    return _NONE if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _json(shown: Shown) -> dict[str, Any]:
    return {
        "endpoint": shown.settings.name,
        "provider": shown.settings.provider,
        "url": shown.settings.url,
        "status": "healthy" if shown.trouble is None else "down",
        "why": shown.trouble,
        "slots": shown.slots,
        "memory_gb": shown.settings.memory_gb,
        "models": [_json_of(each) for each in shown.models],
    }


def _json_of(listed: Listed) -> dict[str, Any]:
    model, usage = listed.model, listed.usage
    return {
        "model": plain(model.name),
        "digest": model.digest,
        "state": _state(model),
        "loaded_at": _iso(_loaded_at(listed)),
        "expires_at": _iso(model.expires_at),
        "memory_bytes": model.memory_bytes,
        "needed_bytes": None if listed.need is None else listed.need.total_bytes,
        "file_bytes": model.file_bytes,
        "context_tokens": model.context_tokens,
        "uses": None if usage is None else usage.calls,
        "used_at": None if usage is None else _iso(_moment(usage.used_ms)),
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
