"""The code of the previous version, out of the repository's own history."""

import shutil
import subprocess
from pathlib import Path

from chaos.wire import ROOT, SCHEMAS

RELEASE = "0.1.0"
"""The contract that it writes, in schemas/history."""
COMMIT = "1b3d36e"
"""The last commit whose services wrote exactly that contract."""


class NoHistory(Exception):
    """The repository does not hold the commit."""


def previous_code(folder: Path) -> Path:
    """Unpack the previous version; returns the folder that Python finds it in. Raises NoHistory."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "--format=tar", COMMIT, "services", "schemas"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise NoHistory(f"{ROOT}: commit {COMMIT} is not there ({archive.stderr.decode().strip()}); `git fetch --unshallow` brings the whole history")
    subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)
    frozen = sorted((SCHEMAS / "history" / RELEASE).glob("*.avsc"))
    assert [(folder / "schemas" / schema.name).read_bytes() for schema in frozen] == [schema.read_bytes() for schema in frozen], f"{COMMIT} is not {RELEASE}"
    return folder / "services"


def give_present_schemas(code: Path) -> None:
    """Let the previous version know this one's schemas, as docs/upgrades.md says: a folder more in its history."""
    present = code.parent / "schemas" / "history" / "present"
    present.mkdir()
    for schema in SCHEMAS.glob("*.avsc"):
        shutil.copy(schema, present)
