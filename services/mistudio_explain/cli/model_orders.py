"""`models pull`, `models warm`, `models unload`: orders to Ollama, with their progress."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from mistudio_explain.cli.show import console, error_line, plain, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput, ExplainError, Unreachable
from mistudio_explain.events.identity import means_model
from mistudio_explain.llm.capacity import InsufficientMemory, in_gb
from mistudio_explain.llm.failures import AccessDenied, CallFailure, ConnectionDropped, EndpointUnreachable, RateLimited, TimedOut
from mistudio_explain.llm.inspection import Inspection, Progress, ServerModel, inspecting, taken_by
from mistudio_explain.llm.opening import DEFAULT_SLOTS, key_of
from mistudio_explain.llm.overview import endpoints_of
from mistudio_explain.settings import EndpointSettings, LlmSettings, Settings

_NOT_REACHED = (AccessDenied, ConnectionDropped, EndpointUnreachable, RateLimited, TimedOut)
"""Failures to reach the server itself; what it answers when it cannot reach its registry is none of them."""
_SAID_EVERY = 10  # percent

Order = Callable[[Inspection, EndpointSettings, LlmSettings, "Telling"], Awaitable[str]]


class Telling:
    """Tells of one order's progress at one endpoint: a bar on a terminal, plain lines otherwise, nothing beside JSON."""

    def __init__(self, endpoint: str, bar: Bar | None, *, as_json: bool) -> None:
        self._endpoint = endpoint
        self._bar = bar
        self._as_json = as_json
        self._task = None if bar is None else bar.add_task(endpoint, total=None)
        self._said: tuple[str, int] | None = None

    def at(self, progress: Progress) -> None:
        """Show how far it is; as lines each step once, and each tenth of a download."""
        if self._as_json:
            return
        status = plain(progress.status)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"{self._endpoint}: {status}", completed=progress.done_bytes or 0, total=progress.total_bytes)
            return
        percent = 100 * (progress.done_bytes or 0) // progress.total_bytes // _SAID_EVERY * _SAID_EVERY if progress.total_bytes else 0
        if self._said != (status, percent):
            self._said = status, percent
            console().print(f"{self._endpoint}: {status}" + (f" {percent}% of {in_gb(progress.total_bytes)}" if progress.total_bytes else ""))


