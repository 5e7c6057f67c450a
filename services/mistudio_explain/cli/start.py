"""What every command does first: settings and logs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistudio_explain.observability.logs import configure
from mistudio_explain.settings import Settings, load


def prepare(*, config: Path | None, profile: str | None, flags: Mapping[str, Any] | None = None, quiet: bool = False) -> Settings:
    """Load the settings and set the logs up: readable on a terminal, JSON otherwise.

    `quiet` is for commands that talk to a person themselves: of the logs they show errors only.
    """
    settings = load(config=config, profile=profile, flags=flags).settings
    configure("error" if quiet else settings.log_level, as_json=not sys.stderr.isatty() and not quiet)
    return settings
