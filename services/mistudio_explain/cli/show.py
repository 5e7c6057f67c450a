"""What the terminal shows: errors, tables, JSON; texts of features are made harmless first."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mistudio_explain.observability.harmless import harmless, plain

__all__ = ["console", "error_line", "fits", "harmless", "plain", "print_json", "table"]

_WIDTH_OF_A_FILE = 140
_WIDEST = 10_000


def console(*, stderr: bool = False) -> Console:
    """A console that takes no markup from what it prints; what goes to a file or a pipe is not cut to a terminal's width."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not is_terminal, width=None if is_terminal else _WIDTH_OF_A_FILE)


def error_line(message: str) -> None:
    """Print an error for people."""
    console(stderr=True).print(Text(f"mistudio-explain: {harmless(message)}", style="red"))


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")
    sys.stdout.flush()


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: Mapping[str, int | None] | None = None) -> Table:
    """A table of plain texts; columns in `wrap` break their lines, at that width or wherever there is room (None); the others keep on one line."""
    made = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        breaks = column in (wrap or {})
        made.add_column(column, overflow="fold", no_wrap=not breaks, max_width=(wrap or {}).get(column))
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


def fits(out: Console, shown: Table) -> bool:
    """Whether the console has room for a table without breaking its cells."""
    return Measurement.get(out, out.options.update(max_width=_WIDEST), shown).maximum <= out.width
