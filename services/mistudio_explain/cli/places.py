"""Whether a folder that may not exist yet can be written to."""

import tempfile
from pathlib import Path

from mistudio_explain.errors import BadInput


def check_writable(directory: Path) -> None:
    """Raise BadInput when no file can be written into `directory`, or where it would be made; nothing stays behind."""
    place = directory.resolve()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError as error:
        raise BadInput(
            f"{directory}: reports cannot be written there ({place}: {error.strerror}); choose another folder with --out or reports.directory"
        ) from error
