"""`config show`: every setting, its value and where it comes from."""

from pathlib import Path

from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.errors import BadSettings
from mistudio_explain.settings import load


def run_config(action: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the settings."""
    if action != "show":
        raise BadSettings(f"config {action}: there is only `config show`")
    values = list(load(config=config, profile=profile).values())
    if as_json:
        print_json(
            [{"name": v.name, "value": str(v.value) if isinstance(v.value, Path) else v.value, "origin": v.origin, "meaning": v.meaning} for v in values]
        )
    else:
        console().print(
            table(
                None,
                ("setting", "value", "origin", "meaning"),
                ((v.name, str(v.value), v.origin, v.meaning) for v in values),
                wrap={"value": 30, "meaning": None},
            )
        )
    return 0
