"""What every command does first: settings, logs and traces."""

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistudio_explain import __version__
from mistudio_explain.observability import tracing
from mistudio_explain.observability.logs import configure
from mistudio_explain.settings import Settings, load

_COLLECT_AFTER = (100_000, 50, 100)
"""Objects until the garbage collector looks for cycles. Events are trees of many small objects without any: the default
of 700 cost 4% of the CPU of a run of 512 features."""


def prepare(*, config: Path | None, profile: str | None, flags: Mapping[str, Any] | None = None, quiet: bool = False) -> Settings:
    """Load the settings, set the logs up, readable on a terminal, JSON otherwise, and the traces where they are asked for.

    `quiet` is for commands that talk to a person themselves: of the logs they show errors only.
    """
    settings = load(config=config, profile=profile, flags=flags).settings
    gc.set_threshold(*_COLLECT_AFTER)
    configure("error" if quiet else settings.log_level, as_json=not sys.stderr.isatty() and not quiet)
    tracing.configure(settings.tracing, __version__)
    return settings