def pull_model(name: str, endpoint: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Let every Ollama meant fetch a model."""
    return _ordered(_pull(name), name, endpoint, config=config, profile=profile, as_json=as_json)


def warm_model(name: str, endpoint: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Load a model at every Ollama meant."""
    return _ordered(_warm(name), name, endpoint, config=config, profile=profile, as_json=as_json)


def unload_model(name: str, endpoint: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Unload a model at every Ollama meant."""
    return _ordered(_unload(name), name, endpoint, config=config, profile=profile, as_json=as_json)


def _ordered(order: Order, model: str, endpoint: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    settings = prepare(config=config, profile=profile, quiet=True)
    bar = None
    if sys.stderr.isatty() and not as_json:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bar = Bar(*columns, console=console(stderr=True), transient=True)
        with bar:
            results = asyncio.run(_at_each(order, settings, endpoint, bar, as_json=as_json))
    else:
        results = asyncio.run(_at_each(order, settings, endpoint, None, as_json=as_json))
    for at, done, error in results:
        if as_json:
            print_json({"endpoint": at, "model": model, "done": done, "error": None if error is None else str(error)})
        elif error is None:
            console().print(f"{at}: {done}")
        else:
            error_line(f"{at}: {error}")
    failed = {error.exit_code for *_, error in results if error is not None}
    return 1 if failed and len(failed) < len(results) and any(error is None for *_, error in results) else max(failed, default=0)


async def _at_each(
    order: Order, settings: Settings, endpoint: str | None, bar: Bar | None, *, as_json: bool
) -> list[tuple[str, str | None, ExplainError | None]]:
    meant = _meant(await endpoints_of(settings), endpoint)
    return list(await asyncio.gather(*(_at(order, each, settings.llm, Telling(each.name, bar, as_json=as_json)) for each in meant)))


def _meant(endpoints: list[EndpointSettings], name: str | None) -> list[EndpointSettings]:
    """The Ollamas that an order is for. Raises BadInput when there is none, or the one named is none."""
    if name is None:
        if ollamas := [each for each in endpoints if each.provider == "ollama"]:
            return ollamas
        raise BadInput("no endpoint of the settings is an Ollama: the other kinds of servers cannot be told to fetch, load or unload a model")
    named = [each for each in endpoints if each.name == name or each.name.startswith(f"{name}@")]
    if not named:
        raise BadInput(f"--endpoint {name}: there is none of that name; there are {', '.join(each.name for each in endpoints)}")
    if named[0].provider != "ollama":
        raise BadInput(f"--endpoint {name} is of the kind {named[0].provider}: only Ollama can be told to fetch, load or unload a model")
    return named


async def _at(order: Order, endpoint: EndpointSettings, llm: LlmSettings, telling: Telling) -> tuple[str, str | None, ExplainError | None]:
    try:
        async with inspecting(endpoint.provider, endpoint.url or "", key_of(endpoint)) as server:
            return endpoint.name, await order(server, endpoint, llm, telling), None
    except InsufficientMemory as insufficient:
        return endpoint.name, None, insufficient
    except CallFailure as failure:
        error = f"{endpoint.url}, {failure.kind}: {failure}"
        return endpoint.name, None, Unreachable(error) if isinstance(failure, _NOT_REACHED) else ExplainError(error)
    except ExplainError as error:
        return endpoint.name, None, error


def _pull(name: str) -> Order:
    async def pull(server: Inspection, _: EndpointSettings, __: LlmSettings, telling: Telling) -> str:
        async for progress in server.pull(name):
            telling.at(progress)
        return f"{name} is there"

    return pull


def _warm(name: str) -> Order:
    async def warm(server: Inspection, endpoint: EndpointSettings, llm: LlmSettings, telling: Telling) -> str:
        models = await server.models()
        model = _named(name, models, endpoint)
        if endpoint.memory_gb is not None and not model.is_loaded:
            need = await server.need(model, llm.context_tokens * (endpoint.slots or DEFAULT_SLOTS))
            memory, taken = int(endpoint.memory_gb * 1e9), taken_by(models)
            if need is not None and need.total_bytes > memory - sum(taken.values()):
                raise InsufficientMemory(model.name, need, endpoint.name, memory, taken)
        telling.at(Progress(f"loading {model.name}"))
        await server.load(model.name, context_tokens=llm.context_tokens, timeout_s=llm.first_token_timeout_s)
        loaded = _named(name, await server.models(), endpoint)
        return f"{model.name} is loaded{'' if loaded.memory_bytes is None else f' and takes {in_gb(loaded.memory_bytes)}'}"

    return warm


def _unload(name: str) -> Order:
    async def unload(server: Inspection, endpoint: EndpointSettings, _: LlmSettings, __: Telling) -> str:
        model = _named(name, await server.models(), endpoint)
        if not model.is_loaded:
            return f"{model.name} was not loaded"
        await server.unload(model.name)
        return f"{model.name} is unloaded{'' if model.memory_bytes is None else f' and leaves {in_gb(model.memory_bytes)}'}"

    return unload


def _named(name: str, models: list[ServerModel], endpoint: EndpointSettings) -> ServerModel:
    """The model that a name means. Raises BadInput, naming those there are."""
    for model in models:
        if means_model(name, model.name):
            return model
    listed = ", ".join(model.name for model in models) or "none"
    raise BadInput(f"{endpoint.url} has no model {name}; it has {listed}; fetch it with `mistudio-explain models pull {name}`")
