"""Whether a folder that may not exist yet can be written to."""

import os
from pathlib import Path

from mistudio_explain.errors import BadInput


def check_writable(directory: Path) -> None:
    """Raise BadInput when files cannot be written into `directory`, or it cannot be made; nothing is made here."""
    place = directory.resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise BadInput(
            f"{directory}: reports cannot be written there ({place} is not a folder that may be written to); choose another with --out or reports.directory"
        )
