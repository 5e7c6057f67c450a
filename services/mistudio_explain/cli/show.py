"""What the terminal shows: errors, tables, JSON; texts of features are made harmless first."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def console(*, stderr: bool = False) -> Console:
    """A console that takes no markup from what it prints."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def plain(text: str) -> str:
    """One line without control characters, terminal escapes or direction overrides: texts of features are hostile input."""
    return " ".join(_CONTROL.sub("\ufffd", text).split())


def error_line(message: str) -> None:
    """Print an error for people."""
    console(stderr=True).print(Text(f"mistudio-explain: {_CONTROL.sub(chr(0xFFFD), message)}", style="red"))


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(orjson.dumps(value, default=str).decode() + "\n")
    sys.stdout.flush()


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: Sequence[str] = ()) -> Table:
    """A table of plain texts; columns named in `wrap` share the width that is left, the others keep on one line."""
    made = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in wrap)
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made
