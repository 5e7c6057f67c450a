"""Freezes the contract of this version: `make freeze` copies it to schemas/history/<version>, where it is never changed again.

Beside the schemas stand the values that texts of a closed choice had (values.json), which Avro does not say.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import orjson

from mistudio_explain.errors import BadInput
from mistudio_explain.events.avro import schema_of
from mistudio_explain.events.catalogue import EVENTS
from mistudio_explain.events.model import Record

VALUES = "values.json"


def values() -> dict[str, list[str]]:
    """The values of every text of a closed choice, by `Record.field`."""
    found: dict[str, list[str]] = {}
    seen: set[type[Record]] = set()
    waiting = list(EVENTS)
    while waiting:
        record = waiting.pop()
        if record in seen:
            continue
        seen.add(record)
        for name, field in record.model_fields.items():
            for part in _parts(field.annotation):
                if get_origin(part) is Literal:
                    found[f"{record.__name__}.{name}"] = sorted(map(str, get_args(part)))
                elif isinstance(part, type) and issubclass(part, Record):
                    waiting.append(part)
    return dict(sorted(found.items()))


def freeze(schemas: Path, version: str) -> Path:
    """Copy the schemas of a folder to its history, as what `version` writes; returns where they are now.

    Raises BadInput for a version that is no release (X.Y.Z), one that was frozen with another contract, and schemas that are not what
    the models say.
    """
    if re.fullmatch(r"\d+\.\d+\.\d+", version) is None:
        raise BadInput(f"version {version} is no release, which is X.Y.Z; set __version__ to the one that comes out")
    stale = [event.__name__ for event in EVENTS if orjson.loads((schemas / f"{event.__name__}.avsc").read_bytes()) != schema_of(event)]
    if stale:
        raise BadInput(f"{schemas}: {', '.join(stale)} are not what the models say; run `make schemas` first")
    contract = {path.name: path.read_bytes() for path in schemas.glob("*.avsc")}
    contract[VALUES] = orjson.dumps(values(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    frozen = schemas / "history" / version
    if frozen.is_dir():
        if {path.name: path.read_bytes() for path in frozen.iterdir()} != contract:
            raise BadInput(
                f"{frozen}: version {version} was released with another contract than this one; raise __version__ first, what was released never changes"
            )
        return frozen
    making = frozen.with_name(f".{version}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for name, content in contract.items():
        (making / name).write_bytes(content)
    return making.rename(frozen)


def _parts(annotation: Any) -> Iterator[Any]:
    """A type and everything that it is made of, but for the values of a choice."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts(part)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{freeze(Path(sys.argv[1]), sys.argv[2])}\n")
    except BadInput as error:
        sys.exit(str(error))
