"""Every locked package has a licence that this project has looked at."""

from importlib.metadata import metadata
from pathlib import Path

import pytest

from shipping.licences import Package, locked, objections, read_rules, stated

ROOT = Path(__file__).parent.parent.parent
RULES = read_rules(ROOT / "deploy" / "licences.toml")
SINGLE = [Package(name, rule["states"], in_image=rule["image"]) for name, rule in RULES["packages"].items()]


def test_the_licence_of_every_locked_package_is_allowed() -> None:
    image = set(locked(ROOT / "deploy" / "image.lock"))
    packages = [Package(name, stated(metadata(name)), name in image) for name in locked(ROOT / "requirements.lock")]
    assert len(packages) > 100
    assert list(objections(packages, RULES)) == []


@pytest.mark.parametrize(
    "states", ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT AND (GPL-2.0-only OR LGPL-3.0-only)", "Proprietary", "see LICENSE", "", "MIT AND"]
)
def test_a_licence_that_is_not_on_the_list_is_refused(states: str) -> None:
    (objection,) = objections([Package("planted", states, in_image=True), *SINGLE], RULES)
    assert "planted" in objection


@pytest.mark.parametrize("states", ["MIT", "MIT OR GPL-3.0-only", "MPL-2.0 AND (Apache-2.0 OR MIT)", "MIT License AND BSD License", "Apache Software License"])
def test_a_licence_on_the_list_is_allowed_however_it_is_spelled(states: str) -> None:
    assert list(objections([Package("planted", states, in_image=True), *SINGLE], RULES)) == []


def test_a_package_that_was_allowed_under_other_words_is_looked_at_again() -> None:
    changed = [Package(each.name, "AGPL-3.0-only" if each.name == "psycopg" else each.states, each.in_image) for each in SINGLE]
    (objection,) = objections(changed, RULES)
    assert "psycopg" in objection
    assert "AGPL-3.0-only" in objection


def test_a_package_for_tests_alone_may_not_get_into_the_image() -> None:
    shipped = [Package(each.name, each.states, in_image=True) for each in SINGLE]
    assert {each.split(":")[0] for each in objections(shipped, RULES)} == {name for name, rule in RULES["packages"].items() if not rule["image"]}


def test_a_rule_about_a_package_that_is_gone_is_refused() -> None:
    assert list(objections(SINGLE[1:], RULES)) == [f"{SINGLE[0].name}: deploy/licences.toml names it, but it is in no lock: remove it there"]
