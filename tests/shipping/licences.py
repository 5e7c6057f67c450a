"""Holds the licences that locked packages state in their metadata to the list in deploy/licences.toml."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageMetadata
from pathlib import Path
from typing import Any

from license_expression import AND, OR, ExpressionError, LicenseExpression, Licensing


@dataclass(frozen=True, slots=True)
class Package:
    """A locked package: what it says of its licence, and whether it is in the image."""

    name: str
    states: str
    in_image: bool


def normal(name: str) -> str:
    """A package's name as PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path) -> list[str]:
    """The names in a lock."""
    return [normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)]


def stated(metadata: PackageMetadata) -> str:
    """What a package says: its SPDX expression, else its classifiers, else the first line of its field License; empty when it says nothing."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [each.rsplit(" :: ", 1)[-1] for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")]
    if named := [each for each in classifiers if each != "OSI Approved"]:
        return " AND ".join(named)
    lines = str(metadata.get("License") or "").splitlines()
    return lines[0].strip() if lines else ""


def objections(packages: Iterable[Package], rules: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each package that the rules do not allow, and for each rule about a package that is not there."""
    single = dict(rules["packages"])
    for package in packages:
        rule = single.pop(package.name, None)
        if rule is None:
            if not _listed(package.states, rules):
                yield f"{package.name}: its licence, {package.states or 'which it does not state'!r}, is not in deploy/licences.toml"
        elif rule["states"] != package.states:
            yield f"{package.name}: deploy/licences.toml says that it states {rule['states']!r}, but it states {package.states!r}"
        elif package.in_image and not rule["image"]:
            yield f"{package.name}: deploy/licences.toml allows it outside of the image alone, but deploy/image.lock names it"
    for name in single:
        yield f"{name}: deploy/licences.toml names it, but it is in no lock: remove it there"


def _listed(states: str, rules: Mapping[str, Any]) -> bool:
    spelled = " AND ".join(rules["spellings"].get(part, part) for part in re.split(r" AND (?![^(]*\))", states))
    try:
        expression = Licensing().parse(spelled)
    except ExpressionError:
        return False
    return expression is not None and _allowed(expression, rules["licences"])


def _allowed(expression: LicenseExpression, licences: Mapping[str, str]) -> bool:
    if isinstance(expression, AND):
        return all(_allowed(each, licences) for each in expression.args)
    if isinstance(expression, OR):
        return any(_allowed(each, licences) for each in expression.args)
    return str(expression) in licences


def read_rules(path: Path) -> Mapping[str, Any]:
    """The list."""
    return tomllib.loads(path.read_text())
