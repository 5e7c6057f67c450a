"""From settings to endpoints."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from importlib import import_module

import structlog
from pydantic import SecretStr

from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.llm.capacity import InsufficientMemory
from mistudio_explain.llm.concurrency import AdaptiveLimit
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.failures import CallFailure, ModelUnknown, TlsFailed, is_outage
from mistudio_explain.llm.provider import ModelListed, Provider
from mistudio_explain.llm.reach import reach_of
from mistudio_explain.settings import EndpointSettings, LlmSettings, read_secret

log = structlog.get_logger(__name__)

LOCAL_OLLAMA = "http://127.0.0.1:11434"
LOCAL_PROBE_TIMEOUT_S = 1.0
DEFAULT_SLOTS = 2
"""What is begun with where neither settings nor server tell: Ollama does not, and lets calls above its OLLAMA_NUM_PARALLEL wait."""
_ANTHROPIC_KEY = "ANTHROPIC_API_KEY"
_TRIED = {"ollama": "/api/tags", "openai": "/models", "anthropic": "/v1/models", "demonstration": "its own process"}


async def opened(settings: LlmSettings, *, local_ollama: str = LOCAL_OLLAMA) -> list[Endpoint]:
    """The endpoints of the settings, all of which answer; without any, an Ollama on this machine that has a model, else the demonstration model.

    Raises Unreachable naming endpoint, address and what was tried, and BadSettings when an endpoint answers but has
    none of its models; nothing stays open then.
    """
    endpoints, outages = await opened_though_away(settings, local_ollama=local_ollama)
    for endpoint in endpoints:
        if (failure := outages.get(endpoint.name)) is not None:
            await _close(endpoints)
            raise Unreachable(_does_not_serve(endpoint, failure)) from failure
    return endpoints


async def opened_though_away(settings: LlmSettings, *, local_ollama: str = LOCAL_OLLAMA) -> tuple[list[Endpoint], Mapping[str, CallFailure]]:
    """The same, but an outage is no error: it is returned by the name of its endpoint, whose models are then those wanted.

    What waiting does not mend (a refused key, a model that is not there, a server that is none) is an error still.
    """
    if not settings.endpoints:
        return [await _default(local_ollama, settings.context_tokens)], {}
    check_names(settings.endpoints)
    results = await asyncio.gather(*(configured(endpoint, settings.context_tokens) for endpoint in settings.endpoints), return_exceptions=True)
    made = [result for result in results if not isinstance(result, BaseException)]
    if failed := [result for result in results if isinstance(result, BaseException)]:
        await _close([endpoint for endpoint, _ in made])
        raise failed[0]
    return [endpoint for endpoint, _ in made], {endpoint.name: failure for endpoint, failure in made if failure is not None}


async def _close(endpoints: Sequence[Endpoint]) -> None:
    await asyncio.gather(*(endpoint.provider.close() for endpoint in endpoints))


def check_names(endpoints: Sequence[EndpointSettings]) -> None:
    """Make sure that no two endpoints of the settings have one name. Raises BadSettings."""
    names = [endpoint.name for endpoint in endpoints]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadSettings(f"llm.endpoints: the name {twice[0]!r} is used {names.count(twice[0])} times; every endpoint needs its own")


async def configured(settings: EndpointSettings, context_tokens: int) -> tuple[Endpoint, CallFailure | None]:
    """One endpoint, and the outage that keeps it from serving now; its models are then those wanted.

    `context_tokens` are those of one slot. Raises Unreachable, BadSettings and InsufficientMemory for what waiting does not mend.
    """
    provider, url = await _provider(settings)
    slots = settings.slots or min(DEFAULT_SLOTS, settings.max_slots)
    endpoint = Endpoint(settings.name, settings.provider, url, slots, provider, settings.models, reach=reach_of(settings))
    if settings.slots is None:
        endpoint.limit = AdaptiveLimit(settings.max_slots, slots)
    endpoint.residency.memory = None if settings.memory_gb is None else int(settings.memory_gb * 1e9)
    endpoint.residency.pinned = frozenset(settings.pinned)
    endpoint.cache_tokens = context_tokens * slots
    if settings.provider == "demonstration":
        endpoint.slots, endpoint.limit = min(endpoint.slots, _demonstration_slots()), None
    try:
        await endpoint.refresh()
        _check_memory(endpoint)
        if settings.slots is None and settings.provider == "openai" and (told := await _slots(settings)) is not None:
            endpoint.slots, endpoint.limit = told, None
    except ModelUnknown as failure:
        await provider.close()
        raise BadSettings(f"LLM endpoint {settings.name!r} ({settings.url or settings.provider}): {failure}") from failure
    except InsufficientMemory:
        await provider.close()
        raise
    except CallFailure as failure:
        if is_outage(failure):
            endpoint.is_known = False
            endpoint.models = tuple(ModelListed(name) for name in settings.models or ())
            return endpoint, failure
        await provider.close()
        raise Unreachable(_does_not_serve(endpoint, failure)) from failure
    except BaseException:
        await provider.close()
        raise
    return endpoint, None


def _check_memory(endpoint: Endpoint) -> None:
    """Raise InsufficientMemory for pinned models that do not fit together; warn of models that the settings name and that do not fit."""
    residency = endpoint.residency
    needs = {name: need for name in sorted(residency.pinned) if (need := endpoint.need_of(name)) is not None}
    if residency.memory is not None and sum(need.total_bytes for need in needs.values()) > residency.memory:
        largest = max(needs, key=lambda name: needs[name].total_bytes)
        others = {name: need.total_bytes for name, need in needs.items() if name != largest}
        raise InsufficientMemory(largest, needs[largest], endpoint.name, residency.memory, others, pinned=residency.pinned)
    for model in endpoint.models if endpoint.wanted is not None else ():
        if (insufficient := endpoint.insufficient(model.name)) is not None:
            log.warning("llm.does_not_fit", endpoint=endpoint.name, model=model.name, why=str(insufficient), what="it is not asked; others stand in")


def _does_not_serve(endpoint: Endpoint, failure: CallFailure) -> str:
    advice = "start it, or correct its url or key under [[llm.endpoints]]"
    if isinstance(failure, TlsFailed):
        advice = "correct its url under [[llm.endpoints]], or name the file of its authority's certificate in the environment variable SSL_CERT_FILE"
    return f"LLM endpoint {endpoint.name!r} does not serve: tried {endpoint.url}{_TRIED[endpoint.kind]}, {failure.kind}: {failure}; {advice}"


async def stand_in(local_ollama: str = LOCAL_OLLAMA) -> EndpointSettings:
    """What is used without any endpoint in the settings: an Ollama on this machine that has a model, else the demonstration model."""
    ollama = EndpointSettings(name="local", provider="ollama", url=local_ollama)
    provider, _ = await _provider(ollama)
    try:
        async with asyncio.timeout(LOCAL_PROBE_TIMEOUT_S):
            has_models = bool(await provider.models())
    except (CallFailure, TimeoutError):
        has_models = False
    finally:
        await provider.close()
    return ollama if has_models else EndpointSettings(name="demonstration", provider="demonstration")


async def _default(local_ollama: str, context_tokens: int) -> Endpoint:
    endpoint, failure = await configured(await stand_in(local_ollama), context_tokens)
    if failure is not None:
        await endpoint.provider.close()
        raise Unreachable(_does_not_serve(endpoint, failure)) from failure
    return endpoint


async def _provider(settings: EndpointSettings) -> tuple[Provider, str]:
    """The client, and the address that it calls; empty for a process of our own."""
    # imported here: each client costs half a second, and a run needs one of them; in a thread, because a gateway that looks at endpoints has others to answer
    await asyncio.to_thread(import_module, f"{__package__}.{settings.provider}")
    key = key_of(settings)
    if key is None and reach_of(settings) == "cloud" and settings.provider != "anthropic":
        raise BadSettings(
            f"llm.endpoints {settings.name!r}: there is no API key for {settings.url}, which is in a cloud; name its file in `api_key_file`, or its "
            "variable in `api_key_env` (`cloud = false` says that it is your own server)"
        )
    if settings.provider == "demonstration":
        from mistudio_explain.llm.demonstration import Demonstration

        return await Demonstration.start(), ""
    if settings.provider == "anthropic":
        from mistudio_explain.llm.anthropic import Anthropic

        if key is None:
            raise BadSettings(f"llm.endpoints {settings.name!r}: there is no API key; name its file in `api_key_file`, or its variable in `api_key_env`")
        anthropic = Anthropic(settings.url, key)
        return anthropic, anthropic.url
    if settings.url is None:
        raise BadSettings(f"llm.endpoints {settings.name!r}: `url` is missing; a {settings.provider} endpoint needs one")
    if settings.provider == "ollama":
        from mistudio_explain.llm.ollama import Ollama

        return Ollama(settings.url, key), settings.url
    from mistudio_explain.llm.openai import OpenAi

    return OpenAi(settings.url, key), settings.url


def key_of(settings: EndpointSettings) -> SecretStr | None:
    """The key of the settings. The client's usual variable counts only where its own address does too: no key goes to a server that it was not made for."""
    if settings.api_key_file:
        return read_secret(settings.api_key_file)
    variable = settings.api_key_env or (_ANTHROPIC_KEY if settings.provider == "anthropic" and settings.url is None else None)
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise BadSettings(f"llm.endpoints {settings.name!r}: there is no API key: the environment variable {variable} is not set, and there is no api_key_file")
    return SecretStr(key)


async def _slots(settings: EndpointSettings) -> int | None:
    """The slots that a server tells."""
    from mistudio_explain.llm.inspection import inspecting  # here, as the clients above

    async with inspecting(settings.provider, settings.url or "", key_of(settings)) as server:
        return await server.slots()


def _demonstration_slots() -> int:
    from mistudio_explain.llm.demonstration import servers_for_this_machine

    return servers_for_this_machine()
