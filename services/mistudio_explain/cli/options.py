"""What many commands have: options, and how their examples are shown."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: mistudio-explain.toml in the working directory.", show_default=False)
]
Profile = Annotated[str | None, typer.Option("--profile", help="Table [profile.NAME] of the configuration file to lay over it.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Job = Annotated[str, typer.Argument(help="An explain job's id.")]
Who = Annotated[str | None, typer.Option("--who", help="Who orders it; kept with the order.", show_default=False)]
Why = Annotated[str | None, typer.Option("--why", help="Why; kept with the order, and shown where the job is refused.", show_default=False)]


def examples(*invocations: str) -> str:
    """A command's examples as the end of its help, a line each: they can be copied whole."""
    lines = "\n".join(f"  {invocation}" for invocation in invocations)
    return f"\b\nExample{'s' if len(invocations) > 1 else ''}:\n{lines}"
