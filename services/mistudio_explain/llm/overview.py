"""What each LLM endpoint has now, what is loaded there, what it takes and how often it is used."""

import asyncio
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mistudio_explain.errors import BadSettings, ExplainError, Unreachable
from mistudio_explain.llm.capacity import InsufficientMemory, MemoryNeed
from mistudio_explain.llm.discovery import servers
from mistudio_explain.llm.failures import CallFailure
from mistudio_explain.llm.inspection import Inspection, ServerModel, inspecting
from mistudio_explain.llm.opening import DEFAULT_SLOTS, configured, key_of, stand_in
from mistudio_explain.settings import EndpointSettings, Settings
from mistudio_explain.store.usage import ModelUsage, StoredUsage

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


async def endpoints_of(settings: Settings) -> list[EndpointSettings]:
    """Every endpoint that the settings come to now, each discovered server as one of its own; one that cannot be looked up as it is named.

    Without any in the settings, what is used then. Raises Unreachable when there is nothing.
    """
    named = settings.llm.endpoints
    if not named:
        return [await stand_in()]
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


async def overview(settings: Settings) -> tuple[list[Shown], str | None]:
    """What there is at every endpoint, and why it is not known how often models were used, where it is not. Raises Unreachable when there is nothing."""
    usage, unknown = await _usage(settings)
    found = await asyncio.gather(*(_look_at(each, settings) for each in await endpoints_of(settings)))
    counted = [replace(shown, models=tuple(replace(each, usage=usage.get((shown.settings.name, each.model.name))) for each in shown.models)) for shown in found]
    return counted, unknown


async def _usage(settings: Settings) -> tuple[Mapping[tuple[str, str], ModelUsage], str | None]:
    with closing(StoredUsage(settings.store)) as stored:
        try:
            return await stored.read(), None
        except ExplainError as error:  # what the endpoints say is worth showing all the same
            return {}, str(error)


async def _look_at(endpoint: EndpointSettings, settings: Settings) -> Shown:
    if endpoint.provider == "demonstration":  # which each process starts for itself: a look does not
        from mistudio_explain.llm.demonstration import MODEL_NAME, model_file, servers_for_this_machine

        try:
            model_file()
        except Unreachable as error:
            return Shown(endpoint, None, str(error))
        return Shown(endpoint, servers_for_this_machine(), None, (Listed(ServerModel(MODEL_NAME), None),))
    try:
        opened, failure = await configured(endpoint, settings.llm.context_tokens)
    except (Unreachable, BadSettings, InsufficientMemory) as error:
        return Shown(endpoint, endpoint.slots, str(error), await _told(endpoint, settings, DEFAULT_SLOTS) if not isinstance(error, Unreachable) else ())
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


def loaded_at(listed: Listed) -> datetime | None:
    """Since when it is loaded, as workers saw it: no server tells that itself."""
    if not listed.model.is_loaded or listed.usage is None:
        return None
    return _moment(listed.usage.loaded_ms)


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def state_of(model: ServerModel) -> str:
    """Whether a model is loaded or only there."""
    return "loaded" if model.is_loaded else "listed"


def document(shown: Shown) -> dict[str, Any]:
    """What there is at an endpoint, as JSON; times are ISO 8601."""
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
        "model": model.name,
        "digest": model.digest,
        "state": state_of(model),
        "loaded_at": _iso(loaded_at(listed)),
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
