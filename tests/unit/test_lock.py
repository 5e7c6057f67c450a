"""requirements.lock: complete, hashed, and without addresses."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.lock").read_text()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    wanted = {normal(re.match(r"[A-Za-z0-9._-]+", each).group()) for each in declared}  # type: ignore[union-attr]
    assert wanted <= {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", LOCK, re.MULTILINE)}


def test_every_locked_package_has_a_hash_and_no_address() -> None:
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK
    assert "index-url" not in LOCK
