"""`models`: what each LLM endpoint has, what is loaded and what it takes."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mistudio_explain.cli.show import console, error_line, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import Unreachable
from mistudio_explain.llm.capacity import in_gb
from mistudio_explain.llm.overview import Listed, Shown, document, loaded_at, overview, state_of

_COLUMNS = ("endpoint", "model", "state", "since (UTC)", "until (UTC)", "memory", "uses", "status")
_NONE = "-"


def show_models(*, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the models of all endpoints; ends with 3 when one does not serve."""
    settings = prepare(config=config, profile=profile, quiet=True)
    found, unknown = asyncio.run(overview(settings))
    if unknown is not None:
        error_line(f"how often models were used is not known: {unknown}")
    if as_json:
        print_json({"endpoints": [_harmless(document(each)) for each in found]})
    else:
        console().print(table(None, _COLUMNS, (row for each in found for row in _rows(each)), wrap={"status": None}))
    return Unreachable.exit_code if not found or any(each.trouble for each in found) else 0


def _rows(shown: Shown) -> list[Sequence[str]]:
    status = "healthy" if shown.trouble is None else f"down: {shown.trouble}"
    if not shown.models:
        return [(shown.settings.name, *(_NONE for _ in _COLUMNS[2:]), status)]
    return [(shown.settings.name, *_cells(each), status if number == 0 else "") for number, each in enumerate(shown.models)]


def _cells(each: Listed) -> tuple[str, ...]:
    uses = _NONE if each.usage is None else str(each.usage.calls)
    return each.model.name, state_of(each.model), _time(loaded_at(each)), _time(each.model.expires_at), _memory(each), uses


def _memory(listed: Listed) -> str:
    if listed.model.memory_bytes is not None:
        return in_gb(listed.model.memory_bytes)
    return _NONE if listed.need is None else f"~{in_gb(listed.need.total_bytes)}"


def _time(at: datetime | None) -> str:
    return _NONE if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _harmless(endpoint: dict[str, Any]) -> dict[str, Any]:
    return endpoint | {"models": [model | {"model": plain(model["model"])} for model in endpoint["models"]]}
